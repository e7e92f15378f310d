use nodekiln_words::Result;

use super::config;
use super::shell;
use super::{Edition, MachineView};
use crate::tree::Files;

/// What the check of one datasource says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The datasource is this machine's.
    Found,
    /// It may be: counts where nothing was found, and the policy lets it.
    Maybe,
    /// It is not.
    NotFound,
    /// The script has no check of that name and passes it over.
    NoCheck,
}

/// What the check of one datasource says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The datasource, as the list names it.
    pub source: String,
    /// What the check says.
    pub answer: Answer,
    /// What it saw.
    pub reason: String,
    /// A line for cloud-init's configuration that goes with the answer; empty for none.
    pub setting: String,
}

/// A check's answer with its reason, before the datasource has its name.
pub(super) struct Seen {
    pub(super) answer: Answer,
    pub(super) reason: String,
    pub(super) setting: String,
}

impl Seen {
    pub(super) fn found(reason: impl Into<String>) -> Self {
        Self { answer: Answer::Found, reason: reason.into(), setting: String::new() }
    }

    pub(super) fn maybe(reason: impl Into<String>) -> Self {
        Self { answer: Answer::Maybe, ..Self::found(reason) }
    }

    pub(super) fn absent(reason: impl Into<String>) -> Self {
        Self { answer: Answer::NotFound, ..Self::found(reason) }
    }

    /// Found for the reason, or not found where there is none.
    pub(super) fn by(reason: Option<String>) -> Self {
        reason.map_or_else(|| Self::absent("nothing of it is here"), Self::found)
    }
}

/// All that checks look at (`collect_info`).
pub(super) struct Scene<'a> {
    pub(super) edition: Edition,
    pub(super) machine: &'a MachineView,
    pub(super) image: &'a dyn Files,
    /// The kernel's command line, as `read` leaves it.
    pub(super) command_line: String,
    /// The words of `DI_DSLIST`.
    pub(super) list: String,
    /// File systems' labels, with a comma before and behind each.
    labels: String,
    /// File systems' UUIDs, the same way.
    uuids: String,
    /// `DEVICE=LABEL` of each ISO 9660 file system.
    discs: Vec<String>,
}

