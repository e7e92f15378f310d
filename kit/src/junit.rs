//! Reads the JUnit report that the suite leaves.

use std::collections::BTreeMap;

use nodekiln_words::{Failure, Result};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// What Ginkgo 2 puts before the text of a spec.
const LEAF: &str = "[It] ";

/// What became of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not; what was said.
    Failed(String),
    /// It was not run; why, where the suite says so.
    Skipped(Option<String>),
}

/// A case of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The spec's text, or the name of a part of the set-up, such as `BeforeSuite`.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The cases of a report, in its order.
///
/// # Errors
/// When the text is no whole JUnit report.
pub fn read(text: &str) -> Result<Vec<Case>> {
    let mut reader = Reader::from_str(text);
    let mut cases = Vec::new();
    let (mut open, mut detail) = (None::<Case>, None::<String>);
    let (mut depth, mut suites) = (0_usize, 0_usize);
    loop {
        let event = reader.read_event().map_err(|error| broken(&error.to_string()))?;
        match &event {
            Event::Start(tag) => {
                depth += 1;
                begin(tag, &mut open, &mut detail, &mut suites)?;
            }
            Event::Empty(tag) => {
                begin(tag, &mut open, &mut detail, &mut suites)?;
                end(tag.local_name().as_ref(), &mut open, &mut detail, &mut cases);
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                end(tag.local_name().as_ref(), &mut open, &mut detail, &mut cases);
            }
            Event::Text(text) => {
                if let Some(detail) = &mut detail {
                    let text = text.xml_content(XmlVersion::Implicit1_0);
                    detail.push_str(&text.map_err(|error| broken(&error.to_string()))?);
                }
            }
            Event::CData(text) => {
                if let Some(detail) = &mut detail {
                    detail.push_str(&String::from_utf8_lossy(text));
                }
            }
            Event::GeneralRef(name) => {
                if let Some(detail) = &mut detail {
                    detail.push(entity(name));
                }
            }
            Event::Eof if depth == 0 && suites > 0 => return Ok(cases),
            Event::Eof => return Err(broken("it ends too early")),
            _ => {}
        }
    }
}

/// The letter that an entity stands for; what is unknown is told by a question mark.
fn entity(name: &quick_xml::events::BytesRef) -> char {
    match name.as_ref() {
        b"lt" => '<',
        b"gt" => '>',
        b"amp" => '&',
        b"quot" => '"',
        b"apos" => '\'',
        _ => name.resolve_char_ref().ok().flatten().unwrap_or('?'),
    }
}

fn begin(
    tag: &BytesStart,
    open: &mut Option<Case>,
    detail: &mut Option<String>,
    suites: &mut usize,
) -> Result<()> {
    match tag.local_name().as_ref() {
        b"testsuite" => *suites += 1,
        b"testcase" => {
            let name = attribute(tag, "name")?.ok_or_else(|| broken("a case has no name"))?;
            let name = name.strip_prefix(LEAF).unwrap_or(&name).to_owned();
            let seconds = attribute(tag, "time")?.and_then(|time| time.parse().ok());
            let seconds = seconds.unwrap_or_default();
            *open = Some(Case { name, outcome: Outcome::Passed, seconds });
        }
        b"failure" | b"error" => *detail = Some(attribute(tag, "message")?.unwrap_or_default()),
        b"skipped" => {
            if let Some(case) = open {
                let message = attribute(tag, "message")?;
                let message = message.map(|message| message.trim().to_owned());
                case.outcome = Outcome::Skipped(message.filter(|message| !message.is_empty()));
            }
        }
        _ => {}
    }
    Ok(())
}

fn end(tag: &[u8], open: &mut Option<Case>, detail: &mut Option<String>, cases: &mut Vec<Case>) {
    match tag {
        b"failure" | b"error" => {
            if let (Some(case), Some(text)) = (open, detail.take()) {
                case.outcome = Outcome::Failed(text.trim().to_owned());
            }
        }
        b"testcase" => cases.extend(open.take()),
        _ => {}
    }
}

fn attribute(tag: &BytesStart, name: &str) -> Result<Option<String>> {
    let attribute = tag.try_get_attribute(name).map_err(|error| broken(&error.to_string()))?;
    let Some(attribute) = attribute else { return Ok(None) };
    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
    Ok(Some(value.map_err(|error| broken(&error.to_string()))?.into_owned()))
}

fn broken(why: &str) -> Failure {
    Failure::io(format!("the suite's JUnit report is not readable: {why}"))
}

/// The specs of `cases`, each once; of several with one text the worst outcome counts.
#[must_use]
pub fn by_spec(cases: Vec<Case>) -> BTreeMap<String, Case> {
    let weight = |case: &Case| match case.outcome {
        Outcome::Skipped(_) => 0,
        Outcome::Passed => 1,
        Outcome::Failed(_) => 2,
    };
    let mut specs: BTreeMap<String, Case> = BTreeMap::new();
    for case in cases {
        match specs.get(&case.name) {
            Some(known) if weight(known) >= weight(&case) => {}
            _ => drop(specs.insert(case.name.clone(), case)),
        }
    }
    specs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Ginkgo 1 writes it, shortened.
    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
  <testsuite name="E2eNode Suite" tests="2" failures="1" errors="0" time="10.2">
      <testcase name="[k8s.io] Pods a &amp; b [NodeConformance]" classname="E2eNode Suite" time="6.5"></testcase>
      <testcase name="[k8s.io] Pods c" classname="E2eNode Suite" time="0"><skipped></skipped></testcase>
      <testcase name="[k8s.io] Pods d" classname="E2eNode Suite" time="3.5">
          <failure type="Failure">x.go:1&#xA;Expected &lt;int&gt;: 1</failure>
          <system-out>talk</system-out>
      </testcase>
  </testsuite>"#;

    #[test]
    fn outcomes_texts_and_times_are_read() {
        let cases = read(REPORT).unwrap();
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[0].name, "[k8s.io] Pods a & b [NodeConformance]");
        assert_eq!((&cases[0].outcome, cases[0].seconds), (&Outcome::Passed, 6.5));
        assert_eq!(cases[1].outcome, Outcome::Skipped(None));
        assert_eq!(cases[2].outcome, Outcome::Failed("x.go:1\nExpected <int>: 1".into()));
    }

    #[test]
    fn ginkgo_2_says_why_it_skips_and_what_kind_of_node_it_is() {
        let text = r#"<testsuites><testsuite name="x"><testcase name="[It] [sig-node] a" time="1">
            <skipped message="skipped - needs a GPU"></skipped></testcase></testsuite></testsuites>"#;
        let cases = read(text).unwrap();
        assert_eq!(cases[0].name, "[sig-node] a");
        assert_eq!(cases[0].outcome, Outcome::Skipped(Some("skipped - needs a GPU".into())));
    }

    #[test]
    fn a_report_that_is_cut_off_is_none_wherever_it_ends() {
        let whole = REPORT.trim_end().len();
        for end in 0..whole {
            let cut = REPORT.get(..end).unwrap_or_default();
            assert!(read(cut).is_err(), "{end}: {cut}");
        }
    }

    #[test]
    fn of_two_cases_with_one_text_the_worse_counts() {
        let mut cases = read(REPORT).unwrap();
        let mut failed = cases[0].clone();
        failed.outcome = Outcome::Failed("no".into());
        cases.push(failed);
        let specs = by_spec(cases);
        assert_eq!(specs.len(), 3);
        let first = &specs["[k8s.io] Pods a & b [NodeConformance]"];
        assert_eq!(first.outcome, Outcome::Failed("no".into()));
    }
}
