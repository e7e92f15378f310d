//! Powers the image on again: a second machine made of the same bytes beside the first one, and the first one
//! after a power cut. Where a cluster was made of the first, the second one joins it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use nodekiln_words::{Class, Event, Result, derive_uuid};

use super::ask::{self, Answers, Late};
use super::meeting::{Joining, Meeting, Role, wire};
use super::stages::{self, Reached};
use super::{Drive, cancelled, end, power_on};
use crate::checks::{self, Context, PORTRAIT, Pair, rules_of};
use crate::console::Finding;
use crate::deadlines::Stage;
use crate::evidence;
use crate::guest::{Life as _, Output};
use crate::keys::{Host, Keys};
use crate::machine::Machine;
use crate::place::Place;
use crate::power_on::PowerOn;
use crate::provisioning::Provisioning;
use crate::qemu::Held;
use crate::report::{Excerpt, Further, Judged, Outcome};
use crate::rules::{Judge, Verdict};
use crate::run::{Broken, Cause, Lap, Running};
use crate::{Request, Tier};

/// Machines that run at the same time, which share the host's processors.
const AT_ONCE: u32 = 2;

/// What the first machine said of itself, or why it is not asked and nothing is powered on besides.
pub(super) type Portrayed = std::result::Result<Output, Outcome>;

/// What another power-on has shown.
pub(super) struct Seen {
    power_on: PowerOn,
    laps: Vec<Lap>,
    cause: Option<Cause>,
    findings: Vec<Finding>,
    logs: Vec<Excerpt>,
    /// What the machine said of itself, where it came up; or why that could not be had.
    portrait: Option<std::result::Result<Output, String>>,
    /// What came of the questions on a second node and on the cluster's end.
    late: Late,
}

impl Seen {
    pub(super) fn laps(&self) -> Vec<Lap> {
        self.laps.clone()
    }

    pub(super) fn logs(&self) -> Vec<Excerpt> {
        self.logs.clone()
    }

    pub(super) fn power_on(&self) -> PowerOn {
        self.power_on
    }

    pub(super) fn late(&self) -> &Late {
        &self.late
    }

    /// As the report tells of it.
    pub(super) fn told(self) -> Further {
        let Self { power_on, cause, findings, .. } = self;
        Further { power_on, cause, findings, console: power_on.file(evidence::CONSOLE).into() }
    }
}

/// What the first machine has, for another start.
pub(super) struct Again<'a> {
    pub(super) held: &'a Held,
    /// Whether its cloud's services are in this thread's network.
    pub(super) services: bool,
    /// How another machine joins the cluster that was made of it, where one was; or why none can.
    pub(super) join: Option<Joining>,
    /// The other end of its wire, where it has one.
    pub(super) link: Option<Arc<OwnedFd>>,
}

/// Asks the first machine what it says of itself, where it is to be compared with others.
pub(super) fn portrait(
    request: &Request,
    reached: &Reached,
    running: &Running,
    answers: &mut Answers,
) -> Result<Portrayed> {
    let skipped = |why: &str| Err(Outcome::Judged(Verdict::Skipped(why.to_owned())));
    if request.tier == Tier::Conformance {
        return Ok(skipped("the machine ran the suite: the tier `boot` powers it on again"));
    }
    if request.quick {
        return Ok(skipped("the image was powered on once: `--quick`"));
    }
    let Some(guest) = reached.guest.as_ref().filter(|_| reached.failure.is_none()) else {
        return Ok(skipped("the machine did not come up whole: see the cause"));
    };
    match running.stage(Stage::System, |_| answers.ask(PORTRAIT, guest, running)) {
        Ok(output) => Ok(Ok(output)),
        Err(failure) if failure.class() == Class::Interrupted => Err(failure),
        Err(failure) => Ok(Err(Outcome::Unasked(failure.chain().join(": ")))),
    }
}

