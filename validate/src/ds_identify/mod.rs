//! Which datasource an image's cloud-init takes on a machine, before there is any network: a port of
//! `ds-identify`, the script that cloud-init's systemd generator runs first of all.
//!
//! [`identify`] is the script: a [`MachineView`] and the files of an [`Files`] go in, and what it would write
//! and return comes out, [`Identified`]. [`judge`] holds that against what the machine's cloud has to have,
//! and [`matrix`] has every way in which a provider's machines are told who they are. Nothing is run: an
//! image's own script is code of strangers. The port is compared with Debian's scripts in `tests/it`.
//!
//! Its words are the script's: a datasource is `found`, `maybe` there or not; a policy says what follows from
//! that. Where editions of cloud-init differ, [`Edition`] says which is meant; the functions of the script
//! that a piece stands for are named beside it.
//!
//! Left out is what no Linux guest of a supported cloud has: other kernels than Linux, `virt-what` where systemd
//! is missing, the result of an earlier run in the same boot, Windows around WSL, and variables of the
//! generator's environment but for `VMX_GUESTINFO`.

mod config;
mod edition;
mod image;
mod judge;
mod machine;
mod policy;
mod profile;
mod scene;
mod shell;
mod sources;

use crate::tree::Files;
use nodekiln_words::Result;

pub use edition::Edition;
pub use judge::{Pick, judge, judge_as};
pub use machine::{BlockDevice, Dmi, GuestInfo, MachineView, has_ovf_environment};
pub use policy::{Mode, Policy};
pub use profile::{Case, Channel, expected, matrix};
pub use scene::{Answer, Finding};

use policy::Settings;
use scene::Scene;

/// What the script would write and return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// What it is told to do with what it finds; `None` where it ended before it asked.
    pub policy: Option<Policy>,
    /// How it came to its result.
    pub way: Way,
    /// Each check that was made, in the order of the list.
    pub findings: Vec<Finding>,
    /// The list that cloud-init has to follow, `None` among them; empty where the script gives it none.
    pub datasources: Vec<String>,
    /// The text of `/run/cloud-init/cloud.cfg`; `None` where none is written.
    pub written: Option<String>,
    /// The script's exit code: 0 and cloud-init runs, 1 or 2 and it stays off.
    pub code: u8,
}

/// How the script came to its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `cloud-init=disabled` or the marker file, 25.1.4 and later (`is_disabled`).
    SwitchedOff,
    /// The policy's mode says enabled or disabled.
    ByMode,
    /// Somebody named one datasource, on the kernel's command line or in the script's configuration.
    Named,
    /// `manual-clean` of an earlier boot: what was found then counts.
    ManualClean,
    /// The list has one entry, or one and `None`: that one it is, and nothing is looked for.
    SingleEntry,
    /// The list is made of nothing but commas; the script ends with an error of the shell.
    NoEntry,
    /// What was looked for was found.
    Found,
    /// Nothing was found, and the policy takes what may be there.
    Maybe,
    /// Nothing was found.
    NotFound,
}

/// Exit codes of the script.
const ENABLED: u8 = 0;
const DISABLED: u8 = 1;
const SWITCHED_OFF: u8 = 2;

/// Runs through the script (`_main`).
///
/// # Errors
/// When the image cannot be read, or something has to be looked for that cannot be told here.
pub fn identify(edition: Edition, machine: &MachineView, image: &dyn Files) -> Result<Identified> {
    let command_line = config::command_line(machine);
    if edition > Edition::V22_4 && is_switched_off(&command_line, image)? {
        return Ok(Identified::ended(None, Way::SwitchedOff, SWITCHED_OFF));
    }
    let Settings { policy, named } =
        policy::settings(edition, &machine.architecture, &command_line, image)?;
    let list = config::datasource_list(edition, &command_line, image, &named)?;
    let ended = |way, code| Identified::ended(Some(policy), way, code);
    match policy.mode {
        Mode::Disabled => return Ok(ended(Way::ByMode, DISABLED)),
        Mode::Enabled => return Ok(ended(Way::ByMode, ENABLED)),
        Mode::Search | Mode::Report => {}
    }
    if !named.is_empty() {
        return Ok(ended(Way::Named, ENABLED).taking(&[named.as_str()], &[]));
    }
    if image.is_file("/var/lib/cloud/instance/manual-clean")? {
        return Ok(ended(Way::ManualClean, ENABLED).writing("# manual_cache_clean."));
    }
    let entries: Vec<&str> = shell::words(&list).collect();
    match entries[..] {
        // `$2` is not set, and the shell ends (`set -u`).
        [] => return Ok(ended(Way::NoEntry, SWITCHED_OFF)),
        [one] if edition > Edition::V22_4 => {
            let result = ended(Way::SingleEntry, ENABLED);
            return Ok(result.listing(&[one]).writing(&format!("datasource_list: [ {one} ]")));
        }
        [_] | [_, "None"] => return Ok(ended(Way::SingleEntry, ENABLED).taking(&entries, &[])),
        _ => {}
    }
    let scene = Scene::new(edition, machine, image, command_line, list.clone());
    let findings = entries.iter().map(|entry| sources::check(&scene, entry));
    Ok(weighed(policy, findings.collect::<Result<_>>()?))
}

