//! One boot: QEMU, its console and the time line, and what it means for the guest to be alive.

mod broken;

use std::cell::{Cell, RefCell};
use std::io::{BufWriter, Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodekiln_words::{Cancel, Class, Event, Failure, Progress, Result, ResultExt as _, TaskId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accelerator::Chosen;
use crate::console::{Console, Finding, Reached};
use crate::deadlines::{Deadlines, Stage};
use crate::evidence;
use crate::guest::Life;
use crate::machine::Machine;
use crate::place::Place;
use crate::power_on::PowerOn;
use crate::printable::printable;
use crate::qemu::arguments::{DirectKernel, Setup, Wires};
use crate::qemu::{Disks, Qemu, Qmp};
use crate::screen;
use crate::traffic::{self, Peer, Traffic};

pub use broken::Broken;
use broken::OWN_STATES;

/// After a fatal line the guest may go on for this long: what follows often tells more.
const LAST_WORDS: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_millis(100);
/// How often QEMU is asked whether the guest runs at all.
const LOOK: Duration = Duration::from_secs(1);

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lap {
    /// Which power-on it belongs to.
    #[serde(default)]
    pub power_on: PowerOn,
    /// The stage.
    pub stage: Stage,
    /// Seconds since the run's first power-on at which it ended.
    pub at: f64,
    /// Seconds it took.
    pub took: f64,
    /// Whether it did not come to what it was to end with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// Why a guest is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The stage that did not end.
    pub stage: Option<Stage>,
    /// What happened, in one line.
    pub text: String,
    /// The console line that tells the cause, where one does.
    pub console: Option<Finding>,
    /// The last lines of the console.
    pub tail: Vec<String>,
}

/// What a boot needs besides its disks.
pub struct Boot<'a> {
    /// Which machine of the run it is.
    pub place: Place,
    /// Which power-on it is.
    pub power_on: PowerOn,
    /// When the run's first power-on began; `None` for that one itself.
    pub begun: Option<Instant>,
    /// The machine.
    pub machine: &'a Machine,
    /// What runs it.
    pub chosen: &'a Chosen,
    /// How long it may take.
    pub deadlines: Deadlines,
    /// File for the frames that pass the guest's card, where they are looked at; it loses its name at once.
    pub frames: Option<PathBuf>,
    /// Folder that keeps console and messages.
    pub out: &'a Path,
    /// Whether this thread's network is that of the services of the guest's cloud.
    pub services: bool,
    /// Its end of a wire to another machine of the run, a stream socket.
    pub link: Option<Arc<OwnedFd>>,
    /// What ends the machine's part of the run besides its own end.
    pub beside: Option<&'a dyn Life>,
    /// A kernel that replaces the disk's boot loader, in tests.
    pub kernel: Option<&'a DirectKernel>,
    /// Told of each stage.
    pub progress: &'a dyn Progress,
    /// Ends the run.
    pub cancel: &'a Cancel,
}

/// A running guest.
pub struct Running<'a> {
    power_on: PowerOn,
    qemu: Qemu,
    qmp: RefCell<Qmp>,
    console: RefCell<Console>,
    laps: RefCell<Vec<Lap>>,
    started: Instant,
    looked: Cell<Instant>,
    port: u16,
    screen: PathBuf,
    /// What passes the guest's card, where it is looked at: QEMU writes it, and the file has no name any more.
    frames: Option<fs_err::File>,
    deadlines: Cell<Deadlines>,
    progress: &'a dyn Progress,
    /// The stage that is told to `progress`, and when something was last told of it.
    told: Cell<Option<(TaskId, Instant)>>,
    /// What ends this machine's part of the run besides, such as the end of the one that it was to join.
    beside: Option<&'a dyn Life>,
    cancel: &'a Cancel,
}

/// How often is told what a stage waits for.
const TELL: Duration = Duration::from_secs(10);

/// The console's log within the output folder.
#[must_use]
pub fn console_path(out: &Path) -> PathBuf {
    out.join(evidence::CONSOLE)
}

