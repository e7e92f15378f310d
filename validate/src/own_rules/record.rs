//! Users' rules as the records that reports and `--list-rules` tell of.

use nodekiln_goss::{Resource, Subject, rules};

use crate::Tier;
use crate::printable::printable;
use crate::rules::{Record, Severity};

/// What a resource of a goss file is as a rule: it fails the image, as with goss.
pub(super) fn of_resource(resource: &Resource, tier: Tier) -> Record {
    let id = line(&format!("{}:{}", resource.kind_name, resource.id));
    let title = match &resource.title {
        Some(title) => line(title),
        None => format!("{} {} is as wanted", resource.kind_name, line(&resource.id)),
    };
    Record {
        id,
        title,
        tier,
        severity: Severity::Fatal,
        reads: vec![reads_of(resource)],
        why: "a goss file asks for it".to_owned(),
        remedy: remedy(&resource.place),
        source: resource.place.to_string(),
        applies: APPLIES.to_owned(),
        stops_boot: false,
    }
}

/// What a rule of a rules file is.
pub(super) fn of_rule(rule: &rules::Rule, tier: Tier) -> Record {
    let mut reads: Vec<String> = rule.check.iter().map(reads_of).collect();
    reads.dedup();
    Record {
        id: rule.id.clone(),
        title: line(&rule.title),
        tier,
        severity: match rule.severity {
            rules::Severity::Warn => Severity::Advisory,
            rules::Severity::Fail => Severity::Fatal,
        },
        reads,
        why: rule.why.as_deref().map_or_else(|| "the rule gives no reason".to_owned(), line),
        remedy: rule.remedy.as_deref().map_or_else(|| remedy(&rule.place), line),
        source: rule.place.to_string(),
        applies: APPLIES.to_owned(),
        stops_boot: false,
    }
}

/// Which images users' rules are for.
const APPLIES: &str = "every image";

fn remedy(place: &nodekiln_goss::Place) -> String {
    format!("change the image, or what {place} wants of it")
}

/// What a resource is found out from.
fn reads_of(resource: &Resource) -> String {
    match &resource.subject {
        Subject::File(path) => line(path),
        Subject::Package(name) => format!("package {}", line(name)),
        Subject::Service(name) => format!("unit {}", line(name)),
        Subject::Command(command) => line(&command.exec),
        Subject::KernelParam(name) => format!("sysctl {}", line(name)),
        Subject::Mount(mountpoint) => format!("mount {}", line(mountpoint)),
        Subject::User(_) => "/etc/passwd".to_owned(),
        Subject::Group(_) => "/etc/group".to_owned(),
        Subject::Port(port) => format!("{}:{}", port.protocol.name(), port.number),
        Subject::Http(request) => line(&request.url),
        Subject::Matching(_) | Subject::Skipped(_) => resource.place.file.to_string(),
    }
}

/// A user's text as a part of one line.
fn line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
