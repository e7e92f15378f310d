//! The checks of the datasources, each named after the function of the script that it stands for.

mod ec2;
mod media;
mod openstack;
mod others;
mod vmware;

use nodekiln_words::Result;

use super::Edition;
use super::scene::{Answer, Field, Finding, Scene, Seen};

/// Asks the check of a datasource (`dscheck_NAME`).
///
/// # Errors
/// When the image cannot be read, or the check is one that cannot be told here (WSL under WSL).
pub(super) fn check(scene: &Scene<'_>, source: &str) -> Result<Finding> {
    let Some(seen) = seen(scene, source)? else {
        let reason = format!("ds-identify {} has no check for it", scene.edition.as_str());
        let (source, setting) = (source.to_owned(), String::new());
        return Ok(Finding { source, answer: Answer::NoCheck, reason, setting });
    };
    let Seen { answer, reason, setting } = seen;
    Ok(Finding { source: source.to_owned(), answer, reason, setting })
}

/// What the check saw; `None` where the script has none of that name.
fn seen(scene: &Scene<'_>, source: &str) -> Result<Option<Seen>> {
    if scene.edition == Edition::V22_4 && matches!(source, "Akamai" | "CloudCIX" | "WSL") {
        return Ok(None);
    }
    Ok(Some(match source {
        "AliYun" => others::ali_yun(scene)?,
        "AltCloud" => others::alt_cloud(scene),
        "Azure" => azure(scene)?,
        "Bigstep" => Seen::by(scene.file("/var/lib/cloud/data/seed/bigstep/url")?),
        "ConfigDrive" => openstack::config_drive(scene)?,
        "Ec2" => ec2::ec2(scene)?,
        "GCE" => gce(scene),
        "IBMCloud" => others::ibm_cloud(scene)?,
        "LXD" => others::lxd(scene),
        // 26.2 has the name in its list, but its check was taken out.
        "MAAS" if scene.edition == Edition::V26_2 => return Ok(None),
        "MAAS" => others::maas(scene)?,
        "NoCloud" => media::no_cloud(scene)?,
        "None" => Seen::absent("ds-identify never finds it"),
        "OVF" => vmware::ovf(scene)?,
        "OpenNebula" => others::open_nebula(scene)?,
        "OpenStack" => openstack::openstack(scene)?,
        "Scaleway" => others::scaleway(scene)?,
        "SmartOS" => others::smart_os(scene)?,
        "VMware" => vmware::vmware(scene)?,
        "Vultr" => others::vultr(scene)?,
        "WSL" => others::wsl(scene)?,
        _ => return Ok(others::by_one_string(scene, source)),
    }))
}

/// `is_azure_chassis`: the asset tag that tells Azure from any other Hyper-V.
fn azure_chassis(scene: &Scene<'_>) -> Option<String> {
    scene.dmi_is(Field::ChassisAssetTag, |tag| tag == "7783-7084-3265-9085-8269-3286-77")
}

/// `dscheck_Azure`; 22.4.2 also takes the label of the provisioning CD, under Hyper-V.
fn azure(scene: &Scene<'_>) -> Result<Seen> {
    let mut reason = azure_chassis(scene);
    if reason.is_none() {
        reason = scene.seed("azure", &["ovf-env.xml"])?;
    }
    let hyper_v = scene.machine.virtualisation == "microsoft";
    if reason.is_none() && scene.edition == Edition::V22_4 && hyper_v {
        reason = scene.label_begins("rd_rdfe_");
    }
    Ok(Seen::by(reason))
}

/// `dscheck_GCE`: the product's name or, where that is another one, its serial number.
fn gce(scene: &Scene<'_>) -> Seen {
    let by_name = scene.dmi_is(Field::ProductName, |name| name == "Google Compute Engine");
    let by_serial = || scene.dmi_is(Field::ProductSerial, |text| text.starts_with("GoogleCloud-"));
    Seen::by(by_name.or_else(by_serial))
}
