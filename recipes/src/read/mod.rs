//! The merged document to a typed [`Recipe`]: defaults, what is missing, what does not go together.
//!
//! Single values were held against their kinds before merging, file by file. What is found here
//! concerns several values at once, or the files beside the recipe.

mod files;
mod kubernetes;
mod scripts;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::Node;
use crate::recipe::{
    Architecture, BootMode, Containerd, DiskSpec, Family, Kernel, Os, ProviderSpec, Recipe, Remove,
    RootFileSystem, User,
};
use crate::source::{Origin, Sources, Span};

/// Size of a disk whose recipe names none: the smallest that holds a node with its images.
const DEFAULT_DISK: nodekiln_words::Bytes = nodekiln_words::Bytes(4 * nodekiln_words::Bytes::GIB);

/// Reads the typed recipe out of `node`. `None` only where `problems` has an error.
pub(crate) fn read(sources: &Sources, node: &Node, problems: &mut Diagnostics) -> Option<Recipe> {
    let already_wrong = problems.has_errors();
    let mut reader = Reader { sources, problems, already_wrong };
    let recipe = reader.recipe(node);
    if recipe.is_none() && !problems.has_errors() {
        problems.push(Diagnostic::error(sources, node.span, "this recipe cannot be read"));
    }
    recipe
}

struct Reader<'a> {
    sources: &'a Sources,
    problems: &'a mut Diagnostics,
    /// A file's own check found something, so a value that does not parse has been reported.
    already_wrong: bool,
}

