//! Goss files: imports, variables, anchors, and mistakes with their places.

use std::path::{Path, PathBuf};

use nodekiln_goss::file::{self, Settings, Suite};

use crate::fake::{Nothing, failure, lines, suite};

/// A folder with these files in it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn read(folder: &Path, name: &str) -> nodekiln_words::Result<Suite> {
    file::read(&[folder.join(name)], &Settings::default())
}

fn ids(suite: &Suite) -> Vec<&str> {
    suite.resources.iter().map(|resource| resource.id.as_str()).collect()
}

const NOTHING: &str = "{exists: false}";

#[test]
fn imports_follow_by_name_with_patterns_and_relative_to_the_file() {
    let files = [
        (
            "goss.yaml",
            "gossfile:\n  more: {file: sub/*.yaml}\n  b.yaml: {}\n  skipped.yaml: {skip: true}\nfile:\n  /a: {exists: false}\n",
        ),
        ("b.yaml", "file: {/b: {exists: false}}\n"),
        ("skipped.yaml", "file: [nonsense\n"),
        ("sub/1.yaml", "gossfile:\n  deep/d.yaml:\nfile: {/1: {exists: false}}\n"),
        ("sub/2.yaml", "file: {/2: {exists: false}}\n"),
        ("sub/deep/d.yaml", "file: {/d: {exists: false}}\n"),
        ("sub/3.yml", "file: {/3: {exists: false}}\n"),
    ];
    let folder = folder(&files);
    let suite = read(folder.path(), "goss.yaml").unwrap();
    assert_eq!(ids(&suite), ["/a", "/b", "/1", "/d", "/2"]);
    assert_eq!(suite.files.len(), 5);
    assert!(suite.warnings.is_empty());
    assert!(suite.resources[3].place.to_string().ends_with("sub/deep/d.yaml:1:8"));
}

#[test]
fn odd_imports_are_told() {
    let files = [
        ("loop.yaml", "gossfile: {other.yaml: {}}\n"),
        ("other.yaml", "gossfile: {loop.yaml: {}}\n"),
        ("gone.yaml", "\ngossfile: {no*.yaml: {}}\n"),
        ("typo.yaml", "gossfile: {a.yaml: {fiel: b}}\n"),
        ("list.yaml", "gossfile: [a.yaml]\n"),
        ("pattern.yaml", "gossfile: {'a[.yaml': {}}\n"),
    ];
    let folder = folder(&files);
    for (name, message) in [
        ("loop.yaml", "imports itself"),
        ("gone.yaml", "gone.yaml:2:12: no file is there that `no*.yaml` names"),
        ("typo.yaml", "typo.yaml:1:21: an import has no attribute `fiel`"),
        ("list.yaml", "`gossfile` has a list below it"),
        ("pattern.yaml", "`a[.yaml` is no pattern"),
        ("absent.yaml", "cannot read"),
    ] {
        let failure = read(folder.path(), name).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains(message), "{failure}");
    }
}

#[test]
fn of_two_resources_with_one_key_the_later_holds_with_a_warning() {
    let files = [
        (
            "goss.yaml",
            "gossfile: {b.yaml: {}}\nfile:\n  /a: {exists: true}\n  /z: {exists: false}\n",
        ),
        ("b.yaml", "file: {/a: {exists: false}}\n"),
    ];
    let folder = folder(&files);
    let suite = read(folder.path(), "goss.yaml").unwrap();
    assert_eq!(lines(&suite, &Nothing), "file /a: exists=pass\nfile /z: exists=pass\n");
    let warning = suite.warnings.iter().next().unwrap().to_string();
    assert!(
        warning.contains("b.yaml:1:8: the file `/a` replaces that of ")
            && warning.ends_with("goss.yaml:3:3")
    );
    assert_eq!(suite.files.len(), 2);
}

#[test]
fn a_second_block_of_one_kind_replaces_the_first_with_a_warning() {
    let suite = suite("file: {/a: {exists: true}}\nfile: {/b: {exists: false}}\n").unwrap();
    assert_eq!(ids(&suite), ["/b"]);
    assert_eq!(suite.warnings.iter().count(), 1);
}

#[test]
fn unknown_keys_at_the_top_are_ignored_and_near_ones_told() {
    let suite =
        suite("anchors: &a {exists: false}\npakage: {x: {installed: true}}\nfile: {/a: *a}\n")
            .unwrap();
    assert_eq!(lines(&suite, &Nothing), "file /a: exists=pass\n");
    let warnings: Vec<_> = suite.warnings.iter().collect();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].help, "did you mean `package`?");
}

