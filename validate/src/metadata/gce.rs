//! Google Compute Engine's metadata server, at metadata.google.internal and 169.254.169.254.
//!
//! Strict where the server is: nothing without `Metadata-Flavor: Google` (403), nothing through a proxy
//! (403), a folder without its slash is a redirection. Left out are tokens of service accounts.
//! Source: Compute Engine documentation, "About VM metadata", "View and query VM metadata", "Set and
//! query guest attributes".

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::{Method, StatusCode};
use nodekiln_words::Sha256;
use serde_json::{Map, Value, json};

use super::Observed;
use super::exchange::{Hold, Request, Response};
use super::instance::Instance;
use super::tree::names;

/// The name that guests ask for; they also use the address.
pub(super) const NAME: &str = "metadata.google.internal";
/// Header by which both sides say that they mean this service.
const FLAVOR: &str = "metadata-flavor";
/// The header of before 2014, which is still taken.
const OLD_FLAVOR: &str = "x-google-metadata-request";
/// Where guests keep attributes of their own.
const GUEST_ATTRIBUTES: &str = "guest-attributes";
/// Folders whose keys are people's own words, and stay as they are in JSON.
const VERBATIM: [&str; 2] = ["attributes", GUEST_ATTRIBUTES];
/// The most that a guest may write under one key, and the longest key.
const MOST: (usize, usize) = (256 << 10, 256);
/// Keys that a guest may write, and bytes of keys and values together. Every answer is made from all of them.
const MOST_IN_ALL: (usize, usize) = (1024, 1 << 20);

/// Answers one request. `waited` tells that a held answer is due now.
pub(super) fn answer(
    instance: &Instance,
    observed: &mut Observed,
    request: &Request,
    waited: bool,
) -> Response {
    route(instance, observed, request, waited)
        .with(FLAVOR, "Google")
        .with("server", "Metadata Server for VM")
        .with("x-xss-protection", "0")
        .with("x-frame-options", "SAMEORIGIN")
}

fn route(
    instance: &Instance,
    observed: &mut Observed,
    request: &Request,
    waited: bool,
) -> Response {
    let (segments, slash) = request.segments();
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    match segments[..] {
        // Asked without any header by programs that want to know where they are.
        [] if request.reads() => return text("computeMetadata/\n"),
        ["computeMetadata"] if request.reads() => {
            return folder_or_redirect(request, slash, "v1/\n");
        }
        ["computeMetadata", "v1", ref path @ ..] => {
            let flavor = request.header(FLAVOR) == Some("Google")
                || request
                    .header(OLD_FLAVOR)
                    .is_some_and(|value| value.eq_ignore_ascii_case("true"));
            if !flavor || request.headers.contains_key("x-forwarded-for") {
                return page(StatusCode::FORBIDDEN, "Missing Metadata-Flavor:Google header.");
            }
            if request.reads() {
                return read(instance, observed, request, path, slash, waited);
            }
            if let ["instance", GUEST_ATTRIBUTES, namespace, key] = path {
                return write(observed, request, namespace, key);
            }
            return page(StatusCode::METHOD_NOT_ALLOWED, "Only guest attributes can be written.");
        }
        _ => {}
    }
    page(StatusCode::NOT_FOUND, "The requested URL was not found on this server.")
}

fn folder_or_redirect(request: &Request, slash: bool, listing: &str) -> Response {
    if slash { text(listing) } else { redirect(request) }
}

fn redirect(request: &Request) -> Response {
    let host = request.header("host").unwrap_or(NAME);
    let query =
        if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    page(StatusCode::MOVED_PERMANENTLY, "The document has moved.")
        .with("location", &format!("http://{host}{}/{query}", request.path))
}

