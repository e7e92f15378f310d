//! containerd's configuration as the containerd of the tree reads it.
//!
//! `config.toml` imports further files, and later ones win. Where a setting stands depends on the file's `version`:
//! up to 2 all of CRI is one plugin, from 3 on images and runtime are two. A key in a section of the other layout is
//! skipped with no more than a line in the log, so each such key is one of [`Settings::problems`], beside what
//! containerd refuses. Source: containerd's docs/man/containerd-config.toml.5.md, docs/cri/config.md and
//! docs/containerd-2.0.md; `LoadConfig` and `mergeConfig` of services/server/config/config.go (1.6, 1.7) and
//! cmd/containerd/server/config/config.go (2.x).

mod layout;
mod release;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nodekiln_words::Result;
use toml::{Table, Value};

use super::Tree;
pub use layout::{CRI_V2, IMAGES_V3, RUNTIME_V3};
use layout::{Layout, Setting};
pub use release::Release;

/// The main file, where no `--config` names another.
pub const CONFIG: &str = "/etc/containerd/config.toml";
/// Built-in defaults, the same from 1.6 to 2.2 (`defaults/defaults_unix.go`, internal/cri/config/config_unix.go).
const ROOT: &str = "/var/lib/containerd";
const STATE: &str = "/run/containerd";
const SOCKET: &str = "/run/containerd/containerd.sock";
const CNI_BIN: &str = "/opt/cni/bin";
const CNI_CONF: &str = "/etc/cni/net.d";
const RUNTIME: &str = "runc";
const RUNTIME_TYPE: &str = "io.containerd.runc.v2";
/// From this release on imports are laid over sections, and the built-in runtime stays beside named ones.
const MERGES_SECTIONS: Release = Release { major: 2, minor: 0 };
/// Most files of one configuration: imports cannot lead in circles, and a glob can match many.
const MOST_FILES: usize = 100;

/// What the configuration sets, with containerd's own defaults where it is silent.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The containerd that reads it, where its version is known.
    pub release: Option<Release>,
    /// The files it is made of, in the order in which they are read; none where there is no `config.toml`.
    pub files: Vec<String>,
    /// `version` of the main file; 1 where it has none.
    pub schema: i64,
    /// What containerd refuses or skips: path, key and why.
    pub problems: Vec<String>,
    /// The sandbox ("pause") image; nothing where containerd's built-in one counts.
    pub sandbox_image: Option<String>,
    /// Runtimes by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// Name of the runtime of pods that ask for none.
    pub default_runtime: String,
    /// Where registries' hosts files are, where it is set.
    pub registry_config_path: Option<String>,
    /// The snapshotter, `overlayfs` unless another is set.
    pub snapshotter: String,
    /// Whether layers leave the content store once they are unpacked.
    pub discards_layers: bool,
    /// Folder of what stays.
    pub root: String,
    /// Folder of what goes with a reboot.
    pub state: String,
    /// The socket of the API.
    pub socket: String,
    /// Folders of the CNI plugins.
    pub cni_bin: Vec<String>,
    /// Folder of the networks' configuration.
    pub cni_conf: String,
}

/// How a runtime is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `runtime_type`.
    pub kind: String,
    /// `SystemdCgroup`: whether systemd makes its cgroups. False where it is not set.
    pub systemd_cgroup: bool,
}

impl Settings {
    /// Reads the configuration of the containerd in `tree`. That it is wrong is among its problems.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub fn of(tree: &Tree) -> Result<Self> {
        Self::read_by(tree, Release::of(tree)?)
    }

    /// As [`Settings::of`], as the containerd `release` reads it.
    ///
    /// # Errors
    /// As [`Settings::of`].
    pub fn read_by(tree: &Tree, release: Option<Release>) -> Result<Self> {
        let (files, merged, problems) = (Vec::new(), Table::new(), Vec::new());
        let mut reading = Reading { tree, release, files, merged, problems };
        reading.files()?; // 1. every file, in order
        reading.check(); // 2. what containerd refuses, and what it skips
        Ok(reading.settings()) // 3. what is left
    }

    /// The runtime of pods that ask for none.
    #[must_use]
    pub fn runtime(&self) -> Option<&Runtime> {
        self.runtimes.get(&self.default_runtime)
    }

    /// The file that says most: what evidence names.
    #[must_use]
    pub fn path(&self) -> &str {
        self.files.first().map_or(CONFIG, String::as_str)
    }
}

/// A configuration being read.
struct Reading<'a> {
    tree: &'a Tree<'a>,
    release: Option<Release>,
    files: Vec<(String, Table)>,
    /// All of them, merged.
    merged: Table,
    problems: Vec<String>,
}

