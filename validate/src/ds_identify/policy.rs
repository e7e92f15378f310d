use nodekiln_words::Result;

use super::Edition;
use super::config::{self, OWN};
use super::image::text;
use super::shell;
use crate::tree::Files;

/// What the script is to do with what it finds (`parse_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether it looks at all.
    pub mode: Mode,
    /// `found=first`: of several, the first alone is written.
    pub first_only: bool,
    /// `maybe=all`: where nothing was found, all that may be there are written.
    pub maybe: bool,
    /// `notfound=enabled`: where nothing was found, cloud-init runs with the list of its configuration.
    pub enabled_without: bool,
}

/// Modes of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// cloud-init stays off.
    Disabled,
    /// cloud-init runs, and nothing is looked for.
    Enabled,
    /// What is found is written for cloud-init.
    Search,
    /// What is found is written where cloud-init does not look.
    Report,
}

/// What `read_config` finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) policy: Policy,
    /// The one datasource that somebody named; empty where nobody did.
    pub(super) named: String,
}

/// `read_config`: the script's own file, and then the kernel's command line.
pub(super) fn settings(
    edition: Edition,
    architecture: &str,
    command_line: &str,
    image: &dyn Files,
) -> Result<Settings> {
    let (mut named, mut policy) = (String::new(), String::new());
    let own = text(image, OWN)?.unwrap_or_default();
    for (key, value) in config::own_settings(edition, &own) {
        match key.as_str() {
            "datasource" => named = value,
            "policy" => policy = value,
            _ => {}
        }
    }
    for word in shell::words(command_line) {
        let (key, value) = (shell::before(word, "="), shell::after(word, "="));
        // `ds=nocloud;s=…` names NoCloud and where its seed is. 22.4.2 leaves `ds=` to its check of NoCloud.
        let later = edition > Edition::V22_4;
        let value = if later { shell::before(value, ";") } else { value };
        match key {
            "ds" if later => named = value.to_owned(),
            "ci.ds" | "ci.datasource" => named = value.to_owned(),
            "ci.di.policy" => policy = value.to_owned(),
            _ => {}
        }
    }
    Ok(Settings { policy: Policy::parse(edition, architecture, &policy), named })
}

impl Policy {
    /// `DI_DEFAULT_POLICY`. 22.4.2 runs cloud-init on architectures whose SMBIOS strings it does not trust,
    /// although nothing was found (`DI_DEFAULT_POLICY_NO_DMI`); later editions do not.
    fn default_for(edition: Edition, architecture: &str) -> Self {
        let enabled_without = edition == Edition::V22_4 && !is_pc(architecture);
        Self { mode: Mode::Search, first_only: false, maybe: false, enabled_without }
    }

    /// Words with commas between them; what is no word of the script leaves the default.
    fn parse(edition: Edition, architecture: &str, text: &str) -> Self {
        let default = Self::default_for(edition, architecture);
        let mut policy = default;
        for word in shell::fields(text, ',') {
            match word {
                "enabled" => policy.mode = Mode::Enabled,
                "disabled" => policy.mode = Mode::Disabled,
                "search" => policy.mode = Mode::Search,
                "report" => policy.mode = Mode::Report,
                "found=all" => policy.first_only = false,
                "found=first" => policy.first_only = true,
                "maybe=all" => policy.maybe = true,
                "maybe=none" => policy.maybe = false,
                "notfound=enabled" => policy.enabled_without = true,
                "notfound=disabled" => policy.enabled_without = false,
                _ if word.starts_with("found=") => policy.first_only = default.first_only,
                _ if word.starts_with("maybe=") => policy.maybe = default.maybe,
                _ if word.starts_with("notfound=") => {
                    policy.enabled_without = default.enabled_without;
                }
                _ => {}
            }
        }
        policy
    }
}

/// Whether `uname -m` tells of a PC: `i?86` or `x86_64`.
pub(super) fn is_pc(architecture: &str) -> bool {
    let mut letters = architecture.chars();
    architecture == "x86_64"
        || (letters.next() == Some('i') && letters.next().is_some() && letters.as_str() == "86")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_keeps_the_default_where_it_says_nothing() {
        let parse = |text| Policy::parse(Edition::V22_4, "aarch64", text);
        assert!(parse("").enabled_without);
        assert!(!parse("search,notfound=disabled").enabled_without);
        assert!(parse("notfound=disabled,notfound=never").enabled_without);
        assert!(!Policy::parse(Edition::V25_1, "aarch64", "").enabled_without);
        assert_eq!(parse("report,found=first").mode, Mode::Report);
        assert!(parse("found=first").first_only && !parse(" found=first").first_only);
    }

    #[test]
    fn pcs_are_told_by_their_word() {
        for (word, pc) in [("i686", true), ("x86_64", true), ("i86", false), ("aarch64", false)] {
            assert_eq!(is_pc(word), pc, "{word}");
        }
    }
}