fn read(
    instance: &Instance,
    observed: &Observed,
    request: &Request,
    path: &[&str],
    slash: bool,
    waited: bool,
) -> Response {
    let root = document(instance, observed);
    let Some((value, verbatim)) = find(&root, path) else {
        return page(StatusCode::NOT_FOUND, "The requested URL was not found on this server.");
    };
    let folder = is_folder(value);
    if folder && !slash {
        return redirect(request);
    }
    if slash && !folder {
        return page(StatusCode::NOT_FOUND, "The requested URL was not found on this server.");
    }
    let recursive = request.asks("recursive");
    let format = request.parameter("alt");
    let response = match (format.as_deref(), folder) {
        (Some("json"), _) | (None, true) if recursive || !folder => as_json(value, verbatim),
        (Some("json"), true) => as_json(&Value::from(names(value, is_folder)), true),
        (Some("text") | None, true) if recursive => text(&flat(value)),
        (Some("text") | None, true) => text(
            &names(value, is_folder).iter().map(|name| format!("{name}\n")).collect::<String>(),
        ),
        (Some("text") | None, false) => text(&plain(value)),
        _ => return page(StatusCode::BAD_REQUEST, "alt is json or text."),
    };
    let tag = Sha256::of(&response.body).to_string();
    let tag = tag.trim_start_matches("sha256:").get(..16).unwrap_or_default().to_owned();
    let mut response = response.with("etag", &tag);
    if request.asks("wait_for_change") && !waited {
        let known = request.parameter("last_etag").is_none_or(|last| last == tag);
        let limit = match request.parameter("timeout_sec").map(|seconds| seconds.parse::<u32>()) {
            None => Hold::UntilChanged,
            Some(Ok(seconds)) => Hold::For(Duration::from_secs(seconds.into())),
            Some(Err(_)) => return page(StatusCode::BAD_REQUEST, "timeout_sec is a number."),
        };
        response.hold = known.then_some(limit);
    }
    response
}

/// A guest attribute: `namespace` and `key` are its own words.
fn write(observed: &mut Observed, request: &Request, namespace: &str, key: &str) -> Response {
    let name = (namespace.to_owned(), key.to_owned());
    let fine = |word: &str| {
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
        !word.is_empty() && word.len() <= MOST.1 && word.bytes().all(sane)
    };
    let value = std::str::from_utf8(&request.body).ok().filter(|value| value.len() <= MOST.0);
    match (&request.method, value) {
        _ if !fine(namespace) || !fine(key) => page(StatusCode::BAD_REQUEST, "Invalid key."),
        (&Method::PUT, Some(value)) => {
            let before = observed.guest_attributes.insert(name.clone(), value.to_owned());
            if fits(observed) {
                return text("");
            }
            match before {
                Some(before) => observed.guest_attributes.insert(name, before),
                None => observed.guest_attributes.remove(&name),
            };
            page(StatusCode::BAD_REQUEST, "There are too many guest attributes.")
        }
        (&Method::PUT, None) => page(StatusCode::BAD_REQUEST, "Invalid value."),
        (&Method::DELETE, _) if observed.guest_attributes.remove(&name).is_some() => text(""),
        (&Method::DELETE, _) => page(StatusCode::NOT_FOUND, "There is no such attribute."),
        _ => page(StatusCode::METHOD_NOT_ALLOWED, "PUT, DELETE or GET."),
    }
}

/// Whether the guest attributes are within their limits.
fn fits(observed: &Observed) -> bool {
    let attributes = &observed.guest_attributes;
    let bytes =
        |((space, key), value): (&(String, String), &String)| space.len() + key.len() + value.len();
    attributes.len() <= MOST_IN_ALL.0
        && attributes.iter().map(bytes).sum::<usize>() <= MOST_IN_ALL.1
}

/// All that the server knows: objects are folders, arrays of objects are folders of numbers.
fn document(instance: &Instance, observed: &Observed) -> Value {
    let project = instance.number("project") >> 20; // 43 bits, twelve or thirteen digits
    let of = |kind: &str, name: &str| format!("projects/{project}/{kind}/{name}");
    let mut guest: Map<String, Value> = Map::new();
    for ((namespace, key), value) in &observed.guest_attributes {
        let folder = guest.entry(namespace.clone()).or_insert_with(|| json!({}));
        folder.as_object_mut().map(|folder| folder.insert(key.clone(), value.as_str().into()));
    }
    let tags: Vec<&String> = instance.tags.keys().collect();
    json!({
        "instance": {
            "attributes": attributes(instance),
            "cpu-platform": "Intel Cascade Lake",
            "description": "",
            "disks": [{
                "device-name": instance.hostname,
                "index": 0,
                "interface": "SCSI",
                "mode": "READ_WRITE",
                "type": "PERSISTENT-BALANCED",
            }],
            "guest-attributes": guest,
            "hostname": instance.fqdn(),
            "id": instance.number("instance"),
            "image": of("global/images", "nodekiln"),
            "licenses": [],
            "machine-type": of("machineTypes", &instance.machine_type),
            "maintenance-event": "NONE",
            "name": instance.hostname,
            "network-interfaces": [{
                "access-configs": [{ "external-ip": "", "type": "ONE_TO_ONE_NAT" }],
                "dns-servers": ["169.254.169.254"],
                "forwarded-ips": [],
                "gateway": instance.gateway,
                "ip": instance.address,
                "ip-aliases": [],
                "mac": instance.mac.to_string(),
                "mtu": 1460,
                "network": of("networks", "default"),
                "subnetmask": instance.mask(),
                "target-instance-ips": [],
            }],
            "preempted": "FALSE",
            "remaining-cpu-time": -1,
            "scheduling": {
                "automatic-restart": "TRUE",
                "on-host-maintenance": "MIGRATE",
                "preemptible": "FALSE",
            },
            "service-accounts": {},
            "tags": tags,
            "virtual-clock": { "drift-token": "0" },
            "zone": of("zones", &instance.zone),
        },
        "project": {
            "attributes": {},
            "numeric-project-id": project,
            "project-id": instance.account,
        },
    })
}