impl Reading<'_> {
    fn files(&mut self) -> Result<()> {
        let mut pending = VecDeque::new();
        if self.tree.resolve(CONFIG).is_some() {
            pending.push_back(CONFIG.to_owned());
        }
        let mut seen = BTreeSet::new();
        while let Some(path) = pending.pop_front() {
            if !seen.insert(path.clone()) {
                continue;
            }
            if seen.len() > MOST_FILES {
                self.problems.push(format!("{CONFIG} imports more than {MOST_FILES} files"));
                return Ok(());
            }
            let Some(table) = self.file(&path)? else { continue };
            pending.extend(self.imports(&path, &table));
            self.merge(&table);
            self.files.push((path, table));
        }
        Ok(())
    }

    fn file(&mut self, path: &str) -> Result<Option<Table>> {
        let Some(text) = self.tree.text(path)? else {
            self.problems.push(format!("{path} is imported and is no file"));
            return Ok(None);
        };
        match text.parse::<Table>() {
            Ok(table) => Ok(Some(table)),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
                let told = error.message().replace('\n', ", ");
                self.problems.push(format!("{path} is no TOML, line {line}: {told}"));
                Ok(None)
            }
        }
    }

    /// The files that `table` at `path` imports: a name with `*` stands for all that match it, any other for one.
    fn imports(&self, path: &str, table: &Table) -> Vec<String> {
        let named = table.get("imports").and_then(Value::as_array);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let absolute = |name: &str| match name.starts_with('/') {
            true => name.to_owned(),
            false => format!("{folder}/{name}"),
        };
        let names = named.into_iter().flatten().filter_map(Value::as_str).map(absolute);
        let tree = self.tree;
        names
            .flat_map(|name| match name.contains('*') {
                true => tree.glob_with_dots(&name),
                false => vec![name],
            })
            .collect()
    }

    /// Lays `table` over what was read before. Lists grow; up to 1.7 a plugin's section replaces that of the
    /// same plugin, from 2.0 on it is laid over it key by key (containerd#9982).
    fn merge(&mut self, table: &Table) {
        let whole = self.release.is_some_and(|release| release < MERGES_SECTIONS);
        for (key, value) in table {
            let before = self.merged.get_mut(key);
            match (before, value) {
                (Some(Value::Table(before)), Value::Table(after)) if key == "plugins" && whole => {
                    before.extend(after.clone());
                }
                (Some(Value::Table(before)), Value::Table(after)) => lay_over(before, after),
                (Some(Value::Array(before)), Value::Array(after)) => {
                    before.extend(after.iter().cloned());
                }
                // The main file's version is that of all.
                (Some(_), _) if key == "version" => {}
                _ => {
                    self.merged.insert(key.clone(), value.clone());
                }
            }
        }
    }

    fn schema(&self) -> i64 {
        self.merged.get("version").and_then(Value::as_integer).unwrap_or(1)
    }

    fn layout(&self) -> &'static Layout {
        Layout::of(self.schema())
    }

    fn check(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let schema = self.schema();
        self.check_versions(schema);
        let mut found = Vec::new();
        for (path, table) in &self.files {
            found.extend(plugin_names(path, table, schema));
            found.extend(disabled(path, table));
            found.extend(Layout::misplaced(path, table, self.layout(), self.release));
        }
        self.problems.extend(found);
        for setting in Setting::ALL {
            if let (place, Some(value)) = self.find(setting)
                && !setting.takes(value)
            {
                let (path, at) = (self.origin(&place), place.join("."));
                self.problems.push(format!("{path}: {at} is no {}", setting.kind()));
            }
        }
    }

    fn check_versions(&mut self, schema: i64) {
        let main = self.files.first().map_or(CONFIG, |(path, _)| path).to_owned();
        if let Some(release) = self.release
            && let Some(most) = release.newest_schema()
            && schema > most
        {
            self.problems.push(format!(
                "{main} has version = {schema}, and containerd {release} reads up to {most}"
            ));
        }
        for (path, table) in self.files.iter().skip(1) {
            let own = table.get("version").and_then(Value::as_integer).unwrap_or(schema);
            if own > schema {
                self.problems.push(format!("{path} has version = {own}, above {schema} of {main}"));
            }
        }
    }

    /// Where a setting stands in this layout, and its value.
    fn find(&self, setting: Setting) -> (Vec<String>, Option<&Value>) {
        let place = self.layout().place(setting, self.schema());
        let value = value_at(&self.merged, &place);
        (place, value)
    }

    fn text(&self, setting: Setting) -> Option<String> {
        Some(self.find(setting).1?.as_str()?.to_owned())
    }

    /// The file that says last what stands at `place`.
    fn origin(&self, place: &[String]) -> &str {
        let mut files = self.files.iter().rev();
        let found = files.find(|(_, table)| value_at(table, place).is_some());
        found.map_or(CONFIG, |(path, _)| path)
    }

    fn settings(self) -> Settings {
        let top = |section: &[&str], default: &str| {
            let place: Vec<String> = section.iter().map(|key| (*key).to_owned()).collect();
            let value = value_at(&self.merged, &place).and_then(Value::as_str);
            value.filter(|value| !value.is_empty()).unwrap_or(default).to_owned()
        };
        let (root, state) = (top(&["root"], ROOT), top(&["state"], STATE));
        // The second is that of version 4.
        let server = top(&["plugins", "io.containerd.server.v1.grpc", "address"], SOCKET);
        let socket = top(&["grpc", "address"], &server);
        let or = |setting, default: &str| self.text(setting).unwrap_or_else(|| default.to_owned());
        let discards = self.find(Setting::DiscardLayers).1.and_then(Value::as_bool);
        let several = self.find(Setting::CniBins).1.and_then(Value::as_array);
        let several: Vec<String> =
            several.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Settings {
            release: self.release,
            schema: self.schema(),
            sandbox_image: self.text(Setting::SandboxImage).filter(|image| !image.is_empty()),
            runtimes: self.runtimes(),
            default_runtime: or(Setting::DefaultRuntime, RUNTIME),
            registry_config_path: self
                .text(Setting::RegistryConfig)
                .filter(|path| !path.is_empty()),
            snapshotter: or(Setting::Snapshotter, "overlayfs"),
            discards_layers: discards.unwrap_or(false),
            cni_bin: match several.is_empty() {
                true => vec![or(Setting::CniBin, CNI_BIN)],
                false => several,
            },
            cni_conf: or(Setting::CniConf, CNI_CONF),
            root,
            state,
            socket,
            files: self.files.into_iter().map(|(path, _)| path).collect(),
            problems: self.problems,
        }
    }

    /// The runtimes that are named, and the built-in runc. Up to 1.7 that goes where others are named
    /// (containerd#7982).
    fn runtimes(&self) -> BTreeMap<String, Runtime> {
        let built_in = Runtime { kind: RUNTIME_TYPE.to_owned(), systemd_cgroup: false };
        let mut runtimes = BTreeMap::from([(RUNTIME.to_owned(), built_in)]);
        let named = self.find(Setting::Runtimes).1.and_then(Value::as_table);
        if named.is_some() && self.release.is_some_and(|release| release < MERGES_SECTIONS) {
            runtimes.clear();
        }
        for (name, section) in named.into_iter().flatten() {
            let option = section.get("options").and_then(|options| options.get("SystemdCgroup"));
            let kind = section.get("runtime_type").and_then(Value::as_str).unwrap_or_default();
            let runtime = Runtime {
                kind: kind.to_owned(),
                systemd_cgroup: option.and_then(Value::as_bool).unwrap_or(false),
            };
            runtimes.insert(name.clone(), runtime);
        }
        runtimes
    }
}

