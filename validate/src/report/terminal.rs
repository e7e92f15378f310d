//! The report as text for people.

use std::fmt::Write as _;

use super::{HostSession, Kept, Network, Outcome, Report};
use crate::boot_times::{SLOWEST_TOLD, UnitTime};
use crate::power_on::PowerOn;
use crate::printable::printable;

impl Report {
    /// The report as text: the cause of a failure first, then what was run, when each stage ended and
    /// each rule; the verdict last, where the eye is. What comes from the image or its guest is told without
    /// control characters.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.causes(&mut text);
        self.head(&mut text);
        self.stages(&mut text);
        self.boot_times(&mut text);
        self.rule_lines(&mut text);
        self.waiver_lines(&mut text);
        self.not_proven(&mut text);
        self.trouble(&mut text);
        let _ = writeln!(text, "\n{}", self.verdict());
        text
    }

    /// What made the run fail: why it did not get to its end, and the rules that say no with what they
    /// saw; and what kept it from being booted here. Nothing for an image that passed.
    fn causes(&self, text: &mut String) {
        if let Some(cause) = &self.cause {
            let stage = cause.stage.map_or("the run", |stage| stage.as_str());
            let _ = writeln!(text, "cause: in stage {stage}: {}", printable(&cause.text));
            if let Some(finding) = &cause.console {
                let _ = writeln!(
                    text,
                    "       console, byte {}: {}",
                    finding.offset,
                    printable(finding.line.trim())
                );
            }
        }
        for judged in self.failed() {
            let _ = writeln!(text, "cause: {}: {}", judged.rule.id, printable(&judged.told()));
            let _ = writeln!(text, "       help: {}", judged.rule.remedy);
        }
        for why in &self.obstacles {
            let _ = writeln!(text, "not booted: {}", printable(why));
        }
        if !text.is_empty() {
            text.push('\n');
        }
    }

    fn head(&self, text: &mut String) {
        if let Some(host) = &self.host {
            return self.host_lines(host, text);
        }
        let _ = writeln!(text, "image        {}", self.image.display());
        if let Some(digest) = &self.sha256 {
            let _ = writeln!(text, "sha256       {digest}");
        }
        let provider = self.provider.as_deref().map(|name| format!(", provider {name}"));
        let _ = writeln!(
            text,
            "tier         {}, firmware {}, format {}{}",
            self.tier.as_str(),
            self.firmware.as_str(),
            self.format,
            provider.unwrap_or_default(),
        );
        let Some(chosen) = &self.accelerator else {
            text.push_str("machine      none: the image was not booted\n");
            return;
        };
        let _ = writeln!(
            text,
            "machine      QEMU {}, {} (cpu {}): {}",
            chosen.qemu,
            chosen.engine.as_str(),
            chosen.cpu,
            chosen.why
        );
        if let Some(metadata) = &self.metadata {
            let incomplete = metadata.incomplete.as_ref().map(|why| format!(", not whole: {why}"));
            let _ = writeln!(
                text,
                "metadata     {}: {} requests, told in {}{}",
                metadata.cloud,
                metadata.requests.values().sum::<u64>(),
                metadata.log.display(),
                incomplete.unwrap_or_default()
            );
        }
        if let Some(Network { frames, names, peers }) = &self.network {
            let (names, peers) = (names.len(), peers.len());
            let frames = frames.display();
            let _ = writeln!(
                text,
                "network      {names} names asked, {peers} hosts spoken to: {frames}"
            );
        }
        let _ = writeln!(text, "console      {}", self.console.display());
        for further in &self.further {
            let _ = writeln!(text, "             {}", further.console.display());
        }
    }

    fn host_lines(&self, host: &HostSession, text: &mut String) {
        let _ = writeln!(text, "host         {}", host.address);
        let _ = writeln!(text, "host key     {}", host.told());
        for bastion in host.bastions() {
            let _ = writeln!(text, "through      {}: {}", bastion.address, bastion.told());
        }
        let provider = self.provider.as_deref().map(|name| format!(", provider {name}"));
        let (tier, firmware) = (self.tier.as_str(), self.firmware.as_str());
        let _ = writeln!(
            text,
            "tier         {tier}, firmware {firmware}{}",
            provider.unwrap_or_default()
        );
        let _ = writeln!(text, "system       {}", printable(&host.system));
    }

    fn stages(&self, text: &mut String) {
        if self.timeline.is_empty() {
            return;
        }
        text.push_str("\nstages\n");
        for lap in &self.timeline {
            let stage = match lap.power_on {
                PowerOn::First => lap.stage.as_str().to_owned(),
                other => format!("{}: {}", other.as_str(), lap.stage.as_str()),
            };
            let took = if lap.failed { "given up after" } else { "took" };
            let _ =
                writeln!(text, "  {stage:<23} at {:>7.1} s  ({took} {:.1} s)", lap.at, lap.took);
        }
    }

    /// What the guest itself says of its boot.
    fn boot_times(&self, text: &mut String) {
        let Some(times) = &self.boot_times else { return };
        let _ = writeln!(text, "\nboot, by the guest's clock\n  {}", times.line());
        for UnitTime { unit, at, took } in times.slowest.iter().take(SLOWEST_TOLD) {
            let unit = printable(unit);
            let _ = writeln!(text, "  {took:>7.1} s  {unit} (from {at:.1} s)");
        }
    }

    fn rule_lines(&self, text: &mut String) {
        text.push_str("\nrules\n");
        for judged in &self.rules {
            let word = match &judged.outcome {
                Outcome::Judged(verdict) => verdict.word(),
                Outcome::Unasked(_) => "NOT ASKED",
            };
            let _ =
                writeln!(text, "  {word:<10} {:<22} {}", judged.rule.id, printable(&judged.told()));
        }
    }

    fn waiver_lines(&self, text: &mut String) {
        if self.waivers.is_empty() {
            return;
        }
        text.push_str("\nwaivers\n");
        for waiver in &self.waivers {
            let (word, about) = (waiver.state.as_str(), printable(&waiver.about()));
            let _ = writeln!(text, "  {word:<17} {:<22} {about}", printable(&waiver.rule));
        }
    }

    fn not_proven(&self, text: &mut String) {
        text.push_str("\nnot proven by this run\n");
        for line in &self.fidelity {
            let _ = writeln!(text, "  - {line}");
        }
    }

    fn trouble(&self, text: &mut String) {
        for excerpt in &self.logs {
            let _ = writeln!(text, "\n{} (whole log: {})", excerpt.what, excerpt.file.display());
            for line in &excerpt.lines {
                let _ = writeln!(text, "  | {}", printable(line));
            }
        }
        let Some(cause) = &self.cause else { return };
        text.push_str("\nend of the console\n");
        for line in &cause.tail {
            let marked = cause.console.as_ref().is_some_and(|finding| finding.line == *line);
            let _ = writeln!(text, "  {} {}", if marked { ">>" } else { " |" }, printable(line));
        }
    }
}

