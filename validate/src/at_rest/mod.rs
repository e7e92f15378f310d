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
mod files_read;
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
mod volumes;

use std::cell::OnceCell;

use kernels::Kernels;
use nodekiln_disk::files::FileSystem;
use nodekiln_disk::{Depth, Image};
use nodekiln_words::{Cancel, Class, Failure, Result, Sha256};

use crate::ds_identify::Edition;
use crate::expect::Expectations;
use crate::inspect::{self, FileSystems, Partition};
use crate::own_rules::OwnRules;
use crate::provisioning::Part;
use crate::report::{Judged, Outcome};
use crate::rules::{Facts, Judge, Rule, Verdict};
use crate::tree::fstab::Mount;
use crate::tree::{Root, Tree};
use crate::{Machine, Way};
use volumes::{Found, Volumes};

pub use examined::Examined;
pub use preflight::PREFLIGHT;

/// What a rule says of an image.
#[derive(Debug)]
pub enum Said {
    /// Whether it is as it should be.
    Verdict(Verdict),
    /// It may be, and QEMU lacks what would show it: a guest could only fail, and by no fault of the image.
    NotHere(String),
    /// Nobody here can look, and without that the image is not judged.
    Unasked(String),
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
    /// What its files tell of the cluster that it can become: what a manifest would claim.
    pub told: Expectations,
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
    partitions: Vec<Partition>,
    systems: FileSystems,
    /// Which of them has the operating system, if any has; empty until a rule asks.
    root: OnceCell<Option<Home>>,
    /// Partitions whose file systems cannot be read, and why.
    unreadable: Vec<String>,
    kernels: OnceCell<Kernels>,
    cancel: &'a Cancel,
}

/// The file systems of the operating system, by their places among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home {
    /// That of the root.
    root: usize,
    /// That of /usr, where it has one of its own and no fstab tells so.
    usr: Option<usize>,
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
    let image =
        [container::RULES, files_read::RULES, disk::RULES, data_sources::RULES, drivers::RULES];
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
        let (partitions, systems) = inspect::file_systems(image.disk(), &mut unreadable, cancel)?;
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
            partitions,
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
        Ok(self.home()?.map(|home| home.root).ok_or_else(|| {
            let mut why = vec!["no file system with an os-release can be read".to_owned()];
            why.extend(self.unread().map(|(_, told)| told));
            why.extend(self.unreadable.iter().cloned());
            Verdict::NotProven(why.join("; "))
        }))
    }

    /// Where the operating system is, if it is anywhere.
    fn home(&self) -> Result<Option<Home>> {
        if let Some(known) = self.root.get() {
            return Ok(*known);
        }
        let found = home(&self.systems, &self.partitions)?;
        Ok(*self.root.get_or_init(|| found))
    }

    /// The partitions whose files nobody here reads, with what is known of each.
    fn unread(&self) -> impl Iterator<Item = (u32, String)> {
        self.partitions.iter().filter_map(|part| {
            let content = part.content.as_deref()?;
            let read = part.id.is_some() || [ZEROS, SWAP].contains(&content);
            (!read).then(|| {
                (part.number, format!("partition {} is {content}, which is not read", part.number))
            })
        })
    }

    /// The file systems that make up the image's tree, or why there is none.
    fn files(&self) -> Result<std::result::Result<Root<'_>, Verdict>> {
        let place = match self.root()? {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        };
        match self.mounts(place) {
            Ok(mounts) => Ok(Ok(Root::of(&self.systems[place].1, mounts))),
            Err(failure) => unread(failure).map(Err),
        }
    }

    /// What is mounted below the root, which is at `place`: by its fstab, by whatever name that calls it, and /usr by
    /// the initial RAM disk.
    fn mounts(&self, place: usize) -> Result<Vec<(String, &FileSystem)>> {
        let table = self.systems[place].1.text("/etc/fstab")?.unwrap_or_default();
        let volumes = Volumes::of(self);
        let usr = self.home()?.and_then(|home| home.usr);
        let mut mounts: Vec<_> =
            usr.map(|usr| ("/usr".to_owned(), &self.systems[usr].1)).into_iter().collect();
        for mount in Mount::of(&table).filter(Mount::is_below_root) {
            let Found::Partition(number) = volumes.find(mount.what) else { continue };
            let others = self.systems.iter().enumerate().filter(|(other, _)| *other != place);
            let named = others.map(|(_, system)| system).find(|(other, _)| *other == number);
            mounts.extend(named.map(|(_, files)| (mount.place.to_owned(), files)));
        }
        Ok(mounts)
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
            partitions: self.partitions.clone(),
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

/// What the content of partitions is called that have no files: nothing yet, and memory's.
const ZEROS: &str = "zeros";
const SWAP: &str = "swap";
/// Types of partitions with a root: of x86-64, of arm64, and Flatcar's, which grows.
const ROOTS: [&str; 3] = [
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "3884dd41-8582-4404-b9a8-e9b84f2df50e",
];

/// The file system that has the operating system; where that is one to be mounted at /usr, as Flatcar has it, the one
/// that is its root besides.
fn home(systems: &FileSystems, partitions: &[Partition]) -> Result<Option<Home>> {
    for (place, (_, files)) in systems.iter().enumerate() {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if files.exists(path)? {
                return Ok(Some(Home { root: place, usr: None }));
            }
        }
    }
    for (usr, (_, files)) in systems.iter().enumerate() {
        if !files.exists("/lib/os-release")? {
            continue;
        }
        let is_root = |number: u32| {
            let part = partitions.iter().find(|part| part.number == number);
            part.is_some_and(|part| ROOTS.contains(&part.kind.as_str()))
        };
        let others = || systems.iter().enumerate().filter(|(place, _)| *place != usr);
        let by_type = others().find(|(_, (number, _))| is_root(*number));
        let by_label =
            || others().find(|(_, (_, files))| files.label().eq_ignore_ascii_case("root"));
        if let Some((root, _)) = by_type.or_else(by_label) {
            return Ok(Some(Home { root, usr: Some(usr) }));
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
    let mut judgement =
        Judgement { rules: Vec::new(), obstacles: Vec::new(), told: Expectations::default() };
    let mut root = subject.files()?;
    let examined = match &mut root {
        Ok(root) => subject.examined(root)?,
        Err(why) => Err(why.clone()),
    };
    // What cannot be read of them is told by the rules.
    if let Some(Ok(told)) = examined.as_ref().ok().map(images::told) {
        judgement.told = told;
    }
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
            Said::Unasked(why) => {
                judgement.rules.push(Judged::new(rule, Outcome::Unasked(why)));
                continue;
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
        Said::NotHere(why) | Said::Unasked(why) => Verdict::NotProven(why),
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
