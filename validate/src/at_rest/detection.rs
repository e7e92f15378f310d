//! What cloud-init's `ds-identify` would pick on the machines of the image's provider.

use nodekiln_words::{Class, Result};

use super::Examined;
#[cfg(test)]
use super::corpus::Mutation;
use crate::Tier;
use crate::ds_identify::{self, Case, Pick};
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "datasource-detected",
        title: "cloud-init picks the cloud's own datasource, and no other",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/usr/lib/cloud-init/ds-identify", "/etc/cloud", "/var/lib/cloud/seed"],
        why: "a node that picks another datasource, several or none is not told who it is",
        remedy: "put the provider's datasource into `datasource_list`, and remove seeds and settings of others",
        source: "cloud-init, tools/ds-identify, on every machine and medium of the provider",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Tree(detected),
    },
    Rule {
        id: "datasource-looked-for",
        title: "the datasource is looked for before it is taken",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d"],
        why: "a list of one entry is taken unseen: on another cloud's machine the node waits for its metadata in vain",
        remedy: "leave `None` in the list behind the provider's datasource, unless it cannot be detected",
        source: "cloud-init, tools/ds-identify: a single entry ends the search",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Tree(looked_for),
    },
];

/// What is picked in each case, or why nothing can be told.
fn picks(examined: &Examined) -> Result<std::result::Result<Vec<(Case, Pick)>, Verdict>> {
    let Examined { machine, tree, edition, .. } = examined;
    let edition = match edition {
        Ok(edition) => *edition,
        Err(why) => return Ok(Err(Verdict::NotProven(why.clone()))),
    };
    let cases = match ds_identify::matrix(&machine.profile, machine.seed) {
        Err(failure) if failure.class() == Class::Unsupported => {
            return Ok(Err(Verdict::NotProven(failure.to_string())));
        }
        cases => cases?,
    };
    let mut picks = Vec::new();
    for case in cases {
        let pick = ds_identify::judge_as(edition, &case.machine, tree, case.expected)?;
        if let Pick::NotProven(why) = pick {
            return Ok(Err(Verdict::NotProven(why)));
        }
        picks.push((case, pick));
    }
    Ok(Ok(picks))
}

fn detected(examined: &Examined) -> Result<Verdict> {
    let picks = match picks(examined)? {
        Ok(picks) => picks,
        Err(verdict) => return Ok(verdict),
    };
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for (case, pick) in &picks {
        let place = format!("{:?} by {}", case.channel, case.firmware.as_str());
        match fault(case.expected, pick) {
            Some(fault) => wrong.push(format!("{place}: {fault}")),
            None => seen.push(format!("{place}: {}", case.expected)),
        }
    }
    Ok(Verdict::of(&wrong, seen.join(", ")))
}

/// What is wrong with a pick, if anything is.
fn fault(expected: &str, pick: &Pick) -> Option<String> {
    Some(match pick {
        Pick::Expected(_) | Pick::Unseen { .. } | Pick::NotProven(_) => return None,
        Pick::Several(findings) => {
            let names: Vec<&str> = findings.iter().map(|found| found.source.as_str()).collect();
            format!("{} are taken, and not {expected} alone", names.join(", "))
        }
        Pick::Others { taken, .. } => {
            format!("[{}] is taken, without {expected}", taken.join(", "))
        }
        Pick::Nothing { check } => {
            format!("nothing is taken: {} says {}", check.source, check.reason)
        }
        Pick::Everything(_) => "nothing is picked, and every datasource is tried".to_owned(),
        Pick::Off(why) => format!("cloud-init is switched off: {why}"),
    })
}

fn looked_for(examined: &Examined) -> Result<Verdict> {
    let picks = match picks(examined)? {
        Ok(picks) => picks,
        Err(verdict) => return Ok(verdict),
    };
    let unseen = picks.iter().filter_map(|(case, pick)| match pick {
        Pick::Unseen { way, check } => Some(format!(
            "{} is taken unseen ({way:?}); its check says {}",
            case.expected, check.reason
        )),
        _ => None,
    });
    let mut unseen: Vec<String> = unseen.collect();
    unseen.sort();
    unseen.dedup();
    Ok(Verdict::of(&unseen, "no list decides alone"))
}

#[cfg(test)]
pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation::new(
        "another provider's list",
        &["datasource-detected"],
        "[Azure] is taken, without NoCloud",
        |examined| {
            let list = "datasource_list: [Azure, None]\n";
            examined.tree.write("/etc/cloud/cloud.cfg.d/90_other.cfg", 0o644, list);
        },
    )
    .incident("another provider's datasource list"),
    Mutation::new(
        "a seed of another cloud",
        &["cloud-state", "datasource-detected"],
        "OVF",
        |examined| {
            examined.tree.write("/var/lib/cloud/seed/ovf/ovf-env.xml", 0o644, "<Environment/>");
        },
    )
    .incident("two seeds"),
    Mutation::new(
        "a list of one entry",
        &["datasource-looked-for"],
        "NoCloud is taken unseen",
        |examined| {
            let list = "datasource_list: [NoCloud]\n";
            examined.tree.write("/etc/cloud/cloud.cfg.d/90_one.cfg", 0o644, list);
        },
    ),
    Mutation::new(
        "cloud-init switched off",
        &["cloud-state", "datasource-detected", "first-boot-keys"],
        "/etc/cloud/cloud-init.disabled",
        |examined| examined.tree.write("/etc/cloud/cloud-init.disabled", 0o644, ""),
    ),
];
