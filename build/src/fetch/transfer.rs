//! One try of one address: the bytes that are still missing, appended to the part that is there.

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};

use nodekiln_words::{Class, Failure, Progress, ResultExt as _, TaskId};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use super::client::{Tried, Trouble, refused, stalled, transport};
use super::partial::Partial;
use super::{Shared, Wanted, cancelled};

/// Bytes between two reports of progress: often enough to look alive.
const REPORT_EVERY: u64 = 1 << 18;

/// How far a set of files has come.
pub(super) struct Meter<'a> {
    pub(super) progress: &'a dyn Progress,
    pub(super) task: TaskId,
    pub(super) done: &'a AtomicU64,
}

impl Meter<'_> {
    pub(super) fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        if before / REPORT_EVERY != (before + bytes) / REPORT_EVERY {
            self.progress.advance(self.task, before + bytes);
        }
    }

    /// Takes back what was counted and thrown away.
    pub(super) fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Shared {
    /// Gets from `url` what `partial` lacks. On success the whole answer has arrived; whether it is
    /// the right one is for the caller to see.
    pub(super) async fn transfer(
        &self,
        wanted: &Wanted,
        url: &str,
        partial: &mut Partial<'_>,
        meter: &Meter<'_>,
    ) -> Tried<()> {
        if let Some(path) = file_path(url)? {
            return self.copy(wanted, &path, partial, meter);
        }
        let mut response = self.ask(url, partial.length()).await?;
        if !continues(&response, partial.length()) && partial.length() > 0 {
            meter.take_back(partial.length());
            partial.restart().map_err(Trouble::Final)?;
        }
        while let Some(bytes) = self.next(url, &mut response).await? {
            take(wanted, url, &bytes, partial, meter)?;
        }
        match wanted.size {
            // Some servers end a broken answer as if it were complete.
            Some(size) if partial.length() < size => {
                let text = format!("{url} ended after {} of {size} bytes", partial.length());
                Err(Trouble::Again(Failure::io(text), None))
            }
            _ => Ok(()),
        }
    }

    async fn ask(&self, url: &str, from: u64) -> Tried<Response> {
        let mut request = self.client.get(url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let limit = self.settings.connect_timeout + self.settings.stall_timeout;
        let response = tokio::select! {
            () = cancelled(&self.cancel) => return Err(Trouble::Final(Failure::interrupted())),
            answer = tokio::time::timeout(limit, request.send()) => {
                answer.map_err(|_| stalled(url, limit))?.map_err(|error| transport(url, error))?
            }
        };
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            // What is there is as long as the file or longer, and was not right.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
                let text = format!("{url} has no more than the {from} bytes that arrived");
                Err(Trouble::Wrong(Failure::io(text)))
            }
            status => Err(refused(url, status, response.headers())),
        }
    }

    pub(super) async fn next(
        &self,
        url: &str,
        response: &mut Response,
    ) -> Tried<Option<impl AsRef<[u8]> + use<>>> {
        let limit = self.settings.stall_timeout;
        tokio::select! {
            () = cancelled(&self.cancel) => Err(Trouble::Final(Failure::interrupted())),
            chunk = tokio::time::timeout(limit, response.chunk()) => {
                chunk.map_err(|_| stalled(url, limit))?.map_err(|error| transport(url, error))
            }
        }
    }

    fn copy(
        &self,
        wanted: &Wanted,
        path: &std::path::Path,
        partial: &mut Partial<'_>,
        meter: &Meter<'_>,
    ) -> Tried<()> {
        // A file that is not there is no reason to throw away what a server sent.
        let mut file = open(path)?;
        meter.take_back(partial.length());
        partial.restart().map_err(Trouble::Final)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            self.cancel.check().map_err(Trouble::Final)?;
            let length = file
                .read(&mut buffer)
                .or_io(|| "cannot read".into())
                .map_err(Trouble::Elsewhere)?;
            match buffer.get(..length) {
                Some(read) if !read.is_empty() => {
                    take(wanted, &path.display().to_string(), read, partial, meter)?;
                }
                _ => return Ok(()),
            }
        }
    }
}

fn take(
    wanted: &Wanted,
    url: &str,
    bytes: impl AsRef<[u8]>,
    partial: &mut Partial<'_>,
    meter: &Meter<'_>,
) -> Tried<()> {
    let bytes = bytes.as_ref();
    if let Some(size) = wanted.size
        && partial.length() + bytes.len() as u64 > size
    {
        let text = format!("{url} sends more than the {size} bytes expected");
        return Err(Trouble::Wrong(Failure::io(text)));
    }
    partial.write(bytes).map_err(Trouble::Final)?;
    meter.add(bytes.len() as u64);
    Ok(())
}

/// Whether the answer goes on at byte `from` (RFC 9110, section 14.4).
fn continues(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range
            .and_then(|range| range.strip_prefix("bytes "))
            .and_then(|range| range.split_once('-'))
            .is_some_and(|(start, _)| start.parse() == Ok(from))
}

/// The path that a `file` address names.
pub(super) fn file_path(url: &str) -> Tried<Option<std::path::PathBuf>> {
    if !url.starts_with("file:") {
        return Ok(None);
    }
    let no_file = || Trouble::Elsewhere(Failure::input(format!("`{url}` names no local file")));
    let path = url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
    path.map(Some).ok_or_else(no_file)
}

pub(super) fn open(path: &std::path::Path) -> Tried<fs_err::File> {
    fs_err::File::open(path).map_err(|error| {
        let not_there = error.kind() == std::io::ErrorKind::NotFound;
        let failure = Failure::new(Class::Io, "cannot read a file to fetch").with_source(error);
        if not_there { Trouble::NotThere(failure) } else { Trouble::Elsewhere(failure) }
    })
}