/// The SMBIOS strings by their names in `/sys/class/dmi/id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    SysVendor,
    ProductName,
    ProductSerial,
    ProductUuid,
    BoardName,
    ChassisAssetTag,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        edition: Edition,
        machine: &'a MachineView,
        image: &'a dyn Files,
        command_line: String,
        list: String,
    ) -> Self {
        let mut scene = Self {
            edition,
            machine,
            image,
            command_line,
            list,
            labels: String::new(),
            uuids: String::new(),
            discs: Vec::new(),
        };
        // Within a container blkid is not asked (`read_fs_info_linux`).
        if !machine.is_container() {
            scene.take_file_systems(&machine.blkid().unwrap_or_default());
        }
        scene
    }

    /// `read_fs_info_linux`, over what blkid prints.
    fn take_file_systems(&mut self, exported: &str) {
        let (mut labels, mut uuids, mut discs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut device, mut label, mut kind) = ("", "", "");
        for line in exported.split('\n').chain(["DEVNAME="]) {
            let Some((name, value)) = line.split_once('=') else { continue };
            match name {
                "DEVNAME" => {
                    if !device.is_empty() && kind == "iso9660" {
                        discs.push(format!("{device}={label}"));
                    }
                    (device, label, kind) = (value, "", "");
                }
                "LABEL" | "LABEL_FATBOOT" => {
                    label = value;
                    labels.push(value);
                }
                "TYPE" => kind = value,
                "UUID" => uuids.push(value),
                _ => {}
            }
        }
        self.labels = format!(",{},", labels.join(","));
        self.uuids = format!(",{},", uuids.join(","));
        // A comma within a label divides it there, too.
        let discs = discs.join(",");
        self.discs = shell::fields(&discs, ',').into_iter().map(str::to_owned).collect();
    }

    /// `get_dmi_field`: what the script takes for an SMBIOS string. A platform that has none is an error, and
    /// a string that the firmware does not give is unavailable; neither is the name of anything.
    pub(super) fn dmi(&self, field: Field) -> String {
        let Some(dmi) = &self.machine.dmi else { return "error".to_owned() };
        let text = match field {
            Field::SysVendor => &dmi.sys_vendor,
            Field::ProductName => &dmi.product_name,
            Field::ProductSerial => &dmi.product_serial,
            Field::ProductUuid => &dmi.product_uuid,
            Field::BoardName => &dmi.board_name,
            Field::ChassisAssetTag => &dmi.chassis_asset_tag,
        };
        match text {
            Some(text) => shell::first_line_read(&format!("{text}\n")).unwrap_or_default(),
            None => "unavailable".to_owned(),
        }
    }

    /// Why an SMBIOS string counts, where it is `wanted` and the machine is no container
    /// (`dmi_product_name_matches` and the like).
    pub(super) fn dmi_is(&self, field: Field, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let text = self.dmi(field);
        (!self.machine.is_container() && wanted(&text))
            .then(|| format!("{} is `{text}`", field.file()))
    }

    /// The first of these labels that a file system has, as a reason (`has_fs_with_label`).
    pub(super) fn label(&self, labels: &[&str]) -> Option<String> {
        let label = labels.iter().find(|label| self.labels.contains(&format!(",{label},")))?;
        Some(format!("a file system has the label `{label}`"))
    }

    /// Whether a label begins so (`has_fs_with_label` with an asterisk).
    pub(super) fn label_begins(&self, beginning: &str) -> Option<String> {
        let begins = self.labels.contains(&format!(",{beginning}"));
        begins.then(|| format!("a file system's label begins with `{beginning}`"))
    }

    /// `has_fs_with_uuid`.
    pub(super) fn has_uuid(&self, uuid: &str) -> bool {
        self.uuids.contains(&format!(",{uuid},"))
    }

    /// Devices with an ISO 9660 file system, each with its label.
    pub(super) fn discs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.discs.iter().map(|disc| (shell::before(disc, "="), shell::after(disc, "=")))
    }

    /// Why a seed folder of that name counts, where it has all these files (`check_seed_dir`).
    pub(super) fn seed(&self, name: &str, files: &[&str]) -> Result<Option<String>> {
        self.seed_in("/var/lib/cloud", name, files)
    }

    /// As [`Scene::seed`], below another folder than cloud-init's own.
    pub(super) fn seed_in(
        &self,
        folder: &str,
        name: &str,
        files: &[&str],
    ) -> Result<Option<String>> {
        let folder = format!("{folder}/seed/{name}");
        for file in files {
            if !self.image.is_file(&format!("{folder}/{file}"))? {
                return Ok(None);
            }
        }
        Ok(Some(format!("{folder} has {}", files.join(" and "))))
    }

    /// Why the kernel's command line counts, where one of its words is this one.
    pub(super) fn argument(&self, word: &str) -> Option<String> {
        let there = format!(" {} ", self.command_line).contains(&format!(" {word} "));
        there.then(|| format!("the kernel was started with `{word}`"))
    }

    /// Why the configuration counts, where a line looks like that key (`check_config`).
    pub(super) fn configured(&self, key: &str) -> Result<bool> {
        Ok(config::check(self.edition, self.image, key)?.is_some())
    }

    /// As a reason, where there is such a file in the image.
    pub(super) fn file(&self, path: &str) -> Result<Option<String>> {
        Ok(self.image.is_file(path)?.then(|| format!("{path} is there")))
    }
}

impl Field {
    /// Its file in `/sys/class/dmi/id`.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::SysVendor => "sys_vendor",
            Self::ProductName => "product_name",
            Self::ProductSerial => "product_serial",
            Self::ProductUuid => "product_uuid",
            Self::BoardName => "board_name",
            Self::ChassisAssetTag => "chassis_asset_tag",
        }
    }
}
