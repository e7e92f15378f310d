//! The times that a run powers a machine of the image on.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One power-on of a machine that was made of the image.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PowerOn {
    /// A new machine, from the image's own bytes.
    #[default]
    First,
    /// The same machine, after its power was cut.
    AfterCut,
    /// A second new machine, from the same bytes.
    Clone,
}

impl PowerOn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::First, Self::AfterCut, Self::Clone];

    /// The name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::AfterCut => "after-cut",
            Self::Clone => "clone",
        }
    }

    /// Whose it is, in front of what is awaited; nothing for the first.
    #[must_use]
    pub const fn whose(self) -> &'static str {
        match self {
            Self::First => "",
            Self::AfterCut => "after the power cut: ",
            Self::Clone => "the clone: ",
        }
    }

    /// The file of the evidence that has of this power-on what the first one's `name` has of that:
    /// `console.log`, `console-clone.log`.
    #[must_use]
    pub fn file(self, name: &str) -> String {
        let path = Path::new(name);
        match (self, path.file_stem(), path.extension()) {
            (Self::First, ..) => name.to_owned(),
            (_, Some(stem), Some(extension)) => {
                let (stem, extension) = (stem.to_string_lossy(), extension.to_string_lossy());
                format!("{stem}-{}.{extension}", self.as_str())
            }
            _ => format!("{name}-{}", self.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_power_on_has_files_of_its_own() {
        let files = PowerOn::ALL.map(|power_on| power_on.file("console.log"));
        assert_eq!(files, ["console.log", "console-after-cut.log", "console-clone.log"]);
        assert_eq!(PowerOn::Clone.file("qmp"), "qmp-clone");
    }
}
