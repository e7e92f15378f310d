//! Drives one guest from power on to power off and asks the rules in between.

mod ask;
mod further;
mod meeting;
mod stages;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub(crate) use self::ask::LOGS;
use self::ask::{Answers, Late};
use self::further::Seen;
use self::meeting::{Role, wire};
use self::stages::Reached;
use nodekiln_words::{Cancel, Class, Event, Failure, Progress, Result, ResultExt as _};

use crate::accelerator::Chosen;
use crate::artifact::{Artifact, Opened};
use crate::boot_times::BootTimes;
use crate::checks::{Context, is_own};
use crate::conformance::{self, Conformance, Ended};
use crate::console::Finding;
use crate::deadlines::Deadlines;
use crate::deadlines::Stage;
use crate::guest::Guest;
use crate::guest::Life as _;
use crate::keys::{Host, Keys};
use crate::machine::Machine;
use crate::metadata::Emulation;
use crate::place::Place;
use crate::power_on::PowerOn;
use crate::provisioning::{self, Part, Provisioning};
use crate::qemu::{Disks, Held, arguments};
use crate::report::{Excerpt, Further, Judged, Metadata, Network};
use crate::run::{Boot, Broken, Cause, Lap, Running};
use crate::seed::{Bootstrap, KubeadmPlan};
use crate::traffic::Traffic;
use crate::{Expectations, Request, Tier, evidence, program};

/// What one boot has shown.
#[derive(Default)]
pub(crate) struct Outlook {
    pub(crate) laps: Vec<Lap>,
    pub(crate) boot_times: Option<BootTimes>,
    pub(crate) rules: Vec<Judged>,
    pub(crate) cause: Option<Cause>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) logs: Vec<Excerpt>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) further: Vec<Further>,
    pub(crate) network: Option<Network>,
    pub(crate) conformance: Option<Conformance>,
}

pub(crate) fn drive(
    request: &Request,
    subject: &Subject,
    plan: Option<&KubeadmPlan>,
    chosen: &Chosen,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> std::result::Result<Outlook, Broken> {
    // What a second machine is compared with has to be the machine's own.
    let compared = !request.quick && request.tier != Tier::Conformance;
    let keys = Keys::generate(if compared { Host::own() } else { Host::given()? })?;
    let (machine, place) = (request.machine.clone(), Place::FIRST);
    let (artifact, part) = (subject.artifact, subject.part);
    let given =
        Provisioning::draw(&machine, place, artifact, part, &keys, plan.map(Bootstrap::Init))?;
    let emulation = given.serve(&request.out, PowerOn::First)?;
    let drive =
        Drive { request, subject, machine, place, plan, chosen, keys, given, progress, cancel };
    let outlook = match &emulation {
        None => drive.run(None),
        // QEMU's network, and so the port that leads to the guest, is that of the services.
        Some(emulation) => emulation.inside(|| drive.run(Some(emulation)))?,
    };
    let written = match &emulation {
        None => Ok(()),
        Some(emulation) => emulation.server().journal().finish(),
    };
    with_log(outlook, written, progress)
}

/// What was seen, told how the log of requests was `written`: what became of the guest holds whether that is whole or
/// not.
fn with_log(
    outlook: std::result::Result<Outlook, Broken>,
    written: Result<()>,
    progress: &dyn Progress,
) -> std::result::Result<Outlook, Broken> {
    let mut outlook = outlook?;
    if let Err(failure) = written {
        let why = failure.chain().join(": ");
        progress.event(Event::Warning(why.clone()));
        if let Some(metadata) = &mut outlook.metadata {
            metadata.incomplete = Some(why);
        }
    }
    Ok(outlook)
}

/// What is known of an image that is not booted: why the rules on a running guest are not judged.
pub(crate) fn not_booted(request: &Request) -> Outlook {
    let mut rules = ask::not_booted(request.tier);
    rules.extend(request.own.without_guest(request.tier, ask::NOT_BOOTED));
    Outlook { rules, ..Outlook::default() }
}

/// What is booted.
pub(crate) struct Subject<'a> {
    pub(crate) artifact: &'a Artifact,
    pub(crate) opened: &'a Opened,
    pub(crate) part: Part,
    pub(crate) specs: Option<&'a conformance::Plan>,
    /// What it claims, or what its files tell where nothing does.
    pub(crate) expect: &'a Expectations,
}

