//! Sets of files: several at a time, each from the first address that serves the right bytes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nodekiln_words::{Bytes, Failure, Result, Sha256};
use rayon::prelude::*;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Tried, Trouble};
use super::partial::Partial;
use super::transfer::Meter;
use super::{Fetcher, Shared, Wanted, cancelled, offline};

impl Fetcher {
    /// Puts all of `wanted` into the store. What is there and intact is not fetched again.
    ///
    /// # Errors
    /// When a file is nowhere to be had, or has another digest wherever it is; the failure names the
    /// file, and the expected and the found digest. The other files are fetched first, so that
    /// another run has less to do.
    pub fn fetch(&self, wanted: &[Wanted]) -> Result<()> {
        let lacking = self.lacking(wanted)?;
        if lacking.is_empty() {
            return Ok(());
        }
        if self.0.settings.offline {
            return Err(offline(&lacking[0].what));
        }
        let title = match &lacking[..] {
            [one] => format!("fetch {}", one.what),
            many => format!("fetch {} files", many.len()),
        };
        let total: Option<u64> = lacking.iter().map(|file| file.size).sum();
        let task = self.0.progress.start(&title, total, "B");
        let outcome = self.block_on(Arc::clone(&self.0).fetch_all(lacking, task))?;
        match outcome {
            Ok(bytes) => self.0.progress.finish(task, &Bytes(bytes).to_string()),
            Err(failure) => {
                self.0.progress.fail(task);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The files that are not in the store, each once.
    fn lacking(&self, wanted: &[Wanted]) -> Result<Vec<Wanted>> {
        let state = |file: &Wanted| self.0.store.intact_place(&file.sha256);
        let places: Vec<_> = wanted.par_iter().map(state).collect::<Result<_>>()?;
        let mut seen = std::collections::BTreeSet::new();
        let absent = wanted.iter().zip(places).filter(|(_, place)| place.is_none());
        Ok(absent.map(|(file, _)| file).filter(|file| seen.insert(file.sha256)).cloned().collect())
    }
}

impl Shared {
    async fn fetch_all(
        self: Arc<Self>,
        files: Vec<Wanted>,
        task: nodekiln_words::TaskId,
    ) -> Result<u64> {
        let limit = Arc::new(Semaphore::new(self.settings.connections.max(1)));
        let done = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for file in files {
            let (shared, limit, done) = (Arc::clone(&self), Arc::clone(&limit), Arc::clone(&done));
            running.spawn(async move {
                let Ok(_permit) = limit.acquire().await else {
                    return Err(Failure::interrupted());
                };
                shared.cancel.check()?;
                shared.fetch_one(&file, task, &done).await
            });
        }
        let mut first = Ok(());
        while let Some(outcome) = running.join_next().await {
            let outcome = outcome.unwrap_or_else(|panic| {
                Err(Failure::io("a transfer ended unexpectedly").with_source(panic))
            });
            first = first.and(outcome);
        }
        first.map(|()| done.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Fetches one file: each address as often as it is worth trying, in order.
    async fn fetch_one(
        &self,
        wanted: &Wanted,
        task: nodekiln_words::TaskId,
        done: &AtomicU64,
    ) -> Result<()> {
        let (store, progress) = (&*self.store, &*self.progress);
        let mut partial = tokio::task::block_in_place(|| {
            Partial::open(store, &wanted.sha256, &wanted.what, progress, &self.cancel)
        })?;
        if store.intact_place(&wanted.sha256)?.is_some() {
            partial.discard();
            return Ok(());
        }
        let meter = Meter { progress, task, done };
        meter.add(partial.length());
        // An earlier process may have been stopped between the last byte and its renaming.
        if partial.digest() == wanted.sha256 {
            return tokio::task::block_in_place(|| partial.keep());
        }
        let mut last = None;
        for url in &wanted.urls {
            match self.fetch_from(wanted, url, &mut partial, &meter).await {
                Ok(()) => return tokio::task::block_in_place(|| partial.keep()),
                Err(Trouble::Final(failure)) => return Err(failure),
                // A wrong digest says more than a missing file at the next address.
                Err(Trouble::NotThere(failure)) => drop(last.get_or_insert(failure)),
                Err(trouble) => last = Some(trouble.into_failure()),
            }
        }
        if partial.length() == 0 {
            partial.discard();
        }
        Err(not_fetched(wanted, last))
    }

    async fn fetch_from(
        &self,
        wanted: &Wanted,
        url: &str,
        partial: &mut Partial<'_>,
        meter: &Meter<'_>,
    ) -> Tried<()> {
        let mut pause = self.settings.backoff;
        let mut tries = 1;
        loop {
            let resumed = partial.length() > 0;
            let outcome = match self.transfer(wanted, url, partial, meter).await {
                Ok(()) => right_digest(wanted, url, partial.digest()),
                Err(trouble) => Err(trouble),
            };
            match outcome {
                Err(Trouble::Again(_, wait)) if tries < self.settings.attempts => {
                    tries += 1;
                    self.pause(wait.unwrap_or(pause)).await?;
                    pause *= 2;
                }
                Err(Trouble::Wrong(failure)) => {
                    meter.take_back(partial.length());
                    partial.restart().map_err(Trouble::Final)?;
                    // The part from an earlier transfer may be what is wrong.
                    if !resumed || tries >= self.settings.attempts {
                        return Err(Trouble::Wrong(failure));
                    }
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn pause(&self, time: std::time::Duration) -> Tried<()> {
        tokio::select! {
            () = cancelled(&self.cancel) => Err(Trouble::Final(Failure::interrupted())),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

fn right_digest(wanted: &Wanted, url: &str, found: Sha256) -> Tried<()> {
    if found == wanted.sha256 {
        return Ok(());
    }
    let text = format!("{url}: expected sha256 {}, found {found}", wanted.sha256);
    let help = "the server has other bytes than those that were locked or signed; try another \
                mirror, or make a new lock if the file was replaced on purpose";
    Err(Trouble::Wrong(Failure::io(text).with_help(help)))
}

fn not_fetched(wanted: &Wanted, last: Option<Failure>) -> Failure {
    let what = format!("cannot fetch {}", wanted.what);
    match last {
        Some(failure) => {
            let help = failure.help().is_none().then_some(
                "it may have been replaced by a newer version: make a new lock, or name a mirror \
                 that keeps old versions",
            );
            let message = format!("{what}: {failure}");
            let failure = failure.context(message);
            match help {
                Some(help) => failure.with_help(help),
                None => failure,
            }
        }
        None => Failure::input(format!("{what}: no address is known for it")),
    }
}
