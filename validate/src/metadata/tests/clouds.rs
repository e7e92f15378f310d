//! GCE, OpenStack and NoCloud.

use serde_json::Value;

use super::*;
use crate::metadata::exchange::Hold;

const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const V1: &str = "/computeMetadata/v1";

fn gce(target: &str) -> Response {
    get(&instance(Cloud::Gce), &format!("{V1}{target}"), &[FLAVOR])
}

#[test]
fn gce_tells_all_as_reviewed() {
    let told = crawl(&instance(Cloud::Gce), &format!("{V1}/"), &[FLAVOR]);
    golden("gce.txt", &told);
    let json: Value = serde_json::from_slice(&gce("/?recursive=true").body).unwrap();
    golden("gce.json", &format!("{json:#}\n"));
    golden("gce-recursive.txt", text(&gce("/instance/?recursive=true&alt=text")));
}

#[test]
fn gce_says_nothing_without_the_header_or_through_a_proxy() {
    let instance = instance(Cloud::Gce);
    let path = format!("{V1}/instance/id");
    let forwarded = ("X-Forwarded-For", "10.0.0.1");
    for headers in [&[][..], &[("Metadata-Flavor", "google")], &[FLAVOR, forwarded]] {
        let response = get(&instance, &path, headers);
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{headers:?}");
        assert_eq!(response.headers["metadata-flavor"], "Google");
    }
    assert_eq!(get(&instance, &path, &[("X-Google-Metadata-Request", "True")]).status, 200);
    let root = get(&instance, "/", &[]); // how programs find out where they are
    assert_eq!(
        (root.status, &root.headers["metadata-flavor"]),
        (StatusCode::OK, &"Google".parse().unwrap())
    );
}

#[test]
fn gce_redirects_to_folders_and_knows_no_slash_after_values() {
    let response = gce("/instance?recursive=true");
    assert_eq!(response.status, StatusCode::MOVED_PERMANENTLY);
    let expected = "http://metadata.google.internal/computeMetadata/v1/instance/?recursive=true";
    assert_eq!(response.headers["location"], expected);
    for path in [
        "/instance/id/",
        "/instance/nothing",
        "/instance/disks/1/",
        "/instance/disks/00/",
        "/instance/tags/0",
    ] {
        assert_eq!(gce(path).status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(text(&gce("/instance/disks/")), "0/\n");
    assert_eq!(gce("/instance/id?alt=xml").status, StatusCode::BAD_REQUEST);
}

#[test]
fn gce_sends_values_as_text_or_json() {
    assert_eq!(
        text(&gce("/instance/zone?alt=json")),
        "\"projects/".to_owned()
            + text(&gce("/instance/zone")).strip_prefix("projects/").unwrap()
            + "\""
    );
    assert_eq!(gce("/instance/id?alt=json").headers["content-type"], "application/json");
    assert_eq!(gce("/instance/id").headers["content-type"], "application/text");
    let attributes: Value =
        serde_json::from_slice(&gce("/instance/attributes/?recursive=True").body).unwrap();
    assert_eq!(attributes["ssh-keys"], format!("cloudinit:{KEY}"));
    assert_eq!(attributes["user-data"], "#cloud-config\n");
}

#[test]
fn gce_encodes_user_data_that_is_no_text() {
    let instance = Instance { user_data: Some(vec![0xff, 0]), ..instance(Cloud::Gce) };
    let response = get(&instance, &format!("{V1}/instance/attributes/?recursive=true"), &[FLAVOR]);
    let attributes: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(
        (&attributes["user-data"], &attributes["user-data-encoding"]),
        (&"/wA=".into(), &"base64".into())
    );
}

#[test]
fn gce_holds_an_answer_until_something_changes() {
    let tag =
        gce("/instance/attributes/?recursive=true").headers["etag"].to_str().unwrap().to_owned();
    let hold = |query: &str| {
        let target = format!("/instance/attributes/?recursive=true&wait_for_change=true{query}");
        (gce(&target).status.as_u16(), gce(&target).hold)
    };
    assert_eq!(hold(""), (200, Some(Hold::UntilChanged)));
    let seconds = Hold::For(std::time::Duration::from_secs(7));
    assert_eq!(hold(&format!("&last_etag={tag}&timeout_sec=7")), (200, Some(seconds)));
    assert_eq!(hold("&last_etag=0"), (200, None));
    assert_eq!(hold("&timeout_sec=x"), (400, None));
}

#[test]
fn gce_keeps_guest_attributes() {
    let instance = instance(Cloud::Gce);
    let mut observed = Observed::default();
    let path = format!("{V1}/instance/guest-attributes/hostkeys/ssh-ed25519");
    let mut ask = |method: &Method, path: &str, headers: &[(&str, &str)], body: &str| {
        answer(&instance, &mut observed, &request(method, path, headers, body), false)
    };
    assert_eq!(ask(&Method::PUT, &path, &[], "AAAA").status, StatusCode::FORBIDDEN);
    assert_eq!(ask(&Method::PUT, &path, &[FLAVOR], "AAAA").status, StatusCode::OK);
    assert_eq!(text(&ask(&Method::GET, &path, &[FLAVOR], "")), "AAAA");
    let long = format!("{path}{}", "x".repeat(300));
    assert_eq!(ask(&Method::PUT, &long, &[FLAVOR], "a").status, StatusCode::BAD_REQUEST);
    let large = "x".repeat((256 << 10) + 1);
    assert_eq!(ask(&Method::PUT, &path, &[FLAVOR], &large).status, StatusCode::BAD_REQUEST);
    let other = format!("{V1}/instance/attributes/x");
    assert_eq!(ask(&Method::PUT, &other, &[FLAVOR], "a").status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&Method::POST, &path, &[FLAVOR], "a").status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&Method::DELETE, &path, &[FLAVOR], "").status, StatusCode::OK);
    assert_eq!(ask(&Method::DELETE, &path, &[FLAVOR], "").status, StatusCode::NOT_FOUND);
    assert!(observed.guest_attributes.is_empty());
}