/// One machine of the run.
struct Drive<'a> {
    request: &'a Request,
    subject: &'a Subject<'a>,
    machine: Machine,
    place: Place,
    plan: Option<&'a KubeadmPlan>,
    chosen: &'a Chosen,
    keys: Keys,
    given: Provisioning,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

/// The machine of the first power-on, as it came up.
#[derive(Clone, Copy)]
struct First<'a> {
    running: &'a Running<'a>,
    reached: &'a Reached<'a>,
    context: &'a Context<'a>,
}

/// What it answered.
struct Heard {
    boot_times: Option<BootTimes>,
    rules: Vec<Judged>,
    cause: Option<Cause>,
    logs: Vec<Excerpt>,
    conformance: Option<Conformance>,
    late: Late,
}

impl Drive<'_> {
    fn run(&self, emulation: Option<&Emulation>) -> std::result::Result<Outlook, Broken> {
        // The overlay grows by gigabytes, so it lies in the output folder.
        let scratch = evidence::scratch(&self.request.out)?;
        let held = Held::of(self.disks(scratch.path())?)?; // 5. overlay, seed and medium
        let mut boot = self.boot(PowerOn::First, None, emulation.is_some());
        boot.frames = Some(scratch.path().join(evidence::FRAMES));
        // A machine that another one is to join has the wire to it from the start.
        let joined = self.plan.is_some() && !self.request.quick;
        let (near, far) = joined.then(wire).transpose()?.unzip();
        boot.link = near;
        let running = power_on(&boot, &held)?; // 6. boot
        self.watch(&running, emulation, &held, far)
    }

    /// What this machine is powered on with. `begun` is when the run's first power-on began, if it was another one.
    fn boot<'b>(&'b self, power_on: PowerOn, begun: Option<Instant>, services: bool) -> Boot<'b> {
        let Self { request, chosen, .. } = self;
        Boot {
            power_on,
            begun,
            place: self.place,
            machine: &self.machine,
            chosen,
            deadlines: Deadlines::new(chosen.engine, request.patience),
            frames: None,
            out: &request.out,
            services,
            link: None,
            beside: None,
            kernel: request.kernel.as_ref(),
            progress: self.progress,
            cancel: self.cancel,
        }
    }

    /// Waits for the guest, has the rules asked, powers it off, or cuts its power and on again. A fault of what it runs on is looked for
    /// after each of these, since it looks like one of the guest.
    fn watch(
        &self,
        running: &Running,
        emulation: Option<&Emulation>,
        held: &Held,
        link: Option<Arc<OwnedFd>>,
    ) -> std::result::Result<Outlook, Broken> {
        let Self { request, plan, .. } = self;
        let mut answers = Answers::default();
        let mut meanwhile = |guest: &Guest| answers.fetch(guest, running, request.tier);
        let reached = stages::reach(running, &self.keys, plan.map(Bootstrap::Init), &mut meanwhile); // 7. wait
        cancelled(&reached.failure)?;
        running.host()?;
        let observed = provisioning::observed(emulation);
        let (findings, traffic) = (running.findings(), self.traffic(running));
        let context = Context {
            observed: observed.as_ref(),
            console: &findings,
            traffic: traffic.as_ref(),
            ..self.context()
        };
        let portrait = further::portrait(request, &reached, running, &mut answers)?;
        let first = First { running, reached: &reached, context: &context };
        let mut heard = self.hear(&first, &mut answers)?; // 8. the rules
        let seen = match &portrait {
            Ok(_) if running.check().is_ok() => {
                let cluster = plan.filter(|_| reached.cluster());
                let join =
                    cluster.map(|plan| meeting::token(&reached, running, plan)).transpose()?;
                let again = further::Again { held, services: emulation.is_some(), join, link };
                // 9. a clone, and a power cut
                let meet = |role: &Role| self.receive(&first, &mut heard, role);
                let seen = self.beside_a_clone(&again, running, meet)?;
                if seen.iter().all(|seen| seen.power_on() != PowerOn::AfterCut) {
                    self.switch_off(running, &mut heard)?; // it had died
                }
                seen
            }
            _ => {
                if let Err(why) = &portrait {
                    heard.late.extend(ask::unjoined(request.tier, why));
                }
                if let Some(guest) = &reached.guest {
                    if plan.is_some() && reached.cluster() && running.check().is_ok() {
                        let ended = self.end_cluster(guest, running, &mut heard.logs)?;
                        heard.late.extend(ended);
                    }
                    self.switch_off(running, &mut heard)?; // 9. power off
                }
                Vec::new()
            }
        };
        let (findings, observed) = (running.findings(), provisioning::observed(emulation));
        let traffic = self.traffic(running);
        let (observed, reached_for) = (observed.as_ref(), traffic.as_ref());
        let conformance = heard.conformance.as_ref();
        let last =
            Context { console: &findings, observed, traffic: reached_for, conformance, ..context };
        ask::judge_again(&mut heard.rules, &last);
        further::judge(&mut heard.rules, &portrait, &seen, &last)?;
        for late in seen.iter().map(Seen::late).chain([&heard.late]) {
            ask::judge_late(&mut heard.rules, late, &last);
        }
        let network = traffic.map(|traffic| self.keep(running, &traffic, emulation)).transpose()?;
        let metadata = emulation.map(Metadata::of);
        let laps = running.laps().into_iter().chain(seen.iter().flat_map(Seen::laps)).collect();
        let Heard { boot_times, rules, cause, mut logs, conformance, .. } = heard;
        logs.extend(seen.iter().flat_map(Seen::logs));
        let further = seen.into_iter().map(Seen::told).collect();
        Ok(Outlook {
            laps,
            boot_times,
            rules,
            cause,
            findings,
            logs,
            metadata,
            network,
            further,
            conformance,
        })
    }

    /// Has the rules asked of the first machine, and the specs run.
    fn hear(&self, first: &First, answers: &mut Answers) -> std::result::Result<Heard, Broken> {
        let Self { request, .. } = self;
        let First { running, reached, context } = *first;
        let mut cause =
            reached.failure.as_ref().map(|(stage, failure)| running.cause(Some(*stage), failure));
        let mut rules = match &reached.guest {
            Some(guest) => {
                let cluster = reached.cluster();
                let ask = |_| {
                    let mut rules = ask::ask_all(guest, context, running, cluster, answers)?;
                    rules.extend(ask::ask_own(guest, request, running, cluster)?);
                    Ok(rules)
                };
                running.stage(Stage::Rules, ask)?
            }
            None => {
                let mut rules = ask::unreachable(context);
                rules.extend(request.own.without_guest(request.tier, ask::UNREACHABLE));
                rules
            }
        };
        running.host()?;
        let boot_times = match &reached.guest {
            Some(guest) if running.check().is_ok() => {
                running.stage(Stage::System, |_| self.boot_times(guest, running))?
            }
            _ => None,
        };
        let conformance = self.specs(reached.guest.as_ref(), running, &mut cause)?; // the suite
        let context = Context { conformance: conformance.as_ref(), ..*context };
        ask::judge_again(&mut rules, &context);
        let failed = cause.is_some() || rules.iter().any(|rule| !ask::fine(rule));
        let logs = match &reached.guest {
            Some(guest) if failed && running.check().is_ok() => {
                ask::fetch_logs(guest, &request.out, running)?
            }
            _ => Vec::new(),
        };
        Ok(Heard { boot_times, rules, cause, logs, conformance, late: Late::new() })
    }

    /// Has the first machine receive another one in its `role`, and adds what it says of that to what was `heard`.
    fn receive(
        &self,
        first: &First,
        heard: &mut Heard,
        role: &Role,
    ) -> std::result::Result<(), Broken> {
        let First { running, reached, context } = *first;
        let Some(guest) = &reached.guest else { return Ok(()) };
        let (late, lost) = self.meet(guest, running, role, heard.cause.as_ref())?;
        let sound = role.part(ask::sound(&late, context) && lost.is_none());
        heard.cause = heard.cause.take().or(lost);
        heard.late.extend(late);
        if !sound && heard.logs.is_empty() && running.check().is_ok() {
            heard.logs = ask::fetch_logs(guest, &self.request.out, running)?;
        }
        Ok(())
    }

    /// Has a machine meet the other one in its `role`: what came of the questions that it answers then, and what ended it
    /// meanwhile.
    fn meet(
        &self,
        guest: &Guest,
        running: &Running,
        role: &Role,
        cause: Option<&Cause>,
    ) -> std::result::Result<(Late, Option<Cause>), Broken> {
        match role.meet(guest, running, self.request.tier, &self.given.told.node, cause) {
            Ok(answers) => Ok((answers, None)),
            Err(failure) => {
                let ended = Some((Stage::Joined, failure));
                cancelled(&ended)?;
                running.host()?;
                let told = |(stage, failure)| running.cause(Some(stage), &failure);
                Ok((Late::new(), ended.map(told)))
            }
        }
    }

    /// Powers a machine off; what goes wrong with that is the cause, where there is no other.
    fn switch_off(&self, running: &Running, heard: &mut Heard) -> std::result::Result<(), Broken> {
        let ended = end(running)?;
        running.host()?;
        let late = |failure| running.cause(Some(Stage::PowerOff), &failure);
        heard.cause = heard.cause.take().or_else(|| ended.map(late));
        Ok(())
    }

    /// Ends the cluster of a machine that is not powered on again; fetches its logs where that goes wrong and they were
    /// not before.
    fn end_cluster(
        &self,
        guest: &Guest,
        running: &Running,
        logs: &mut Vec<Excerpt>,
    ) -> std::result::Result<Late, Broken> {
        let Self { request, given, .. } = self;
        let ask = |_| ask::ends(guest, running, request.tier, &given.told.node);
        let late = running.stage(Stage::Rules, ask)?;
        running.host()?;
        if logs.is_empty() && !ask::sound(&late, &self.context()) {
            *logs = ask::fetch_logs(guest, &request.out, running)?;
        }
        Ok(late)
    }

    /// What is known besides answers where nothing was seen of the machine from without.
    fn context(&self) -> Context<'_> {
        Context {
            expect: self.subject.expect,
            claimed: self.request.expect.is_some(),
            tier: self.request.tier,
            told: &self.given.told,
            observed: None,
            console: &[],
            traffic: None,
            asked: None,
            conformance: None,
        }
    }

    /// What the guest has reached for; a rule tells where that cannot be read.
    fn traffic(&self, running: &Running) -> Option<Traffic> {
        let traffic = running.traffic();
        let warn = |failure: Failure| {
            self.progress.event(Event::Warning(failure.chain().join(": ")));
        };
        traffic.map_err(warn).ok()
    }

    /// Keeps the frames of the guest's network as evidence, without what it was told by its cloud's services.
    fn keep(
        &self,
        running: &Running,
        traffic: &Traffic,
        emulation: Option<&Emulation>,
    ) -> Result<Network> {
        let cloud = emulation.map(|_| self.given.told.cloud.services()).unwrap_or_default();
        let services: Vec<_> =
            cloud.into_iter().map(|(address, port, _)| (address, port)).collect();
        let path = self.request.out.join(evidence::NETWORK);
        running.keep_frames(&path, |peer| is_own(peer, &services))?;
        Ok(Network::of(traffic))
    }

    /// Where the boot's seconds went, where the guest can tell; that it cannot is no fault of the image.
    fn boot_times(&self, guest: &Guest, running: &Running) -> Result<Option<BootTimes>> {
        match ask::boot_times(guest, running) {
            Ok(times) => Ok(Some(times)),
            Err(failure) if failure.class() == Class::Interrupted => Err(Failure::interrupted()),
            Err(failure) => {
                let why = failure.chain().join(": ");
                self.progress.event(Event::Note(format!("no times of the boot: {why}")));
                Ok(None)
            }
        }
    }

    /// Runs the specs of the conformance tier where the guest came up; what ends them is the cause.
    fn specs(
        &self,
        guest: Option<&Guest>,
        running: &Running,
        cause: &mut Option<Cause>,
    ) -> std::result::Result<Option<Conformance>, Broken> {
        let Some(specs) = self.subject.specs else { return Ok(None) };
        let mut found = specs.nothing_yet();
        if let (Some(guest), None) = (guest, &cause) {
            let stage = Stage::Conformance;
            let ran = running.stage(stage, |_| match specs.run(guest, running, &mut found) {
                Ok(()) => Ok(None),
                Err(Ended::Host(failure)) => Ok(Some(failure)), // says nothing about the image
                Err(Ended::Guest(failure)) => Err(failure),
            });
            if let Ok(Some(failure)) = ran {
                return Err(failure.into());
            }
            if let Err(failure) = ran {
                let ended = Some((stage, failure));
                cancelled(&ended)?;
                running.host()?;
                *cause = ended.map(|(stage, failure)| running.cause(Some(stage), &failure));
            }
        }
        Ok(Some(found))
    }

    fn disks(&self, folder: &Path) -> Result<Disks> {
        let place = |name: &str| folder.join(name);
        let overlay = place(evidence::OVERLAY_DISK);
        self.subject.opened.overlay(&overlay)?;
        let attach = |bytes: &Option<Vec<u8>>, name: &str| {
            let Some(bytes) = bytes else { return Ok(None) };
            let medium = place(name);
            fs_err::write(&medium, bytes).or_io(|| "write what the guest is told".into())?;
            Ok::<_, Failure>(Some(medium))
        };
        let seed = attach(&self.given.seed, evidence::SEED)?;
        let cd = attach(&self.given.cd, evidence::MEDIUM)?;
        let own = || uefi(place(evidence::VARIABLES));
        let uefi = arguments::needs_ovmf(&self.machine).then(own).transpose()?;
        let kit = self.subject.specs.map(|specs| specs.disk().to_owned());
        Ok(Disks { overlay, seed, cd, kit, uefi })
    }
}

