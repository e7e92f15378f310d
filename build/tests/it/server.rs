//! A loopback HTTP server that serves files from memory and misbehaves as told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is dropped after so many bytes of the body.
    Drop(usize),
    /// This status.
    Status(u16),
    /// Status 503, with a wish for so many seconds of rest.
    Busy(u64),
    /// Other bytes, with the right length.
    Wrong,
    /// Fewer bytes, with a matching length.
    Truncate(usize),
    /// Nothing is sent, and the connection stays open.
    Hang,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<String, Vec<Fault>>,
    /// Path and `Range` of each request, in order.
    requests: Vec<(String, Option<String>)>,
    /// Answers of status 304.
    unchanged: usize,
    no_ranges: bool,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    base: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(converse(&state, stream)));
            }
        });
        Self { state, base }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[path].clone()
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }

    /// The next answers for `path` go wrong like this, in order.
    pub(crate) fn fail(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(path.to_owned(), faults.to_vec());
    }

    pub(crate) fn refuse_ranges(&self) {
        self.state.lock().unwrap().no_ranges = true;
    }

    /// The `Range` header of each request for `path`.
    pub(crate) fn requests(&self, path: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        let here = state.requests.iter().filter(|(asked, _)| asked == path);
        here.map(|(_, range)| range.clone()).collect()
    }

    pub(crate) fn unchanged(&self) -> usize {
        self.state.lock().unwrap().unchanged
    }
}

/// Answers requests on one connection until it ends.
fn converse(state: &Mutex<State>, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if !answer(state, &mut stream, &path, &headers)? {
            return Ok(());
        }
    }
}

/// Answers one request; `false` if the connection is to be dropped.
fn answer(
    state: &Mutex<State>,
    stream: &mut TcpStream,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> std::io::Result<bool> {
    let (body, fault, ranges) = {
        let mut state = state.lock().unwrap();
        state.requests.push((path.to_owned(), headers.get("range").cloned()));
        let fault = state.faults.get_mut(path).filter(|faults| !faults.is_empty());
        let fault = fault.map(|faults| faults.remove(0));
        (state.files.get(path).cloned(), fault, !state.no_ranges)
    };
    let refusal = match fault {
        Some(Fault::Status(status)) => Some(format!("{status} Fault\r\n")),
        Some(Fault::Busy(seconds)) => Some(format!("503 Busy\r\nRetry-After: {seconds}\r\n")),
        _ => None,
    };
    if let Some(refusal) = refusal {
        write!(stream, "HTTP/1.1 {refusal}Content-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let Some(mut body) = body else {
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let etag = format!("\"{}\"", nodekiln_words::Sha256::of(&body).short());
    if headers.get("if-none-match") == Some(&etag) {
        state.lock().unwrap().unchanged += 1;
        write!(stream, "HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n")?;
        return Ok(true);
    }
    let mut head = format!("HTTP/1.1 200 OK\r\nETag: {etag}\r\n");
    let from = headers
        .get("range")
        .filter(|_| ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if let Some(from) = from {
        let total = body.len();
        if from >= total {
            write!(stream, "HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        body.drain(..from);
        head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n",
            total - 1
        );
    }
    match fault {
        Some(Fault::Hang) => {
            std::thread::sleep(Duration::from_secs(60));
            return Ok(false);
        }
        Some(Fault::Wrong) => body.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Fault::Truncate(length)) => body.truncate(length),
        _ => {}
    }
    write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len())?;
    if let Some(Fault::Drop(length)) = fault {
        stream.write_all(&body[..length])?;
        return Ok(false);
    }
    stream.write_all(&body)?;
    Ok(true)
}
