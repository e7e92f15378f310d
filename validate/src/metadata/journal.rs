//! What the guest asked: a line of JSON for each request and each question of a name.
//!
//! Of headers only names are kept, and of queries no value that could be a credential, so that a log can
//! be shown to anybody. Bodies are never kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nodekiln_words::{Failure, Result, ResultExt as _};
use serde::Serialize;
use url::form_urlencoded;

use super::exchange::{Destination, Request};

/// Kinds that are counted apart: a guest may ask for as many paths as it likes.
const KINDS: usize = 1024;
/// Where all further kinds are counted.
const OTHER: &str = "other";
/// Records that wait for whoever writes or reads them: some seconds of a busy guest. Further ones are lost,
/// and that is told, for neither may the guest wait for the reader nor the memory fill.
const QUEUE: usize = 4096;
/// How long the end waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(3);
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
    /// A line for people. What the guest chose is escaped: it must not move the terminal's cursor, nor look
    /// like another line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self {
            Self::Http { method, path, status, bytes, fault, .. } => {
                let path = path.escape_debug();
                match status {
                    Some(status) => write!(f, "{status} {method} {path} ({bytes} bytes)")?,
                    None => write!(f, "--- {method} {path}")?,
                }
                fault
            }
            Self::Dns { name, record, answer, fault, .. } => {
                let (name, answer) =
                    (name.escape_debug(), answer.as_deref().unwrap_or("no answer"));
                write!(f, "dns {record} {name}: {answer}")?;
                fault
            }
        };
        fault.as_ref().map_or(Ok(()), |fault| write!(f, " [fault {fault}]"))
    }
}

/// Path and query, with the values of parameters that may be secrets replaced.
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
///
/// Records are counted here; a thread of their own writes them to the file and tells the listener, so that
/// nobody who reads slowly keeps a guest waiting. What the guest decides about has limits: kinds are counted
/// up to [`KINDS`], and of records that nobody takes off [`QUEUE`] wait.
#[derive(Default)]
pub struct Journal(Mutex<Inner>);

/// Nothing blocks while this is locked.
#[derive(Default)]
struct Inner {
    counts: BTreeMap<String, u64>,
    /// Records that found the queue full.
    lost: u64,
    writer: Option<Writer>,
    /// Whether the thread did not come to its end.
    stuck: bool,
}

/// The way to the thread that writes.
struct Writer {
    queue: SyncSender<Message>,
    /// Told once, when the queue is closed and all of it is written: the first error of the file.
    written: Receiver<Option<io::Error>>,
}

enum Message {
    Record(jiff::Timestamp, Record),
    Listen(Listener),
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
    /// When the file cannot be made, or no thread be had.
    pub fn to_file(path: &Path) -> Result<Self> {
        let file =
            fs_err::File::create(path).or_io(|| "cannot make the log of requests".to_owned())?;
        let writer = Some(Writer::start(Some(file))?);
        Ok(Self(Mutex::new(Inner { writer, ..Inner::default() })))
    }

    /// Has `listener` told of each record from now on, on a thread of the journal's own.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn listen(&self, listener: impl Fn(&Record) + Send + 'static) -> Result<()> {
        let mut inner = self.lock();
        let writer = match inner.writer.take() {
            Some(writer) => writer,
            None => Writer::start(None)?,
        };
        let queue = writer.queue.clone();
        inner.writer = Some(writer);
        drop(inner);
        let gone = |_| Failure::io("the thread that writes the log of requests is gone");
        queue.send(Message::Listen(Box::new(listener))).map_err(gone)
    }

    /// Adds a record.
    pub(super) fn add(&self, record: Record) {
        let mut inner = self.lock();
        let kind = record.kind();
        let kind = if inner.counts.len() < KINDS || inner.counts.contains_key(&kind) {
            kind
        } else {
            OTHER.to_owned()
        };
        *inner.counts.entry(kind).or_default() += 1;
        let Some(writer) = &inner.writer else { return };
        let message = Message::Record(jiff::Timestamp::now(), record);
        if writer.queue.try_send(message).is_err() {
            inner.lost += 1;
        }
    }

    /// How often each method, path and status was seen; those beyond 1,024 kinds count as `other`.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// Writes what is still to be written, three seconds at most. Records that come later are counted only.
    ///
    /// # Errors
    /// When writing failed, or some records are not written because nobody took them off.
    pub fn finish(&self) -> Result<()> {
        let mut inner = self.lock();
        let lost = std::mem::take(&mut inner.lost);
        let Some(Writer { queue, written }) = inner.writer.take() else { return Ok(()) };
        drop(inner);
        drop(queue); // closes it
        let slow = |text: String| {
            Failure::io(text).with_help(
                "something has to read what is told, or give --log FILE and --progress quiet",
            )
        };
        match written.recv_timeout(PATIENCE) {
            Ok(Some(error)) => Err(error).or_io(|| "cannot write the log of requests".to_owned()),
            Ok(None) if lost == 0 => Ok(()),
            Ok(None) => {
                Err(slow(format!("{lost} requests are missing in the log: it is read too slowly")))
            }
            Err(_) => {
                self.lock().stuck = true;
                Err(slow("nobody reads the log of requests: its end is missing".to_owned()))
            }
        }
    }

    /// Whether [`Journal::finish`] left nothing behind that still waits to be read. Where it did, whoever
    /// writes to the same place would wait too.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let inner = self.lock();
        inner.writer.is_none() && !inner.stuck
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.finish(); // whoever wants to know has asked before
    }
}

