//! VMware's guest tables, guest customisation, and the OVF environment.

use nodekiln_words::Result;

use super::azure_chassis;
use crate::ds_identify::image::has_program;
use crate::ds_identify::machine::GuestInfo;
use crate::ds_identify::scene::{Scene, Seen};
use crate::ds_identify::{Edition, config};

/// `dscheck_VMware`.
pub(super) fn vmware(scene: &Scene<'_>) -> Result<Seen> {
    let environment = scene.machine.environment_guest_info.as_ref();
    if let Some(name) = environment.and_then(|info| told(info, |text| !text.is_empty())) {
        return Ok(Seen::found(format!("the environment has VMX_GUESTINFO_{name}")));
    }
    if !is_vmware(scene) {
        return Ok(Seen::absent("the hypervisor is not VMware's"));
    }
    if !has_tools(scene)? {
        return Ok(Seen::absent("the image has none of VMware's tools to ask with"));
    }
    let tables = scene.machine.guest_info.as_ref();
    if let Some(name) = tables.and_then(|info| told(info, has_words)) {
        return Ok(Seen::found(format!("the guest's tables have {name}")));
    }
    match scene.edition {
        Edition::V22_4 => Ok(Seen::absent("the guest's tables are empty")),
        Edition::V25_1 | Edition::V26_2 => Ok(Seen::by(customisation(scene)?)),
    }
}

fn is_vmware(scene: &Scene<'_>) -> bool {
    scene.machine.virtualisation == "vmware"
}

/// What one of VMware's tools says counts where it has a letter or a digit.
fn has_words(text: &str) -> bool {
    text.contains(|letter: char| letter.is_ascii_alphanumeric())
}

/// The name of the first entry that counts.
fn told(info: &GuestInfo, counts: fn(&str) -> bool) -> Option<&'static str> {
    let entries = [
        ("METADATA", &info.metadata),
        ("USERDATA", &info.user_data),
        ("VENDORDATA", &info.vendor_data),
    ];
    let found = entries.into_iter().find(|(_, text)| text.as_deref().is_some_and(counts));
    found.map(|(name, _)| name)
}

/// `vmware_has_rpctool`, and in later editions `vmware_has_vmtoolsd`: whether the image can ask the hypervisor.
fn has_tools(scene: &Scene<'_>) -> Result<bool> {
    let image = scene.image;
    Ok(has_program(image, RPC)?
        || (scene.edition > Edition::V22_4 && has_program(image, "vmtoolsd")?))
}

/// The smaller one of VMware's two tools.
const RPC: &str = "vmware-rpctool";

/// `vmware_guest_customization`: the plugin for it is there, and the configuration does not disable it.
fn customisation(scene: &Scene<'_>) -> Result<Option<String>> {
    const PLUGIN: &str = "plugins/vmsvc/libdeployPkgPlugin.so";
    if !is_vmware(scene) {
        return Ok(None);
    }
    let mut places = vec!["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];
    places.push("/usr/lib/aarch64-linux-gnu");
    if scene.edition > Edition::V22_4 {
        places.push("/usr/lib/i386-linux-gnu");
    }
    let mut plugin = None;
    for place in places {
        for package in ["vmware-tools", "open-vm-tools"] {
            let path = format!("{place}/{package}/{PLUGIN}");
            if plugin.is_none() && scene.image.is_file(&path)? {
                plugin = Some(path);
            }
        }
    }
    let Some(plugin) = plugin else { return Ok(None) };
    let told = config::check(scene.edition, scene.image, "disable_vmware_customization")?;
    let told = match scene.edition {
        Edition::V22_4 => told,
        Edition::V25_1 | Edition::V26_2 => {
            told.and_then(|told| config::value(scene.edition, &told))
        }
    };
    let enabled = matches!(told.as_deref(), Some("0" | "false" | "False"));
    Ok(enabled.then(|| format!("guest customisation is configured, and {plugin} is there")))
}

/// `dscheck_OVF`.
pub(super) fn ovf(scene: &Scene<'_>) -> Result<Seen> {
    if let Some(reason) = scene.seed("ovf", &["ovf-env.xml"])? {
        return Ok(Seen::found(reason));
    }
    if scene.machine.virtualisation == "none" {
        return Ok(Seen::absent("the machine is not virtual"));
    }
    if let Some(reason) = azure_chassis(scene) {
        return Ok(Seen::absent(format!("Azure's CD looks like it, and {reason}")));
    }
    if let Some(reason) = transport(scene)? {
        return Ok(Seen::found(reason));
    }
    let cd = scene.discs().find_map(|(device, label)| cd(scene, device, label));
    if cd.is_some() || scene.edition > Edition::V22_4 {
        return Ok(Seen::by(cd));
    }
    Ok(Seen::by(customisation(scene)?))
}

/// `ovf_vmware_transport_guestinfo`. Later editions ask `vmtoolsd` too, but only after the smaller tool, whose
/// absence the shell reports in words that the script takes for an answer.
fn transport(scene: &Scene<'_>) -> Result<Option<String>> {
    if !is_vmware(scene) || !has_program(scene.image, RPC)? {
        return Ok(None);
    }
    let environment =
        scene.machine.guest_info.as_ref().and_then(|info| info.ovf_environment.as_ref());
    let Some(environment) = environment else { return Ok(None) };
    // Later editions see those lines alone that have a letter or a digit.
    let xml = match scene.edition {
        Edition::V22_4 => Some(environment.as_str()),
        Edition::V25_1 | Edition::V26_2 => environment.split('\n').find(|line| has_words(line)),
    };
    let is_xml = xml.is_some_and(|xml| xml.starts_with("<?xml") || xml.starts_with("<?XML"));
    Ok(is_xml.then(|| "the guest's tables have ovfEnv".to_owned()))
}

/// `is_cdrom_ovf`: why a device with an ISO 9660 file system is an OVF environment's, if it is.
fn cd(scene: &Scene<'_>, device: &str, label: &str) -> Option<String> {
    const LABELS: [&str; 6] =
        ["OVF-TRANSPORT", "ovf-transport", "OVFENV", "ovfenv", "OVF ENV", "ovf env"];
    const OTHERS: [&str; 4] = ["config-2", "CONFIG-2", "cidata", "CIDATA"];
    /// 10 MB in the script's words, of which it counts whole ones.
    const TOO_LARGE: u64 = 10 << 20;
    if !is_drive(device) {
        return None;
    }
    if LABELS.contains(&label) {
        return Some(format!("{device} has the label `{label}`"));
    }
    if OTHERS.contains(&label) || label.starts_with("rd_rdfe_stable") {
        return None;
    }
    let found = scene.machine.devices.iter().find(|known| known.path == device)?;
    let small = found.size.is_some_and(|size| size < TOO_LARGE);
    (small && found.ovf_environment).then(|| format!("{device} holds an OVF environment"))
}

/// `/dev/sr[0-9]` or `/dev/hd[a-z]`.
fn is_drive(device: &str) -> bool {
    let one = |name: &str, wanted: fn(&char) -> bool| {
        let mut letters = device.strip_prefix(name).unwrap_or_default().chars();
        letters.next().is_some_and(|letter| wanted(&letter)) && letters.next().is_none()
    };
    one("/dev/sr", char::is_ascii_digit) || one("/dev/hd", char::is_ascii_lowercase)
}
