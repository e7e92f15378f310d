//! Rules on what the guest took from its cloud. Host name and keys are drawn for one run, so that they can have come
//! from nowhere else; ids follow from the file's path and the machine's seed.

use nodekiln_words::Result;

use super::answers::{json, list, parts, string, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::guest::Output;
use crate::metadata::Cloud;

/// What cloud-init knows of its instance, in words that are the same on every cloud.
const INSTANCE: Ask = Ask::Script("cloud-init query v1");

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "cloud-detection",
        title: "ds-identify found this cloud alone",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/run/cloud-init/cloud.cfg", "/run/cloud-init/ds-identify.log"],
        why: "where another cloud was recognised too, either may answer at the next start",
        remedy: "remove seeds, media and lists of other clouds from the image",
        source: "ds-identify: /run/cloud-init/cloud.cfg, /run/cloud-init/ds-identify.log",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script(
                "cat /run/cloud-init/cloud.cfg; printf '\\n--\\n'; \
             grep -v '=' /run/cloud-init/ds-identify.log | tail -n 4; true",
            ),
            detection,
        ),
    },
    Rule {
        id: "instance-id",
        title: "The instance id is the cloud's",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["cloud-init query"],
        why: "by its id cloud-init tells a new machine from one that it has set up already",
        remedy: "remove /var/lib/cloud from the image, so that no earlier instance is taken for this one",
        source: "cloud-init query v1, instance_id",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(INSTANCE, instance_id),
    },
    Rule {
        id: "cloud-ssh-key",
        title: "The key named in the cloud is taken",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["cloud-init query"],
        why: "the key that a person names in the cloud is the way in when the bootstrap has failed",
        remedy: "keep cloud-init's `ssh` module and the default user",
        source: "cloud-init query v1, public_ssh_keys",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(INSTANCE, ssh_key),
    },
    Rule {
        id: "user-data",
        title: "The user-data arrives byte by byte",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/var/lib/cloud/instance/user-data.txt"],
        why: "user-data that is not taken byte by byte is another bootstrap than the one that was sent",
        remedy: "look in `metadata.jsonl` whether the guest asked for its user-data, and what it was answered",
        source: "/var/lib/cloud/instance/user-data.txt",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script("sha256sum < /var/lib/cloud/instance/user-data.txt"),
            user_data,
        ),
    },
    Rule {
        id: "azure-ready",
        title: "The machine reports itself ready to Azure",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["requests to the wireserver"],
        why: "Azure ends the provisioning of a machine that does not report itself ready",
        remedy: "keep cloud-init's Azure datasource, or an agent that reports provisioning",
        source: "health report to the wireserver, POST /machine?comp=health",
        applies: Applies::on(&[Cloud::Azure]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Nothing, azure_ready),
    },
];

/// ds-identify writes down what it found, the fallback `None` behind it.
fn detection(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let [found, log] = parts(&text)?;
    let list = found.lines().find_map(|line| line.trim().strip_prefix("datasource_list:"));
    let list: Vec<&str> = list
        .unwrap_or_default()
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let own = context.told.data_source;
    let wrong = match &list[..] {
        [one] | [one, "None"] if *one == own => vec![],
        _ => vec![format!(
            "ds-identify found [{}], not {own} alone; it says: {}",
            list.join(", "),
            log.lines().map(str::trim).collect::<Vec<_>>().join("; ")
        )],
    };
    Ok(Verdict::of(&wrong, format!("[{}]", list.join(", "))))
}

fn instance_id(answer: &Output, context: &Context) -> Result<Verdict> {
    let instance = json(answer)?;
    let (found, told) = (string(&instance, "/instance_id"), &context.told.instance_id);
    let same = found == told || (context.told.cloud == Cloud::Azure && swapped(found) == *told);
    let wrong =
        if same { vec![] } else { vec![format!("`{found}` instead of `{told}` from the cloud")] };
    Ok(Verdict::of(&wrong, found))
}

/// A UUID whose first three fields are written the other way round: on Azure's machines without UEFI the
/// id is that of the firmware in this order.
fn swapped(uuid: &str) -> String {
    let Ok(uuid) = uuid.parse::<uuid::Uuid>() else { return String::new() };
    uuid::Uuid::from_bytes(uuid.to_bytes_le()).to_string()
}

fn ssh_key(answer: &Output, context: &Context) -> Result<Verdict> {
    let Some(told) = &context.told.ssh_key else {
        return Ok(Verdict::Skipped("the seed gives its key by user-data alone".into()));
    };
    let instance = json(answer)?;
    let body = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let keys = list(&instance, "/public_ssh_keys");
    let there = keys.iter().filter_map(|key| key.as_str()).any(|key| body(key) == body(told));
    let wrong = match there {
        true => vec![],
        false => vec![format!("the cloud's key is none of the {} that were taken", keys.len())],
    };
    Ok(Verdict::of(&wrong, "the key that the cloud gave was taken"))
}

fn user_data(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let found = text.split_whitespace().next().unwrap_or_default();
    let told = context.told.user_data.to_string();
    let wrong = match found == told {
        true => vec![],
        false => vec![format!("sha256 {found} was taken, {told} was given")],
    };
    Ok(Verdict::of(
        &wrong,
        format!("taken as it was given, sha256 {}", context.told.user_data.short()),
    ))
}

