//! The reports of one or several runs as Markdown, for the summary page of a continuous integration.

use std::fmt::Write as _;

use super::page::Count;
use super::{Kept, Outcome, Report, WaiverState};
use crate::boot_times::{SLOWEST_TOLD, UnitTime};
use crate::printable::printable;
use crate::rules::Verdict;

/// Most rules that are told of one run besides those that failed it.
const MOST_TOLD: usize = 20;

/// The summary of `kept`: a table of the verdicts, then what failed with its remedy, then what was not proven.
#[must_use]
pub fn summary(kept: &[Kept]) -> String {
    let mut text = String::from(
        "| artifact | provider | tier | firmware | verdict | pass | warn | fail | not proven | waived | not asked |\n\
         |---|---|---|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for Kept { report, .. } in kept {
        let count = Count::of(report);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} {} | {} | {} | {} | {} | {} | {} |",
            cell(&name(report)),
            cell(report.provider.as_deref().unwrap_or("–")),
            report.tier.as_str(),
            report.firmware.as_str(),
            if report.passed() { "✅" } else { "❌" },
            cell(&report.verdict()),
            count.pass,
            count.warn,
            count.fail,
            count.not_proven,
            count.waived,
            count.unasked
        );
    }
    for Kept { report, .. } in kept {
        told(&mut text, report);
    }
    text
}

fn told(text: &mut String, report: &Report) {
    let mut lines = Vec::new();
    if let Some(cause) = &report.cause {
        let stage = cause.stage.map_or("run", |stage| stage.as_str());
        lines.push(format!("- **stage {stage}**: {}", inline(&cause.text)));
        if let Some(finding) = &cause.console {
            lines.push(format!("  - console: {}", inline(finding.line.trim())));
        }
    }
    if let Some(times) = &report.boot_times {
        lines.push(format!("- boot: {}", times.line()));
        let told = |time: &UnitTime| format!("{} {:.1} s", inline(&time.unit), time.took);
        let slowest: Vec<String> = times.slowest.iter().take(SLOWEST_TOLD).map(told).collect();
        if !slowest.is_empty() {
            lines.push(format!("  - slowest units: {}", slowest.join(", ")));
        }
    }
    for judged in report.failed() {
        lines.push(format!("- **{}**: {}", inline(&judged.rule.id), inline(&judged.told())));
        lines.push(format!("  - remedy: {}", judged.rule.remedy));
    }
    lines.extend(report.obstacles.iter().map(|why| format!("- not booted: {}", inline(why))));
    let open = report.rules.iter().filter_map(|judged| match &judged.outcome {
        Outcome::Judged(
            verdict @ (Verdict::Warn(_) | Verdict::NotProven(_) | Verdict::Waived(_)),
        ) => {
            let id = inline(&judged.rule.id);
            Some(format!("- {} {id}: {}", verdict.word(), inline(&verdict.told())))
        }
        Outcome::Unasked(why) => {
            Some(format!("- NOT ASKED {}: {}", inline(&judged.rule.id), inline(why)))
        }
        Outcome::Judged(_) => None,
    });
    let open: Vec<String> = open.collect();
    let more = open.len().saturating_sub(MOST_TOLD);
    lines.extend(open.into_iter().take(MOST_TOLD));
    if more > 0 {
        lines.push(format!("- and {more} more, in the report"));
    }
    // Those that are used or expired are told with their rules.
    let idle = report.waivers.iter().filter(|waiver| waiver.state == WaiverState::NotNeeded);
    lines.extend(idle.map(|waiver| {
        format!("- waiver of {} not needed: {}", inline(&waiver.rule), inline(&waiver.about()))
    }));
    if !lines.is_empty() {
        let _ = write!(
            text,
            "\n**{}, tier {}**\n\n{}\n",
            inline(&name(report)),
            report.tier.as_str(),
            lines.join("\n")
        );
    }
}

fn name(report: &Report) -> String {
    let name = report.image.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| report.image.display().to_string())
}

/// What a guest said, as text within a line: no markup of its own, and no end of the line.
fn inline(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in printable(text).chars() {
        if matches!(
            character,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&'
        ) {
            safe.push('\\');
        }
        safe.push(character);
    }
    safe
}

fn cell(text: &str) -> String {
    inline(text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;

    #[test]
    fn failures_come_with_their_remedy_and_what_is_open_is_told() {
        let kept = Kept { folder: "/nowhere".into(), report: sample() };
        let text = summary(&[kept]);
        assert!(text.contains("| node.qcow2 | qemu | boot | bios | ❌"), "{text}");
        assert!(text.contains("- **swap**: swap is on: /dev/zram0\n  - remedy: do this"), "{text}");
        assert!(text.contains("- not proven cluster-dns: no CoreDNS"), "{text}");
        assert!(text.contains("- NOT ASKED hostname: no answer"), "{text}");
        assert!(text.contains("- boot: 20.0 s from the kernel's start: kernel 2.5 s,"), "{text}");
        assert!(
            text.contains("units: cloud-init.service 6.5 s, containerd.service 3.0 s,"),
            "{text}"
        );
    }

    #[test]
    fn what_a_guest_says_is_no_markup() {
        assert_eq!(inline("a|b\n<b>*x*"), "a\\|b\u{FFFD}\\<b\\>\\*x\\*");
    }
}
