//! Rules on an image as it lies in its file: judged before anything boots, from its bytes alone.
//!
//! Each rule is a record in a table, a pure function of the image and of the machine that its provider has. An
//! image that fails one which says so is not booted: the guest could only tell the same later and worse. Nor is
//! one that QEMU lacks a device or a datasource for.

mod access;
mod cgroups;
mod container;
#[cfg(test)]
pub(crate) mod corpus;
mod credentials;
mod data_sources;
mod detection;
mod disk;
mod drivers;
mod examined;
mod findings;
mod hygiene;
mod images;
mod initrd;
mod kernel_config;
mod kernels;
mod kubelet;
mod node_network;
mod node_settings;
mod node_state;
mod preflight;
mod proxies;
mod runtime;
mod start;
mod tools;

use std::cell::OnceCell;

use kernels::Kernels;
use nodekiln_disk::{Depth, Image};
use nodekiln_words::{Cancel, Class, Failure, Result, Sha256};

use crate::ds_identify::Edition;
use crate::expect::Expectations;
use crate::inspect::{self, FileSystems};
use crate::own_rules::OwnRules;
use crate::provisioning::Part;
use crate::report::{Judged, Outcome};
use crate::rules::{Facts, Judge, Rule, Verdict};
use crate::tree::{Root, Tree};
use crate::{Machine, Way};

pub use examined::Examined;
pub use preflight::PREFLIGHT;

/// What a rule says of an image.
#[derive(Debug)]
pub enum Said {
    /// Whether it is as it should be.
    Verdict(Verdict),
    /// It may be, and QEMU lacks what would show it: a guest could only fail, and by no fault of the image.
    NotHere(String),
}

impl From<Verdict> for Said {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

/// What is known of an image before a boot.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The rules, in order.
    pub rules: Vec<Judged>,
    /// Why it cannot be booted in QEMU, though it may be sound; empty where it can.
    pub obstacles: Vec<String>,
}

/// An image and what is known of it.
pub struct Subject<'a> {
    image: &'a Image,
    /// The machine of this run.
    machine: &'a Machine,
    /// How its guest is told who it is; nothing where nobody here plays its cloud's part.
    part: Option<Part>,
    /// The image's claims.
    expect: Option<&'a Expectations>,
    /// Rules of the user's, besides nodekiln's.
    own: Option<&'a OwnRules>,
    /// Whether its own boot loader is left out.
    kernel_from_outside: bool,
    /// How much of its file is read.
    depth: Depth,
    /// Digest of the disk's bytes as our reader has them, where somebody claimed one to compare it with.
    payload: Option<Payload>,
    systems: FileSystems,
    /// Which of them has the operating system, if any has; empty until a rule asks.
    root: OnceCell<Option<usize>>,
    /// Partitions whose file systems cannot be read, and why.
    unreadable: Vec<String>,
    kernels: OnceCell<Kernels>,
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
    let image = [container::RULES, disk::RULES, data_sources::RULES, drivers::RULES];
    let node = [
        detection::RULES,
        tools::RULES,
        node_settings::RULES,
        node_state::RULES,
        kubelet::RULES,
        node_network::RULES,
        kernel_config::RULES,
        cgroups::RULES,
        proxies::RULES,
        runtime::RULES,
        images::RULES,
        start::RULES,
    ];
    let kept = hygiene::RULES.into_iter().chain(credentials::RULES).chain(access::RULES);
    image.into_iter().chain(node).chain(kept).flatten()
}

impl<'a> Subject<'a> {
    /// The image on `machine`, whose guest learns by this `way` who it is.
    ///
    /// # Errors
    /// When its cloud does not have this way, or somebody asked to stop.
    pub fn new(
        image: &'a Image,
        machine: &'a Machine,
        way: Way,
        payload: Option<Payload>,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let part = match Part::of(&machine.profile, way) {
            Err(failure) if failure.class() == Class::Unsupported => None,
            part => Some(part?),
        };
        let mut unreadable = Vec::new();
        // Without a table there are no partitions; why there is none is for other rules to say.
        let systems = inspect::file_systems(image.disk(), &mut unreadable, cancel)?;
        let (root, kernels) = (OnceCell::new(), OnceCell::new());
        let (expect, own, kernel_from_outside, depth) = (None, None, false, Depth::Bytes);
        Ok(Self {
            image,
            machine,
            part,
            expect,
            own,
            kernel_from_outside,
            depth,
            payload,
            systems,
            root,
            unreadable,
            kernels,
            cancel,
        })
    }

    /// Has it judged by what the image claims of itself.
    pub fn claims(&mut self, expect: Option<&'a Expectations>) {
        self.expect = expect;
    }

    /// Has it judged by rules of the user's too.
    pub fn own_rules(&mut self, own: &'a OwnRules) {
        self.own = Some(own);
    }

    /// Has nothing asked of its boot loader, in whose place a kernel from outside is started.
    pub fn starts_from_outside(&mut self) {
        self.kernel_from_outside = true;
    }

    /// Has only those of its bytes read that tell where the others are.
    pub fn skim(&mut self) {
        self.depth = Depth::Tables;
    }

    /// The place of the file system with the operating system, or why there is none.
    fn root(&self) -> Result<std::result::Result<usize, Verdict>> {
        let place = match self.root.get() {
            Some(known) => *known,
            None => {
                let found = root(&self.systems)?;
                *self.root.get_or_init(|| found)
            }
        };
        Ok(place.ok_or_else(|| {
            let mut why = vec!["no file system with an os-release can be read".to_owned()];
            why.extend(self.unreadable.iter().cloned());
            Verdict::NotProven(why.join("; "))
        }))
    }

