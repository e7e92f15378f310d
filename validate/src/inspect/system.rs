//! What starts from a disk and what runs on it, from the files in its partitions.

use std::collections::BTreeMap;

use nodekiln_disk::files::FileSystem;
use nodekiln_disk::{Disk, Partitions, TableKind, gpt, ova};
use nodekiln_words::{Failure, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::{Deserialize, Serialize};

use super::{or_problem, or_problem_in};
use crate::tree::packages::Packages;

/// What starts from the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Whether a BIOS finds boot code: in the first sector, and where that is GRUB's on a GPT disk, a BIOS
    /// boot partition with its core image.
    pub bios: bool,
    /// Whether UEFI finds a loader at the path for removable media.
    pub uefi: bool,
    /// Whether that loader is shim with GRUB beside it, as Secure Boot needs.
    pub shim: bool,
    /// `GRUB`, `systemd-boot`, or nothing that is known.
    pub loader: Option<&'static str>,
}

/// The operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// Number of the partition with its root file system.
    pub partition: u32,
    /// `PRETTY_NAME`, `ID` and `VERSION_ID` of os-release.
    pub name: String,
    /// As above.
    pub id: String,
    /// As above.
    pub version: String,
    /// Kernels in /boot, by their versions.
    pub kernels: Vec<String>,
    /// Version of Kubernetes, with a leading `v`.
    pub kubernetes: Option<String>,
    /// Programs of Kubernetes in the usual folders.
    pub programs: Vec<String>,
    /// Versions of packages that matter on a node: containerd, runc, cloud-init, systemd, kubelet.
    pub packages: BTreeMap<String, String>,
    /// Number of installed packages; `None` where there is no database of them that
    /// can be read.
    pub package_count: Option<usize>,
    /// cloud-init's data sources, in the order of the file that counts last.
    pub data_sources: Vec<String>,
    /// What the machine-id file holds: `absent`, `empty`, `uninitialized` or `set`; `unreadable` where nobody
    /// can tell.
    pub machine_id: &'static str,
}

/// What an OVF descriptor tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Name of the descriptor's file.
    pub descriptor: String,
    /// Name of the disk's file.
    pub disk: String,
    /// Hardware version: `vmx-15`.
    pub hardware: Option<String>,
    /// `bios` or `efi`.
    pub firmware: Option<String>,
    /// Properties by their keys.
    pub properties: BTreeMap<String, String>,
}

/// The loader for removable media on x86-64 and arm64 (UEFI 2.10, section 3.5.1.1).
const REMOVABLE: [&str; 2] = ["/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/BOOTAA64.EFI"];
/// Packages whose versions are told.
const PACKAGES: [&str; 10] = [
    "cloud-init",
    "containerd",
    "containerd.io",
    "cri-tools",
    "kubeadm",
    "kubectl",
    "kubelet",
    "runc",
    "systemd",
    "walinuxagent",
];
/// Where Kubernetes' programs are looked for.
const FOLDERS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/opt/bin"];
const PROGRAMS: [&str; 4] = ["crictl", "kubeadm", "kubectl", "kubelet"];

