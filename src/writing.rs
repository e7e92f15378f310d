//! All artifacts of a build from one pass over its disks.

use std::collections::BTreeMap;

use nodekiln_disk::{Disk, Pass, Payload, Tally};
use nodekiln_providers::{Artifact, ArtifactRequest, ArtifactWriter, Made, Provider};
use nodekiln_recipes::Plan;
use nodekiln_words::{Bytes, Cancel, Event, Failure, Progress, Result};

use crate::emit::stopped;
use crate::registry::Known;

/// What all artifacts of a build are written from, and where.
pub(crate) struct Writing<'a> {
    pub(crate) plan: &'a Plan,
    /// Disks by the names of their nodes.
    pub(crate) disks: &'a BTreeMap<&'a str, Disk>,
    pub(crate) payloads: &'a BTreeMap<&'a str, Payload<'a>>,
    pub(crate) request: ArtifactRequest,
}

/// An artifact to be written.
struct Job<'a> {
    provider: &'a dyn Provider,
    disk: &'a Disk,
    payload: &'a Payload<'a>,
}

impl<'a> Writing<'a> {
    /// A provider's disk, which several may share, and its digest.
    pub(crate) fn disk(&self, provider: &str) -> Result<(&'a Disk, &'a Payload<'a>)> {
        let node = self.plan.disk_for(provider).map(|node| node.name.as_str());
        node.and_then(|node| Some((self.disks.get(node)?, self.payloads.get(node)?)))
            .ok_or_else(|| Failure::io(format!("the plan made no disk for `{provider}`")))
    }

    /// Writes every provider's artifact; what came of them comes back in the order of `providers`.
    pub(crate) fn artifacts(
        &self,
        providers: &'a [Known],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<Made>> {
        let job = |provider: &'a Known| {
            let (disk, payload) = self.disk(provider.name())?;
            Ok(Job { provider: &**provider, disk, payload })
        };
        let jobs = providers.iter().map(job).collect::<Result<Vec<_>>>()?;
        // The manifest wants every disk's digest, also where no writer asks for it.
        let payloads: Vec<_> = self.payloads.values().collect();
        Payload::beside(&payloads, progress, cancel, || self.write(&jobs, progress, cancel))
    }

    /// Writes all files in one pass, and ends all of them at the same time.
    fn write(
        &self,
        jobs: &[Job<'_>],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<Made>> {
        let begin = |job: &Job<'_>| job.provider.begin(job.disk, &self.request, cancel);
        let mut writers = jobs.iter().map(begin).collect::<Result<Vec<_>>>()?; // 1. files, and the map of sparse ones, for which a disk is read
        let mut pass = Pass::new();
        for (job, writer) in jobs.iter().zip(&mut writers) {
            writer.join(job.disk, &mut pass);
        }
        let title = match jobs.len() {
            1 => "write the artifact".to_owned(),
            count => format!("write {count} artifacts"),
        };
        let task = progress.start(&title, Some(pass.length()), "B");
        let passed = pass.run(&|done| progress.advance(task, done), cancel); // 2. the disks' bytes
        match &passed {
            Ok(Tally { shared: 0, .. }) => progress.finish(task, ""),
            Ok(Tally { encoded, shared }) => {
                progress.finish(task, &format!("{shared} of {} blocks shared", encoded + shared));
            }
            Err(_) => progress.fail(task),
        }
        passed?;
        std::thread::scope(|scope| {
            let finish = |(job, writer)| self.finish(job, writer, progress, cancel);
            let threads: Vec<_> = jobs
                .iter()
                .zip(writers)
                .map(|pair| scope.spawn(move || finish(pair))) // 3. tables, flushing, digests
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(stopped)).collect()
        })
    }

    /// Ends an artifact's files and says what came of them.
    fn finish(
        &self,
        job: &Job<'_>,
        writer: Box<dyn ArtifactWriter>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Made> {
        let made = writer.finish(job.disk, job.payload, progress, cancel)?;
        for Artifact { file, size, sha256, .. } in &made.files {
            let (size, digest) = (Bytes(*size), sha256.short());
            progress.event(Event::Note(format!("{file}: {size}, sha256 {digest}")));
        }
        Ok(made)
    }
}
