//! Trees that every rule passes: what a recipe's image looks like after its cleaning up, in small.

use nodekiln_disk::gpt;
use nodekiln_recipes::recipe::Version;
use uuid::Uuid;

use crate::at_rest::Examined;
use crate::at_rest::corpus::sound_hygiene;
use crate::ds_identify::Edition;
use crate::expect::Expectations;
use crate::inspect::Partition;
use crate::machine::Machine;
use crate::provisioning::{Part, Way};
use crate::rules::{Facts, Family, Software};
use crate::tree::Tree;

/// The Kubernetes of a sound tree.
const KUBERNETES: Version = Version { major: 1, minor: 20, patch: 2 };

/// A sound image of packages of `family`, for a plain virtio machine.
pub(crate) fn sound(family: Family) -> Examined<'static> {
    let mut tree = Tree::default();
    base(&mut tree);
    sound_hygiene::add(&mut tree, family);
    match family {
        Family::Debian => debian(&mut tree),
        Family::Rpm => rpm(&mut tree),
    }
    super::sound_node::node(&mut tree, family);
    let machine = Machine::default();
    let software = [
        Software::Kubernetes,
        Software::Containerd,
        Software::CloudInit,
        Software::SshServer,
        Software::Systemd,
    ];
    let part = Part::of(&machine.profile, Way::Usual).ok();
    let mut examined = Examined {
        tree,
        facts: Facts {
            family: Some(family),
            kubernetes: Some(KUBERNETES),
            cloud: part.map(|part| part.cloud),
            software: Some(software.into()),
        },
        expect: Expectations { kubernetes: Some(KUBERNETES), ..Expectations::default() },
        claimed: true,
        machine,
        part,
        partitions: partitions(),
        edition: Ok(Edition::V22_4),
    };
    super::sound_runtime::add(&mut examined, family);
    examined
}

/// The partitions of a disk that either firmware starts.
fn partitions() -> Vec<Partition> {
    let part = |number, kind: Uuid, content: Option<&str>| Partition {
        number,
        kind: kind.to_string(),
        content: content.map(str::to_owned),
        ..Partition::default()
    };
    vec![
        part(1, gpt::TYPE_BIOS_BOOT, None),
        part(2, gpt::TYPE_ESP, Some("vfat")),
        part(3, gpt::TYPE_ROOT_X86_64, Some("ext4")),
    ]
}

/// What every distribution has.
fn base(tree: &mut Tree) {
    for folder in ["/boot", "/dev", "/proc", "/run", "/sys", "/home", "/var/log"] {
        tree.folder(folder, 0o755);
    }
    tree.folder("/root", 0o700);
    tree.folder("/tmp", 0o1777);
    tree.folder("/var/tmp", 0o1777);
    for link in ["bin", "sbin", "lib"] {
        tree.link(&format!("/{link}"), &format!("usr/{link}"));
        tree.folder(&format!("/usr/{link}"), 0o755);
    }
}

fn debian(tree: &mut Tree) {
    tree.write("/usr/lib/os-release", 0o644, "ID=debian\nVERSION_ID=\"12\"\n");
    tree.link("/etc/os-release", "../usr/lib/os-release");
}

fn rpm(tree: &mut Tree) {
    tree.write("/usr/lib/os-release", 0o644, "ID=\"rocky\"\nID_LIKE=\"rhel fedora\"\n");
    tree.link("/etc/os-release", "../usr/lib/os-release");
}
