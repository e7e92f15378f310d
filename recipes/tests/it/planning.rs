//! Ids of nodes: every declared input counts, nothing else does, and what is alike is shared.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::lock::{Lock, LockedFile, LockedPackage, LockedTree};
use nodekiln_recipes::plan::Plan;
use nodekiln_recipes::recipe::{
    Content, FileNode, FileStep, Hook, KubernetesSource, ProviderSpec, Recipe, Remove, Script,
};
use nodekiln_recipes::{load, plan_of, tree_name};
use nodekiln_words::{Bytes, Result, Sha256};
use proptest::prelude::*;

pub(crate) fn locked(name: &str, version: &str) -> LockedPackage {
    LockedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Sha256::of(format!("{name} {version}")),
        size: 1000,
        suite: "bookworm".to_owned(),
        component: "main".to_owned(),
        path: format!("pool/{name}_{version}.deb"),
        source: name.to_owned(),
        source_version: version.to_owned(),
        essential: false,
        requested: true,
    }
}

pub(crate) fn lock() -> Lock {
    let tree = |release: &str, packages: &[&str]| LockedTree {
        release: release.to_owned(),
        asked: Vec::new(),
        packages: packages.iter().map(|name| locked(name, "1")).collect(),
    };
    let source = LockedFile {
        url: "pool/kubernetes.orig.tar.xz".to_owned(),
        sha256: Sha256::of("source"),
        size: Some(7),
    };
    Lock {
        trees: BTreeMap::from([
            (tree_name::IMAGE.to_owned(), tree("bookworm", &["bash", "containerd", "linux-image"])),
            (tree_name::DISK.to_owned(), tree("trixie", &["e2fsprogs"])),
            (tree_name::COMPILER.to_owned(), tree("bookworm", &["golang"])),
            (tree_name::CONTROL_PLANE.to_owned(), tree("bookworm", &["etcd-server"])),
        ]),
        files: BTreeMap::from([("source/kubernetes.orig.tar.xz".to_owned(), source)]),
        images: BTreeMap::new(),
        kubeadm_images: vec!["k8s.example/pause:3.2".to_owned()],
        ..Lock::default()
    }
}

fn recipe() -> Recipe {
    load("quickstart", &[]).unwrap().recipe
}

fn digest_of(content: &Content) -> Result<Sha256> {
    Ok(match content {
        Content::Inline(text) => Sha256::of(text),
        Content::Local(path) => Sha256::of(path.to_string_lossy().as_bytes()),
        Content::Url { sha256, .. } => *sha256,
    })
}

fn plan_for(recipe: &Recipe, lock: &Lock, providers: &[&str]) -> Plan {
    plan_of(recipe, lock, providers, &digest_of).unwrap()
}

fn plan(recipe: &Recipe, lock: &Lock) -> Plan {
    plan_for(recipe, lock, &["qemu"])
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.nodes.iter().map(|node| node.name.as_str()).collect()
}

/// Names of the nodes of `plan` whose ids `other` does not have.
fn changed(plan: &Plan, other: &Plan) -> BTreeSet<String> {
    let known: BTreeSet<_> = other.nodes.iter().map(|node| node.id).collect();
    let changed = plan.nodes.iter().filter(|node| !known.contains(&node.id));
    changed.map(|node| node.name.clone()).collect()
}

/// The nodes named, and all that stand on them or read them.
fn with_dependents(plan: &Plan, first: &[&str]) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = first.iter().map(|name| (*name).to_owned()).collect();
    for node in &plan.nodes {
        let mut parents = node.below.iter().chain(&node.uses);
        if parents.any(|parent| all.contains(parent)) {
            all.insert(node.name.clone());
        }
    }
    all
}

fn file(path: &str, text: &str) -> FileStep {
    FileStep {
        path: path.to_owned(),
        node: FileNode::File(Content::Inline(text.to_owned())),
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
    }
}

fn script(text: &str) -> Script {
    Script {
        name: "s".to_owned(),
        content: Content::Inline(text.to_owned()),
        environment: BTreeMap::from([("KEY".to_owned(), "value".to_owned())]),
    }
}

