//! `nodekiln provider`: the providers in the tree, and plugins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_plugins::check::{Outcome, Point, Report, check};
use nodekiln_plugins::{Executable, Limits, PluginProvider, find, list as plugins};
use nodekiln_providers::{Fields, FileName, MachineProfile, Plugin, Provider, Smbios, UuidRule};
use nodekiln_recipes::provider::DiskRules;
use nodekiln_words::{Bytes, Cancel, Failure, Result};
use serde::Serialize;

use crate::Context;
use crate::arguments::provider::{Provider as Verb, ProviderVerb};
use crate::emit::stopped;
use crate::exit::{print, print_json};
use crate::progress::renderer;
use crate::registry;

/// Lists providers, shows what one is, or checks a plugin.
pub(crate) fn provider(verb: &Verb, context: &Context) -> Result<ExitCode> {
    match &verb.verb {
        ProviderVerb::List { json } => list(*json, &context.cancel)?,
        ProviderVerb::Show { name, json } => show(name, *json, context)?,
        ProviderVerb::Check { plugin, json } => return check_plugin(plugin, *json, context),
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of the list.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    name: String,
    description: String,
    data_source: String,
    /// Path of a plugin's executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Which plugin it is, where it told.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<Plugin>,
    /// Why a plugin cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Row {
    fn of(provider: &dyn Provider, path: Option<PathBuf>) -> Self {
        Self {
            name: provider.name().to_owned(),
            description: provider.description().to_owned(),
            data_source: provider.machine().data_source,
            path,
            plugin: provider.plugin(),
            problem: None,
        }
    }

    /// A plugin that cannot be used.
    fn unusable(name: String, path: PathBuf, problem: String) -> Self {
        Self {
            name,
            description: String::new(),
            data_source: String::new(),
            path: Some(path),
            plugin: None,
            problem: Some(problem),
        }
    }

    fn text(&self) -> String {
        let Self { name, description, path, plugin, problem, .. } = self;
        let place = |path: &PathBuf| path.display().to_string();
        let what = match (path, plugin, problem) {
            (Some(path), _, Some(problem)) => format!("unusable plugin {}: {problem}", place(path)),
            (Some(path), Some(plugin), None) => {
                format!("{description} (plugin {} {})", place(path), plugin.version)
            }
            _ => description.clone(),
        };
        format!("{name:<10} {what}\n")
    }
}

fn list(json: bool, cancel: &Cancel) -> Result<()> {
    let in_tree = registry::in_tree();
    let found = plugins(&registry::search_path());
    // One that hangs keeps nobody else waiting.
    let asked: Vec<Row> = std::thread::scope(|scope| {
        let ask = |(name, path): (String, PathBuf)| {
            let own = in_tree.iter().any(|provider| provider.name() == name);
            scope.spawn(move || Ok(if own { hidden(name, path) } else { ask(name, path, cancel) }))
        };
        let threads: Vec<_> = found.into_iter().map(ask).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(stopped))
            .collect::<Result<_>>()
    })?;
    cancel.check()?;
    let mut rows: Vec<Row> = in_tree.iter().map(|provider| Row::of(&**provider, None)).collect();
    rows.extend(asked);
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    if json {
        return print_json(&rows);
    }
    rows.iter().try_for_each(|row| print(&row.text()))
}

/// A plugin behind a provider of nodekiln's own.
fn hidden(name: String, path: PathBuf) -> Row {
    let problem = "nodekiln's own provider of this name is used".to_owned();
    Row::unusable(name, path, problem)
}

fn ask(name: String, path: PathBuf, cancel: &Cancel) -> Row {
    let loaded = Executable::at(&path)
        .and_then(|executable| PluginProvider::load(executable, Limits::default(), cancel));
    match loaded {
        Ok(plugin) => Row::of(&plugin, Some(path)),
        Err(failure) => Row::unusable(name, path, failure.to_string()),
    }
}

/// What a provider is, as JSON.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    description: &'a str,
    /// Its artifact for an image called `NAME`.
    files: Vec<FileName>,
    machine: MachineProfile,
    /// YAML.
    layer: &'a str,
    /// Which program it is, if it is not part of nodekiln.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<Plugin>,
}

fn show(name: &str, json: bool, context: &Context) -> Result<()> {
    let progress = renderer(context.global.progress);
    let provider = registry::by_name(name, &*progress, &context.cancel)?;
    let told = Told {
        name: provider.name(),
        description: provider.description(),
        files: provider.files("NAME"),
        machine: provider.machine(),
        layer: provider.layer(),
        plugin: provider.plugin(),
    };
    if json { print_json(&told) } else { print(&text(&told)) }
}

fn text(told: &Told<'_>) -> String {
    let Told { name, description, files, machine, layer, plugin } = told;
    let mut text = format!("{name}: {description}\n");
    let mut line = |key: &str, value: &str| text.push_str(&format!("  {key:<12} {value}\n"));
    if let Some(Plugin { version, sha256 }) = plugin {
        line("plugin", &format!("version {version}, sha256 {sha256}"));
    }
    for FileName { file, format } in files {
        line("artifact", &format!("{file} ({format})"));
    }
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

/// Holds a plugin against the protocol.
fn check_plugin(plugin: &str, json: bool, context: &Context) -> Result<ExitCode> {
    let path = if is_path(plugin) {
        PathBuf::from(plugin)
    } else {
        find(plugin, &registry::search_path()).ok_or_else(|| no_plugin(plugin))?
    };
    let executable = Executable::at(Path::new(&path))?; // 1. which one
    let mut printed = Ok(());
    let mut told = |point: &Point| {
        if !json && printed.is_ok() {
            printed = print(&point_text(point));
        }
    };
    let report = check(&executable, Limits::default(), &context.cancel, &mut told)?; // 2. the points
    printed?;
    if json {
        print_json(&report)?;
    } else {
        print(&summary(&report))?; // 3. the sum
    }
    let kept = report.count(Outcome::Passed) == report.points.len();
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Whether `text` is a path and not a name of a provider, as cargo and the shell tell them apart.
fn is_path(text: &str) -> bool {
    Path::new(text).components().count() > 1 || text.starts_with('.')
}

fn no_plugin(name: &str) -> Failure {
    Failure::input(format!("there is no plugin `nodekiln-provider-{name}` on PATH")).with_help(
        "give its path, as in ./nodekiln-provider-NAME; `nodekiln provider list` lists plugins",
    )
}

fn point_text(point: &Point) -> String {
    let word = match point.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "skipped",
    };
    let mut text = format!("{word:<8} {:<17} {}\n", point.point, point.must);
    for line in point.detail.lines() {
        text.push_str(&format!("{:9}{line}\n", ""));
    }
    text
}

fn summary(report: &Report) -> String {
    let Report { name, version, sha256, .. } = report;
    let version = version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let [passed, failed, skipped] =
        [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|outcome| report.count(outcome));
    format!(
        "{name}{version}, sha256 {}: {passed} passed, {failed} failed, {skipped} skipped\n",
        sha256.short()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_a_name() {
        for path in ["./nodekiln-provider-x", "bin/nodekiln-provider-x", "/x", "..", ".x"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["x", "my-cloud", "nodekiln-provider-x", ""] {
            assert!(!is_path(name), "{name}");
        }
    }
}
