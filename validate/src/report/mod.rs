//! What a run found, as a value; its renderings are beside it.

mod fidelity;
mod host;
mod junit;
mod kept;
mod page;
mod summary;
mod terminal;
mod waiver;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nodekiln_providers::Firmware;
use nodekiln_words::{Class, Failure, Result, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Tier;
use crate::accelerator::Chosen;
use crate::boot_times::BootTimes;
use crate::conformance::Conformance;
use crate::console::Finding;
use crate::evidence;
use crate::metadata::Emulation;
use crate::power_on::PowerOn;
use crate::rules::{Record, Rule, Verdict};
use crate::run::{Cause, Lap};
use crate::traffic::Traffic;

pub(crate) use fidelity::{fidelity, fidelity_of_host};
pub use host::HostSession;
pub use junit::junit;
pub use kept::Kept;
pub use page::page;
pub use summary::summary;
pub use terminal::overview;
pub use waiver::{Waiver, WaiverState};

/// What `schema` says in reports of this form.
pub const SCHEMA: &str = "nodekiln/report-1";

/// Everything that a run found out about an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The form of the report: [`SCHEMA`]; `docs/report.schema.json` describes it.
    pub schema: String,
    /// The artifact; of a host that was judged in place of one, who asked it where: `root@node`.
    pub image: PathBuf,
    /// Name of its provider, where it is known.
    pub provider: Option<String>,
    /// Its format: `raw`, `qcow2`, `vhd`, `vmdk`, `ova`, `tar.gz`; `host` for one.
    pub format: String,
    /// SHA-256 of its bytes, the same before and after; nothing where they were not digested.
    pub sha256: Option<Sha256>,
    /// The tier that was run.
    pub tier: Tier,
    /// The firmware that it was booted by: `bios` or `uefi`.
    #[schemars(with = "String")]
    pub firmware: Firmware,
    /// What ran the guest's processors, and why; nothing where the image was not booted.
    pub accelerator: Option<Chosen>,
    /// When each stage ended.
    pub timeline: Vec<Lap>,
    /// Further times that the image was powered on, besides the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Further>,
    /// Where the seconds of the boot went, by the guest's own account, where it could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_times: Option<BootTimes>,
    /// The rules in order.
    pub rules: Vec<Judged>,
    /// The waivers of the user's rules files, and what became of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// Why QEMU cannot boot it, though it may be sound; it was not booted then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// Why the run did not get to its end, if it did not.
    pub cause: Option<Cause>,
    /// What the console scan found.
    pub findings: Vec<Finding>,
    /// What became of the suite's specs, in the conformance tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conformance: Option<Conformance>,
    /// What the guest asked of its cloud's metadata service, where one answered.
    pub metadata: Option<Metadata>,
    /// What the guest reached for over its network, where it was booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Last lines of the guest's own logs, fetched when something failed.
    pub logs: Vec<Excerpt>,
    /// The console's log, a file of the evidence.
    pub console: PathBuf,
    /// What this run cannot prove about a real cloud.
    pub fidelity: Vec<String>,
    /// How the host was reached, where one was judged in place of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostSession>,
}

/// What another power-on of the image has shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Further {
    /// Which one.
    pub power_on: PowerOn,
    /// Why it did not get to its end, if it did not.
    pub cause: Option<Cause>,
    /// What the scan of its console found.
    pub findings: Vec<Finding>,
    /// The log of its console, a file of the evidence.
    pub console: PathBuf,
}

/// What a guest asked of its cloud's metadata service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// The cloud's word on the command line.
    pub cloud: String,
    /// File of the evidence with every request in order, a line of JSON each.
    pub log: PathBuf,
    /// How often each method, path and status was seen.
    pub requests: BTreeMap<String, u64>,
    /// Why lines are missing in the log, if any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

impl Metadata {
    /// What `emulation` was asked, whose log is in the evidence.
    pub(crate) fn of(emulation: &Emulation) -> Self {
        let server = emulation.server();
        Self {
            cloud: server.instance().cloud.as_str().to_owned(),
            log: evidence::METADATA.into(),
            requests: server.journal().counts(),
            incomplete: None,
        }
    }
}