    /// The file systems that make up the image's tree, or why there is none.
    fn files(&self) -> Result<std::result::Result<Root<'_>, Verdict>> {
        let place = match self.root()? {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        };
        let others = self.systems.iter().enumerate().filter(|(other, _)| *other != place);
        let others: Vec<_> = others.map(|(_, (_, files))| files).collect();
        match Root::of(&self.systems[place].1, &others) {
            Ok(root) => Ok(Ok(root)),
            Err(failure) => unread(failure).map(Err),
        }
    }

    /// What rules on files are given of this image, whose tree `root` has, or why they cannot be.
    fn examined<'r>(
        &self,
        root: &'r mut Root<'_>,
    ) -> Result<std::result::Result<Examined<'r>, Verdict>> {
        let entries = match root.entries() {
            Ok(entries) => entries,
            Err(failure) => return unread(failure).map(Err),
        };
        let tree = Tree::new(entries, root);
        let facts = match Facts::of(&tree, self.part.map(|part| part.cloud)) {
            Ok(facts) => facts,
            Err(failure) => return unread(failure).map(Err),
        };
        let edition = match Edition::of_image(&tree) {
            Ok(edition) => Ok(edition),
            Err(failure) => Err(unread(failure)?.seen().to_owned()),
        };
        Ok(Ok(Examined {
            edition,
            tree,
            facts,
            expect: self.expect.cloned().unwrap_or_default(),
            claimed: self.expect.is_some(),
            machine: self.machine.clone(),
            part: self.part,
        }))
    }

    /// The kernels whose modules are on the file system `root`.
    fn kernels(&self, root: usize) -> Result<&Kernels> {
        if let Some(known) = self.kernels.get() {
            return Ok(known);
        }
        let found = kernels::of(&self.systems, root, &drivers::wanted(self.machine))?;
        Ok(self.kernels.get_or_init(|| found))
    }
}

/// The place of the file system that has the operating system.
fn root(systems: &FileSystems) -> Result<Option<usize>> {
    for (place, (_, files)) in systems.iter().enumerate() {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if files.exists(path)? {
                return Ok(Some(place));
            }
        }
    }
    Ok(None)
}

/// Judges every rule. Bytes that are damaged where a rule looks are a "no"; what is not read here, such as a
/// compression, is not proven.
///
/// # Errors
/// When the image cannot be read, or somebody asked to stop.
pub fn judge(subject: &Subject) -> Result<Judgement> {
    let mut judgement = Judgement { rules: Vec::new(), obstacles: Vec::new() };
    let mut root = subject.files()?;
    let examined = match &mut root {
        Ok(root) => subject.examined(root)?,
        Err(why) => Err(why.clone()),
    };
    for rule in rules() {
        subject.cancel.check()?;
        let said = match (rule.judge, &examined) {
            (Judge::Image(judge), _) => judge(subject),
            (Judge::Tree(_), Ok(examined)) => judge_files(rule, examined).map(Said::from),
            (Judge::Tree(_), Err(why)) => Ok(why.clone().into()),
            (Judge::Machine(..) | Judge::Pair(..), _) => continue,
        };
        let verdict = match said.or_else(|failure| unread_by(rule, failure))? {
            Said::Verdict(verdict) => rule.severity.weigh(verdict),
            Said::NotHere(why) => {
                judgement.obstacles.push(format!("{}: {why}", rule.id));
                Verdict::NotProven(why)
            }
        };
        judgement.rules.push(Judged::new(rule, Outcome::Judged(verdict)));
    }
    judgement.rules.extend(subject.own.into_iter().flat_map(|own| match &examined {
        Ok(examined) => own.judge_tree(&examined.tree),
        Err(why) => own.without_tree(why),
    }));
    subject.cancel.check()?;
    Ok(judgement)
}

/// What `rule`, which is one on files, says of them; why it is not for them, if it is not.
///
/// # Errors
/// When they cannot be read, or somebody asked to stop.
pub(crate) fn judge_files(rule: &Rule, examined: &Examined) -> Result<Verdict> {
    let Judge::Tree(judge) = rule.judge else {
        return Ok(Verdict::Skipped("is no rule on files".to_owned()));
    };
    if let Some(why) = rule.applies.excludes(&examined.facts) {
        return Ok(Verdict::Skipped(why));
    }
    let said = judge(examined).map(Said::from).or_else(|failure| unread_by(rule, failure))?;
    Ok(match said {
        Said::Verdict(verdict) => rule.severity.weigh(verdict),
        Said::NotHere(why) => Verdict::NotProven(why),
    })
}

/// What it says of an image that it cannot be read: damage is a "no", what nobody reads here is not proven.
fn unread(failure: Failure) -> Result<Verdict> {
    let told = failure.chain().join(": ");
    match failure.class() {
        Class::Input => Ok(Verdict::Fail(told)),
        Class::Unsupported => Ok(Verdict::NotProven(told)),
        _ => Err(failure),
    }
}

/// The same, of what `rule` looks at.
fn unread_by(rule: &Rule, failure: Failure) -> Result<Said> {
    let said = unread(failure).map(Said::from);
    said.map_err(|failure| failure.context(format!("rule {}", rule.id)))
}
