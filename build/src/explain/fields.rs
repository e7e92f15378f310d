//! A node's preimage as a list of fields, and the differences of two.

use std::collections::BTreeMap;

use nodekiln_recipes::plan::Work;
use serde_json::Value;

/// A field in which two preimages differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) earlier: Option<String>,
    pub(super) now: Option<String>,
}

/// Keys that name an element of a list, so that one more element does not move all that follow.
const NAMES: [&str; 2] = ["name", "path"];

/// The leaves of a preimage by path; what cannot be read has none, and so differs in everything.
pub(super) fn fields(preimage: &str) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    if let Ok(value) = serde_json::from_str(preimage) {
        leave("", &value, &mut leaves);
    }
    leaves
}

fn leave(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                let separator = if path.is_empty() { "" } else { "." };
                leave(&format!("{path}{separator}{key}"), value, leaves);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (number, element) in elements.iter().enumerate() {
                let name = NAMES.iter().find_map(|key| element.get(key)?.as_str());
                // A list of plain words (holds, kernel arguments) is named by its words.
                let key = match name.or_else(|| element.as_str().filter(|_| path != "uses")) {
                    Some(name) => name.to_owned(),
                    None => number.to_string(),
                };
                leave(&format!("{path}[{key}]"), element, leaves);
            }
        }
        Value::String(text) => drop(leaves.insert(path.to_owned(), text.clone())),
        Value::Null => {}
        other => drop(leaves.insert(path.to_owned(), other.to_string())),
    }
}

/// In which fields two preimages differ, the most telling first: the executor, then what people write
/// and read, then digests, then parents.
pub(super) fn differences(
    earlier: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<Field> {
    let mut paths: Vec<&String> = earlier.keys().chain(now.keys()).collect();
    paths.sort_by_key(|path| (rank(path), *path));
    paths.dedup();
    paths
        .into_iter()
        .map(|path| Field {
            path: path.clone(),
            earlier: earlier.get(path).cloned(),
            now: now.get(path).cloned(),
        })
        .filter(|field| field.earlier != field.now)
        .collect()
}

fn rank(path: &str) -> u8 {
    let last = path.rsplit('.').next().unwrap_or(path);
    match last {
        "schema" | "executor" => 0,
        "version" | "release" => 1,
        "name" | "path" => 5,
        "sha256" | "content" | "file" | "manifest" => 3,
        "below" => 6,
        _ if path.starts_with("uses[") => 6,
        _ if path.starts_with("work.") => 2,
        _ => 4,
    }
}

/// A path in the recipe's words rather than the plan's.
pub(super) fn told(work: &Work, path: &str) -> String {
    let Some(path) = path.strip_prefix("work.") else { return path.to_owned() };
    let kubernetes = matches!(
        work,
        Work::KubernetesInstall { .. }
            | Work::KubernetesCompile { .. }
            | Work::KubernetesFiles { .. }
            | Work::ControlPlaneImages { .. }
            | Work::ConformanceSuite { .. }
    );
    match (work, path) {
        (Work::Preload { .. } | Work::Containerd { .. }, "kubernetes") => {
            "kubernetes.version".to_owned()
        }
        (Work::Preload { .. }, "source") => "kubernetes.source".to_owned(),
        (Work::Preload { .. }, "image_repository") => "kubernetes.image-repository".to_owned(),
        (Work::Containerd { .. }, field) => format!("containerd.{}", field.replace('_', "-")),
        (Work::Disk { .. }, "size") => "disk.size".to_owned(),
        (Work::Disk { .. }, "base") => "lower layers".to_owned(),
        (Work::Boot { .. }, field) if field.starts_with("kernel_args") => {
            field.replacen("kernel_args", "kernel.args", 1)
        }
        (Work::Script { hook, name, .. }, field) => {
            format!("scripts.{}[{name}].{field}", hook.as_str())
        }
        (_, field) if kubernetes => format!("kubernetes.{field}"),
        (_, field) => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(earlier: &str, now: &str) -> Field {
        differences(&fields(earlier), &fields(now)).swap_remove(0)
    }

    #[test]
    fn elements_are_known_by_name_and_versions_come_before_digests() {
        let text = |version: &str, digest: &str, more: &str| {
            format!(
                r#"{{"work":{{"packages":[{more}{{"name":"a","version":"1","sha256":"00"}},
                   {{"name":"b","version":"{version}","sha256":"{digest}"}}]}},"below":null}}"#
            )
        };
        let field = first(&text("1", "aa", ""), &text("2", "bb", ""));
        assert_eq!(field.path, "work.packages[b].version");
        assert_eq!((field.earlier.as_deref(), field.now.as_deref()), (Some("1"), Some("2")));
        let more = r#"{"name":"0","version":"9","sha256":"ff"},"#;
        let field = first(&text("1", "aa", ""), &text("1", "aa", more));
        assert_eq!(field.path, "work.packages[0].version");
        assert_eq!((field.earlier, field.now.as_deref()), (None, Some("9")));
    }

    #[test]
    fn words_in_a_list_are_known_by_themselves_and_parents_by_number() {
        let field = first(r#"{"work":{"holds":["a"]}}"#, r#"{"work":{"holds":["a","b"]}}"#);
        assert_eq!(field.path, "work.holds[b]");
        let field = first(r#"{"uses":["x","y"]}"#, r#"{"uses":["x","z"]}"#);
        assert_eq!(field.path, "uses[1]");
    }

    #[test]
    fn parents_are_told_last_and_a_text_that_is_no_json_differs_in_everything() {
        let field =
            first(r#"{"below":"1","work":{"size":1}}"#, r#"{"below":"2","work":{"size":2}}"#);
        assert_eq!(field.path, "work.size");
        assert_eq!(first("damaged", r#"{"executor":1}"#).path, "executor");
    }
}
