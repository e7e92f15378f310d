//! The reports of one or several runs as one HTML page, which needs no other file, no network and no script.
//!
//! What comes from an image or a guest is text on this page, whatever it says: the macro that writes it escapes
//! everything, and control characters are gone before.

mod console;
mod judged;
mod specs;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{HostSession, Kept, Report};
use crate::power_on::PowerOn;
use crate::printable::printable;
use crate::rules::Verdict;

const STYLE: &str = include_str!("style.css");

/// The page of `kept`: a table of the verdicts, then each run with all that it found.
#[must_use]
pub fn page(kept: &[Kept]) -> String {
    let failed = kept.iter().filter(|kept| !kept.report.passed()).count();
    let title = match (kept.len(), failed) {
        (1, 0) => "passed".to_owned(),
        (1, _) => "not passed".to_owned(),
        (all, 0) => format!("all {all} runs passed"),
        (all, failed) => format!("{failed} of {all} runs did not pass"),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "nodekiln validate: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "nodekiln validate" }
                    p.(if failed == 0 { "green" } else { "red" }) { (title) }
                }
                (overview(kept))
                @for (number, kept) in kept.iter().enumerate() { (run(number, kept)) }
            }
        }
    };
    page.into_string()
}

/// A line a run: whose artifact, which tier, what came of it.
fn overview(kept: &[Kept]) -> Markup {
    html! {
        table.overview {
            thead { tr {
                th { "artifact" } th { "provider" } th { "tier" } th { "firmware" } th { "verdict" }
                th { "pass" } th { "warn" } th { "fail" } th { "not proven" } th { "skipped" } th { "waived" } th { "not asked" } th { "took" }
            } }
            tbody { @for (number, Kept { report, .. }) in kept.iter().enumerate() {
                @let count = Count::of(report);
                tr {
                    td { a href={ "#run-" (number) } { (name(report)) } }
                    td { (report.provider.as_deref().unwrap_or("–")) }
                    td { (report.tier.as_str()) }
                    td { (report.firmware.as_str()) }
                    td.(state(report)) { (report.verdict()) }
                    td.number { (count.pass) }
                    td.number.amber[count.warn > 0] { (count.warn) }
                    td.number.red[count.fail > 0] { (count.fail) }
                    td.number { (count.not_proven) }
                    td.number { (count.skipped) }
                    td.number.amber[count.waived > 0] { (count.waived) }
                    td.number.red[count.unasked > 0] { (count.unasked) }
                    td.number { (timeline::took(report)) }
                }
            } }
        }
    }
}

/// Everything about one run.
fn run(number: usize, kept: &Kept) -> Markup {
    let Kept { report, .. } = kept;
    html! {
        section id={ "run-" (number) } {
            h2 { (name(report)) " " span.(state(report)) { (report.verdict()) } }
            (facts(report))
            (causes(report))
            @for power_on in [PowerOn::First, PowerOn::AfterCut, PowerOn::Clone] {
                @if let Some(screen) = kept.screen(power_on) {
                    figure {
                        img src={ "data:image/png;base64," (screen) } alt="the guest's screen when it was given up";
                        figcaption { (power_on.whose()) "the guest's screen when it was given up" }
                    }
                }
            }
            h3 { "Rules" }
            (judged::tables(report))
            (judged::waivers(report))
            @if let Some(found) = &report.conformance { (specs::specs(found)) }
            @if !report.timeline.is_empty() {
                h3 { "Timeline" }
                (timeline::bars(report))
            }
            @if let Some(times) = &report.boot_times { (timeline::boot(times)) }
            @if let Some(text) = kept.console() {
                h3 { "Console" }
                (console::console(&report.findings, report.cause.as_ref(), &text))
            }
            @for further in &report.further {
                @if let Some(text) = kept.file_of(&further.console) {
                    h3 { "Console: " (further.power_on.as_str()) }
                    (console::console(&further.findings, further.cause.as_ref(), &text))
                }
            }
            @for excerpt in &report.logs {
                details {
                    summary { (printable(&excerpt.what)) ": the last lines of " code { (excerpt.file.display()) } }
                    pre { @for line in &excerpt.lines { (printable(line)) "\n" } }
                }
            }
            @if let Some(metadata) = &report.metadata {
                details {
                    summary { "What the guest asked " (metadata.cloud) "'s metadata service: "
                        (metadata.requests.values().sum::<u64>()) " requests" }
                    table { @for (request, count) in &metadata.requests {
                        tr { td { code { (printable(request)) } } td.number { (count) } }
                    } }
                }
            }
            @if let Some(network) = &report.network {
                details {
                    summary { "What the guest reached for: " (network.names.len()) " names, "
                        (network.peers.len()) " hosts (frames in " code { (network.frames.display()) } ")" }
                    table { @for (what, count) in network.names.iter().chain(&network.peers) {
                        tr { td { code { (printable(what)) } } td.number { (count) } }
                    } }
                }
            }
            h3 { "What this run does not prove" }
            ul { @for line in &report.fidelity { li { (line) } } }
        }
    }
}

