use nodekiln_words::{Class, Failure, Result, Sha256};

use super::shell;
use crate::tree::Files;

/// The editions of the script whose rules are known here, each read in full and compared with the script
/// itself. Debian's packages are named; what stands between them has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edition {
    /// cloud-init 22.4.2, Debian 12 (22.4.2-1+deb12u3 and u4: `strict_id` is true unless told).
    V22_4,
    /// cloud-init 25.1.4, Debian 13.
    V25_1,
    /// cloud-init 26.2, Debian's unstable suite in 2026.
    V26_2,
}

/// SHA-256 of the scripts that the port was compared with, as Debian's packages 22.4.2-1+deb12u4,
/// 25.1.4-1+deb13u1 and 26.2-1 have them.
const SCRIPTS: [(&str, Edition); 3] = [
    ("4dbe3ef1d32485dd80b806ed17427e3372cb6fd8c46d900c883e7517f7d0b5b2", Edition::V22_4),
    ("03ecf6559d1b922fc090b7ad27c50be9932b3d0955993137fdf7ecf6c6b2ec34", Edition::V25_1),
    ("086bfbd2a39bfdfc0ea733b66ddb3da6dd701675a323193462596a3e4f1a4ac9", Edition::V26_2),
];

/// Where the generator looks for the script: Debian's place, then that of other distributions.
const PLACES: [&str; 2] =
    ["/usr/lib/cloud-init/ds-identify", "/usr/libexec/cloud-init/ds-identify"];

impl Edition {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V22_4, Self::V25_1, Self::V26_2];

    /// The edition of a script, by its digest: a script that was changed has other rules.
    #[must_use]
    pub fn of_script(script: &[u8]) -> Option<Self> {
        let digest = Sha256::of(script).to_string();
        SCRIPTS.iter().find(|(known, _)| *known == digest).map(|(_, edition)| *edition)
    }

    /// The edition of the script that an image has.
    ///
    /// # Errors
    /// [`Class::Unsupported`] where it has none, or one whose rules are not known here; what reading fails
    /// with.
    pub fn of_image(image: &dyn Files) -> Result<Self> {
        for place in PLACES {
            let Some(script) = image.read(place)? else { continue };
            return Self::of_script(&script).ok_or_else(|| {
                let text = format!("{place} is none whose rules are known here");
                Failure::new(Class::Unsupported, text)
                    .with_help("Debian's cloud-init 22.4.2, 25.1.4 and 26.2 are known")
            });
        }
        Err(Failure::new(Class::Unsupported, "the image has no ds-identify")
            .with_help("cloud-init's generator enables cloud-init there, whatever the machine is"))
    }

    /// The version of cloud-init.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V22_4 => "22.4.2",
            Self::V25_1 => "25.1.4",
            Self::V26_2 => "26.2",
        }
    }

    /// `DI_DSLIST_DEFAULT`: what is looked for where nothing is configured.
    #[must_use]
    pub const fn default_list(self) -> &'static [&'static str] {
        match self {
            Self::V22_4 => &[
                "MAAS",
                "ConfigDrive",
                "NoCloud",
                "AltCloud",
                "Azure",
                "Bigstep",
                "CloudSigma",
                "CloudStack",
                "DigitalOcean",
                "Vultr",
                "AliYun",
                "Ec2",
                "GCE",
                "OpenNebula",
                "OpenStack",
                "OVF",
                "SmartOS",
                "Scaleway",
                "Hetzner",
                "IBMCloud",
                "Oracle",
                "Exoscale",
                "RbxCloud",
                "UpCloud",
                "VMware",
                "LXD",
                "NWCS",
            ],
            Self::V25_1 | Self::V26_2 => &[
                "MAAS",
                "ConfigDrive",
                "NoCloud",
                "AltCloud",
                "Azure",
                "Bigstep",
                "CloudSigma",
                "CloudStack",
                "DigitalOcean",
                "Vultr",
                "AliYun",
                "Ec2",
                "GCE",
                "OpenNebula",
                "OpenStack",
                "VMware",
                "OVF",
                "SmartOS",
                "Scaleway",
                "Hetzner",
                "IBMCloud",
                "Oracle",
                "Exoscale",
                "RbxCloud",
                "UpCloud",
                "LXD",
                "NWCS",
                "Akamai",
                "WSL",
                "CloudCIX",
            ],
        }
    }

    /// `trim`: 22.4.2 lets the shell split and join the text, so that white space within becomes one space;
    /// later editions take off what stands at the ends, carriage returns too.
    pub(super) fn trimmed(self, text: &str) -> String {
        match self {
            Self::V22_4 => shell::words(text).collect::<Vec<_>>().join(" "),
            Self::V25_1 | Self::V26_2 => text.trim_matches(shell::is_space).to_owned(),
        }
    }

    /// Whether cloud-init finds the code of a datasource whatever case its name is written in
    /// (`importer.match_case_insensitive_module_name`, there since 23.2).
    pub(super) fn same_source(self, one: &str, other: &str) -> bool {
        match self {
            Self::V22_4 => one == other,
            Self::V25_1 | Self::V26_2 => one.eq_ignore_ascii_case(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_script_has_no_edition() {
        assert_eq!(Edition::of_script(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn white_space_within_is_kept_by_later_editions_alone() {
        assert_eq!(Edition::V22_4.trimmed(" a \t b\r"), "a b\r");
        assert_eq!(Edition::V25_1.trimmed(" a \t b\r"), "a \t b");
    }
}
