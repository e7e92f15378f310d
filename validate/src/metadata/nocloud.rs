//! NoCloud's files, by URL: any HTTP server to which `ds=nocloud;s=URL` in the SMBIOS serial points.
//!
//! Source: cloud-init's documentation, "NoCloud". The YAML that it wants is written as JSON, which is
//! YAML, so that nothing in it can be taken for syntax.

use hyper::StatusCode;
use serde_json::json;

use super::exchange::{Request, Response};
use super::instance::Instance;

/// Answers one request.
pub(super) fn answer(instance: &Instance, request: &Request) -> Response {
    if !request.reads() {
        return Response::empty(StatusCode::METHOD_NOT_ALLOWED).with("allow", "GET, HEAD");
    }
    let (segments, slash) = request.segments();
    let found = match (&segments[..], slash) {
        ([name], false) => files(instance).into_iter().find(|(file, _)| file == name),
        _ => None,
    };
    match found {
        Some((_, body)) => Response::new(StatusCode::OK, "application/octet-stream", body),
        None => Response::empty(StatusCode::NOT_FOUND),
    }
}

/// The files by name: `meta-data` and `user-data`, which must be there, and the others.
pub(super) fn files(instance: &Instance) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = vec![
        ("meta-data", meta_data(instance)),
        ("user-data", instance.user_data.clone().unwrap_or_default()),
        ("network-config", network_config(instance)),
    ];
    if let Some(vendor_data) = &instance.vendor_data {
        files.push(("vendor-data", vendor_data.clone()));
    }
    files
}

fn meta_data(instance: &Instance) -> Vec<u8> {
    let data = json!({
        "instance-id": instance.instance_id(),
        "local-hostname": instance.hostname,
        "public-keys": instance.ssh_keys,
    });
    format!("{data:#}\n").into_bytes()
}

/// Network configuration version 2: the card is known by its address, and asks for its own by DHCP.
fn network_config(instance: &Instance) -> Vec<u8> {
    let config = json!({
        "version": 2,
        "ethernets": {
            "primary": {
                "match": { "macaddress": instance.mac.to_string() },
                "set-name": "eth0",
                "dhcp4": true,
                "dhcp6": false,
            },
        },
    });
    format!("{config:#}\n").into_bytes()
}
