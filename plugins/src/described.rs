//! From what a plugin says of itself to nodekiln's own words, or to what is wrong with it.

use nodekiln_disk::tar_gz;
use nodekiln_plugin_protocol as said;
use nodekiln_providers::{
    Bios, Board, BootMode, Chassis, DiskBus, DiskRules, Firmware, MachineProfile, NetworkCard,
    Smbios, System, UuidRule,
};
use nodekiln_words::Bytes;

use crate::process::printable;

/// Stands for the image's name in the names of files.
pub(crate) const IMAGE: &str = "{name}";
/// The smallest disk that a recipe may have.
pub(crate) const SMALLEST: Bytes = Bytes(64 * Bytes::MIB);
/// Longest ending of a file's name behind the image's.
const LONGEST_ENDING: usize = 100;
/// Variables that say how a program runs rather than what it is told; nodekiln sets some of them itself.
const OWN_VARIABLES: [&str; 6] = ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "SOURCE_DATE_EPOCH"];

/// What is wrong with a description of the provider `name`, in fragments that may be shown on a terminal; nothing
/// where all is well.
pub(crate) fn problems(name: &str, description: &said::Description) -> Vec<String> {
    let mut problems = text_problems(name, description);
    problems.extend(disk_problems(description));
    problems.extend(file_problems(&description.artifacts));
    for name in &description.environment {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || OWN_VARIABLES.contains(&name.as_str()) {
            problems.push(format!("`environment` names `{name}`, which cannot be asked for"));
        }
    }
    problems.iter().map(|problem| printable(problem)).collect()
}

/// What is wrong with its texts.
fn text_problems(name: &str, description: &said::Description) -> Vec<String> {
    let mut problems = Vec::new();
    if description.name != name {
        problems.push(format!("`name` is `{}`, not `{name}`", description.name));
    }
    let machine = &description.machine;
    for (key, text) in [
        ("version", &description.version),
        ("description", &description.description),
        ("machine.data-source", &machine.data_source),
        ("machine.console", &machine.console),
    ] {
        if text.trim().is_empty() || text.contains(char::is_control) {
            problems.push(format!("`{key}` is not one line of text"));
        }
    }
    // All of this may be shown on a terminal.
    let smbios = smbios(&machine.smbios).as_written().into_iter().flat_map(|(_, fields)| fields);
    let shown = smbios.map(|(_, text)| text).chain([machine.disk_serial.clone()]);
    if shown
        .chain(description.registration.keys().cloned())
        .any(|text| text.contains(char::is_control))
    {
        problems.push(
            "a text of `machine` or a key of `registration` has control characters".to_owned(),
        );
    }
    if description.layer.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        problems.push("`layer` has control characters".to_owned());
    }
    if let said::Uuid::BeginsWith(digits) = &machine.smbios.uuid
        && (digits.is_empty() || digits.len() > 8 || !digits.chars().all(|c| c.is_ascii_hexdigit()))
    {
        problems.push("`machine.smbios.uuid` begins with no hexadecimal digits".to_owned());
    }
    for module in machine.boot_drivers.iter().chain(&machine.network_drivers) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if module.is_empty() || !module.chars().all(plain) {
            problems.push(format!("a driver of `machine` is `{module}`, which names no module"));
        }
    }
    problems
}

/// Whether there are disks that the provider takes, that nodekiln can hand over in its format, and that its machine
/// starts: all that a build would find out only when the disk is made.
fn disk_problems(description: &said::Description) -> Vec<String> {
    let said::Description { machine, input, .. } = description;
    let said::Accepts { multiple, boot: boots, .. } = &machine.accepts;
    let mut problems = Vec::new();
    if machine.firmware.is_empty() {
        problems.push("`machine.firmware` is empty".to_owned());
    }
    if boots.is_empty() {
        problems.push("`machine.accepts.boot` is empty".to_owned());
    }
    for boot in boots {
        let alone = self::machine(machine).starting(self::boot(*boot));
        if alone.firmware.is_empty() && !machine.firmware.is_empty() {
            let boot = self::boot(*boot).as_str();
            problems.push(format!(
                "`machine.accepts.boot` has `{boot}`, which nothing in `machine.firmware` starts"
            ));
        }
    }
    let (whole, why) = match input {
        said::Format::TarGz => (tar_gz::ALIGNMENT, ", which the input `tar.gz` asks for"),
        _ => (Bytes::MIB, ""),
    };
    if *multiple == 0 || !multiple.is_multiple_of(whole) {
        let whole = Bytes(whole);
        problems.push(format!(
            "`machine.accepts.multiple` is {multiple}, not a multiple of {whole}{why}"
        ));
    } else if rules(&machine.accepts).fitting(SMALLEST).is_none() {
        problems.push(format!("`machine.accepts` takes no disk of {SMALLEST} or more"));
    }
    problems
}

