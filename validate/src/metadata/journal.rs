//! What the guest asked: a line of JSON for each request and each question of a name.
//!
//! Of headers only names are kept, and of queries no value that could be a credential, so that a log can
//! be shown to anybody. Bodies are never kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nodekiln_words::{Result, ResultExt as _};
use serde::Serialize;
use url::form_urlencoded;

use super::exchange::{Destination, Request};

/// Records beyond this many are counted, written to the file, and not kept.
const KEPT: usize = 1 << 16;
/// Query parameters that may carry a credential.
const SECRET: [&str; 9] =
    ["access_token", "audience", "code", "key", "password", "sas", "sig", "signature", "token"];
/// What stands in place of a secret.
const REDACTED: &str = "REDACTED";

/// One thing that the guest asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A request to a service.
    Http {
        /// Who asked.
        source: IpAddr,
        /// Which address was asked.
        destination: Destination,
        /// The method.
        method: String,
        /// Path and query.
        path: String,
        /// Names of the headers, in alphabetical order.
        headers: Vec<String>,
        /// The status of the answer; `None` where there was none.
        status: Option<u16>,
        /// Bytes of the answer's body.
        bytes: u64,
        /// The fault that struck, as it was written.
        fault: Option<String>,
    },
    /// A question to the name server.
    Dns {
        /// Who asked.
        source: IpAddr,
        /// The name.
        name: String,
        /// The type of record, such as `A`.
        record: String,
        /// What was answered: an address, `none`, or a code such as `NXDOMAIN`; `None` for nothing.
        answer: Option<String>,
        /// The fault that struck, as it was written.
        fault: Option<String>,
    },
}

impl Record {
    /// The record of a request that has not been answered yet.
    pub(super) fn of(source: IpAddr, request: &Request) -> Self {
        let mut headers: Vec<String> =
            request.headers.keys().map(|name| name.as_str().to_owned()).collect();
        headers.sort();
        headers.dedup();
        Self::Http {
            source,
            destination: request.destination,
            method: request.method.as_str().to_owned(),
            path: shown(request),
            headers,
            status: None,
            bytes: 0,
            fault: None,
        }
    }

    /// Notes the answer.
    pub(super) fn answered(&mut self, code: Option<u16>, length: usize, struck: Option<&str>) {
        if let Self::Http { status, bytes, fault, .. } = self {
            *status = code;
            *bytes = length as u64;
            *fault = struck.map(str::to_owned);
        }
    }

    /// What is counted together: method, path without query, and status.
    fn kind(&self) -> String {
        match self {
            Self::Http { method, path, status, .. } => {
                let path = path.split('?').next().unwrap_or_default();
                let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                format!("{method} {path} {status}")
            }
            Self::Dns { name, record, answer, .. } => {
                format!("DNS {record} {name} {}", answer.as_deref().unwrap_or("-"))
            }
        }
    }
}

impl fmt::Display for Record {
    /// A line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self {
            Self::Http { method, path, status, bytes, fault, .. } => {
                match status {
                    Some(status) => write!(f, "{status} {method} {path} ({bytes} bytes)")?,
                    None => write!(f, "--- {method} {path}")?,
                }
                fault
            }
            Self::Dns { name, record, answer, fault, .. } => {
                write!(f, "dns {record} {name}: {}", answer.as_deref().unwrap_or("no answer"))?;
                fault
            }
        };
        fault.as_ref().map_or(Ok(()), |fault| write!(f, " [fault {fault}]"))
    }
}

/// Path and query, with the values of parameters that may be secrets replaced. Control characters cannot
/// be there: hyper refuses such a request line.
fn shown(request: &Request) -> String {
    if request.query.is_empty() {
        return request.path.clone();
    }
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if secret(name) => format!("{name}={REDACTED}"),
        _ => pair.to_owned(),
    };
    let pairs: Vec<String> = request.query.split('&').map(hide).collect();
    format!("{}?{}", request.path, pairs.join("&"))
}

fn secret(name: &str) -> bool {
    let decoded = form_urlencoded::parse(name.as_bytes()).next();
    let name = decoded.map_or_else(String::new, |(name, _)| name.to_ascii_lowercase());
    SECRET.contains(&name.as_str())
}

/// A function that is told of each record.
type Listener = Box<dyn Fn(&Record) + Send>;

