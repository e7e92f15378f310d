//! How the script reads cloud-init's configuration: line by line, without knowing YAML.

use nodekiln_words::Result;

use super::image::text;
use super::shell;
use super::{Edition, MachineView};
use crate::tree::Files;

/// Main file of cloud-init's configuration.
const MAIN: &str = "/etc/cloud/cloud.cfg";
/// Folder of the others.
const DROP_INS: &str = "/etc/cloud/cloud.cfg.d";
/// The script's own configuration.
pub(super) const OWN: &str = "/etc/cloud/ds-identify.cfg";

/// `check_config`: what the last line says that looks like this key, over all files; `None` where no line does.
pub(super) fn check(edition: Edition, image: &dyn Files, key: &str) -> Result<Option<String>> {
    check_in(edition, image, key, |_| true)
}

/// As [`check`], in the main file and those others whose names are `wanted`.
pub(super) fn check_in(
    edition: Edition,
    image: &dyn Files,
    key: &str,
    wanted: fn(&str) -> bool,
) -> Result<Option<String>> {
    let names = image.list(DROP_INS)?;
    // `*.cfg` matches no hidden file.
    let names = names
        .iter()
        .filter(|name| name.ends_with(".cfg") && !name.starts_with('.') && wanted(name));
    let paths = names.map(|name| format!("{DROP_INS}/{name}"));
    let mut found = None;
    for path in [MAIN.to_owned()].into_iter().chain(paths) {
        let Some(text) = text(image, &path)? else { continue };
        let last = match edition {
            Edition::V22_4 => by_lines(&text, key),
            Edition::V25_1 | Edition::V26_2 => by_grep(&text, key),
        };
        found = last.or(found);
    }
    Ok(found)
}

/// 22.4.2 reads lines: the key stands first in them, with a colon and then a space or nothing behind it.
fn by_lines(text: &str, key: &str) -> Option<String> {
    let lines = shell::lines_read(text);
    let mut values = lines.iter().filter_map(|line| {
        let line = shell::before(line, "#");
        let value = line.strip_prefix(key)?.strip_prefix(':')?;
        match value.strip_prefix(' ') {
            Some(value) => Some(value.to_owned()),
            None => value.is_empty().then(String::new),
        }
    });
    values.next_back()
}

/// Later editions have grep look for the key, perhaps with quotes behind it, and a colon anywhere in a line. A
/// comment counts where something stands before it, even white space, and what is told begins behind the
/// first colon that a space follows.
fn by_grep(text: &str, key: &str) -> Option<String> {
    let lines = text.split_terminator('\n').filter(|line| has_key(line, key));
    let mut lines = lines.map(|line| shell::before(line, "#")).filter(|line| !line.is_empty());
    lines.next_back().map(|line| shell::after(line, ": ").to_owned())
}

/// Whether `key["\']*[[:space:]]*:` matches somewhere; the backslash is in the script's brackets, too.
fn has_key(line: &str, key: &str) -> bool {
    line.match_indices(key).any(|(at, _)| {
        let rest = line.get(at + key.len()..).unwrap_or_default();
        let rest = rest.trim_start_matches(['"', '\'', '\\']).trim_start_matches(shell::is_space);
        rest.starts_with(':')
    })
}

/// `get_value`: what stands behind the last colon of a value that [`check`] told, without white space at its
/// ends; `None` where that is nothing.
pub(super) fn value(edition: Edition, told: &str) -> Option<String> {
    let value = edition.trimmed(shell::after_last(told, ":"));
    (!value.is_empty()).then_some(value)
}

/// `read_datasource_list`: the words of `DI_DSLIST`. What the kernel's command line configures comes before the
/// datasource that was `named`, and that before the files; with nothing told, the edition's own list.
pub(super) fn datasource_list(
    edition: Edition,
    machine_line: &str,
    image: &dyn Files,
    named: &str,
) -> Result<String> {
    let key = "datasource_list";
    let mut list = named.to_owned();
    if machine_line.split_once("cc:").is_some_and(|(_, rest)| rest.contains(key)) {
        let rest = shell::after_last(machine_line, key);
        list = yaml_array(edition, shell::after_last(shell::before(rest, "]"), "["));
    }
    if list.is_empty()
        && let Some(told) = check(edition, image, key)?
    {
        let told = match edition {
            Edition::V22_4 => Some(told),
            Edition::V25_1 | Edition::V26_2 => value(edition, &told),
        };
        list = told.map(|told| yaml_array(edition, &told)).unwrap_or_default();
    }
    if list.is_empty() {
        list = edition.default_list().join(" ");
    }
    Ok(list)
}

