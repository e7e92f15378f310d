//! From a recipe and its lock to the plan: which nodes there are, in which order they lie upon each
//! other, and the id of each.

mod conformance;

use std::collections::BTreeMap;

use nodekiln_words::{Failure, Result, Sha256, SourceDate};
use uuid::Uuid;

use crate::lock::Lock;
use crate::plan::{Node, NodeId, Plan, PlannedFile, PlannedFileNode, PlannedPackage, Work};
use crate::recipe::{
    Content, FileNode, FileStep, Hook, Kubernetes, KubernetesSource, ProviderSpec, Recipe, Script,
    Units,
};

pub use conformance::{
    IMAGES as CONFORMANCE_IMAGES, SUITE as CONFORMANCE_SUITE, conformance_plan_of,
};

/// Names of the package trees in a lock.
pub mod tree_name {
    /// The image's own packages.
    pub const IMAGE: &str = "image";
    /// Programs that make file systems.
    pub const DISK: &str = "tools/disk";
    /// The compiler and what the Kubernetes build needs.
    pub const COMPILER: &str = "tools/compiler";
    /// Programs that go into control-plane images made from source.
    pub const CONTROL_PLANE: &str = "tools/control-plane";
    /// Programs that go into the images of node conformance.
    pub const CONFORMANCE: &str = "tools/conformance";

    /// What `provider` has besides the image's own packages.
    #[must_use]
    pub fn of_provider(provider: &str) -> String {
        format!("{IMAGE}@{provider}")
    }
}

/// Where `/etc/modules-load.d` names the recipe's kernel modules.
const MODULES_FILE: &str = "/etc/modules-load.d/kubernetes.conf";
/// Where `/etc/sysctl.d` sets the recipe's kernel parameters. It sorts after what distributions ship
/// (`99-sysctl.conf` is a link to `/etc/sysctl.conf` there), so the recipe has the last word.
const SYSCTL_FILE: &str = "/etc/sysctl.d/99-zz-nodekiln.conf";

/// Makes the plan of `recipe` for `providers`, taking everything that enters from `lock`.
///
/// `digest_of` gives the digest under which a content is (or will be) in the store. The image's seed
/// is UUIDv5 of the recipe's name in nodekiln's name space, so that equal recipes have equal ids.
///
/// # Errors
/// When the lock lacks a tree that the recipe needs, or a content cannot be read.
pub fn plan_of(
    recipe: &Recipe,
    lock: &Lock,
    providers: &[&str],
    digest_of: &dyn Fn(&Content) -> Result<Sha256>,
) -> Result<Plan> {
    let mut planning = Planning {
        recipe,
        lock,
        digest_of,
        source_date: recipe.source_date,
        seed: seed_of(&recipe.name),
        nodes: Vec::new(),
    };
    let mut disks = BTreeMap::new();
    let base = planning.operating_system()?; // 1. packages, the node's own settings, files, units
    for provider in providers {
        let spec = recipe.providers.get(*provider).cloned().unwrap_or_default();
        let order = Order::of(recipe, &spec);
        let mut tree = base.clone();
        if order.provider == Turn::BeforeRuntime {
            tree = planning.provider(&tree, provider, &spec)?;
        }
        if order.initramfs_early {
            tree = planning.initramfs(&tree);
        }
        let runtime = planning.runtime(&tree)?; // 2. containerd, images, Kubernetes
        tree = runtime.tree;
        if order.provider == Turn::BeforePost {
            tree = planning.provider(&tree, provider, &spec)?;
        }
        tree = planning.post(&tree)?; // 3. the recipe's last changes, the initial RAM disk
        if order.provider == Turn::Last {
            tree = planning.provider(&tree, provider, &spec)?; // 4. what this provider adds
        }
        if !order.initramfs_early {
            tree = planning.initramfs(&tree);
        }
        let tree = planning.finishing(&tree, &spec)?; // 5. boot loader's menu, sysprep
        let disk = planning.disk(provider, &tree, &runtime.base)?; // 6. one disk; equal ones are one node
        disks.insert((*provider).to_owned(), disk);
    }
    let Planning { source_date, seed, nodes, .. } = planning;
    Ok(Plan { name: recipe.name.clone(), source_date, seed, nodes, disks })
}