/// A change of one declared input, and the nodes that read it.
type Mutation = (&'static str, fn(&mut Recipe, &mut Lock), &'static [&'static str]);

/// Every declared input of every node of the recipe below.
const MUTATIONS: [Mutation; 23] = [
    ("a package's version", |_, l| l.image()[0].version.push('1'), &["packages"]),
    ("a package's digest", |_, l| l.image()[0].sha256 = Sha256::of("x"), &["packages"]),
    ("a package's architecture", |_, l| l.image()[0].architecture = "all".into(), &["packages"]),
    ("whether it is essential", |_, l| l.image()[0].essential = true, &["packages"]),
    ("one more package", |_, l| l.image().push(locked("zsh", "1")), &["packages"]),
    ("one package less", |_, l| drop(l.image().pop()), &["packages"]),
    ("holds", |r, _| r.holds.push("bash".into()), &["packages"]),
    ("a kernel parameter", |r, _| drop(r.sysctls.insert("vm.a".into(), "1".into())), &["settings"]),
    ("a kernel module", |r, _| r.modules.push("dummy".into()), &["settings"]),
    ("a file's content", |r, _| r.files[0] = file("/etc/a", "b"), &["files"]),
    ("a file's mode", |r, _| r.files[0].mode = 0o600, &["files"]),
    ("a file's owner", |r, _| r.files[0].owner = "daemon".into(), &["files"]),
    ("a file's path", |r, _| r.files[0].path = "/etc/c".into(), &["files", "sysprep"]),
    ("a unit", |r, _| r.units.enable.push("x.service".into()), &["units"]),
    ("a script's text", |r, _| r.script().content = Content::Inline("b".into()), &[SCRIPT]),
    ("a script's environment", |r, _| r.script().environment.clear(), &[SCRIPT]),
    ("paths to remove", |r, _| r.remove.paths.push("/usr/share/doc".into()), &["remove"]),
    ("kernel arguments", |r, _| r.kernel.args.push("quiet".into()), &["boot"]),
    ("the disk's size", |r, _| r.disk.size = Bytes(9 << 30), &["disk"]),
    ("the disk's tools", |_, l| l.tree(tree_name::DISK)[0].version.push('1'), &["tools/disk"]),
    (
        "the Kubernetes source",
        |_, l| l.files.values_mut().for_each(|f| f.sha256 = Sha256::of("y")),
        &["kubernetes/compile"],
    ),
    ("the compiler", |_, l| l.tree(tree_name::COMPILER)[0].version.push('1'), &["tools/compiler"]),
    (
        "the images' tools",
        |_, l| l.tree(tree_name::CONTROL_PLANE)[0].version.push('1'),
        &["tools/control-plane"],
    ),
];

const SCRIPT: &str = "script/post/s";

trait Reach {
    fn tree(&mut self, name: &str) -> &mut Vec<LockedPackage>;
    fn image(&mut self) -> &mut Vec<LockedPackage> {
        self.tree(tree_name::IMAGE)
    }
}

impl Reach for Lock {
    fn tree(&mut self, name: &str) -> &mut Vec<LockedPackage> {
        &mut self.trees.get_mut(name).unwrap().packages
    }
}

trait FirstScript {
    fn script(&mut self) -> &mut Script;
}

impl FirstScript for Recipe {
    fn script(&mut self) -> &mut Script {
        &mut self.scripts.get_mut(&Hook::Post).unwrap()[0]
    }
}

/// The quickstart recipe with something of each kind.
fn full_recipe() -> Recipe {
    let mut recipe = recipe();
    recipe.files.insert(0, file("/etc/a", "a"));
    recipe.scripts.insert(Hook::Post, vec![script("a")]);
    recipe.remove = Remove { packages: Vec::new(), paths: vec!["/usr/share/man".to_owned()] };
    recipe
}

#[test]
fn each_declared_input_misses_what_depends_on_it_and_nothing_else() {
    let (recipe, lock) = (full_recipe(), lock());
    let plan_before = plan(&recipe, &lock);
    for (what, mutate, first) in MUTATIONS {
        let (mut recipe, mut lock) = (recipe.clone(), lock.clone());
        mutate(&mut recipe, &mut lock);
        let after = plan(&recipe, &lock);
        assert_eq!(changed(&after, &plan_before), with_dependents(&after, first), "{what}");
    }
}

#[test]
fn what_an_archive_calls_a_package_and_where_it_stands_misses_nothing() {
    let (recipe, lock) = (full_recipe(), lock());
    let mut moved = lock.clone();
    let package = &mut moved.image()[0];
    package.suite = "bookworm-security".to_owned();
    package.path = "elsewhere.deb".to_owned();
    package.requested = false;
    assert_eq!(changed(&plan(&recipe, &moved), &plan(&recipe, &lock)), BTreeSet::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ids are equal exactly where the preimages are, and those tell every input: two sets of changes
    /// lead to one id only where they are the same set.
    #[test]
    fn two_different_inputs_never_share_an_id(
        one in prop::collection::btree_set(0..MUTATIONS.len(), 0..6),
        other in prop::collection::btree_set(0..MUTATIONS.len(), 0..6),
    ) {
        let mutated = |which: &BTreeSet<usize>| {
            let (mut recipe, mut lock) = (full_recipe(), lock());
            // In one order: a later change may overwrite what an earlier one set.
            which.iter().for_each(|index| MUTATIONS[*index].1(&mut recipe, &mut lock));
            let preimage = |plan: &Plan| -> BTreeMap<_, _> {
                plan.nodes.iter().map(|node| (plan.preimage(node), node.id)).collect()
            };
            (preimage(&plan(&recipe, &lock)), format!("{recipe:?} {lock:?}"))
        };
        let ((one, one_inputs), (other, other_inputs)) = (mutated(&one), mutated(&other));
        for (preimage, id) in &one {
            prop_assert_eq!(other.get(preimage), other.values().find(|other| *other == id));
        }
        prop_assert_eq!(one_inputs == other_inputs, one == other);
    }
}

#[test]
fn another_kubernetes_shares_all_below_it_and_the_initial_ram_disk() {
    let (recipe, lock) = (recipe(), lock());
    let mut other = recipe.clone();
    other.kubernetes.as_mut().unwrap().version = "1.21.0".parse().unwrap();
    let (one, other) = (plan(&recipe, &lock), plan(&other, &lock));
    let missed = changed(&other, &one);
    let shared: Vec<_> = names(&other).into_iter().filter(|name| !missed.contains(*name)).collect();
    let below = ["packages", "settings", "files", "units", "initramfs"];
    assert_eq!(
        shared,
        [&below[..], &["tools/compiler", "tools/control-plane", "tools/disk"]].concat()
    );
    assert!(missed.contains("containerd"), "the cgroup driver depends on the version");
}

/// The programs of a folder, of which the preload needs kubeadm alone.
#[test]
fn another_kubelet_leaves_the_preloaded_images_as_they_are() {
    let mut recipe = recipe();
    recipe.kubernetes.as_mut().unwrap().source =
        KubernetesSource::Directory { path: "/k8s".into() };
    let mut lock = lock();
    lock.files.clear();
    for name in ["bin/kubeadm", "bin/kubectl", "bin/kubelet", "images/pause.tar"] {
        let file = LockedFile { url: name.to_owned(), sha256: Sha256::of(name), size: None };
        lock.files.insert(format!("kubernetes/{name}"), file);
    }
    let before = plan(&recipe, &lock);
    let with_other = |name: &str| {
        let mut lock = lock.clone();
        lock.files.get_mut(&format!("kubernetes/{name}")).unwrap().sha256 = Sha256::of("other");
        let after = plan(&recipe, &lock);
        (changed(&after, &before), after)
    };
    let (missed, after) = with_other("bin/kubelet");
    assert_eq!(missed, with_dependents(&after, &["kubernetes/files"]));
    assert!(!missed.contains("preload") && missed.contains("kubernetes"), "{missed:?}");
    for name in ["bin/kubeadm", "images/pause.tar"] {
        assert!(with_other(name).0.contains("preload"), "{name}");
    }
}

#[test]
fn providers_share_all_but_their_own_layer() {
    let mut recipe = recipe();
    let lock = lock();
    let own = |provider: &str| ProviderSpec {
        files: vec![file("/etc/cloud/cloud.cfg.d/90_datasource.cfg", provider)],
        kernel_args: vec![format!("of={provider}")],
        ..ProviderSpec::default()
    };
    recipe.providers = ["qemu", "raw"].map(|name| (name.to_owned(), own(name))).into();
    let both = plan_for(&recipe, &lock, &["qemu", "raw"]);
    let twice: Vec<_> =
        names(&both).into_iter().filter(|n| n.ends_with("~2") || n.contains('@')).collect();
    assert_eq!(twice, ["boot~2", "sysprep~2", "disk@raw"]);
    assert!(
        names(&both).contains(&"provider/qemu/files")
            && names(&both).contains(&"provider/raw/files")
    );
    recipe.providers.clear();
    let same = plan_for(&recipe, &lock, &["qemu", "raw"]);
    assert_eq!(names(&same), names(&plan(&recipe, &lock)), "equal disks are one");
}

/// Where a step that may matter to the initial RAM disk comes, the disk is made after it.
#[test]
fn the_initial_ram_disk_is_made_when_nothing_can_change_it_any_more() {
    let lock = lock();
    let place = |recipe: &Recipe, name: &str| {
        let plan = plan(recipe, &lock);
        plan.nodes.iter().position(|node| node.name == name).unwrap()
    };
    let early = recipe();
    assert!(place(&early, "initramfs") < place(&early, "containerd"));
    let mut late = vec![full_recipe()];
    for hook in [Hook::Containerd, Hook::Kubernetes, Hook::Post] {
        let mut recipe = early.clone();
        recipe.scripts.insert(hook, vec![script("x")]);
        late.push(recipe);
    }
    let mut modprobe = early.clone();
    let spec =
        ProviderSpec { files: vec![file("/etc/modprobe.d/x.conf", "")], ..ProviderSpec::default() };
    modprobe.providers.insert("qemu".to_owned(), spec);
    assert!(place(&modprobe, "initramfs") > place(&modprobe, "provider/qemu/files"));
    late.push(modprobe);
    for recipe in late {
        assert_eq!(place(&recipe, "boot"), place(&recipe, "initramfs") + 1);
    }
}

/// A script of another hook, or a removal, may have to do with what the layer brings.
#[test]
fn a_providers_layer_is_seen_by_what_image_builder_has_after_it() {
    let mut recipe = full_recipe();
    let spec =
        ProviderSpec { files: vec![file("/etc/cloud/x.cfg", "")], ..ProviderSpec::default() };
    recipe.providers.insert("qemu".to_owned(), spec);
    let plan = plan(&recipe, &lock());
    let place = |name: &str| plan.nodes.iter().position(|node| node.name == name).unwrap();
    assert!(place("provider/qemu/files") < place("script/post/s"));
    assert!(place("provider/qemu/files") < place("remove"));
}

/// A script of the hook `provider` may read what the provider's layer brings, and what comes after may
/// depend on it.
#[test]
fn with_scripts_of_its_hook_a_providers_layer_comes_before_the_runtime() {
    let mut recipe = recipe();
    recipe.scripts.insert(Hook::Provider, vec![script("x")]);
    let spec =
        ProviderSpec { files: vec![file("/etc/cloud/x.cfg", "")], ..ProviderSpec::default() };
    recipe.providers.insert("qemu".to_owned(), spec);
    let plan = plan(&recipe, &lock());
    let found: Vec<_> = names(&plan)
        .into_iter()
        .filter(|name| ["provider/qemu/files", "script/provider/s", "containerd"].contains(name))
        .collect();
    assert_eq!(found, ["provider/qemu/files", "script/provider/s", "containerd"]);
}