/// Powers a machine on. A QEMU that ended at once puts the engine in doubt.
fn power_on<'a>(boot: &Boot<'a>, held: &Held) -> std::result::Result<Running<'a>, Broken> {
    Running::power_on(boot, held.disks())
        .map_err(|failure| Broken { engine: failure.class() == Class::Unsupported, failure })
}

/// Powers a guest off that had come up; what went wrong is a finding about the guest. One that had
/// not is ended without being asked.
fn end(running: &Running) -> Result<Option<Failure>> {
    if let Err(failure) = running.check() {
        return if failure.class() == Class::Interrupted {
            Err(failure)
        } else {
            Ok(Some(failure))
        };
    }
    match running.power_off() {
        Err(failure) if failure.class() == Class::Interrupted => Err(failure),
        result => Ok(result.err()),
    }
}

fn cancelled(failure: &Option<(Stage, Failure)>) -> Result<()> {
    match failure {
        Some((_, failure)) if failure.class() == Class::Interrupted => Err(Failure::interrupted()),
        _ => Ok(()),
    }
}

fn uefi(variables: PathBuf) -> Result<(PathBuf, PathBuf)> {
    let (code, template) = program::ovmf()?;
    fs_err::copy(&template, &variables).or_io(|| "copy the UEFI variable store".into())?;
    Ok((code, variables))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nodekiln_words::Silent;

    use super::*;

    #[test]
    fn a_log_that_is_not_whole_hides_nothing_of_the_guest() {
        let full = || Err(Failure::io("cannot write the log of requests"));
        let died = Broken { failure: Failure::io("QEMU died"), engine: true };
        let broken = with_log(Err(died), full(), &Silent).err().unwrap();
        assert!(broken.engine && broken.failure.to_string() == "QEMU died", "{broken:?}");
        let seen = |written| {
            let metadata = Metadata {
                cloud: "aws".to_owned(),
                log: PathBuf::new(),
                requests: BTreeMap::new(),
                incomplete: None,
            };
            let outlook = Outlook { metadata: Some(metadata), ..Outlook::default() };
            with_log(Ok(outlook), written, &Silent).ok().unwrap().metadata.unwrap().incomplete
        };
        assert_eq!(seen(full()).as_deref(), Some("cannot write the log of requests"));
        assert_eq!(seen(Ok(())), None);
    }
}
