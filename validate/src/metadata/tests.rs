//! What each service answers and what it refuses.

mod azure;
mod clouds;
mod ec2;
mod server;

use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use super::exchange::{Request, Response};
use super::instance::{Description, Instance};
use super::{Cloud, Observed, answer};

/// A key of the bytes 0 to 31.
pub(super) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f tester";

/// An instance with a bit of everything.
pub(super) fn instance(cloud: Cloud) -> Instance {
    let yaml = format!(
        "seed: test\nhostname: node-1\nmac: 52:54:00:6e:6b:01\nssh-keys: ['{KEY}']\n\
         user-data: \"#cloud-config\\n\"\ntags: {{Name: 'a & <b>'}}\naccount: acme"
    );
    Instance::of(cloud, Description::parse(&yaml).unwrap()).unwrap()
}

pub(super) fn request(
    method: &Method,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request {
    let mut request = Request::new(method.clone(), target);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    request.body = Bytes::copy_from_slice(body.as_bytes());
    request
}

/// One GET of a fresh service.
pub(super) fn get(instance: &Instance, target: &str, headers: &[(&str, &str)]) -> Response {
    answer(instance, &mut Observed::default(), &request(&Method::GET, target, headers, ""), false)
}

pub(super) fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

/// Every answer that a client which follows all listings gets, as one text.
pub(super) fn crawl(instance: &Instance, start: &str, headers: &[(&str, &str)]) -> String {
    let mut told = String::new();
    let mut open = vec![start.to_owned()];
    while let Some(path) = open.pop() {
        let response = get(instance, &path, headers);
        assert_eq!(response.status, StatusCode::OK, "{path}");
        let body = text(&response);
        told.push_str(&format!("== {path}\n{body}\n"));
        if path.ends_with('/') {
            let entries: Vec<&str> = body.lines().collect();
            open.extend(entries.iter().rev().map(|entry| match entry.split_once('=') {
                Some((number, _)) => format!("{path}{number}/openssh-key"),
                None => format!("{path}{entry}"),
            }));
        }
    }
    told
}

/// Compares with the golden file, or rewrites it when `NODEKILN_BLESS` is set.
pub(super) fn golden(name: &str, actual: &str) {
    let folder = std::path::Path::new("golden/metadata");
    let path = folder.join(name);
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        fs_err::create_dir_all(folder).unwrap();
        fs_err::write(&path, actual).unwrap();
    }
    let reviewed = fs_err::read_to_string(&path).unwrap();
    assert_eq!(actual, reviewed, "{name}; set NODEKILN_BLESS=1 to rewrite");
}