/// What a guest reached for over its network, its cloud's services included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// File of the evidence with the frames of the guest's card, as libpcap writes them; of those that it exchanged
    /// with the run by SSH and with its cloud's services only the headers.
    pub frames: PathBuf,
    /// Names that it asked name servers for, and how often.
    pub names: BTreeMap<String, usize>,
    /// Whom it spoke to of its own accord, such as `UDP 10.0.2.3:53`: how many connections or datagrams.
    pub peers: BTreeMap<String, usize>,
}

impl Network {
    /// What was seen of `traffic`, whose frames are in the evidence.
    pub(crate) fn of(traffic: &Traffic) -> Self {
        let peers = traffic.peers.iter().map(|(peer, count)| (peer.to_string(), *count));
        Self {
            frames: evidence::NETWORK.into(),
            names: traffic.names.clone(),
            peers: peers.collect(),
        }
    }
}

/// A rule and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The rule.
    #[serde(flatten)]
    pub rule: Record,
    /// The verdict, or why there is none.
    pub outcome: Outcome,
    /// Seconds that the machine took to answer what the rule asks it, where that was measured; rules that ask the same
    /// share them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<f64>,
}

/// A rule's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was judged.
    Judged(Verdict),
    /// It could not be asked; this counts neither for nor against the image.
    Unasked(String),
}

/// The end of one of the guest's logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Excerpt {
    /// Where it is from.
    pub what: String,
    /// Its last lines.
    pub lines: Vec<String>,
    /// The whole log, a file of the evidence.
    pub file: PathBuf,
}

impl Judged {
    /// `rule` with its outcome.
    #[must_use]
    pub fn new(rule: &Rule, outcome: Outcome) -> Self {
        Self::of(rule.record(), outcome)
    }

    /// The rule of this record with its outcome.
    #[must_use]
    pub fn of(rule: Record, outcome: Outcome) -> Self {
        Self { rule, outcome, took: None }
    }

    /// The verdict, where it was judged.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.outcome {
            Outcome::Judged(verdict) => Some(verdict),
            Outcome::Unasked(_) => None,
        }
    }

    /// Whether it says no.
    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Judged(Verdict::Fail(_)))
    }

    /// The same as [`Judged::seen`] in a line for people.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.outcome {
            Outcome::Judged(verdict) => verdict.told(),
            Outcome::Unasked(why) => why.clone(),
        }
    }

    /// What was seen, or why it could not be asked.
    #[must_use]
    pub fn seen(&self) -> &str {
        match &self.outcome {
            Outcome::Judged(verdict) => verdict.seen(),
            Outcome::Unasked(why) => why,
        }
    }
}

impl Report {
    /// Rules that say no.
    pub fn failed(&self) -> impl Iterator<Item = &Judged> {
        self.rules.iter().filter(|rule| rule.failed())
    }

    /// Rules that say no, or warn, and that a waiver lets pass.
    pub fn waived(&self) -> impl Iterator<Item = &Judged> {
        self.rules.iter().filter(|judged| matches!(judged.verdict(), Some(Verdict::Waived(_))))
    }

    /// Rules that could not be asked.
    pub fn unasked(&self) -> impl Iterator<Item = &Judged> {
        self.rules.iter().filter(|rule| matches!(rule.outcome, Outcome::Unasked(_)))
    }

    /// A rule on the image's file that could not be asked, since nobody here reads what it holds.
    fn unread(&self) -> Option<&Judged> {
        self.unasked().find(|judged| judged.rule.tier == Tier::Static)
    }