impl<'a> Running<'a> {
    /// Powers the machine on.
    ///
    /// # Errors
    /// When QEMU is missing, refuses its arguments or cannot be reached.
    pub fn power_on(boot: &Boot<'a>, disks: &Disks) -> Result<Self> {
        let console = boot.out.join(boot.power_on.file(evidence::CONSOLE));
        fs_err::write(&console, b"").or_io(|| "make the console's log".into())?;
        let (qemu, qmp, port) = start(boot, disks, &console)?;
        let frames = boot.frames.as_deref().map(|path| {
            let file = fs_err::File::open(path).or_io(|| "open the guest's frames".into());
            let _ = fs_err::remove_file(path); // this run's keys are in them
            file
        });
        let frames = frames.transpose()?;
        Ok(Self {
            power_on: boot.power_on,
            qemu,
            qmp: RefCell::new(qmp),
            console: RefCell::new(Console::follow(&console)),
            laps: RefCell::default(),
            started: boot.begun.unwrap_or_else(Instant::now),
            looked: Cell::new(Instant::now()),
            port,
            screen: boot.out.join(boot.power_on.file(evidence::SCREEN)),
            frames,
            deadlines: Cell::new(boot.deadlines),
            beside: boot.beside,
            progress: boot.progress,
            told: Cell::default(),
            cancel: boot.cancel,
        })
    }

    /// The port on 127.0.0.1 that leads to the guest's SSH server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Which power-on it is.
    #[must_use]
    pub fn which(&self) -> PowerOn {
        self.power_on
    }

