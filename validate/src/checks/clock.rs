//! Whether the guest knows the time, and who keeps it right.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use nodekiln_words::{Failure, Result, ResultExt as _};

use super::answers::{parts, text};
use super::{Applies, Ask, Asked, Context, Judge, Rule, Severity, Verdict};
use crate::Tier;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "clock",
    title: "The clock is right, in UTC, and kept so",
    tier: Tier::Boot,
    severity: Severity::Fatal,
    reads: &["date", "/sys/class/rtc", "/etc/adjtime", "systemctl show"],
    why: "certificates are not valid yet, or not any more, on a node whose clock is wrong, and a cluster's leases \
          need one that stays right",
    remedy: "enable chrony or systemd-timesyncd, leave the hardware clock in UTC (`hwclock --systohc --utc`), and \
             set no time at boot",
    source: "the host's clock when the guest was asked; hwclock(8) on /etc/adjtime",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Machine(
        Ask::Script(
            "date +%s; echo --\n\
             cat /sys/class/rtc/rtc0/since_epoch 2>/dev/null; echo --\n\
             cat /etc/adjtime 2>/dev/null; echo --\n\
             systemctl show -p Id -p UnitFileState -p ActiveState chrony.service chronyd.service \
               systemd-timesyncd.service ntp.service ntpd.service ntpsec.service openntpd.service || true",
        ),
        clock,
    ),
}];

/// Seconds that a clock may be off: what validates certificates allows for minutes (Kubernetes' own are valid from
/// five minutes ago), and a guest just booted has had no time to be set right.
const TOLERANCE: i64 = 60;

fn clock(answer: &Output, context: &Context) -> Result<Verdict> {
    let [guest, hardware, adjtime, units] = parts(&text(answer)?)?;
    let asked = context
        .asked
        .ok_or_else(|| Failure::io("when the guest was asked for its time is not known"))?;
    let guest: i64 = guest
        .trim()
        .parse()
        .or_io(|| format!("the guest's time is no number of seconds: {}", guest.trim()))?;
    let mut wrong = Vec::new();
    let mut seen = vec![match off(guest, asked) {
        0 => "as the host's".to_owned(),
        off => {
            if off.abs() > TOLERANCE {
                wrong.push(format!("the clock is {}", told(off)));
            }
            told(off)
        }
    }];
    match hardware.trim().parse::<i64>() {
        Ok(at) if off(at, asked).abs() > TOLERANCE => {
            let off = told(off(at, asked));
            wrong.push(format!("the hardware clock, read as UTC, is {off}"));
        }
        Ok(_) => seen.push("the hardware clock is in UTC".to_owned()),
        Err(_) => seen.push("there is no hardware clock".to_owned()),
    }
    // The third line of hwclock's file; without it the clock is in UTC.
    if adjtime.lines().nth(2).is_some_and(|line| line.trim() == "LOCAL") {
        wrong.push("/etc/adjtime has the hardware clock in local time".to_owned());
    }
    let services = services(&units);
    let told: Vec<String> =
        services.iter().map(|(name, state)| format!("{name} is enabled and {state}")).collect();
    let told = told.join(", ");
    let is = |wanted: &str| services.values().any(|state| state == wanted);
    if !services.is_empty() && !is("active") && !is("activating") {
        wrong.push(format!("nothing keeps it: {told}"));
    }
    if !wrong.is_empty() {
        return Ok(Verdict::Fail(wrong.join("; ")));
    }
    let seen = seen.join(", ");
    Ok(match services.is_empty() {
        true => Verdict::Warn(format!("no time service is enabled; {seen}")),
        false if !is("active") => Verdict::Warn(format!("{seen}; {told}")),
        false => Verdict::Pass(format!("{seen}, {told}")),
    })
}

/// Seconds by which a guest's moment, cut to a whole second, lies before (negative) or behind the time in which it
/// was asked; 0 within.
fn off(guest: i64, asked: Asked) -> i64 {
    let (before, after) = (seconds(asked.before), seconds(asked.after));
    if guest < before { guest - before } else { (guest - after).max(0) }
}

