//! Rules on an image as it lies in its file: judged before anything boots, from its bytes alone.
//!
//! Each rule is a record in a table, a pure function of the image and of the machine that its provider has.
//! An image that one of them fails is not booted: the guest could only tell the same later and worse.

mod container;
mod data_sources;
mod drivers;
mod initrd;
mod kernels;

use nodekiln_disk::Image;
use nodekiln_disk::files::FileSystem;
use nodekiln_providers::MachineProfile;
use nodekiln_words::{Cancel, Class, Result, Sha256};

use crate::Tier;
use crate::checks::{Severity, Verdict};
use crate::inspect;
use crate::report::{Judged, Outcome};

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name.
    pub id: &'static str,
    /// How much a "no" weighs.
    pub severity: Severity,
    /// Why it matters.
    pub why: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Judges an image.
    judge: fn(&Subject) -> Result<Verdict>,
}

/// An image and what is known of it.
pub struct Subject<'a> {
    image: &'a Image,
    profile: &'a MachineProfile,
    /// Digest of the disk's bytes as our reader has them, where somebody claimed one to compare it with.
    payload: Option<Payload>,
    systems: Vec<(u32, FileSystem)>,
    /// Partitions whose file systems cannot be read, and why.
    unreadable: Vec<String>,
    cancel: &'a Cancel,
}

/// The digest of a disk's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// What the manifest says.
    pub claimed: Sha256,
    /// What was found.
    pub found: Sha256,
}

/// Every rule, in the order in which they are judged and reported.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [container::RULES, data_sources::RULES, drivers::RULES].into_iter().flatten()
}

impl<'a> Subject<'a> {
    /// The image on a machine like `profile`.
    ///
    /// # Errors
    /// When somebody asked to stop.
    pub fn new(
        image: &'a Image,
        profile: &'a MachineProfile,
        payload: Option<Payload>,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let mut unreadable = Vec::new();
        // Without a table there are no partitions; why there is none is for other rules to say.
        let systems = inspect::file_systems(image.disk(), &mut unreadable, cancel)?;
        Ok(Self { image, profile, payload, systems, unreadable, cancel })
    }

    /// The file system with the operating system, or why there is none.
    fn root(&self) -> Result<std::result::Result<&FileSystem, Verdict>> {
        for (_, files) in &self.systems {
            for path in ["/etc/os-release", "/usr/lib/os-release"] {
                if files.exists(path)? {
                    return Ok(Ok(files));
                }
            }
        }
        let mut why = vec!["no file system with an os-release can be read".to_owned()];
        why.extend(self.unreadable.iter().cloned());
        Ok(Err(Verdict::NotProven(why.join("; "))))
    }
}

/// Judges every rule. Bytes that are damaged where a rule looks are a "no"; what is not read here, such as a
/// compression, is not proven.
///
/// # Errors
/// When the image cannot be read, or somebody asked to stop.
pub fn judge(subject: &Subject) -> Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for rule in rules() {
        subject.cancel.check()?;
        let verdict = match (rule.judge)(subject) {
            Ok(verdict) => verdict,
            Err(failure) => match failure.class() {
                Class::Input => Verdict::Fail(failure.chain().join(": ")),
                Class::Unsupported => Verdict::NotProven(failure.chain().join(": ")),
                _ => return Err(failure.context(format!("rule {}", rule.id))),
            },
        };
        let verdict = match (rule.severity, verdict) {
            (Severity::Advisory, Verdict::Fail(seen)) => Verdict::Warn(seen),
            (_, verdict) => verdict,
        };
        judged.push(Judged {
            id: rule.id.into(),
            tier: Tier::Boot,
            severity: rule.severity,
            why: rule.why.into(),
            source: rule.source.into(),
            outcome: Outcome::Judged(verdict),
        });
    }
    Ok(judged)
}