fn lay_over(before: &mut Table, after: &Table) {
    for (key, value) in after {
        match (before.get_mut(key), value) {
            (Some(Value::Table(before)), Value::Table(after)) => lay_over(before, after),
            _ => {
                before.insert(key.clone(), value.clone());
            }
        }
    }
}

fn value_at<'a>(table: &'a Table, place: &[String]) -> Option<&'a Value> {
    let (last, folders) = place.split_last()?;
    let table = folders.iter().try_fold(table, |table, key| table.get(key)?.as_table())?;
    table.get(last)
}

/// Sections below `plugins` that no plugin of version 2 or later is called by.
fn plugin_names(path: &str, table: &Table, schema: i64) -> Vec<String> {
    let sections = table.get("plugins").and_then(Value::as_table);
    let wrong =
        sections.into_iter().flatten().filter(|(name, _)| schema > 1 && !name.contains('.'));
    wrong
        .map(|(name, _)| {
            format!("{path}: [plugins.{name}] is a section of version 1, and the file has {schema}")
        })
        .collect()
}

/// Parts of CRI that are switched off.
fn disabled(path: &str, table: &Table) -> Vec<String> {
    let listed = table.get("disabled_plugins").and_then(Value::as_array);
    let names = listed.into_iter().flatten().filter_map(Value::as_str);
    let cri = ["cri", CRI_V2, IMAGES_V3, RUNTIME_V3];
    let off = names.filter(|name| cri.contains(name));
    off.map(|name| format!("{path}: disabled_plugins has {name}, which the kubelet talks to"))
        .collect()
}

#[cfg(test)]
mod tests;