impl Reader<'_> {
    fn recipe(&mut self, node: &Node) -> Option<Recipe> {
        // Every part is read before any `?`, so that all problems are found in one go.
        let name = self.required(node, node, "name", "name: my-image");
        let os = self.os(node);
        let source_date =
            self.required(node, node, "source-date", "source-date: 2026-11-01T00:00:00Z");
        let source_date = source_date.and_then(|node| self.parsed(node));
        let kubernetes = node.get("kubernetes").map(|_| self.kubernetes(node));
        let containerd = self.containerd(node, kubernetes.is_some());
        let users = self.each(node, "users", Self::user);
        let files = self.each(node, "files", Self::file);
        let scripts = self.scripts(node);
        let units = self.units(node);
        let disk = self.disk(node.get("disk"));
        let providers = self.providers(node);
        Some(Recipe {
            name: name.and_then(text_of)?,
            description: node.text("description").unwrap_or_default().to_owned(),
            os: os?,
            source_date: source_date?,
            kubernetes: match kubernetes {
                Some(kubernetes) => Some(kubernetes?),
                None => None,
            },
            containerd: containerd?,
            packages: texts(node, "packages"),
            holds: holds(node),
            modules: texts(node, "modules"),
            sysctls: map_of_texts(node.get("sysctls")),
            users: users?,
            files: files?,
            units,
            scripts: scripts?,
            images: texts(node, "images"),
            remove: remove(node),
            kernel: kernel(node),
            disk: disk?,
            providers: providers?,
        })
    }

    fn os(&mut self, node: &Node) -> Option<Os> {
        let Some(os) = node.get("os") else {
            self.missing(node.span, "os.release", "os: { release: bookworm }");
            return None;
        };
        let release = self.required(node, os, "os.release", "os: { release: bookworm }");
        let family = self.choice(os.get("family"), Family::Debian);
        let architecture = self.choice(os.get("architecture"), Architecture::Amd64);
        let keyring = self.optional(os.get("keyring"), Self::local_file);
        let components = texts(os, "components");
        Some(Os {
            family: family?,
            release: release.and_then(text_of)?,
            architecture: architecture?,
            components: if components.is_empty() { vec!["main".to_owned()] } else { components },
            mirrors: texts(os, "mirrors"),
            snapshots: texts(os, "snapshots"),
            keyring: keyring?,
        })
    }

    fn containerd(&mut self, node: &Node, wanted: bool) -> Option<Option<Containerd>> {
        let settings = node.get("containerd");
        if settings.is_none() && !wanted {
            return Some(None);
        }
        let driver = settings.and_then(|node| node.get("cgroup-driver"));
        let cgroup_driver = self.choice(driver, crate::recipe::CgroupDriver::Auto)?;
        let sandbox_image = settings.and_then(|node| node.text("sandbox-image")).map(str::to_owned);
        Some(Some(Containerd { cgroup_driver, sandbox_image }))
    }

    fn user(&mut self, node: &Node) -> Option<User> {
        let system = node.text("system").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let shell = if system { "/usr/sbin/nologin" } else { "/bin/bash" };
        Some(User {
            name: node.text("name")?.to_owned(),
            uid: self.optional(node.get("uid"), Self::parsed)?,
            groups: texts(node, "groups"),
            shell: node.text("shell").unwrap_or(shell).to_owned(),
            home: node.text("home").map(str::to_owned),
            system,
            ssh_authorized_keys: texts(node, "ssh-authorized-keys"),
        })
    }

    fn disk(&mut self, node: Option<&Node>) -> Option<DiskSpec> {
        let value = |key| node.and_then(|node| node.get(key));
        let size = self.optional(value("size"), Self::parsed);
        let root = self.choice(value("root"), RootFileSystem::Ext4);
        let boot = self.choice(value("boot"), BootMode::Hybrid);
        Some(DiskSpec { size: size?.unwrap_or(DEFAULT_DISK), root: root?, boot: boot? })
    }

    fn providers(&mut self, node: &Node) -> Option<BTreeMap<String, ProviderSpec>> {
        let entries = node.get("providers").map(Node::entries).unwrap_or_default();
        let mut providers = Some(BTreeMap::new());
        for entry in entries {
            let files = self.each(&entry.node, "files", Self::file);
            let units = self.units(&entry.node);
            let Some(files) = files else {
                providers = None;
                continue;
            };
            let spec = ProviderSpec {
                packages: texts(&entry.node, "packages"),
                files,
                kernel_args: texts(&entry.node, "kernel-args"),
                units,
            };
            providers.as_mut().map(|providers| providers.insert(entry.key.clone(), spec));
        }
        providers
    }

    /// The items of the list at `key`, all of them read even after one that fails.
    fn each<T>(
        &mut self,
        node: &Node,
        key: &str,
        mut read: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = node.get(key).map(Node::items).unwrap_or_default();
        let read: Vec<Option<T>> = items.iter().map(|item| read(self, item)).collect();
        read.into_iter().collect()
    }

    /// The outer `None` stands for a failure, the inner one for an absent value.
    #[expect(clippy::option_option, reason = "a problem has been reported, or nothing was written")]
    fn optional<T>(
        &mut self,
        node: Option<&Node>,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<Option<T>> {
        match node {
            None => Some(None),
            Some(node) => read(self, node).map(Some),
        }
    }

    /// The value at the last part of `path`; its absence is shown at the mapping, or at the recipe's
    /// first line where the mapping stands in a parent.
    fn required<'n>(
        &mut self,
        root: &Node,
        node: &'n Node,
        path: &str,
        example: &str,
    ) -> Option<&'n Node> {
        let key = path.rsplit('.').next().unwrap_or(path);
        let found = node.get(key);
        if found.is_none() {
            let in_parent = self.sources.is_parent_of(node.span.source, root.span.source);
            self.missing(if in_parent { root.span } else { node.span }, path, example);
        }
        found
    }

    fn missing(&mut self, span: Span, key: &str, example: &str) {
        let span = Span { length: 1, ..span };
        self.report(span, format!("`{key}` is missing"), "not given here or in a parent", || {
            format!("add `{example}`")
        });
    }

    fn report(&mut self, span: Span, message: String, label: &str, help: impl FnOnce() -> String) {
        self.problems
            .error(|| Diagnostic::error(self.sources, span, message).label(label).help(help()));
    }

    fn parsed<T: FromStr>(&mut self, node: &Node) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let parsed = node.scalar()?.text.parse::<T>();
        parsed.map_err(|error| self.unreadable(node, &error.to_string())).ok()
    }

    fn choice<T: DeserializeOwned>(&mut self, node: Option<&Node>, default: T) -> Option<T> {
        let Some(node) = node else { return Some(default) };
        let word = serde_json::Value::String(node.scalar()?.text.clone());
        serde_json::from_value(word).map_err(|e| self.unreadable(node, &e.to_string())).ok()
    }

    fn unreadable(&mut self, node: &Node, message: &str) {
        if !self.already_wrong {
            self.problems.error(|| Diagnostic::error(self.sources, node.span, message));
        }
    }

    /// The absolute path of what a relative path means in the text that holds it.
    fn local_path(&mut self, node: &Node) -> Option<PathBuf> {
        let written = Path::new(&node.scalar()?.text);
        let folder = match self.sources.get(node.span.source).map(|source| &source.origin) {
            Some(Origin::File(path)) => path.parent().map(Path::to_path_buf),
            Some(Origin::Argument) => std::env::current_dir().ok(),
            _ => None,
        };
        match folder {
            _ if written.is_absolute() => Some(written.to_path_buf()),
            Some(folder) => Some(folder.join(written)),
            None => {
                let message = format!("`{}` has nothing to be relative to", written.display());
                self.report(node.span, message, "a relative path", || {
                    "write an absolute path; library recipes have no folder".to_owned()
                });
                None
            }
        }
    }

    fn local_file(&mut self, node: &Node) -> Option<PathBuf> {
        self.existing(node, "file", Path::is_file)
    }

    fn local_directory(&mut self, node: &Node) -> Option<PathBuf> {
        self.existing(node, "directory", Path::is_dir)
    }

    fn existing(
        &mut self,
        node: &Node,
        noun: &str,
        is_there: impl FnOnce(&Path) -> bool,
    ) -> Option<PathBuf> {
        let path = self.local_path(node)?;
        // Links and `..` are resolved now, so that the plan names the file that is meant.
        let found = path.canonicalize().ok().filter(|path| is_there(path));
        let written = node.scalar().map_or("", |scalar| scalar.text.as_str());
        let Some(found) = found else {
            let message = format!("there is no {noun} `{written}`");
            self.report(node.span, message, "not found", || {
                format!(
                    "looked for {}; relative paths start at this recipe's folder",
                    path.display()
                )
            });
            return None;
        };
        if found.to_str().is_none() {
            // A resolved recipe is text, and has to name it.
            let message = format!("the path of the {noun} `{written}` is not UTF-8");
            let label = format!("leads to {}", found.display());
            self.report(node.span, message, &label, || {
                format!("rename it, or move the {noun} elsewhere")
            });
            return None;
        }
        Some(found)
    }
}

