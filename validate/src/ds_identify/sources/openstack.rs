//! OpenStack's service, its config drive, and what looks like one.

use nodekiln_words::Result;

use super::others;
use crate::ds_identify::Edition;
use crate::ds_identify::policy::is_pc;
use crate::ds_identify::scene::{Field, Scene, Seen};

/// Product names of OpenStack's own and of a packaged Nova.
const NAMES: [&str; 2] = ["OpenStack Nova", "OpenStack Compute"];

/// `dscheck_ConfigDrive`.
pub(super) fn config_drive(scene: &Scene<'_>) -> Result<Seen> {
    Ok(Seen::by(drive(scene)?))
}

/// `check_configdrive_v2`: a folder left by somebody, or a drive by its label, if it is not IBM's.
fn drive(scene: &Scene<'_>) -> Result<Option<String>> {
    const SEED: &str = "/var/lib/cloud/seed/config_drive";
    for folder in ["/config-drive", SEED] {
        let folder = format!("{folder}/openstack");
        // The shell's names are sorted, and the script looks at the first one.
        for name in scene.image.list(&folder)?.iter().filter(|name| is_date(name)) {
            let path = format!("{folder}/{name}/meta_data.json");
            if scene.image.exists(&path)? {
                match scene.file(&path)? {
                    Some(reason) => return Ok(Some(reason)),
                    None => break,
                }
            }
        }
    }
    let latest = format!("{SEED}/openstack/latest/meta_data.json");
    if scene.image.exists(&latest)? {
        return Ok(Some(format!("{latest} is there")));
    }
    let ibm = format!(" {} ", scene.list).contains(" IBMCloud ");
    if ibm && others::is_ibm(scene)? {
        return Ok(None);
    }
    Ok(scene.label(&["CONFIG-2", "config-2"]))
}

/// The shell's pattern `2???-??-??`.
fn is_date(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() == 10 && bytes[0] == b'2' && bytes[4] == b'-' && bytes[7] == b'-'
}

/// `dscheck_OpenStack`.
pub(super) fn openstack(scene: &Scene<'_>) -> Result<Seen> {
    if let Some(reason) = drive(scene)? {
        return Ok(Seen::absent(format!("there is a config drive: {reason}")));
    }
    let product = || scene.dmi_is(Field::ProductName, |name| NAMES.contains(&name));
    let init = || {
        let name = scene.machine.init_product_name.as_deref()?;
        (name == NAMES[0]).then(|| format!("product_name of process 1 is `{name}`"))
    };
    let tag = || {
        scene.dmi_is(Field::ChassisAssetTag, |tag| match tag {
            "OpenTelekomCloud" | "SAP CCloud VM" | "HUAWEICLOUD" => true,
            "Samsung Cloud Platform" => scene.edition > Edition::V22_4,
            _ => NAMES.contains(&tag),
        })
    };
    if let Some(reason) = product().or_else(init).or_else(tag) {
        return Ok(Seen::found(reason));
    }
    let architecture = &scene.machine.architecture;
    Ok(match is_pc(architecture) {
        true => Seen::by(None),
        false => Seen::maybe(format!("machines of OpenStack on {architecture} tell no name")),
    })
}
