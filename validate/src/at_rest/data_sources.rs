//! Which datasources cloud-init is told to try.

use nodekiln_words::Result;

use super::{Rule, Subject};
use crate::checks::{Severity, Verdict};
use crate::inspect;
use crate::metadata::Cloud;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "datasource-list",
    severity: Severity::Fatal,
    why: "a node whose list leaves its own cloud out gets no host name, no key and no bootstrap data",
    source: "cloud-init, datasource_list in /etc/cloud/cloud.cfg and /etc/cloud/cloud.cfg.d",
    judge: list,
}];

fn list(subject: &Subject) -> Result<Verdict> {
    let files = match subject.root()? {
        Ok(files) => files,
        Err(verdict) => return Ok(verdict),
    };
    if !files.exists("/etc/cloud/cloud.cfg")? {
        return Ok(Verdict::NotProven("the image has no cloud-init".into()));
    }
    let own = &subject.profile.data_source;
    Ok(verdict(&inspect::data_sources(files)?, own))
}

/// Judges a list for a machine whose datasource is `own`.
fn verdict(list: &[String], own: &str) -> Verdict {
    let shown = list.join(", ");
    if list.is_empty() {
        return Verdict::Pass("no list: cloud-init looks for every datasource".into());
    }
    if !list.iter().any(|source| source == own) {
        return Verdict::Fail(format!("datasource_list is [{shown}], without {own}"));
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
        return Verdict::Warn(text);
    }
    Verdict::Pass(shown)
}

fn other_cloud(source: &str, own: Option<Cloud>) -> bool {
    source != "None" && Cloud::of_data_source(source) != own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(list: &[&str], own: &str) -> Verdict {
        verdict(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), own)
    }

    #[test]
    fn the_own_datasource_has_to_be_there_and_others_are_told() {
        assert!(
            matches!(judged(&["Azure"], "Ec2"), Verdict::Fail(seen) if seen.contains("[Azure], without Ec2"))
        );
        assert!(matches!(judged(&["Ec2"], "Ec2"), Verdict::Pass(_)));
        assert!(matches!(judged(&["Ec2", "None"], "Ec2"), Verdict::Pass(_)));
        assert!(matches!(judged(&["VMware", "OVF"], "VMware"), Verdict::Pass(_)));
        assert!(matches!(judged(&["OVF"], "VMware"), Verdict::Fail(_)));
        assert!(
            matches!(judged(&["Azure", "Ec2"], "Ec2"), Verdict::Warn(seen) if seen.contains("Azure may answer"))
        );
        assert!(matches!(judged(&["NoCloud", "Ec2"], "NoCloud"), Verdict::Pass(_)));
        assert!(matches!(judged(&[], "Ec2"), Verdict::Pass(_)));
    }
}
