//! From a recipe to its lock and its plan, with an archive, a release server and a registry on the
//! loopback address. kubeadm is a program made here, which prints a list and refuses other questions
//! than the one that the real one understands.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nodekiln_build::fetch::{FetchSettings, Fetcher};
use nodekiln_build::oci::{self, media_type, read};
use nodekiln_build::resolve::{Resolution, digest_of, resolve};
use nodekiln_build::sandbox::Sandbox;
use nodekiln_build::steps::{fetched_images, kubernetes_files};
use nodekiln_recipes::load::load;
use nodekiln_recipes::plan::{Plan, Work};
use nodekiln_recipes::plan_of;
use nodekiln_recipes::recipe::{ProviderSpec, Recipe, Units};
use nodekiln_words::{Cancel, Result, Sha256, Silent};

use crate::archive::{Fixture, NOW, package};
use crate::node::{Bench, source_date};
use crate::release::{Site, bytes, fetcher, image_called};

const VERSION: &str = "1.31.4";
const BIN: &str = "/release/v1.31.4/bin/linux/amd64";
/// What kubeadm 1.31.4 lists, below the name that stands for its repository here.
pub(crate) const LISTED: [&str; 7] = [
    "k8s.example/coredns/coredns:v1.11.3",
    "k8s.example/etcd:3.5.15-0",
    "k8s.example/kube-apiserver:v1.31.4",
    "k8s.example/kube-controller-manager:v1.31.4",
    "k8s.example/kube-proxy:v1.31.4",
    "k8s.example/kube-scheduler:v1.31.4",
    "k8s.example/pause:3.10",
];

/// A static program, as kubeadm is one.
pub(crate) fn kubeadm(folder: &Path) -> Vec<u8> {
    let lines: String = LISTED.iter().rev().map(|image| format!("puts(\"{image}\");")).collect();
    let source = format!(
        "#include <stdio.h>\n#include <string.h>\nint main(int n, char **a) {{\n\
         if (n != 6 || strcmp(a[1], \"config\") || strcmp(a[2], \"images\") || strcmp(a[3], \"list\")\n\
         || strcmp(a[4], \"--kubernetes-version=v{VERSION}\")\n\
         || strcmp(a[5], \"--image-repository=k8s.example\")) return 3;\n{lines} return 0; }}\n"
    );
    let (file, program) = (folder.join("kubeadm.c"), folder.join("kubeadm"));
    std::fs::write(&file, source).unwrap();
    let made = Command::new("gcc").arg("-static").arg("-o").arg(&program).arg(&file).status();
    assert!(made.expect("gcc (Debian package gcc)").success());
    std::fs::read(program).unwrap()
}

/// A release server and the registry of its images.
fn site(folder: &Path, kubeadm: &[u8]) -> Site {
    let mut site = Site::default();
    let mut publish = |name: &str, body: &[u8]| {
        site.put(format!("{BIN}/{name}"), "application/octet-stream", body);
        site.put(format!("{BIN}/{name}.sha256"), "text/plain", Sha256::of(body).to_string());
    };
    publish("kubeadm", kubeadm);
    for name in ["kubectl", "kubelet"] {
        let mut program = kubeadm.to_vec();
        program.extend_from_slice(name.as_bytes());
        publish(name, &program);
    }
    let images = LISTED.map(|listed| image_called(listed, folder));
    for image in &images {
        let archive = folder.join(format!("{}.tar", image.reference.short_name()));
        let one = std::slice::from_ref(image);
        oci::archive::write(one, source_date(), &archive, &Cancel::default()).unwrap();
        publish(
            &format!("{}.tar", image.reference.short_name()),
            &std::fs::read(&archive).unwrap(),
        );
    }
    for image in &images {
        let reference = &image.reference;
        let at = |kind: &str, name: &str| format!("/v2/{}/{kind}/{name}", reference.repository);
        let manifest = bytes(&image.manifest);
        let digest = format!("sha256:{}", image.manifest.digest);
        for name in [reference.tag.as_deref().unwrap(), &digest] {
            site.put(at("manifests", name), media_type::MANIFEST, manifest.clone());
        }
        for blob in [&image.config, &image.layers[0]] {
            let name = format!("sha256:{}", blob.digest);
            site.put(at("blobs", &name), "application/octet-stream", bytes(blob));
        }
    }
    site
}

pub(crate) struct Setting {
    pub(crate) bench: Bench,
    pub(crate) archive: Fixture,
    pub(crate) address: String,
    site: Arc<Site>,
}

