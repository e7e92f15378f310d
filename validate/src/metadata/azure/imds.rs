//! Azure's instance metadata service.
//!
//! Strict where the service is: `Metadata: true`, no proxy, an api-version that it knows, and
//! `format=text` for single values. Fields appear with the version that brought them. Left out are
//! attested documents and identities, which need Microsoft's keys.
//! Source: Azure documentation, "Azure Instance Metadata Service for virtual machines".

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::super::exchange::{Request, Response};
use super::super::instance::Instance;
use super::super::tree::names;

/// The versions that the service knows, oldest first.
const VERSIONS: [&str; 32] = [
    "2017-03-01",
    "2017-04-02",
    "2017-08-01",
    "2017-10-01",
    "2017-12-01",
    "2018-02-01",
    "2018-04-02",
    "2018-10-01",
    "2019-02-01",
    "2019-03-11",
    "2019-04-30",
    "2019-06-01",
    "2019-06-04",
    "2019-08-01",
    "2019-08-15",
    "2019-11-01",
    "2020-06-01",
    "2020-07-15",
    "2020-09-01",
    "2020-10-01",
    "2020-12-01",
    "2021-01-01",
    "2021-02-01",
    "2021-03-01",
    "2021-05-01",
    "2021-08-01",
    "2021-10-01",
    "2021-11-01",
    "2021-11-15",
    "2021-12-13",
    "2023-07-01",
    "2023-11-15",
];

/// Answers one request.
pub(super) fn answer(instance: &Instance, request: &Request) -> Response {
    route(instance, request).with("server", "IMDS/150.870.65.1854")
}

fn route(instance: &Instance, request: &Request) -> Response {
    if !request.reads() {
        let text = "Method Not Allowed. Only GET is allowed for this resource.";
        return error(StatusCode::METHOD_NOT_ALLOWED, text).with("allow", "GET");
    }
    if request.headers.contains_key("x-forwarded-for") {
        return error(StatusCode::BAD_REQUEST, "Bad request. Requests via proxy are not supported");
    }
    if !request.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return error(
            StatusCode::BAD_REQUEST,
            "Bad request. Required metadata header not specified",
        );
    }
    let (segments, _) = request.segments();
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    if segments == ["metadata", "versions"] {
        return Response::json(&json!({ "apiVersions": VERSIONS }));
    }
    let version = match version(request) {
        Ok(version) => version,
        Err(refusal) => return *refusal,
    };
    match segments[..] {
        ["metadata", "instance", ref path @ ..] => {
            let document = document(instance, &version, request.asks("extended"));
            value(&document, path, request.parameter("format").as_deref())
        }
        ["metadata", "scheduledevents"] => {
            Response::json(&json!({ "DocumentIncarnation": 1, "Events": [] }))
        }
        ["metadata", "identity", ..] => Response {
            status: StatusCode::BAD_REQUEST,
            ..Response::json(
                &json!({ "error": "invalid_request", "error_description": "Identity not found" }),
            )
        },
        _ => error(StatusCode::NOT_FOUND, "Not found"),
    }
}

fn version(request: &Request) -> Result<String, Box<Response>> {
    let newest: Vec<&str> = VERSIONS.iter().rev().take(3).copied().collect();
    let refuse = |text: &str| {
        let body = json!({ "error": text, "newest-versions": newest });
        Box::new(Response { status: StatusCode::BAD_REQUEST, ..Response::json(&body) })
    };
    let Some(version) = request.parameter("api-version") else {
        return Err(refuse(
            "Bad request. api-version was not specified in the request. For more information refer to \
             aka.ms/azureimds",
        ));
    };
    if VERSIONS.contains(&version.as_str()) {
        return Ok(version);
    }
    Err(refuse(
        "Bad request. api-version is invalid or was not specified in the request. For more information \
         refer to aka.ms/azureimds",
    ))
}

