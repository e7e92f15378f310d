//! Providers' layers: what is merged under what a recipe says, and what they share.

use std::collections::BTreeSet;
use std::path::Path;

use nodekiln_recipes::load::{load, load_for};
use nodekiln_recipes::provider::{DiskRules, ForProvider};
use nodekiln_recipes::recipe::{BootMode, Content, FileNode, FileStep, Recipe};
use nodekiln_recipes::{Diagnostics, Lock, Plan, library, plan_of, to_yaml, tree_name};
use nodekiln_words::{Bytes, Result, Sha256};

use crate::planning::{lock, locked};

/// The providers that have a crate of their own, and those that share a layer.
const CLOUDS: [&str; 4] = ["aws", "azure", "gce", "vsphere"];
const COMMON: [&str; 3] = ["openstack", "qemu", "raw"];

/// A provider's layer as it stands in the tree.
fn layer(provider: &str) -> String {
    let providers = Path::new("../providers");
    let folder = if COMMON.contains(&provider) { "." } else { provider };
    std::fs::read_to_string(providers.join(folder).join("layer.yaml")).unwrap()
}

fn of_tree(provider: &str) -> ForProvider {
    ForProvider { name: provider.to_owned(), layer: layer(provider), disk: None }
}

fn with_layer(text: &str) -> ForProvider {
    ForProvider { name: "aws".to_owned(), layer: text.to_owned(), disk: None }
}

fn loaded(recipe: &str, providers: &[&str]) -> Recipe {
    let providers: Vec<_> = providers.iter().map(|name| of_tree(name)).collect();
    let loaded = load_for(recipe, &[], &providers);
    loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false))).recipe
}

/// A recipe in a file of its own, loaded for `provider`.
fn written(text: &str, provider: &ForProvider) -> std::result::Result<Recipe, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yaml");
    std::fs::write(&path, format!("extends: quickstart\nname: r\n{text}")).unwrap();
    load_for(path.to_str().unwrap(), &[], std::slice::from_ref(provider)).map(|l| l.recipe)
}

fn text_of(file: &FileStep) -> &str {
    match &file.node {
        FileNode::File(Content::Inline(text)) => text,
        other => panic!("{} is {other:?}", file.path),
    }
}

fn digest_of(content: &Content) -> Result<Sha256> {
    Ok(match content {
        Content::Inline(text) => Sha256::of(text),
        other => panic!("{other:?}"),
    })
}

fn plan(recipe: &Recipe, lock: &Lock, providers: &[&str]) -> Plan {
    plan_of(recipe, lock, providers, &digest_of).unwrap()
}

#[test]
fn the_layers_in_the_tree_fit_every_recipe_of_the_library() {
    let all: Vec<&str> = CLOUDS.into_iter().chain(COMMON).collect();
    for recipe in library::recipes().into_iter().filter(|recipe| recipe.complete) {
        let providers: Vec<_> = all.iter().map(|name| of_tree(name)).collect();
        let loaded = load_for(recipe.name, &[], &providers);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
        let named: Vec<_> = loaded.recipe.providers.keys().map(String::as_str).collect();
        assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), all.iter().copied().collect());
    }
}

/// Exactly one file says which data sources there are, whoever the image is for, and says what that
/// provider's machines have.
#[test]
fn every_providers_tree_has_one_list_of_data_sources() {
    let lists = [
        ("aws", "[Ec2]"),
        ("azure", "[Azure]"),
        ("gce", "[GCE]"),
        ("openstack", "[NoCloud, ConfigDrive, OpenStack, None]"),
        ("qemu", "[NoCloud, ConfigDrive, OpenStack, None]"),
        ("raw", "[NoCloud, ConfigDrive, OpenStack, None]"),
        ("vsphere", "[VMware, OVF]"),
    ];
    for recipe in library::recipes().into_iter().filter(|recipe| recipe.complete) {
        for (provider, list) in lists {
            let recipe = loaded(recipe.name, &[provider]);
            let files = recipe.files.iter().chain(&recipe.providers[provider].files);
            let files = files.filter(|file| matches!(file.node, FileNode::File(_)));
            let found: Vec<&str> = files
                .flat_map(|file| text_of(file).lines())
                .filter_map(|line| line.strip_prefix("datasource_list: "))
                .collect();
            assert_eq!(found, [list], "{} for {provider}", recipe.name);
        }
    }
}

