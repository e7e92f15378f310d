//! Where settings stand, by the `version` of the file.

use toml::{Table, Value};

use super::{Release, value_at};

/// The one plugin of CRI up to version 2.
pub const CRI_V2: &str = "io.containerd.grpc.v1.cri";
/// Images and runtime, from version 3 on.
pub const IMAGES_V3: &str = "io.containerd.cri.v1.images";
/// As above.
pub const RUNTIME_V3: &str = "io.containerd.cri.v1.runtime";

/// A setting that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    SandboxImage,
    Snapshotter,
    RegistryConfig,
    DefaultRuntime,
    Runtimes,
    CniBin,
    CniBins,
    CniConf,
    DiscardLayers,
}

/// The places of settings: a plugin and the keys within it.
pub(super) struct Layout {
    /// The plugins whose sections it has.
    plugins: &'static [&'static str],
    places: [(&'static str, &'static [&'static str]); 9],
}

static V2: Layout = Layout {
    plugins: &[CRI_V2],
    places: [
        (CRI_V2, &["sandbox_image"]),
        (CRI_V2, &["containerd", "snapshotter"]),
        (CRI_V2, &["registry", "config_path"]),
        (CRI_V2, &["containerd", "default_runtime_name"]),
        (CRI_V2, &["containerd", "runtimes"]),
        (CRI_V2, &["cni", "bin_dir"]),
        (CRI_V2, &["cni", "bin_dirs"]),
        (CRI_V2, &["cni", "conf_dir"]),
        (CRI_V2, &["containerd", "discard_unpacked_layers"]),
    ],
};

static V3: Layout = Layout {
    plugins: &[IMAGES_V3, RUNTIME_V3],
    places: [
        (IMAGES_V3, &["pinned_images", "sandbox"]),
        (IMAGES_V3, &["snapshotter"]),
        (IMAGES_V3, &["registry", "config_path"]),
        (RUNTIME_V3, &["containerd", "default_runtime_name"]),
        (RUNTIME_V3, &["containerd", "runtimes"]),
        (RUNTIME_V3, &["cni", "bin_dir"]),
        (RUNTIME_V3, &["cni", "bin_dirs"]),
        (RUNTIME_V3, &["cni", "conf_dir"]),
        (IMAGES_V3, &["discard_unpacked_layers"]),
    ],
};

impl Setting {
    pub(super) const ALL: [Self; 9] = [
        Self::SandboxImage,
        Self::Snapshotter,
        Self::RegistryConfig,
        Self::DefaultRuntime,
        Self::Runtimes,
        Self::CniBin,
        Self::CniBins,
        Self::CniConf,
        Self::DiscardLayers,
    ];

    /// Whether containerd can make something of `value`.
    pub(super) fn takes(self, value: &Value) -> bool {
        match self {
            Self::Runtimes => value.as_table().is_some_and(|runtimes| {
                runtimes.iter().all(|(_, runtime)| {
                    let option = runtime.get("options").and_then(|all| all.get("SystemdCgroup"));
                    runtime.is_table() && option.is_none_or(Value::is_bool)
                })
            }),
            Self::CniBins => value.is_array(),
            Self::DiscardLayers => value.is_bool(),
            _ => value.is_str(),
        }
    }

    /// What it wants.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Runtimes => "set of runtimes whose SystemdCgroup is true or false",
            Self::CniBins => "list",
            Self::DiscardLayers => "true or false",
            _ => "string",
        }
    }
}

impl Layout {
    /// That of files of version `schema`. containerd 2 moves the keys of older files to their new places.
    pub(super) fn of(schema: i64) -> &'static Self {
        if schema >= 3 { &V3 } else { &V2 }
    }

    /// The keys that lead to a setting. In version 1 the plugin has a short name.
    pub(super) fn place(&self, setting: Setting, schema: i64) -> Vec<String> {
        let (plugin, keys) = self.places[setting as usize];
        let plugin = if schema < 2 { "cri" } else { plugin };
        let keys = ["plugins", plugin].into_iter().chain(keys.iter().copied());
        keys.map(str::to_owned).collect()
    }

    /// Settings of `table` that stand where files of this layout do not have them: in the other layout's plugin, or
    /// in the wrong one of two.
    pub(super) fn misplaced(
        path: &str,
        table: &Table,
        layout: &Self,
        release: Option<Release>,
    ) -> Vec<String> {
        let reader =
            release.map_or("containerd".to_owned(), |release| format!("containerd {release}"));
        let mut found = Vec::new();
        for plugin in [CRI_V2, IMAGES_V3, RUNTIME_V3] {
            let section = table.get("plugins").and_then(|plugins| plugins.get(plugin));
            let Some(section) = section.and_then(Value::as_table) else { continue };
            let keys: Vec<String> = match layout.plugins.contains(&plugin) {
                false => section.keys().cloned().collect(),
                true => layout.strange(plugin, section),
            };
            for key in keys {
                found.push(format!(
                    "{path}: {key} of [plugins.\"{plugin}\"] is not what {reader} reads"
                ));
            }
        }
        found
    }

    /// Keys below `plugin` at which a layout has a setting, and this one has not.
    fn strange(&self, plugin: &str, section: &Table) -> Vec<String> {
        let all = V2.places.iter().chain(&V3.places);
        let own =
            |keys: &[&str]| self.places.iter().any(|(place, own)| *place == plugin && *own == keys);
        let mut found: Vec<String> = all
            .map(|(_, keys)| *keys)
            .filter(|keys| !own(keys))
            .filter(|keys| {
                let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
                value_at(section, &keys).is_some()
            })
            .map(|keys| keys.join("."))
            .collect();
        found.sort();
        found.dedup();
        found
    }
}
