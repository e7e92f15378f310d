//! The document of the small image: its bytes, its validity, and what makes it fail.

use nodekiln_bom::{BomInput, Ownership, Shipped, attribute, draft, summary};
use nodekiln_words::Class;
use serde_json::{Value, json};

use crate::fixture::{Fixture, STATUS, cyclonedx, locked, shipped};
use crate::peers;

const GOLDEN: &str = "tests/golden/small.cdx.json";

fn document(image: &Fixture) -> Value {
    serde_json::from_slice(&cyclonedx(&image.input(), image).unwrap()).unwrap()
}

/// The component with this reference, wherever it is nested.
fn component<'a>(document: &'a Value, reference: &str) -> &'a Value {
    fn find<'a>(parts: &'a Value, reference: &str) -> Option<&'a Value> {
        parts.as_array()?.iter().find_map(|part| {
            let here = (part["bom-ref"] == reference).then_some(part);
            here.or_else(|| find(&part["components"], reference))
        })
    }
    find(&document["components"], reference).unwrap_or_else(|| panic!("no {reference}"))
}

fn property<'a>(component: &'a Value, name: &str) -> Option<&'a str> {
    let name = format!("nodekiln:{name}");
    let properties = component["properties"].as_array()?;
    properties.iter().find(|property| property["name"] == name)?["value"].as_str()
}

fn needs(document: &Value, reference: &str) -> Vec<String> {
    let all = document["dependencies"].as_array().unwrap();
    let found = all.iter().find(|dependency| dependency["ref"] == reference).unwrap();
    serde_json::from_value(found["dependsOn"].clone()).unwrap_or_default()
}

const BASH: &str = "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=bookworm";
const LIBC: &str = "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=bookworm";
const MAWK: &str = "pkg:deb/debian/mawk@1.3.4-1?arch=amd64&distro=bookworm";
const DEBCONF: &str = "pkg:deb/debian/debconf-lite@1:0.252?arch=all&distro=bookworm";

/// Rewrite the golden file with `NODEKILN_BLESS=1 cargo test -p nodekiln-bom`.
#[test]
fn the_small_image_has_the_document_that_was_reviewed() {
    let mut text = serde_json::to_string_pretty(&document(&Fixture::small())).unwrap();
    text.push('\n');
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(GOLDEN).unwrap(), "{GOLDEN}");
}

#[test]
fn keys_are_sorted_without_blanks_and_the_last_byte_is_a_newline() {
    let image = Fixture::small();
    let bytes = cyclonedx(&image.input(), &image).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), format!("{value}\n"));
}

#[test]
fn the_order_of_the_input_changes_no_byte() {
    let image = Fixture::small();
    let expected = cyclonedx(&image.input(), &image).unwrap();
    let mut shuffled = image.clone();
    shuffled.lock.trees.get_mut("image").unwrap().packages.reverse();
    let mut stanzas: Vec<&str> = STATUS.trim_end().split("\n\n").collect();
    stanzas.reverse();
    shuffled.files.insert("/var/lib/dpkg/status".to_owned(), stanzas.join("\n\n").into_bytes());
    let mut input = shuffled.input();
    input.images.reverse();
    let mut shipped = shipped();
    shipped.artifacts.reverse();
    assert_eq!(nodekiln_bom::cyclonedx(&input, &shipped, &shuffled).unwrap(), expected);
}

#[test]
fn the_serial_number_follows_the_content_and_the_seed() {
    let image = Fixture::small();
    let serial = |input: &BomInput<'_>| summary(&cyclonedx(input, &image).unwrap()).unwrap().serial;
    let first = serial(&image.input());
    assert!(first.starts_with("urn:uuid:") && first.as_bytes()[23] == b'5', "{first}");
    let other = Shipped { payload: None, ..shipped() };
    let other = draft(&image.input(), &image).unwrap().with(&other).unwrap();
    assert_ne!(summary(&other).unwrap().serial, first);
    let mut other = image.input();
    other.seed = uuid::Uuid::from_u128(8);
    assert_ne!(serial(&other), first);
}

#[test]
fn dependencies_follow_alternatives_provides_and_versions() {
    let document = document(&Fixture::small());
    assert_eq!(needs(&document, BASH), [DEBCONF, LIBC, MAWK]);
    assert_eq!(needs(&document, MAWK), [LIBC]);
    assert!(needs(&document, LIBC).is_empty());
    let roots = needs(&document, "image:acme");
    assert!(roots.contains(&BASH.to_owned()) && roots.contains(&MAWK.to_owned()));
    assert!(!roots.contains(&LIBC.to_owned()));
    assert_eq!(roots.iter().filter(|reference| reference.starts_with("pkg:oci/")).count(), 2);
}

