//! The rules of a run, a table a tier, each with what was seen and what the rule is.

use maud::{Markup, html};

use super::super::{Judged, Report, WaiverState};
use crate::Tier;
use crate::printable::printable;
use crate::rules::Verdict;

pub(super) fn tables(report: &Report) -> Markup {
    html! {
        @for tier in Tier::ALL {
            @let own: Vec<&Judged> =
                report.rules.iter().filter(|judged| judged.rule.tier == tier).collect();
            @if !own.is_empty() {
                // What wants no look is folded away.
                details open[own.iter().any(|judged| !is_quiet(judged))] {
                    summary { (tier.as_str()) ": " (own.len()) " rules" }
                    table.rules { @for judged in own { (row(judged)) } }
                }
            }
        }
    }
}

/// The waivers of the user's files and what became of each.
pub(super) fn waivers(report: &Report) -> Markup {
    html! {
        @if !report.waivers.is_empty() {
            h3 { "Waivers" }
            table { @for waiver in &report.waivers {
                tr {
                    td.(waiver_colour(waiver.state)) { (waiver.state.as_str()) }
                    td { code { (waiver.rule) } }
                    td { (printable(&waiver.about())) }
                }
            } }
        }
    }
}

fn waiver_colour(state: WaiverState) -> &'static str {
    match state {
        WaiverState::Used | WaiverState::NotNeeded => "amber",
        WaiverState::Expired => "red",
        WaiverState::Elsewhere | WaiverState::NotJudged => "grey",
    }
}

fn row(judged: &Judged) -> Markup {
    let rule = &judged.rule;
    html! {
        tr {
            td.(colour(judged)) { (word(judged)) }
            td {
                details {
                    summary { code { (rule.id) } }
                    p { (rule.title) ": " (rule.why) "." }
                    p { i { "Reads " } @for (at, read) in rule.reads.iter().enumerate() {
                        @if at > 0 { ", " } code { (read) }
                    } }
                    p { i { "Remedy " } (rule.remedy) }
                    p { i { "Source " } (rule.source) }
                    p { i { "For " } (rule.applies) ", " (rule.severity.as_str()) }
                    @if let Some(took) = judged.took {
                        p { i { "Answered " } "within " (format!("{took:.1}")) " s" }
                    }
                }
            }
            td { (printable(judged.seen())) }
        }
    }
}

/// Whether it passed, or was not to be judged here.
fn is_quiet(judged: &Judged) -> bool {
    matches!(judged.verdict(), Some(Verdict::Pass(_) | Verdict::Skipped(_)))
}

fn word(judged: &Judged) -> &'static str {
    judged.verdict().map_or("NOT ASKED", Verdict::word)
}

fn colour(judged: &Judged) -> &'static str {
    match judged.verdict() {
        Some(Verdict::Pass(_)) => "green",
        Some(Verdict::Warn(_)) => "amber",
        Some(Verdict::Fail(_)) | None => "red",
        Some(Verdict::NotProven(_) | Verdict::Skipped(_)) => "grey",
        Some(Verdict::Waived(_)) => "amber",
    }
}