impl Boot {
    /// Looks at the first sector and at the partitions' files; what cannot be read is taken for absent.
    pub(super) fn of(
        disk: &Disk,
        table: &Partitions,
        systems: &[(u32, FileSystem)],
        problems: &mut Vec<String>,
    ) -> Result<Self> {
        let mut sector = |at: u64| {
            let mut sector = [0; 512];
            or_problem(disk.read_at(at, &mut sector), problems)?;
            Ok::<_, Failure>(sector)
        };
        let first = sector(0)?;
        let grub = first[..440].windows(4).any(|window| window == b"GRUB");
        let core = table.entries.iter().find(|part| part.kind == gpt::TYPE_BIOS_BOOT.to_string());
        let core = match core {
            Some(part) => sector(part.start)? != [0; 512],
            // Behind an old table GRUB's core image stands in no partition.
            None => table.table == TableKind::Mbr,
        };
        let code = first[..440] != [0; 440];
        let mut boot = Self {
            bios: code && (core || !grub),
            loader: grub.then_some("GRUB"),
            ..Self::default()
        };
        for (number, files) in systems.iter().filter(|(_, files)| files.name() == "vfat") {
            let mut is_there = |path: &str| {
                Ok::<_, Failure>(
                    or_problem_in(*number, files.exists(path), problems)?.unwrap_or(false),
                )
            };
            for path in REMOVABLE {
                boot.uefi |= is_there(path)?;
            }
            let systemd = boot.uefi && is_there("/loader/loader.conf")?;
            let names = or_problem_in(*number, files.list("/EFI/BOOT"), problems)?;
            let grub = names.unwrap_or_default().iter().any(|name| is_grub(name));
            boot.shim |= boot.uefi && grub;
            if boot.uefi && boot.loader.is_none() {
                boot.loader = match grub {
                    true => Some("GRUB"),
                    false => systemd.then_some("systemd-boot"),
                };
            }
        }
        Ok(boot)
    }
}

fn is_grub(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with("grub") && name.ends_with(".efi")
}