    /// Whether the image passed: it was booted, got to the end, every rule was asked and none says no.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.obstacles.is_empty()
            && self.cause.is_none()
            && self.failed().next().is_none()
            && self.unasked().next().is_none()
    }

    /// What came of the run, in a few words.
    #[must_use]
    pub fn verdict(&self) -> String {
        let failed: Vec<&str> = self.failed().map(|judged| judged.rule.id.as_str()).collect();
        let waived: Vec<&str> = self.waived().map(|judged| judged.rule.id.as_str()).collect();
        match (self.passed(), failed.is_empty(), &self.cause) {
            (true, ..) if waived.is_empty() => "passed".to_owned(),
            (true, ..) => format!("passed (waived: {})", waived.join(", ")),
            (_, false, _) => format!("FAILED: {}", failed.join(", ")),
            (_, true, Some(_)) => "FAILED: the run did not get to its end".to_owned(),
            (_, true, None) if !self.obstacles.is_empty() => "NOT BOOTED".to_owned(),
            (_, true, None) => match self.unread() {
                Some(judged) => format!("INCOMPLETE: not judged without {}", judged.rule.id),
                None => format!("INCOMPLETE: {} rules could not be asked", self.unasked().count()),
            },
        }
    }

    /// The report as a result, for an exit code.
    ///
    /// # Errors
    /// [`Class::Verdict`] when the image failed; [`Class::Unsupported`] when QEMU cannot boot it, or nobody here reads
    /// its files; [`Class::Io`] when a rule could not be asked of a guest.
    pub fn result(&self) -> Result<()> {
        let image = self.image.display();
        let failed: Vec<&str> = self.failed().map(|judged| judged.rule.id.as_str()).collect();
        if let Some(cause) = &self.cause {
            return Err(Failure::new(Class::Verdict, format!("{image} failed: {}", cause.text)));
        }
        if let Some(first) = self.failed().next() {
            // What is read of a run in a pipeline is often its last lines alone.
            let seen = first.verdict().map_or_else(String::new, Verdict::told);
            let first = if failed.len() == 1 { seen } else { format!("{}: {seen}", first.rule.id) };
            let text = format!("{image} failed: {}", failed.join(", "));
            return Err(Failure::new(Class::Verdict, format!("{text} ({first})")));
        }
        if !self.obstacles.is_empty() {
            let text = format!("{image} cannot be booted here: {}", self.obstacles.join("; "));
            return Err(Failure::new(Class::Unsupported, text).with_help(
                "no rule failed it: boot it in its cloud, or try another `--firmware`",
            ));
        }
        if let Some(judged) = self.unread() {
            let text = format!("{image} is not judged: {}", judged.seen());
            return Err(
                Failure::new(Class::Unsupported, text).with_help(judged.rule.remedy.clone())
            );
        }
        let unasked: Vec<&str> = self.unasked().map(|judged| judged.rule.id.as_str()).collect();
        if !unasked.is_empty() {
            return Err(Failure::io(format!(
                "{image}: could not be checked: {}",
                unasked.join(", ")
            )));
        }
        Ok(())
    }

    /// Seconds from the first power-on to the end of the last stage of all; nothing where none was reached.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        self.timeline.iter().map(|lap| lap.at).reduce(f64::max)
    }

    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::accelerator::Engine;
    use crate::boot_times::UnitTime;
    use crate::deadlines::Stage;
    use crate::rules::Severity;

    /// A report with one rule of each outcome.
    pub(crate) fn sample() -> Report {
        let rule = |id: &str, outcome| Judged {
            took: Some(1.75),
            rule: Record {
                id: id.into(),
                title: "all is well".into(),
                tier: Tier::Boot,
                severity: Severity::Fatal,
                reads: vec!["/etc/x".into()],
                why: "because".into(),
                remedy: "do this".into(),
                source: "somewhere".into(),
                applies: "every image".into(),
                stops_boot: false,
            },
            outcome,
        };
        let lap =
            |power_on, at| Lap { power_on, stage: Stage::Login, at, took: 12.25, failed: false };
        Report {
            schema: SCHEMA.into(),
            image: "/images/node.qcow2".into(),
            provider: Some("qemu".into()),
            format: "qcow2".into(),
            sha256: Some(Sha256::of("node")),
            tier: Tier::Boot,
            firmware: Firmware::Bios,
            accelerator: Some(Chosen {
                engine: Engine::Tcg,
                why: "KVM is unusable: a probe guest hung for 5 s".into(),
                cpu: "max".into(),
                qemu: "7.2.22".into(),
            }),
            timeline: vec![lap(PowerOn::First, 21.5), lap(PowerOn::AfterCut, 40.0)],
            further: vec![Further {
                power_on: PowerOn::AfterCut,
                cause: None,
                findings: vec![],
                console: "console-after-cut.log".into(),
            }],
            boot_times: Some(boot_times()),
            rules: vec![
                rule("multi-user", Outcome::Judged(Verdict::Pass("active".into()))),
                rule("journal", Outcome::Judged(Verdict::Warn("2 lines".into()))),
                rule("swap", Outcome::Judged(Verdict::Fail("swap is on: /dev/zram0".into()))),
                rule("cluster-dns", Outcome::Judged(Verdict::NotProven("no CoreDNS".into()))),
                rule("sysctls", Outcome::Judged(Verdict::Skipped("no claims".into()))),
                rule("hostname", Outcome::Unasked("no answer".into())),
            ],
            waivers: vec![],
            obstacles: vec![],
            cause: None,
            findings: vec![],
            conformance: None,
            metadata: None,
            network: Some(Network {
                frames: evidence::NETWORK.into(),
                names: [("0.debian.pool.ntp.org".to_owned(), 2)].into(),
                peers: [("UDP 10.0.2.3:53".to_owned(), 2)].into(),
            }),
            logs: vec![],
            console: "console.log".into(),
            fidelity: vec!["no cloud".into()],
            host: None,
        }
    }

    fn boot_times() -> BootTimes {
        let unit = |unit: &str, at, took| UnitTime { unit: unit.into(), at, took };
        BootTimes {
            kernel: 2.5,
            initrd: Some(1.5),
            userspace: Some(16.0),
            total: Some(20.0),
            slowest: vec![
                unit("cloud-init.service", 8.5, 6.5),
                unit("containerd.service", 15.0, 3.0),
                unit("ssh.service", 15.5, 1.5),
                unit("chrony.service", 9.0, 1.0),
                unit("dbus.service", 8.0, 0.75),
                unit("apparmor.service", 7.0, 0.5),
            ],
            critical_chain: vec![
                unit("multi-user.target", 19.5, 0.0),
                unit("containerd.service", 15.0, 3.0),
            ],
            ..BootTimes::default()
        }
    }

    #[test]
    fn a_no_a_dead_guest_and_an_unasked_rule_are_three_different_ends() {
        let mut report = sample();
        assert_eq!(report.result().unwrap_err().class(), Class::Verdict);
        report.rules.remove(2);
        assert!(!report.passed());
        assert_eq!(report.result().unwrap_err().class(), Class::Io);
        report.rules.pop();
        assert!(report.passed() && report.result().is_ok());
        report.obstacles.push("no virtio_scsi".into());
        assert!(!report.passed());
        assert_eq!(report.result().unwrap_err().class(), Class::Unsupported);
        report.obstacles.clear();
        report.cause = Some(Cause {
            stage: Some(Stage::Kernel),
            text: "panic".into(),
            console: None,
            tail: vec![],
        });
        assert!(!report.passed());
        assert_eq!(report.result().unwrap_err().class(), Class::Verdict);
    }

    /// The page in the repository, where the tests run.
    const FORM: &str = "../docs/report.schema.json";

    #[test]
    fn the_schema_is_that_of_the_reports() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report)).unwrap() + "\n";
        if std::env::var_os("NODEKILN_BLESS").is_some() {
            fs_err::write(FORM, &schema).unwrap();
        }
        let kept = fs_err::read_to_string(FORM).unwrap_or_default();
        assert!(
            kept == schema,
            "run the test with NODEKILN_BLESS=1 and read what changed in {FORM}"
        );
        let validator = jsonschema::validator_for(&serde_json::from_str(&kept).unwrap()).unwrap();
        assert!(validator.is_valid(&serde_json::to_value(sample()).unwrap()));
        assert!(!validator.is_valid(&serde_json::json!({ "schema": SCHEMA })));
    }

    #[test]
    fn json_is_read_back_as_the_same_report() {
        let report = sample();
        assert_eq!(serde_json::from_str::<Report>(&report.json()).unwrap(), report);
    }
}
