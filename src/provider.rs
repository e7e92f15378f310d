//! `nodekiln provider`: the providers in the tree.

use std::process::ExitCode;

use nodekiln_providers::{Fields, MachineProfile, Smbios, UuidRule};
use nodekiln_recipes::provider::DiskRules;
use nodekiln_words::{Bytes, Result};
use serde::Serialize;

use crate::arguments::{Provider, ProviderVerb};
use crate::exit::{print, print_json};
use crate::registry;

/// Lists providers, or shows what one is.
pub(crate) fn provider(verb: &Provider) -> Result<ExitCode> {
    match &verb.verb {
        ProviderVerb::List { json } => list(*json)?,
        ProviderVerb::Show { name, json } => show(name, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of the list.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    name: &'static str,
    description: &'static str,
    data_source: String,
}

fn list(json: bool) -> Result<()> {
    let row = |provider: &&dyn nodekiln_providers::Provider| Row {
        name: provider.name(),
        description: provider.description(),
        data_source: provider.machine().data_source,
    };
    let rows: Vec<Row> = registry::all().iter().map(row).collect();
    if json {
        return print_json(&rows);
    }
    rows.iter().try_for_each(|row| print(&format!("{:<10} {}\n", row.name, row.description)))
}

/// What a provider is, as JSON.
#[derive(Serialize)]
struct Told {
    name: &'static str,
    description: &'static str,
    /// Name of its artifact for an image called `NAME`.
    file: String,
    machine: MachineProfile,
    /// YAML.
    layer: &'static str,
}

fn show(name: &str, json: bool) -> Result<()> {
    let provider = registry::by_name(name)?;
    let told = Told {
        name: provider.name(),
        description: provider.description(),
        file: provider.file_name("NAME"),
        machine: provider.machine(),
        layer: provider.layer(),
    };
    if json { print_json(&told) } else { print(&text(&told)) }
}

fn text(told: &Told) -> String {
    let Told { name, description, file, machine, layer } = told;
    let mut text = format!("{name}: {description}\n");
    let mut line = |key: &str, value: &str| text.push_str(&format!("  {key:<12} {value}\n"));
    line("artifact", file);
    line("takes", &takes(&machine.accepts));
    let firmware: Vec<&str> = machine.firmware.iter().map(|firmware| firmware.as_str()).collect();
    line("firmware", &firmware.join(", "));
    line("boot disk", &boot_disk(machine));
    line("network", machine.network.as_str());
    line("drivers", &drivers(machine));
    line("console", &machine.console);
    line("data source", &machine.data_source);
    for (key, value) in smbios(&machine.smbios) {
        line(&key, &value);
    }
    text.push_str("  layer\n");
    for line in layer.lines() {
        text.push_str(format!("    {line}").trim_end());
        text.push('\n');
    }
    text
}

fn takes(rules: &DiskRules) -> String {
    let DiskRules { multiple, largest, boot } = rules;
    let unit = match multiple.get() {
        Bytes::GIB => "whole GiB".to_owned(),
        Bytes::MIB => "whole MiB".to_owned(),
        _ => format!("multiples of {multiple}"),
    };
    let most = largest.map(|largest| format!(" up to {largest}")).unwrap_or_default();
    let boot: Vec<&str> = boot.iter().map(|boot| boot.as_str()).collect();
    format!("{unit}{most}; boot: {}", boot.join(", "))
}

fn boot_disk(machine: &MachineProfile) -> String {
    let others = [(machine.bios_disk, "a BIOS"), (machine.uefi_disk, "UEFI")];
    let others = others.into_iter().filter_map(|(bus, firmware)| {
        let bus = bus.filter(|bus| *bus != machine.disk)?;
        Some(format!(", {} under {firmware}", bus.as_str()))
    });
    let others: String = others.collect();
    let serial = match machine.disk_serial.as_str() {
        "" => String::new(),
        serial => format!(", serial number {serial}"),
    };
    format!("{}{others}{serial}", machine.disk.as_str())
}

/// The drivers that an image is asked for on account of the cloud's own devices.
fn drivers(machine: &MachineProfile) -> String {
    let names: Vec<&str> =
        machine.boot_drivers.iter().chain(&machine.network_drivers).map(String::as_str).collect();
    if names.is_empty() { "those of the machine".to_owned() } else { names.join(", ") }
}

/// What the firmware says of the machine: a line for each type that says something.
fn smbios(smbios: &Smbios) -> Vec<(String, String)> {
    let uuid = match &smbios.uuid {
        UuidRule::Unset => None,
        UuidRule::Derived => Some("derived".to_owned()),
        UuidRule::BeginsWith(digits) => Some(format!("derived, begins with {digits}")),
    };
    let uuid = uuid.map(|uuid| ("UUID".to_owned(), uuid));
    let told = |(kind, fields): (u8, Fields)| {
        let fields: Vec<_> =
            fields.iter().map(|(name, text)| format!("{name} \"{text}\"")).collect();
        (!fields.is_empty()).then(|| (format!("SMBIOS {kind}"), fields.join(", ")))
    };
    uuid.into_iter().chain(smbios.as_written().into_iter().filter_map(told)).collect()
}