/// `parse_yaml_array`: the entries of an array in one line, with a space between two of them.
fn yaml_array(edition: Edition, text: &str) -> String {
    let entries = shell::fields(shell::without_ends(text, "[", "]"), ',').into_iter();
    let entries = entries.map(|entry| shell::unquoted(&edition.trimmed(entry)).to_owned());
    let joined: String = entries.map(|entry| format!(" {entry}")).collect();
    joined.strip_prefix(' ').unwrap_or(&joined).to_owned()
}

/// `_read_config`: keys and values of the script's own file, in order.
pub(super) fn own_settings(edition: Edition, text: &str) -> Vec<(String, String)> {
    let lines = shell::lines_read(text).into_iter();
    let settings = lines.filter_map(|line| {
        let (key, value) = shell::before(&line, "#").split_once(':')?;
        let value = shell::unquoted(&edition.trimmed(value)).to_owned();
        Some((edition.trimmed(key), value))
    });
    settings.collect()
}

/// `read_kernel_cmdline`: in a container, what process 1 was started with.
pub(super) fn command_line(machine: &MachineView) -> String {
    match &machine.init_command_line {
        Some(line) if machine.is_container() => line.clone(),
        None if machine.is_container() => "unavailable:container".to_owned(),
        _ => shell::first_line_read(&format!("{}\n", machine.command_line)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(edition: Edition, text: &str) -> String {
        let image = std::collections::BTreeMap::from([(MAIN.to_owned(), text.as_bytes().to_vec())]);
        datasource_list(edition, "", &image, "").unwrap()
    }

    #[test]
    fn the_editions_read_other_lines() {
        let (old, new) = (Edition::V22_4, Edition::V25_1);
        for edition in Edition::ALL {
            assert_eq!(list(edition, "datasource_list: [ 'A', \"B\" ]\n"), "A B");
            assert_eq!(
                list(edition, "datasource_list:\n  - A\n"),
                edition.default_list().join(" ")
            );
        }
        // Without an end of line, without a space, behind a quote, with a comment.
        for (text, first, later) in [
            ("datasource_list: [A]", None, Some("A")),
            ("datasource_list:[A]\n", None, Some("A")),
            ("\"datasource_list\": [A]\n", None, Some("A")),
            ("datasource_list: [A] # why\n", Some("A]"), Some("A")),
            ("datasource_list: [A]\n  # datasource_list: [B]\n", Some("A"), None),
        ] {
            let expected = |known: Option<&str>, edition: Edition| {
                known.map_or_else(|| edition.default_list().join(" "), str::to_owned)
            };
            assert_eq!(list(old, text), expected(first, old), "{text}");
            assert_eq!(list(new, text), expected(later, new), "{text}");
        }
    }

    #[test]
    fn the_last_of_several_files_counts() {
        let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let image = std::collections::BTreeMap::from([
            file("/etc/cloud/cloud.cfg", "strict_id: a\n"),
            file("/etc/cloud/cloud.cfg.d/10-x.cfg", "strict_id: b\n"),
            file("/etc/cloud/cloud.cfg.d/90-y.cfg", "strict_id: c\n"),
            file("/etc/cloud/cloud.cfg.d/.hidden.cfg", "strict_id: d\n"),
            file("/etc/cloud/cloud.cfg.d/99.cfg.dpkg-old", "strict_id: e\n"),
        ]);
        for edition in Edition::ALL {
            let found = |wanted| check_in(edition, &image, "strict_id", wanted).unwrap();
            assert_eq!(found(|_| true).as_deref(), Some("c"));
            assert_eq!(found(|name| name.contains('x')).as_deref(), Some("b"));
            assert_eq!(check(edition, &image, "other").unwrap(), None);
        }
    }
}
