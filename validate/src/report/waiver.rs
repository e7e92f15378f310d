//! The waivers of users' files, as a report tells of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A waiver and what became of it in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiver {
    /// Id of the rule that may fail.
    pub rule: String,
    /// Why it may.
    pub reason: String,
    /// The last day on which it may, `YYYY-MM-DD`.
    pub until: String,
    /// The one provider for which it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The one image, by its recipe's name, for which it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What a finding says for which it may, or a path in it; nothing where it may whatever is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// Where it stands: file, line and column.
    pub place: String,
    /// What became of it.
    pub state: WaiverState,
}

/// What became of a waiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaiverState {
    /// The rule fails, or warns, and is waived, or what of its findings the waiver is for.
    Used,
    /// The rule fails, or warns, and the waiver's last day is past.
    Expired,
    /// The rule passes, or finds nothing that the waiver is for, or another waiver holds.
    NotNeeded,
    /// It is for another provider or image.
    Elsewhere,
    /// The rule was not judged in this run.
    NotJudged,
}

impl WaiverState {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Expired => "EXPIRED",
            Self::NotNeeded => "not needed",
            Self::Elsewhere => "for another image",
            Self::NotJudged => "not judged",
        }
    }
}

impl Waiver {
    /// What is to be told of it, in a line without the rule's name: until when and why it holds, and where it stands.
    #[must_use]
    pub fn about(&self) -> String {
        let scope =
            [("provider", &self.provider), ("image", &self.image), ("finding", &self.finding)];
        let scope: String = scope
            .iter()
            .filter_map(|(what, name)| Some(format!(" for {what} {}", name.as_ref()?)))
            .collect();
        format!("until {}{scope}: {} ({})", self.until, self.reason, self.place)
    }
}