impl System {
    /// The system on the first file system that has an os-release.
    pub(super) fn of(
        systems: &[(u32, FileSystem)],
        problems: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        for (number, files) in systems {
            for path in ["/etc/os-release", "/usr/lib/os-release"] {
                let release = or_problem_in(*number, files.text(path), problems)?.flatten();
                if let Some(release) = release {
                    return Self::read(*number, &release, files, systems, problems).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// What its files tell; each that cannot be read is a problem and no more.
    fn read(
        partition: u32,
        release: &str,
        files: &FileSystem,
        systems: &[(u32, FileSystem)],
        problems: &mut Vec<String>,
    ) -> Result<Self> {
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        let machine_id = or_problem_in(partition, machine_id(files), problems)?;
        let mut system = Self {
            partition,
            name: value("PRETTY_NAME"),
            id: value("ID"),
            version: value("VERSION_ID"),
            machine_id: machine_id.unwrap_or("unreadable"),
            ..Self::default()
        };
        // /boot may be a file system of its own.
        let boots = systems.iter().map(|(number, files)| (*number, files, "/"));
        for (number, files, folder) in boots.chain([(partition, files, "/boot")]) {
            let names = or_problem_in(number, files.list(folder), problems)?.unwrap_or_default();
            let version = |name: &String| name.strip_prefix("vmlinuz-").map(str::to_owned);
            system.kernels.extend(names.iter().filter_map(version));
        }
        for folder in FOLDERS {
            for program in PROGRAMS {
                let path = format!("{folder}/{program}");
                if or_problem_in(partition, files.exists(&path), problems)? == Some(true) {
                    system.programs.push(path);
                }
            }
        }
        let mut unread = Vec::new();
        let read = system.read_packages(files, &mut unread);
        or_problem_in(partition, read, problems)?;
        problems.extend(unread.iter().map(|told| format!("partition {partition}: {told}")));
        let kubernetes = kubernetes(files, &system.packages);
        system.kubernetes = or_problem_in(partition, kubernetes, problems)?.flatten();
        let sources = or_problem_in(partition, data_sources(files), problems)?;
        system.data_sources = sources.unwrap_or_default();
        Ok(system)
    }

    /// Versions from the databases of dpkg and RPM.
    fn read_packages(&mut self, files: &FileSystem, problems: &mut Vec<String>) -> Result<()> {
        let Packages { installed, unread } = Packages::of(files)?;
        problems.extend(unread);
        for installed in installed.iter().flatten() {
            if PACKAGES.contains(&installed.name.as_str()) {
                self.packages.insert(installed.name.clone(), installed.version.clone());
            }
        }
        self.package_count = installed.map(|installed| installed.len());
        Ok(())
    }
}

/// The version that the image itself states, or that of its package.
fn kubernetes(files: &FileSystem, packages: &BTreeMap<String, String>) -> Result<Option<String>> {
    let with_v = |version: &str| format!("v{}", version.trim().trim_start_matches('v'));
    if let Some(text) =
        files.text("/etc/kubernetes-version")?.filter(|text| !text.trim().is_empty())
    {
        return Ok(Some(with_v(&text)));
    }
    let release = files.text("/etc/image-builder-release")?.unwrap_or_default();
    let line = release.lines().find_map(|line| line.strip_prefix("KUBERNETES_VERSION="));
    if let Some(version) = line.map(|line| line.trim_matches(['"', '\''])).filter(|v| !v.is_empty())
    {
        return Ok(Some(with_v(version)));
    }
    // An epoch in front and the packaging's own revision are not Kubernetes'.
    let upstream = |version: &String| {
        let version = version.split_once(':').map_or(version.as_str(), |(_, version)| version);
        with_v(version.split('-').next().unwrap_or(version))
    };
    Ok(packages.get("kubelet").map(upstream))
}

/// The one key of cloud-init's configuration that is told.
#[derive(Default, Deserialize)]
struct CloudConfig {
    datasource_list: Option<Vec<String>>,
}

/// What cloud-init asks: the last `datasource_list` of its configuration, files by their names.
pub(crate) fn data_sources(files: &FileSystem) -> Result<Vec<String>> {
    let folder = "/etc/cloud/cloud.cfg.d";
    let names = files.list(folder)?;
    let drop_ins = names.iter().filter(|name| name.ends_with(".cfg"));
    let paths = drop_ins.map(|name| format!("{folder}/{name}"));
    let mut found = Vec::new();
    for path in ["/etc/cloud/cloud.cfg".to_owned()].into_iter().chain(paths) {
        let text = files.text(&path)?.unwrap_or_default();
        // A file that is no YAML is none that cloud-init reads either.
        if let Ok(CloudConfig { datasource_list: Some(list) }) = serde_saphyr::from_str(&text) {
            found = list;
        }
    }
    Ok(found)
}

fn machine_id(files: &FileSystem) -> Result<&'static str> {
    Ok(match files.text("/etc/machine-id")?.as_deref().map(str::trim) {
        None => "absent",
        Some("") => "empty",
        Some("uninitialized") => "uninitialized",
        Some(_) => "set",
    })
}

impl Package {
    /// Reads what matters from a descriptor's attributes.
    pub(super) fn of(contents: &ova::Contents) -> Self {
        let (name, text) = &contents.descriptor;
        let mut package = Self {
            descriptor: name.clone(),
            disk: contents.extent_name.clone(),
            ..Self::default()
        };
        let mut reader = Reader::from_str(text);
        let mut hardware = false;
        loop {
            match reader.read_event() {
                Ok(Event::Start(element) | Event::Empty(element)) => {
                    hardware = element.local_name().as_ref() == b"VirtualSystemType";
                    package.take(&element);
                }
                Ok(Event::Text(text)) if hardware => {
                    package.hardware = text.decode().ok().map(|text| text.trim().to_owned());
                }
                Ok(Event::End(_)) => hardware = false,
                Ok(Event::Eof) | Err(_) => return package, // what came before an error is still true
                Ok(_) => {}
            }
        }
    }

    /// Takes what an element's attributes tell.
    fn take(&mut self, element: &BytesStart<'_>) {
        let attribute = |key: &str| {
            let mut attributes = element.attributes().flatten();
            let found =
                attributes.find(|found| found.key.local_name().as_ref() == key.as_bytes())?;
            Some(found.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok()?.into_owned())
        };
        match (element.local_name().as_ref(), attribute("key"), attribute("value")) {
            (b"Property", Some(key), Some(value)) => {
                self.properties.insert(key, value);
            }
            (b"Config", Some(key), Some(value)) if key == "firmware" => self.firmware = Some(value),
            _ => {}
        }
    }
}