    /// QEMU's process id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.qemu.id()
    }

    /// The deadlines of this run.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines.get()
    }

    /// Takes each deadline `count` times from now on: so many machines share the processors.
    pub(crate) fn share(&self, count: u32) {
        self.deadlines.set(self.deadlines.get().shared(count));
    }

    /// Who is told how the run gets on.
    #[must_use]
    pub fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// Runs `work` as `stage`: reports it and notes how long it took.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn stage<T>(&self, stage: Stage, work: impl FnOnce(Duration) -> Result<T>) -> Result<T> {
        let title = format!("{}until {}", self.power_on.whose(), stage.goal());
        let task = self.progress.start(&title, None, "");
        let begun = Instant::now();
        let around = self.told.replace(Some((task, begun)));
        let result = work(self.deadlines().of(stage));
        self.told.set(around);
        let took = begun.elapsed().as_secs_f64();
        match &result {
            Ok(_) => self.progress.finish(task, &format!("{took:.1} s")),
            Err(_) => self.progress.fail(task),
        }
        let at = self.started.elapsed().as_secs_f64();
        let lap = Lap { power_on: self.power_on, stage, at, took, failed: result.is_err() };
        self.laps.borrow_mut().push(lap);
        result
    }

    /// Waits until the console shows that a boot came as far as `enough` says.
    ///
    /// # Errors
    /// When the guest dies, the run is cancelled or the deadline passes.
    pub fn wait_console(&self, deadline: Duration, enough: impl Fn(Reached) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.check()?;
            if enough(self.console.borrow().reached()) {
                return Ok(());
            }
            if begun.elapsed() > deadline {
                let said = if self.console.borrow().length() == 0 {
                    "; the serial console is silent"
                } else {
                    ""
                };
                return Err(Failure::new(
                    Class::Verdict,
                    format!("not reached within {} s{said}", deadline.as_secs()),
                ));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Waits until `done` returns something, looking about once a second.
    ///
    /// # Errors
    /// When the guest dies, the run is cancelled, the deadline passes, or `done` fails.
    pub fn wait_for<T>(
        &self,
        deadline: Duration,
        mut done: impl FnMut() -> Result<Waited<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let still = match done()? {
                Waited::Done(value) => return Ok(value),
                Waited::Still(still) => still,
            };
            self.tell(&still);
            if begun.elapsed() > deadline {
                let text = format!("not reached within {} s: {still}", deadline.as_secs());
                return Err(Failure::new(Class::Verdict, text));
            }
            std::thread::sleep(Duration::from_millis(700));
        }
    }

    /// Tells what the stage waits for, now and then.
    pub(crate) fn tell(&self, still: &str) {
        if let Some((task, last)) = self.told.get()
            && last.elapsed() > TELL
        {
            self.told.set(Some((task, Instant::now())));
            let detail = Some(printable(still));
            self.progress.event(Event::Advanced { task, done: 0, detail });
        }
    }

    /// Why the guest is given up, for `failure` in `stage`; takes a picture of the screen.
    #[must_use]
    pub fn cause(&self, stage: Option<Stage>, failure: &Failure) -> Cause {
        if self.qemu.exited().is_ok_and(|status| status.is_none()) {
            let picture = self.screen.with_file_name(self.power_on.file(evidence::PICTURE));
            let taken = self.qmp.borrow_mut().screendump(&picture);
            let _ = taken.and_then(|()| screen::keep(&picture, &self.screen));
        }
        let mut console = self.console.borrow_mut();
        let _ = console.poll();
        let grave = console
            .findings()
            .iter()
            .find(|finding| finding.gravity == crate::console::Gravity::Bad);
        let line = console.fatal().or(grave).cloned();
        Cause { stage, text: failure.chain().join(": "), console: line, tail: console.tail(20) }
    }

    /// What the console scan found.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut console = self.console.borrow_mut();
        let _ = console.poll();
        console.findings().to_vec()
    }

    /// What the guest has reached for over its network so far.
    ///
    /// # Errors
    /// When its frames cannot be read.
    pub fn traffic(&self) -> Result<Traffic> {
        Traffic::read(self.frames_from_the_start()?)
    }

    /// Writes the frames that have passed the guest's card to `path`; of those from or to one of `own` only the
    /// headers.
    ///
    /// # Errors
    /// When they cannot be read, or the file not be written.
    pub(crate) fn keep_frames(&self, path: &Path, own: impl Fn(&Peer) -> bool) -> Result<()> {
        let file = fs_err::File::create(path).or_io(|| "keep the guest's frames".into())?;
        let mut kept = BufWriter::new(file);
        traffic::keep(self.frames_from_the_start()?, &mut kept, own)?;
        kept.flush().or_io(|| format!("write {}", path.display()))
    }

    fn frames_from_the_start(&self) -> Result<impl Read + '_> {
        let Some(file) = &self.frames else {
            return Err(Failure::io("the frames of the guest's network were not written down"));
        };
        let mut file = file.file();
        file.rewind().or_io(|| "read the guest's frames".into())?;
        Ok(file)
    }

    /// The time line so far.
    #[must_use]
    pub fn laps(&self) -> Vec<Lap> {
        self.laps.borrow().clone()
    }

    /// Fails when what the guest runs on is at fault: QEMU died, or stopped the guest because the
    /// host's disk is full, say. The image is not to blame for that.
    ///
    /// # Errors
    /// [`Class::Io`] with the remedy; [`Class::Interrupted`] when the run was cancelled, which ends QEMU
    /// too.
    pub fn host(&self) -> std::result::Result<(), Broken> {
        let Some(status) = self.qemu.exited()? else { return self.not_stopped() };
        self.cancel.check()?; // the guard has killed it
        if status.success() { Ok(()) } else { Err(Broken::died(status, &self.qemu.said())) }
    }

    fn not_stopped(&self) -> std::result::Result<(), Broken> {
        self.looked.set(Instant::now());
        let state = self.qmp.borrow_mut().status();
        match state.as_deref() {
            Ok(state) if OWN_STATES.contains(&state) => Ok(()),
            Ok(state) => Err(Broken::stopped(state)),
            // QEMU hangs up before it ends.
            Err(_) if self.qemu.wait(LOOK)?.is_some() => self.host(),
            Err(_) => {
                self.cancel.check()?;
                Err(Failure::io("QEMU does not say whether the guest runs")
                    .with_help("the image was not judged: validate it again on an idle host")
                    .into())
            }
        }
    }

    /// Presses the power button and waits for the end; what does not end is ended.
    ///
    /// # Errors
    /// [`Class::Verdict`] when the guest did not power off by itself, or not without a fault.
    pub fn power_off(&self) -> Result<()> {
        self.stage(Stage::PowerOff, |deadline| {
            self.qmp.borrow_mut().power_down()?;
            let begun = Instant::now();
            while begun.elapsed() < deadline {
                self.cancel.check()?;
                if let Some(status) = self.qemu.wait(TICK)? {
                    let fatal = self.fatal_line()?;
                    return went_off(status, self.qmp.borrow_mut().farewell(), fatal.as_ref());
                }
                if let Some(finding) = self.fatal_line()? {
                    return Err(died(&finding));
                }
            }
            let text = format!("the guest did not power off within {} s", deadline.as_secs());
            Err(Failure::new(Class::Verdict, text))
        })
    }

    /// Ends the machine as a loss of power does: at once, and without a word to the guest. What the guest has had
    /// flushed is on its disk; what it has not may be lost. Nothing is to be asked of it afterwards.
    ///
    /// # Errors
    /// When QEMU cannot be killed.
    pub fn cut(&self) -> Result<()> {
        self.stage(Stage::PowerCut, |_| self.qemu.kill().map(drop))
    }

    /// When the run's first power-on began.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.started
    }

    fn fatal_line(&self) -> Result<Option<Finding>> {
        let mut console = self.console.borrow_mut();
        console.poll()?;
        Ok(console.fatal().cloned())
    }
}