/// Where two things stand that are shared the more, the earlier or later they come.
struct Order {
    provider: Turn,
    /// The initial RAM disk comes before the container runtime, so that another Kubernetes leaves it as
    /// it is. What nodekiln itself adds from there on is none of its business; what a recipe's scripts
    /// and removals and a provider's files change may be. A provider's packages see to it themselves.
    initramfs_early: bool,
}

/// When a provider's layer has its turn. It comes as late as it may, so that providers share everything
/// below; a script or a removal that image-builder's order has after it may depend on it, and so comes
/// after it here as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Where image-builder has it.
    BeforeRuntime,
    /// Before the recipe's last scripts and removals.
    BeforePost,
    /// After all but the boot loader's menu and sysprep.
    Last,
}

impl Order {
    fn of(recipe: &Recipe, spec: &ProviderSpec) -> Self {
        let has = |hook: Hook| recipe.scripts.get(&hook).is_some_and(|scripts| !scripts.is_empty());
        let amid_runtime = [Hook::Containerd, Hook::Kubernetes].into_iter().any(has);
        let post = has(Hook::Post) || recipe.remove != crate::recipe::Remove::default();
        let layer = *spec != ProviderSpec::default();
        let read = spec.files.iter().any(|file| !is_beside_initramfs(&file.path));
        Self {
            provider: match (has(Hook::Provider), layer) {
                (true, _) => Turn::BeforeRuntime,
                (false, true) if amid_runtime => Turn::BeforeRuntime,
                (false, true) if post => Turn::BeforePost,
                (false, _) => Turn::Last,
            },
            initramfs_early: !amid_runtime && !post && !read,
        }
    }
}

/// Whether no hook of initramfs-tools reads what stands at `path`: folders of cloud-init, the container
/// runtime, Kubernetes, time service, agents and systemd, and what people keep apart from the system.
fn is_beside_initramfs(path: &str) -> bool {
    const FILES: [&str; 2] = ["/etc/hosts", "/etc/waagent.conf"];
    const FOLDERS: [&str; 10] = [
        "/etc/chrony/",
        "/etc/cloud/",
        "/etc/containerd/",
        "/etc/kubernetes/",
        "/etc/ssh/",
        "/etc/systemd/system/",
        "/etc/vmware-tools/",
        "/home/",
        "/opt/",
        "/srv/",
    ];
    FILES.contains(&path) || FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// The seed of an image: UUIDv5 of its name below a name space that is itself derived.
fn seed_of(name: &str) -> Uuid {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://nodekiln.io/image-seed");
    Uuid::new_v5(&space, name.as_bytes())
}

/// The tree with the container runtime and Kubernetes.
struct Runtime {
    /// Its topmost node.
    tree: String,
    /// The node below Kubernetes, which changes often and is small beside what lies below.
    base: String,
}

/// The nodes that Kubernetes comes from.
struct KubernetesNodes {
    /// The one that has its programs.
    binaries: String,
    /// The one that has kubeadm.
    kubeadm: String,
    /// Those that have archives of its images.
    archives: Vec<String>,
}

struct Planning<'a> {
    recipe: &'a Recipe,
    lock: &'a Lock,
    digest_of: &'a dyn Fn(&Content) -> Result<Sha256>,
    source_date: SourceDate,
    seed: Uuid,
    nodes: Vec<Node>,
}

