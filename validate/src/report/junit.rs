//! The report as JUnit XML: one suite a tier, one test case a rule.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::{Judged, Kept, Outcome, Report};
use crate::conformance::{Conformance, Outcome as SpecOutcome};
use crate::rules::Verdict;

impl Report {
    /// The report as JUnit XML. Passing is success, a warning too with its text as output; what is
    /// not proven, not applicable or waived is skipped; what could not be asked is an error, not a failure.
    #[must_use]
    pub fn junit(&self) -> String {
        document(self.suites(format!("nodekiln.{}", self.tier.as_str())))
    }

    /// The suite of the rules, and that of the specs where there are any.
    fn suites(&self, name: String) -> Vec<TestSuite> {
        let specs = self.conformance.iter().map(|found| specs(&format!("{name}.specs"), found));
        let specs: Vec<TestSuite> = specs.collect();
        [vec![self.suite(name)], specs].concat()
    }

    fn suite(&self, name: String) -> TestSuite {
        let mut suite = TestSuite::new(name);
        for (name, value) in self.properties() {
            suite.add_property(Property::new(name, value));
        }
        suite.add_test_case(self.whole_run());
        suite.add_test_cases(self.rules.iter().map(|rule| case(rule, self.tier.as_str())));
        suite
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = vec![
            ("image", self.image.display().to_string()),
            ("format", self.format.clone()),
            ("firmware", self.firmware.as_str().to_owned()),
        ];
        properties.extend(self.sha256.map(|digest| ("sha256", digest.to_string())));
        properties.extend(self.provider.clone().map(|name| ("provider", name)));
        properties.extend(self.waivers.iter().map(|waiver| {
            let text = format!("{}: {}, {}", waiver.rule, waiver.state.as_str(), waiver.about());
            ("waiver", text)
        }));
        if let Some(host) = &self.host {
            properties.push(("host.key", host.key.clone()));
            properties.push(("host.trusted", host.trusted.as_str().to_owned()));
        }
        if let Some(chosen) = &self.accelerator {
            properties.extend([
                ("accelerator", chosen.engine.as_str().to_owned()),
                ("accelerator.why", chosen.why.clone()),
                ("qemu", chosen.qemu.clone()),
            ]);
        }
        properties
    }

    /// Whether the run got to its end is a test case too, or a guest that died early would look green.
    fn whole_run(&self) -> TestCase {
        let status = match &self.cause {
            None if self.obstacles.is_empty() => TestCaseStatus::success(),
            None => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status.set_message(self.obstacles.join("; "));
                status
            }
            Some(cause) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(cause.text.clone()).set_description(cause.tail.join("\n"));
                status
            }
        };
        let mut case = TestCase::new("run", status);
        case.set_classname(format!("nodekiln.{}", self.tier.as_str()));
        case
    }
}

/// The reports of several runs as one JUnit document, a suite a run.
#[must_use]
pub fn junit(kept: &[Kept]) -> String {
    document(kept.iter().flat_map(|Kept { report, .. }| {
        let provider = report.provider.as_deref().unwrap_or("none");
        let (tier, firmware) = (report.tier.as_str(), report.firmware.as_str());
        report.suites(format!("nodekiln.{tier}.{provider}.{firmware}"))
    }))
}

fn document(suites: impl IntoIterator<Item = TestSuite>) -> String {
    let mut report = quick_junit::Report::new("nodekiln validate");
    report.add_test_suites(suites);
    report.to_string().unwrap_or_default()
}