#[test]
fn only_the_layers_of_chosen_providers_are_merged() {
    assert!(load("quickstart", &[]).unwrap().recipe.providers.is_empty());
    let recipe = loaded("quickstart", &["aws"]);
    assert_eq!(recipe.providers.keys().collect::<Vec<_>>(), ["aws"]);
}

#[test]
fn a_recipe_has_the_last_word_over_a_layer() {
    let layer = with_layer(
        "packages: [one]\nkernel-args: [a=1]\nfiles:\n  - { path: /etc/a, content: layer }\n  - { path: /etc/b, content: layer }\nunits: { enable: [one.service] }\n",
    );
    let recipe = written(
        "providers:\n  aws:\n    packages: [two, one]\n    kernel-args: [b=2]\n    files: [{ path: /etc/a, content: recipe }, { path: /etc/c, content: recipe }]\n    units: { enable: [two.service] }\n",
        &layer,
    );
    let spec = recipe.unwrap().providers.remove("aws").unwrap();
    assert_eq!(spec.packages, ["one", "two"]);
    assert_eq!(spec.kernel_args, ["a=1", "b=2"]);
    assert_eq!(spec.units.enable, ["one.service", "two.service"]);
    let files: Vec<_> = spec.files.iter().map(|file| (file.path.as_str(), text_of(file))).collect();
    assert_eq!(files, [("/etc/a", "recipe"), ("/etc/b", "layer"), ("/etc/c", "recipe")]);
    let none = written("providers: { aws: null }\n", &layer).unwrap();
    assert!(none.providers.is_empty(), "null takes the layer away");
    let no_files = written("providers: { aws: { files: null } }\n", &layer).unwrap();
    assert!(no_files.providers["aws"].files.is_empty());
    assert_eq!(no_files.providers["aws"].packages, ["one"]);
}

#[test]
fn an_argument_has_the_last_word_over_layer_and_recipe() {
    let sets = ["providers.aws.kernel-args=[c=3]".to_owned(), "providers.aws.packages=".to_owned()];
    let layer = with_layer("packages: [one]\nkernel-args: [a=1]\n");
    let recipe = load_for("quickstart", &sets, &[layer]).unwrap().recipe;
    assert_eq!(recipe.providers["aws"].kernel_args, ["a=1", "c=3"]);
    assert!(recipe.providers["aws"].packages.is_empty());
}

#[test]
fn a_resolved_recipe_with_layers_loads_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    for provider in CLOUDS.into_iter().chain(COMMON) {
        let recipe = loaded("debian-13", &[provider]);
        let path = folder.path().join("resolved.yaml");
        std::fs::write(&path, to_yaml(&recipe)).unwrap();
        assert_eq!(loaded(path.to_str().unwrap(), &[]), recipe, "{provider}");
        assert_eq!(loaded(path.to_str().unwrap(), &[provider]), recipe, "{provider} once more");
    }
}

#[test]
fn what_is_wrong_in_a_layer_is_shown_in_the_layer() {
    for (text, place, message) in [
        ("package: [x]\n", "aws/layer.yaml:1:1", "unknown key `package`"),
        (
            "files:\n  - { path: etc/a, content: x }\n",
            "aws/layer.yaml:2:13",
            "`etc/a` is not an absolute path",
        ),
        ("kernel-args: [\"a b\"]\n", "aws/layer.yaml:1:15", "kernel-args"),
        ("- one\n", "aws/layer.yaml:1:1", "a layer is a mapping"),
        ("files: [\n", "aws/layer.yaml:", "not YAML"),
    ] {
        let problems = load_for("quickstart", &[], &[with_layer(text)]).unwrap_err();
        let shown = problems.render(false);
        assert!(shown.contains(place) && shown.contains(message), "{shown}");
    }
}