impl Writer {
    fn start(file: Option<fs_err::File>) -> Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let (done, written) = mpsc::sync_channel(1);
        let work = move || {
            let _ = done.send(write(file, &messages));
        };
        let thread = std::thread::Builder::new().name("journal".to_owned());
        thread.spawn(work).or_io(|| "start a thread for the log of requests".to_owned())?;
        Ok(Self { queue, written })
    }
}

/// Writes and tells until the queue is closed; gives the file's first error, after which it is let alone.
fn write(mut file: Option<fs_err::File>, messages: &Receiver<Message>) -> Option<io::Error> {
    let (mut listener, mut failed): (Option<Listener>, _) = (None, None);
    for message in messages {
        match message {
            Message::Listen(new) => listener = Some(new),
            Message::Record(time, record) => {
                if let (Some(file), None) = (&mut file, &failed) {
                    failed = file.write_all(line(time, &record).as_bytes()).err();
                }
                if let Some(listener) = &listener {
                    listener(&record);
                }
            }
        }
    }
    failed
}

/// A record with the time, as a line of JSON.
fn line(time: jiff::Timestamp, record: &Record) -> String {
    #[derive(Serialize)]
    struct Timed<'a> {
        time: String,
        #[serde(flatten)]
        record: &'a Record,
    }
    let time = format!("{time:.3}");
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
        journal.finish().unwrap();
    }

    #[test]
    fn a_guest_that_asks_for_ever_more_is_counted_in_bounds() {
        let journal = Journal::default();
        for number in 0..KINDS + 10 {
            journal.add(record(&format!("/{number}")));
        }
        journal.add(record("/0"));
        let counts = journal.counts();
        assert_eq!(counts.len(), KINDS + 1);
        assert_eq!((counts["GET /0 -"], counts[OTHER]), (2, 10));
    }

    #[test]
    fn each_record_is_told_in_order_before_the_end() {
        let journal = Journal::default();
        let (sender, told) = mpsc::channel();
        journal.listen(move |record| sender.send(record.to_string()).unwrap()).unwrap();
        for number in 0..100 {
            journal.add(record(&format!("/{number}")));
        }
        journal.finish().unwrap();
        let expected: Vec<String> = (0..100).map(|number| format!("--- GET /{number}")).collect();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
        journal.add(record("/late"));
        journal.finish().unwrap();
    }

    /// A journal whose listener does nothing until the sender is dropped.
    fn stuck() -> (Journal, mpsc::Sender<()>) {
        let journal = Journal::default();
        let (hold, held) = mpsc::channel::<()>();
        journal.listen(move |_| held.recv().unwrap_or_default()).unwrap();
        (journal, hold)
    }

    #[test]
    fn nobody_waits_for_a_slow_reader_and_what_is_lost_is_told() {
        let (journal, hold) = stuck();
        let (sender, done) = mpsc::channel();
        let adding = std::thread::spawn(move || {
            for _ in 0..QUEUE + 10 {
                journal.add(record("/a"));
            }
            sender.send(journal).unwrap();
        });
        let journal = done.recv_timeout(Duration::from_secs(60)).expect("a guest had to wait");
        adding.join().unwrap();
        assert_eq!(journal.counts()["GET /a -"], QUEUE as u64 + 10);
        drop(hold);
        let failure = journal.finish().unwrap_err();
        assert!(failure.to_string().contains("requests are missing"), "{failure:?}");
        assert!(failure.help().is_some(), "{failure:?}");
    }

    #[test]
    fn the_end_does_not_wait_for_ever_for_a_reader() {
        let (journal, hold) = stuck();
        journal.add(record("/a"));
        let failure = journal.finish().unwrap_err();
        assert!(failure.to_string().contains("nobody reads"), "{failure:?}");
        assert!(!journal.is_drained());
        drop(hold);
    }

    #[test]
    fn what_a_guest_chose_cannot_move_the_cursor() {
        let http = record("/a\u{9b}2J\u{7f}").to_string();
        let dns = Record::Dns {
            source: Ipv4Addr::LOCALHOST.into(),
            name: "a\u{1b}[2J\nb".to_owned(),
            record: "A".to_owned(),
            answer: None,
            fault: None,
        };
        for line in [http, dns.to_string()] {
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        let json = serde_json::to_value(&dns).unwrap();
        assert_eq!(json["name"], "a\u{1b}[2J\nb"); // programs get it as it was
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let journal = Journal::to_file(Path::new("/dev/full")).unwrap();
        journal.add(record("/a"));
        let failure = journal.finish().unwrap_err();
        assert_eq!(failure.class(), nodekiln_words::Class::Io);
    }
}
