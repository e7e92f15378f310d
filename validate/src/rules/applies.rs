//! Which images a rule is for.

use std::collections::BTreeSet;
use std::fmt;

use nodekiln_recipes::recipe::Version;

use crate::metadata::Cloud;

/// Which images a rule is for. Empty and `None` mean all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applies {
    /// Distributions, by how they are made.
    pub families: &'static [Family],
    /// First and last minor version of Kubernetes.
    pub kubernetes: Option<(u32, u32)>,
    /// Clouds whose machines start the image.
    pub clouds: &'static [Cloud],
    /// What the image has to have.
    pub software: &'static [Software],
}

/// How a distribution is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Of Debian packages.
    Debian,
    /// Of RPM packages.
    Rpm,
}

/// Software that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Software {
    /// kubelet or kubeadm.
    Kubernetes,
    /// containerd.
    Containerd,
    /// cloud-init.
    CloudInit,
    /// OpenSSH's server.
    SshServer,
    /// systemd.
    Systemd,
}

/// What is known of an image when it is decided which rules are for it. What is not known excludes nothing: the
/// rule itself says then what it could not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How its distribution is made.
    pub family: Option<Family>,
    /// Its Kubernetes.
    pub kubernetes: Option<Version>,
    /// Whose machine it is judged for.
    pub cloud: Option<Cloud>,
    /// What it has; `None` where nobody looked.
    pub software: Option<BTreeSet<Software>>,
}

impl Applies {
    /// Every image.
    pub const ALL: Self = Self { families: &[], kubernetes: None, clouds: &[], software: &[] };

    /// Images with all of `software`.
    #[must_use]
    pub const fn with(software: &'static [Software]) -> Self {
        Self { software, ..Self::ALL }
    }

    /// Images that machines of these clouds start.
    #[must_use]
    pub const fn on(clouds: &'static [Cloud]) -> Self {
        Self { clouds, ..Self::ALL }
    }

    /// Why the rule is not for the image of which `facts` are known; nothing where it is.
    #[must_use]
    pub fn excludes(&self, facts: &Facts) -> Option<String> {
        if let Some(family) = facts.family
            && !self.families.is_empty()
            && !self.families.contains(&family)
        {
            return Some(format!("not for images of {}", family.as_str()));
        }
        if let Some(cloud) = facts.cloud
            && !self.clouds.is_empty()
            && !self.clouds.contains(&cloud)
        {
            return Some(format!("not for machines of {}", cloud.as_str()));
        }
        if let Some(has) = &facts.software
            && let Some(lacks) = self.software.iter().find(|software| !has.contains(software))
        {
            return Some(format!("the image has no {}", lacks.as_str()));
        }
        let (version, (first, last)) = (facts.kubernetes?, self.kubernetes?);
        (version.minor < first || version.minor > last)
            .then(|| format!("not for Kubernetes {version}, but {}", range(first, last)))
    }
}

/// Minor versions in words; the largest number is no bound.
fn range(first: u32, last: u32) -> String {
    match (first, last) {
        (0, last) => format!("up to 1.{last}"),
        (first, u32::MAX) => format!("from 1.{first}"),
        (first, last) => format!("1.{first} to 1.{last}"),
    }
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.families.is_empty() {
            let names: Vec<&str> = self.families.iter().map(|family| family.as_str()).collect();
            words.push(format!("images of {}", names.join(" or ")));
        }
        if !self.software.is_empty() {
            let names: Vec<&str> = self.software.iter().map(|one| one.as_str()).collect();
            words.push(format!("images with {}", names.join(" and ")));
        }
        words.extend(
            self.kubernetes.map(|(first, last)| format!("Kubernetes {}", range(first, last))),
        );
        if !self.clouds.is_empty() {
            let names: Vec<&str> = self.clouds.iter().map(|cloud| cloud.as_str()).collect();
            words.push(format!("machines of {}", names.join(", ")));
        }
        f.write_str(if words.is_empty() { "every image" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

impl Family {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "Debian packages",
            Self::Rpm => "RPM packages",
        }
    }
}

impl Software {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::Containerd => "containerd",
            Self::CloudInit => "cloud-init",
            Self::SshServer => "SSH server",
            Self::Systemd => "systemd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(minor: u32) -> Version {
        Version { major: 1, minor, patch: 0 }
    }

    #[test]
    fn what_is_not_known_excludes_nothing_and_what_is_excludes_with_its_reason() {
        let rule = Applies {
            families: &[Family::Debian],
            kubernetes: Some((20, 31)),
            clouds: &[Cloud::Aws],
            software: &[Software::CloudInit],
        };
        assert_eq!(rule.excludes(&Facts::default()), None);
        let fits = Facts {
            family: Some(Family::Debian),
            kubernetes: Some(version(31)),
            cloud: Some(Cloud::Aws),
            software: Some([Software::CloudInit].into()),
        };
        assert_eq!(rule.excludes(&fits), None);
        let told = |facts: Facts| rule.excludes(&facts).unwrap();
        assert!(told(Facts { family: Some(Family::Rpm), ..fits.clone() }).contains("RPM"));
        assert!(told(Facts { cloud: Some(Cloud::Gce), ..fits.clone() }).contains("gce"));
        assert!(told(Facts { software: Some([].into()), ..fits.clone() }).contains("cloud-init"));
        for minor in [19, 32] {
            let told = told(Facts { kubernetes: Some(version(minor)), ..fits.clone() });
            assert!(told.contains("1.20 to 1.31"), "{told}");
        }
        assert_eq!(Applies::ALL.excludes(&fits), None);
    }

    #[test]
    fn a_range_reads_as_a_sentence() {
        let rule = Applies { kubernetes: Some((35, u32::MAX)), ..Applies::ALL };
        assert_eq!(rule.to_string(), "Kubernetes from 1.35");
        assert_eq!(Applies::ALL.to_string(), "every image");
        let rule = Applies { kubernetes: Some((0, 31)), ..Applies::with(&[Software::Kubernetes]) };
        assert_eq!(rule.to_string(), "images with Kubernetes, Kubernetes up to 1.31");
    }
}