#[test]
fn gce_keeps_guest_attributes_in_bounds() {
    let instance = instance(Cloud::Gce);
    let mut observed = Observed::default();
    let mut put = |key: &str, value: &str| {
        let target = format!("{V1}/instance/guest-attributes/space/{key}");
        let request = request(&Method::PUT, &target, &[FLAVOR], value);
        answer(&instance, &mut observed, &request, false).status.as_u16()
    };
    let large = "x".repeat((256 << 10) - 6); // with its keys a quarter of what there may be
    for key in ["a", "b", "c", "d"] {
        assert_eq!(put(key, &large), 200, "{key}");
    }
    assert_eq!(put("e", ""), 400);
    assert_eq!(put("d", &format!("{large}x")), 400);
    assert_eq!(put("d", "small"), 200);
    let many: Vec<u16> = (0..1100).map(|number| put(&format!("n{number}"), "")).collect();
    assert_eq!(many.iter().position(|status| *status == 400), Some(1020));
    assert_eq!(put("n0", "replaced"), 200);
    assert_eq!(put("n0", &large), 400);
    let attribute =
        |key: &str| observed.guest_attributes[&("space".to_owned(), key.to_owned())].len();
    assert_eq!(
        (attribute("c"), attribute("d"), attribute("n0"), observed.guest_attributes.len()),
        (large.len(), 5, 8, 1024)
    );
}

#[test]
fn openstack_tells_all_as_reviewed() {
    let instance = instance(Cloud::OpenStack);
    let mut told = String::new();
    for version in ["2012-08-10", "2018-08-27", "latest"] {
        let folder = format!("/openstack/{version}");
        let listing = get(&instance, &folder, &[]);
        told += &format!("== {folder}\n{}\n", text(&listing));
        for name in text(&listing).lines() {
            let response = get(&instance, &format!("{folder}/{name}"), &[]);
            assert_eq!(response.status, StatusCode::OK, "{name}");
            told += &format!("== {folder}/{name}\n{}\n", text(&response));
        }
    }
    golden("openstack.txt", &told);
    golden("openstack-versions.txt", text(&get(&instance, "/openstack", &[])));
    golden("openstack-ec2.txt", &crawl(&instance, "/latest/meta-data/", &[]));
}

#[test]
fn openstack_knows_nothing_that_is_not_there() {
    let mut instance = instance(Cloud::OpenStack);
    instance.user_data = None;
    for path in [
        "/openstack/2011-01-01",
        "/openstack/latest/user_data",
        "/openstack/2012-08-10/network_data.json",
        "/openstack/2012-08-10/password",
        "/openstack/latest/meta_data.json/x",
        "/2021-03-23/meta-data/",
        "/latest/dynamic/",
        "/latest/api/token",
    ] {
        assert_eq!(get(&instance, path, &[]).status, StatusCode::NOT_FOUND, "{path}");
    }
    let put = request(&Method::PUT, "/latest/api/token", &[], "");
    let response = answer(&instance, &mut Observed::default(), &put, false);
    assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn openstack_takes_a_password_once() {
    let instance = instance(Cloud::OpenStack);
    let mut observed = Observed::default();
    let mut ask = |method: &Method, body: &str| {
        let request = request(method, "/openstack/latest/password", &[], body);
        answer(&instance, &mut observed, &request, false)
    };
    assert_eq!(text(&ask(&Method::GET, "")), "");
    assert_eq!(ask(&Method::POST, &"x".repeat(1021)).status, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&Method::POST, "cipher").status, StatusCode::OK);
    assert_eq!(ask(&Method::POST, "other").status, StatusCode::CONFLICT);
    assert_eq!(text(&ask(&Method::GET, "")), "cipher");
}

#[test]
fn nocloud_has_its_files_as_reviewed() {
    let instance = instance(Cloud::NoCloud);
    let mut told = String::new();
    for name in ["meta-data", "user-data", "network-config"] {
        let response = get(&instance, &format!("/{name}"), &[]);
        assert_eq!(response.status, StatusCode::OK, "{name}");
        told += &format!("== {name}\n{}", text(&response));
    }
    golden("nocloud.txt", &told);
    for path in ["/", "/vendor-data", "/meta-data/", "/x/meta-data"] {
        assert_eq!(get(&instance, path, &[]).status, StatusCode::NOT_FOUND, "{path}");
    }
}
