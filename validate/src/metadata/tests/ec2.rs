//! EC2: tokens, dated paths, listings.

use std::time::Duration;

use super::*;
use crate::metadata::instance::Tokens;

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";

fn ask(instance: &Instance, request: &Request) -> Response {
    answer(instance, &mut Observed::default(), request, false)
}

fn token(instance: &Instance, ttl: &str, at: Duration) -> String {
    let put = Request { at, ..request(&Method::PUT, "/latest/api/token", &[(TTL, ttl)], "") };
    let response = ask(instance, &put);
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.headers[TTL], ttl);
    text(&response).to_owned()
}

#[test]
fn the_whole_tree_is_as_reviewed() {
    let instance = instance(Cloud::Aws);
    let token = token(&instance, "21600", Duration::ZERO);
    let headers = [(TOKEN, token.as_str())];
    let mut told = crawl(&instance, "/latest/meta-data/", &headers);
    told += &crawl(&instance, "/latest/dynamic/", &headers);
    told += &crawl(&instance, "/latest/user-data", &headers);
    golden("aws-latest.txt", &told);
    let told = crawl(&instance, "/2009-04-04/meta-data/", &headers);
    golden("aws-2009-04-04.txt", &told);
    golden("aws-versions.txt", text(&get(&instance, "/", &headers)));
}

#[test]
fn nothing_is_told_without_a_token() {
    let instance = instance(Cloud::Aws);
    for path in [
        "/",
        "/latest/meta-data/",
        "/latest/user-data",
        "/latest/meta-data/instance-id",
        "/nothing",
    ] {
        assert_eq!(get(&instance, path, &[]).status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let good = token(&instance, "60", Duration::ZERO);
    let mut damaged = good.clone().into_bytes();
    damaged[20] = if damaged[20] == b'A' { b'B' } else { b'A' };
    let damaged = String::from_utf8(damaged).unwrap();
    for bad in ["", "x", damaged.as_str(), &good[1..], "AAAA"] {
        let response = get(&instance, "/latest/meta-data/instance-id", &[(TOKEN, bad)]);
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{bad}");
    }
    let response = get(&instance, "/latest/meta-data/instance-id", &[(TOKEN, &good)]);
    assert_eq!(text(&response), instance.instance_id());
}

#[test]
fn a_token_of_another_instance_is_refused() {
    let yaml = Description::parse("seed: another").unwrap();
    let other = Instance::of(Cloud::Aws, yaml).unwrap();
    let token = token(&other, "60", Duration::ZERO);
    let response = get(&instance(Cloud::Aws), "/latest/meta-data/", &[(TOKEN, &token)]);
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
}

#[test]
fn a_token_expires() {
    let instance = instance(Cloud::Aws);
    let begun = Duration::from_secs(100);
    let token = token(&instance, "60", begun);
    let mut asked = request(&Method::GET, "/latest/meta-data/", &[(TOKEN, &token)], "");
    for (after, status, left) in
        [(0, 200, Some("60")), (59, 200, Some("1")), (60, 401, None), (61, 401, None)]
    {
        asked.at = begun + Duration::from_secs(after);
        let response = ask(&instance, &asked);
        assert_eq!(response.status.as_u16(), status, "{after}");
        assert_eq!(response.headers.get(TTL).map(|value| value.to_str().unwrap()), left);
    }
}

#[test]
fn only_a_right_request_for_a_token_gets_one() {
    let instance = instance(Cloud::Aws);
    let status = |method: &Method, path: &str, headers: &[(&str, &str)]| {
        ask(&instance, &request(method, path, headers, "")).status.as_u16()
    };
    let path = "/latest/api/token";
    for ttl in ["0", "21601", "-1", "x", "", "99999999999"] {
        assert_eq!(status(&Method::PUT, path, &[(TTL, ttl)]), 400, "{ttl}");
    }
    assert_eq!(status(&Method::PUT, path, &[]), 400);
    assert_eq!(status(&Method::PUT, path, &[(TTL, "60"), ("x-forwarded-for", "10.0.0.1")]), 403);
    assert_eq!(status(&Method::GET, path, &[(TTL, "60")]), 405);
    assert_eq!(status(&Method::PUT, "/2021-03-23/api/token", &[(TTL, "60")]), 405);
    assert_eq!(status(&Method::POST, "/latest/meta-data/", &[]), 405);
    assert_eq!(status(&Method::PUT, path, &[(TTL, "21600")]), 200);
}

#[test]
fn without_insisting_on_tokens_a_wrong_one_is_still_refused() {
    let instance = Instance { tokens: Tokens::Optional, ..instance(Cloud::Aws) };
    assert_eq!(get(&instance, "/latest/meta-data/", &[]).status, StatusCode::OK);
    let response = get(&instance, "/latest/meta-data/", &[(TOKEN, "x")]);
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut instance = instance(Cloud::Aws);
    instance.user_data = None;
    let token = token(&instance, "60", Duration::ZERO);
    let status = |path: &str| get(&instance, path, &[(TOKEN, &token)]).status.as_u16();
    for path in [
        "/latest/user-data",
        "/latest/meta-data/ami-id/",
        "/latest/meta-data/ami-id/x",
        "/latest//meta-data/",
        "/2020-01-01/meta-data/",
        "/2009-04-04/meta-data/network/",
        "/2018-09-24/meta-data/tags/",
        "/latest/meta-data/public-keys/1/openssh-key",
        "/latest/meta-data/iam/",
        "/latest/dynamic/instance-identity/pkcs7",
    ] {
        assert_eq!(status(path), 404, "{path}");
    }
    for path in [
        "/latest",
        "/latest/meta-data",
        "/2021-03-23/meta-data/tags/instance/Name",
        "/1.0/meta-data/ami-id",
    ] {
        assert_eq!(status(path), 200, "{path}");
    }
    assert!(!text(&get(&instance, "/latest/", &[(TOKEN, &token)])).contains("user-data"));
}
