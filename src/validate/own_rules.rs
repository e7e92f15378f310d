//! The rules of the user's that the command line names.

use nodekiln_validate::own_rules::{Dialect, OwnRules, Settings, Sources};
use nodekiln_words::{Progress, Result};

use crate::arguments::{self, GossDialect};

/// Reads them; none where none is named.
///
/// # Errors
/// As [`OwnRules::read`].
pub(super) fn read(named: &arguments::OwnRules, progress: &dyn Progress) -> Result<OwnRules> {
    let goss = Settings {
        dialect: match named.goss_dialect {
            GossDialect::Goss03 => Dialect::Goss03,
            GossDialect::Goss04 => Dialect::Goss04,
        },
        vars: named.goss_vars.clone(),
        environment: named.goss_env,
        files: named.goss_read_files,
    };
    OwnRules::read(&Sources { paths: named.rules.clone(), goss }, progress)
}