/// Whole seconds since 1970.
fn seconds(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn told(off: i64) -> String {
    let side = if off < 0 { "behind" } else { "ahead of" };
    format!("{} s {side} the host's", off.unsigned_abs())
}

/// The time services that are started at boot by their names, and the state of each.
fn services(units: &str) -> BTreeMap<String, String> {
    let mut services = BTreeMap::new(); // a service of two names is told once
    for block in units.split("\n\n") {
        let field = |key: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
        };
        if field("UnitFileState").starts_with("enabled") {
            services.insert(field("Id").to_owned(), field("ActiveState").to_owned());
        }
    }
    services
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "clock",
        "1790000001\n--\n1790000001\n--\n0.000000 1789999000 0.000000\n1789999000\nUTC\n--\n\
         Id=chrony.service\nActiveState=active\nUnitFileState=enabled\n\n\
         Id=ntp.service\nActiveState=inactive\nUnitFileState=\n",
        &[
            Mutation::new("a time is set from a file", "1000000 s behind the host's", |guest| {
                guest.replace("1790000001\n--\n17", "1789000000\n--\n17");
            }),
            Mutation::new(
                "the time service has died",
                "chrony.service is enabled and failed",
                |guest| {
                    guest.replace("ActiveState=active", "ActiveState=failed");
                },
            ),
            Mutation::new("the clock runs ahead", "95 s ahead of the host's", |guest| {
                guest.replace("1790000001\n--\n17", "1790000100\n--\n17");
            }),
            Mutation::new(
                "the hardware clock is in local time",
                "read as UTC, is 7195 s",
                |guest| {
                    guest.replace("--\n1790000001", "--\n1790007200");
                },
            ),
            Mutation::new("it is written to be", "/etc/adjtime", |guest| {
                guest.replace("UTC", "LOCAL");
            }),
        ],
    )];
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{context, fails, judge_with, passes};
    use super::*;
    use crate::expect::Expectations;

    const NOW: u64 = 1_790_000_000;
    const CHRONY: &str = "Id=chrony.service\nActiveState=active\nUnitFileState=enabled\n";

    fn judged(guest: i64, hardware: &str, adjtime: &str, units: &str) -> Verdict {
        let expect = Expectations::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let asked = Some(Asked { before: at(NOW), after: at(NOW + 5) });
        let context = Context { asked, ..context(&expect, Tier::Boot) };
        let answer = format!("{guest}\n--\n{hardware}--\n{adjtime}--\n{units}");
        judge_with("clock", &answer, 0, &context).unwrap()
    }

    #[test]
    fn a_clock_within_the_time_of_asking_and_a_minute_is_right() {
        let now = i64::try_from(NOW).unwrap();
        let rtc = format!("{NOW}\n");
        for guest in [now - 60, now, now + 5, now + 65] {
            let verdict = judged(guest, &rtc, "", CHRONY);
            assert!(passes(&verdict) && verdict.seen().contains("chrony.service"), "{verdict:?}");
        }
        assert!(fails(&judged(now - 61, &rtc, "", CHRONY), "61 s behind the host's"));
        assert!(fails(&judged(now + 66, &rtc, "", CHRONY), "61 s ahead of the host's"));
    }

    #[test]
    fn a_hardware_clock_in_local_time_is_wrong_by_what_it_shows_and_by_what_is_written() {
        let now = i64::try_from(NOW).unwrap();
        let ahead = format!("{}\n", NOW + 7200);
        assert!(fails(&judged(now, &ahead, "", CHRONY), "read as UTC, is 7195 s ahead"));
        let rtc = format!("{NOW}\n");
        assert!(fails(&judged(now, &rtc, "0.0 0 0.0\n0\nLOCAL\n", CHRONY), "local time"));
        assert!(passes(&judged(now, &rtc, "0.0 0 0.0\n0\nUTC\n", CHRONY)));
        assert!(passes(&judged(now, "", "", CHRONY)), "a machine may have no such clock");
    }

    #[test]
    fn without_a_time_service_there_is_a_warning() {
        let now = i64::try_from(NOW).unwrap();
        let off = "Id=chrony.service\nActiveState=inactive\nUnitFileState=disabled\n\n\
                   Id=ntp.service\nActiveState=inactive\nUnitFileState=\n";
        let verdict = judged(now, "", "", off);
        assert!(matches!(&verdict, Verdict::Warn(seen) if seen.contains("no time service")));
        let twice = format!("{CHRONY}\n{CHRONY}\n{off}");
        let verdict = judged(now, "", "", &twice);
        assert_eq!(verdict.seen().matches("chrony.service").count(), 1, "{verdict:?}");
    }

    #[test]
    fn an_answer_without_a_time_is_none() {
        let expect = Expectations::default();
        let context = context(&expect, Tier::Boot);
        assert!(judge_with("clock", "1\n--\n--\n--\n", 0, &context).is_err(), "nobody knows when");
        let asked = Some(Asked { before: UNIX_EPOCH, after: UNIX_EPOCH });
        let context = Context { asked, ..context };
        assert!(judge_with("clock", "never\n--\n--\n--\n", 0, &context).is_err());
    }
}
