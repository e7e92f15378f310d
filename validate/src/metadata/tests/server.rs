//! The server on a socket: faults, waiting, limits.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::metadata::journal::{Journal, Record};
use crate::metadata::server::MOST_HEAD;
use crate::metadata::{Server, serve_at};

fn serve(cloud: Cloud, faults: &[&str]) -> Server {
    serve_and_tell(cloud, faults).0
}

/// A server and what its journal tells.
fn serve_and_tell(cloud: Cloud, faults: &[&str]) -> (Server, Receiver<Record>) {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (sender, told) = channel();
    let journal = Journal::default();
    journal.listen(move |record| drop(sender.send(record.clone()))).unwrap();
    (serve_at(any, instance(cloud), faults, journal).unwrap(), told)
}

/// The status and the fault of the next record.
fn next(told: &Receiver<Record>) -> (Option<u16>, Option<String>) {
    match told.recv_timeout(Duration::from_secs(20)).expect("no record") {
        Record::Http { status, fault, .. } => (status, fault),
        record @ Record::Dns { .. } => panic!("{record:?}"),
    }
}

/// Sends a request and reads until the other side is done, as bytes and the way it ended.
fn ask(server: &Server, head: &str, body: &str) -> (String, std::io::Result<()>) {
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let headers = format!("Host: h\r\nContent-Length: {length}\r\nConnection: close");
    stream.write_all(format!("{head}\r\n{headers}\r\n\r\n{body}").as_bytes()).unwrap();
    hear(&mut stream)
}

/// Reads until the other side is done, as bytes and the way it ended.
fn hear(stream: &mut TcpStream) -> (String, std::io::Result<()>) {
    let mut told = Vec::new();
    let ended = stream.read_to_end(&mut told).map(drop);
    (String::from_utf8_lossy(&told).into_owned(), ended)
}

fn status(server: &Server, head: &str) -> u16 {
    let (told, _) = ask(server, head, "");
    told.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}

const META_DATA: &str = "GET /meta-data HTTP/1.1";

#[test]
fn a_status_strikes_as_often_as_it_says_and_is_written_down() {
    let (server, told) = serve_and_tell(Cloud::NoCloud, &["GET /meta-data=503x2"]);
    let seen: Vec<u16> = (0..3).map(|_| status(&server, META_DATA)).collect();
    assert_eq!(seen, [503, 503, 200]);
    let faults = [(); 3].map(|()| next(&told));
    let struck = Some("GET /meta-data=503x2".to_owned());
    assert_eq!(faults, [(Some(503), struck.clone()), (Some(503), struck), (Some(200), None)]);
}

#[test]
fn a_refused_token_is_forbidden_and_unauthorized() {
    let server = serve(Cloud::Aws, &["/latest/*=refuse-token"]);
    let ttl = "\r\nX-aws-ec2-metadata-token-ttl-seconds: 60";
    assert_eq!(status(&server, &format!("PUT /latest/api/token HTTP/1.1{ttl}")), 403);
    assert_eq!(status(&server, "GET /latest/meta-data/ HTTP/1.1"), 401);
}

#[test]
fn a_reset_is_a_reset() {
    let server = serve(Cloud::NoCloud, &["* /*=reset"]);
    let (told, ended) = ask(&server, META_DATA, "");
    assert_eq!(told, "");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn half_a_body_is_half_of_what_was_announced() {
    let server = serve(Cloud::NoCloud, &["GET /meta-data=halfx1"]);
    let (half, _) = ask(&server, META_DATA, "");
    let (whole, ended) = ask(&server, META_DATA, "");
    ended.unwrap();
    let body = |told: &str| told.split_once("\r\n\r\n").unwrap().1.to_owned();
    let length = format!("content-length: {}\r\n", body(&whole).len());
    assert!(half.contains(&length) && whole.contains(&length), "{half}");
    assert_eq!(body(&half), body(&whole)[..body(&whole).len() / 2]);
}

#[test]
fn a_slow_body_and_a_delay_take_their_time_and_come_whole() {
    let server = serve(Cloud::NoCloud, &["/meta-data=slow:500", "/user-data=delay:300ms"]);
    for path in ["meta-data", "user-data"] {
        let begun = Instant::now();
        let (told, ended) = ask(&server, &format!("GET /{path} HTTP/1.1"), "");
        ended.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(250), "{path}");
        let expected = get(&instance(Cloud::NoCloud), &format!("/{path}"), &[]);
        assert!(told.ends_with(text(&expected)), "{told}");
    }
}

