//! The time line of a host's run, and its deadlines.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use nodekiln_words::{Progress, Result};

use crate::accelerator::Engine;
use crate::deadlines::{Deadlines, Stage};
use crate::power_on::PowerOn;
use crate::run::Lap;

/// How long one short command may take on a host: what it may on a guest whose processors are real ones.
pub(super) fn command(patience: u32) -> Duration {
    Deadlines::new(Engine::Kvm, patience).command()
}

/// A run with a host.
pub(super) struct Watch<'a> {
    started: Instant,
    patience: u32,
    laps: RefCell<Vec<Lap>>,
    progress: &'a dyn Progress,
}

impl<'a> Watch<'a> {
    pub(super) fn start(patience: u32, progress: &'a dyn Progress) -> Self {
        Self { started: Instant::now(), patience, laps: RefCell::default(), progress }
    }

    /// How long one short command may take.
    pub(super) fn command(&self) -> Duration {
        command(self.patience)
    }

    /// Does `work` as `stage`: reports it and notes how long it took.
    pub(super) fn stage<T>(&self, stage: Stage, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let task = self.progress.start(&format!("until {}", stage.goal()), None, "");
        let begun = Instant::now();
        let result = work();
        let took = begun.elapsed().as_secs_f64();
        match &result {
            Ok(_) => self.progress.finish(task, &format!("{took:.1} s")),
            Err(_) => self.progress.fail(task),
        }
        let at = self.started.elapsed().as_secs_f64();
        let lap = Lap { power_on: PowerOn::First, stage, at, took, failed: result.is_err() };
        self.laps.borrow_mut().push(lap);
        result
    }

    pub(super) fn laps(&self) -> Vec<Lap> {
        self.laps.borrow().clone()
    }
}
