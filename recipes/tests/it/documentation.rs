//! `docs/recipes.md` against the schema and the loader.

use std::collections::BTreeSet;

use nodekiln_recipes::schema::schema;
use nodekiln_recipes::{library, load};
use serde_json::Value;

fn text() -> String {
    std::fs::read_to_string("../docs/recipes.md").unwrap()
}

/// Each known key with its path, such as `files[].mode`.
fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        // Conditions repeat keys without describing them.
        if below.get("description").is_some() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            found.insert(path.clone());
            keys(below, &path, found);
        }
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        keys(alternative, path, found);
    }
    keys_if_object(&schema["items"], &format!("{path}[]"), found);
    keys_if_object(&schema["additionalProperties"], &format!("{path}.NAME"), found);
}

fn keys_if_object(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if schema.is_object() {
        keys(schema, path, found);
    }
}

#[test]
fn every_key_is_documented_and_no_other() {
    let mut known = BTreeSet::new();
    keys(&schema(), "", &mut known);
    assert!(known.contains("scripts.post") && known.contains("files[].mode"), "{known:?}");
    // The table's rows start with the key in backquotes.
    let documented: BTreeSet<String> = text()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    // The hooks share one description of their scripts.
    let known: BTreeSet<String> = known
        .into_iter()
        .map(|key| match key.strip_prefix("scripts.").and_then(|rest| rest.split_once("[].")) {
            Some((_, key)) => format!("scripts.HOOK[].{key}"),
            None => key,
        })
        .filter(|key| !key.starts_with("providers.NAME.files[]."))
        .filter(|key| !key.starts_with("providers.NAME.units."))
        .collect();
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(documented.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_library_recipe_is_documented() {
    for name in library::names() {
        assert!(text().contains(&format!("- `{name}`")), "{name}");
    }
}

#[test]
fn the_examples_load() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    std::fs::write(folder.path().join("scripts/harden.sh"), "#!/bin/sh\n").unwrap();
    let text = text();
    let examples: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        let path = folder.path().join("example.yaml");
        std::fs::write(&path, example).unwrap();
        if let Err(problems) = load(path.to_str().unwrap(), &[]) {
            panic!("{}", problems.render(false));
        }
    }
    let sets: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--set "))
        .map(|set| set.trim_matches('\'').to_owned())
        .collect();
    assert!(sets.len() >= 3);
    if let Err(problems) = load("quickstart", &sets) {
        panic!("{}", problems.render(false));
    }
}
