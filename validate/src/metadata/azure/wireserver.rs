//! Azure's wireserver: the goal state that agents ask for, and the report by which the cloud learns that
//! the machine is provisioned.
//!
//! The instance has no certificates, so its goal state names none. The host's plug-in (port 32526) knows
//! no fast track: agents then take the extensions' configuration from here.
//! Source: the requests of WALinuxAgent and of cloud-init's Azure datasource.

use hyper::{Method, StatusCode};
use nodekiln_words::derive_uuid;
use serde::Serialize;
use serde_json::json;

use super::super::exchange::{Request, Response};
use super::super::instance::Instance;
use super::super::xml::{self, Element};
use super::xml as sent;

/// Protocol versions, the preferred one first.
const VERSIONS: [&str; 4] = ["2015-04-05", "2012-11-30", "2012-09-15", "2012-05-15"];
/// The goal state never changes.
const INCARNATION: &str = "1";
/// Version of the documents of configuration.
const DOCUMENT: &str = "1.0.0.0";
/// Longest description of a failed provisioning that is kept, in characters.
const DESCRIPTION: usize = 4096;
/// Reports that are kept; an agent sends one at each start, and a guest may send as many as it likes.
const REPORTS: usize = 32;

/// What an agent reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether the machine is provisioned.
    pub state: Provisioned,
    /// Why not, in a word.
    pub substatus: Option<String>,
    /// Why not, in words.
    pub description: Option<String>,
}

/// The state in an agent's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Provisioned {
    /// Provisioning succeeded.
    Ready,
    /// It failed, or still runs.
    NotReady,
}

/// Answers one request.
pub(super) fn answer(instance: &Instance, health: &mut Vec<Health>, request: &Request) -> Response {
    let (segments, _) = request.segments();
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let component = request.parameter("comp");
    match (&segments[..], component.as_deref(), &request.method) {
        ([], Some("versions"), &Method::GET) => sent(versions()),
        (["machine", ..], _, _) if !speaks(request) => {
            refuse("the request has no x-ms-version that is supported")
        }
        (["machine"], Some("goalstate"), &Method::GET) => sent(goal_state(instance, request)),
        (["machine"], Some("health"), &Method::POST) => match report(instance, request) {
            Ok(report) => {
                keep(health, report);
                Response::empty(StatusCode::OK)
            }
            Err(why) => refuse(why),
        },
        (["machine"], Some(kind @ ("roleProperties" | "telemetrydata")), &Method::POST) => {
            match (xml::texts(&request.body), kind) {
                // Agents take any other status for a failure.
                (Some(_), "roleProperties") => Response::empty(StatusCode::ACCEPTED),
                (Some(_), _) => Response::empty(StatusCode::OK),
                (None, _) => refuse("the body is no XML"),
            }
        }
        (["machine", container, role], Some("config"), &Method::GET)
            if *container == container_id(instance) && *role == role_id(instance) =>
        {
            match request.parameter("type").as_deref() {
                Some("hostingEnvironmentConfig") => sent(hosting_environment(instance)),
                Some("sharedConfig") => sent(shared_config(instance)),
                Some("extensionsConfig") => sent(extensions_config()),
                _ => Response::empty(StatusCode::NOT_FOUND),
            }
        }
        (["versions"], None, &Method::GET) => Response::json(&json!(["2015-09-01"])),
        (["health"], None, &Method::POST) => Response::empty(StatusCode::OK),
        (["machine"], Some("goalstate" | "health" | "roleProperties" | "telemetrydata"), _) => {
            Response::empty(StatusCode::METHOD_NOT_ALLOWED)
        }
        _ => Response::empty(StatusCode::NOT_FOUND),
    }
}

/// Whether the request names a version of the protocol that is supported.
fn speaks(request: &Request) -> bool {
    request.header("x-ms-version").is_some_and(|version| VERSIONS.contains(&version))
}

fn refuse(why: &'static str) -> Response {
    let details = Element::new("Error")
        .with(Element::new("Code").text("InvalidRequest"))
        .with(Element::new("Message").text(why));
    Response { status: StatusCode::BAD_REQUEST, ..sent(details.document()) }
}

fn container_id(instance: &Instance) -> String {
    derive_uuid(instance.id, "container").to_string()
}

fn role_id(instance: &Instance) -> String {
    format!("{}._{}", derive_uuid(instance.id, "deployment"), instance.hostname)
}

fn versions() -> String {
    let version = |version: &str| Element::new("Version").text(version);
    let [preferred, ..] = VERSIONS;
    Element::new("Versions")
        .with(Element::new("Preferred").with(version(preferred)))
        .with(VERSIONS.iter().fold(Element::new("Supported"), |all, v| all.with(version(v))))
        .document()
}

