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
    // Where the tests run, and not where they were compiled: checkouts may share a target folder.
    let crate_folder = std::env::current_dir().unwrap();
    let paths = broken();
    assert!(paths.len() > 10);
    for path in paths {
        let problems = problems_of(path.to_str().unwrap(), &[]);
        let text = problems.render(false).replace(crate_folder.to_str().unwrap(), "FOLDER");
        snapshot::check(path.with_extension("txt").to_str().unwrap(), &text);
    }
}

/// One problem as it is rendered.
struct Shown {
    message: String,
    line: String,
    before: String,
    underlined: String,
}

/// Reads a rendered problem, and holds its place against the file that it names.
fn shown(block: &str) -> Shown {
    let lines: Vec<&str> = block.lines().collect();
    let place = lines[1].split_once("─[").unwrap().1.trim_end_matches(']');
    let mut place = place.rsplitn(3, ':');
    let mut number = || place.next().unwrap().parse::<usize>().unwrap();
    let (column, line) = (number(), number());
    let text = std::fs::read_to_string(place.next().unwrap()).unwrap();
    let line = text.lines().nth(line - 1).unwrap_or_default();
    assert_eq!(lines[2].split_once("│ ").unwrap().1, line, "{block}");
    let mark = lines[3].split_once("· ").unwrap().1;
    let start = mark.chars().take_while(|c| *c == ' ').count();
    assert_eq!(start + 1, column, "{block}");
    Shown {
        message: lines[0].to_owned(),
        line: line.to_owned(),
        before: line.chars().take(start).collect(),
        underlined: line.chars().skip(start).take(mark.trim().chars().count()).collect(),
    }
}

#[test]
fn what_is_underlined_is_what_the_message_names_or_the_value_of_the_key_that_it_names() {
    let mut seen = 0;
    for path in broken() {
        let text = problems_of(path.to_str().unwrap(), &[]).render(false);
        for shown in text.split("\n\n").map(shown) {
            let named: Vec<&str> = shown.message.split('`').skip(1).step_by(2).collect();
            // A single character marks where a mapping begins that lacks something, and of an item of
            // a list only the list has a name.
            let item = shown.message.contains("an item of") && named.len() == 1;
            if named.is_empty() || shown.underlined.chars().count() == 1 || item {
                continue;
            }
            seen += 1;
            let itself = |name: &&&str| shown.underlined.contains(name.trim_end_matches('…'));
            let its_value = |name: &&&str| shown.before.ends_with(&format!("{name}: "));
            let found = named.iter().any(|name| itself(&name) || its_value(&name));
            let Shown { message, underlined, line, .. } = &shown;
            assert!(found, "{message}: {underlined} in {line}");
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn a_recipe_with_thousands_of_problems_is_told_in_a_hundred_small_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let keys: Vec<String> = (0..4000).map(|n| format!("key{n}: 1")).collect();
    std::fs::write(&path, format!("{{extends: debian-12, {}}}", keys.join(", "))).unwrap();
    let problems = problems_of(path.to_str().unwrap(), &[]);
    assert_eq!((problems.len(), problems.iter().count()), (4000, 101));
    assert!(problems.iter().all(|problem| format!("{problem:?}").len() < 2000));
    let last = problems.iter().last().unwrap();
    assert_eq!(last.message, "3900 more errors are not shown");
    assert_eq!(Failure::from(problems).to_string(), "the recipe has 4000 problems");
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
fn a_path_that_is_not_utf_8_is_refused_where_it_is_written() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"odd \xff"));
    std::fs::write(&odd, "").unwrap();
    std::os::unix::fs::symlink(&odd, folder.path().join("link")).unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, "extends: debian-12\nfiles: [{ path: /a, source: link }]\n").unwrap();
    let text = problems_of(path.to_str().unwrap(), &[]).render(false);
    assert!(text.contains("the path of the file `link` is not UTF-8"), "{text}");
    assert!(text.contains("a.yaml:2:29"), "{text}");
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
