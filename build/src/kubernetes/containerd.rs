//! containerd's configuration for a node, in the schema of the containerd version at hand.
//!
//! A key in the wrong section is skipped with no more than a log line, so the schema follows the
//! version found in the tree: 1.6 and 1.7 read version 2, where all of CRI is one plugin; 2.x
//! writes version 3, where images and runtime are two. Source: containerd's docs/cri/config.md and
//! docs/containerd-2.0.md.

use nodekiln_recipes::recipe::{CgroupDriver, Version};
use nodekiln_words::{Class, Failure, Result};

/// Where the configuration lies in a tree.
pub const PATH: &str = "/etc/containerd/config.toml";
/// Where further configuration is read from.
pub const CONF_D: &str = "/etc/containerd/conf.d";
/// Where registries' hosts files are read from.
pub const CERTS_D: &str = "/etc/containerd/certs.d";

/// Major and minor version of a containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
}

/// What the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The sandbox ("pause") image.
    pub sandbox_image: Option<&'a str>,
    /// Whether runc leaves cgroups to systemd.
    pub systemd_cgroup: bool,
}

impl Release {
    /// The release of a version such as `1.6.20~ds1-1+deb12u3` or `1:2.1.4`.
    ///
    /// # Errors
    /// When it is no version, or one whose configuration is not known.
    pub fn of(version: &str) -> Result<Self> {
        let upstream = version.split_once(':').map_or(version, |(_, upstream)| upstream);
        let mut numbers = upstream.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err(Failure::input(format!("`{version}` is not a containerd version")));
        };
        match (major, minor) {
            (1, 6..) | (2, _) => Ok(Self { major, minor }),
            _ => Err(Failure::new(
                Class::Unsupported,
                format!("containerd {version} has a configuration that is not known"),
            )
            .with_help("containerd 1.6, 1.7 and 2.x are supported")),
        }
    }

    /// Whether it serves the CRI version that a kubelet of `kubernetes` speaks: v1alpha2 alone up to
    /// 1.22, which containerd 2 no longer has.
    ///
    /// # Errors
    /// When it does not.
    pub fn serves(self, kubernetes: Version) -> Result<()> {
        if self.major < 2 || kubernetes.minor > 22 {
            return Ok(());
        }
        Err(Failure::new(
            Class::Unsupported,
            format!("kubelet {kubernetes} cannot talk to containerd {}", self.major),
        )
        .with_help("Kubernetes up to 1.22 speaks CRI v1alpha2: use a release with containerd 1.x"))
    }
}

/// Whether runc leaves cgroups to systemd: as `driver` says, or as kubeadm and kubelet of this
/// Kubernetes version do when nobody says. Up to 1.20 that is cgroupfs; 1.21's kubeadm writes
/// `systemd` (kubernetes#99471), later versions likewise (kubernetes#102133).
#[must_use]
pub fn systemd_cgroup(driver: CgroupDriver, kubernetes: Option<Version>) -> bool {
    match driver {
        CgroupDriver::Systemd => true,
        CgroupDriver::Cgroupfs => false,
        CgroupDriver::Auto => {
            kubernetes.is_none_or(|version| (version.major, version.minor) > (1, 20))
        }
    }
}

/// The text of `config.toml`.
#[must_use]
pub fn render(release: Release, settings: Settings<'_>) -> String {
    let Release { major, minor } = release;
    let (schema, sections) = if major >= 2 { (3, &V3) } else { (2, &V2) };
    let mut text = format!(
        "# Written by nodekiln for containerd {major}.{minor}.\n\
         version = {schema}\n\
         imports = [\"{CONF_D}/*.toml\"]\n"
    );
    let mut section = |name: &str, key: &str, value: &str| {
        text.push_str(&format!("\n[plugins.{name}]\n{key} = {value}\n"));
    };
    if let Some(image) = settings.sandbox_image {
        section(sections.sandbox, sections.sandbox_key, &quoted(image));
    }
    section(sections.snapshotter, "snapshotter", "\"overlayfs\"");
    section(sections.registry, "config_path", &quoted(CERTS_D));
    section(sections.runc, "runtime_type", "\"io.containerd.runc.v2\"");
    let systemd = settings.systemd_cgroup.to_string();
    section(&format!("{}.options", sections.runc), "SystemdCgroup", &systemd);
    text
}

/// Names of a schema's sections, below `plugins`.
struct Sections {
    sandbox: &'static str,
    sandbox_key: &'static str,
    snapshotter: &'static str,
    registry: &'static str,
    runc: &'static str,
}

const V2: Sections = Sections {
    sandbox: "\"io.containerd.grpc.v1.cri\"",
    sandbox_key: "sandbox_image",
    snapshotter: "\"io.containerd.grpc.v1.cri\".containerd",
    registry: "\"io.containerd.grpc.v1.cri\".registry",
    runc: "\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc",
};

const V3: Sections = Sections {
    sandbox: "\"io.containerd.cri.v1.images\".pinned_images",
    sandbox_key: "sandbox",
    snapshotter: "\"io.containerd.cri.v1.images\"",
    registry: "\"io.containerd.cri.v1.images\".registry",
    runc: "\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc",
};

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_upstream_versions_are_read() {
        let release = |text| Release::of(text).map(|r| (r.major, r.minor)).ok();
        assert_eq!(release("1.6.20~ds1-1+deb12u3"), Some((1, 6)));
        assert_eq!(release("1:2.1.4"), Some((2, 1)));
        for unknown in ["", "containerd", "1.5.9", "1.4.13~ds1-1", "3.0.0"] {
            assert_eq!(release(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn an_old_kubelet_and_a_new_containerd_are_refused() {
        let old = Version { major: 1, minor: 20, patch: 2 };
        assert!(Release { major: 2, minor: 1 }.serves(old).is_err());
        assert!(Release { major: 1, minor: 7 }.serves(old).is_ok());
        assert!(Release { major: 2, minor: 1 }.serves(Version { minor: 31, ..old }).is_ok());
    }

    #[test]
    fn a_value_cannot_leave_its_string() {
        assert_eq!(quoted("a\"\nb\\"), "\"a\\\"\\u000Ab\\\\\"");
    }
}