/// User-data that is no text is sent as base64, as cloud-init understands it.
fn attributes(instance: &Instance) -> Value {
    let mut attributes = Map::new();
    attributes.insert("enable-guest-attributes".into(), "TRUE".into());
    if !instance.ssh_keys.is_empty() {
        let line = |key: &String| format!("{}:{key}", instance.admin);
        let keys: Vec<String> = instance.ssh_keys.iter().map(line).collect();
        attributes.insert("ssh-keys".into(), keys.join("\n").into());
    }
    if let Some(data) = &instance.user_data {
        let value = match std::str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                attributes.insert("user-data-encoding".into(), "base64".into());
                BASE64_STANDARD.encode(data)
            }
        };
        attributes.insert("user-data".into(), value.into());
    }
    attributes.into()
}

/// What is at a path, and whether its keys are people's own words.
fn find<'a>(root: &'a Value, path: &[&str]) -> Option<(&'a Value, bool)> {
    let mut found = (root, false);
    for part in path {
        let (value, verbatim) = found;
        let next = match value {
            Value::Object(folder) => folder.get(*part)?,
            Value::Array(list) if is_folder(value) => {
                let number: usize = part.parse().ok()?;
                list.get(number).filter(|_| number.to_string() == *part)?
            }
            _ => return None,
        };
        found = (next, verbatim || VERBATIM.contains(part));
    }
    Some(found)
}

/// Objects, and arrays of objects; an array of texts is a value.
fn is_folder(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(list) => list.first().is_some_and(Value::is_object),
        _ => false,
    }
}

/// A value as text; of arrays, an element a line.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A folder as text with `recursive=true`: a path and a value on each line.
fn flat(value: &Value) -> String {
    fn walk(value: &Value, path: &str, lines: &mut String) {
        let join =
            |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match value {
            Value::Object(folder) => {
                folder.iter().for_each(|(name, value)| walk(value, &join(name), lines));
            }
            Value::Array(list) if is_folder(value) => {
                let pairs = list.iter().enumerate();
                pairs.for_each(|(number, value)| walk(value, &join(&number.to_string()), lines));
            }
            leaf => {
                lines.push_str(path);
                lines.push(' ');
                lines.push_str(&plain(leaf));
                lines.push('\n');
            }
        }
    }
    let mut lines = String::new();
    walk(value, "", &mut lines);
    lines
}

/// JSON with the names that the server gives there: `network-interfaces` becomes `networkInterfaces`.
fn as_json(value: &Value, verbatim: bool) -> Response {
    Response::new(StatusCode::OK, "application/json", camel(value, verbatim).to_string())
}

fn camel(value: &Value, verbatim: bool) -> Value {
    match value {
        Value::Object(folder) => {
            let pair = |(name, value): (&String, &Value)| {
                let inner = verbatim || VERBATIM.contains(&name.as_str());
                let name = if verbatim { name.clone() } else { camel_name(name) };
                (name, camel(value, inner))
            };
            folder.iter().map(pair).collect()
        }
        Value::Array(list) => list.iter().map(|value| camel(value, verbatim)).collect(),
        other => other.clone(),
    }
}

fn camel_name(name: &str) -> String {
    let mut words = name.split('-');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        camel.push_str(&first.to_ascii_uppercase());
        camel.push_str(rest);
    }
    camel
}

fn text(body: &str) -> Response {
    Response::new(StatusCode::OK, "application/text", body.to_owned())
}

/// The server tells errors as HTML pages. `why` is never a guest's own word.
fn page(status: StatusCode, why: &'static str) -> Response {
    let body = format!(
        "<!DOCTYPE html>\n<html lang=en>\n<title>Error {} ({})</title>\n<p>{why}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    Response::new(status, "text/html; charset=UTF-8", body)
}
