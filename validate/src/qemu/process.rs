//! The QEMU process, which never outlives the run that started it.
//!
//! Three guards, since no one of them covers all: dropping [`Qemu`] kills and reaps it; a thread
//! kills it as soon as the run is cancelled, so that nothing blocks on a guest any longer; and
//! `setpriv --pdeathsig KILL`, which sets PR_SET_PDEATHSIG and becomes QEMU, has the kernel kill it
//! when nodekiln itself is killed. That signal is tied to the thread that starts QEMU, so start it
//! on the thread that runs the validation.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};

use super::arguments::{Setup, arguments};
use super::qmp::Qmp;
use crate::program;

/// How often the guard looks at the cancel flag.
const GUARD_INTERVAL: Duration = Duration::from_millis(50);
/// QEMU opens its sockets before it runs the guest.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running QEMU; killed when dropped.
#[derive(Debug)]
pub struct Qemu {
    child: Arc<Mutex<Child>>,
    done: Arc<AtomicBool>,
    guard: Option<JoinHandle<()>>,
    messages: PathBuf,
    command: String,
    qmp: PathBuf,
}

impl Qemu {
    /// Starts QEMU; what it says goes to the file `messages`.
    ///
    /// # Errors
    /// When QEMU or `setpriv` is missing or cannot be started.
    pub fn start(setup: &Setup, messages: &Path, cancel: &Cancel) -> Result<Self> {
        let qemu = program::QEMU.find()?;
        let mut command = program::mortal(&qemu)?;
        command.args(arguments(setup));
        let log = File::create(messages).or_io(|| format!("create {}", messages.display()))?;
        let also = log.try_clone().or_io(|| format!("open {}", messages.display()))?;
        let input = match &setup.wires.link {
            None => Stdio::null(),
            Some(end) => end.try_clone().or_io(|| "give QEMU its end of a wire".into())?.into(),
        };
        command.stdin(input).stdout(log).stderr(also);
        let shown = format!("{command:?}");
        let child =
            command.spawn().or_fail(Class::Missing, || format!("start {}", qemu.display()))?;
        let child = Arc::new(Mutex::new(child));
        let done = Arc::new(AtomicBool::new(false));
        let guard = Some(watch(Arc::clone(&child), Arc::clone(&done), cancel.clone()));
        let qmp = setup.wires.qmp.clone();
        Ok(Self { child, done, guard, messages: messages.to_owned(), command: shown, qmp })
    }

    /// Opens the QMP session; a QEMU that refused its arguments is told by its own words.
    ///
    /// # Errors
    /// When QEMU has ended or does not answer.
    pub fn connect(&self) -> Result<Qmp> {
        Qmp::connect(&self.qmp, START_DEADLINE, || match self.exited()? {
            None => Ok(()),
            Some(status) => Err(self.ended_early(status)),
        })
    }

    fn ended_early(&self, status: ExitStatus) -> Failure {
        Failure::new(
            Class::Unsupported,
            format!("QEMU ended at once with {status}: {}", self.said()),
        )
        .with_help(format!("the command was {}", self.command))
    }

    /// How QEMU ended, if it has.
    ///
    /// # Errors
    /// When its state cannot be asked.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        lock(&self.child).try_wait().or_io(|| "ask for QEMU's state".into())
    }

    /// The last lines of what QEMU itself said.
    #[must_use]
    pub fn said(&self) -> String {
        let text = fs_err::read(&self.messages).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(5)..];
        if tail.is_empty() { "it said nothing".into() } else { tail.join("; ") }
    }

    /// How QEMU ended, as soon as it has; `None` when it still runs after `deadline`.
    ///
    /// # Errors
    /// When its state cannot be asked.
    pub fn wait(&self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let started = Instant::now();
        while started.elapsed() < deadline {
            if let Some(status) = self.exited()? {
                return Ok(Some(status));
            }
            std::thread::sleep(GUARD_INTERVAL);
        }
        Ok(None)
    }

    /// Kills it at once, as a loss of power ends a machine, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed or waited for.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = lock(&self.child);
        child.kill().and_then(|()| child.wait()).or_io(|| "kill QEMU".into())
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if let Some(guard) = self.guard.take() {
            let _ = guard.join();
        }
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the child once the run is cancelled, until `done`.
fn watch(child: Arc<Mutex<Child>>, done: Arc<AtomicBool>, cancel: Cancel) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while !done.load(Ordering::SeqCst) {
            if cancel.is_cancelled() {
                let _ = lock(&child).kill();
                return;
            }
            std::thread::sleep(GUARD_INTERVAL);
        }
    })
}
