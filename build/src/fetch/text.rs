//! Texts whose digest nobody knows beforehand: asked for conditionally, kept with their validators.

use std::io::Read as _;

use nodekiln_words::{Failure, Result, Sha256};
use reqwest::header::{
    ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::client::{Tried, Trouble, refused, stalled, transport};
use super::transfer::{file_path, open};
use super::{Fetcher, Shared, cancelled, offline};

/// The longest text that is read: signed indexes and digest files stay far below.
const LONGEST_TEXT: usize = 64 << 20;

/// Folder of the index that the validators are kept in.
const INDEX: &str = "texts";

/// A text as it was when it was last asked for.
#[derive(Serialize, Deserialize)]
struct Kept {
    url: String,
    /// `None` where the server said that there is none: offline, that is an answer, too.
    body: Option<Sha256>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Fetcher {
    /// The text at `url`: asked for again with the validators of the copy in the store, if any;
    /// offline, that copy. It is not verified: its reader must do so.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn fetch_text(&self, url: &str) -> Result<Vec<u8>> {
        let found = self.fetch_texts(&[url.to_owned()]).into_iter().next();
        let found = found.unwrap_or_else(|| Err(Failure::interrupted()))?;
        found.ok_or_else(|| Failure::io(format!("there is no {url}")))
    }

    /// The texts at `urls`, all at once, one outcome for each; `None` where the server says that
    /// there is none.
    pub fn fetch_texts(&self, urls: &[String]) -> Vec<Result<Option<Vec<u8>>>> {
        if self.0.settings.offline {
            return urls.iter().map(|url| self.0.kept_or_local(url)).collect();
        }
        let fetch = |url: &String| {
            let (shared, url) = (Arc::clone(&self.0), url.clone());
            async move { shared.text(&url).await }
        };
        let fetched = self.block_on(async {
            let tasks: Vec<_> = urls.iter().map(|url| tokio::spawn(fetch(url))).collect();
            let mut texts = Vec::new();
            for task in tasks {
                texts.push(task.await.unwrap_or_else(|panic| {
                    Err(Failure::io("a transfer ended unexpectedly").with_source(panic))
                }));
            }
            texts
        });
        fetched.unwrap_or_else(|failure| vec![Err(failure)])
    }
}

impl Shared {
    fn kept_or_local(&self, url: &str) -> Result<Option<Vec<u8>>> {
        if url.starts_with("file:") {
            return local(url).or_else(none_if_not_there);
        }
        match self.kept(url).map(|kept| kept.body) {
            Some(None) => Ok(None),
            Some(Some(body)) => self.store.read_blob(&body).map(Some).map_err(|_| offline(url)),
            None => Err(offline(url)),
        }
    }

    fn kept(&self, url: &str) -> Option<Kept> {
        let bytes = self.store.read_index(INDEX, &Sha256::of(url).to_string())?;
        serde_json::from_slice(&bytes).ok().filter(|kept: &Kept| kept.url == url)
    }

    async fn text(&self, url: &str) -> Result<Option<Vec<u8>>> {
        let mut pause = self.settings.backoff;
        for _ in 1..self.settings.attempts {
            match self.try_text(url).await {
                Err(Trouble::Again(_, wait)) => {
                    self.sleep(wait.unwrap_or(pause)).await?;
                    pause *= 2;
                }
                outcome => return self.settle_text(url, outcome),
            }
        }
        self.settle_text(url, self.try_text(url).await)
    }

    fn settle_text(&self, url: &str, outcome: Tried<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let text = outcome.map(Some).or_else(none_if_not_there)?;
        if text.is_none() && !url.starts_with("file:") {
            self.keep(url, None, &HeaderMap::new())?;
        }
        Ok(text)
    }

    async fn sleep(&self, time: std::time::Duration) -> Result<()> {
        tokio::select! {
            () = cancelled(&self.cancel) => Err(Failure::interrupted()),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    async fn try_text(&self, url: &str) -> Tried<Vec<u8>> {
        if url.starts_with("file:") {
            return local(url)?.ok_or_else(|| Trouble::Final(Failure::io(url)));
        }
        // A copy that is damaged or gone must not be asked about: "unchanged" would not help.
        let kept = self.kept(url).and_then(|kept| {
            let body = self.store.read_blob(&kept.body?).ok()?;
            Some((kept, body))
        });
        let mut response = self.ask_text(url, kept.as_ref().map(|(kept, _)| kept)).await?;
        if let (StatusCode::NOT_MODIFIED, Some((_, body))) = (response.status(), kept) {
            return Ok(body);
        }
        if response.status() != StatusCode::OK {
            return Err(refused(url, response.status(), response.headers()));
        }
        let body = self.body(url, &mut response).await?;
        self.keep(url, Some(&body), response.headers()).map_err(Trouble::Final)?;
        Ok(body)
    }

    async fn ask_text(&self, url: &str, kept: Option<&Kept>) -> Tried<Response> {
        let mut request = self.client.get(url);
        if let Some(kept) = kept {
            if let Some(etag) = &kept.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(date) = &kept.last_modified {
                request = request.header(IF_MODIFIED_SINCE, date);
            }
        }
        let limit = self.settings.connect_timeout + self.settings.stall_timeout;
        tokio::select! {
            () = cancelled(&self.cancel) => Err(Trouble::Final(Failure::interrupted())),
            answer = tokio::time::timeout(limit, request.send()) => {
                answer.map_err(|_| stalled(url, limit))?.map_err(|error| transport(url, error))
            }
        }
    }

    async fn body(&self, url: &str, response: &mut Response) -> Tried<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next(url, response).await? {
            body.extend_from_slice(bytes.as_ref());
            if body.len() > LONGEST_TEXT {
                let text = format!("{url} is longer than {LONGEST_TEXT} bytes");
                return Err(Trouble::Elsewhere(Failure::io(text)));
            }
        }
        Ok(body)
    }

    fn keep(&self, url: &str, body: Option<&[u8]>, headers: &HeaderMap) -> Result<()> {
        let header = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let kept = Kept {
            url: url.to_owned(),
            body: body.map(|body| self.store.put_bytes(body)).transpose()?,
            etag: header(ETAG),
            last_modified: header(LAST_MODIFIED),
        };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        self.store.write_index(INDEX, &Sha256::of(url).to_string(), &bytes)
    }
}

fn none_if_not_there<T>(trouble: Trouble) -> Result<Option<T>> {
    match trouble {
        Trouble::NotThere(_) => Ok(None),
        trouble => Err(trouble.into_failure()),
    }
}

fn local(url: &str) -> Tried<Option<Vec<u8>>> {
    let Some(path) = file_path(url)? else { return Ok(None) };
    let mut bytes = Vec::new();
    open(&path)?.read_to_end(&mut bytes).map_err(|error| {
        Trouble::Elsewhere(Failure::io("cannot read a file to fetch").with_source(error))
    })?;
    Ok(Some(bytes))
}