fn text_of(node: &Node) -> Option<String> {
    node.scalar().map(|scalar| scalar.text.clone())
}

fn texts(node: &Node, key: &str) -> Vec<String> {
    node.get(key).map(Node::items).unwrap_or_default().iter().filter_map(text_of).collect()
}

fn map_of_texts(node: Option<&Node>) -> BTreeMap<String, String> {
    let entries = node.map(Node::entries).unwrap_or_default();
    entries.iter().filter_map(|e| Some((e.key.clone(), text_of(&e.node)?))).collect()
}

/// What is written, and the kernel: whoever exchanges `kernel.package` cannot leave a hold behind
/// that names the former one.
fn holds(node: &Node) -> Vec<String> {
    let mut holds = texts(node, "holds");
    if let Some(package) = kernel(node).package.filter(|package| !holds.contains(package)) {
        holds.push(package);
    }
    holds
}

fn remove(node: &Node) -> Remove {
    let list = |key| node.get("remove").map(|remove| texts(remove, key)).unwrap_or_default();
    Remove { packages: list("packages"), paths: list("paths") }
}

fn kernel(node: &Node) -> Kernel {
    let kernel = node.get("kernel");
    Kernel {
        package: kernel.and_then(|kernel| kernel.text("package")).map(str::to_owned),
        args: kernel.map(|kernel| texts(kernel, "args")).unwrap_or_default(),
    }
}
