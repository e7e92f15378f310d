use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written in recipes and output as `512MiB` or `8GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Bytes {
    /// One kibibyte, 1024 bytes.
    pub const KIB: u64 = 1 << 10;
    /// One mebibyte, 1024 KiB.
    pub const MIB: u64 = 1 << 20;
    /// One gibibyte, 1024 MiB.
    pub const GIB: u64 = 1 << 30;

    /// What a size looks like, for regular expressions of ECMA-262 and of Rust: the texts that
    /// parsing accepts, but for numbers that exceed 64 bits.
    ///
    /// A bare `8G` is none: some programs mean 1000s by it and some 1024s.
    pub const PATTERN: &str = "^[0-9]+ *(([KkMmGgTt][Ii]?)?[Bb])?$";

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotASize(String);

impl fmt::Display for NotASize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a size; write a number and a unit, such as 8GiB or 512MiB", self.0)
    }
}

impl std::error::Error for NotASize {}

impl FromStr for Bytes {
    type Err = NotASize;

    /// Takes what [`Bytes::PATTERN`] describes; units in any case.
    fn from_str(text: &str) -> Result<Self, NotASize> {
        let not_a_size = || NotASize(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| not_a_size())?;
        let unit = match unit.trim_start_matches(' ') {
            "" => 1,
            unit => UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, factor)| *factor)
                .ok_or_else(not_a_size)?,
        };
        number.checked_mul(unit).map(Bytes).ok_or_else(not_a_size)
    }
}

impl fmt::Display for Bytes {
    /// The largest binary unit with one decimal: `1.4 GiB`; exact bytes below 1 KiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in &UNITS[..4] {
            if self.0 >= *factor {
                return if self.0.is_multiple_of(*factor) {
                    write!(f, "{} {name}", self.0 / factor)
                } else {
                    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
                    let value = self.0 as f64 / *factor as f64;
                    write!(f, "{value:.1} {name}")
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 8GiB")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Bytes, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A size: a number with an optional unit, such as 8GiB or 512MiB.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": Self::PATTERN }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_in_any_case() {
        assert_eq!("8GiB".parse(), Ok(Bytes(8 << 30)));
        assert_eq!("512 mib".parse(), Ok(Bytes(512 << 20)));
        assert_eq!("1GB".parse(), Ok(Bytes(1_000_000_000)));
        assert_eq!("17".parse(), Ok(Bytes(17)));
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "GiB", "8 apples", "-1", "99999999999TiB", "1.5GiB", "8G", "8Gi", " 8B"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_is_exact_where_it_can_be() {
        assert_eq!(Bytes(8 << 30).to_string(), "8 GiB");
        assert_eq!(Bytes(1_503_238_553).to_string(), "1.4 GiB");
        assert_eq!(Bytes(999).to_string(), "999 B");
    }
}
