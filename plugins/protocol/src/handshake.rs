use serde::{Deserialize, Serialize};

use crate::{OLDEST, VERSION};

/// The first line in either direction. Its first two keys stay what they are in every version of the
/// protocol; what else a later version adds here, an older one passes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Handshake {
    /// The newest version that the speaker speaks.
    pub nodekiln_provider: u32,
    /// The oldest version that the speaker speaks; the newest where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u32>,
    /// Who speaks, for messages: `nodekiln 0.1.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
}

impl Handshake {
    /// Of a program that speaks what this crate does.
    #[must_use]
    pub fn of(program: &str) -> Self {
        Self { nodekiln_provider: VERSION, oldest: Some(OLDEST), program: program.to_owned() }
    }

    /// The version that both speak: the newest of them, if there is one.
    #[must_use]
    pub fn agreed(&self, other: &Self) -> Option<u32> {
        let newest = self.nodekiln_provider.min(other.nodekiln_provider);
        (newest >= self.oldest() && newest >= other.oldest()).then_some(newest)
    }

    /// The oldest version that the speaker speaks.
    #[must_use]
    pub fn oldest(&self) -> u32 {
        self.oldest.unwrap_or(self.nodekiln_provider)
    }

    /// The versions that the speaker speaks, in words: `1` or `2 to 4`.
    #[must_use]
    pub fn versions(&self) -> String {
        match (self.oldest(), self.nodekiln_provider) {
            (oldest, newest) if oldest == newest => newest.to_string(),
            (oldest, newest) => format!("{oldest} to {newest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaks(oldest: u32, newest: u32) -> Handshake {
        Handshake { nodekiln_provider: newest, oldest: Some(oldest), program: String::new() }
    }

    #[test]
    fn the_newest_version_that_both_speak_is_agreed_upon() {
        assert_eq!(speaks(1, 1).agreed(&speaks(1, 1)), Some(1));
        assert_eq!(speaks(1, 3).agreed(&speaks(2, 5)), Some(3));
        assert_eq!(speaks(2, 5).agreed(&speaks(1, 3)), Some(3));
        assert_eq!(speaks(1, 1).agreed(&speaks(2, 2)), None);
        assert_eq!(speaks(3, 4).agreed(&speaks(1, 2)), None);
    }

    #[test]
    fn one_number_is_enough_and_later_keys_are_passed_over() {
        let told: Handshake =
            serde_json::from_str(r#"{"nodekiln_provider":1,"mood":"good"}"#).unwrap();
        assert_eq!((told.oldest(), told.agreed(&Handshake::of("x"))), (1, Some(1)));
        assert_eq!(told.versions(), "1");
        assert_eq!(speaks(2, 4).versions(), "2 to 4");
    }
}