fn azure_ready(_: &Output, context: &Context) -> Result<Verdict> {
    if context.told.cloud != Cloud::Azure {
        let cloud = context.told.cloud.as_str();
        return Ok(Verdict::Skipped(format!("{cloud} takes no such report")));
    }
    let reports = context.observed.map_or(&[][..], |observed| &observed.health);
    if context.observed.is_some_and(crate::metadata::Observed::ready) {
        return Ok(Verdict::Pass("the machine reported itself ready".into()));
    }
    let said: Vec<&str> =
        reports.iter().filter_map(|report| report.description.as_deref()).collect();
    Ok(Verdict::Fail(match said.last() {
        Some(why) => format!("the machine reported itself not ready: {why}"),
        None => "the machine did not report itself ready".into(),
    }))
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Sha256;

    use super::super::testing::{context, fails, judge, judge_with, passes, told};
    use super::*;
    use crate::expect::Expectations;
    use crate::metadata::{Health, Observed, Provisioned};
    use crate::provisioning::Told;

    const KEY: &str = "ssh-ed25519 AAAAone nodekiln";

    fn verdict(id: &str, answer: &str, cloud: Cloud, source: &'static str) -> Verdict {
        let told = Told {
            cloud,
            data_source: source,
            instance_id: "12345678-9abc-4def-8123-456789abcdef".into(),
            ssh_key: Some(KEY.into()),
            ..told().clone()
        };
        let expect = Expectations::default();
        let context = Context { told: &told, ..context(&expect, Tier::Boot) };
        judge_with(id, answer, 0, &context).unwrap()
    }

    #[test]
    fn a_cloud_that_was_recognised_beside_the_own_one_fails_and_so_does_none() {
        let judge = |list: &str| {
            let answer = format!("datasource_list: {list}\n\n--\n[up 5s] found one\n");
            verdict("cloud-detection", &answer, Cloud::Aws, "Ec2")
        };
        assert!(passes(&judge("[ Ec2, None ]")) && passes(&judge("[ Ec2 ]")));
        assert!(fails(&judge("[ Azure, Ec2, None ]"), "[Azure, Ec2, None], not Ec2 alone"));
        assert!(fails(&judge("[ None ]"), "found one"));
        assert!(fails(&verdict("cloud-detection", "\n--\n", Cloud::Aws, "Ec2"), "[]"));
    }

    #[test]
    fn another_instance_id_fails_but_for_the_other_order_of_bytes_on_azure() {
        let judge = |id: &str, cloud| {
            verdict("instance-id", &format!(r#"{{"instance_id": "{id}"}}"#), cloud, "Azure")
        };
        let (own, swapped) =
            ("12345678-9abc-4def-8123-456789abcdef", "78563412-bc9a-ef4d-8123-456789abcdef");
        assert!(passes(&judge(own, Cloud::Azure)) && passes(&judge(swapped, Cloud::Azure)));
        assert!(passes(&judge(own, Cloud::Aws)));
        assert!(fails(&judge(swapped, Cloud::Aws), "from the cloud"));
        assert!(fails(&judge("iid-datasource-none", Cloud::Azure), "iid-datasource-none"));
    }

    #[test]
    fn the_clouds_key_has_to_be_among_those_that_were_taken() {
        let judge = |key: &str| {
            let answer = format!(r#"{{"public_ssh_keys": ["ssh-rsa BBBB x", "{key}"]}}"#);
            verdict("cloud-ssh-key", &answer, Cloud::Gce, "GCE")
        };
        assert!(passes(&judge(KEY)) && passes(&judge("ssh-ed25519 AAAAone")));
        assert!(fails(&judge("ssh-ed25519 AAAAtwo nodekiln"), "none of the 2"));
        assert!(fails(&verdict("cloud-ssh-key", "{}", Cloud::Gce, "GCE"), "none of the 0"));
        let seed = super::super::testing::judge("cloud-ssh-key", "{}", &Expectations::default());
        assert!(matches!(seed, Verdict::Skipped(_)));
    }

    #[test]
    fn user_data_that_differs_in_one_byte_fails() {
        let expect = Expectations::default();
        let answer = |text: &str| format!("{}  -\n", Sha256::of(text));
        assert!(passes(&judge("user-data", &answer("#cloud-config\n"), &expect)));
        assert!(fails(&judge("user-data", &answer("#cloud-config"), &expect), "was given"));
    }

    #[test]
    fn azure_has_to_be_told_that_the_machine_is_ready() {
        let expect = Expectations::default();
        let told = Told { cloud: Cloud::Azure, ..told().clone() };
        let judge = |observed: Option<&Observed>| {
            let context = Context { told: &told, observed, ..context(&expect, Tier::Boot) };
            judge_with("azure-ready", "", 0, &context).unwrap()
        };
        let health = |state, description: Option<&str>| Health {
            state,
            substatus: None,
            description: description.map(str::to_owned),
        };
        let mut observed = Observed::default();
        assert!(fails(&judge(None), "did not report"));
        assert!(fails(&judge(Some(&observed)), "did not report"));
        observed.health.push(health(Provisioned::NotReady, Some("no OVF environment")));
        assert!(fails(&judge(Some(&observed)), "no OVF environment"));
        observed.health.push(health(Provisioned::Ready, None));
        assert!(passes(&judge(Some(&observed))));
        let elsewhere = super::super::testing::judge("azure-ready", "", &expect);
        assert!(matches!(elsewhere, Verdict::Skipped(_)));
    }
}
