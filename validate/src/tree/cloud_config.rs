//! cloud-init's configuration, as its files in the image make it.

use nodekiln_words::Result;
use serde_json::Value;

use super::Tree;

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

#[cfg(test)]
mod tests {
    use super::*;

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