fn goal_state(instance: &Instance, request: &Request) -> String {
    // Agents follow these addresses: they are those by which this request came.
    let host = request.header("host").unwrap_or("168.63.129.16");
    let url = |kind: &str| {
        let (container, role) = (container_id(instance), role_id(instance));
        let path = format!("/machine/{container}/{role}");
        format!("http://{host}{path}?comp=config&type={kind}&incarnation={INCARNATION}")
    };
    let configuration = Element::new("Configuration")
        .with(Element::new("HostingEnvironmentConfig").text(url("hostingEnvironmentConfig")))
        .with(Element::new("SharedConfig").text(url("sharedConfig")))
        .with(Element::new("ExtensionsConfig").text(url("extensionsConfig")))
        .with(Element::new("ConfigName").text(format!("{}.0.xml", role_id(instance))));
    let role = Element::new("RoleInstance")
        .with(Element::new("InstanceId").text(role_id(instance)))
        .with(Element::new("State").text("Started"))
        .with(configuration);
    let machine = Element::new("Machine")
        .with(Element::new("ExpectedState").text("Started"))
        .with(Element::new("StopRolesDeadlineHint").text("300000"))
        .with(Element::new("LBProbePorts").with(Element::new("Port").text("16001")))
        .with(Element::new("ExpectHealthReport").text("FALSE"));
    Element::new("GoalState")
        .attribute("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
        .attribute("xsi:noNamespaceSchemaLocation", "goalstate10.xsd")
        .with(Element::new("Version").text("2012-11-30"))
        .with(Element::new("Incarnation").text(INCARNATION))
        .with(machine)
        .with(
            Element::new("Container")
                .with(Element::new("ContainerId").text(container_id(instance)))
                .with(Element::new("RoleInstanceList").with(role)),
        )
        .document()
}

/// Deployment, service and role, as two documents tell them.
fn deployment(instance: &Instance) -> Element {
    let braced = |role: &str| format!("{{{}}}", derive_uuid(instance.id, role));
    Element::new("Deployment")
        .attribute("name", derive_uuid(instance.id, "deployment").to_string())
        .attribute("guid", braced("deployment"))
        .attribute("incarnation", "0")
        .with(
            Element::new("Service")
                .attribute("name", instance.hostname.clone())
                .attribute("guid", "{00000000-0000-0000-0000-000000000000}"),
        )
        .with(
            Element::new("ServiceInstance")
                .attribute("name", format!("{}.0", derive_uuid(instance.id, "deployment")))
                .attribute("guid", braced("service")),
        )
}

fn incarnation(instance: &Instance) -> Element {
    Element::new("Incarnation")
        .attribute("number", INCARNATION)
        .attribute("instance", role_id(instance))
        .attribute("guid", format!("{{{}}}", derive_uuid(instance.id, "incarnation")))
}

fn role(instance: &Instance) -> Element {
    Element::new("Role")
        .attribute("guid", format!("{{{}}}", derive_uuid(instance.id, "role")))
        .attribute("name", instance.hostname.clone())
        .attribute("settleTimeSeconds", "0")
}

fn hosting_environment(instance: &Instance) -> String {
    Element::new("HostingEnvironmentConfig")
        .attribute("version", DOCUMENT)
        .attribute("goalStateIncarnation", INCARNATION)
        .with(Element::new("StoredCertificates"))
        .with(deployment(instance))
        .with(incarnation(instance))
        .with(role(instance))
        .with(Element::new("HostingEnvironmentSettings").attribute("name", "full"))
        .document()
}

fn shared_config(instance: &Instance) -> String {
    let own = Element::new("Instance")
        .attribute("id", role_id(instance))
        .attribute("address", instance.address.to_string())
        .with(Element::new("FaultDomains").attribute("randomId", "0").attribute("updateId", "0"));
    Element::new("SharedConfig")
        .attribute("version", DOCUMENT)
        .attribute("goalStateIncarnation", INCARNATION)
        .with(deployment(instance))
        .with(incarnation(instance))
        .with(role(instance))
        .with(Element::new("Instances").with(own))
        .document()
}

/// No extensions, no families of agents to update to, and no blob to put the status in.
fn extensions_config() -> String {
    Element::new("Extensions")
        .attribute("version", DOCUMENT)
        .attribute("goalStateIncarnation", INCARNATION)
        .with(Element::new("GAFamilies"))
        .with(Element::new("Plugins"))
        .with(Element::new("PluginSettings"))
        .document()
}

/// Adds a report. Of too many the first that says `Ready` stays, which is the proof, and the last ones.
fn keep(health: &mut Vec<Health>, report: Health) {
    health.push(report);
    if health.len() > REPORTS {
        let first_is_proof = health.first().is_some_and(|first| first.state == Provisioned::Ready);
        health.remove(usize::from(first_is_proof));
    }
}

/// Reads a report of health; it must speak of this machine's goal state.
fn report(instance: &Instance, request: &Request) -> Result<Health, &'static str> {
    let texts = xml::texts(&request.body).ok_or("the body is no XML")?;
    let text = |path: &str| {
        let mut found = texts.iter().filter(|(at, _)| at == path).map(|(_, text)| text.as_str());
        (found.next(), found.next().is_some())
    };
    const ROLE: &str = "Health/Container/RoleInstanceList/Role";
    let expect = |path: &str, value: &str| text(path) == (Some(value), false);
    let ours = expect("Health/GoalStateIncarnation", INCARNATION)
        && expect("Health/Container/ContainerId", &container_id(instance))
        && expect(&format!("{ROLE}/InstanceId"), &role_id(instance));
    if !ours {
        return Err("the report is not about this machine's goal state");
    }
    let state = match text(&format!("{ROLE}/Health/State")) {
        (Some("Ready"), false) => Provisioned::Ready,
        (Some("NotReady"), false) => Provisioned::NotReady,
        _ => return Err("the state is neither Ready nor NotReady"),
    };
    let detail = |name: &str| {
        let (found, _) = text(&format!("{ROLE}/Health/Details/{name}"));
        found.map(|text| text.chars().take(DESCRIPTION).collect())
    };
    Ok(Health { state, substatus: detail("SubStatus"), description: detail("Description") })
}