fn facts(report: &Report) -> Markup {
    if let Some(host) = &report.host {
        return host_facts(host);
    }
    html! {
        dl {
            dt { "image" } dd { code { (printable(&report.image.display().to_string())) } " (" (report.format) ")" }
            @if let Some(digest) = &report.sha256 { dt { "sha256" } dd { code { (digest) } } }
            dt { "machine" }
            dd { @match &report.accelerator {
                None => { "none: the image was not booted" }
                Some(chosen) => {
                    "QEMU " (chosen.qemu) ", " (chosen.engine.as_str()) " (cpu " (chosen.cpu) "): "
                    (printable(&chosen.why))
                }
            } }
        }
    }
}

fn host_facts(host: &HostSession) -> Markup {
    html! {
        dl {
            dt { "host" } dd { code { (printable(&host.address)) } }
            dt { "host key" } dd { code { (host.key) } " (" (host.told()) ")" }
            @for bastion in host.bastions() {
                dt { "through" } dd { code { (printable(&bastion.address)) } ": " (bastion.told()) }
            }
            dt { "system" } dd { (printable(&host.system)) }
        }
    }
}

/// What made the run fail, first of all.
fn causes(report: &Report) -> Markup {
    html! {
        @if let Some(cause) = &report.cause {
            p.cause {
                b { "In stage " (cause.stage.map_or("run", |stage| stage.as_str())) ": " }
                (printable(&cause.text))
                @if let Some(finding) = &cause.console {
                    br; "The console tells why: " code { (printable(finding.line.trim())) }
                }
            }
        }
        @for judged in report.failed() {
            p.cause {
                b { (judged.rule.id) ": " } (printable(judged.seen())) br;
                i { "Remedy: " (judged.rule.remedy) }
            }
        }
        @for why in &report.obstacles { p.cause { b { "Not booted: " } (printable(why)) } }
    }
}

fn name(report: &Report) -> String {
    let name = report.image.file_name().map(|name| name.to_string_lossy().into_owned());
    printable(&name.unwrap_or_else(|| report.image.display().to_string()))
}

fn state(report: &Report) -> &'static str {
    if report.passed() { "green" } else { "red" }
}

/// How many rules said what.
#[derive(Default)]
pub(super) struct Count {
    pub(super) pass: usize,
    pub(super) warn: usize,
    pub(super) fail: usize,
    pub(super) not_proven: usize,
    pub(super) skipped: usize,
    pub(super) waived: usize,
    /// Those that could not be asked.
    pub(super) unasked: usize,
}

impl Count {
    pub(super) fn of(report: &Report) -> Self {
        let mut count = Self::default();
        for judged in &report.rules {
            let number = match judged.verdict() {
                Some(Verdict::Pass(_)) => &mut count.pass,
                Some(Verdict::Warn(_)) => &mut count.warn,
                Some(Verdict::Fail(_)) => &mut count.fail,
                None => &mut count.unasked,
                Some(Verdict::NotProven(_)) => &mut count.not_proven,
                Some(Verdict::Skipped(_)) => &mut count.skipped,
                Some(Verdict::Waived(_)) => &mut count.waived,
            };
            *number += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use crate::report::Outcome;

    fn kept(report: Report) -> Kept {
        Kept { folder: "/nowhere".into(), report }
    }

    #[test]
    fn every_rule_is_there_with_its_remedy_and_the_verdict_comes_first() {
        let text = page(&[kept(sample())]);
        for judged in &sample().rules {
            assert!(text.contains(&format!(">{}<", judged.rule.id)), "{}", judged.rule.id);
        }
        assert!(text.contains("within 1.8 s"), "{text}");
        assert!(text.contains("Remedy: do this") && text.contains("swap is on: /dev/zram0"));
        let (verdict, rule) = (text.find("FAILED").unwrap(), text.find("multi-user").unwrap());
        assert!(verdict < rule);
    }

    #[test]
    fn the_boot_has_its_bars_and_what_it_waited_for_last() {
        let text = page(&[kept(sample())]);
        // The unit's own place in 20 seconds, and that of the part of the boot in which it is.
        assert!(text.contains("margin-left:42.50%;width:32.50%"), "{text}");
        assert!(text.contains("margin-left:20.00%;width:80.00%"), "{text}");
        assert!(text.contains("waited for last: 2 units") && text.contains("multi-user.target"));
    }

    #[test]
    fn a_page_of_several_runs_counts_them_and_links_to_each() {
        let mut good = sample();
        good.rules.retain(|judged| judged.rule.id == "multi-user");
        let text = page(&[kept(good), kept(sample())]);
        assert!(text.contains("1 of 2 runs did not pass"), "{text}");
        for number in 0..2 {
            assert!(text.contains(&format!("href=\"#run-{number}\"")));
            assert!(text.contains(&format!("id=\"run-{number}\"")));
        }
    }

    #[test]
    fn what_a_guest_says_is_never_markup_and_nothing_is_fetched() {
        let mut report = sample();
        let evil = "<script>alert(1)</script>\u{1b}[2J\"><img src=http://x>";
        report.rules[0].outcome = Outcome::Judged(Verdict::Fail(evil.into()));
        report.image = format!("/tmp/{evil}").into();
        let text = page(&[kept(report)]);
        assert!(!text.contains("<script") && !text.contains("<img src=http"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(
            !text.contains("src=\"http") && !text.contains("@import") && !text.contains("url(")
        );
    }
}
