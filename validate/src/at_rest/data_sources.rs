//! Which datasources cloud-init is told to try.

use nodekiln_words::Result;

use super::{Said, Subject};
use crate::Tier;
use crate::inspect;
use crate::metadata::Cloud;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "datasource-list",
    title: "cloud-init's list has the cloud's datasource",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d"],
    why: "a node whose list leaves its own cloud out gets no host name, no key and no bootstrap data",
    remedy: "add the datasource to `datasource_list`, or build with the provider's own layer",
    source: "cloud-init, datasource_list in /etc/cloud/cloud.cfg and /etc/cloud/cloud.cfg.d",
    applies: Applies::ALL,
    stops_boot: true,
    judge: Judge::Image(list),
}];

fn list(subject: &Subject) -> Result<Said> {
    let files = match subject.root()? {
        Ok(root) => &subject.systems[root].1,
        Err(verdict) => return Ok(verdict.into()),
    };
    if !files.exists("/etc/cloud/cloud.cfg")? {
        return Ok(Verdict::NotProven("the image has no cloud-init".into()).into());
    }
    let list = inspect::data_sources(files)?;
    let profile = &subject.machine.profile;
    let (own, told) = match subject.part {
        Some(part) => (part.own(profile), part.data_source()),
        None => (profile.data_source.as_str(), profile.data_source.as_str()),
    };
    Ok(said(&list, own, told))
}

/// Judges a list for a machine whose datasource is `own`, and whose guest is told by the one called `told` in this
/// run.
fn said(list: &[String], own: &str, told: &str) -> Said {
    let shown = list.join(", ");
    if list.is_empty() {
        return Verdict::Pass("no list: cloud-init looks for every datasource".into()).into();
    }
    if !list.iter().any(|source| source == own) {
        return Verdict::Fail(format!("datasource_list is [{shown}], without {own}")).into();
    }
    if !list.iter().any(|source| source == told) {
        return Said::NotHere(format!(
            "datasource_list is [{shown}]: QEMU cannot do what {own} needs, and {told} is not in it"
        ));
    }
    let cloud = Cloud::of_data_source(own);
    let foreign: Vec<&str> =
        list.iter().map(String::as_str).filter(|source| other_cloud(source, cloud)).collect();
    // What has no cloud of its own may run in any.
    if !foreign.is_empty() && !matches!(cloud, None | Some(Cloud::NoCloud | Cloud::OpenStack)) {
        let text = format!(
            "datasource_list is [{shown}]: {} may answer in place of {own}",
            foreign.join(" and ")
        );
        return Verdict::Warn(text).into();
    }
    Verdict::Pass(shown).into()
}

fn other_cloud(source: &str, own: Option<Cloud>) -> bool {
    source != "None" && Cloud::of_data_source(source) != own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(list: &[&str], own: &str, told: &str) -> Said {
        said(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), own, told)
    }

    fn fails(said: &Said, words: &str) -> bool {
        matches!(said, Said::Verdict(Verdict::Fail(seen)) if seen.contains(words))
    }

    fn passes(said: &Said) -> bool {
        matches!(said, Said::Verdict(Verdict::Pass(_)))
    }

    #[test]
    fn the_own_datasource_has_to_be_there_and_others_are_told() {
        assert!(fails(&judged(&["Azure"], "Ec2", "Ec2"), "[Azure], without Ec2"));
        assert!(passes(&judged(&["Ec2"], "Ec2", "Ec2")));
        assert!(passes(&judged(&["Ec2", "None"], "Ec2", "Ec2")));
        assert!(matches!(
            judged(&["Azure", "Ec2"], "Ec2", "Ec2"),
            Said::Verdict(Verdict::Warn(seen)) if seen.contains("Azure may answer")
        ));
        assert!(passes(&judged(&["NoCloud", "Ec2"], "NoCloud", "NoCloud")));
        assert!(passes(&judged(&[], "Ec2", "Ec2")));
    }

    #[test]
    fn the_list_has_to_have_what_this_run_tells_by_too() {
        assert!(passes(&judged(&["VMware", "OVF"], "VMware", "OVF")));
        assert!(fails(&judged(&["OVF"], "VMware", "OVF"), "without VMware"));
        assert!(matches!(
            judged(&["VMware"], "VMware", "OVF"),
            Said::NotHere(why) if why.contains("OVF is not in it")
        ));
    }
}
