//! The datasources of clouds that are none of nodekiln's providers: one of ours must not look like theirs.

use nodekiln_words::{Class, Failure, Result};

use crate::ds_identify::scene::{Field, Scene, Seen};
use crate::ds_identify::{Edition, shell};

/// Datasources that one SMBIOS string decides; `None` where the script has no such check.
pub(super) fn by_one_string(scene: &Scene<'_>, source: &str) -> Option<Seen> {
    use Field::{ChassisAssetTag, ProductName, SysVendor};
    let (field, texts): (Field, &[&str]) = match source {
        "Akamai" => (SysVendor, &["Linode", "Akamai"]),
        "CloudCIX" => (ProductName, &["CloudCIX"]),
        "CloudSigma" => (ProductName, &["CloudSigma"]),
        "CloudStack" => (ProductName, &["CloudStack*"]),
        "DigitalOcean" => (SysVendor, &["DigitalOcean"]),
        "Exoscale" => (ProductName, &["Exoscale*"]),
        "Hetzner" => (SysVendor, &["Hetzner"]),
        "NWCS" => (SysVendor, &["NWCS"]),
        "Oracle" => (ChassisAssetTag, &["OracleCloud.com"]),
        "UpCloud" => (SysVendor, &["UpCloud"]),
        "RbxCloud" => return Some(Seen::by(scene.label(&["CLOUDMD", "cloudmd"]))),
        _ => return None,
    };
    let wanted = |text: &str| {
        texts.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => text.starts_with(beginning),
            None => text == *wanted,
        })
    };
    Some(Seen::by(scene.dmi_is(field, wanted)))
}

/// `dscheck_AliYun`.
pub(super) fn ali_yun(scene: &Scene<'_>) -> Result<Seen> {
    let seed = scene.seed("AliYun", &["meta-data", "user-data"])?;
    let product = || scene.dmi_is(Field::ProductName, |name| name == "Alibaba Cloud ECS");
    Ok(Seen::by(seed.or_else(product)))
}

/// `dscheck_AltCloud`. The script quotes its patterns, so that they match no name but themselves.
pub(super) fn alt_cloud(_: &Scene<'_>) -> Seen {
    Seen::absent("the script's patterns for it match no machine")
}

/// `dscheck_MAAS`.
pub(super) fn maas(scene: &Scene<'_>) -> Result<Seen> {
    const DISK: &str = "iqn.2004-05.com.ubuntu:maas";
    const URL: &str = "cloud-config-url=";
    if scene.machine.is_container() {
        return Ok(Seen::absent("a container is none of MAAS'"));
    }
    let line = &scene.command_line;
    let follows = |first: &str, then: &str| {
        line.split_once(first).is_some_and(|(_, rest)| rest.contains(then))
    };
    if follows(URL, DISK) || follows(DISK, URL) {
        return Ok(Seen::found("the kernel was started from a disk of MAAS'"));
    }
    let configured = scene.configured("MAAS")?;
    Ok(Seen::by(configured.then(|| "the configuration has MAAS".to_owned())))
}

/// `dscheck_LXD`; 26.2 looks for its serial port in place of the board's name.
pub(super) fn lxd(scene: &Scene<'_>) -> Seen {
    let machine = scene.machine;
    if machine.lxd_socket {
        return Seen::found("/dev/lxd/sock is a socket");
    }
    if !matches!(machine.virtualisation.as_str(), "kvm" | "qemu") {
        return Seen::absent("neither a socket of LXD's nor a machine of QEMU's");
    }
    if scene.edition < Edition::V26_2 {
        return Seen::by(scene.dmi_is(Field::BoardName, |name| name == "LXD"));
    }
    let port = machine
        .virtio_ports
        .iter()
        .find(|name| matches!(name.as_str(), "com.canonical.lxd" | "org.linuxcontainers.lxd"));
    Seen::by(port.map(|name| format!("there is the serial port {name}")))
}

/// `dscheck_OpenNebula`.
pub(super) fn open_nebula(scene: &Scene<'_>) -> Result<Seen> {
    let seed = scene.seed("opennebula", &["meta-data"])?;
    Ok(Seen::by(seed.or_else(|| scene.label(&["CONTEXT", "CDROM"]))))
}

/// `dscheck_SmartOS`.
pub(super) fn smart_os(scene: &Scene<'_>) -> Result<Seen> {
    if let Some(reason) = scene.dmi_is(Field::ProductName, |name| name.starts_with("SmartDC")) {
        return Ok(Seen::found(reason));
    }
    let words: Vec<&str> = shell::words(&scene.machine.kernel_version).collect();
    let zone = words == ["BrandZ", "virtual", "linux"]
        && scene.image.exists("/native/.zonecontrol/metadata.sock")?;
    Ok(Seen::by(zone.then(|| "the kernel is that of a zone".to_owned())))
}

/// `dscheck_Scaleway`; the vendor counts in a container, too.
pub(super) fn scaleway(scene: &Scene<'_>) -> Result<Seen> {
    if scene.dmi(Field::SysVendor) == "Scaleway" {
        return Ok(Seen::found("sys_vendor is `Scaleway`"));
    }
    if let Some(reason) = scene.argument("scaleway") {
        return Ok(Seen::found(reason));
    }
    Ok(Seen::by(scene.file("/var/run/scaleway")?))
}

/// `dscheck_Vultr`.
pub(super) fn vultr(scene: &Scene<'_>) -> Result<Seen> {
    let told = scene.dmi_is(Field::SysVendor, |vendor| vendor == "Vultr");
    if let Some(reason) = told.or_else(|| scene.argument("vultr")) {
        return Ok(Seen::found(reason));
    }
    Ok(Seen::by(scene.file("/etc/vultr")?))
}

/// `dscheck_IBMCloud`.
pub(super) fn ibm_cloud(scene: &Scene<'_>) -> Result<Seen> {
    if is_ibm_provisioning(scene)? {
        return Ok(Seen::absent("IBM is still provisioning the machine"));
    }
    Ok(Seen::by(is_ibm(scene)?.then(|| "a machine of Xen's with IBM's drives".to_owned())))
}

/// `is_ibm_provisioning`. A log that an image brings is of an earlier boot.
fn is_ibm_provisioning(scene: &Scene<'_>) -> Result<bool> {
    Ok(scene.image.is_file("/root/provisioningConfiguration.cfg")?
        && !scene.image.is_file("/root/swinstall.log")?)
}

/// `is_ibm_cloud`.
pub(super) fn is_ibm(scene: &Scene<'_>) -> Result<bool> {
    if scene.machine.virtualisation != "xen" {
        return Ok(false);
    }
    let drive = scene.label(&["CONFIG-2", "config-2"]).is_some();
    Ok(is_ibm_provisioning(scene)?
        || scene.label(&["METADATA", "metadata"]).is_some()
        || (drive && scene.has_uuid("9796-932E")))
}

/// `dscheck_WSL`, as far as it does not ask Windows.
pub(super) fn wsl(scene: &Scene<'_>) -> Result<Seen> {
    if scene.machine.virtualisation != "wsl" {
        return Ok(Seen::absent("not under Windows"));
    }
    Err(Failure::new(Class::Unsupported, "what ds-identify finds under WSL, Windows tells")
        .with_help("take WSL out of the list, or look at a machine that is not under Windows"))
}
