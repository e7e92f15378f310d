//! The services on sockets: HTTP by hyper, names over UDP and TCP, on a thread of their own.
//!
//! A request is read whole, a fault may strike, the service answers, the answer may be held back, the
//! journal is written, and the answer is sent, as the fault wants it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nodekiln_words::{Result, ResultExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::dns::{self, Zone};
use super::exchange::{Destination, Hold, Request, Response};
use super::faults::{Action, Faults};
use super::instance::Instance;
use super::journal::{Journal, Record};
use super::{Observed, answer};

/// The most that a guest may send in one body; a health report has some hundred bytes.
const MOST_BODY: usize = 1 << 20;
/// Bytes of a request's head, and of what else is buffered of a connection: far more than a token or a path of
/// these services takes.
pub(super) const MOST_HEAD: usize = 16 << 10;
/// How long a client may take for the head of a request, or be silent between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// How long a client may take for a body.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
/// Connections at a time.
const CONNECTIONS: usize = 512;
/// How often a slow body moves on.
const SLOW_STEP: Duration = Duration::from_millis(100);
/// What is sent in place of an answer of the right format.
const GARBAGE: &[u8] = b"\x00\xff<garbage\x00{]\n";
/// How long open connections get to end when the server does.
const FAREWELL: Duration = Duration::from_millis(200);

/// A socket that is listened on, and which of the cloud's addresses it stands for.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What it stands for.
    pub destination: Destination,
}

/// The sockets of a name server.
#[derive(Debug)]
pub struct NameSockets {
    /// For most questions.
    pub udp: UdpSocket,
    /// For clients that prefer it.
    pub tcp: TcpListener,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    instance: Instance,
    zone: Zone,
    faults: Faults,
    journal: Journal,
    observed: Mutex<Observed>,
    /// Told when the guest changed what it can ask for.
    changed: Notify,
    started: Instant,
}

impl Server {
    /// Answers at the given sockets until it is dropped.
    ///
    /// # Errors
    /// When a thread or an event queue cannot be had.
    pub fn start(
        instance: Instance,
        faults: Faults,
        journal: Journal,
        listeners: Vec<Listener>,
        names: Option<NameSockets>,
    ) -> Result<Self> {
        let cannot = || "start the metadata server".to_owned();
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("metadata").enable_all().build();
        let runtime = runtime.or_io(cannot)?;
        let zone = Zone::of(&instance);
        let shared = Arc::new(Shared {
            instance,
            zone,
            faults,
            journal,
            observed: Mutex::default(),
            changed: Notify::new(),
            started: Instant::now(),
        });
        let mut addresses = Vec::new();
        let inside = runtime.enter();
        for listener in listeners {
            addresses.push(listener.socket.local_addr().or_io(cannot)?);
            listener.socket.set_nonblocking(true).or_io(cannot)?;
            let socket = tokio::net::TcpListener::from_std(listener.socket).or_io(cannot)?;
            runtime.spawn(accept(Arc::clone(&shared), socket, listener.destination));
        }
        if let Some(names) = names {
            names.udp.set_nonblocking(true).or_io(cannot)?;
            names.tcp.set_nonblocking(true).or_io(cannot)?;
            let udp = tokio::net::UdpSocket::from_std(names.udp).or_io(cannot)?;
            let tcp = tokio::net::TcpListener::from_std(names.tcp).or_io(cannot)?;
            runtime.spawn(names_over_udp(Arc::clone(&shared), udp));
            runtime.spawn(names_over_tcp(Arc::clone(&shared), tcp));
        }
        drop(inside);
        Ok(Self { runtime: Some(runtime), shared, addresses })
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The instance it speaks of.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.shared.instance
    }

    /// What the guest told so far.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.shared.observed().clone()
    }

    /// What the guest asked.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// The faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(FAREWELL);
        }
    }
}

impl Shared {
    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service's answer; whoever waits for a change is told of one.
    fn answer(&self, request: &Request, waited: bool) -> Response {
        let mut observed = self.observed();
        let response = answer(&self.instance, &mut observed, request, waited);
        drop(observed);
        if !request.reads() {
            self.changed.notify_waiters();
        }
        response
    }

    /// The answer, after what it asks to be held back for.
    async fn patient_answer(&self, request: &Request) -> Response {
        let response = self.answer(request, false);
        let Some(hold) = response.hold else { return response };
        let tag = response.headers.get("etag").cloned();
        let change = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable(); // before looking, so that no change is missed
                let response = self.answer(request, true);
                if response.headers.get("etag") != tag.as_ref() {
                    return response;
                }
                changed.await;
            }
        };
        match hold {
            Hold::UntilChanged => change.await,
            Hold::For(limit) => match tokio::time::timeout(limit, change).await {
                Ok(response) => response,
                Err(_) => self.answer(request, true),
            },
        }
    }
}

/// One connection, as a fault may want to end it.
struct Connection {
    peer: IpAddr,
    destination: Destination,
    /// The socket once more, beside hyper's own handle.
    socket: TcpStream,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn accept(shared: Arc<Shared>, listener: tokio::net::TcpListener, destination: Destination) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        // What fails here is a client that went away, or a want of files that will pass.
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _ = connection(shared, stream, peer, destination).await;
            drop(place);
        });
    }
}