impl Setting {
    pub(crate) fn new(kubeadm: impl FnOnce(&Path) -> Vec<u8>) -> Self {
        let (bench, archive) = (Bench::new(), Fixture::new());
        archive.suite("trixie", &(package("e2fsprogs", "1", "") + &package("thing", "1", "")), "");
        for suite in ["trixie-updates", "trixie-security"] {
            archive.suite(suite, "", "");
        }
        let program = kubeadm(bench.folder.path());
        let (address, site) = site(bench.folder.path(), &program).serve();
        Self { bench, archive, address, site }
    }

    /// A recipe whose Kubernetes comes from the server, with these further lines.
    pub(crate) fn recipe(&self, more: &str) -> Recipe {
        let (mirror, address) = (self.archive.server.base(), &self.address);
        let text = format!(
            "name: t\nos:\n  family: debian\n  release: trixie\n  mirrors: [\"{mirror}\"]\n  \
             keyring: keyring.asc\nsource-date: \"2026-11-01T00:00:00Z\"\npackages: [thing]\n\
             containerd: {{ cgroup-driver: auto }}\nkubernetes:\n  version: {VERSION}\n  \
             source: release\n  image-repository: k8s.example\n  url: \"{address}/release\"\n  \
             registry: \"{address}\"\n{more}\n"
        );
        let path = self.archive.folder.path().join("t.yaml");
        std::fs::write(&path, text).unwrap();
        load(path.to_str().unwrap(), &[]).unwrap_or_else(|wrong| panic!("{wrong}")).recipe
    }

    pub(crate) fn resolve_in(&self, recipe: &Recipe, sandbox: &Sandbox) -> Result<Resolution> {
        self.resolve_with(recipe, sandbox, &fetcher(&self.bench.store))
    }

    fn resolve_with(
        &self,
        recipe: &Recipe,
        sandbox: &Sandbox,
        fetcher: &Fetcher,
    ) -> Result<Resolution> {
        resolve(recipe, &[], fetcher, &self.bench.store, sandbox, NOW, None)
    }

    pub(crate) fn plan(&self, recipe: &Recipe, resolution: &Resolution) -> Plan {
        self.plan_for(recipe, resolution, &["qemu"])
    }

    fn plan_for(&self, recipe: &Recipe, resolution: &Resolution, providers: &[&str]) -> Plan {
        plan_of(recipe, &resolution.lock, providers, &|content| {
            digest_of(content, &self.bench.store)
        })
        .unwrap()
    }

    pub(crate) fn asked(&self, part: &str) -> usize {
        self.site.asked.lock().unwrap().iter().filter(|(path, _)| path.contains(part)).count()
    }
}

/// The references of all archives that the preload is given, made of what `resolution` fetches.
fn archived(setting: &Setting, plan: &Plan, resolution: &Resolution) -> Vec<String> {
    let uses = &plan.node("preload").unwrap().uses;
    let nodes: Vec<_> = uses.iter().map(|name| plan.node(name).unwrap()).collect();
    resolution.fetch(&nodes, &fetcher(&setting.bench.store)).unwrap();
    let mut references = Vec::new();
    for node in nodes {
        let name = node.name.replace('/', "-");
        let (output, result) =
            setting.bench.execute(&name, &[], &Default::default(), &[], |execution| {
                match &node.work {
                    Work::KubernetesFiles { version, files } => {
                        kubernetes_files::run(*version, files, execution)
                    }
                    Work::FetchedImages { images } => fetched_images::run(images, execution),
                    other => unreachable!("the preload uses {other:?}"),
                }
            });
        result.unwrap();
        for entry in std::fs::read_dir(output.join("images")).into_iter().flatten() {
            let images = read::archive(&entry.unwrap().path(), "amd64").unwrap();
            references.extend(images.iter().map(|image| image.reference.to_string()));
        }
    }
    references.sort();
    references
}

#[test]
fn a_releases_own_kubeadm_says_which_images_are_locked() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("");
    let resolution = setting.resolve_in(&recipe, &setting.bench.sandbox).unwrap();
    assert_eq!(resolution.lock.kubeadm_images, LISTED);
    let pulled: Vec<&str> = resolution.lock.images.keys().map(String::as_str).collect();
    assert_eq!(pulled, LISTED);
    let plan = setting.plan(&recipe, &resolution);
    let sandbox_image = plan.nodes.iter().find_map(|node| match &node.work {
        Work::Containerd { sandbox_image, .. } => sandbox_image.clone(),
        _ => None,
    });
    assert_eq!(sandbox_image.as_deref(), Some("k8s.example/pause:3.10"));
    assert_eq!(archived(&setting, &plan, &resolution), LISTED);
}

