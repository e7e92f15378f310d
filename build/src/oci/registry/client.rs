use std::ops::Deref;
use std::sync::Mutex;
use std::time::Duration;

use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt, Sha256};
use reqwest::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use url::{Host, Url};

use super::token::{Challenge, token_in};
use crate::fetch::{Fetcher, cancelled, retry_after};
use crate::oci::blob::DOCUMENT_LIMIT;
use crate::oci::json::media_type;
use crate::oci::{Blob, document_blob};

/// HTTP to one registry.
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    /// The last token; registries give one a repository, so it is asked for anew when refused.
    token: Mutex<Option<String>>,
    cancel: Cancel,
}

/// How often a request is tried before its failure counts.
const ATTEMPTS: u32 = 3;

impl Client {
    pub(super) fn new(base: &str, fetcher: &Fetcher) -> Result<Self> {
        let text = format!("{}/", base.trim_end_matches('/'));
        let base = Url::parse(&text)
            .or_fail(Class::Input, || format!("`{text}` is not a registry's address"))?;
        allowed(&base)?;
        let redirects = reqwest::redirect::Policy::custom(|attempt| {
            match (attempt.previous().len(), allowed(attempt.url())) {
                (..8, Ok(())) => attempt.follow(),
                (_, Err(failure)) => attempt.error(failure),
                _ => attempt.error("too many redirects"),
            }
        });
        let http = fetcher.client_for(base.as_str(), redirects)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .or_io(|| "setting up the registry client".to_owned())?;
        Ok(Self { base, http, runtime, token: Mutex::new(None), cancel: fetcher.cancel().clone() })
    }

    /// The manifest or index `name` (a tag or a digest), compared with `expected`.
    pub(super) fn manifest(
        &self,
        repository: &str,
        name: &str,
        expected: Option<Sha256>,
    ) -> Result<Blob> {
        let url = self.url(repository, "manifests", name)?;
        let accept = [
            media_type::INDEX,
            media_type::MANIFEST,
            media_type::DOCKER_INDEX,
            media_type::DOCKER_MANIFEST,
        ];
        let bytes = self.runtime.block_on(async {
            let response = self.get(&url, &accept.join(", ")).await?;
            self.small_body(response, &url).await
        })?;
        let blob = document_blob(bytes).map_err(|failure| failure.context(url.to_string()))?;
        match expected {
            Some(expected) if expected != blob.digest => Err(Failure::io(format!(
                "{url} is not what it should be: expected sha256:{expected}, found sha256:{}",
                blob.digest
            ))),
            _ => Ok(blob),
        }
    }

    /// Hands the pieces of a blob to `take` and returns the address it came from.
    pub(super) fn blob(
        &self,
        repository: &str,
        digest: Sha256,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Url> {
        let url = self.url(repository, "blobs", &format!("sha256:{digest}"))?;
        self.runtime.block_on(async {
            let mut response = self.get(&url, "*/*").await?;
            while let Some(piece) = self.piece(&mut response, &url).await? {
                take(&piece).map_err(|failure| failure.context(format!("fetching {url}")))?;
            }
            Ok::<_, Failure>(())
        })?;
        Ok(url)
    }

    fn url(&self, repository: &str, kind: &str, name: &str) -> Result<Url> {
        let path = format!("v2/{repository}/{kind}/{name}");
        self.base.join(&path).or_fail(Class::Input, || format!("`{path}` is no address"))
    }

    /// A successful answer, after asking for a token where one is wanted and after retries.
    async fn get(&self, url: &Url, accept: &str) -> Result<Response> {
        let mut asked_for_token = false;
        let mut attempt = 1;
        loop {
            self.cancel.check()?;
            let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
            if let Some(token) = self.token() {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            match self.unless_cancelled(request.send()).await? {
                Ok(response) if response.status() == StatusCode::OK => return Ok(response),
                Ok(response)
                    if response.status() == StatusCode::UNAUTHORIZED && !asked_for_token =>
                {
                    asked_for_token = true;
                    self.authenticate(&response, url).await?;
                }
                Ok(response) if is_busy(response.status()) && attempt < ATTEMPTS => {
                    attempt += 1;
                    let wish = retry_after(response.headers());
                    self.unless_cancelled(pause(attempt, wish)).await?;
                }
                Ok(response) => return Err(refused(url, response.status())),
                Err(error) if attempt < ATTEMPTS && (error.is_connect() || error.is_timeout()) => {
                    attempt += 1;
                    self.unless_cancelled(pause(attempt, None)).await?;
                }
                Err(error) => {
                    return Err(error).or_fail(Class::Missing, || format!("no answer from {url}"));
                }
            }
        }
    }

    async fn authenticate(&self, response: &Response, url: &Url) -> Result<()> {
        let header = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(challenge) = header.and_then(Challenge::parse) else {
            return Err(refused(url, StatusCode::UNAUTHORIZED));
        };
        let server = challenge.url()?;
        let asking = || format!("asking {server} for a token");
        let request = self.http.get(server.clone()).send();
        let answer = self.unless_cancelled(request).await?.or_io(asking)?;
        if answer.status() != StatusCode::OK {
            return Err(refused(&server, answer.status()));
        }
        let token = token_in(&self.small_body(answer, &server).await?)?;
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// The next piece of a body; `None` at its end.
    async fn piece(
        &self,
        response: &mut Response,
        url: &Url,
    ) -> Result<Option<impl Deref<Target = [u8]>>> {
        self.unless_cancelled(response.chunk()).await?.or_io(|| format!("reading {url}"))
    }

    /// What `work` comes to, unless somebody asks to stop before.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = cancelled(&self.cancel) => Err(Failure::interrupted()),
        }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn small_body(&self, mut response: Response, url: &Url) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut response, url).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > DOCUMENT_LIMIT {
                return Err(Failure::io(format!("{url} has more than {DOCUMENT_LIMIT} bytes")));
            }
        }
        Ok(bytes)
    }
}

fn refused(url: &Url, status: StatusCode) -> Failure {
    let class = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Class::Input,
        _ => Class::Missing,
    };
    let failure = Failure::new(class, format!("{url}: the server answers {status}"));
    match status {
        StatusCode::NOT_FOUND => failure.with_help("check the image's name and tag"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            failure.with_help("only images that can be read without an account are fetched")
        }
        _ => failure,
    }
}

/// Whether the server may have an answer a moment later.
fn is_busy(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

async fn pause(attempt: u32, wish: Option<Duration>) {
    let usual = Duration::from_millis(100 << attempt.min(5));
    tokio::time::sleep(wish.unwrap_or(usual)).await;
}

/// https everywhere; plain http only to this machine itself.
pub(super) fn allowed(url: &Url) -> Result<()> {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err(Failure::input(format!("{url} is not an https address"))
            .with_help("plain http is allowed to 127.0.0.1 and localhost only")),
    }
}