#[test]
fn a_disk_that_a_provider_does_not_take_is_shown_where_the_recipe_says_it() {
    let rules = DiskRules {
        multiple: Bytes(Bytes::GIB),
        largest: Some(Bytes(16 * Bytes::GIB)),
        boot: vec![BootMode::Uefi, BootMode::Hybrid],
    };
    let aws = ForProvider { disk: Some(rules), ..with_layer("") };
    for (disk, place, message, help) in [
        ("{ size: 4608MiB }", "r.yaml:3:15", "`aws` takes no disk of 4608MiB", "`disk.size: 5GiB`"),
        ("{ size: 17GiB }", "r.yaml:3:15", "larger than `aws` takes", "`disk.size: 16GiB` or less"),
        ("{ boot: bios }", "r.yaml:3:15", "`aws` cannot start a disk", "to uefi or hybrid"),
    ] {
        let problems = written(&format!("disk: {disk}\n"), &aws).unwrap_err();
        let shown = problems.render(false);
        assert!(shown.contains(place) && shown.contains(message), "{shown}");
        assert!(shown.contains(help) && shown.contains("leave `aws` out"), "{shown}");
    }
    assert!(written("disk: { size: 5GiB }\n", &aws).is_ok());
    assert!(written("disk: { size: 4608MiB }\n", &with_layer("")).is_ok(), "nobody asks");
}

/// Whatever stands below a provider's layer is one node for all of them.
#[test]
fn five_providers_share_all_but_their_layers() {
    let five = ["aws", "azure", "gce", "vsphere", "qemu"];
    let mut lock = lock();
    for provider in ["azure", "vsphere"] {
        let mut tree = lock.trees[tree_name::IMAGE].clone();
        tree.packages = vec![locked(provider, "1")];
        lock.trees.insert(tree_name::of_provider(provider), tree);
    }
    let one = plan(&loaded("quickstart", &["qemu"]), &lock, &["qemu"]);
    let all = plan(&loaded("quickstart", &five), &lock, &five);
    let own = |node: &&nodekiln_recipes::plan::Node| {
        let name = node.name.split(['~', '@']).next().unwrap();
        name.starts_with("provider/") || ["boot", "sysprep", "disk"].contains(&name)
    };
    let count = |plan: &Plan, provider: &str| {
        let prefix = format!("provider/{provider}/");
        plan.nodes.iter().filter(|node| node.name.starts_with(&prefix)).count()
    };
    // Files alone; packages, files and units; files; packages and files; files.
    assert_eq!(five.map(|provider| count(&all, provider)), [1, 3, 1, 2, 1]);
    let shared = |plan: &Plan| plan.nodes.iter().filter(|node| !own(node)).count();
    assert_eq!(shared(&all), shared(&one), "no node below the layers is there twice");
    assert_eq!(all.nodes.iter().filter(own).count(), 8 + 5 * 3, "layers; boot, sysprep, disk");
    let names: BTreeSet<_> = all.nodes.iter().map(|node| &node.name).collect();
    assert!(one.nodes.iter().all(|node| names.contains(&node.name)));
}

#[test]
fn providers_without_a_cloud_of_their_own_share_one_disk() {
    let plan = plan(&loaded("quickstart", &COMMON), &lock(), &COMMON);
    let disks: BTreeSet<_> = plan.disks.values().collect();
    assert_eq!(disks.len(), 1, "{disks:?}");
    // The layer is called after the first of them, and is there once.
    let layers = plan.nodes.iter().filter(|node| node.name.starts_with("provider/"));
    assert_eq!(
        layers.map(|node| node.name.as_str()).collect::<Vec<_>>(),
        ["provider/openstack/files"]
    );
}

/// With scripts at the end of a recipe, which may change what a layer brings, the layer comes before
/// them, and still after the runtime, so that images are preloaded once.
#[test]
fn a_layer_comes_before_the_last_scripts_and_after_the_runtime() {
    use nodekiln_recipes::recipe::{Hook, Script};
    let mut recipe = loaded("quickstart", &["aws", "qemu"]);
    let script = Script {
        name: "s".to_owned(),
        content: Content::Inline("true".to_owned()),
        environment: Default::default(),
    };
    recipe.scripts.insert(Hook::Post, vec![script]);
    let plan = plan(&recipe, &lock(), &["aws", "qemu"]);
    let place = |name: &str| plan.nodes.iter().position(|node| node.name == name).unwrap();
    assert!(place("preload") < place("provider/aws/files"));
    assert!(place("provider/aws/files") < place("script/post/s"));
    assert!(plan.node("preload~2").is_none() && plan.node("kubernetes~2").is_none());
    assert!(plan.node("script/post/s~2").is_some());
}
