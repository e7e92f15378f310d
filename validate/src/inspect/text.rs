//! An inspection for people to read.

use std::fmt::Write as _;

use nodekiln_words::Bytes;

use super::{Inspection, Package, System};
use crate::printable::printable;

/// The inspection as text, one thing a line.
#[must_use]
pub fn text(found: &Inspection) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            writeln!(out, "{key:<13} {}", printable(value)).ok();
        }
    };
    line("format", &found.format);
    line("file", &Bytes(found.file_size).to_string());
    line("sha256", &found.sha256.map(|digest| digest.to_string()).unwrap_or_default());
    let disk = format!("{}, {} of it stored", Bytes(found.disk_size), Bytes(found.stored));
    line("disk", &disk);
    line("payload", &found.payload.map(|digest| digest.to_string()).unwrap_or_default());
    let table = match &found.disk_guid {
        Some(guid) => format!("{} {guid}", found.table),
        None => found.table.to_owned(),
    };
    line("table", &table);
    for part in &found.partitions {
        let label = part.label.as_ref().map(|label| format!("`{label}`"));
        let words = [
            Some(Bytes(part.length).to_string()),
            Some(part.kind_name.unwrap_or(&part.kind).to_owned()),
            part.content.clone(),
            label,
            part.id.clone(),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        line(&format!("partition {}", part.number), &words.join(", "));
    }
    line("boot", &boot(found));
    if let Some(system) = &found.system {
        system_lines(system, &mut line);
    }
    if let Some(package) = &found.package {
        line("package", &package_line(package));
    }
    for problem in &found.problems {
        line("problem", problem);
    }
    out
}

fn boot(found: &Inspection) -> String {
    let boot = &found.boot;
    let secure = if boot.shim { "UEFI (shim)" } else { "UEFI" };
    let modes = [boot.bios.then_some("BIOS"), boot.uefi.then_some(secure)];
    let modes: Vec<_> = modes.into_iter().flatten().collect();
    match (modes.is_empty(), boot.loader) {
        (true, _) => "nothing that starts".to_owned(),
        (false, Some(loader)) => format!("{} with {loader}", modes.join(" and ")),
        (false, None) => modes.join(" and "),
    }
}

fn system_lines(system: &System, line: &mut impl FnMut(&str, &str)) {
    line("system", &system.name);
    line("kernels", &system.kernels.join(", "));
    line("kubernetes", system.kubernetes.as_deref().unwrap_or_default());
    line("programs", &system.programs.join(", "));
    let versions = system.packages.iter().map(|(name, version)| format!("{name} {version}"));
    let mut packages: Vec<_> = versions.collect();
    packages.extend(system.package_count.map(|count| format!("{count} packages in all")));
    line("packages", &packages.join(", "));
    line("data sources", &system.data_sources.join(", "));
    line("machine-id", system.machine_id);
}

fn package_line(package: &Package) -> String {
    let words = [
        Some(package.descriptor.clone()),
        Some(package.disk.clone()),
        package.hardware.clone(),
        package.firmware.clone(),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
