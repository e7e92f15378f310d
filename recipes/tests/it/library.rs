//! What the library promises, whatever its recipes say in detail.

use std::collections::BTreeSet;

use nodekiln_recipes::recipe::{FileNode, KubernetesSource, Recipe};
use nodekiln_recipes::{library, load};

fn images() -> Vec<Recipe> {
    let recipes = library::recipes().into_iter().filter(|recipe| recipe.complete);
    recipes.map(|recipe| load(recipe.name, &[]).unwrap().recipe).collect()
}

#[test]
fn names_and_texts_are_found_with_and_without_ending() {
    assert_eq!(library::names(), ["base/node", "debian-12", "debian-13", "quickstart"]);
    for recipe in library::recipes() {
        assert!(!recipe.description.is_empty(), "{}", recipe.name);
        assert_eq!(library::text(recipe.name), Some(recipe.text));
        assert_eq!(library::text(&format!("{}.yaml", recipe.name)), Some(recipe.text));
        if recipe.complete {
            assert_eq!(load(recipe.name, &[]).unwrap().recipe.description, recipe.description);
        }
    }
    assert_eq!(library::text("nothing"), None);
}

#[test]
fn every_node_has_what_preflight_looks_for() {
    for recipe in images() {
        for package in ["conntrack", "iproute2", "iptables", "mount", "util-linux", "containerd"] {
            assert!(recipe.packages.iter().any(|name| name == package), "{package}");
        }
        for (key, value) in
            [("net.ipv4.ip_forward", "1"), ("net.bridge.bridge-nf-call-iptables", "1")]
        {
            assert_eq!(recipe.sysctls[key], value);
        }
        assert!(recipe.modules.contains(&"br_netfilter".to_owned()));
        assert!(recipe.units.mask.contains(&"swap.target".to_owned()));
    }
}

#[test]
fn loaders_that_look_for_disks_are_absent() {
    for recipe in images() {
        for package in ["grub-pc", "grub-efi-amd64", "os-prober", "unattended-upgrades", "ntpsec"] {
            assert!(!recipe.packages.iter().any(|name| name == package), "{package}");
        }
    }
}

#[test]
fn units_are_enabled_or_masked_and_not_both() {
    for recipe in images() {
        let enabled: BTreeSet<_> = recipe.units.enable.iter().collect();
        assert!(recipe.units.mask.iter().all(|unit| !enabled.contains(unit)));
    }
}

#[test]
fn files_follow_their_folders_and_generated_files_are_left_alone() {
    let generated = [
        "/etc/containerd/config.toml",
        "/etc/kubernetes-version",
        "/etc/image-builder-release",
        "/etc/machine-id",
        "/etc/fstab",
    ];
    for recipe in images() {
        let mut links_below = BTreeSet::new();
        for file in &recipe.files {
            assert!(!generated.contains(&file.path.as_str()), "{}", file.path);
            assert!(!links_below.iter().any(|link: &String| file.path.starts_with(link)));
            if matches!(file.node, FileNode::Link(_)) {
                links_below.insert(format!("{}/", file.path));
            }
        }
    }
}

#[test]
fn the_datasource_list_is_the_providers_business() {
    for recipe in images() {
        let lists = recipe
            .files
            .iter()
            .filter(|file| format!("{:?}", file.node).contains("datasource_list"));
        assert_eq!(lists.count(), 0, "{}", recipe.name);
    }
}

#[test]
fn quickstart_needs_nothing_but_the_archive() {
    let recipe = load("quickstart", &[]).unwrap().recipe;
    let kubernetes = recipe.kubernetes.unwrap();
    assert_eq!(kubernetes.version.to_string(), "1.20.2");
    assert!(matches!(kubernetes.source, KubernetesSource::Source { .. }));
    assert!(recipe.images.is_empty() && recipe.os.mirrors.is_empty());
    assert_eq!(recipe.disk.size.get(), 4 << 30);
    assert_eq!(recipe.kernel.package.as_deref(), Some("linux-image-cloud-amd64"));
    assert!(recipe.holds.contains(&"linux-image-cloud-amd64".to_owned()));
    assert!(!recipe.holds.contains(&"linux-image-amd64".to_owned()));
}