/// The log of one server.
#[derive(Default)]
pub struct Journal(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    records: Vec<Record>,
    counts: BTreeMap<String, u64>,
    file: Option<(PathBuf, fs_err::File)>,
    failed: Option<std::io::Error>,
    listener: Option<Listener>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("counts", &self.lock().counts).finish_non_exhaustive()
    }
}

impl Journal {
    /// A journal that is also written to `path`, one JSON object a line.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn to_file(path: &Path) -> Result<Self> {
        let file =
            fs_err::File::create(path).or_io(|| "cannot make the log of requests".to_owned())?;
        let inner = Inner { file: Some((path.to_owned(), file)), ..Inner::default() };
        Ok(Self(Mutex::new(inner)))
    }

    /// Has `listener` told of each record from now on.
    pub fn listen(&self, listener: impl Fn(&Record) + Send + 'static) {
        self.lock().listener = Some(Box::new(listener));
    }

    /// Adds a record.
    pub(super) fn add(&self, record: Record) {
        let mut inner = self.lock();
        *inner.counts.entry(record.kind()).or_default() += 1;
        let inner = &mut *inner;
        if let Some((_, file)) = &mut inner.file
            && inner.failed.is_none()
        {
            inner.failed = file.write_all(line(&record).as_bytes()).err();
        }
        if let Some(listener) = &inner.listener {
            listener(&record);
        }
        if inner.records.len() < KEPT {
            inner.records.push(record);
        }
    }

    /// The records so far, in order: those of the first 65,536.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// How often each method, path and status was seen.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// Tells whether all of it reached the file.
    ///
    /// # Errors
    /// When writing failed.
    pub fn finish(&self) -> Result<()> {
        let mut inner = self.lock();
        match inner.failed.take() {
            Some(error) => Err(error).or_io(|| "cannot write the log of requests".to_owned()),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record with the time, as a line of JSON.
fn line(record: &Record) -> String {
    #[derive(Serialize)]
    struct Timed<'a> {
        time: String,
        #[serde(flatten)]
        record: &'a Record,
    }
    let time = format!("{:.3}", jiff::Timestamp::now());
    let json = serde_json::to_string(&Timed { time, record }).unwrap_or_default();
    format!("{json}\n")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::Method;
    use hyper::header::HeaderValue;

    use super::*;

    fn record(target: &str) -> Record {
        let mut request = Request::new(Method::GET, target);
        let token = HeaderValue::from_static("hush-hush");
        request.headers.insert("x-aws-ec2-metadata-token", token);
        request.headers.insert("accept", HeaderValue::from_static("*/*"));
        Record::of(Ipv4Addr::LOCALHOST.into(), &request)
    }

    #[test]
    fn credentials_are_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let journal = Journal::to_file(&path).unwrap();
        for target in ["/a?Token=hush-hush&b=1", "/a?si%67=hush-hush", "/a"] {
            let mut record = record(target);
            record.answered(Some(200), 3, Some("GET /a=500"));
            journal.add(record);
        }
        journal.finish().unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(!text.contains("hush"), "{text}");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["path"], "/a?Token=REDACTED&b=1");
        assert_eq!(lines[0]["headers"], serde_json::json!(["accept", "x-aws-ec2-metadata-token"]));
        assert_eq!(lines[2]["status"], 200);
        assert_eq!(lines[2]["fault"], "GET /a=500");
        assert!(lines[2]["time"].as_str().unwrap().ends_with('Z'), "{text}");
    }

    #[test]
    fn what_is_alike_is_counted() {
        let journal = Journal::default();
        for (target, status) in [("/a?x=1", 200), ("/a?x=2", 200), ("/a", 404)] {
            let mut record = record(target);
            record.answered(Some(status), 0, None);
            journal.add(record);
        }
        let expected = [("GET /a 200".to_owned(), 2), ("GET /a 404".to_owned(), 1)];
        assert_eq!(journal.counts(), expected.into());
        assert_eq!(journal.records().len(), 3);
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let journal = Journal::to_file(Path::new("/dev/full")).unwrap();
        journal.add(record("/a"));
        let failure = journal.finish().unwrap_err();
        assert_eq!(failure.class(), nodekiln_words::Class::Io);
    }
}
