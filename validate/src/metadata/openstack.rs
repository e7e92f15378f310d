//! OpenStack's metadata service at 169.254.169.254, and the files of its config drive.
//!
//! Below `/openstack` each version knows what there was at its date; beside it stands EC2's tree of
//! 2009-04-04, without tokens, as Nova has it.
//! Source: Nova's user documentation, "Metadata", with the version that brought each key.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::{Method, StatusCode};
use nodekiln_words::Sha256;
use serde_json::{Value, json};

use super::Observed;
use super::ec2;
use super::exchange::{Request, Response};
use super::instance::Instance;

/// The versions of the service, oldest first; `latest` besides.
pub(super) const VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];

/// EC2's versions that Nova knows.
const EC2_VERSIONS: [&str; 9] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
];

/// EC2's tree, as Nova shows it.
const EC2: ec2::Service =
    ec2::Service { versions: &EC2_VERSIONS, latest: "2009-04-04", dynamic: false };

/// Bytes of a random seed (512, as Nova gives).
const RANDOM_SEED: usize = 512;

/// Answers one request.
pub(super) fn answer(instance: &Instance, observed: &mut Observed, request: &Request) -> Response {
    let (segments, _) = request.segments();
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    if let ["openstack", version, "password"] = segments[..]
        && VERSIONS.contains(&version)
        && version >= "2013-04-04"
    {
        return password(observed, request);
    }
    if !request.reads() {
        return error(StatusCode::METHOD_NOT_ALLOWED);
    }
    match segments[..] {
        ["openstack"] => Response::text(VERSIONS.join("\n")),
        ["openstack", version] if VERSIONS.contains(&version) => {
            let mut names: Vec<String> =
                files(instance, version).into_iter().map(|f| f.0).collect();
            if version >= "2013-04-04" {
                names.push("password".into());
            }
            Response::text(names.join("\n"))
        }
        ["openstack", version, file] if VERSIONS.contains(&version) => {
            let found = files(instance, version).into_iter().find(|(name, _)| name == file);
            match found {
                Some((name, body)) if name.ends_with(".json") => {
                    Response::new(StatusCode::OK, "application/json", body)
                }
                Some((_, body)) => Response::new(StatusCode::OK, "application/octet-stream", body),
                None => error(StatusCode::NOT_FOUND),
            }
        }
        ["openstack", ..] => error(StatusCode::NOT_FOUND),
        _ => ec2::document(instance, request, &EC2),
    }
}

/// The guest leaves its encrypted password here once, for its owner to fetch.
fn password(observed: &mut Observed, request: &Request) -> Response {
    if request.reads() {
        return Response::text(observed.password.clone().unwrap_or_default());
    }
    if request.method != Method::POST {
        return error(StatusCode::METHOD_NOT_ALLOWED);
    }
    // Nova takes 1020 bytes (four values of 255) and answers a second attempt with a conflict.
    if request.body.len() > 4 * 255 {
        return error(StatusCode::BAD_REQUEST);
    }
    if observed.password.is_some() {
        return error(StatusCode::CONFLICT);
    }
    observed.password = Some(String::from_utf8_lossy(&request.body).into_owned());
    Response::empty(StatusCode::OK)
}

/// The files of one version, with their names: those of `/openstack/VERSION/`, there and on a config drive.
pub(super) fn files(instance: &Instance, version: &str) -> Vec<(String, Vec<u8>)> {
    let since = |date: &str| version >= date;
    let mut files = vec![("meta_data.json".to_owned(), json_bytes(&meta_data(instance, version)))];
    if let Some(user_data) = &instance.user_data {
        files.push(("user_data".into(), user_data.clone()));
    }
    if since("2013-10-17") {
        // Nova's static vendor data is JSON; text is sent as JSON text.
        let vendor = instance.vendor_data.as_deref().map(|data| {
            serde_json::from_slice(data)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(data).into_owned()))
        });
        files.push(("vendor_data.json".into(), json_bytes(&vendor.unwrap_or_else(|| json!({})))));
    }
    if since("2015-10-15") {
        files.push(("network_data.json".into(), json_bytes(&network_data(instance))));
    }
    if since("2016-10-06") {
        files.push(("vendor_data2.json".into(), json_bytes(&json!({ "static": {} }))));
    }
    files
}

/// EC2's tree as JSON: `ec2/latest/meta-data.json` of a config drive.
pub(super) fn ec2_json(instance: &Instance) -> Vec<u8> {
    json_bytes(&ec2::meta_data(instance, "2009-04-04").to_json())
}

fn json_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn meta_data(instance: &Instance, version: &str) -> Value {
    let since = |date: &str| version >= date;
    let names = || instance.ssh_keys.iter().enumerate();
    let public: Value =
        names().map(|(n, key)| (ec2::key_name(n), Value::from(key.as_str()))).collect();
    let keys: Vec<Value> = names()
        .map(|(n, key)| json!({ "name": ec2::key_name(n), "type": "ssh", "data": key }))
        .collect();
    let mut data = json!({
        "uuid": instance.instance_id(),
        "name": instance.hostname,
        "hostname": instance.fqdn(),
        "launch_index": 0,
        "availability_zone": instance.zone,
        "meta": instance.tags,
        "public_keys": public,
    });
    let mut add = |known: bool, key: &str, value: Value| {
        if let Some(data) = data.as_object_mut().filter(|_| known) {
            data.insert(key.to_owned(), value);
        }
    };
    add(since("2013-04-04"), "random_seed", random_seed(instance).into());
    add(since("2015-10-15"), "project_id", instance.account.as_str().into());
    add(since("2015-10-15"), "keys", keys.into());
    add(since("2016-06-30"), "devices", json!([]));
    add(since("2020-10-14"), "dedicated_cpus", json!([]));
    data
}

/// A seed that is the same in every run of one instance.
fn random_seed(instance: &Instance) -> String {
    let block = |n: u8| *Sha256::of([instance.id.as_bytes(), &[n][..]].concat()).as_bytes();
    let bytes: Vec<u8> = (0..=u8::MAX).flat_map(block).take(RANDOM_SEED).collect();
    BASE64_STANDARD.encode(bytes)
}

/// One card that asks for its address itself.
fn network_data(instance: &Instance) -> Value {
    json!({
        "links": [{
            "id": "interface0",
            "type": "phy",
            "ethernet_mac_address": instance.mac.to_string(),
            "mtu": 1500,
        }],
        "networks": [{
            "id": "network0",
            "type": "ipv4_dhcp",
            "link": "interface0",
            "network_id": nodekiln_words::derive_uuid(instance.id, "network"),
        }],
        "services": [],
    })
}

fn error(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = format!(
        "<html>\n <head>\n  <title>{} {reason}</title>\n </head>\n <body>\n  <h1>{0} {reason}</h1>\n </body>\n</html>",
        status.as_u16()
    );
    Response::new(status, "text/html; charset=UTF-8", body)
}