#[test]
fn variables_of_several_files_are_laid_over_each_other() {
    let files = [
        (
            "goss.yaml",
            "file:\n{{range .Vars.paths}}\n  {{.}}: {exists: {{$.Vars.there}}}\n{{end}}\n",
        ),
        ("one.yaml", "# comment\nthere: true\npaths: [/a]\n"),
        ("two.json", "{\"paths\": [\"/b\", \"/c\"]}\n"),
        ("three.yaml", "there: no\n"),
        ("wrong.yaml", "- a\n"),
    ];
    let folder = folder(&files);
    let path = |name: &str| folder.path().join(name);
    let settings = |names: &[&str]| Settings {
        vars: names.iter().map(|name| path(name)).collect::<Vec<PathBuf>>(),
        ..Settings::default()
    };
    let suite = file::read(&[path("goss.yaml")], &settings(&["one.yaml", "two.json"])).unwrap();
    assert_eq!(ids(&suite), ["/b", "/c"]);
    assert_eq!(lines(&suite, &Nothing), "file /b: exists=fail\nfile /c: exists=fail\n");
    assert_eq!(suite.files.len(), 3);
    let failure =
        file::read(&[path("goss.yaml")], &settings(&["wrong.yaml"])).map(|_| ()).unwrap_err();
    assert!(failure.to_string().contains("the variables are a list"), "{failure}");
    let failure = file::read(&[path("goss.yaml")], &settings(&[])).map(|_| ()).unwrap_err();
    assert!(failure.to_string().contains("goss.yaml:2:9"), "{failure}");
    assert!(failure.help().unwrap().contains("paths"), "{failure:?}");
}

#[test]
fn environment_and_files_are_seen_only_where_asked_for() {
    let text = "file:\n  {{getEnv \"CARGO_MANIFEST_DIR\"}}: {exists: false}\n  /{{readFile \"name\"}}: {exists: false}\n";
    let folder = folder(&[("goss.yaml", text), ("name", "motd\n")]);
    let paths = [folder.path().join("goss.yaml")];
    let settings = Settings { environment: true, files: true, ..Settings::default() };
    let suite = file::read(&paths, &settings).unwrap();
    assert_eq!(ids(&suite), [env!("CARGO_MANIFEST_DIR"), "/motd"]);
    for settings in
        [Settings { environment: false, ..settings.clone() }, Settings { files: false, ..settings }]
    {
        let failure = file::read(&paths, &settings).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains("unless asked to"), "{failure}");
    }
}

#[test]
fn mistakes_are_told_at_their_places_with_remedies() {
    for (text, message, help) in [
        (
            "file:\n  /a:\n    exist: true\n",
            "goss.yaml:3:5: a file has no attribute `exist`",
            "did you mean `exists`?",
        ),
        (
            "file:\n  /a:\n",
            "goss.yaml:2:3: the file `/a` has nothing for its attributes",
            "such as `exists:`",
        ),
        ("file: [/a]\n", "goss.yaml:1:7: `file` has a list below it", "one key for each resource"),
        ("- file\n", "goss.yaml:1:1: the file is a list", "kinds of resources"),
        ("port:\n  ssh: {listening: true}\n", "goss.yaml:2:3: `ssh` is no port", "tcp:22"),
        (
            "file: {/a: {exists: true, skip: maybe}}\n",
            "goss.yaml:1:33: `skip` is a text",
            "`true` or `false`",
        ),
        ("command: {'': {exit-status: 0}}\n", "is empty", "write it as the key"),
        ("command: {\"a\\0b\": {exit-status: 0}}\n", "character of code 0", "write it as the key"),
        (
            "http: {http://x: {status: 200, request-headers: a}}\n",
            "goss.yaml:1:49: `request-headers` is a text",
            "a list",
        ),
        ("file:\n  /a: {exists: true\n", "not YAML", "indentation"),
        ("x: 1\n{{if}}\n", "goss.yaml:2:7: not a template", "text/template"),
        (
            "{{if true}}\nfile:\n  /a: {exists: true, mod: x}\n{{end}}\n",
            "goss.yaml:3:22: a file has no attribute `mod`",
            "mode",
        ),
        (
            "{{range mkSlice 1 2}}\nfile:\n  /a{{.}}: {exists: true, mod: x}\n{{end}}\n",
            "goss.yaml:3:1: a file has no attribute `mod`",
            "mode",
        ),
    ] {
        let (found, remedy) = failure(text);
        assert!(found.contains(message), "{text}: {found}");
        assert!(remedy.contains(help), "{text}: {remedy}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let failure =
        suite("file: {/a: {x: 1}, /b: {y: 1}}\nuser: {c: {z: 1}}\n").map(|_| ()).unwrap_err();
    assert!(failure.to_string().ends_with("and 2 more problems"), "{failure}");
    let all = failure.chain().join("\n");
    assert!(["`x`", "`y`", "`z`"].iter().all(|name| all.contains(name)), "{all}");
}

#[test]
fn words_of_older_yaml_are_booleans_where_a_setting_wants_one() {
    let suite =
        suite(&format!("file: {{/a: {{skip: yes, exists: true}}, /b: {NOTHING}}}\n")).unwrap();
    assert_eq!(lines(&suite, &Nothing), "file /a: exists=skip\nfile /b: exists=pass\n");
}
