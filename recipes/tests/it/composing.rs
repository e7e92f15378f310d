//! `extends`, the merge rules, `--set`, and files beside a recipe.

use std::path::Path;

use nodekiln_recipes::recipe::{
    CgroupDriver, Content, FileNode, Hook, KubernetesSource, Recipe, Version,
};
use nodekiln_recipes::{Loaded, load};
use tempfile::TempDir;

/// A folder of recipes.
struct Recipes(TempDir);

impl Recipes {
    fn new(files: &[(&str, &str)]) -> Self {
        let recipes = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = recipes.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        recipes
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn load(&self, name: &str, sets: &[&str]) -> Loaded {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let loaded = load(self.path().join(name).to_str().unwrap(), &sets);
        loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)))
    }
}

const PARENT: &str = "
name: parent
os: { release: bookworm }
source-date: 2026-11-01T00:00:00Z
packages: [jq, curl]
sysctls: { kernel.panic: 10, vm.overcommit_memory: 1 }
users:
  - { name: one, uid: 900 }
  - { name: two }
files:
  - { path: /etc/a, content: parent, mode: \"0600\" }
  - { path: /etc/b, content: parent }
scripts:
  post: [{ name: first, run: 'true' }]
kernel: { package: linux-image-amd64, args: [quiet] }
";

fn parent_and(child: &str) -> (Recipes, Recipe) {
    let recipes = Recipes::new(&[
        ("parent.yaml", PARENT),
        ("child.yaml", &format!("extends: parent.yaml\n{child}")),
    ]);
    let recipe = recipes.load("child.yaml", &[]).recipe;
    (recipes, recipe)
}

#[test]
fn scalars_replace_and_lists_grow_by_what_is_new() {
    let (_recipes, recipe) =
        parent_and("name: child\npackages: [vim, curl, git]\nkernel: { args: [debug, quiet] }\n");
    assert_eq!(recipe.name, "child");
    assert_eq!(recipe.packages, ["jq", "curl", "vim", "git"]);
    assert_eq!(recipe.kernel.args, ["quiet", "debug"]);
    assert_eq!(recipe.kernel.package.as_deref(), Some("linux-image-amd64"));
}

#[test]
fn null_takes_the_parents_value_away() {
    let (_recipes, recipe) = parent_and(
        "packages: null\nsysctls: { kernel.panic: }\nkernel: { package: ~ }\nscripts: { post: null }\n",
    );
    assert!(recipe.packages.is_empty() && recipe.scripts.is_empty() && recipe.holds.is_empty());
    assert_eq!(recipe.sysctls.keys().collect::<Vec<_>>(), ["vm.overcommit_memory"]);
    assert_eq!(recipe.kernel.package, None);
}

#[test]
fn files_and_users_are_replaced_whole_and_in_place() {
    let (_recipes, recipe) = parent_and(
        "files: [{ path: /etc/c, content: c }, { path: /etc/a, content: child }]\n\
         users: [{ name: one, shell: /bin/sh }]\n",
    );
    let paths: Vec<&str> = recipe.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/etc/a", "/etc/b", "/etc/c"]);
    assert_eq!(recipe.files[0].node, FileNode::File(Content::Inline("child".into())));
    assert_eq!(recipe.files[0].mode, 0o644);
    assert_eq!(recipe.users[0].uid, None);
    assert_eq!(recipe.users[0].shell, "/bin/sh");
    assert_eq!(recipe.users.len(), 2);
}

#[test]
fn scripts_follow_the_parents_and_are_found_beside_their_own_recipe() {
    let recipes = Recipes::new(&[
        ("a/parent.yaml", &format!("{PARENT}\nremove: {{ paths: [/x] }}")),
        ("a/base.yaml", "extends: parent.yaml\nscripts: { post: [s/base.sh] }\n"),
        ("a/s/base.sh", "#!/bin/sh\n"),
        (
            "b/child.yaml",
            "extends: ../a/base.yaml\nscripts: { post: [{ source: own.sh, environment: { N: 1.10, T: x } }] }\n",
        ),
        ("b/own.sh", "#!/bin/sh\n"),
    ]);
    let recipe = recipes.load("b/child.yaml", &[]).recipe;
    let scripts = &recipe.scripts[&Hook::Post];
    let names: Vec<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
    assert_eq!(names, ["first", "base", "own"]);
    let folder = recipes.path().canonicalize().unwrap();
    assert_eq!(scripts[1].content, Content::Local(folder.join("a/s/base.sh")));
    assert_eq!(scripts[2].content, Content::Local(folder.join("b/own.sh")));
    assert_eq!(scripts[2].environment["N"], "1.10");
}

#[test]
fn a_child_may_mask_what_its_parent_enables_and_not_the_other_way_round() {
    let parent =
        format!("{PARENT}\nunits: {{ enable: [a.service], mask: [b.service, c.service] }}");
    let recipes = Recipes::new(&[
        ("parent.yaml", &parent),
        ("masks.yaml", "extends: parent.yaml\nunits: { mask: [a.service] }\n"),
        ("enables.yaml", "extends: parent.yaml\nunits: { enable: [b.service] }\n"),
        (
            "both.yaml",
            "extends: parent.yaml\nunits: { disable: [d.service], enable: [d.service] }\n",
        ),
        (
            "provider.yaml",
            "extends: parent.yaml\nproviders: { aws: { units: { enable: [e.timer], mask: [e.timer] } } }\n",
        ),
        ("takes-back.yaml", "extends: parent.yaml\nunits: { enable: [b.service], mask: null }\n"),
        ("again.yaml", "extends: takes-back.yaml\nunits: { mask: [c.service] }\n"),
    ]);
    let units = recipes.load("masks.yaml", &[]).recipe.units;
    assert_eq!(units.enable, Vec::<String>::new());
    assert_eq!(units.mask, ["b.service", "c.service", "a.service"]);
    let problem = |name: &str| {
        let problems = load(recipes.path().join(name).to_str().unwrap(), &[]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems}");
        let problem = problems.iter().next().unwrap().clone();
        let help = problem.help.clone().unwrap();
        (problem.to_owned(), help)
    };
    let (enables, help) = problem("enables.yaml");
    assert_eq!(enables.message, "`b.service` is both enabled and masked");
    assert!(enables.file.ends_with("enables.yaml") && (enables.line, enables.column) == (2, 19));
    let line = parent.lines().position(|line| line.starts_with("units")).unwrap() + 1;
    assert!(enables.label.starts_with("masked in "), "{enables:?}");
    assert!(enables.label.ends_with(&format!("parent.yaml:{line}")), "{enables:?}");
    assert!(help.contains("`mask: null`"), "{help}");
    let (both, help) = problem("both.yaml");
    assert_eq!((both.line, both.column), (2, 41));
    assert!(both.message.contains("disabled") && help == "keep one of the two");
    assert!(problem("provider.yaml").0.message.contains("`e.timer`"));
    // What the help says works.
    let units = recipes.load("again.yaml", &[]).recipe.units;
    assert_eq!(units.enable, ["a.service", "b.service"]);
    assert_eq!(units.mask, ["c.service"]);
}

#[test]
fn a_chain_that_is_too_long_is_not_called_a_circle() {
    let text = |n: u32| format!("extends: r{}.yaml\n", n + 1);
    let files: Vec<(String, String)> = (0..34).map(|n| (format!("r{n}.yaml"), text(n))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let recipes = Recipes::new(&files);
    let problems = load(recipes.path().join("r0.yaml").to_str().unwrap(), &[]).unwrap_err();
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.message, "too many recipes extend each other");
    assert_eq!(problem.label, "one too many");
}

#[test]
fn a_chosen_source_makes_the_parents_other_source_void() {
    let recipes = Recipes::new(&[
        ("bin/kubelet", ""),
        ("child.yaml", "extends: part.yaml\nkubernetes: { source: directory, directory: . }\n"),
        ("part.yaml", "extends: quickstart\nkubernetes: { source-package: kubernetes }\n"),
    ]);
    let kubernetes = recipes.load("child.yaml", &[]).recipe.kubernetes.unwrap();
    let path = recipes.path().canonicalize().unwrap();
    assert_eq!(kubernetes.source, KubernetesSource::Directory { path });
    assert_eq!(kubernetes.image_repository, "k8s.gcr.io");
}

#[test]
fn sets_are_laid_over_everything_in_order() {
    let recipes = Recipes::new(&[("parent.yaml", PARENT)]);
    let sets = [
        "disk.size=8GiB",
        "sysctls.kernel.panic=20",
        "packages=[vim]",
        "kubernetes.version=1.36.1",
        "kubernetes.version=v1.35.0",
        "containerd.cgroup-driver=systemd",
        "kernel.package=",
        "providers.aws.packages=[awscli]",
        "scripts.pre=[{name: x, run: 'true'}]",
        "description=a=b",
    ];
    let Loaded { recipe, sources, .. } = recipes.load("parent.yaml", &sets);
    assert_eq!(recipe.disk.size.get(), 8 << 30);
    assert_eq!(recipe.sysctls["kernel.panic"], "20");
    assert_eq!(recipe.packages, ["jq", "curl", "vim"]);
    let kubernetes = recipe.kubernetes.unwrap();
    assert_eq!(kubernetes.version, Version { major: 1, minor: 35, patch: 0 });
    assert_eq!(kubernetes.image_repository, "registry.k8s.io");
    assert_eq!(recipe.containerd.unwrap().cgroup_driver, CgroupDriver::Systemd);
    assert_eq!(recipe.kernel.package, None);
    assert_eq!(recipe.providers["aws"].packages, ["awscli"]);
    assert_eq!(recipe.scripts[&Hook::Pre][0].name, "x");
    assert_eq!(recipe.description, "a=b");
    assert_eq!(sources.len(), 1 + sets.len());
}

#[test]
fn kubernetes_can_be_taken_away() {
    let loaded = load("quickstart", &["kubernetes=null".to_owned()]).unwrap();
    assert_eq!(loaded.recipe.kubernetes, None);
    assert_eq!(loaded.recipe.containerd, None);
}

#[test]
fn a_local_recipe_may_have_a_library_recipes_name() {
    let recipes = Recipes::new(&[("debian-12.yaml", "extends: debian-12\nname: mine\n")]);
    let loaded = recipes.load("debian-12.yaml", &[]);
    assert_eq!(loaded.recipe.name, "mine");
    let names: Vec<&str> = loaded.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names[1..], ["library/debian-12.yaml", "library/base/node.yaml"]);
    assert_eq!(loaded.sources[0].sha256, nodekiln_words::Sha256::of(&loaded.sources[0].text));
}

#[test]
fn the_same_item_twice_in_one_file_is_a_warning() {
    let recipes = Recipes::new(&[("a.yaml", "extends: debian-12\npackages: [vim, vim]\n")]);
    let loaded = recipes.load("a.yaml", &[]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings.render(false).starts_with("warning: `vim` is given twice in `packages`")
    );
    assert_eq!(loaded.recipe.packages.iter().filter(|name| *name == "vim").count(), 1);
}

#[test]
fn a_list_can_be_started_afresh_by_two_sets() {
    let sets = ["packages=".to_owned(), "packages=[jq]".to_owned()];
    assert_eq!(load("quickstart", &sets).unwrap().recipe.packages, ["jq"]);
}

#[test]
fn folders_and_devices_are_no_recipes() {
    let recipes = Recipes::new(&[("d/x.yaml", "")]);
    assert!(load(recipes.path().join("d").to_str().unwrap(), &[]).is_err());
    assert!(load("/dev/zero", &[]).is_err());
}
