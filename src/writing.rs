//! All artifacts of a build from one pass over its disks.

use std::collections::BTreeMap;

use nodekiln_disk::{Disk, Pass, Payload, Written};
use nodekiln_providers::{Artifact, ArtifactRequest, ArtifactWriter, Provider};
use nodekiln_recipes::Plan;
use nodekiln_words::{Bytes, Cancel, Event, Failure, Progress, Result, ResultExt as _};

use crate::emit::stopped;
use crate::registry;

/// What all artifacts of a build are written from, and where.
pub(crate) struct Writing<'a> {
    pub(crate) plan: &'a Plan,
    /// Disks by the names of their nodes.
    pub(crate) disks: &'a BTreeMap<&'a str, Disk>,
    pub(crate) payloads: &'a BTreeMap<&'a str, Payload<'a>>,
    pub(crate) request: ArtifactRequest,
}

/// A file to be written, and who want it.
struct File<'a> {
    disk: &'a Disk,
    payload: &'a Payload<'a>,
    /// The first one's file is written, the others' are the same bytes under other names.
    providers: Vec<&'static dyn Provider>,
}

impl<'a> Writing<'a> {
    /// A provider's disk, which several may share, and its digest.
    pub(crate) fn disk(&self, provider: &str) -> Result<(&'a Disk, &'a Payload<'a>)> {
        let node = self.plan.disk_for(provider).map(|node| node.name.as_str());
        node.and_then(|node| Some((self.disks.get(node)?, self.payloads.get(node)?)))
            .ok_or_else(|| Failure::io(format!("the plan made no disk for `{provider}`")))
    }

    /// Writes every provider's artifact; they come back in the order of `providers`.
    pub(crate) fn artifacts(
        &self,
        providers: &[String],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<Artifact>> {
        let files = self.files(providers)?; // 1. which files there are
        let written = std::thread::scope(|scope| {
            // The manifest wants every disk's digest, also where no writer asks for it. A failure is
            // met again by whoever asks next.
            let digesting = cancel.child();
            for payload in self.payloads.values() {
                let digesting = digesting.clone();
                scope.spawn(move || payload.digest(progress, &digesting).ok());
            }
            let written = self.write(&files, progress, cancel);
            if written.is_err() {
                digesting.cancel();
            }
            written
        })?;
        let mut artifacts = Vec::new();
        for (file, written) in files.iter().zip(written) {
            artifacts.extend(self.named(file, &written)?); // 4. a name for each provider
        }
        artifacts.sort_by_key(|made| providers.iter().position(|name| *name == made.provider));
        Ok(artifacts)
    }

    /// The files to write: providers whose artifact is a plain format share one for each disk.
    fn files(&self, providers: &[String]) -> Result<Vec<File<'a>>> {
        let mut files: Vec<File<'a>> = Vec::new();
        for name in providers {
            let (provider, (disk, payload)) = (registry::by_name(name)?, self.disk(name)?);
            let same = files.iter_mut().find(|file| {
                let first = file.providers.first();
                let plain = first.is_some_and(|first| {
                    first.is_plain() && provider.is_plain() && first.format() == provider.format()
                });
                plain && std::ptr::eq(file.disk, disk)
            });
            match same {
                Some(file) => file.providers.push(provider),
                None => files.push(File { disk, payload, providers: vec![provider] }),
            }
        }
        Ok(files)
    }

    /// Writes all files in one pass, and ends all of them at the same time.
    fn write(
        &self,
        files: &[File<'_>],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Vec<Written>> {
        let mut writers: Vec<Box<dyn ArtifactWriter>> = Vec::new();
        for file in files {
            if let Some(provider) = file.providers.first() {
                writers.push(provider.begin(file.disk, &self.request, cancel)?);
            }
        }
        let mut pass = Pass::new();
        for (file, writer) in files.iter().zip(&mut writers) {
            writer.join(file.disk, &mut pass);
        }
        let title = match files.len() {
            1 => "write the artifact".to_owned(),
            count => format!("write {count} artifacts"),
        };
        let task = progress.start(&title, Some(pass.length()), "B");
        match pass.run(&|done| progress.advance(task, done), cancel) {
            Ok(tally) if tally.shared > 0 => {
                progress.finish(
                    task,
                    &format!("{} of {} blocks shared", tally.shared, tally.shared + tally.encoded),
                );
            }
            Ok(_) => progress.finish(task, ""), // 2. all bytes are on their way
            Err(failure) => {
                progress.fail(task);
                return Err(failure);
            }
        }
        std::thread::scope(|scope| {
            let finish = |(file, writer): (&File<'_>, Box<dyn ArtifactWriter>)| {
                let written = writer.finish(file.disk, file.payload, progress, cancel)?;
                self.say(file, &written, progress);
                Ok(written)
            };
            let threads: Vec<_> = files
                .iter()
                .zip(writers)
                .map(|pair| scope.spawn(move || finish(pair))) // 3. tables, flushing, digests
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(stopped)).collect()
        })
    }

    fn say(&self, file: &File<'_>, written: &Written, progress: &dyn Progress) {
        if let Some(provider) = file.providers.first() {
            let name = provider.file_name(&self.request.name);
            let (size, digest) = (Bytes(written.bytes), written.sha256.short());
            progress.event(Event::Note(format!("{name}: {size}, sha256 {digest}")));
        }
    }

    /// The artifact of each provider that wants the file, under its own name.
    fn named(&self, file: &File<'_>, written: &Written) -> Result<Vec<Artifact>> {
        let mut artifacts = Vec::new();
        let mut first = None;
        for provider in &file.providers {
            let name = provider.file_name(&self.request.name);
            let path = self.request.path_of(&name);
            match &first {
                None => first = Some(path),
                Some(first) => {
                    // Not every file system has second names.
                    fs_err::hard_link(first, &path)
                        .or_else(|_| fs_err::copy(first, &path).map(drop))
                        .or_io(|| format!("cannot write {name}"))?;
                }
            }
            artifacts.push(Artifact {
                provider: provider.name().to_owned(),
                format: provider.format().to_owned(),
                file: name,
                size: written.bytes,
                sha256: written.sha256,
            });
        }
        Ok(artifacts)
    }
}
