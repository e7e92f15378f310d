//! Each recipe in `tests/broken/` fails with the text beside it.

use std::path::{Path, PathBuf};

use nodekiln_recipes::{Diagnostics, load};
use nodekiln_words::{Class, Failure};

use crate::snapshot;

fn broken() -> Vec<PathBuf> {
    let folder = Path::new("tests/broken");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
}

#[track_caller]
fn problems_of(name: &str, sets: &[&str]) -> Diagnostics {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let problems = load(name, &sets).expect_err(name);
    assert!(problems.has_errors());
    problems
}

#[test]
fn every_broken_recipe_is_explained_as_reviewed() {
    let crate_folder = env!("CARGO_MANIFEST_DIR");
    let paths = broken();
    assert!(paths.len() > 10);
    for path in paths {
        let problems = problems_of(path.to_str().unwrap(), &[]);
        let text = problems.render(false).replace(crate_folder, "FOLDER");
        snapshot::check(path.with_extension("txt").to_str().unwrap(), &text);
    }
}

#[test]
fn every_place_points_at_the_line_that_is_shown() {
    for path in broken() {
        let problems = problems_of(path.to_str().unwrap(), &[]);
        for problem in problems.iter() {
            let Ok(text) = std::fs::read_to_string(&problem.file) else { continue };
            let line = text.lines().nth(problem.line - 1).unwrap_or_default();
            let rendered = problems.render(false);
            assert!(rendered.contains(&format!("│ {line}\n")), "{problem:?}");
            assert!(problem.column <= line.chars().count() + 1, "{problem:?}");
        }
    }
}

#[test]
fn an_error_in_a_parent_is_shown_in_the_parents_file() {
    let problems = problems_of("tests/broken/bad-parent.yaml", &[]);
    let files: Vec<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
    assert_eq!(files, ["tests/broken/bad-parent.yaml", "tests/broken/part-bad.yaml"]);
}

#[test]
fn set_arguments_are_explained_like_files() {
    let sets = [
        "disk.sise=8GiB",
        "kubernetes.version=1.36",
        "packages.0=jq",
        "nothing",
        "disk=8GiB",
        "sysctls.net.ipv4.ip_forward=[1]",
        "files=[{path: etc/x, content: x}]",
    ];
    let text = problems_of("quickstart", &sets).render(false);
    snapshot::check("tests/broken/set-arguments.txt", &text);
}

#[test]
fn unknown_names_are_explained() {
    let text = problems_of("quikstart", &[]).render(false);
    assert!(text.contains("did you mean `quickstart`?"), "{text}");
    assert!(text.contains("base/node, debian-12, debian-13, quickstart"), "{text}");
    problems_of("./debian-12", &[]);
    problems_of("/nonexistent/recipe.yaml", &[]);
    problems_of("", &[]);
}

#[test]
fn diagnostics_have_a_json_form_and_become_a_failure() {
    let problems = problems_of("tests/broken/key-twice.yaml", &[]);
    let json = serde_json::to_value(&problems).unwrap();
    let expected = serde_json::json!([{
        "severity": "error",
        "message": "key `name` is given twice",
        "file": "tests/broken/key-twice.yaml",
        "line": 3,
        "column": 1,
        "label": "first given in line 1",
        "help": "keep one of the two",
    }]);
    assert_eq!(json, expected);
    let failure = Failure::from(problems);
    assert_eq!(failure.class(), Class::Input);
    assert!(failure.chain()[1].starts_with("tests/broken/key-twice.yaml:3:1: "));
}

#[test]
fn files_that_are_no_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, b"name: a\nos: \xff\n").unwrap();
    let text = problems_of(path.to_str().unwrap(), &[]).render(false);
    assert!(text.contains("line 2 is not UTF-8"), "{text}");
    std::fs::write(&path, "a".repeat(1 << 20)).unwrap();
    assert!(problems_of(path.to_str().unwrap(), &[]).render(false).contains("larger than"));
}