#[test]
fn a_dependency_that_nothing_meets_is_told() {
    let mut image = Fixture::small();
    let status = STATUS.replace("libc6 (>= 2.36)", "libc6 (>= 9) | other");
    image.files.insert("/var/lib/dpkg/status".to_owned(), status.into_bytes());
    let document = document(&image);
    let unmet = property(component(&document, BASH), "unmet-dependency");
    assert_eq!(unmet, Some("libc6 | other"));
}

#[test]
fn what_is_not_known_is_not_claimed() {
    let mut image = Fixture::small();
    image.remove("/opt/stray");
    let compositions = |image: &Fixture| document(image)["compositions"].clone();
    let whole = compositions(&image);
    let root = json!(["image:acme"]);
    let known = json!({ "aggregate": "complete", "assemblies": root, "dependencies": root });
    assert_eq!(whole[0], known);
    // The kubelet is no Go program here, and nobody looks into the layers of images.
    let unknown: Vec<String> = serde_json::from_value(whole[1]["assemblies"].clone()).unwrap();
    assert_eq!((whole[1]["aggregate"].as_str(), unknown.len()), (Some("unknown"), 3));
    assert!(unknown[0].starts_with("pkg:generic/kubelet@1.20.2"), "{unknown:?}");
    assert!(unknown[1..].iter().all(|reference| reference.starts_with("pkg:oci/")), "{unknown:?}");

    let status = STATUS.replace("libc6 (>= 2.36)", "libc6 (>= 9) | other");
    image.files.insert("/var/lib/dpkg/status".to_owned(), status.into_bytes());
    let unmet = compositions(&image);
    assert_eq!(unmet[0], json!({ "aggregate": "complete", "assemblies": root }));
    assert_eq!(unmet[1], json!({ "aggregate": "incomplete", "dependencies": root }));
    assert_eq!(unmet[2]["aggregate"], "unknown");
    let bytes = cyclonedx(&image.input(), &image).unwrap();
    assert!(summary(&bytes).unwrap().complete);
    assert_eq!(peers::document_errors(&[bytes]), [Vec::<String>::new()]);
}

#[test]
fn each_file_lies_under_its_owner() {
    let image = Fixture::small();
    let attribution = attribute(&image.input(), &image).unwrap();
    let expected = [
        ("/usr/bin/bash", Ownership::Package, BASH),
        ("/etc/skel/.bashrc", Ownership::PackageModified, BASH),
        ("/usr/lib/libc.so.6", Ownership::Package, LIBC),
        ("/usr/bin/mawk", Ownership::PackageModified, MAWK),
        ("/usr/share/__pycache__/debconf.cpython-311.pyc", Ownership::Generated, DEBCONF),
        ("/var/lib/dpkg/info/libc6:amd64.list", Ownership::Generated, LIBC),
        ("/usr/bin/awk", Ownership::Generated, "generator:update-alternatives"),
        ("/etc/ld.so.cache", Ownership::Generated, "generator:ldconfig"),
        ("/bin", Ownership::Generated, "generator:usrmerge"),
        ("/etc/machine-id", Ownership::State, "state:systemd"),
        ("/etc/motd.d/10-acme", Ownership::Recipe, "step:files"),
        ("/opt/stray", Ownership::Unknown, "unknown"),
    ];
    for (path, ownership, owner) in expected {
        let owned = &attribution.files[path];
        assert_eq!((owned.ownership, &*owned.owner), (ownership, owner), "{path}");
    }
    assert_eq!(attribution.files["/usr/bin/mawk"].step.as_deref(), Some("script/post/edit"));
    assert_eq!(attribution.missing[BASH], 1);
    assert_eq!(attribution.unknown().collect::<Vec<_>>(), ["/opt/stray"]);
}

#[test]
fn a_step_that_writes_a_packages_own_bytes_changes_nothing() {
    let mut image = Fixture::small();
    image.file("/usr/bin/mawk", "mawk", "script/post/edit");
    let attribution = attribute(&image.input(), &image).unwrap();
    assert_eq!(attribution.files["/usr/bin/mawk"].ownership, Ownership::Package);
}

