//! Azure's metadata service and wireserver.

use serde_json::Value;

use super::*;
use crate::metadata::exchange::Destination;
use crate::metadata::{Health, Provisioned};

const METADATA: (&str, &str) = ("Metadata", "true");
const VERSION: (&str, &str) = ("x-ms-version", "2012-11-30");

fn imds(target: &str) -> Response {
    get(&instance(Cloud::Azure), &format!("/metadata{target}"), &[METADATA])
}

fn wire(target: &str) -> Response {
    get(&instance(Cloud::Azure), target, &[VERSION])
}

#[test]
fn the_instance_is_as_reviewed() {
    let mut told = String::new();
    for query in ["2017-03-01", "2019-06-01", "2021-08-01&extended=true", "2023-11-15"] {
        let response = imds(&format!("/instance?api-version={query}"));
        let json: Value = serde_json::from_slice(&response.body).unwrap();
        told += &format!("== {query}\n{json:#}\n");
    }
    golden("azure-instance.txt", &told);
}

#[test]
fn the_metadata_service_insists_on_header_version_and_format() {
    let instance = instance(Cloud::Azure);
    let path = "/metadata/instance?api-version=2021-08-01";
    let proxy = ("X-Forwarded-For", "10.0.0.1");
    for headers in [&[][..], &[("Metadata", "yes")], &[METADATA, proxy]] {
        assert_eq!(get(&instance, path, headers).status, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    assert_eq!(get(&instance, path, &[("metadata", "TRUE")]).status, StatusCode::OK);
    for (target, status) in [
        ("/instance", 400),
        ("/instance?api-version=2021-08-02", 400),
        ("/instance/compute/vmId?api-version=2021-08-01", 400),
        ("/instance/compute?api-version=2021-08-01&format=yaml", 400),
        ("/instance/compute/nothing?api-version=2021-08-01", 404),
        ("/instance/compute/userData?api-version=2020-12-01&format=text", 404),
        ("/reprovisiondata?api-version=2019-06-01", 404),
        ("/attested/document?api-version=2021-02-01", 404),
        ("/identity/oauth2/token?api-version=2018-02-01", 400),
        ("/scheduledevents?api-version=2020-07-01", 400),
        ("/scheduledevents?api-version=2020-07-15", 200),
        ("/versions", 200),
    ] {
        assert_eq!(imds(target).status.as_u16(), status, "{target}");
    }
    assert!(text(&imds("/instance")).contains("newest-versions"));
    let value = imds("/instance/network/interface/0/macAddress?api-version=2021-08-01&format=text");
    assert_eq!(text(&value), "5254006E6B01");
    let listing = imds("/instance/network?api-version=2021-08-01&format=text");
    assert_eq!(text(&listing), "interface/");
    let post = request(&Method::POST, path, &[METADATA], "");
    let response = answer(&instance, &mut Observed::default(), &post, false);
    assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn each_address_has_its_own_service() {
    let instance = instance(Cloud::Azure);
    let ask = |destination, target: &str| {
        let request = request(&Method::GET, target, &[METADATA, VERSION], "");
        let request = Request { destination, ..request };
        answer(&instance, &mut Observed::default(), &request, false).status.as_u16()
    };
    assert_eq!(ask(Destination::Wireserver, "/metadata/versions"), 404);
    assert_eq!(ask(Destination::Metadata, "/machine/?comp=goalstate"), 400); // no api-version
    assert_eq!(ask(Destination::Wireserver, "/machine/?comp=goalstate"), 200);
    assert_eq!(ask(Destination::Any, "/machine/?comp=goalstate"), 200);
}

/// The addresses of configurations in a goal state, without the host.
fn links(goal_state: &str) -> Vec<String> {
    let texts = crate::metadata::xml::texts(goal_state.as_bytes()).unwrap();
    let links = texts
        .into_iter()
        .filter_map(|(_, text)| text.strip_prefix("http://168.63.129.16").map(str::to_owned));
    links.collect()
}

#[test]
fn the_wireserver_tells_all_as_reviewed() {
    let goal_state = wire("/machine/?comp=goalstate");
    let mut told = format!("{}{}", text(&wire("/?comp=versions")), text(&goal_state));
    let links = links(text(&goal_state));
    assert_eq!(links.len(), 3);
    for link in links {
        let response = wire(&link);
        assert_eq!(response.status, StatusCode::OK, "{link}");
        told += text(&response);
    }
    golden("azure-wireserver.xml", &told);
}

#[test]
fn the_wireserver_refuses_other_protocols_and_machines() {
    let instance = instance(Cloud::Azure);
    for headers in [&[][..], &[("x-ms-version", "2042-01-01")]] {
        let response = get(&instance, "/machine/?comp=goalstate", headers);
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    for (target, status) in [
        ("/machine/?comp=nothing", 404),
        ("/machine/a/b?comp=config&type=sharedConfig", 404),
        ("/", 404),
        ("/machine?comp=health", 405),
        ("/vmSettings", 404),
        ("/versions", 200),
    ] {
        assert_eq!(wire(target).status.as_u16(), status, "{target}");
    }
}

#[test]
fn properties_are_accepted_and_telemetry_is_taken() {
    let instance = instance(Cloud::Azure);
    let status = |component: &str, body: &str| {
        let target = format!("/machine?comp={component}");
        let post = request(&Method::POST, &target, &[VERSION], body);
        answer(&instance, &mut Observed::default(), &post, false).status.as_u16()
    };
    assert_eq!(status("roleProperties", "<RoleProperties/>"), 202);
    assert_eq!(status("telemetrydata", "<TelemetryData/>"), 200);
    assert_eq!(status("telemetrydata", "no XML"), 400);
}

fn health(state: &str, inner: &str) -> String {
    let goal_state = wire("/machine/?comp=goalstate");
    let texts = crate::metadata::xml::texts(&goal_state.body).unwrap();
    let find = |end: &str| &texts.iter().find(|(path, _)| path.ends_with(end)).unwrap().1;
    format!(
        "<?xml version=\"1.0\"?><Health><GoalStateIncarnation>1</GoalStateIncarnation><Container>\
         <ContainerId>{}</ContainerId><RoleInstanceList><Role><InstanceId>{}</InstanceId><Health>\
         <State>{state}</State>{inner}</Health></Role></RoleInstanceList></Container></Health>",
        find("/ContainerId"),
        find("/InstanceId"),
    )
}

#[test]
fn a_report_of_health_counts_when_it_is_about_this_machine() {
    let instance = instance(Cloud::Azure);
    let mut observed = Observed::default();
    let mut post = |body: &str, headers: &[(&str, &str)]| {
        let request = request(&Method::POST, "/machine?comp=health", headers, body);
        let response = answer(&instance, &mut observed, &request, false);
        (response.status.as_u16(), observed.ready())
    };
    let ready = health("Ready", "");
    assert_eq!(post(&ready, &[]), (400, false));
    assert_eq!(post("", &[VERSION]), (400, false));
    assert_eq!(post(&health("Fine", ""), &[VERSION]), (400, false));
    assert_eq!(post(&ready.replace(">1<", ">2<"), &[VERSION]), (400, false));
    let other = ready.replace("<InstanceId>", "<InstanceId>x");
    assert_eq!(post(&other, &[VERSION]), (400, false));
    let twice =
        ready.replace("<State>Ready</State>", "<State>Ready</State><State>NotReady</State>");
    assert_eq!(post(&twice, &[VERSION]), (400, false));
    let failed = "<Details><SubStatus>ProvisioningFailed</SubStatus>\
                  <Description>a &lt; b</Description></Details>";
    assert_eq!(post(&health("NotReady", failed), &[VERSION]), (200, false));
    assert_eq!(post(&ready, &[VERSION]), (200, true));
    let told = Health {
        state: Provisioned::NotReady,
        substatus: Some("ProvisioningFailed".into()),
        description: Some("a < b".into()),
    };
    assert_eq!(observed.health[0], told);
    assert_eq!(observed.health.len(), 2);
}

#[test]
fn of_ever_more_reports_the_first_ready_one_and_the_last_are_kept() {
    let instance = instance(Cloud::Azure);
    let mut observed = Observed::default();
    let mut post = |state: &str, number: usize| {
        let told = format!("<Details><SubStatus>{number}</SubStatus></Details>");
        let target = "/machine?comp=health";
        let request = request(&Method::POST, target, &[VERSION], &health(state, &told));
        assert_eq!(answer(&instance, &mut observed, &request, false).status, StatusCode::OK);
    };
    (0..40).for_each(|number| post("NotReady", number));
    post("Ready", 40);
    (41..100).for_each(|number| post(if number % 2 == 0 { "Ready" } else { "NotReady" }, number));
    let told: Vec<&str> =
        observed.health.iter().filter_map(|report| report.substatus.as_deref()).collect();
    let expected: Vec<String> = std::iter::once(40).chain(69..100).map(|n| n.to_string()).collect();
    assert_eq!(told, expected);
    assert!(observed.ready());
}
