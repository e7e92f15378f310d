use nodekiln_words::{Class, Result};

use super::scene::{Answer, Finding};
use super::{Edition, Identified, MachineView, Mode, Way, check, identify, is_switched_off};
use super::{config, shell};
use crate::tree::Files;

/// What an image makes of a machine, held against the datasource that the machine has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// That datasource was looked for and found, and no other.
    Expected(Finding),
    /// That datasource is taken without looking: the list has no other, or somebody named it. A machine of
    /// another cloud would be taken for one of this, too.
    Unseen {
        /// Why nothing is looked for.
        way: Way,
        /// What its check would have said.
        check: Finding,
    },
    /// Others are taken beside it, and answer before or after it.
    Several(Vec<Finding>),
    /// It is not among what is taken.
    Others {
        /// What is taken instead.
        taken: Vec<String>,
        /// What its check says of this machine.
        check: Finding,
    },
    /// Nothing is taken, and cloud-init stays off.
    Nothing {
        /// What its check says of this machine.
        check: Finding,
    },
    /// Nothing is picked, and cloud-init tries all that is configured, over the network, too.
    Everything(Way),
    /// cloud-init is switched off, whatever the machine is.
    Off(String),
    /// It cannot be told.
    NotProven(String),
}

impl Pick {
    /// Whether the machine's datasource is taken and no other, seen or not.
    #[must_use]
    pub const fn is_expected(&self) -> bool {
        matches!(self, Self::Expected(_) | Self::Unseen { .. })
    }
}

/// Judges what the image's cloud-init would pick on a machine whose datasource has to be `expected`.
///
/// The edition of the script is told by the image's own file, which is read and never run.
///
/// # Errors
/// When the image cannot be read.
pub fn judge(machine: &MachineView, image: &dyn Files, expected: &str) -> Result<Pick> {
    match Edition::of_image(image) {
        Ok(edition) => judge_as(edition, machine, image, expected),
        Err(failure) if failure.class() == Class::Unsupported => {
            Ok(Pick::NotProven(failure.to_string()))
        }
        Err(failure) => Err(failure),
    }
}

/// As [`judge`], of an image whose script is of a known edition.
///
/// # Errors
/// When the image cannot be read.
pub fn judge_as(
    edition: Edition,
    machine: &MachineView,
    image: &dyn Files,
    expected: &str,
) -> Result<Pick> {
    if let Some(why) = off(edition, machine, image)? {
        return Ok(Pick::Off(why));
    }
    let picked = identify(edition, machine, image).and_then(|identified| {
        let own = check(edition, machine, image, expected)?;
        Ok(held(edition, &identified, own))
    });
    match picked {
        Err(failure) if failure.class() == Class::Unsupported => {
            Ok(Pick::NotProven(failure.to_string()))
        }
        picked => picked,
    }
}

/// Why cloud-init is switched off before anything is looked for. With 22.4.2 that is the generator's own work:
/// the last `cloud-init=` on the kernel's command line, then the marker that enables, then the one that disables
/// (`kernel_cmdline` and `etc_file` of `cloud-init-generator`).
fn off(edition: Edition, machine: &MachineView, image: &dyn Files) -> Result<Option<String>> {
    let command_line = config::command_line(machine);
    let by_kernel = || Some("the kernel's command line has `cloud-init=disabled`".to_owned());
    let marker = "/etc/cloud/cloud-init.disabled";
    if edition > Edition::V22_4 {
        if !is_switched_off(&command_line, image)? {
            return Ok(None);
        }
        let by_file = image.is_file(marker)?.then(|| format!("{marker} is there"));
        return Ok(by_file.or_else(by_kernel));
    }
    let padded = format!(" {command_line} ");
    let told = padded.rsplit_once(" cloud-init=").map(|(_, rest)| shell::before(rest, " "));
    match told {
        Some("disabled") => return Ok(by_kernel()),
        Some("enabled") => return Ok(None),
        _ => {}
    }
    let enabled = image.is_file("/etc/cloud/cloud-init.enabled")?;
    let disabled = !enabled && image.is_file(marker)?;
    Ok(disabled.then(|| format!("{marker} is there")))
}

/// The pick that a result is. `own` is the check of the expected datasource.
fn held(edition: Edition, identified: &Identified, own: Finding) -> Pick {
    let Identified { policy, way, findings, datasources, code, .. } = identified;
    let way = *way;
    let taken: Vec<&String> = datasources.iter().filter(|source| *source != "None").collect();
    let is_own = |source: &str| edition.same_source(source, &own.source);
    if *code != 0 {
        return match (way, policy.map(|policy| policy.mode)) {
            (Way::ByMode, Some(Mode::Disabled)) => {
                Pick::Off("ds-identify is told to disable cloud-init".to_owned())
            }
            (Way::NoEntry, _) => Pick::Off("the list of datasources has no entry".to_owned()),
            _ => Pick::Nothing { check: own },
        };
    }
    match taken[..] {
        [] if datasources.is_empty() => Pick::Everything(way),
        [one] if is_own(one) => match (way, own.answer) {
            (Way::Found, Answer::Found) => Pick::Expected(own),
            _ => Pick::Unseen { way, check: own },
        },
        _ if taken.iter().any(|source| is_own(source)) => {
            let of = |source: &&String| findings.iter().find(|finding| finding.source == **source);
            Pick::Several(taken.iter().filter_map(of).cloned().collect())
        }
        _ => Pick::Others { taken: taken.into_iter().cloned().collect(), check: own },
    }
}
