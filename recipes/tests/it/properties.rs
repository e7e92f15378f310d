//! Properties: nothing makes the loader panic, and what is written loads as itself.

use std::collections::BTreeMap;
use std::path::Path;

use nodekiln_recipes::recipe::{
    Architecture, BootMode, CgroupDriver, Containerd, Content, DiskSpec, Family, FileNode,
    FileStep, Hook, Kernel, Kubernetes, KubernetesSource, Os, ProviderSpec, Recipe, ReleaseImages,
    Remove, RootFileSystem, Script, Units, User, Version,
};
use nodekiln_recipes::{load, to_yaml};
use nodekiln_words::{Bytes, Sha256, SourceDate};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn load_text(folder: &Path, text: &[u8]) -> Result<Recipe, String> {
    let path = folder.join("a.yaml");
    std::fs::write(&path, text).unwrap();
    let loaded = load(path.to_str().unwrap(), &[]);
    loaded.map(|loaded| loaded.recipe).map_err(|problems| problems.render(true))
}

/// Words without repetition, as lists have them once loaded.
fn words(pattern: &'static str) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set(pattern, 0..4).prop_map(|words| words.into_iter().collect())
}

/// Texts that are hard to write in YAML: indicators, numbers, spaces at both ends, odd characters.
fn text() -> impl Strategy<Value = String> {
    let hard = prop::sample::select(vec![
        "",
        " ",
        "~",
        "null",
        "true",
        "no",
        "1.10",
        "0644",
        "- a",
        "a: b",
        "a #b",
        "\n",
        "a\n\nb\n",
        " a\nb",
        "a\n b\n",
        "a\n\n",
        "\ta",
        "a\t\nb",
        "a \nb\n",
        "'",
        "\"",
        "\\n",
        "#",
        "a\r\nb",
        "---",
        "...\n",
        "\u{feff}",
        "\u{2028}",
        "\u{85}",
        "é\n\u{1f642}\n",
        "| x",
        "%a\nb",
        "@a",
        "`a",
        "\n\na",
        "a\n\u{7}\n",
        "12:30",
        "2026-11-01",
        "1_000",
        "0b1",
        "?",
        "? a",
        "key:",
        "a: ",
        "<<",
        "=",
        "[a]",
        "{a}",
        "*a",
        "&a",
    ]);
    let any = proptest::string::string_regex("[ -~\\n\\t\u{e9}\u{1f642}]{0,40}").unwrap();
    prop_oneof![hard.prop_map(str::to_owned), any]
}

fn line() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['\n', '\r'], " "))
}

fn path() -> impl Strategy<Value = String> {
    "(/[a-zA-Z0-9 .:#-]{0,6}[a-z0-9]){1,3}"
}

fn digest() -> impl Strategy<Value = Sha256> {
    any::<[u8; 32]>().prop_map(Sha256::from_bytes)
}

fn units() -> impl Strategy<Value = Units> {
    // What is enabled may not be disabled or masked as well.
    let enabled = words("on-[a-z0-9@-]{0,6}\\.(service|timer)");
    let others = || words("[a-n][a-z0-9@-]{0,6}\\.(service|timer)");
    let units = (enabled, others(), others());
    units.prop_map(|(enable, disable, mask)| Units { enable, disable, mask })
}

fn content(path: String) -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => text().prop_map(Content::Inline),
        1 => Just(Content::Local(path.into())),
        1 => digest().prop_map(|sha256| Content::Url { url: "https://a.b/c?d=#e".into(), sha256 }),
    ]
}

fn files(local: &str) -> impl Strategy<Value = Vec<FileStep>> + use<> {
    let node = prop_oneof![
        3 => content(local.to_owned()).prop_map(FileNode::File),
        1 => Just(FileNode::Directory),
        1 => "[a-z./-]{1,8}".prop_map(FileNode::Link),
    ];
    let owner = || prop_oneof!["[a-z_][a-z0-9-]{0,5}", "0|[1-9][0-9]{0,4}"];
    let file = (node, 0u32..0o10000, owner(), owner());
    btree_map(path(), file, 0..4).prop_map(|files| {
        let step = |(path, (node, mode, owner, group))| {
            let mode = if matches!(node, FileNode::Link(_)) { 0o777 } else { mode };
            FileStep { path, node, mode, owner, group }
        };
        files.into_iter().map(step).collect()
    })
}