impl Planning<'_> {
    /// Adds a node and returns its name; a node with the same id is shared instead.
    fn add(&mut self, name: &str, work: Work, below: Option<&str>, uses: &[&str]) -> String {
        let id_of = |name: &str| self.nodes.iter().find(|node| node.name == name).map(|n| n.id);
        let below_id = below.and_then(id_of);
        let used: Vec<NodeId> = uses.iter().filter_map(|name| id_of(name)).collect();
        let preimage = Node::preimage(&work, self.source_date, below_id, &used);
        let id = NodeId(Sha256::of(preimage));
        if let Some(same) = self.nodes.iter().find(|node| node.id == id) {
            return same.name.clone();
        }
        let name = self.free_name(name);
        self.nodes.push(Node {
            name: name.clone(),
            work,
            below: below.map(str::to_owned),
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
            id,
        });
        name
    }

    /// How many layers the tree that ends with the node `name` has.
    fn layers(&self, name: &str) -> usize {
        let node = |name: &str| self.nodes.iter().find(|node| node.name == name);
        let chain = std::iter::successors(node(name), |node_above| {
            node_above.below.as_deref().and_then(node)
        });
        chain.filter(|node| node.work.makes_layer()).count()
    }

    /// `name`, or `name` with a number where providers differ in a node of that name.
    fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        if !taken(name) {
            return name.to_owned();
        }
        (2..).map(|n| format!("{name}~{n}")).find(|name| !taken(name)).unwrap_or_default()
    }

    /// The release and the packages of a tree.
    fn tree(&self, name: &str) -> Result<(String, Vec<PlannedPackage>)> {
        let tree = self.lock.trees.get(name).ok_or_else(|| {
            Failure::input(format!("the lock has no packages for the tree `{name}`"))
                .with_help("the lock belongs to another recipe; build again")
        })?;
        Ok((tree.release.clone(), tree.packages.iter().map(PlannedPackage::from).collect()))
    }

    fn operating_system(&mut self) -> Result<String> {
        let recipe = self.recipe;
        let (release, packages) = self.tree(tree_name::IMAGE)?;
        let work = Work::Packages { release, packages, holds: recipe.holds.clone() };
        let mut tree = self.add("packages", work, None, &[]);
        tree = self.scripts(tree, Hook::Pre)?;
        tree = self.settings(tree)?;
        if !recipe.users.is_empty() {
            tree = self.add("users", Work::Users { users: recipe.users.clone() }, Some(&tree), &[]);
        }
        tree = self.files("files", tree, &recipe.files)?;
        tree = self.units("units", tree, &recipe.units);
        self.scripts(tree, Hook::Node)
    }

    /// Kernel modules and parameters, as files of ours.
    fn settings(&mut self, tree: String) -> Result<String> {
        let mut files = Vec::new();
        let mut add = |path: &str, text: String| {
            files.push(FileStep {
                path: path.to_owned(),
                node: FileNode::File(Content::Inline(text)),
                mode: 0o644,
                owner: "root".to_owned(),
                group: "root".to_owned(),
            });
        };
        if !self.recipe.modules.is_empty() {
            let lines = self.recipe.modules.iter().map(|module| format!("{module}\n"));
            add(MODULES_FILE, lines.collect());
        }
        if !self.recipe.sysctls.is_empty() {
            let lines = self.recipe.sysctls.iter().map(|(key, value)| format!("{key} = {value}\n"));
            add(SYSCTL_FILE, lines.collect());
        }
        self.files("settings", tree, &files)
    }

    fn files(&mut self, name: &str, tree: String, files: &[FileStep]) -> Result<String> {
        if files.is_empty() {
            return Ok(tree);
        }
        let files = files.iter().map(|file| self.planned(file)).collect::<Result<_>>()?;
        Ok(self.add(name, Work::Files { files }, Some(&tree), &[]))
    }

    fn planned(&self, file: &FileStep) -> Result<PlannedFile> {
        let node = match &file.node {
            FileNode::File(content) => PlannedFileNode::File((self.digest_of)(content)?),
            FileNode::Directory => PlannedFileNode::Directory,
            FileNode::Link(target) => PlannedFileNode::Link(target.clone()),
        };
        Ok(PlannedFile {
            path: file.path.clone(),
            node,
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
        })
    }

    fn units(&mut self, name: &str, tree: String, units: &Units) -> String {
        if *units == Units::default() {
            return tree;
        }
        self.add(name, Work::Units { units: units.clone() }, Some(&tree), &[])
    }

    fn scripts(&mut self, mut tree: String, hook: Hook) -> Result<String> {
        let recipe = self.recipe;
        for script in recipe.scripts.get(&hook).map_or(&[][..], Vec::as_slice) {
            tree = self.script(&tree, hook, script)?;
        }
        Ok(tree)
    }

    fn script(&mut self, tree: &str, hook: Hook, script: &Script) -> Result<String> {
        let work = Work::Script {
            hook,
            name: script.name.clone(),
            content: (self.digest_of)(&script.content)?,
            environment: script.environment.clone(),
        };
        Ok(self.add(&format!("script/{}/{}", hook.as_str(), script.name), work, Some(tree), &[]))
    }

    fn provider(&mut self, tree: &str, provider: &str, spec: &ProviderSpec) -> Result<String> {
        let mut tree = tree.to_owned();
        if !spec.packages.is_empty() {
            let (_, packages) = self.tree(&tree_name::of_provider(provider))?;
            // None where the image has them all itself.
            if !packages.is_empty() {
                let work = Work::AddedPackages { packages };
                tree = self.add(&format!("provider/{provider}/packages"), work, Some(&tree), &[]);
            }
        }
        let tree = self.files(&format!("provider/{provider}/files"), tree, &spec.files)?;
        let tree = self.units(&format!("provider/{provider}/units"), tree, &spec.units);
        self.scripts(tree, Hook::Provider)
    }

    fn runtime(&mut self, tree: &str) -> Result<Runtime> {
        let recipe = self.recipe;
        let mut tree = tree.to_owned();
        let version = recipe.kubernetes.as_ref().map(|kubernetes| kubernetes.version);
        if let Some(containerd) = &recipe.containerd {
            let work = Work::Containerd {
                kubernetes: version,
                cgroup_driver: containerd.cgroup_driver,
                sandbox_image: containerd
                    .sandbox_image
                    .clone()
                    .or_else(|| self.lock.pause().map(str::to_owned)),
            };
            tree = self.add("containerd", work, Some(&tree), &[]);
        }
        tree = self.scripts(tree, Hook::Containerd)?;
        let kubernetes = recipe.kubernetes.as_ref().map(|k| self.kubernetes(k)).transpose()?;
        let mut uses: Vec<String> =
            kubernetes.iter().flat_map(|nodes| nodes.archives.clone()).collect();
        if !recipe.images.is_empty() {
            uses.push(self.fetched_images("images/extra", |reference| {
                recipe.images.iter().any(|extra| extra == reference)
            }));
        }
        if recipe.containerd.is_some() && !uses.is_empty() {
            // kubeadm is asked for its list; the tree need not have it yet.
            uses.extend(kubernetes.iter().map(|nodes| nodes.kubeadm.clone()));
            tree = self.preload(&tree, &uses);
        }
        let mut base = None;
        if let (Some(kubernetes), Some(nodes)) = (&recipe.kubernetes, &kubernetes) {
            base = Some(tree.clone());
            let work = Work::KubernetesInstall { version: kubernetes.version };
            tree = self.add("kubernetes", work, Some(&tree), &[&nodes.binaries]);
        }
        let tree = self.scripts(tree, Hook::Kubernetes)?;
        Ok(Runtime { base: base.unwrap_or_else(|| tree.clone()), tree })
    }

    fn preload(&mut self, tree: &str, uses: &[String]) -> String {
        let recipe = self.recipe;
        let (repository, source) = recipe.kubernetes.as_ref().map_or_else(
            || (String::new(), String::new()),
            |k| (k.image_repository.clone(), k.source.as_str().to_owned()),
        );
        let work = Work::Preload {
            kubernetes: recipe.kubernetes.as_ref().map(|kubernetes| kubernetes.version),
            source,
            image_repository: repository,
            kubeadm_images: self.lock.kubeadm_images.clone(),
            images: recipe.images.clone(),
        };
        let uses: Vec<&str> = uses.iter().map(String::as_str).collect();
        self.add("preload", work, Some(tree), &uses)
    }

    fn kubernetes(&mut self, kubernetes: &Kubernetes) -> Result<KubernetesNodes> {
        let version = kubernetes.version;
        match &kubernetes.source {
            KubernetesSource::Source { .. } => {
                let (release, packages) = self.tree(tree_name::COMPILER)?;
                let work = Work::Packages { release, packages, holds: Vec::new() };
                let below = self.add(tree_name::COMPILER, work, None, &[]);
                let sources = self.locked_files("source/");
                let work = Work::KubernetesCompile { version, sources };
                let binaries = self.add("kubernetes/compile", work, Some(&below), &[]);
                let (_, packages) = self.tree(tree_name::CONTROL_PLANE)?;
                let tools =
                    self.add(tree_name::CONTROL_PLANE, Work::ToolsTree { packages }, None, &[]);
                let images = self.lock.kubeadm_images.clone();
                let work = Work::ControlPlaneImages { version, images };
                let images = self.add("kubernetes/images", work, None, &[&binaries, &tools]);
                Ok(KubernetesNodes { kubeadm: binaries.clone(), binaries, archives: vec![images] })
            }
            KubernetesSource::Directory { .. } | KubernetesSource::Release { .. } => {
                let files = self.locked_files("kubernetes/");
                let files = files.into_iter().map(|(name, file)| (name, file.sha256));
                let (archives, programs): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    files.partition(|(name, _): &(String, Sha256)| name.starts_with("images/"));
                // A node of its own, so that another kubelet is none of the preload's business.
                let kubeadm = programs.iter().filter(|(name, _)| *name == "bin/kubeadm");
                let kubeadm = kubeadm.map(|(name, digest)| (name.clone(), *digest)).collect();
                let mut add = |name: &str, files| {
                    self.add(name, Work::KubernetesFiles { version, files }, None, &[])
                };
                let binaries = add("kubernetes/files", programs);
                let kubeadm = add("kubernetes/kubeadm", kubeadm);
                let mut images = Vec::new();
                if !archives.is_empty() {
                    images.push(add("kubernetes/archives", archives));
                }
                let (extras, lock) = (&self.recipe.images, self.lock);
                let is_own = |reference: &str| !extras.iter().any(|extra| extra == reference);
                if lock.images.keys().any(|reference| is_own(reference)) {
                    images.push(self.fetched_images("kubernetes/images", is_own));
                }
                Ok(KubernetesNodes { binaries, kubeadm, archives: images })
            }
        }
    }

    fn fetched_images(&mut self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let images = self.lock.images.iter().filter(|(reference, _)| wanted(reference));
        let images: BTreeMap<_, _> = images.map(|(r, image)| (r.clone(), image.clone())).collect();
        self.add(name, Work::FetchedImages { images }, None, &[])
    }

    /// The lock's files whose name begins with `prefix`, without it.
    fn locked_files(&self, prefix: &str) -> BTreeMap<String, crate::lock::LockedFile> {
        let files = self.lock.files.iter();
        files
            .filter_map(|(name, file)| Some((name.strip_prefix(prefix)?.to_owned(), file.clone())))
            .collect()
    }

    fn post(&mut self, tree: &str) -> Result<String> {
        let recipe = self.recipe;
        let tree = self.scripts(tree.to_owned(), Hook::Post)?;
        if recipe.remove != crate::recipe::Remove::default() {
            let work = Work::Remove {
                packages: recipe.remove.packages.clone(),
                paths: recipe.remove.paths.clone(),
            };
            return Ok(self.add("remove", work, Some(&tree), &[]));
        }
        Ok(tree)
    }

    fn initramfs(&mut self, tree: &str) -> String {
        match self.recipe.kernel.package {
            Some(_) => self.add("initramfs", Work::Initramfs, Some(tree), &[]),
            None => tree.to_owned(),
        }
    }

    fn finishing(&mut self, tree: &str, spec: &ProviderSpec) -> Result<String> {
        let recipe = self.recipe;
        let mut tree = tree.to_owned();
        if recipe.kernel.package.is_some() {
            let work = Work::Boot {
                boot: recipe.disk.boot,
                kernel_args: [&recipe.kernel.args[..], &spec.kernel_args[..]].concat(),
                seed: self.seed,
            };
            tree = self.add("boot", work, Some(&tree), &[]);
        }
        let written = recipe.files.iter().chain(&spec.files);
        let keep = written.map(|file| file.path.clone()).collect();
        tree = self.add("sysprep", Work::Sysprep { keep }, Some(&tree), &[]);
        tree = self.scripts(tree, Hook::Sysprep)?;
        self.scripts(tree, Hook::PostSysprep)
    }

    /// The disk over `tree`, whose layers up to `base` are those that change least often.
    fn disk(&mut self, provider: &str, tree: &str, base: &str) -> Result<String> {
        let (_, packages) = self.tree(tree_name::DISK)?;
        let tools = self.add(tree_name::DISK, Work::ToolsTree { packages }, None, &[]);
        let recipe = self.recipe;
        let work = Work::Disk {
            size: recipe.disk.size,
            boot: recipe.kernel.package.is_some().then_some(recipe.disk.boot),
            seed: self.seed,
            base: self.layers(base),
        };
        let shared = !self.nodes.iter().any(|node| node.name == "disk");
        let name = if shared { "disk".to_owned() } else { format!("disk@{provider}") };
        Ok(self.add(&name, work, Some(tree), &[&tools]))
    }
}