#[test]
fn a_diverted_file_belongs_to_the_package_whose_it_was() {
    let mut image = Fixture::small();
    image.file("/var/lib/dpkg/diversions", "/bin/su\n/bin/su.real\nbash\n", "packages");
    image.file("/usr/bin/su.real", "su", "packages");
    image.file("/var/lib/dpkg/info/bash.list", "/bin/su\n/bin/bash\n", "packages");
    let attribution = attribute(&image.input(), &image).unwrap();
    assert_eq!(&*attribution.files["/usr/bin/su"].owner, BASH);
    assert_eq!(&*attribution.files["/usr/bin/su.real"].owner, MAWK);
}

#[test]
fn only_without_unknown_files_is_the_document_complete() {
    let mut image = Fixture::small();
    let summary_of = |image: &Fixture, with_files| {
        let mut input = image.input();
        input.with_files = with_files;
        summary(&cyclonedx(&input, image).unwrap()).unwrap()
    };
    let incomplete = summary_of(&image, true);
    assert_eq!((incomplete.complete, incomplete.files["unknown"]), (false, 1));
    image.remove("/opt/stray");
    let complete = summary_of(&image, true);
    assert_eq!((complete.complete, complete.files["unknown"]), (true, 0));
    assert_eq!((complete.packages, complete.binaries, complete.images), (4, 1, 2));
    let counted = summary_of(&image, false);
    assert!(!counted.complete);
    assert_eq!(counted.files, complete.files);
    assert_eq!(counted.components.get("file"), None);
}

#[test]
fn stray_files_are_named_even_where_files_are_only_counted() {
    let image = Fixture::small();
    let mut input = image.input();
    input.with_files = false;
    let document = serde_json::from_slice(&cyclonedx(&input, &image).unwrap()).unwrap();
    assert_eq!(component(&document, "file:/opt/stray")["type"], "file");
}

