//! Rules on what the guest took from its cloud. Host name and keys are drawn for one run, so that they can have come
//! from nowhere else; ids follow from the file's path and the machine's seed.

use nodekiln_words::Result;

use super::answers::{json, list, parts, string, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, UNKNOWN_CLOUD, Verdict};
use crate::Tier;
use crate::guest::Output;
use crate::metadata::Cloud;

/// What cloud-init knows of its instance, which `cloud-init query` reads too: that takes seconds to start under emulation.
const INSTANCE: Ask = Ask::Told(
    "cat /run/cloud-init/instance-data-sensitive.json 2>/dev/null || cat /run/cloud-init/instance-data.json",
);

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
        reads: &["/run/cloud-init/instance-data-sensitive.json"],
        why: "by its id cloud-init tells a new machine from one that it has set up already",
        remedy: "remove /var/lib/cloud from the image, so that no earlier instance is taken for this one",
        source: "cloud-init's data on its instance, v1.instance_id",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(INSTANCE, instance_id),
    },
    Rule {
        id: "cloud-ssh-key",
        title: "The key named in the cloud is taken",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/run/cloud-init/instance-data-sensitive.json"],
        why: "the key that a person names in the cloud is the way in when the bootstrap has failed",
        remedy: "keep cloud-init's `ssh` module and the default user",
        source: "cloud-init's data on its instance, v1.public_ssh_keys",
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
            Ask::Told("sha256sum < /var/lib/cloud/instance/user-data.txt"),
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
    let Some(own) = context.data_source() else {
        return Ok(Verdict::Skipped(UNKNOWN_CLOUD.into()));
    };
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
    let (found, told) = (string(&instance, "/v1/instance_id"), &context.told.instance_id);
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
    let keys = list(&instance, "/v1/public_ssh_keys");
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
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use super::Cloud;
    use crate::checks::corpus::{Answer, Mutation};
    use crate::metadata::{Health, Provisioned};

    pub(super) const KEY: &str = "ssh-ed25519 AAAAone nodekiln";

    const INSTANCE: &str = r#"{
 "base64_encoded_keys": [],
 "ds": {"meta_data": {"instance_id": "iid-0"}},
 "v1": {
  "availability_zone": null,
  "cloud_name": "unknown",
  "instance_id": "iid-1",
  "local_hostname": "node-1",
  "platform": "nocloud",
  "public_ssh_keys": ["ssh-rsa BBBB somebody", "ssh-ed25519 AAAAone nodekiln"],
  "subplatform": "seed-dir (/dev/vdb)"
 }
}
"#;

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "cloud-detection",
            "datasource_list: [ NoCloud, None ]\n\n--\n[up 5.67s] ds-identify\npolicy loaded\nFound single datasource: NoCloud\n",
            &[
                Mutation::new(
                    "two clouds were recognised",
                    "[Azure, NoCloud, None], not NoCloud alone",
                    |guest| {
                        guest.replace("[ NoCloud", "[ Azure, NoCloud");
                    },
                )
                .incident("two seeds"),
                Mutation::new("none was", "Found single", |guest| {
                    guest.replace("[ NoCloud, None ]", "[ None ]");
                }),
                Mutation::new("nobody looked", "found []", |guest| guest.print("\n--\n")),
            ],
        ),
        Answer::new(
            "instance-id",
            INSTANCE,
            &[Mutation::new(
                "an earlier instance's",
                "`iid-datasource-none` instead of `iid-1`",
                |guest| {
                    guest.replace("iid-1", "iid-datasource-none");
                },
            )],
        ),
        Answer::new(
            "cloud-ssh-key",
            INSTANCE,
            &[
                Mutation::new("another key", "none of the 2", |guest| {
                    guest.replace("AAAAone", "AAAAtwo");
                }),
                Mutation::new("no key", "none of the 0", |guest| guest.print("{}")),
            ],
        )
        .given(|guest| guest.told.ssh_key = Some(KEY.into())),
        Answer::new(
            "user-data",
            "88c95955b024402aa9572b663f7eeb134f01343bb92af27b50e97e72b22c565f  -\n",
            &[Mutation::new("its last byte is lost", "a1b0542e7cce", |guest| {
                guest
                    .print("a1b0542e7cce032c6d3eeca880fe4c7102c4b74b8ca101b1a85d720d0e62cd7f  -\n");
            })],
        ),
        Answer::new(
            "azure-ready",
            "",
            &[
                Mutation::new("no report", "did not report", |guest| guest.observed.health.clear()),
                Mutation::new("a report of a failure", "no OVF environment", |guest| {
                    let description = Some("no OVF environment".into());
                    guest.observed.health =
                        vec![Health { state: Provisioned::NotReady, substatus: None, description }];
                }),
            ],
        )
        .given(|guest| {
            guest.told.cloud = Cloud::Azure;
            let ready = Health { state: Provisioned::Ready, substatus: None, description: None };
            guest.observed.health = vec![ready];
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, fails, judge_with, passes, told};
    use super::mutations::KEY;
    use super::*;
    use crate::expect::Expectations;
    use crate::provisioning::Told;

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
    fn the_own_cloud_may_stand_alone_or_before_the_fallback() {
        for list in ["[ Ec2, None ]", "[ Ec2 ]"] {
            let answer = format!("datasource_list: {list}\n\n--\n[up 5s] found one\n");
            assert!(passes(&verdict("cloud-detection", &answer, Cloud::Aws, "Ec2")), "{list}");
        }
    }

    #[test]
    fn another_instance_id_fails_but_for_the_other_order_of_bytes_on_azure() {
        let judge = |id: &str, cloud| {
            verdict(
                "instance-id",
                &format!(r#"{{"v1": {{"instance_id": "{id}"}}}}"#),
                cloud,
                "Azure",
            )
        };
        let (own, swapped) =
            ("12345678-9abc-4def-8123-456789abcdef", "78563412-bc9a-ef4d-8123-456789abcdef");
        assert!(passes(&judge(own, Cloud::Azure)) && passes(&judge(swapped, Cloud::Azure)));
        assert!(passes(&judge(own, Cloud::Aws)));
        assert!(fails(&judge(swapped, Cloud::Aws), "from the cloud"));
    }

    #[test]
    fn the_clouds_key_may_have_another_comment_and_a_seed_has_none() {
        let answer = r#"{"v1": {"public_ssh_keys": ["ssh-ed25519 AAAAone"]}}"#;
        assert!(passes(&verdict("cloud-ssh-key", answer, Cloud::Gce, "GCE")));
        let seed = super::super::testing::judge("cloud-ssh-key", "{}", &Expectations::default());
        assert!(matches!(seed, Verdict::Skipped(_)));
    }

    #[test]
    fn only_azure_is_told_that_the_machine_is_ready() {
        let elsewhere = super::super::testing::judge("azure-ready", "", &Expectations::default());
        assert!(matches!(elsewhere, Verdict::Skipped(_)));
        let (expect, told) =
            (Expectations::default(), Told { cloud: Cloud::Azure, ..told().clone() });
        let context = Context { told: &told, ..context(&expect, Tier::Boot) };
        assert!(fails(&judge_with("azure-ready", "", 0, &context).unwrap(), "did not report"));
    }
}