/// A folder is sent as JSON, or as a list of names; a single value as text only.
fn value(document: &Value, path: &[&str], format: Option<&str>) -> Response {
    let mut found = document;
    for part in path {
        let next = match found {
            Value::Object(fields) => fields.get(*part),
            Value::Array(list) => part.parse::<usize>().ok().and_then(|number| list.get(number)),
            _ => None,
        };
        match next {
            Some(next) => found = next,
            None => return error(StatusCode::NOT_FOUND, "Not found"),
        }
    }
    let is_folder = |value: &Value| value.is_object() || value.is_array();
    let folder = is_folder(found);
    match (format, folder) {
        (None | Some("json"), true) => Response::json(found),
        (Some("text"), true) => Response::text(names(found, is_folder).join("\n")),
        (Some("text"), false) => Response::text(match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        (None | Some("json"), false) => error(
            StatusCode::BAD_REQUEST,
            "Bad request. A single value is sent with format=text only",
        ),
        _ => error(StatusCode::BAD_REQUEST, "Bad request. Invalid format specified"),
    }
}

fn document(instance: &Instance, version: &str, extended: bool) -> Value {
    let mut document = json!({
        "compute": compute(instance, version),
        "network": { "interface": [interface(instance)] },
    });
    if extended
        && version >= "2021-03-01"
        && let Some(fields) = document.as_object_mut()
    {
        let custom = instance.user_data.is_some();
        let compute = json!({ "hasCustomData": custom, "ppsType": "None" });
        fields.insert("extended".into(), json!({ "compute": compute }));
    }
    document
}

fn compute(instance: &Instance, version: &str) -> Value {
    let since = |date: &str| version >= date;
    let mut compute = Map::new();
    let mut add = |since: &str, name: &str, value: Value| {
        if version >= since {
            compute.insert(name.to_owned(), value);
        }
    };
    let group = "nodekiln";
    let id = format!(
        "/subscriptions/{}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{}",
        instance.account, instance.hostname
    );
    let joined: Vec<String> =
        instance.tags.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    let list: Vec<Value> =
        instance.tags.iter().map(|(key, value)| json!({ "name": key, "value": value })).collect();
    let path = format!("/home/{}/.ssh/authorized_keys", instance.admin);
    let keys: Vec<Value> =
        instance.ssh_keys.iter().map(|key| json!({ "keyData": key, "path": path })).collect();
    let user_data = BASE64_STANDARD.encode(instance.user_data.as_deref().unwrap_or_default());
    add("2017-04-02", "location", instance.region.as_str().into());
    add("2017-04-02", "name", instance.hostname.as_str().into());
    add("2017-04-02", "offer", "".into());
    add("2017-04-02", "osType", "Linux".into());
    add("2017-04-02", "platformFaultDomain", "0".into());
    add("2017-04-02", "platformUpdateDomain", "0".into());
    add("2017-04-02", "publisher", "".into());
    add("2017-04-02", "sku", "".into());
    add("2017-04-02", "version", "".into());
    add("2017-04-02", "vmId", instance.instance_id().into());
    add("2017-04-02", "vmSize", instance.machine_type.as_str().into());
    add("2017-08-01", "placementGroupId", "".into());
    add("2017-08-01", "resourceGroupName", group.into());
    add("2017-08-01", "subscriptionId", instance.account.as_str().into());
    add("2017-08-01", "tags", joined.join(";").into());
    add("2017-12-01", "vmScaleSetName", "".into());
    add("2017-12-01", "zone", instance.zone.as_str().into());
    add("2018-04-02", "plan", json!({ "name": "", "product": "", "publisher": "" }));
    add("2018-04-02", "publicKeys", keys.into());
    add("2018-10-01", "azEnvironment", "AzurePublicCloud".into());
    add("2018-10-01", "customData", "".into()); // the service never gives it back
    add("2018-10-01", "provider", "Microsoft.Compute".into());
    add("2019-03-11", "resourceId", id.into());
    add("2019-06-01", "storageProfile", storage(instance));
    add("2019-06-04", "tagsList", list.into());
    add("2020-06-01", "isHostCompatibilityLayerVm", "false".into());
    let mut security = json!({ "secureBootEnabled": "false", "virtualTpmEnabled": "false" });
    for (since, name, value) in
        [("2021-11-01", "encryptionAtHost", "false"), ("2021-12-13", "securityType", "")]
    {
        if let Some(fields) = security.as_object_mut().filter(|_| version >= since) {
            fields.insert(name.to_owned(), value.into());
        }
    }
    add("2020-06-01", "securityProfile", security);
    add("2021-01-01", "userData", user_data.into());
    if since("2020-06-01") {
        let mut profile = Map::new();
        if since("2020-07-15") {
            profile.insert("adminUsername".into(), instance.admin.as_str().into());
        }
        profile.insert("computerName".into(), instance.hostname.as_str().into());
        if since("2020-10-01") {
            profile.insert("disablePasswordAuthentication".into(), "true".into());
        }
        compute.insert("osProfile".into(), profile.into());
    }
    compute.into()
}

fn storage(instance: &Instance) -> Value {
    json!({
        "dataDisks": [],
        "imageReference": { "id": "", "offer": "", "publisher": "", "sku": "", "version": "" },
        "osDisk": {
            "caching": "ReadWrite",
            "createOption": "FromImage",
            "diffDiskSettings": { "option": "" },
            "diskSizeGB": "30",
            "image": { "uri": "" },
            "managedDisk": { "id": "", "storageAccountType": "Premium_LRS" },
            "name": format!("{}_OsDisk", instance.hostname),
            "osType": "Linux",
            "vhd": { "uri": "" },
            "writeAcceleratorEnabled": "false",
        },
    })
}

/// The card; its Ethernet address has no colons and capital letters here.
fn interface(instance: &Instance) -> Value {
    let subnet = instance.network(instance.prefix);
    let [a, b, c, d, e, f] = instance.mac.0;
    json!({
        "ipv4": {
            "ipAddress": [{ "privateIpAddress": instance.address, "publicIpAddress": "" }],
            "subnet": [{ "address": subnet, "prefix": instance.prefix.to_string() }],
        },
        "ipv6": { "ipAddress": [] },
        "macAddress": format!("{a:02X}{b:02X}{c:02X}{d:02X}{e:02X}{f:02X}"),
    })
}

fn error(status: StatusCode, text: &str) -> Response {
    Response { status, ..Response::json(&json!({ "error": text })) }
}
