//! When each stage of a boot ended, as bars.

use maud::{Markup, html};

use super::super::Report;
use crate::power_on::PowerOn;

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
                    div.bar style={ "margin-left:" (part(lap.at - lap.took)) ";width:" (part(lap.took)) }
                        title={ "until " (lap.stage.goal()) } {}
                }
                td.number { (format!("{:.1} s", lap.at)) }
            }
        } }
    }
}
