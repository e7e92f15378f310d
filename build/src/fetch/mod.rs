//! Fetching: files that are known by digest into the store, and small texts that are not.
//!
//! A file is looked for at its addresses in the order given. It arrives in a partial file in the
//! store, is hashed on the way, and becomes a blob only if its digest is the one wanted; a broken
//! transfer goes on where it stopped, also in a later process. Texts such as a signed index are kept
//! with their validators (`ETag`, `Last-Modified`) and asked for again conditionally (RFC 9110,
//! section 13); whoever reads them checks them.

mod client;
mod files;
mod partial;
mod text;
mod transfer;

pub(crate) use client::retry_after;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, ResultExt, Sha256};

use crate::store::Store;

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What people call it, such as `curl_7.88.1-10_amd64.deb`.
    pub what: String,
    /// Addresses in the order in which they are tried: `http`, `https` or `file`.
    pub urls: Vec<String>,
    /// What it must be.
    pub sha256: Sha256,
    /// Its length in bytes, where known.
    pub size: Option<u64>,
}

/// How to reach servers.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// Use what is in the store alone; ask nobody.
    pub offline: bool,
    /// Proxy for all addresses; without it the variables `http_proxy`, `https_proxy`, `all_proxy`
    /// and `no_proxy` say which.
    pub proxy: Option<String>,
    /// A PEM file of certificate authorities to trust besides the system's, which
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` can replace.
    pub ca_file: Option<PathBuf>,
    /// Files in transfer at a time.
    pub connections: usize,
    /// How often one address is tried before the next one.
    pub attempts: u32,
    /// Wait before the second try; doubled for each further one.
    pub backoff: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a server may be silent.
    pub stall_timeout: Duration,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            offline: false,
            proxy: None,
            ca_file: None,
            // Enough to hide the round trips of small files from one mirror without being rude.
            connections: 8,
            attempts: 4,
            backoff: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// Fetches files and texts. Clones share connections.
#[derive(Clone)]
pub struct Fetcher(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    progress: Arc<dyn Progress>,
    cancel: Cancel,
    settings: FetchSettings,
    client: reqwest::Client,
    /// `Some` until dropped; taken then, because a runtime must not be dropped in async code.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fetcher {
    /// A fetcher into `store`.
    ///
    /// # Errors
    /// When the proxy or the certificate file cannot be used.
    pub fn new(
        store: Arc<Store>,
        progress: Arc<dyn Progress>,
        cancel: Cancel,
        settings: FetchSettings,
    ) -> Result<Self> {
        let client = client::client(&settings)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fetch")
            .enable_all()
            .build()
            .or_io(|| "cannot start threads for fetching".into())?;
        let runtime = Some(runtime);
        Ok(Self(Arc::new(Shared { store, progress, cancel, settings, client, runtime })))
    }

    /// The store that files are fetched into.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Who is told about progress.
    #[must_use]
    pub fn progress(&self) -> &dyn Progress {
        &*self.0.progress
    }

    /// A client with this fetcher's proxy, certificates and time-outs, for protocols of their own.
    ///
    /// # Errors
    /// When the fetcher is offline, or the settings cannot be used.
    pub(crate) fn client_for(
        &self,
        url: &str,
        redirects: reqwest::redirect::Policy,
    ) -> Result<reqwest::Client> {
        if self.0.settings.offline {
            return Err(offline(url));
        }
        client::builder(&self.0.settings)?
            .redirect(redirects)
            .read_timeout(self.0.settings.stall_timeout)
            .build()
            .or_io(|| "cannot set up the HTTP client".to_owned())
    }

    /// Whether no server may be asked.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.0.settings.offline
    }

    /// The flag that stops fetching.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.0.cancel
    }

    fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        match &self.0.runtime {
            Some(runtime) => Ok(runtime.block_on(future)),
            None => Err(Failure::interrupted()),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until somebody asks to stop.
pub(crate) async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn offline(what: &str) -> Failure {
    Failure::new(Class::Missing, format!("{what} is not in the content store, and this is offline"))
        .with_help("run the command once without the offline setting")
}