#[test]
fn garbage_is_garbage_and_silence_is_silence() {
    let faults = ["/meta-data=garbage", "/user-data=hang"];
    let (server, records) = serve_and_tell(Cloud::NoCloud, &faults);
    let (told, _) = ask(&server, META_DATA, "");
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("<garbage"), "{told}");
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.write_all(b"GET /user-data HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(next(&records).0, Some(200));
    assert_eq!(next(&records), (None, Some(faults[1].to_owned())));
}

#[test]
fn a_request_that_the_client_gives_up_is_written_down() {
    let fault = "/user-data=delay:10m";
    let (server, told) = serve_and_tell(Cloud::NoCloud, &[fault]);
    let heads = [
        "GET /user-data HTTP/1.1\r\nHost: h\r\n\r\n", // while its answer is delayed
        "PUT /user-data HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", // within its body
    ];
    for (head, struck) in heads.into_iter().zip([Some(fault.to_owned()), None]) {
        let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(told.try_recv().is_err(), "{head}: it is not over");
        drop(stream);
        assert_eq!(next(&told), (None, struck), "{head}");
    }
}

#[test]
fn whoever_waits_for_a_change_is_told_of_it_and_of_no_other() {
    let server = serve(Cloud::Gce, &[]);
    let path = "/computeMetadata/v1/instance/guest-attributes/";
    let flavor = "HTTP/1.1\r\nMetadata-Flavor: Google";
    let put = |key: &str, value: &str| {
        let (told, _) = ask(&server, &format!("PUT {path}{key} {flavor}"), value);
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    };
    put("hostkeys/ssh-rsa", "AAAA");
    let (told, _) = ask(&server, &format!("GET {path}hostkeys/?recursive=true {flavor}"), "");
    let tag = told.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let wait = format!("GET {path}hostkeys/?recursive=true&wait_for_change=true&last_etag={tag}");
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    write!(stream, "{wait} {flavor}\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    put("other/key", "other");
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    put("hostkeys/ssh-ed25519", "BBBB");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.ends_with(r#"{"ssh-ed25519":"BBBB","ssh-rsa":"AAAA"}"#), "{told}");
    let due = format!("GET {path}?recursive=true&wait_for_change=true&timeout_sec=0 {flavor}");
    assert!(ask(&server, &due, "").0.contains(r#""other":{"key":"other"}"#));
}

#[test]
fn a_body_beyond_reason_is_refused() {
    let server = serve(Cloud::Azure, &[]);
    let (told, _) = ask(&server, "POST /machine?comp=health HTTP/1.1", &"x".repeat((1 << 20) + 1));
    assert!(told.starts_with("HTTP/1.1 413"), "{told:.80}");
}

#[test]
fn a_head_beyond_reason_is_refused() {
    let server = serve(Cloud::NoCloud, &[]);
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Not a byte more: what the server leaves unread makes its end a reset, which may overtake the answer.
    let head = format!("GET /{:x<1$}", "", MOST_HEAD - "GET /".len());
    stream.write_all(head.as_bytes()).unwrap();
    let (told, _) = hear(&mut stream);
    let refused = told.starts_with("HTTP/1.1 431") || told.starts_with("HTTP/1.1 414");
    assert!(refused, "{told:.80}");
    assert_eq!(status(&server, META_DATA), 200);
}

#[test]
fn head_is_get_without_the_body() {
    let server = serve(Cloud::NoCloud, &[]);
    let (told, _) = ask(&server, "HEAD /user-data HTTP/1.1", "");
    assert!(told.contains("content-length: 14\r\n") && told.ends_with("\r\n\r\n"), "{told}");
}
