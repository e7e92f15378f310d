//! When each stage of a boot ended, as bars.

use maud::{Markup, html};

use super::super::Report;
use crate::boot_times::{BootTimes, UnitTime};
use crate::power_on::PowerOn;
use crate::printable::printable;

/// Seconds from power on to the end of the last stage, in words.
pub(super) fn took(report: &Report) -> String {
    report.seconds().map_or_else(|| "–".to_owned(), |at| format!("{at:.0} s"))
}

/// A bar a stage, on one scale for all power-ons, from where it began to where it ended.
pub(super) fn bars(report: &Report) -> Markup {
    let whole = report.timeline.iter().map(|lap| lap.at).fold(1.0, f64::max);
    let part = |seconds: f64| format!("{:.2}%", 100.0 * (seconds / whole).clamp(0.0, 1.0));
    html! {
        table.timeline { @for lap in &report.timeline {
            tr {
                td { @if lap.power_on != PowerOn::First { (lap.power_on.as_str()) ": " } (lap.stage.as_str()) }
                td.number { (format!("{:.1} s", lap.took)) }
                td.lane {
                    div.bar.missed[lap.failed] style={ "margin-left:" (part(lap.at - lap.took)) ";width:" (part(lap.took)) }
                        title={ (if lap.failed { "given up: " } else { "" }) "until " (lap.stage.goal()) } {}
                }
                td.number { (format!("{:.1} s", lap.at)) }
            }
        } }
    }
}

/// What the guest itself says of its boot: a bar a part, a bar for each of the slowest units, and what the boot
/// waited for last.
pub(super) fn boot(times: &BootTimes) -> Markup {
    let ends = times.slowest.iter().map(|time| time.at + time.took);
    let parts = times.phases();
    let whole = parts.iter().map(|(_, at, took)| at + took).chain(ends).fold(1.0, f64::max);
    html! {
        p { "By the guest's own clock, which begins with its kernel: " (times.line()) }
        table.timeline.units {
            @for (name, at, took) in parts { (lane(name, at, took, whole)) }
            @for UnitTime { unit, at, took } in &times.slowest { (lane(unit, *at, *took, whole)) }
        }
        @if !times.critical_chain.is_empty() {
            details {
                summary { "What the boot waited for last: " (times.critical_chain.len()) " units" }
                table {
                    thead { tr { th { "unit" } th { "began at" } th { "took" } } }
                    tbody { @for UnitTime { unit, at, took } in &times.critical_chain { tr {
                        td { code { (printable(unit)) } }
                        td.number { (format!("{at:.1} s")) }
                        td.number { (format!("{took:.1} s")) }
                    } } }
                }
            }
        }
    }
}

fn lane(name: &str, at: f64, took: f64, whole: f64) -> Markup {
    let part = |seconds: f64| format!("{:.2}%", 100.0 * (seconds / whole).clamp(0.0, 1.0));
    html! {
        tr {
            td { (printable(name)) }
            td.number { (format!("{took:.1} s")) }
            td.lane { div.bar style={ "margin-left:" (part(at)) ";width:" (part(took)) } {} }
            td.number { (format!("{:.1} s", at + took)) }
        }
    }
}
