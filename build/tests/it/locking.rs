//! Locks: followed without asking anybody what there is, moved no further than asked, and held against
//! archives that changed since.

use std::collections::BTreeSet;
use std::sync::Arc;

use nodekiln_build::fetch::{FetchSettings, Fetcher};
use nodekiln_build::resolve::{Finding, Keep, Resolution, follow, resolve, verify};
use nodekiln_build::store::Store;
use nodekiln_recipes::lock::{Lock, LockFile, moved};
use nodekiln_recipes::recipe::{KubernetesSource, Recipe};
use nodekiln_words::{Cancel, Class, Failure, Sha256, Silent};

use crate::archive::{Fixture, NOW, package};
use crate::release::fetcher;
use crate::resolving::{Setting, kubeadm};
use crate::server::Server;

const VERSIONS: [&str; 2] = ["1", "2"];

/// What the archive's files hold: see [`package`].
fn deb(name: &str, version: &str) -> String {
    format!("{name} {version}")
}

impl Setting {
    /// Has the archive list these, and serve the last of each name.
    fn publish(&self, packages: &[(&str, &str)]) {
        let entry = |(name, version): &(&str, &str)| package(name, version, "");
        self.archive.suite("trixie", &packages.iter().map(entry).collect::<String>(), "");
        for (name, version) in packages {
            self.archive.server.put(&format!("/pool/{name}.deb"), deb(name, version));
        }
    }

    fn locked(&self, recipe: &Recipe, keep: Option<Keep<'_>>) -> Lock {
        let store = &self.bench.store;
        resolve(recipe, &[], &fetcher(store), store, &self.bench.sandbox, NOW, keep).unwrap().lock
    }

    fn findings(&self, recipe: &Recipe, lock: &Lock) -> Vec<Finding> {
        let store = &self.bench.store;
        verify(recipe, lock, &fetcher(store), store, NOW).unwrap()
    }
}

/// A store with nothing in it, as on another machine.
struct Elsewhere {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Elsewhere {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { _folder: folder, store }
    }

    fn follow(&self, recipe: &Recipe, lock: &Lock) -> Result<Resolution, Failure> {
        follow(recipe, &[], lock.clone(), &fetcher(&self.store), &self.store, NOW)
    }
}

fn version<'a>(lock: &'a Lock, name: &str) -> &'a str {
    let packages = &lock.trees["image"].packages;
    &packages.iter().find(|package| package.name == name).unwrap().version
}

fn without_kubernetes(setting: &Setting, more: &str) -> Recipe {
    let mut recipe = setting.recipe(more);
    recipe.kubernetes = None;
    recipe
}

#[test]
fn a_lock_leads_to_the_same_plan_on_another_machine_and_its_files_are_fetched() {
    let setting = Setting::new(kubeadm);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "1")]);
    let recipe = setting.recipe("");
    let here = setting.resolve_in(&recipe, &setting.bench.sandbox).unwrap();
    let text = LockFile {
        recipe: "t".to_owned(),
        architecture: "amd64".to_owned(),
        nodekiln: "0".to_owned(),
        lock: here.lock.clone(),
    }
    .text();
    let lock = LockFile::parse("t.lock.yaml", &text).unwrap().lock;
    assert_eq!(lock, here.lock);

    setting.archive.server.remove("/dists/trixie/InRelease");
    let asked = setting.asked("/manifests/v1.31.4");
    let elsewhere = Elsewhere::new();
    let there = elsewhere.follow(&recipe, &lock).unwrap();
    assert_eq!(setting.plan(&recipe, &there), setting.plan(&recipe, &here));
    assert_eq!(setting.asked("/manifests/v1.31.4"), asked, "no tag was asked for");
    let plan = setting.plan(&recipe, &there);
    let nodes: Vec<_> = plan.nodes.iter().collect();
    there.fetch(&nodes, &fetcher(&elsewhere.store)).unwrap();
    for package in &lock.trees["image"].packages {
        let bytes = elsewhere.store.read_blob(&package.sha256).unwrap();
        assert_eq!(bytes, deb(&package.name, &package.version).into_bytes());
    }
}