#[test]
fn tree_and_lock_have_to_name_the_same_packages() {
    let mut image = Fixture::small();
    let packages = &mut image.lock.trees.get_mut("image").unwrap().packages;
    packages[0].version = "9".to_owned();
    packages.remove(1);
    packages.push(locked("extra", "1", "all", true));
    let failure = cyclonedx(&image.input(), &image).unwrap_err();
    assert_eq!(failure.class(), Class::Verdict);
    let text = failure.to_string();
    for part in [
        "bash is locked as 9 and installed as 5.2.15-2+b7",
        "debconf-lite 1:0.252 is installed and not locked",
        "extra 1 is locked and not installed",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let mut purged = Fixture::small();
    let packages = &mut purged.lock.trees.get_mut("image").unwrap().packages;
    packages.push(locked("extra", "1", "all", true));
    let mut input = purged.input();
    input.removed.insert("extra".to_owned());
    cyclonedx(&input, &purged).unwrap();
}

#[test]
fn a_package_file_changed_by_nobody_fails_when_all_are_verified() {
    let mut image = Fixture::small();
    image.file("/usr/bin/mawk", "mawk, damaged", "packages");
    let mut input = image.input();
    attribute(&input, &image).unwrap();
    input.verify_files = true;
    let failure = attribute(&input, &image).unwrap_err();
    assert!(failure.to_string().contains("/usr/bin/mawk"), "{failure}");
    image.file("/usr/bin/mawk", "mawk", "packages");
    let mut input = image.input();
    input.verify_files = true;
    attribute(&input, &image).unwrap();
}

#[test]
fn a_damaged_blob_is_refused_by_its_path() {
    let mut image = Fixture::small();
    let folder = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/";
    let blobs = image.inventory.entries.range(folder.to_owned()..);
    let blob = blobs.map(|(path, _)| path.clone()).next().unwrap();
    image.file(&blob, "something else", "preload");
    let failure = cyclonedx(&image.input(), &image).unwrap_err();
    assert!(failure.to_string().contains(&blob), "{failure}");
}

#[test]
fn what_the_input_names_has_to_be_there() {
    let without = |change: &dyn Fn(&mut Fixture)| {
        let mut image = Fixture::small();
        change(&mut image);
        cyclonedx(&image.input(), &image).unwrap_err().to_string()
    };
    let message = without(&|image| image.remove("/usr/bin/kubelet"));
    assert!(message.contains("/usr/bin/kubelet"), "{message}");
    let message = without(&|image| image.lock.files.clear());
    assert!(message.contains("source/kubernetes.orig.tar.gz"), "{message}");
    let message = without(&|image| image.remove("/var/lib/dpkg/status"));
    assert!(message.contains("/var/lib/dpkg/status"), "{message}");
    let message = without(&|image| image.remove("/var/lib/dpkg/info/mawk.list"));
    assert!(message.contains("mawk"), "{message}");
    let message = without(&|image| image.file("/etc/x", "", "nameless"));
    assert!(message.contains("nameless"), "{message}");
}

#[test]
fn two_images_of_one_reference_are_refused() {
    let image = Fixture::small();
    let mut input = image.input();
    input.images.push(input.images[0].clone());
    let failure = cyclonedx(&input, &image).unwrap_err();
    assert!(failure.to_string().contains("pkg:oci/pause"), "{failure}");
}

#[test]
fn two_artifacts_of_one_name_are_refused() {
    let image = Fixture::small();
    let mut twice = shipped();
    twice.artifacts.push(twice.artifacts[0].clone());
    let failure = draft(&image.input(), &image).unwrap().with(&twice).unwrap_err();
    assert!(failure.to_string().contains("artifact:acme.qcow2"), "{failure}");
}

#[test]
fn cyclonedx_own_validator_accepts_documents_and_refuses_broken_ones() {
    let image = Fixture::small();
    let whole = cyclonedx(&image.input(), &image).unwrap();
    let mut counts = image.input();
    counts.with_files = false;
    let counts = cyclonedx(&counts, &image).unwrap();
    let mut documents = vec![whole.clone(), counts];
    let mutations = mutations();
    for (_, mutate) in &mutations {
        let mut document: Value = serde_json::from_slice(&whole).unwrap();
        mutate(&mut document);
        documents.push(serde_json::to_vec(&document).unwrap());
    }
    let errors = peers::document_errors(&documents);
    assert_eq!(errors[..2], [Vec::<String>::new(), Vec::new()]);
    for ((name, _), errors) in mutations.iter().zip(&errors[2..]) {
        assert!(!errors.is_empty(), "the validator accepted a document with {name}");
    }
}

type Mutation = (&'static str, fn(&mut Value));

fn mutations() -> [Mutation; 9] {
    [
        ("another format", |bom| bom["bomFormat"] = json!("SPDX")),
        ("an unknown key", |bom| bom["components"][0]["colour"] = json!("red")),
        ("an unknown type", |bom| bom["components"][0]["type"] = json!("program")),
        ("a short hash", |bom| bom["metadata"]["component"]["hashes"][0]["content"] = json!("ab")),
        ("a bad serial number", |bom| bom["serialNumber"] = json!("urn:uuid:7")),
        ("a bad time stamp", |bom| bom["metadata"]["timestamp"] = json!("yesterday")),
        ("an unknown aggregate", |bom| bom["compositions"][0]["aggregate"] = json!("nearly")),
        ("a dangling dependency", |bom| bom["dependencies"][0]["ref"] = json!("pkg:deb/debian/x")),
        ("a reference used twice", |bom| {
            bom["components"][1]["bom-ref"] = bom["components"][0]["bom-ref"].clone();
        }),
    ]
}

#[test]
fn the_reference_library_reads_every_package_url_as_meant() {
    let document = document(&Fixture::small());
    let mut purls = vec![LIBC.to_owned()];
    let components = document["components"].as_array().unwrap();
    for component in components {
        let ancestors = component["pedigree"]["ancestors"].as_array().into_iter().flatten();
        let parts = ancestors.chain([component]);
        purls.extend(parts.filter_map(|part| part["purl"].as_str()).map(str::to_owned));
    }
    assert!(purls.len() > 10);
    let answers = peers::purls(&purls);
    for (purl, answer) in purls.iter().zip(&answers) {
        assert_eq!(answer["errors"], json!([]), "{purl}");
        // The library leaves slashes in qualifiers as they are, which both forms allow.
        assert_eq!(answer["canonical"], purl.replace("%2F", "/").as_str());
    }
    let bash = &answers[purls.iter().position(|purl| purl == BASH).unwrap()]["parts"];
    assert_eq!(bash["version"], "5.2.15-2+b7");
    assert_eq!(bash["qualifiers"], json!({ "arch": "amd64", "distro": "bookworm" }));
    assert_eq!(peers::purls(&["pkg:deb".to_owned()])[0]["errors"].as_array().unwrap().len(), 1);
}
