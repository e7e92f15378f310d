//! The disks and CDs that clouds attach to tell a guest about itself.
//!
//! Their bytes come from the instance alone. Never attach two clouds' media to one guest: NoCloud's and
//! OpenStack's win wherever they are found.

mod azure;
mod iso9660;
mod ovf;

use nodekiln_words::{Failure, Result};
use serde::Serialize;

use super::instance::Instance;
use super::{Cloud, nocloud, openstack};
use crate::seed;

/// How a medium must be attached for the guest to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// As any disk or CD.
    Any,
    /// As a CD on IDE, SATA or SCSI: datasources look at `/dev/sr0`.
    Cd,
}

/// A medium, ready to be attached read-only.
#[derive(Clone, PartialEq, Eq)]
pub struct Medium {
    /// The bytes of the disk.
    pub bytes: Vec<u8>,
    /// The file system's label.
    pub label: &'static str,
    /// The kind of file system, as blkid names it.
    pub file_system: &'static str,
    /// How it must be attached.
    pub drive: Drive,
}

impl std::fmt::Debug for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Medium({}, {} bytes)", self.label, self.bytes.len())
    }
}

/// The medium of the instance's cloud.
///
/// # Errors
/// When the cloud has none (AWS, GCE), or what is to be told does not fit.
pub fn medium(instance: &Instance) -> Result<Medium> {
    match instance.cloud {
        Cloud::NoCloud => {
            let files = nocloud::files(instance);
            let bytes = seed::cidata(&files)?;
            Ok(Medium { bytes, label: "CIDATA", file_system: "vfat", drive: Drive::Any })
        }
        Cloud::OpenStack => cd("config-2", Drive::Any, &config_drive(instance)),
        // ds-identify passes over real media by the beginning of this label.
        Cloud::Azure => cd("rd_rdfe_stable", Drive::Cd, &azure::files(instance)),
        Cloud::VSphere => cd("OVFENV", Drive::Cd, &ovf::files(instance)),
        Cloud::Aws | Cloud::Gce => {
            let text = format!("the cloud `{}` attaches no medium", instance.cloud.as_str());
            Err(Failure::input(text).with_help(
                "azure, openstack, vsphere and nocloud have one; for aws and gce see \
                 `nodekiln metadata serve`",
            ))
        }
    }
}

fn cd(label: &'static str, drive: Drive, files: &[(String, Vec<u8>)]) -> Result<Medium> {
    let bytes = iso9660::write(label, files)?;
    Ok(Medium { bytes, label, file_system: "iso9660", drive })
}

/// The files of OpenStack's config drive: those of every version of the service, and EC2's as JSON.
fn config_drive(instance: &Instance) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("ec2/latest/meta-data.json".to_owned(), openstack::ec2_json(instance))];
    if let Some(user_data) = &instance.user_data {
        files.push(("ec2/latest/user-data".to_owned(), user_data.clone()));
    }
    for version in openstack::VERSIONS {
        let contents = openstack::files(instance, version).into_iter();
        files.extend(contents.map(|(name, bytes)| (format!("openstack/{version}/{name}"), bytes)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{golden, instance};

    #[test]
    fn the_environments_are_as_reviewed() {
        for (cloud, files) in [
            (Cloud::Azure, azure::files(&instance(Cloud::Azure))),
            (Cloud::VSphere, ovf::files(&instance(Cloud::VSphere))),
        ] {
            let [(name, content)] = &files[..] else { panic!("{files:?}") };
            assert_eq!(name, "ovf-env.xml");
            let name = format!("medium-{}.xml", cloud.as_str());
            golden(&name, &String::from_utf8(content.clone()).unwrap());
        }
    }

    #[test]
    fn each_medium_has_the_label_that_its_datasource_looks_for() {
        for cloud in Cloud::ALL {
            match (cloud, medium(&instance(cloud))) {
                (Cloud::Aws | Cloud::Gce, Err(failure)) => {
                    assert!(failure.help().is_some_and(|help| help.contains("metadata serve")));
                }
                (_, Ok(found)) => {
                    assert_eq!(found, medium(&instance(cloud)).unwrap(), "{cloud:?}");
                    let label = found.label.as_bytes();
                    assert!(found.bytes.windows(label.len()).any(|bytes| bytes == label));
                }
                (_, Err(failure)) => panic!("{cloud:?}: {failure:?}"),
            }
        }
    }
}
