//! One question of a guest and one answer, free of any socket: what the services are functions of.

use std::borrow::Cow;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// Which of a provider's link-local addresses was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// 169.254.169.254, or wherever else the metadata service listens.
    Metadata,
    /// 168.63.129.16, Azure's wireserver.
    Wireserver,
    /// One address for all services of a provider, as `--listen` gives it: the path tells them apart.
    Any,
}

/// A request, as a service sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which address was asked.
    pub destination: Destination,
    /// The method.
    pub method: Method,
    /// The path as sent, percent-encoded.
    pub path: String,
    /// The query as sent, without the question mark; empty where there is none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// When it arrived, since the server's start: tokens expire by it.
    pub at: Duration,
}

impl Request {
    /// A request without headers and body, to be filled in.
    #[must_use]
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            destination: Destination::Any,
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            at: Duration::ZERO,
        }
    }

    /// The value of a header that is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a query parameter, decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Whether a query parameter is there and says true.
    #[must_use]
    pub fn asks(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The parts of the path, decoded, without the empty ones at either end; and whether it ends in a slash.
    #[must_use]
    pub fn segments(&self) -> (Vec<Cow<'_, str>>, bool) {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        let (path, slash) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        if path.is_empty() {
            return (Vec::new(), true);
        }
        let decoded = path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy());
        (decoded.collect(), slash)
    }

    /// The path with its query, as a person would type it.
    #[must_use]
    pub fn target(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        format!("{}?{}", self.path, self.query)
    }

    /// Whether it only reads.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

/// A service's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Headers, but for length and date.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long the service keeps the guest waiting before it answers: GCE's `wait_for_change`.
    pub hold: Option<Hold>,
}

/// How long an answer is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// This long; unless what was asked for changes meanwhile.
    For(Duration),
    /// Until what was asked for changes.
    UntilChanged,
}

impl Response {
    /// A status with a body of the given media type.
    #[must_use]
    pub fn new(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { status, headers, body: body.into(), hold: None }
    }

    /// 200 with plain text.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, "text/plain", body)
    }

    /// 200 with JSON.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(StatusCode::OK, "application/json", value.to_string())
    }

    /// A status and nothing else.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), hold: None }
    }

    /// Adds a header. The value must be printable ASCII; another one is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_parted_and_decoded_after_it_was_parted() {
        let request = Request::new(Method::GET, "/a%2Fb/52%3A54/?x=1%202&y=TRUE");
        let (segments, slash) = request.segments();
        assert_eq!(segments, ["a/b", "52:54"]);
        assert!(slash);
        assert_eq!(request.parameter("x").as_deref(), Some("1 2"));
        assert!(request.asks("y") && !request.asks("x"));
        assert_eq!(request.target(), "/a%2Fb/52%3A54/?x=1%202&y=TRUE");
        assert_eq!(Request::new(Method::GET, "/").segments(), (vec![], true));
        let doubled = Request::new(Method::GET, "/a//b");
        assert_eq!(doubled.segments().0, ["a", "", "b"]);
    }
}