#[test]
fn what_is_not_in_the_lock_is_refused() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("");
    let lock = setting.locked(&recipe, None);
    let refused = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = setting.recipe("");
        change(&mut recipe);
        let failure = Elsewhere::new().follow(&recipe, &lock).err().unwrap();
        assert_eq!(failure.class(), Class::Input);
        assert!(failure.help().unwrap().contains("nodekiln lock"), "{failure:?}");
        failure.to_string()
    };
    let text = refused(&|recipe| recipe.packages.push("other".to_owned()));
    assert!(text.contains("`image` asks for other, which is not locked"), "{text}");
    let text = refused(&|recipe| recipe.packages.clear());
    assert!(text.contains("`image` no longer asks for thing"), "{text}");
    let text = refused(&|recipe| recipe.os.release = "bookworm".to_owned());
    assert!(text.contains("`image` wants the release bookworm, the lock has trixie"), "{text}");
    let text = refused(&|recipe| recipe.images.push("k8s.example/extra:1".to_owned()));
    assert!(text.contains("the image k8s.example/extra:1 is not locked"), "{text}");
    // What the recipe itself pins counts more than a lock, which anybody can write.
    let pinned = Sha256::of("another kubelet");
    let text = refused(&|recipe| match &mut recipe.kubernetes.as_mut().unwrap().source {
        KubernetesSource::Release { sha256, .. } => drop(sha256.insert("kubelet".into(), pinned)),
        other => unreachable!("{other:?}"),
    });
    assert!(text.contains(&format!("kubelet is pinned as {pinned}")), "{text}");
    let text = refused(&|recipe| match &mut recipe.kubernetes.as_mut().unwrap().source {
        KubernetesSource::Release { url, .. } => url.push_str("/other"),
        other => unreachable!("{other:?}"),
    });
    assert!(text.contains("/release/other"), "{text}");
    let text = refused(&|recipe| {
        recipe.kubernetes.as_mut().unwrap().version = "1.31.5".parse().unwrap();
    });
    assert!(text.contains("Kubernetes 1.31.5") && text.contains("1.31.4"), "{text}");
}

#[test]
fn an_image_that_is_locked_under_another_digest_or_no_longer_wanted_is_refused() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("");
    let mut lock = setting.locked(&recipe, None);
    let image = lock.images.values().next().unwrap().clone();
    lock.images.insert("k8s.example/old:1".to_owned(), image.clone());
    let text = Elsewhere::new().follow(&recipe, &lock).err().unwrap().to_string();
    assert!(text.contains("k8s.example/old:1 is locked and no longer asked for"), "{text}");

    lock.images.remove("k8s.example/old:1");
    let pinned = format!("k8s.example/pinned@sha256:{}", Sha256::of("what it should be"));
    lock.images.insert(pinned.clone(), image);
    let mut pinning = setting.recipe("");
    pinning.images.push(pinned.clone());
    let text = Elsewhere::new().follow(&pinning, &lock).err().unwrap().to_string();
    assert!(text.contains(&format!("the image {pinned} is locked as sha256:")), "{text}");
}

/// A tag that was moved stands for another image now; who did not ask for it does not get it.
#[test]
fn a_locked_image_stays_until_it_is_named() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("");
    let mut old = setting.locked(&recipe, None);
    let mut tags = old.images.keys().cloned();
    let (tag, other) = (tags.next().unwrap(), tags.next().unwrap());
    let moved_to = old.images[&other].clone();
    let asked_for = old.images.insert(tag.clone(), moved_to.clone()).unwrap();
    let none = BTreeSet::new();
    let kept = setting.locked(&recipe, Some(Keep { lock: &old, but: &none }));
    assert_eq!(kept.images[&tag], moved_to);
    let named = BTreeSet::from([tag.clone()]);
    let now = setting.locked(&recipe, Some(Keep { lock: &old, but: &named }));
    assert_eq!(now.images[&tag], asked_for);
}

#[test]
fn a_package_that_vanished_comes_from_a_snapshot_or_fails_by_name() {
    let setting = Setting::new(kubeadm);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "1")]);
    let mut recipe = without_kubernetes(&setting, "");
    let lock = setting.locked(&recipe, None);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "2")]);

    let fetch = |recipe: &Recipe| {
        let elsewhere = Elsewhere::new();
        let resolution = elsewhere.follow(recipe, &lock).unwrap();
        let plan = setting.plan(recipe, &resolution);
        let nodes: Vec<_> = plan.nodes.iter().collect();
        let outcome = resolution.fetch(&nodes, &fetcher(&elsewhere.store));
        outcome.map(|()| elsewhere.store.read_blob(&Sha256::of(deb("thing", "1"))).unwrap())
    };
    let text = fetch(&recipe).unwrap_err().chain().join(" ");
    let seen = format!("last seen 2099-12-31T00:00:00Z at {}", setting.archive.server.base());
    for part in ["thing 1 of trixie", &seen, &Sha256::of(deb("thing", "2")).to_string()] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let snapshot = Server::start();
    let path = "/debian/20991231T000000Z/pool/thing.deb";
    snapshot.put(path, deb("thing", "1"));
    recipe.os.snapshots = vec![format!("{}/{{archive}}/{{timestamp}}/", snapshot.base())];
    assert_eq!(fetch(&recipe).unwrap(), deb("thing", "1").into_bytes());
    assert_eq!(snapshot.requests(path).len(), 1);
}

