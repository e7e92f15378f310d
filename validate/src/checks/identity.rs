//! Rules on what makes one node differ from the next.

use nodekiln_words::Result;

use super::answers::{parts, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Verdict};
use crate::Tier;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "machine-id",
        title: "The machine-id is made at first boot",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/etc/machine-id", "journalctl -b"],
        why: "nodes with one machine-id get one DHCP address and one identity",
        remedy: "leave /etc/machine-id empty and remove /var/lib/dbus/machine-id",
        source: "machine-id(5)",
        applies: Applies::ALL,
        stops_boot: false,
        // `|` instead of failing: a missing file is a verdict, not a failure to ask.
        judge: Judge::Machine(
            Ask::Script(
                "cat /etc/machine-id 2>/dev/null; printf '\\n--\\n'; \
             journalctl -b --no-pager -o cat SYSLOG_IDENTIFIER=systemd _TRANSPORT=kernel 2>/dev/null \
             | grep -i 'machine id'; true",
            ),
            machine_id,
        ),
    },
    Rule {
        id: "hostname",
        title: "The host name is the one in the meta-data",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/proc/sys/kernel/hostname"],
        why: "the node registers under its host name, which the infrastructure provider decides",
        remedy: "leave /etc/hostname out of the image and `preserve_hostname` false",
        source: "cloud-init meta-data, local-hostname",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(Ask::Told("cat /proc/sys/kernel/hostname"), hostname),
    },
];

/// What systemd says when it takes the id from `/var/lib/dbus/machine-id`, a file of the image: every
/// node gets the same one then, although `/etc/machine-id` was empty.
const FROM_IMAGE: &str = "from D-Bus machine ID";

/// systemd tells when it fills an empty machine-id; an id that it did not fill was in the image.
fn machine_id(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let [id, journal] = parts(&text)?;
    let id = id.trim();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Verdict::Fail(format!("/etc/machine-id holds `{id}` after boot")));
    }
    let said = journal.lines().find(|line| line.contains("nitializing machine ID"));
    Ok(match said {
        Some(line) if line.contains(FROM_IMAGE) => Verdict::Fail(format!(
            "{id} was in the image, as /var/lib/dbus/machine-id: {}",
            line.trim()
        )),
        Some(line) => Verdict::Pass(format!("{id}, made at this boot: {}", line.trim())),
        None if context.told.host.is_some() => Verdict::NotProven(format!(
            "{id}; this boot's journal does not tell where it is from: it was not the first boot"
        )),
        None => {
            Verdict::Fail(format!("{id} was in the image: systemd did not make it at this boot"))
        }
    })
}

fn hostname(answer: &Output, context: &Context) -> Result<Verdict> {
    let name = text(answer)?;
    let wrong = if name == context.told.hostname {
        vec![]
    } else {
        vec![format!("`{name}` instead of `{}` from the meta-data", context.told.hostname)]
    };
    Ok(Verdict::of(&wrong, name))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    const MADE: &str = "Initializing machine ID from random generator.";

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "machine-id",
            "0123456789abcdef0123456789abcdef\n\n--\nInitializing machine ID from random generator.\n",
            &[
                Mutation::new("it is in the image", "systemd did not make it", |guest| {
                    guest.replace(&format!("{MADE}\n"), "");
                })
                .incident("machine-controller issue 1455"),
                Mutation::new("D-Bus has one", "/var/lib/dbus/machine-id", |guest| {
                    guest.replace("random generator", "D-Bus machine ID");
                }),
                Mutation::new("the file is missing", "holds ``", |guest| guest.print("\n--\n"))
                    .incident("image-builder issue 2164"),
                Mutation::new("it stays a word", "uninitialized", |guest| {
                    guest.print("uninitialized\n\n--\n");
                }),
            ],
        ),
        Answer::new(
            "hostname",
            "node-1\n",
            &[Mutation::new("the image's own name", "`localhost` instead of `node-1`", |guest| {
                guest.print("localhost\n");
            })],
        ),
    ];
}
