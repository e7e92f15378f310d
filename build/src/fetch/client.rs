//! The HTTP client, and what its errors mean for somebody who waits for a file.

use std::time::Duration;

use nodekiln_words::{Class, Failure, Result, ResultExt};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, StatusCode};

use super::FetchSettings;

/// The longest wait that a server may ask for; beyond it the next address is the better bet.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why one try of one address failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Worth another try at the same address, perhaps not before some time.
    Again(Failure, Option<Duration>),
    /// Not worth another try at this address.
    Elsewhere(Failure),
    /// The address answered that it has no such file.
    NotThere(Failure),
    /// No address will help: stopped, or the disk is full.
    Final(Failure),
}

/// The outcome of one try.
pub(super) type Tried<T> = std::result::Result<T, Trouble>;

impl Trouble {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Again(failure, _)
            | Self::Elsewhere(failure)
            | Self::NotThere(failure)
            | Self::Final(failure) => failure,
        }
    }
}

pub(super) fn client(settings: &FetchSettings) -> Result<Client> {
    let client = builder(settings)?.build();
    client.or_fail(Class::Unsupported, || "cannot set up the HTTP client".to_owned())
}

pub(super) fn builder(settings: &FetchSettings) -> Result<ClientBuilder> {
    let mut builder = Client::builder()
        .user_agent(concat!("nodekiln/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        // Bytes are hashed as the server stores them: no encoding in between.
        .no_gzip();
    if let Some(proxy) = &settings.proxy {
        let proxy = Proxy::all(proxy).or_fail(Class::Input, || format!("proxy `{proxy}`"))?;
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &settings.ca_file {
        let name = || format!("certificates in {}", path.display());
        let pem = fs_err::read(path).or_fail(Class::Input, name)?;
        for certificate in Certificate::from_pem_bundle(&pem).or_fail(Class::Input, name)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder)
}

/// What an error of the client means.
pub(super) fn transport(url: &str, error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    if error.is_builder() {
        return Trouble::Elsewhere(
            Failure::input(format!("`{url}` is no address")).with_source(error),
        );
    }
    let missing = Failure::new(Class::Missing, format!("no answer from {url}"));
    let help = "check the network; behind a proxy set https_proxy and http_proxy, for a private \
                certificate authority set SSL_CERT_FILE";
    Trouble::Again(missing.with_source(error).with_help(help), None)
}

/// A server that was silent for too long.
pub(super) fn stalled(url: &str, after: Duration) -> Trouble {
    let text = format!("{url} sent nothing for {} s", after.as_secs_f32());
    Trouble::Again(Failure::new(Class::Missing, text), None)
}

/// What a status other than success means.
pub(super) fn refused(url: &str, status: StatusCode, headers: &HeaderMap) -> Trouble {
    let failure = |class| Failure::new(class, format!("{url} answered {status}"));
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Trouble::NotThere(failure(Class::Io)),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Trouble::Again(failure(Class::Missing), retry_after(headers))
        }
        status if status.is_server_error() => {
            Trouble::Again(failure(Class::Missing), retry_after(headers))
        }
        _ => Trouble::Elsewhere(failure(Class::Io)),
    }
}

/// The server's wish for a pause, in its form in seconds (RFC 9110, section 10.2.3); a date would
/// need a clock and the usual pause does as well.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
