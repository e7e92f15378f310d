//! Amazon EC2's instance metadata service, version 2, at 169.254.169.254.
//!
//! Strict where the service is: no answer without a token that it gave and that has not expired, paths
//! of a date only know what there was at that date, and a value has no slash at its end. Left out is what
//! needs Amazon's private key (`pkcs7`, `rsa2048`, `signature`) and credentials of roles.
//! Source: Amazon EC2 user guide, "Instance metadata categories" with the version that brought each, and
//! "How Instance Metadata Service Version 2 works".

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use hyper::{Method, StatusCode};
use nodekiln_words::Sha256;

use super::exchange::{Request, Response};
use super::instance::{Instance, Tokens};
use super::tree::{Folder, Found};

/// Path of tokens.
pub(super) const TOKEN_PATH: &str = "/latest/api/token";
/// Header with a token.
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Header with a token's life in seconds.
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// A token lives six hours at most.
const LONGEST: u32 = 21_600;

/// The versions of the service, oldest first; `latest` besides.
const VERSIONS: [&str; 28] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
];

/// A service that shows this tree.
pub(super) struct Service {
    /// Its versions, oldest first.
    pub(super) versions: &'static [&'static str],
    /// The version that `latest` stands for.
    pub(super) latest: &'static str,
    /// Whether it has the folder `dynamic`.
    pub(super) dynamic: bool,
}

/// Amazon's own.
const SERVICE: Service = Service { versions: &VERSIONS, latest: "latest", dynamic: true };

/// Answers one request.
pub(super) fn answer(instance: &Instance, request: &Request) -> Response {
    let response = if request.path == TOKEN_PATH {
        token(instance, request)
    } else if !request.reads() {
        page(StatusCode::METHOD_NOT_ALLOWED).with("allow", "OPTIONS, GET, HEAD")
    } else {
        match authorise(instance, request) {
            Ok(ttl) => {
                let found = document(instance, request, &SERVICE);
                match ttl {
                    Some(ttl) => found.with(TTL, &ttl.to_string()),
                    None => found,
                }
            }
            Err(status) => page(status),
        }
    };
    response.with("server", "EC2ws")
}

/// A new token, for whoever asks from the instance itself: a proxy in between adds `X-Forwarded-For`.
fn token(instance: &Instance, request: &Request) -> Response {
    if request.method != Method::PUT {
        return page(StatusCode::METHOD_NOT_ALLOWED).with("allow", "OPTIONS, PUT");
    }
    if request.headers.contains_key("x-forwarded-for") {
        return page(StatusCode::FORBIDDEN);
    }
    let wanted = request.header(TTL).and_then(|ttl| ttl.parse::<u32>().ok());
    let Some(ttl) = wanted.filter(|ttl| (1..=LONGEST).contains(ttl)) else {
        return page(StatusCode::BAD_REQUEST);
    };
    let token = Token { issued: request.at, ttl }.write(instance);
    Response::text(token).with(TTL, &ttl.to_string())
}

/// The time that the token has left, in seconds; `None` where none is needed and none came.
fn authorise(instance: &Instance, request: &Request) -> Result<Option<u64>, StatusCode> {
    let Some(text) = request.headers.get(TOKEN) else {
        return match instance.tokens {
            Tokens::Required => Err(StatusCode::UNAUTHORIZED),
            Tokens::Optional => Ok(None),
        };
    };
    let token = text.to_str().ok().and_then(|text| Token::read(instance, text));
    let left = token.and_then(|token| token.left(request.at));
    left.map(|left| Some(left.as_secs())).ok_or(StatusCode::UNAUTHORIZED)
}

/// A token carries its own dates and a check by which the server knows that it is its own.
struct Token {
    issued: Duration,
    ttl: u32,
}

/// Bytes of a token before the check.
const DATES: usize = 12;

impl Token {
    fn write(&self, instance: &Instance) -> String {
        let mut bytes =
            u64::try_from(self.issued.as_millis()).unwrap_or(u64::MAX).to_be_bytes().to_vec();
        bytes.extend(self.ttl.to_be_bytes());
        let check = check(instance, &bytes);
        bytes.extend(check);
        BASE64_URL_SAFE.encode(bytes) // 56 characters, as the service's own
    }