/// A snapshot archive answers for a moment with the last picture before it, which the index of that moment
/// may be newer than.
#[test]
fn a_package_that_a_later_picture_has_comes_from_there() {
    let setting = Setting::new(kubeadm);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "1")]);
    let mut recipe = without_kubernetes(&setting, "");
    let lock = setting.locked(&recipe, None);
    setting.archive.server.remove("/pool/thing.deb");
    let snapshot = Server::start();
    recipe.os.snapshots = vec![format!("{}/{{archive}}/{{timestamp}}/", snapshot.base())];
    let path = |moment: &str| format!("/debian/{moment}/pool/thing.deb");
    let moments = ["20991231T000000Z", "20991231T060000Z", "20991231T120000Z", "21000101T000000Z"];
    let fetch = || {
        let elsewhere = Elsewhere::new();
        let resolution = elsewhere.follow(&recipe, &lock).unwrap();
        let plan = setting.plan(&recipe, &resolution);
        resolution.fetch(&plan.nodes.iter().collect::<Vec<_>>(), &fetcher(&elsewhere.store))
    };
    // Something else under its name, such as the package as it was before, ends nothing.
    snapshot.put(&path(moments[0]), deb("thing", "0"));
    let text = fetch().unwrap_err().chain().join(" ");
    assert!(text.contains(&Sha256::of(deb("thing", "0")).to_string()), "{text}");
    for (index, moment) in moments.iter().enumerate().skip(1) {
        snapshot.put(&path(moment), deb("thing", "1"));
        let asked = moments.map(|moment| snapshot.requests(&path(moment)).len());
        fetch().unwrap();
        let now = moments.map(|moment| snapshot.requests(&path(moment)).len());
        for (at, (asked, now)) in asked.iter().zip(now).enumerate() {
            assert_eq!(now > *asked, at <= index, "{moment}: {}", moments[at]);
        }
        snapshot.remove(&path(moment));
    }
}

#[test]
fn a_source_date_that_lies_ahead_is_told_with_a_lock_as_without() {
    let setting = Setting::new(kubeadm);
    let recipe = without_kubernetes(&setting, "");
    let lock = setting.locked(&recipe, None);
    let date = recipe.source_date.unix();
    let warned = |now| {
        let elsewhere = Elsewhere::new();
        let (fetcher, told) = Fixture::watched(&elsewhere.store, false);
        follow(&recipe, &[], lock.clone(), &fetcher, &elsewhere.store, now).unwrap();
        told.warnings().iter().any(|text| text.contains("lies ahead"))
    };
    assert!(warned(date - 1));
    assert!(!warned(date));
}

#[test]
fn a_vanished_package_that_the_store_has_is_not_asked_for() {
    let setting = Setting::new(kubeadm);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "1")]);
    let recipe = without_kubernetes(&setting, "");
    let lock = setting.locked(&recipe, None);
    let elsewhere = Elsewhere::new();
    for name in ["e2fsprogs", "thing"] {
        elsewhere.store.put_bytes(deb(name, "1").as_bytes()).unwrap();
        setting.archive.server.remove(&format!("/pool/{name}.deb"));
    }
    let store = Arc::new(elsewhere.store.clone());
    let settings = FetchSettings { offline: true, ..FetchSettings::default() };
    let offline = Fetcher::new(store, Arc::new(Silent), Cancel::default(), settings).unwrap();
    let resolution = follow(&recipe, &[], lock, &offline, &elsewhere.store, NOW).unwrap();
    let plan = setting.plan(&recipe, &resolution);
    resolution.fetch(&plan.nodes.iter().collect::<Vec<_>>(), &offline).unwrap();
}