/// What a look at a state yields.
#[derive(Clone, Debug)]
pub enum Waited<T> {
    /// It is reached.
    Done(T),
    /// It is not; this is what was seen instead.
    Still(String),
}

impl Life for Running<'_> {
    fn check(&self) -> Result<()> {
        self.cancel.check()?;
        if let Some(finding) = self.fatal_line()? {
            std::thread::sleep(LAST_WORDS);
            self.console.borrow_mut().poll()?;
            return Err(died(&finding));
        }
        let ended = self.qemu.exited()?;
        if ended.is_some() || self.looked.get().elapsed() > LOOK {
            self.host().map_err(|broken| broken.failure)?;
        }
        let Some(status) = ended else { return self.beside.map_or(Ok(()), Life::check) };
        let text = format!("QEMU ended with {status}: {}", self.qemu.said());
        Err(Failure::new(Class::Verdict, text)
            .with_help("a guest that resets itself ends QEMU too: look at the end of the console"))
    }
}

fn died(finding: &Finding) -> Failure {
    Failure::new(Class::Verdict, format!("the guest died: {}", finding.line.trim()))
}

/// Whether an end of QEMU is that of a guest which powered itself off: a crash of either, a reset and
/// a signal from the host end it too. `reason` is QEMU's own word for it, where it gave one.
fn went_off(status: ExitStatus, reason: Option<&str>, fatal: Option<&Finding>) -> Result<()> {
    if let Some(finding) = fatal {
        return Err(died(finding));
    }
    let because = match reason {
        None | Some("guest-shutdown") if status.success() => return Ok(()),
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    let text = format!("the guest did not power off by itself: QEMU ended with {status}{because}");
    Err(Failure::new(Class::Verdict, text))
}

/// Starts QEMU on a free port; somebody may take the port in between, so it tries three times.
///
/// A socket's path must be shorter than 108 bytes, so it lies where temporary files do, and only until both ends are open:
/// nothing is left of it whatever ends the run.
fn start(boot: &Boot, disks: &Disks, console: &Path) -> Result<(Qemu, Qmp, u16)> {
    let mut tries = 3;
    loop {
        let ssh_port = free_port()?;
        let sockets = tempfile::tempdir().or_io(|| "make a folder for QEMU's socket".into())?;
        let qmp = sockets.path().join("qmp");
        let services = boot.services;
        let (console, frames) = (console.to_owned(), boot.frames.clone());
        let (place, link) = (boot.place, boot.link.clone());
        let wires = Wires { place, qmp, console, frames, ssh_port, services, link };
        let engine = boot.chosen.engine;
        let setup =
            Setup { machine: boot.machine, engine, disks, wires: &wires, kernel: boot.kernel };
        let qemu = Qemu::start(
            &setup,
            &boot.out.join(boot.power_on.file(evidence::QEMU_LOG)),
            boot.cancel,
        )?;
        match qemu.connect() {
            Ok(qmp) => return Ok((qemu, qmp, ssh_port)),
            Err(_) if tries > 1 && qemu.said().contains("host forwarding") => tries -= 1,
            Err(failure) => {
                boot.cancel.check()?; // the guard has killed it
                return Err(failure);
            }
        }
    }
}

/// A port that was free a moment ago. QEMU takes none by itself, and refuses one that is taken.
fn free_port() -> Result<u16> {
    let listener =
        std::net::TcpListener::bind(("127.0.0.1", 0)).or_io(|| "find a free port".into())?;
    Ok(listener.local_addr().or_io(|| "find a free port".into())?.port())
}

#[cfg(test)]
mod tests;
