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
        judge: Judge::Machine(Ask::Script("cat /proc/sys/kernel/hostname"), hostname),
    },
];

/// What systemd says when it takes the id from `/var/lib/dbus/machine-id`, a file of the image: every
/// node gets the same one then, although `/etc/machine-id` was empty.
const FROM_IMAGE: &str = "from D-Bus machine ID";

/// systemd tells when it fills an empty machine-id; an id that it did not fill was in the image.
fn machine_id(answer: &Output, _: &Context) -> Result<Verdict> {
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
mod tests {
    use super::super::testing::{fails, judge, passes};
    use crate::expect::Expectations;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_machine_id_from_the_image_fails_as_does_a_missing_one() {
        let expect = Expectations::default();
        let made = format!("{ID}\n\n--\nInitializing machine ID from random generator.\n");
        assert!(passes(&judge("machine-id", &made, &expect)));
        let baked = format!("{ID}\n\n--\n");
        assert!(fails(&judge("machine-id", &baked, &expect), "in the image"));
        let cloned = made.replace("random generator", "D-Bus machine ID");
        assert!(fails(&judge("machine-id", &cloned, &expect), "/var/lib/dbus/machine-id"));
        assert!(fails(&judge("machine-id", "\n--\n", &expect), "holds ``"));
        assert!(fails(&judge("machine-id", "uninitialized\n\n--\n", &expect), "uninitialized"));
    }

    #[test]
    fn a_name_that_is_not_the_meta_datas_fails() {
        let expect = Expectations::default();
        assert!(passes(&judge("hostname", "node-1\n", &expect)));
        assert!(fails(&judge("hostname", "localhost\n", &expect), "node-1"));
    }
}
