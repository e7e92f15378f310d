//! cloud-init's configuration, as its files in the image make it.

use nodekiln_words::Result;
use serde_json::Value;

use super::Tree;
use super::units::Units;

/// The value of the key `key`, and the file that has the last word on it; nothing where none speaks of it. Files that
/// are no YAML are left out, as cloud-init leaves them out.
///
/// # Errors
/// When a file cannot be read.
pub fn value(tree: &Tree, key: &str) -> Result<Option<(Value, String)>> {
    let folder = "/etc/cloud/cloud.cfg.d";
    let names = tree.names(folder).into_iter().filter(|name| name.ends_with(".cfg"));
    let paths = ["/etc/cloud/cloud.cfg".to_owned()]
        .into_iter()
        .chain(names.map(|name| format!("{folder}/{name}")));
    let mut found = None;
    for path in paths {
        let text = tree.text(&path)?.unwrap_or_default();
        // Most files do not have the word at all, and need not be parsed.
        if !text.contains(key) {
            continue;
        }
        if let Ok(Value::Object(mut config)) = serde_saphyr::from_str::<Value>(&text)
            && let Some(value) = config.remove(key)
        {
            found = Some((value, path));
        }
    }
    Ok(found)
}

/// The lists of modules, one for each stage of a boot.
const STAGES: [&str; 3] = ["cloud_init_modules", "cloud_config_modules", "cloud_final_modules"];
/// Services of which one is enabled where cloud-init runs at all, by its versions.
const SERVICES: [&str; 4] = [
    "cloud-init.service",
    "cloud-init-network.service",
    "cloud-init-main.service",
    "cloud-config.service",
];

/// Whether cloud-init runs at boot, and its module `module` among others: its name with underscores, as versions from
/// 22.1 on write it, or with hyphens.
///
/// # Errors
/// When a file cannot be read.
pub fn runs(tree: &Tree, module: &str) -> Result<bool> {
    let units = Units::of(tree);
    let mut enabled = false;
    for service in SERVICES {
        enabled |= units.enablement(service)?.by().is_some();
    }
    if !enabled || tree.entry("/etc/cloud/cloud-init.disabled").is_some() {
        return Ok(false);
    }
    // A module stands by its name, or in a list with how often it runs.
    let is_named = |one: &Value| {
        let name = one.as_str().or_else(|| one.get(0)?.as_str());
        name.is_some_and(|name| name.replace('-', "_") == module)
    };
    for stage in STAGES {
        if let Some((Value::Array(modules), _)) = value(tree, stage)?
            && modules.iter().any(is_named)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_runs_where_cloud_init_does_and_a_list_names_it() {
        let mut tree = Tree::default();
        let unit = "/usr/lib/systemd/system/cloud-init.service";
        tree.write(unit, 0o644, "[Service]\nExecStart=/usr/bin/cloud-init init\n");
        tree.link("/etc/systemd/system/cloud-init.target.wants/cloud-init.service", unit);
        let config = "/etc/cloud/cloud.cfg";
        for (text, runs_it) in [
            ("cloud_config_modules:\n - set-passwords\n", true),
            ("cloud_config_modules:\n - [set_passwords, always]\n", true),
            ("cloud_init_modules: [set_passwords]\ncloud_config_modules: []\n", true),
            ("cloud_config_modules: [ssh]\n", false),
            ("set_passwords: true\n", false),
        ] {
            tree.write(config, 0o644, text);
            assert_eq!(runs(&tree, "set_passwords").unwrap(), runs_it, "{text}");
        }
        tree.write(config, 0o644, "cloud_config_modules: [set_passwords]\n");
        tree.write("/etc/cloud/cloud-init.disabled", 0o644, "");
        assert!(!runs(&tree, "set_passwords").unwrap());
        tree.remove("/etc/cloud/cloud-init.disabled");
        tree.remove("/etc/systemd/system");
        assert!(!runs(&tree, "set_passwords").unwrap());
    }

    #[test]
    fn the_last_file_that_speaks_of_a_key_counts() {
        let mut tree = Tree::default();
        tree.write("/etc/cloud/cloud.cfg", 0o644, "users:\n - default\nswap: {size: 1}\nx: 1\n");
        assert_eq!(value(&tree, "swap").unwrap().unwrap().1, "/etc/cloud/cloud.cfg");
        tree.write("/etc/cloud/cloud.cfg.d/05.cfg", 0o644, "swap:\n  size: 0\n");
        tree.write("/etc/cloud/cloud.cfg.d/06.cfg", 0o644, "swap: [\n");
        tree.write("/etc/cloud/cloud.cfg.d/07.txt", 0o644, "swap: 3\n");
        let (found, path) = value(&tree, "swap").unwrap().unwrap();
        assert_eq!(
            (found["size"].as_u64(), path.as_str()),
            (Some(0), "/etc/cloud/cloud.cfg.d/05.cfg")
        );
        assert_eq!(value(&tree, "none").unwrap(), None);
    }
}
