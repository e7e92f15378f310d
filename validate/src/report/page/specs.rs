//! What became of the specs of node conformance.

use maud::{Markup, html};

use crate::conformance::{Conformance, Outcome, Spec};
use crate::printable::printable;

/// The specs that failed or were not run first, with what was said; those that passed are folded away.
pub(super) fn specs(found: &Conformance) -> Markup {
    let of = |wanted: fn(&Outcome) -> bool| -> Vec<(&String, &Spec)> {
        found.specs.iter().filter(|(_, spec)| wanted(&spec.outcome)).collect()
    };
    let open = of(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::NotRun));
    let skipped = of(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let passed = of(|outcome| *outcome == Outcome::Passed);
    html! {
        h3 { "Node conformance of Kubernetes " (found.kubernetes) }
        p {
            (passed.len()) " specs passed, " (open.len()) " failed or were not run, "
            (skipped.len()) " were left out"
            @if let Some(focus) = &found.focus { "; only those that match " code { (printable(focus)) } }
            @if let Some(shard) = &found.shard { "; part " (shard) }
        }
        @if !open.is_empty() { (table(&open)) }
        @for (what, specs) in [("left out", &skipped), ("that passed", &passed)] {
            @if !specs.is_empty() {
                details { summary { "Specs " (what) ": " (specs.len()) } (table(specs)) }
            }
        }
        @if !found.stand_ins.is_empty() {
            details {
                summary { "Images that are not upstream's: " (found.stand_ins.len()) }
                table { @for (name, what) in &found.stand_ins {
                    tr { td { code { (printable(name)) } } td { (printable(what)) } }
                } }
            }
        }
    }
}

fn table(specs: &[(&String, &Spec)]) -> Markup {
    html! {
        table {
            thead { tr { th { "spec" } th { "outcome" } th { "s" } th { "what was said" } } }
            tbody { @for (name, spec) in specs { tr {
                td { (printable(name)) }
                @match &spec.outcome {
                    Outcome::Passed => { td.green { "pass" } }
                    Outcome::Failed(_) => { td.red { "fail" } }
                    Outcome::Skipped(_) => { td { "skipped" } }
                    Outcome::NotRun => { td.red { "not run" } }
                }
                td.number { (format!("{:.0}", spec.seconds)) }
                td {
                    @if let Outcome::Failed(said) | Outcome::Skipped(said) = &spec.outcome {
                        @for line in said.lines() { (printable(line)) br; }
                    }
                    @if let Some(first) = &spec.first {
                        i { "The first attempt failed: " }
                        @for line in first.lines() { (printable(line)) br; }
                    }
                }
            } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_stands_open_with_its_reason_and_nothing_is_markup() {
        let spec = |outcome, first| Spec { outcome, seconds: 2.5, first };
        let found = Conformance {
            specs: [
                ("a <b>".to_owned(), spec(Outcome::Failed("x.go:1\n<script>".into()), None)),
                ("c".to_owned(), spec(Outcome::Skipped("no network".into()), None)),
                ("d".to_owned(), spec(Outcome::Passed, Some("too slow".into()))),
                ("e".to_owned(), spec(Outcome::NotRun, None)),
            ]
            .into(),
            ..Conformance::default()
        };
        let page = specs(&found).into_string();
        assert!(page.contains("1 specs passed, 2 failed or were not run, 1 were left out"));
        let folded = page.find("<details>").unwrap();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text} in {page}"));
        assert!(at("a &lt;b&gt;") < folded && at("not run</td>") < folded);
        assert!(at("no network") > folded && at("The first attempt failed: ") > folded);
        assert!(at("&lt;script&gt;") > 0 && !page.contains("<script>"));
    }
}