/// Judges the rules on pairs, of which the first machine said `first` or was not asked.
pub(super) fn judge(
    rules: &mut [Judged],
    first: &Portrayed,
    seen: &[Seen],
    context: &Context,
) -> Result<()> {
    for rule in rules_of(context.tier) {
        let Judge::Pair(power_on, _) = rule.judge else { continue };
        let outcome = match (first, seen.iter().find(|seen| seen.power_on == power_on)) {
            (Err(why), _) => why.clone(),
            (Ok(_), None) => Outcome::Judged(Verdict::Skipped(
                "the first machine did not live to the end of the rules: see the cause".to_owned(),
            )),
            (Ok(first), Some(seen)) => match seen.against(first) {
                Ok(pair) => match checks::pair_verdict(rule, power_on, &pair, context) {
                    Some(Ok(verdict)) => Outcome::Judged(verdict),
                    Some(Err(failure)) => Outcome::Unasked(failure.chain().join(": ")),
                    None => continue,
                },
                Err(outcome) => outcome,
            },
        };
        for judged in rules.iter_mut().filter(|judged| judged.rule.id == rule.id) {
            judged.outcome = outcome.clone();
        }
    }
    Ok(())
}

impl Seen {
    /// Both answers, or what came of a machine that gave none.
    fn against<'a>(&'a self, first: &'a Output) -> std::result::Result<Pair<'a>, Outcome> {
        let fail = |text: String| Outcome::Judged(Verdict::Fail(text));
        // A second node that does not join is its own rule's affair, where the machine itself came up.
        let joining = |cause: &&Cause| {
            matches!(cause.stage, Some(Stage::KubeadmJoin | Stage::Joined))
                && self.portrait.is_some()
        };
        if let Some(cause) = self.cause.as_ref().filter(|cause| !joining(cause)) {
            let stage = cause.stage.map_or("the run", |stage| stage.as_str());
            return Err(fail(format!("in stage {stage}: {}", cause.text)));
        }
        match &self.portrait {
            Some(Ok(other)) => Ok(Pair { first, other, console: &self.findings }),
            Some(Err(why)) => Err(Outcome::Unasked(why.clone())),
            None => Err(fail("the machine did not come up".to_owned())),
        }
    }
}