/// What the check of one datasource says, whether or not the script would come to it.
///
/// # Errors
/// As [`identify`].
pub fn check(
    edition: Edition,
    machine: &MachineView,
    image: &dyn Files,
    source: &str,
) -> Result<Finding> {
    let command_line = config::command_line(machine);
    let list = config::datasource_list(edition, &command_line, image, "")?;
    sources::check(&Scene::new(edition, machine, image, command_line, list), source)
}

/// `is_disabled`. The variable `KERNEL_CMDLINE` of the generator's environment, which it also asks for, is one
/// that nobody sets outside tests.
fn is_switched_off(command_line: &str, image: &dyn Files) -> Result<bool> {
    Ok(image.is_file("/etc/cloud/cloud-init.disabled")?
        || command_line.contains("cloud-init=disabled"))
}

/// What follows from all answers (the end of `_main`).
fn weighed(policy: Policy, findings: Vec<Finding>) -> Identified {
    let with = |answer: Answer| {
        let kept: Vec<&Finding> =
            findings.iter().filter(|finding| finding.answer == answer).collect();
        let sources: Vec<&str> = kept.iter().map(|finding| finding.source.as_str()).collect();
        let settings: Vec<&str> = kept.iter().map(|finding| finding.setting.as_str()).collect();
        (sources, settings)
    };
    let ended = |way, code| Identified::ended(Some(policy), way, code);
    let (found, settings) = with(Answer::Found);
    let (maybe, doubtful) = with(Answer::Maybe);
    let result = if let [first, ..] = found[..] {
        let found = if policy.first_only { &[first] } else { &found[..] };
        ended(Way::Found, ENABLED).taking(found, &settings)
    } else if !maybe.is_empty() && policy.maybe {
        ended(Way::Maybe, ENABLED).taking(&maybe, &doubtful)
    } else {
        let off = policy.mode == Mode::Search && !policy.enabled_without;
        ended(Way::NotFound, if off { DISABLED } else { ENABLED }).recording_nothing()
    };
    Identified { findings, ..result }
}

impl Identified {
    /// A result so far: nothing is written.
    fn ended(policy: Option<Policy>, way: Way, code: u8) -> Self {
        let (findings, datasources) = (Vec::new(), Vec::new());
        Self { policy, way, findings, datasources, written: None, code }
    }

    /// Whether what is written is for cloud-init, and not a report beside it.
    fn is_report(&self) -> bool {
        self.policy.is_some_and(|policy| policy.mode == Mode::Report)
    }

    /// With the list that cloud-init has to follow, unless it is only a report.
    fn listing(mut self, sources: &[&str]) -> Self {
        if !self.is_report() {
            self.datasources = sources.iter().map(|source| (*source).to_owned()).collect();
        }
        self
    }

    /// `write_result` of one text. Only its first line is moved to the right in a report.
    fn writing(self, text: &str) -> Self {
        let lines = match self.is_report() {
            true => format!("di_report:\n  {text}\n"),
            false => format!("{text}\n"),
        };
        Self { written: Some(lines), ..self }
    }

    /// `found`: the list, with `None` last where it is not in it, and the settings that go with it.
    fn taking(self, sources: &[&str], settings: &[&str]) -> Self {
        let mut sources = sources.to_vec();
        if !sources.contains(&"None") {
            sources.push("None");
        }
        let indent = if self.is_report() { "\n  " } else { "\n" };
        let settings = joined(settings);
        let settings = match settings.is_empty() {
            true => String::new(),
            false => format!("{indent}{settings}"),
        };
        let text = format!("datasource_list: [ {} ]{settings}", sources.join(", "));
        self.listing(&sources).writing(&text)
    }

    /// `record_notfound`: a report that the list is empty, where cloud-init does not look.
    fn recording_nothing(self) -> Self {
        let Some(policy) = self.policy else { return self };
        let answer = if policy.enabled_without { "enabled" } else { "disabled" };
        let note = match policy.mode {
            Mode::Search => format!("  # reporting not found result. notfound={answer}.\n"),
            Mode::Report | Mode::Enabled | Mode::Disabled => String::new(),
        };
        Self { written: Some(format!("di_report:\n  datasource_list: [  ]\n{note}")), ..self }
    }
}

/// Settings of several datasources, as the script puts them together: a line end comes before each but where
/// nothing stands before it.
fn joined(settings: &[&str]) -> String {
    settings.iter().fold(String::new(), |mut text, setting| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(setting);
        text
    })
}
