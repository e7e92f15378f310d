//! The HTTP client, and what its errors mean for somebody who waits for a file.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nodekiln_words::{Class, Failure, Result, ResultExt};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, StatusCode, Url};

use super::FetchSettings;

/// The longest wait that a server may ask for; beyond it the next address is the better bet.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Redirections that are followed for one file, as many as browsers do at least (RFC 9110, section
/// 15.4).
const MOST_REDIRECTS: usize = 10;

/// Why one try of one address failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Worth another try at the same address, perhaps not before some time.
    Again(Failure, Option<Duration>),
    /// Not worth another try at this address. It says nothing about the bytes that have arrived.
    Elsewhere(Failure),
    /// The bytes that have arrived are not the file's: too many, or of another digest.
    Wrong(Failure),
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
            | Self::Wrong(failure)
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
        .redirect(Policy::custom(redirect))
        // Bytes are hashed as the server stores them: no encoding in between.
        .no_gzip();
    if let Some(proxy) = &settings.proxy {
        let proxy = Proxy::all(proxy).or_fail(Class::Input, || format!("proxy `{proxy}`"))?;
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &settings.ca_file {
        for certificate in certificates(path)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder)
}

/// The certificates in a PEM file. One that holds none, such as a certificate in DER, would be no
/// error to the parser, and every connection would fail later for a reason that names no file.
fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let name = || format!("certificates in {}", path.display());
    let pem = fs_err::read(path).or_fail(Class::Input, name)?;
    let certificates = Certificate::from_pem_bundle(&pem).or_fail(Class::Input, name)?;
    if certificates.is_empty() {
        return Err(Failure::input(format!("{} holds no PEM certificate", path.display()))
            .with_help(
                "name a file with `-----BEGIN CERTIFICATE-----` in it; `openssl x509 -inform DER` \
                 turns one in DER into that",
            ));
    }
    Ok(certificates)
}

/// Follows a redirection unless it would leave TLS: what was asked for over https must not be
/// answered, or read on the way, over http.
fn redirect(attempt: Attempt<'_>) -> Action {
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("too many redirects");
    }
    if attempt.previous().last().is_some_and(|from| leaves_tls(from, attempt.url())) {
        let text = format!("refused to go on to {}, which is not https", attempt.url());
        return attempt.error(text);
    }
    attempt.follow()
}

fn leaves_tls(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// What an error of the client means.
pub(super) fn transport(url: &str, error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    if error.is_builder() {
        return Trouble::Elsewhere(
            Failure::input(format!("`{url}` is no address")).with_source(error),
        );
    }
    if error.is_redirect() {
        let help = "name an address that is served without leaving https, or another mirror";
        let failure = Failure::io(format!("{url} leads elsewhere")).with_source(error);
        return Trouble::Elsewhere(failure.with_help(help));
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

/// The server's wish for a pause, in seconds or as a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    pause_from(headers.get(RETRY_AFTER)?.to_str().ok()?.trim(), Timestamp::now())
}

fn pause_from(text: &str, now: Timestamp) -> Option<Duration> {
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            u64::try_from(then.as_second() - now.as_second()).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_seconds_or_as_a_date_and_is_never_long() {
        let now = Timestamp::from_second(1_445_412_470).unwrap();
        let pause = |text| pause_from(text, now).map(|pause| pause.as_secs());
        assert_eq!(pause("7"), Some(7));
        assert_eq!(pause("86400"), Some(60));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), Some(10));
        assert_eq!(pause("Wed, 21 Oct 2015 07:27:00 GMT"), Some(0), "it has passed");
        assert_eq!(pause("soon"), None);
    }
}