fn file_problems(artifacts: &[said::ArtifactName]) -> Vec<String> {
    let mut problems = Vec::new();
    if artifacts.is_empty() {
        problems.push("`artifacts` is empty".to_owned());
    }
    for (at, said::ArtifactName { file, format }) in artifacts.iter().enumerate() {
        if format.is_empty() || !format.chars().all(|c| c.is_ascii_graphic()) {
            problems.push(format!("`artifacts` has `{file}` in a format without a name"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let ending = file.strip_prefix(IMAGE).and_then(|rest| rest.strip_prefix('.'));
        let good = |ending: &str| {
            !ending.is_empty() && ending.len() <= LONGEST_ENDING && ending.chars().all(plain)
        };
        if !ending.is_some_and(good) {
            problems.push(format!(
                "`artifacts` has the file `{file}`, which is not `{IMAGE}.` and letters, digits, `.`, `-` or `_`"
            ));
        }
        if artifacts.iter().take(at).any(|other| other.file == *file) {
            problems.push(format!("`artifacts` has the file `{file}` twice"));
        }
    }
    problems
}

/// The machine in nodekiln's words.
pub(crate) fn machine(machine: &said::Machine) -> MachineProfile {
    let firmware = |firmware: &said::Firmware| match firmware {
        said::Firmware::Bios => Firmware::Bios,
        said::Firmware::Uefi => Firmware::Uefi,
    };
    MachineProfile {
        firmware: machine.firmware.iter().map(firmware).collect(),
        disk: bus(machine.disk),
        bios_disk: machine.bios_disk.map(bus),
        uefi_disk: machine.uefi_disk.map(bus),
        boot_drivers: machine.boot_drivers.clone(),
        network_drivers: machine.network_drivers.clone(),
        disk_serial: machine.disk_serial.clone(),
        network: match machine.network {
            said::Network::VirtioNet => NetworkCard::VirtioNet,
            said::Network::E1000e => NetworkCard::E1000e,
            said::Network::Vmxnet3 => NetworkCard::Vmxnet3,
        },
        smbios: smbios(&machine.smbios),
        data_source: machine.data_source.clone(),
        console: machine.console.clone(),
        accepts: rules(&machine.accepts),
    }
}

fn rules(accepts: &said::Accepts) -> DiskRules {
    DiskRules {
        multiple: Bytes(accepts.multiple),
        largest: accepts.largest.map(Bytes),
        boot: accepts.boot.iter().copied().map(boot).collect(),
    }
}

fn bus(bus: said::Disk) -> DiskBus {
    match bus {
        said::Disk::VirtioBlk => DiskBus::VirtioBlk,
        said::Disk::VirtioScsi => DiskBus::VirtioScsi,
        said::Disk::Nvme => DiskBus::Nvme,
        said::Disk::Pvscsi => DiskBus::Pvscsi,
        said::Disk::Ide => DiskBus::Ide,
        said::Disk::Ahci => DiskBus::Ahci,
    }
}

fn boot(boot: said::Boot) -> BootMode {
    match boot {
        said::Boot::Hybrid => BootMode::Hybrid,
        said::Boot::Bios => BootMode::Bios,
        said::Boot::Uefi => BootMode::Uefi,
    }
}

/// How a disk boots in the protocol's words.
pub(crate) fn boot_said(boot: BootMode) -> said::Boot {
    match boot {
        BootMode::Hybrid => said::Boot::Hybrid,
        BootMode::Bios => said::Boot::Bios,
        BootMode::Uefi => said::Boot::Uefi,
    }
}

fn smbios(said: &said::Smbios) -> Smbios {
    let said::Smbios { uuid, bios, system, board, chassis } = said.clone();
    Smbios {
        uuid: match uuid {
            said::Uuid::Unset => UuidRule::Unset,
            said::Uuid::Derived => UuidRule::Derived,
            said::Uuid::BeginsWith(digits) => UuidRule::BeginsWith(digits.to_lowercase()),
        },
        bios: Bios { vendor: bios.vendor },
        system: System {
            manufacturer: system.manufacturer,
            product: system.product,
            version: system.version,
            serial: system.serial,
        },
        board: Board {
            manufacturer: board.manufacturer,
            product: board.product,
            serial: board.serial,
            asset: board.asset,
        },
        chassis: Chassis {
            manufacturer: chassis.manufacturer,
            serial: chassis.serial,
            asset: chassis.asset,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> said::Description {
        serde_json::from_str(
            r#"{"name":"x","version":"1","description":"a test",
            "machine":{"firmware":["uefi","bios"],"disk":"pvscsi","bios-disk":"ide","uefi-disk":"nvme","disk-serial":"vol",
              "boot-drivers":["a"],"network-drivers":["b"],
              "network":"vmxnet3","data-source":"NoCloud","console":"ttyS0",
              "smbios":{"uuid":{"begins-with":"EC2"},"system":{"product":"P"},"chassis":{"asset":"A"}},
              "accepts":{"multiple":1073741824,"largest":8589934592,"boot":["uefi","hybrid"]}},
            "input":"raw","artifacts":[{"file":"{name}.x","format":"x"}],"environment":["TOOL_HOME"]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_machine_is_the_same_in_both_words() {
        assert_eq!(problems("x", &good()), [""; 0]);
        let machine = machine(&good().machine);
        let mut both = [
            serde_json::to_value(&machine).unwrap(),
            serde_json::to_value(&good().machine).unwrap(),
        ];
        for machine in &mut both {
            // What is left out of the one is empty in the other; UUIDs have lower-case digits.
            let smbios = machine["smbios"].take();
            assert_eq!(smbios["system"]["product"], "P");
            assert_eq!(smbios["chassis"]["asset"], "A");
        }
        assert_eq!(both[0], both[1]);
        assert_eq!(machine.smbios.uuid, UuidRule::BeginsWith("ec2".to_owned()));
    }

    #[test]
    fn each_flaw_is_named() {
        type Flaw = fn(&mut said::Description);
        let flaws: [(&str, Flaw); 26] = [
            ("`name` is `y`, not `x`", |d| d.name = "y".to_owned()),
            ("`version` is not one line", |d| d.version = " ".to_owned()),
            ("`description` is not one line", |d| d.description = "a\nb".to_owned()),
            ("`machine.firmware` is empty", |d| d.machine.firmware.clear()),
            ("`machine.accepts.boot` is empty", |d| d.machine.accepts.boot.clear()),
            ("not a multiple of 1 MiB", |d| d.machine.accepts.multiple = 0),
            ("not a multiple of 1 MiB", |d| d.machine.accepts.multiple = 1000),
            ("takes no disk of 64 MiB or more", |d| d.machine.accepts.largest = Some(1 << 20)),
            ("a multiple of 1 GiB, which the input `tar.gz` asks for", |d| {
                d.input = said::Format::TarGz;
                d.machine.accepts.multiple = 1 << 20;
            }),
            ("a multiple of 1 GiB, which the input `tar.gz` asks for", |d| {
                d.input = said::Format::TarGz;
                d.machine.accepts.multiple = 3 << 29;
            }),
            ("takes no disk of 64 MiB or more", |d| {
                d.input = said::Format::TarGz;
                d.machine.accepts.largest = Some(1 << 29);
            }),
            ("`machine.accepts.boot` has `uefi`, which nothing", |d| {
                d.machine.firmware = vec![said::Firmware::Bios];
            }),
            ("`machine.accepts.boot` has `bios`, which nothing", |d| {
                d.machine.firmware = vec![said::Firmware::Uefi];
                d.machine.accepts.boot.push(said::Boot::Bios);
            }),
            ("a driver of `machine` is ``", |d| d.machine.boot_drivers.push(String::new())),
            ("a driver of `machine` is `\u{fffd}[1m`", |d| {
                d.machine.network_drivers.push("\u{1b}[1m".to_owned());
            }),
            ("no hexadecimal digits", |d| {
                d.machine.smbios.uuid = said::Uuid::BeginsWith("xyz".to_owned());
            }),
            ("`machine.data-source` is not one line", |d| d.machine.data_source.clear()),
            ("has control characters", |d| d.machine.smbios.chassis.asset = "\u{1b}[1m".to_owned()),
            ("has control characters", |d| {
                d.registration.insert("\u{7}".to_owned(), String::new());
            }),
            ("`layer` has control characters", |d| d.layer = "# \u{1b}[1m\n".to_owned()),
            ("in a format without a name", |d| d.artifacts[0].format = "a b".to_owned()),
            ("`artifacts` is empty", |d| d.artifacts.clear()),
            ("the file `../x`", |d| d.artifacts[0].file = "../x".to_owned()),
            ("the file `{name}./x`", |d| d.artifacts[0].file = "{name}./x".to_owned()),
            ("`{name}.x` twice", |d| d.artifacts.push(d.artifacts[0].clone())),
            ("`environment` names `PATH`", |d| d.environment.push("PATH".to_owned())),
        ];
        for (text, flaw) in flaws {
            let mut description = good();
            flaw(&mut description);
            let problems = problems("x", &description);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(text), "{text}: {problems:?}");
        }
    }

    /// A plugin's words are repeated where they are wrong, and then may be anything.
    #[test]
    fn what_is_told_of_a_flaw_is_nothing_that_a_terminal_obeys() {
        type Flaw = fn(&mut said::Description, String);
        let flaws: [Flaw; 7] = [
            |d, text| d.name = text,
            |d, text| d.artifacts[0].file = text,
            |d, text| {
                d.artifacts[0].file = format!("{{name}}.{text}");
                d.artifacts[0].format = text;
            },
            |d, text| d.environment.push(text),
            |d, text| d.machine.boot_drivers.push(text),
            |d, text| d.machine.network_drivers.push(text),
            |d, text| d.machine.smbios.uuid = said::Uuid::BeginsWith(text),
        ];
        for (at, flaw) in flaws.into_iter().enumerate() {
            let mut description = good();
            flaw(&mut description, "\u{1b}[2J".to_owned());
            let problems = problems("x", &description);
            assert!(!problems.is_empty(), "{at}");
            assert!(!problems.concat().contains(char::is_control), "{at}: {problems:?}");
        }
    }
}