#[test]
fn a_lock_moves_no_further_than_it_is_asked_to() {
    let setting = Setting::new(kubeadm);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "1"), ("other", "1")]);
    let mut recipe = without_kubernetes(&setting, "");
    recipe.packages.push("other".to_owned());
    let old = setting.locked(&recipe, None);
    let both: Vec<_> = ["thing", "other"]
        .iter()
        .flat_map(|name| VERSIONS.map(|version| (*name, version)))
        .chain([("e2fsprogs", "1"), ("new", "1")])
        .collect();
    setting.publish(&both);

    let none = BTreeSet::new();
    recipe.packages.push("new".to_owned());
    let kept = setting.locked(&recipe, Some(Keep { lock: &old, but: &none }));
    assert_eq!(["thing", "other", "new"].map(|name| version(&kept, name)), ["1", "1", "1"]);
    let told = moved(&old, &kept).to_string();
    assert_eq!(told, "image: new none → 1 (asked for now)\n");

    let one = BTreeSet::from(["thing".to_owned()]);
    let some = setting.locked(&recipe, Some(Keep { lock: &kept, but: &one }));
    assert_eq!(["thing", "other"].map(|name| version(&some, name)), ["2", "1"]);
    let told = moved(&kept, &some).to_string();
    assert_eq!(told, "image: thing 1 → 2 (trixie has this version)\n");

    let all = setting.locked(&recipe, None);
    assert_eq!(["thing", "other"].map(|name| version(&all, name)), ["2", "2"]);

    // What the archive no longer has cannot be kept.
    setting.publish(&[("e2fsprogs", "1"), ("thing", "2"), ("other", "2"), ("new", "1")]);
    let forced = setting.locked(&recipe, Some(Keep { lock: &old, but: &none }));
    assert_eq!(version(&forced, "thing"), "2");
}

#[test]
fn what_an_archive_no_longer_has_and_what_it_contradicts_are_told_apart() {
    let setting = Setting::new(kubeadm);
    setting.publish(&[("e2fsprogs", "1"), ("thing", "1")]);
    let recipe = setting.recipe("");
    let lock = setting.locked(&recipe, None);
    assert_eq!(setting.findings(&recipe, &lock), []);

    setting.publish(&[("e2fsprogs", "1"), ("thing", "2")]);
    let [gone] = &setting.findings(&recipe, &lock)[..] else { panic!("one finding") };
    assert_eq!((gone.what.as_str(), gone.contradicts), ("image: thing 1", false));

    setting.publish(&[("e2fsprogs", "1"), ("thing", "1")]);
    let mut other = lock.clone();
    other.trees.get_mut("image").unwrap().packages[0].sha256 = Sha256::of("evil");
    other.files.get_mut("kubernetes/bin/kubelet").unwrap().sha256 = Sha256::of("evil");
    other.images.values_mut().next().unwrap().manifest = Sha256::of("evil");
    let found = setting.findings(&recipe, &other);
    let told: Vec<_> = found.iter().map(|f| (f.what.as_str(), f.contradicts)).collect();
    let image = other.images.keys().next().unwrap().as_str();
    assert_eq!(
        told,
        [("image: thing 1", true), ("kubernetes/bin/kubelet", true), (image, false)],
        "{found:?}"
    );
}

/// What a provider has besides is locked in a tree of its own, without what the image has, and asked for
/// only by those who build for it.
#[test]
fn a_providers_packages_are_locked_over_those_of_the_image() {
    let setting = Setting::new(kubeadm);
    setting.archive.suite(
        "trixie",
        &[
            package("agent", "1", "Depends: thing, extra"),
            package("e2fsprogs", "1", ""),
            package("extra", "1", ""),
            package("thing", "1", ""),
        ]
        .concat(),
        "",
    );
    let recipe = without_kubernetes(&setting, "providers: { cloud: { packages: [agent] } }");
    let store = &setting.bench.store;
    let resolved = |providers: &[&str]| {
        let sandbox = &setting.bench.sandbox;
        resolve(&recipe, providers, &fetcher(store), store, sandbox, NOW, None).unwrap().lock
    };
    let (without, with) = (resolved(&["qemu"]), resolved(&["qemu", "cloud"]));
    assert_eq!(without.trees.keys().collect::<Vec<_>>(), ["image", "tools/disk"]);
    let tree = &with.trees["image@cloud"];
    let names: Vec<_> = tree.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!((names, &tree.asked), (vec!["agent", "extra"], &vec!["agent".to_owned()]));
    assert_eq!(with.trees["image"], without.trees["image"]);
    let follows = |providers: &[&str], lock: &Lock| {
        follow(&recipe, providers, lock.clone(), &fetcher(store), store, NOW).map(drop)
    };
    follows(&["cloud"], &with).unwrap();
    follows(&["qemu"], &with).unwrap();
    let failure = follows(&["cloud"], &without).unwrap_err();
    assert!(failure.to_string().contains("`image@cloud` are not locked"), "{failure}");
    let mut more = recipe.clone();
    more.providers.get_mut("cloud").unwrap().packages.push("extra".to_owned());
    let failure = follow(&more, &["cloud"], with, &fetcher(store), store, NOW).err().unwrap();
    assert!(failure.to_string().contains("`image@cloud` asks for extra"), "{failure}");
}