    fn read(instance: &Instance, text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE.decode(text).ok()?;
        let (dates, found) = bytes.split_at_checked(DATES)?;
        if found != check(instance, dates) {
            return None;
        }
        let (issued, ttl) = dates.split_first_chunk()?;
        let issued = Duration::from_millis(u64::from_be_bytes(*issued));
        Some(Self { issued, ttl: u32::from_be_bytes(ttl.try_into().ok()?) })
    }

    /// What is left of its life at `now`.
    fn left(&self, now: Duration) -> Option<Duration> {
        let end = self.issued + Duration::from_secs(self.ttl.into());
        end.checked_sub(now).filter(|left| !left.is_zero())
    }
}

/// Not a secret: it tells a token of this instance from anything else that a guest may send.
fn check(instance: &Instance, dates: &[u8]) -> [u8; 28] {
    let digest = Sha256::of([instance.id.as_bytes(), dates].concat());
    let mut check = [0; 28];
    check.copy_from_slice(digest.as_bytes().split_at(28).0);
    check
}

/// What is at the request's path in a service.
pub(super) fn document(instance: &Instance, request: &Request, service: &Service) -> Response {
    let (segments, slash) = request.segments();
    let Some((version, path)) = segments.split_first() else {
        return Response::text(format!("{}\nlatest", service.versions.join("\n")));
    };
    let version = match version.as_ref() {
        "latest" => service.latest,
        dated if service.versions.contains(&dated) => dated,
        _ => return page(StatusCode::NOT_FOUND),
    };
    match root(instance, version, service.dynamic).find(path) {
        Some(Found::Folder(folder)) => Response::text(folder.listing()),
        Some(Found::Leaf(value)) if !slash => match path {
            [name] if name == "user-data" => {
                Response::new(StatusCode::OK, "application/octet-stream", value.clone())
            }
            _ => Response::text(value.clone()),
        },
        _ => page(StatusCode::NOT_FOUND),
    }
}

/// All of one version. Versions compare as text: `1.0` before every date, `latest` after.
fn root(instance: &Instance, version: &str, dynamic: bool) -> Folder {
    let mut root = Folder::default();
    root.folder("meta-data", meta_data(instance, version));
    if let Some(user_data) = &instance.user_data {
        root.leaf("user-data", user_data.clone());
    }
    if dynamic && version >= "2009-04-04" {
        let mut identity = Folder::default();
        identity.leaf("document", identity_document(instance));
        let mut monitoring = Folder::default();
        monitoring.leaf("instance-monitoring", "disabled");
        let mut dynamic = Folder::default();
        dynamic.folder("fws", monitoring);
        dynamic.folder("instance-identity", identity);
        root.folder("dynamic", dynamic);
    }
    root
}

