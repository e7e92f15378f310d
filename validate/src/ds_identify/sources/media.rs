//! Datasources that are found by what is attached or left on the disk.

use nodekiln_words::Result;

use crate::ds_identify::Edition;
use crate::ds_identify::scene::{Field, Scene, Seen};

/// `dscheck_NoCloud`.
pub(super) fn no_cloud(scene: &Scene<'_>) -> Result<Seen> {
    // Later editions take `ds=nocloud` for the name of the datasource, before anything is looked for.
    let by_kernel = scene.edition == Edition::V22_4
        && format!(" {} ", scene.command_line).contains(" ds=nocloud");
    if by_kernel {
        return Ok(Seen::found("the kernel was started with `ds=nocloud`"));
    }
    // The serial number counts in a container, too.
    let serial = scene.dmi(Field::ProductSerial);
    if format!(" {serial} ").contains(" ds=nocloud") {
        return Ok(Seen::found(format!("product_serial is `{serial}`")));
    }
    for name in ["nocloud", "nocloud-net"] {
        for folder in ["/var/lib/cloud", "/writable/system-data/var/lib/cloud"] {
            let seed = scene.seed_in(folder, name, &["meta-data", "user-data"])?;
            if let Some(reason) = seed {
                return Ok(Seen::found(reason));
            }
        }
    }
    if let Some(reason) = scene.label(&["cidata", "CIDATA"]) {
        return Ok(Seen::found(reason));
    }
    Ok(Seen::by(configured(scene)?))
}

/// A seed in the configuration itself, or where 25.1.4 and later are told to fetch one from.
fn configured(scene: &Scene<'_>) -> Result<Option<String>> {
    if !scene.configured("NoCloud")? {
        return Ok(None);
    }
    if scene.configured("user-data")? && scene.configured("meta-data")? {
        return Ok(Some("the configuration has NoCloud's user-data and meta-data".to_owned()));
    }
    let from = scene.edition > Edition::V22_4 && scene.configured("seedfrom")?;
    Ok(from.then(|| "the configuration has NoCloud's seedfrom".to_owned()))
}
