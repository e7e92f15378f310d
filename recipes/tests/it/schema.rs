//! The JSON Schema against an independent validator, and the loader against the schema.
//!
//! YAML is read by serde-saphyr here, which the loader itself does not use.

use jsonschema::Validator;
use nodekiln_recipes::schema::schema;
use nodekiln_recipes::{library, load};
use serde_json::Value;

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn the_schema_itself_is_valid() {
    assert!(jsonschema::draft202012::meta::is_valid(&schema()));
}

#[test]
fn every_library_recipe_and_every_resolved_one_fits() {
    let validator = validator();
    for recipe in library::recipes() {
        let errors: Vec<String> =
            validator.iter_errors(&yaml(recipe.text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", recipe.name);
        if recipe.complete {
            let resolved = nodekiln_recipes::to_yaml(&load(recipe.name, &[]).unwrap().recipe);
            let errors: Vec<String> =
                validator.iter_errors(&yaml(&resolved)).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", recipe.name);
        }
    }
}

/// Recipes that the schema and the loader must agree about: text, and whether it is accepted.
const CASES: &[(&str, bool)] = &[
    ("packages: [jq]", true),
    ("pakages: [jq]", false),
    ("os: { family: debian, relase: bookworm }", false),
    ("files: [{ path: /a, content: a }]", true),
    ("files: [{ path: /a, content: a, extra: b }]", false),
    ("files: [{ path: /a }]", false),
    ("files: [{ path: /a, content: a, link: b }]", false),
    ("files: [{ path: /a, content: a, sha256: SHA }]", false),
    ("files: [{ path: /a, source: b, url: http://a/b }]", false),
    ("files: [{ path: /a, content: a, url: http://a/b, sha256: SHA }]", false),
    ("files: [{ path: /a, url: http://a/b }]", false),
    ("files: [{ path: /a, sha256: SHA }]", false),
    ("files: [{ path: /a, url: http://a/b, sha256: SHA }]", true),
    ("files: [{ path: /a, url: http://a/b, sha256: SHA, link: null }]", true),
    ("files: [{ path: /a, content: a, url: null, sha256: null }]", true),
    ("files: [{ path: /a, url: http://a/b, sha256: null }]", false),
    ("files: [{ path: /a, directory: true }]", true),
    ("files: [{ path: /a, directory: false }]", false),
    ("files: [{ path: /a, content: a, mode: \"0644\" }]", true),
    ("files: [{ path: /a, content: a, mode: 0644 }]", false),
    ("files: [{ path: a, content: a }]", false),
    ("files: [{ path: /a, content: a, owner: 17, group: sys }]", true),
    ("kubernetes: { version: 1.36.1 }", true),
    ("kubernetes: { version: 1.36 }", false),
    ("kubernetes: { version: 1.36.1, source: relase }", false),
    ("kubernetes: null", true),
    ("sysctls: { kernel.panic: 10, kernel.sem: \"1 2\" }", true),
    ("sysctls: { kernel.panic: true }", false),
    ("sysctls: { panic: 1 }", false),
    ("scripts: { post: [{ name: a, run: \"true\" }] }", true),
    ("scripts: { posst: [{ name: a, run: \"true\" }] }", false),
    ("scripts: { post: [{ name: a }] }", false),
    ("scripts: { post: [{ name: a, run: \"true\", url: http://a/b }] }", false),
    ("scripts: { post: [{ name: a, run: \"true\", sha256: SHA }] }", false),
    ("scripts: { post: [{ name: a, url: http://a/b, sha256: SHA }] }", true),
    ("users: [{ name: capi, uid: 900, system: true }]", true),
    ("users: [{ uid: 900 }]", false),
    ("users: [{ name: capi, uid: zero }]", false),
    ("users: [{ name: capi, ssh-authorized-keys: [ssh-ed25519 AAAA me] }]", true),
    ("images: [docker.io/library/busybox:1.36]", true),
    ("images: [busybox]", false),
    ("units: { enable: [a.service] }", true),
    ("units: { enable: [a] }", false),
    ("kernel: { args: [a=b] }", true),
    ("kernel: { args: [a b] }", false),
    ("disk: { size: 8GiB, boot: uefi }", true),
    ("disk: { size: 8 apples }", false),
    ("disk: { size: 8G }", false),
    ("disk: { size: 512MIB }", true),
    ("disk: { size: 64 MiB }", true),
    ("disk: { boot: floppy }", false),
    ("providers: { aws: { packages: [jq], kernel-args: [a], units: { mask: [b.timer] } } }", true),
    ("providers: { aws: { package: [jq] } }", false),
    ("remove: { paths: [/a] }", true),
    ("remove: { paths: /a }", false),
    ("source-date: 1793491200", true),
    ("source-date: soon", false),
];

#[test]
fn schema_and_loader_accept_and_refuse_the_same() {
    let validator = validator();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.yaml");
    for (text, accepted) in CASES {
        let text = text.replace("SHA", &"ab".repeat(32));
        assert_eq!(validator.is_valid(&yaml(&text)), *accepted, "schema: {text}");
        std::fs::write(&path, format!("extends: debian-12\n{text}\n")).unwrap();
        let loaded = load(path.to_str().unwrap(), &[]);
        let problems = loaded.as_ref().err().map(|problems| problems.render(false));
        assert_eq!(loaded.is_ok(), *accepted, "loader: {text}\n{}", problems.unwrap_or_default());
    }
}
