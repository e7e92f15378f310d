use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The one moment an image knows: whole seconds since 1970-01-01 UTC, at least 1980-01-01.
///
/// It becomes `SOURCE_DATE_EPOCH` in the sandbox and every time stamp in an artifact. The lower
/// bound is that of FAT's time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceDate(u64);

/// 1980-01-01T00:00:00Z, where FAT's calendar begins.
const FAT_EPOCH: u64 = 315_532_800;
/// 2107-12-31T23:59:58Z, where FAT's calendar ends.
const FAT_END: u64 = 4_354_819_198;

impl SourceDate {
    /// A source date from UTC seconds since 1970; `None` outside FAT's calendar.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Option<Self> {
        if seconds >= FAT_EPOCH && seconds <= FAT_END { Some(Self(seconds)) } else { None }
    }

    /// UTC seconds since 1970-01-01.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }
}

/// Why a text is no source date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotADate(String);

impl fmt::Display for NotADate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a date from 1980 to 2107, such as 2026-11-01T00:00:00Z", self.0)
    }
}

impl std::error::Error for NotADate {}

impl FromStr for SourceDate {
    type Err = NotADate;

    /// Takes RFC 3339 (`2026-11-01T00:00:00Z`) or whole seconds since 1970.
    fn from_str(text: &str) -> Result<Self, NotADate> {
        let seconds = match text.parse::<u64>() {
            Ok(seconds) => Some(seconds),
            Err(_) => text
                .parse::<jiff::Timestamp>()
                .ok()
                .and_then(|stamp| u64::try_from(stamp.as_second()).ok()),
        };
        seconds.and_then(Self::from_unix).ok_or_else(|| NotADate(text.to_owned()))
    }
}

impl fmt::Display for SourceDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|s| jiff::Timestamp::from_second(s).ok()) {
            Some(stamp) => write!(f, "{stamp}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for SourceDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SourceDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for SourceDate {
    fn schema_name() -> Cow<'static, str> {
        "SourceDate".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A moment in UTC, such as 2026-11-01T00:00:00Z."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_and_seconds_name_the_same_moment() {
        let date: SourceDate = "2026-11-01T00:00:00Z".parse().unwrap();
        assert_eq!(date.unix(), 1_793_491_200);
        assert_eq!("1793491200".parse(), Ok(date));
        assert_eq!(date.to_string(), "2026-11-01T00:00:00Z");
    }

    #[test]
    fn dates_that_fat_cannot_hold_are_refused() {
        for text in ["1979-12-31T23:59:59Z", "0", "yesterday", "2200-01-01T00:00:00Z"] {
            assert!(text.parse::<SourceDate>().is_err(), "{text}");
        }
    }
}