fn scripts(local: &str) -> impl Strategy<Value = BTreeMap<Hook, Vec<Script>>> + use<> {
    let hook = prop::sample::select(vec![Hook::Pre, Hook::Node, Hook::Post, Hook::PostSysprep]);
    let environment = btree_map("[A-Z_]{1,4}", text(), 0..3);
    let of_hook =
        btree_map("[a-z0-9][a-z0-9._-]{0,5}", (content(local.to_owned()), environment), 1..3);
    let of_hook = of_hook.prop_map(|scripts| {
        let script = |(name, (content, environment))| Script { name, content, environment };
        scripts.into_iter().map(script).collect::<Vec<_>>()
    });
    btree_map(hook, of_hook, 0..3)
}

fn kubernetes(folder: &str) -> impl Strategy<Value = Kubernetes> + use<> {
    let version = (1u32..2, 0u32..60, 0u32..30);
    let version = version.prop_map(|(major, minor, patch)| Version { major, minor, patch });
    let source = prop_oneof![
        Just(KubernetesSource::Source { package: "kubernetes".into(), release: "bookworm".into() }),
        Just(KubernetesSource::Directory { path: folder.into() }),
        (btree_map("[a-z]{2,7}", digest(), 0..3), any::<bool>()).prop_map(|(sha256, archives)| {
            KubernetesSource::Release {
                url: "http://127.0.0.1:80/release".into(),
                registry: Some("http://[::1]:5000".into()),
                sha256,
                images: if archives { ReleaseImages::Archives } else { ReleaseImages::Registry },
            }
        }),
    ];
    (version, source, "[a-z]{1,5}\\.[a-z]{2}(:[0-9]{2})?(/[a-z]{1,4})?").prop_map(
        |(version, source, image_repository)| Kubernetes { version, source, image_repository },
    )
}

fn users() -> impl Strategy<Value = Vec<User>> {
    let user = (option::of(1u32..65533), words("[a-z]{1,5}"), option::of(path()), any::<bool>());
    btree_map("[a-z_][a-z0-9_-]{0,5}", user, 0..3).prop_map(|users| {
        let user = |(name, (uid, groups, home, system))| User {
            name,
            uid,
            groups,
            shell: "/bin/sh".into(),
            home,
            system,
            ssh_authorized_keys: vec!["ssh-ed25519 AAAA me: #1".into()],
        };
        users.into_iter().map(user).collect()
    })
}

prop_compose! {
    fn disk()(
        mebibytes in 64u64..100_000,
        boot in prop::sample::select(vec![BootMode::Hybrid, BootMode::Bios, BootMode::Uefi]),
    ) -> DiskSpec {
        DiskSpec { size: Bytes(mebibytes << 20), root: RootFileSystem::Ext4, boot }
    }
}

fn containerd() -> impl Strategy<Value = Containerd> {
    let drivers = vec![CgroupDriver::Auto, CgroupDriver::Systemd, CgroupDriver::Cgroupfs];
    (prop::sample::select(drivers), any::<bool>()).prop_map(|(cgroup_driver, sandbox)| Containerd {
        cgroup_driver,
        sandbox_image: sandbox.then(|| "a.b/pause:3.10".into()),
    })
}