#[test]
fn kubeadm_is_asked_once() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("");
    let first = setting.resolve_in(&recipe, &setting.bench.sandbox).unwrap();
    let nothing_runs = Sandbox { launcher: "/nonexistent".into(), clock: None };
    let second = setting.resolve_in(&recipe, &nothing_runs).unwrap();
    assert_eq!(first.lock, second.lock);
    assert_eq!(setting.asked("/kubeadm"), 3, "the digest twice, the program once");
}

#[test]
fn a_releases_own_images_come_from_archives_where_the_recipe_says_so() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("  release-images: archives");
    let resolution = setting.resolve_in(&recipe, &setting.bench.sandbox).unwrap();
    let plan = setting.plan(&recipe, &resolution);
    assert_eq!(archived(&setting, &plan, &resolution), LISTED);
    assert_eq!(setting.asked("/v2/kube-"), 0);
    assert_eq!(resolution.lock.images.len(), 3, "pause, etcd and CoreDNS");
}

#[test]
fn providers_with_equal_additions_share_a_disk_and_no_other() {
    let setting = Setting::new(kubeadm);
    let mut recipe = setting.recipe("");
    let resolution = setting.resolve_in(&recipe, &setting.bench.sandbox).unwrap();
    for provider in ["b", "c"] {
        let units = Units { enable: vec!["x.service".to_owned()], ..Units::default() };
        let spec = ProviderSpec { units, ..ProviderSpec::default() };
        recipe.providers.insert(provider.to_owned(), spec);
    }
    let plan = setting.plan_for(&recipe, &resolution, &["a", "b", "c"]);
    let disk = |provider| &plan.disk_for(provider).unwrap().name;
    assert_ne!(disk("a"), disk("b"));
    assert_eq!(disk("b"), disk("c"));
}

#[test]
fn what_was_resolved_once_is_resolved_again_without_a_server() {
    let setting = Setting::new(kubeadm);
    let recipe = setting.recipe("");
    let offline = || {
        let store = Arc::new(setting.bench.store.clone());
        let settings = FetchSettings { offline: true, ..FetchSettings::default() };
        Fetcher::new(store, Arc::new(Silent), Cancel::default(), settings).unwrap()
    };
    let sandbox = &setting.bench.sandbox;
    let before = setting.resolve_with(&recipe, sandbox, &offline()).err().unwrap();
    assert!(format!("{before:?}").contains("offline"), "{before:?}");
    let online = setting.resolve_in(&recipe, sandbox).unwrap();
    let asked = setting.site.asked.lock().unwrap().len();
    let again = setting.resolve_with(&recipe, sandbox, &offline()).unwrap();
    assert_eq!(online.lock, again.lock);
    assert_eq!(setting.site.asked.lock().unwrap().len(), asked);
}

#[test]
fn what_is_no_kubeadm_is_refused_before_it_is_asked() {
    let setting = Setting::new(|_| b"<html>sign in</html>".to_vec());
    let recipe = setting.recipe("");
    let failure = setting.resolve_in(&recipe, &setting.bench.sandbox).err().unwrap();
    let text = format!("{failure:?}");
    assert!(text.contains("kubeadm is no executable") && text.contains("cannot ask"), "{text}");
}

#[test]
fn a_kubeadm_of_another_repository_fails_with_its_own_words() {
    let setting = Setting::new(kubeadm);
    let mut recipe = setting.recipe("");
    recipe.kubernetes.as_mut().unwrap().image_repository = "other.example".to_owned();
    let failure = setting.resolve_in(&recipe, &setting.bench.sandbox).err().unwrap();
    let text = format!("{failure:?}");
    assert!(text.contains("cannot ask kubeadm 1.31.4 which images it needs"), "{text}");
    let log = failure.help().unwrap().split_whitespace().last().unwrap();
    let logged = std::fs::read_to_string(log).unwrap();
    assert!(logged.contains("--image-repository=other.example"), "{log}: {logged}");

    // What goes well leaves no log.
    let logs = || std::fs::read_dir(setting.bench.store.root().join("failed")).unwrap().count();
    assert_eq!(logs(), 1);
    setting.resolve_in(&setting.recipe(""), &setting.bench.sandbox).unwrap();
    assert_eq!(logs(), 1, "the log of another question is left alone");
}
