//! Why specs skipped themselves, from the suite's log: Ginkgo 1 does not tell it in its report.

use std::collections::BTreeMap;

/// Begins the part of the log on a spec that skipped itself, or on one of its containers.
const SKIPPED: &str = "S [SKIPPING]";
/// Ends a part of the log.
const RULE: &str = "------------------------------";
/// The kinds of Ginkgo's nodes, as they stand behind a text.
const NODES: [&str; 6] =
    ["[BeforeEach]", "[JustBeforeEach]", "[It]", "[AfterEach]", "[JustAfterEach]", "[Measurement]"];

/// The reason for each of `specs` whose last words the log has after the mark.
///
/// A part of the log has the spec's containers and its own text on lines of their own, each indented further,
/// and then the reason with the place in the source.
pub(super) fn reasons(log: &str, specs: &[String]) -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    for part in log.split(SKIPPED).skip(1) {
        let part = part.split(RULE).next().unwrap_or_default();
        let lines: Vec<&str> = part.lines().skip(1).map(|line| node(line.trim())).collect();
        let texts = lines.iter().filter(|line| !line.is_empty() && !is_place(line));
        let texts: Vec<&str> = texts.copied().collect();
        let said = |spec: &&String| texts.iter().any(|text| text.len() > 8 && spec.ends_with(text));
        let named: Vec<&String> = specs.iter().filter(said).collect();
        // The reason is the first text that belongs to no spec's name.
        let reason = texts.iter().find(|text| !specs.iter().any(|spec| spec.contains(**text)));
        if let (Some(reason), false) = (reason, named.is_empty()) {
            for spec in named {
                reasons.entry(spec.clone()).or_insert_with(|| (*reason).to_owned());
            }
        }
    }
    reasons
}

/// A line without the kind of Ginkgo's node, which stands behind the text that the spec left itself out in.
fn node(line: &str) -> &str {
    NODES.iter().find_map(|kind| line.strip_suffix(kind)).map_or(line, str::trim_end)
}

/// Whether a line is a place in the source, as `/build/x.go:12`.
fn is_place(line: &str) -> bool {
    line.rsplit_once(':').is_some_and(|(path, number)| {
        path.ends_with(".go") && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_stands_after_the_texts_of_the_spec() {
        let log = "• [SLOW TEST]\n------------------------------\n\
            S [SKIPPING] in Spec Setup (BeforeEach) [0.002 seconds]\n\
            [k8s.io] GKE system requirements [NodeConformance]\n\
            k8s.io/kubernetes/test/e2e_node/framework.go:23\n  \
            The docker configuration validation should pass [BeforeEach]\n  \
            k8s.io/kubernetes/test/e2e_node/gke_environment_test.go:352\n\n  \
            Skipped because system spec name \"\" is not in [gke]\n\n  \
            k8s.io/kubernetes/test/e2e_node/gke_environment_test.go:325\n\
            ------------------------------\nS\n";
        let spec = "[k8s.io] GKE system requirements [NodeConformance] The docker configuration \
                    validation should pass";
        let specs = [spec.to_owned(), "[k8s.io] Pods a".to_owned()];
        let reasons = reasons(log, &specs);
        assert_eq!(reasons.len(), 1);
        assert_eq!(reasons[spec], "Skipped because system spec name \"\" is not in [gke]");
    }
}