fn recipe(folder: &Path) -> impl Strategy<Value = Recipe> + use<> {
    let local = folder.join("local: file #1").to_str().unwrap().to_owned();
    let whole = folder.to_str().unwrap().to_owned();
    let names = ("[a-z0-9][a-z0-9._-]{0,9}", line(), 315_532_800u64..4_354_819_198);
    let lists = (
        words("[a-z0-9][a-z0-9+.-]{1,6}"),
        words("[a-z_]{1,6}"),
        words("[a-z]{1,3}=[a-z0-9,.]{1,4}"),
    );
    let sysctls = btree_map("[a-z]{1,4}(\\.[a-z0-9_]{1,4}){1,2}", "[ -~]{1,8}", 0..4);
    let provider = (words("[a-z0-9]{2,5}"), files(&local), words("[a-z]{1,5}"), units());
    let provider = provider.prop_map(|(packages, files, kernel_args, units)| ProviderSpec {
        packages,
        files,
        kernel_args,
        units,
    });
    let parts = (files(&local), scripts(&local), users(), units(), disk());
    let rest =
        (option::of(kubernetes(&whole)), containerd(), btree_map("[a-z]{1,4}", provider, 0..2));
    (names, lists, sysctls, parts, rest, vec(path(), 0..2)).prop_map(
        |(
            (name, description, date),
            (packages, modules, args),
            sysctls,
            parts,
            rest,
            mut paths,
        )| {
            let (files, scripts, users, units, disk) = parts;
            let (kubernetes, containerd, providers) = rest;
            paths.dedup();
            let package = packages.first().cloned();
            Recipe {
                name,
                description,
                os: Os {
                    family: Family::Debian,
                    release: "trixie".into(),
                    architecture: Architecture::Amd64,
                    components: vec!["main".into()],
                    mirrors: vec!["http://127.0.0.1:3142/debian".into()],
                    snapshots: vec!["https://a.b/{archive}/{timestamp}".into()],
                    keyring: None,
                },
                source_date: SourceDate::from_unix(date).unwrap(),
                containerd: kubernetes.is_some().then_some(containerd),
                kubernetes,
                holds: package.iter().cloned().collect(),
                packages,
                modules,
                sysctls,
                users,
                files,
                units,
                scripts,
                images: vec!["docker.io/library/busybox:1.36".into()],
                remove: Remove { packages: Vec::new(), paths },
                kernel: Kernel { package, args },
                disk,
                providers,
            }
        },
    )
}

/// Pieces of recipes and of YAML, so that random texts get past the parser.
fn fragments() -> impl Strategy<Value = String> {
    let pieces = vec![
        "name: a\n",
        "files:\n",
        "  - path: /a\n",
        "    content: |\n",
        "      x\n",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\n",
        "\"",
        "'",
        "&a ",
        "*a",
        "!!str ",
        "? ",
        "---\n",
        "packages: [jq",
        "os: {release: x",
        "  ",
        "#",
        "null",
        "extends: debian-12\n",
        "extends: a.yaml\n",
        "scripts: {post: [",
        "\t",
        "\u{feff}",
        "sysctls:\n",
        "  a.b: 1\n",
        "<<: ",
        "é",
        "kubernetes: {version: 1.2",
        ".3}",
        "|+\n",
        ">-\n",
        "users: [{name: ",
    ];
    vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn written_recipes_load_as_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::write(root.join("local: file #1"), "").unwrap();
    proptest!(ProptestConfig::with_cases(256), |(recipe in recipe(&root))| {
        let yaml = to_yaml(&recipe);
        let again = load_text(&root, yaml.as_bytes());
        let again = again.map_err(|problems| TestCaseError::fail(format!("{problems}\n{yaml}")))?;
        prop_assert_eq!(&again, &recipe, "{}", yaml);
        prop_assert_eq!(to_yaml(&again), yaml);
    });
}

#[test]
fn no_bytes_make_the_loader_panic() {
    let folder = tempfile::tempdir().unwrap();
    proptest!(ProptestConfig::with_cases(512), |(bytes in vec(any::<u8>(), 0..200))| {
        let _ = load_text(folder.path(), &bytes);
    });
    proptest!(ProptestConfig::with_cases(1024), |(text in fragments())| {
        if let Err(problems) = load_text(folder.path(), text.as_bytes()) {
            prop_assert!(problems.contains("error"));
        }
    });
    proptest!(ProptestConfig::with_cases(256), |(set in "[a-z.=\\[\\]{}:' -]{0,30}")| {
        let _ = load("quickstart", &[set]);
    });
}
