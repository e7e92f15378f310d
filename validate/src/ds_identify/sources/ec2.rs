//! Amazon EC2 and the clouds that answer as it does.

use nodekiln_words::Result;

use crate::ds_identify::config::{self, OWN};
use crate::ds_identify::image::text;
use crate::ds_identify::scene::{Answer, Field, Scene, Seen};
use crate::ds_identify::{Edition, shell};

/// The key of the setting on the kernel's command line and in the script's own configuration.
const STRICT: &str = "ci.datasource.ec2.strict_id";
/// `DI_EC2_STRICT_ID_DEFAULT`: what does not say that it is EC2 is not taken for it (CVE-2024-6174).
const STRICT_DEFAULT: &str = "true";

/// `dscheck_Ec2`.
pub(super) fn ec2(scene: &Scene<'_>) -> Result<Seen> {
    if let Some(reason) = scene.seed("ec2", &["meta-data", "user-data"])? {
        return Ok(Seen::found(reason));
    }
    if scene.machine.is_container() {
        return Ok(Seen::absent("a container is none of EC2's"));
    }
    if let Some(reason) = platform(scene) {
        return Ok(Seen::found(reason));
    }
    let strict = match strict(scene)? {
        set if matches!(set.as_str(), "true" | "false" | "warn") => set,
        // `warn,30` has the datasource wait so many seconds after its warning.
        set if set.strip_prefix("warn,").is_some_and(begins_with_a_digit) => set,
        _ => STRICT_DEFAULT.to_owned(),
    };
    let answer = if strict == "true" { Answer::NotFound } else { Answer::Maybe };
    let reason = format!("the machine does not say that it is EC2's; strict_id is {strict}");
    let setting = format!("datasource: {{Ec2: {{strict_id: \"{strict}\"}}}}");
    Ok(Seen { answer, reason, setting })
}

fn begins_with_a_digit(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_digit())
}

/// `ec2_identify_platform`: why the machine is one of these, if it is.
fn platform(scene: &Scene<'_>) -> Option<String> {
    let (serial, uuid) = (scene.dmi(Field::ProductSerial), scene.dmi(Field::ProductUuid));
    let (vendor, product) = (scene.dmi(Field::SysVendor), scene.dmi(Field::ProductName));
    let tag = scene.dmi(Field::ChassisAssetTag);
    if serial.ends_with(".brightbox.com") {
        return Some(format!("product_serial is `{serial}`"));
    }
    if tag.ends_with(".zstack.io") {
        return Some(format!("chassis_asset_tag is `{tag}`"));
    }
    let own = vendor == "e24cloud" || (vendor == "Tilaa" && scene.edition >= Edition::V26_2);
    if own || (vendor == "3DS Outscale" && product == "3DS Outscale VM") {
        return Some(format!("sys_vendor is `{vendor}`"));
    }
    let hypervisor = scene.machine.hypervisor_uuid.as_deref();
    let hypervisor = hypervisor.and_then(|uuid| shell::first_line_read(&format!("{uuid}\n")));
    if let Some(uuid) = hypervisor.filter(|uuid| uuid.starts_with("ec2")) {
        return Some(format!("the hypervisor's UUID is {uuid}"));
    }
    let is_ec2 = match scene.edition {
        Edition::V22_4 => begins_as_ec2(&uuid) && uuid.eq_ignore_ascii_case(&serial),
        Edition::V25_1 | Edition::V26_2 => {
            let first = shell::before(&uuid, "-");
            begins_as_ec2(first) || ends_as_ec2(first)
        }
    };
    is_ec2.then(|| format!("product_uuid is {uuid}"))
}

fn begins_as_ec2(uuid: &str) -> bool {
    uuid.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case("ec2"))
}

/// The same four bytes in the other order end with `2?ec`.
fn ends_as_ec2(first: &str) -> bool {
    let Some(end) = first.len().checked_sub(4).and_then(|at| first.as_bytes().get(at..)) else {
        return false;
    };
    end[0] == b'2' && end[1].is_ascii_hexdigit() && end[2..].eq_ignore_ascii_case(b"ec")
}

/// `ec2_read_strict_setting`: the kernel's command line, then files that are named after EC2 and the main one,
/// then the script's own configuration.
fn strict(scene: &Scene<'_>) -> Result<String> {
    let or_default = |text: &str| match text {
        "" => STRICT_DEFAULT.to_owned(),
        text => text.to_owned(),
    };
    let key = format!("{STRICT}=");
    if format!(" {}", scene.command_line).contains(&format!(" {key}")) {
        let told = shell::after_last(&scene.command_line, &key);
        return Ok(or_default(shell::before(told, " ")));
    }
    let named = |name: &str| name.to_ascii_lowercase().contains("ec2");
    if let Some(told) = config::check_in(scene.edition, scene.image, "strict_id", named)? {
        return Ok(told);
    }
    let own = text(scene.image, OWN)?.unwrap_or_default();
    let settings = config::own_settings(scene.edition, &own);
    let told = settings.iter().find(|(key, _)| key == STRICT);
    Ok(or_default(told.map_or("", |(_, value)| value)))
}