/// A line a run, for several of them: whose artifact, which tier, what came of it.
#[must_use]
pub fn overview(kept: &[Kept]) -> String {
    let mut text = String::new();
    for Kept { folder, report } in kept {
        let took = report.seconds().map_or_else(String::new, |at| format!("{at:.0} s"));
        let _ = writeln!(
            text,
            "{:<12} {:<9} {:<5} {took:>6}  {}  ({})",
            report.provider.as_deref().unwrap_or("-"),
            report.tier.as_str(),
            report.firmware.as_str(),
            report.verdict(),
            folder.display()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::super::{Excerpt, Outcome};
    use crate::console::{Finding, Gravity};
    use crate::deadlines::Stage;
    use crate::rules::Verdict;
    use crate::run::Cause;

    #[test]
    fn every_rule_has_its_line_and_the_failed_ones_are_named_at_the_end() {
        let text = sample().text();
        for words in [
            "pass       multi-user",
            "FAIL       swap",
            "not proven cluster-dns",
            "NOT ASKED  hostname",
            "7.2.22, tcg (cpu max): KVM is unusable",
            "  after-cut: login ",
            " console-after-cut.log\n",
        ] {
            assert!(text.contains(words), "{words} in\n{text}");
        }
        assert!(text.ends_with("FAILED: swap\n"), "{text}");
    }

    #[test]
    fn of_the_boot_its_parts_and_the_five_slowest_units_are_told() {
        let text = sample().text();
        let line = "20.0 s from the kernel's start: kernel 2.5 s, initrd 1.5 s, userspace 16.0 s";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("  6.5 s  cloud-init.service (from 8.5 s)"), "{text}");
        assert!(text.contains("dbus.service") && !text.contains("apparmor.service"), "{text}");
    }

    #[test]
    fn words_of_a_guest_are_no_command_and_no_line() {
        let (hostile, clean) = ("\x1b[2Jx\npassed", "\u{FFFD}[2Jx\u{FFFD}passed");
        let mut report = sample();
        report.rules[2].outcome = Outcome::Judged(Verdict::Fail(hostile.into()));
        report.obstacles = vec![hostile.into()];
        report.logs =
            vec![Excerpt { what: "log".into(), lines: vec![hostile.into()], file: "/l".into() }];
        report.cause = Some(Cause {
            stage: None,
            text: hostile.into(),
            console: Some(Finding {
                pattern: "x".into(),
                gravity: Gravity::Fatal,
                offset: 1,
                line: hostile.into(),
            }),
            tail: vec![hostile.into()],
        });
        let text = report.text();
        assert!(!text.contains('\x1b') && !text.contains("\npassed"), "{text}");
        // Cause, console, the rule twice, obstacle, log and tail.
        assert_eq!(text.matches(clean).count(), 7, "{text}");
        assert!(report.json().contains("\\u001b[2Jx\\npassed"), "JSON tells it as it was");
    }

    #[test]
    fn an_image_that_cannot_be_booted_here_is_neither_passed_nor_failed() {
        let mut report = sample();
        report.rules.retain(|judged| judged.rule.id == "multi-user");
        report.obstacles = vec!["boot-drivers: no virtio_scsi".into()];
        let text = report.text();
        assert!(text.starts_with("not booted: boot-drivers: no virtio_scsi\n"), "{text}");
        assert!(text.ends_with("\nNOT BOOTED\n"), "{text}");
    }

    #[test]
    fn the_line_that_tells_the_cause_is_marked() {
        let mut report = sample();
        let line = "Kernel panic - not syncing: x".to_owned();
        let finding = Finding {
            pattern: "kernel-panic".into(),
            gravity: Gravity::Fatal,
            offset: 77,
            line: line.clone(),
        };
        report.cause = Some(Cause {
            stage: Some(Stage::Kernel),
            text: "the guest died".into(),
            console: Some(finding),
            tail: vec!["before".into(), line],
        });
        let text = report.text();
        assert!(text.contains(">> Kernel panic"), "{text}");
        let first: Vec<&str> = text.lines().take(3).collect();
        assert_eq!(
            first,
            [
                "cause: in stage kernel: the guest died",
                "       console, byte 77: Kernel panic - not syncing: x",
                "cause: swap: swap is on: /dev/zram0"
            ]
        );
        assert!(text.ends_with("FAILED: swap\n"), "{text}");
    }

    #[test]
    fn the_report_of_an_image_that_passed_names_no_cause() {
        let mut report = sample();
        report.rules.retain(|judged| judged.rule.id == "multi-user");
        let text = report.text();
        assert!(text.starts_with("image ") && text.ends_with("\npassed\n"), "{text}");
    }
}