impl Drive<'_> {
    /// Has a clone of the first machine, which is `running`, come up for the first time, and `receive` done with the first
    /// one, which may wait for the clone; then cuts the first one's power and powers it on again, where it has lived so far.
    ///
    /// A control plane that starts anew while another machine boots on the same processors may not come up at all: its
    /// kubelet ends an API server that is slow to answer. So the first machine of a cluster is cut once it has received the
    /// other one.
    pub(super) fn beside_a_clone(
        &self,
        again: &Again,
        running: &Running,
        receive: impl FnOnce(&Role) -> std::result::Result<(), Broken>,
    ) -> std::result::Result<Vec<Seen>, Broken> {
        let begun = running.begun();
        let meeting = Meeting::default();
        let join = again.join.as_ref().and_then(|join| join.as_ref().ok());
        running.share(AT_ONCE);
        let (first, clone) = std::thread::scope(|scope| {
            let meeting = &meeting;
            let role = join.map_or(Role::Alone, |join| Role::Second(join, meeting));
            let far = again.link.clone();
            let clone = scope.spawn(move || self.clone_of(begun, far, &role));
            let role = join.map_or(Role::Alone, |_| Role::First(meeting));
            let received = receive(&role);
            drop(role); // whatever came of it, the clone is not kept waiting
            let first = received.and_then(|()| {
                let alive = running.check().is_ok();
                alive.then(|| self.after_cut(again, running)).transpose()
            });
            (first, clone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        Ok(first?.into_iter().chain([clone?]).collect())
    }

    /// Cuts the power of the machine that is `running`, and powers it on again with the disk and the variables of its
    /// firmware as the cut left them, in the same cloud.
    fn after_cut(&self, again: &Again, running: &Running) -> std::result::Result<Seen, Broken> {
        running.cut()?;
        let power = PowerOn::AfterCut;
        let mut boot = self.boot(power, Some(running.begun()), again.services);
        boot.deadlines = boot.deadlines.shared(AT_ONCE);
        // The machine is the same, and has a card for the wire; nobody is at its other end any more.
        let (near, _far) = again.link.as_ref().map(|_| wire()).transpose()?.unzip();
        boot.link = near;
        let mut seen =
            self.visit(&power_on(&boot, again.held)?, &Role::Alone, again.join.is_some())?;
        if let Some(Err(outcome)) = &again.join {
            seen.late.extend(ask::unjoined(self.request.tier, outcome));
        }
        Ok(seen)
    }

    /// Another machine of the same provider, from the same bytes, which its cloud tells another name and id.
    fn clone_of(
        &self,
        begun: Instant,
        link: Option<Arc<OwnedFd>>,
        role: &Role,
    ) -> std::result::Result<Seen, Broken> {
        let Self { request, subject, chosen, progress, cancel, .. } = *self;
        let place = Place::CLONE;
        let seed = derive_uuid(self.machine.seed, "clone");
        let machine = Machine { seed, ..self.machine.clone() };
        let (artifact, part) = (subject.artifact, subject.part);
        let keys = Keys::generate(Host::own())?;
        let bootstrap = role.bootstrap();
        let given = Provisioning::draw(&machine, place, artifact, part, &keys, bootstrap)?;
        let emulation = given.serve(&request.out, PowerOn::Clone)?;
        let plan = None;
        let clone =
            Drive { request, subject, machine, place, plan, chosen, keys, given, progress, cancel };
        let seen = match &emulation {
            None => clone.first_time(begun, false, link, role)?,
            Some(emulation) => emulation.inside(|| clone.first_time(begun, true, link, role))??,
        };
        if let Some(emulation) = &emulation {
            // What became of the machine holds whether its log is whole or not.
            if let Err(failure) = emulation.server().journal().finish() {
                progress.event(Event::Warning(failure.chain().join(": ")));
            }
        }
        Ok(seen)
    }

    fn first_time(
        &self,
        begun: Instant,
        services: bool,
        link: Option<Arc<OwnedFd>>,
        role: &Role,
    ) -> std::result::Result<Seen, Broken> {
        let scratch = evidence::scratch(&self.request.out)?;
        let held = Held::of(self.disks(scratch.path())?)?;
        let mut boot = self.boot(PowerOn::Clone, Some(begun), services);
        boot.deadlines = boot.deadlines.shared(AT_ONCE);
        boot.link = link;
        boot.beside = role.beside();
        self.visit(&power_on(&boot, &held)?, role, false)
    }

    /// Has a machine come to its normal state, asks it what it says of itself, has it meet the other one in its `role`,
    /// ends the `cluster` where it is the first of one, and powers it off.
    fn visit(
        &self,
        running: &Running,
        role: &Role,
        cluster: bool,
    ) -> std::result::Result<Seen, Broken> {
        let reached = stages::reach(running, &self.keys, role.bootstrap(), &mut |_| Ok(()));
        cancelled(&reached.failure)?;
        running.host()?;
        let mut cause =
            reached.failure.as_ref().map(|(stage, failure)| running.cause(Some(*stage), failure));
        let (mut portrait, mut late, mut logs) = (None, Late::new(), Vec::new());
        if let Some(guest) = &reached.guest {
            let ask = |_| match Answers::default().ask(PORTRAIT, guest, running) {
                Err(failure) if failure.class() == Class::Interrupted => Err(failure),
                answer => Ok(answer.map_err(|failure| failure.chain().join(": "))),
            };
            portrait = Some(running.stage(Stage::System, ask)?);
            running.host()?;
            let tier = self.request.tier;
            let (met, lost) = self.meet(guest, running, role, cause.as_ref())?;
            late.extend(met);
            cause = cause.or(lost);
            let context = self.context();
            let joined = role.part(ask::sound(&late, &context));
            if cluster && cause.is_none() {
                let ask = |_| ask::ends(guest, running, tier, &self.given.told.node);
                late.extend(running.stage(Stage::Rules, ask)?);
                running.host()?;
            }
            if cause.is_some() || !joined || !ask::sound(&late, &context) {
                logs = ask::fetch_logs(guest, &self.request.out, running)?;
            }
            let ended = end(running)?;
            running.host()?;
            let off = |failure| running.cause(Some(Stage::PowerOff), &failure);
            cause = cause.or_else(|| ended.map(off));
        }
        let (laps, findings) = (running.laps(), running.findings());
        Ok(Seen { power_on: running.which(), laps, cause, findings, logs, portrait, late })
    }
}
