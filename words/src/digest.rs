use std::borrow::Cow;
use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::{Cancel, Result, ResultExt as _};

/// Bytes read at once: large enough to be fast, small enough for many threads.
const PIECE: usize = 1 << 18;

/// A SHA-256 digest (FIPS 180-4), written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest of all bytes that `source` gives until it ends; `what` says what cannot be done where it fails,
    /// as in `cannot read NAME`.
    ///
    /// # Errors
    /// When `source` cannot be read, or somebody asked to stop.
    pub fn of_stream(
        mut source: impl io::Read,
        cancel: &Cancel,
        what: impl FnOnce() -> String,
    ) -> Result<Self> {
        let (mut digester, mut piece) = (Digester::default(), vec![0; PIECE]);
        loop {
            cancel.check()?;
            match source.read(&mut piece) {
                Ok(0) => return Ok(digester.finish()),
                Ok(length) => digester.update(piece.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).or_io(what),
            }
        }
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hexadecimal digits, for people to read.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

/// Why a text is no SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotADigest(String);

impl fmt::Display for NotADigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a SHA-256 digest of 64 hexadecimal digits", self.0)
    }
}

impl std::error::Error for NotADigest {}

impl FromStr for Sha256 {
    type Err = NotADigest;

    /// Takes 64 hexadecimal digits in either case, with or without `sha256:` in front.
    fn from_str(text: &str) -> std::result::Result<Self, NotADigest> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(NotADigest(text.to_owned()));
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            match (digit(pair[0]), digit(pair[1])) {
                #[expect(clippy::cast_possible_truncation, reason = "two hexadecimal digits")]
                (Some(high), Some(low)) => *byte = (high << 4 | low) as u8,
                _ => return Err(NotADigest(text.to_owned())),
            }
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Sha256 {
    fn schema_name() -> Cow<'static, str> {
        "Sha256".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A SHA-256 digest: 64 hexadecimal digits.",
            "pattern": "^(sha256:)?[0-9A-Fa-f]{64}$"
        })
    }
}

/// A running SHA-256 and byte count; what is written to it is hashed and thrown away.
#[derive(Clone, Debug, Default)]
pub struct Digester {
    state: sha2::Sha256,
    length: u64,
}

impl Digester {
    /// Takes `bytes` into the digest.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Bytes taken in so far.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(self.state.finalize().into())
    }
}

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digest_of_abc_is_the_standards_example() {
        assert_eq!(Sha256::of("abc").to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(Sha256::of("abc")));
        assert_eq!(format!("sha256:{}", ABC.to_uppercase()).parse(), Ok(Sha256::of("abc")));
    }

    #[test]
    fn texts_that_are_no_digest_are_refused() {
        for text in ["", "abc", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "g")] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }

    /// Gives its pieces from the last to the first, is interrupted before each, and fails where one says so.
    struct Halting(Vec<&'static [u8]>, bool);

    impl io::Read for Halting {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match self.0.pop() {
                None => Ok(0),
                Some(b"fail") => Err(io::ErrorKind::PermissionDenied.into()),
                Some(piece) => {
                    buffer[..piece.len()].copy_from_slice(piece);
                    Ok(piece.len())
                }
            }
        }
    }

    #[test]
    fn a_stream_is_read_to_its_end_until_it_fails_or_somebody_asks_to_stop() {
        let of = |pieces: &[&'static [u8]], cancel: &Cancel| {
            Sha256::of_stream(Halting(pieces.to_vec(), false), cancel, || {
                "cannot read x".to_owned()
            })
        };
        let cancel = Cancel::default();
        assert_eq!(of(&[b"c", b"b", b"a"], &cancel).unwrap(), Sha256::of("abc"));
        assert_eq!(of(&[], &cancel).unwrap(), Sha256::of(""));
        let failure = of(&[b"fail", b"a"], &cancel).unwrap_err();
        assert_eq!((failure.class(), failure.to_string().as_str()), (Class::Io, "cannot read x"));
        assert_eq!(failure.chain().len(), 2);
        let long = vec![7; 3 * PIECE + 1];
        let found = Sha256::of_stream(long.as_slice(), &cancel, String::new).unwrap();
        assert_eq!(found, Sha256::of(&long));
        cancel.cancel();
        assert_eq!(of(&[b"a"], &cancel).unwrap_err().class(), Class::Interrupted);
    }

    #[test]
    fn digester_in_pieces_equals_digest_of_the_whole() {
        let mut digester = Digester::default();
        digester.update(b"a");
        digester.update(b"bc");
        assert_eq!(digester.length(), 3);
        assert_eq!(digester.finish(), Sha256::of("abc"));
    }
}