async fn connection(
    shared: Arc<Shared>,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    destination: Destination,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let connection = Arc::new(Connection { peer: peer.ip(), destination, socket });
    let service = service_fn(|incoming| {
        let (shared, connection) = (Arc::clone(&shared), Arc::clone(&connection));
        async move { serve(&shared, &connection, incoming).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(MOST_HEAD);
    builder.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

/// The record of a request, which is written down when this is dropped: also when the client gives the request
/// up and hyper drops what works on it.
struct Entry<'a> {
    journal: &'a Journal,
    record: Option<Record>,
}

impl Entry<'_> {
    fn answered(&mut self, status: Option<StatusCode>, length: usize, fault: Option<&str>) {
        if let Some(record) = &mut self.record {
            record.answered(status.map(|status| status.as_u16()), length, fault);
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.journal.add(record);
        }
    }
}

/// One request.
async fn serve(
    shared: &Shared,
    connection: &Connection,
    incoming: hyper::Request<Incoming>,
) -> io::Result<hyper::Response<Body>> {
    let (head, body) = incoming.into_parts();
    let mut request = Request {
        destination: connection.destination,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        method: head.method,
        headers: head.headers,
        body: Bytes::new(),
        at: shared.started.elapsed(),
    };
    let record = Some(Record::of(connection.peer, &request));
    let mut entry = Entry { journal: &shared.journal, record };
    let refused = match read(body).await? {
        Ok(body) => {
            request.body = body;
            None
        }
        Err(status) => Some(Response::empty(status)),
    }; // 1. read it whole
    let (action, text) = shared.faults.strike(&request).unzip(); // 2. does it go wrong?
    entry.answered(None, 0, text);
    if let Some(Action::Delay(delay)) = action {
        tokio::time::sleep(delay).await;
    }
    let response = match (action, refused) {
        (Some(Action::Reset | Action::Hang), _) => None,
        (Some(Action::Status(status)), _) => Some(Response::empty(status)),
        (Some(Action::RefuseToken), _) => Some(Response::empty(match request.method {
            Method::PUT => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        })),
        (Some(Action::Garbage), _) => {
            Some(Response::new(StatusCode::OK, "application/octet-stream", GARBAGE))
        }
        (_, Some(refused)) => Some(refused),
        _ => Some(shared.patient_answer(&request).await), // 3. the service's answer
    };
    if let Some(response) = &response {
        let length = match action {
            Some(Action::Half) => response.body.len() / 2,
            _ => response.body.len(),
        };
        entry.answered(Some(response.status), length, text);
    }
    drop(entry); // 4. the journal
    match response {
        Some(response) => Ok(send(response, action)), // 5. and off
        None if action == Some(Action::Reset) => {
            rustix::net::sockopt::set_socket_linger(&connection.socket, Some(Duration::ZERO))?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        None => std::future::pending().await, // until the client gives up
    }
}

/// The body, or the status that tells why it is not taken; an error where it breaks off.
async fn read(body: Incoming) -> io::Result<std::result::Result<Bytes, StatusCode>> {
    let body = Limited::new(body, MOST_BODY).collect();
    match tokio::time::timeout(BODY_DEADLINE, body).await {
        Ok(Ok(body)) => Ok(Ok(body.to_bytes())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Ok(Err(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(_) => Ok(Err(StatusCode::REQUEST_TIMEOUT)),
    }
}

fn send(response: Response, action: Option<Action>) -> hyper::Response<Body> {
    let length = response.body.len();
    let body = match action {
        Some(Action::Half) => half(&response.body),
        Some(Action::Slow(rate)) => slow(response.body, rate),
        _ => Full::new(response.body).map_err(|never| match never {}).boxed_unsync(),
    };
    let mut sent = hyper::Response::new(body);
    *sent.status_mut() = response.status;
    *sent.headers_mut() = response.headers;
    sent.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    sent
}

/// Half of the body; then the connection breaks, though the head has told of the whole.
fn half(body: &Bytes) -> Body {
    let half = stream::iter([Ok(Frame::data(body.slice(..body.len() / 2)))]);
    let broken = stream::once(async {
        tokio::time::sleep(SLOW_STEP).await; // or hyper would drop what it has not sent yet
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    StreamBody::new(half.chain(broken)).boxed_unsync()
}

/// The body at `rate` bytes a second.
fn slow(body: Bytes, rate: u32) -> Body {
    let per_step = u64::from(rate) * SLOW_STEP.as_millis() as u64;
    let step = usize::try_from(per_step.div_ceil(1000)).unwrap_or(usize::MAX).max(1);
    let pause = Duration::from_secs_f64(step as f64 / f64::from(rate));
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let piece = rest.split_to(step.min(rest.len()));
        Some((Ok(Frame::data(piece)), rest))
    });
    StreamBody::new(pieces).boxed_unsync()
}

async fn names_over_udp(shared: Arc<Shared>, socket: tokio::net::UdpSocket) {
    let mut buffer = [0; 4096];
    loop {
        // A guest that closed its port before the last answer came is told here.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let query = buffer.get(..length).unwrap_or_default();
        if let Some(bytes) = name(&shared, peer.ip(), query) {
            let _ = socket.send_to(&bytes, peer).await;
        }
    }
}

async fn names_over_tcp(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        let talk = async move { names_on(&shared, stream, peer.ip()).await };
        tokio::spawn(tokio::time::timeout(HEAD_DEADLINE, talk));
    }
}

/// Messages with their length before them (RFC 1035, section 4.2.2).
async fn names_on(
    shared: &Shared,
    mut stream: tokio::net::TcpStream,
    peer: IpAddr,
) -> io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        if let Some(bytes) = name(shared, peer, &query) {
            stream.write_u16(u16::try_from(bytes.len()).map_err(io::Error::other)?).await?;
            stream.write_all(&bytes).await?;
        }
    }
}

fn name(shared: &Shared, source: IpAddr, query: &[u8]) -> Option<Vec<u8>> {
    let reply = dns::reply(&shared.zone, &shared.faults, source, query)?;
    shared.journal.add(reply.record);
    reply.bytes
}