fn case(judged: &Judged, tier: &str) -> TestCase {
    let rule = &judged.rule;
    let failed = |kind, text: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(text).set_description(format!(
            "{}\nRemedy: {}\nSource: {}",
            rule.why, rule.remedy, rule.source
        ));
        status
    };
    let status = match &judged.outcome {
        Outcome::Unasked(why) => failed(NonSuccessKind::Error, why),
        Outcome::Judged(Verdict::Fail(seen)) => failed(NonSuccessKind::Failure, seen),
        Outcome::Judged(Verdict::NotProven(why) | Verdict::Skipped(why) | Verdict::Waived(why)) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.clone());
            status
        }
        Outcome::Judged(Verdict::Pass(_) | Verdict::Warn(_)) => TestCaseStatus::success(),
    };
    let mut case = TestCase::new(rule.id.clone(), status);
    case.set_classname(format!("nodekiln.{tier}"));
    if let Some(took) = judged.took {
        case.set_time(Duration::try_from_secs_f64(took).unwrap_or_default());
    }
    if let Outcome::Judged(verdict @ (Verdict::Pass(_) | Verdict::Warn(_))) = &judged.outcome {
        case.set_system_out(format!("{}: {}", verdict.word(), verdict.seen()));
    }
    case
}

/// A case for each spec of the suite.
fn specs(name: &str, found: &Conformance) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.add_property(Property::new("kubernetes", found.kubernetes.clone()));
    for (spec, result) in &found.specs {
        let status = match &result.outcome {
            SpecOutcome::Passed => {
                let mut status = TestCaseStatus::success();
                if let Some(said) = &result.first {
                    let mut first = TestRerun::new(NonSuccessKind::Failure);
                    let line = said.lines().next().unwrap_or_default();
                    first.set_message(line.to_owned()).set_description(said.clone());
                    status.add_rerun(first);
                }
                status
            }
            SpecOutcome::Failed(said) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let first = said.lines().next().unwrap_or_default();
                status.set_message(first.to_owned()).set_description(said.clone());
                status
            }
            SpecOutcome::Skipped(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why.clone());
                status
            }
            SpecOutcome::NotRun => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status.set_message("the run ended before it");
                status
            }
        };
        let mut case = TestCase::new(spec.clone(), status);
        case.set_classname(name.to_owned());
        case.set_time(Duration::try_from_secs_f64(result.seconds).unwrap_or_default());
        suite.add_test_case(case);
    }
    suite
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use crate::conformance::Spec;

    #[test]
    fn each_spec_is_a_case_and_a_skipped_one_has_its_reason() {
        let mut report = sample();
        let spec = |name: &str, outcome| (name.to_owned(), Spec::once(outcome, 2.5));
        let specs = [
            spec("a", SpecOutcome::Passed),
            spec("b", SpecOutcome::Failed("x.go:1\nexpected 1".into())),
            spec("c", SpecOutcome::Skipped("needs a network".into())),
            spec("d", SpecOutcome::NotRun),
        ];
        report.conformance = Some(Conformance { specs: specs.into(), ..Conformance::default() });
        report.conformance.as_mut().unwrap().specs.get_mut("a").unwrap().first =
            Some("y.go:7\ntoo slow".into());
        let xml = report.junit();
        assert!(xml.contains("<flakyFailure message=\"y.go:7\""), "{xml}");
        assert!(xml.contains("<skipped message=\"needs a network\"/>"), "{xml}");
        let counts =
            "\"nodekiln.boot.specs\" tests=\"4\" skipped=\"1\" errors=\"1\" failures=\"1\"";
        assert!(xml.contains(counts), "{xml}");
        assert!(xml.contains("time=\"2.500\""), "{xml}");
    }

    #[test]
    fn failures_errors_and_skips_are_counted_apart() {
        let xml = sample().junit();
        assert!(xml.contains("tests=\"7\""), "{xml}");
        assert_eq!(xml.matches("<testcase").count() - 1, xml.matches("\" time=\"1.750\"").count());
        assert!(xml.contains("failures=\"1\"") && xml.contains("errors=\"1\""), "{xml}");
        assert!(xml.contains("<skipped message=\"no CoreDNS\"/>"), "{xml}");
        assert!(xml.contains("name=\"sha256\""), "{xml}");
        let mut report = sample();
        report.obstacles.push("no virtio_scsi".into());
        let xml = report.junit();
        assert!(
            xml.contains("errors=\"2\"") && xml.contains("message=\"no virtio_scsi\""),
            "{xml}"
        );
    }
}