/// The categories, each with the version that brought it.
pub(super) fn meta_data(instance: &Instance, version: &str) -> Folder {
    let since = |date: &str| version >= date;
    let mut data = Folder::default();
    data.leaf("ami-id", instance.resource("ami", "ami"));
    data.leaf("ami-launch-index", "0");
    data.leaf("ami-manifest-path", "(unknown)");
    data.leaf("hostname", instance.fqdn());
    data.leaf("instance-id", instance.instance_id());
    data.leaf("local-ipv4", instance.address.to_string());
    data.leaf("reservation-id", instance.resource("r", "reservation"));
    data.leaf("security-groups", "default");
    data.leaf_if(since("2007-01-19"), "local-hostname", instance.fqdn());
    data.leaf_if(since("2007-08-29"), "instance-type", instance.machine_type.clone());
    data.leaf_if(since("2008-09-01"), "instance-action", "none");
    data.leaf_if(since("2011-01-01"), "mac", instance.mac.to_string());
    data.leaf_if(since("2011-01-01"), "profile", "default-hvm");
    data.leaf_if(since("2019-10-01"), "instance-life-cycle", "on-demand");
    if since("2007-12-15") {
        let mut devices = Folder::default();
        devices.leaf("ami", "/dev/xvda");
        devices.leaf("root", "/dev/xvda");
        data.folder("block-device-mapping", devices);
    }
    data.folder("placement", placement(instance, version));
    data.folder("public-keys", public_keys(instance));
    if since("2011-01-01") {
        data.folder("network", network(instance, version));
    }
    if since("2011-05-01") {
        let mut metrics = Folder::default();
        metrics.leaf("vhostmd", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        data.folder("metrics", metrics);
    }
    if since("2014-02-25") {
        let mut services = Folder::default();
        services.leaf("domain", "amazonaws.com");
        services.leaf_if(since("2015-10-20"), "partition", "aws");
        data.folder("services", services);
    }
    if since("2018-08-17") {
        let mut maintenance = Folder::default();
        maintenance.leaf("history", "[]");
        maintenance.leaf("scheduled", "[]");
        let mut events = Folder::default();
        events.folder("maintenance", maintenance);
        data.folder("events", events);
    }
    if since("2021-03-23") && !instance.tags.is_empty() {
        let mut tags = Folder::default();
        instance.tags.iter().for_each(|(key, value)| tags.leaf(key, value.clone()));
        let mut folder = Folder::default();
        folder.folder("instance", tags);
        data.folder("tags", folder);
    }
    data
}

fn placement(instance: &Instance, version: &str) -> Folder {
    let since = |date: &str| version >= date;
    let mut placement = Folder::default();
    placement.leaf_if(since("2008-02-01"), "availability-zone", instance.zone.clone());
    let id = format!("{}-az1", instance.region);
    placement.leaf_if(since("2019-10-01"), "availability-zone-id", id);
    placement.leaf_if(since("2020-08-24"), "region", instance.region.clone());
    placement
}

/// A line `0=name` for each key, which is at `0/openssh-key`.
fn public_keys(instance: &Instance) -> Folder {
    let mut keys = Folder::default();
    for (number, key) in instance.ssh_keys.iter().enumerate() {
        let mut folder = Folder::default();
        folder.leaf("openssh-key", key.clone());
        keys.folder_shown_as(&number.to_string(), format!("{number}={}", key_name(number)), folder);
    }
    keys
}

/// The name that a cloud knows the key by.
pub(super) fn key_name(number: usize) -> String {
    if number == 0 { "nodekiln".into() } else { format!("nodekiln-{number}") }
}

fn network(instance: &Instance, version: &str) -> Folder {
    let since = |date: &str| version >= date;
    let block = |prefix: u8| format!("{}/{prefix}", instance.network(prefix));
    let vpc = block(instance.prefix.min(16));
    let mut card = Folder::default();
    card.leaf("device-number", "0");
    card.leaf("interface-id", instance.resource("eni", "interface"));
    card.leaf("local-hostname", instance.fqdn());
    card.leaf("local-ipv4s", instance.address.to_string());
    card.leaf("mac", instance.mac.to_string());
    card.leaf("owner-id", instance.account.clone());
    card.leaf("security-group-ids", instance.resource("sg", "security-group"));
    card.leaf("security-groups", "default");
    card.leaf("subnet-id", instance.resource("subnet", "subnet"));
    card.leaf("subnet-ipv4-cidr-block", block(instance.prefix));
    card.leaf("vpc-id", instance.resource("vpc", "vpc"));
    card.leaf("vpc-ipv4-cidr-block", vpc.clone());
    card.leaf_if(since("2016-06-30"), "vpc-ipv4-cidr-blocks", vpc);
    let mut macs = Folder::default();
    macs.folder(&instance.mac.to_string(), card);
    let mut interfaces = Folder::default();
    interfaces.folder("macs", macs);
    let mut network = Folder::default();
    network.folder("interfaces", interfaces);
    network
}

/// The instance identity document, without the signatures that only Amazon can make.
fn identity_document(instance: &Instance) -> String {
    let document = serde_json::json!({
        "accountId": instance.account,
        "architecture": "x86_64",
        "availabilityZone": instance.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "imageId": instance.resource("ami", "ami"),
        "instanceId": instance.instance_id(),
        "instanceType": instance.machine_type,
        "kernelId": null,
        "marketplaceProductCodes": null,
        "pendingTime": "2026-01-01T00:00:00Z", // no clock is asked
        "privateIp": instance.address,
        "ramdiskId": null,
        "region": instance.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

/// The service tells errors as small XHTML pages.
fn page(status: StatusCode) -> Response {
    let text = format!("{} - {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\" \
         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
         <head>\n  <title>{text}</title>\n </head>\n <body>\n  <h1>{text}</h1>\n </body>\n</html>\n"
    );
    Response::new(status, "text/html", body)
}
