//! Signatures of indexes: clear-signed messages (RFC 9580, section 7) and the keys trusted for them.

use nodekiln_words::{Class, Failure, Result, ResultExt};
use pgp::composed::{CleartextSignedMessage, PublicOrSecret, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, SignedUser, Tag, Timestamp, VerifyingKey};

/// The keys of Debian's archives for releases 11 to 13, from the package `debian-archive-keyring`.
const DEBIAN: &[u8] = include_bytes!("../../keyrings/debian-archive.asc");

/// A signed index larger than this is not Debian's, whose largest have some 250 kB. What is not yet
/// verified is not worth more memory and time.
const LARGEST: usize = 4 << 20;

/// Keys that are trusted to sign an archive's indexes.
pub struct Keyring {
    /// What people call it.
    name: String,
    keys: Vec<SignedPublicKey>,
}

/// A text whose signature was verified.
#[derive(Debug)]
pub struct Signed {
    /// The text that was signed, with line feeds alone.
    pub text: String,
    /// Fingerprint of the key, or of its subkey, that made the signature.
    pub fingerprint: String,
    /// Whether that key has expired since.
    pub key_expired: bool,
}

impl Keyring {
    /// The built-in keys of Debian's archives.
    ///
    /// # Errors
    /// When the keyring in this program cannot be read.
    pub fn debian() -> Result<Self> {
        Self::read("the built-in Debian keyring", DEBIAN)
    }

    /// The keys in `bytes`, armored or not; `name` is what messages call them.
    ///
    /// # Errors
    /// When it is no keyring, or an empty one.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let wrong = || format!("{name} is no OpenPGP keyring");
        let (keys, _) = PublicOrSecret::from_reader_many(bytes).or_fail(Class::Input, wrong)?;
        let mut public = Vec::new();
        for key in keys {
            if let PublicOrSecret::Public(key) = key.or_fail(Class::Input, wrong)? {
                public.push(key);
            }
        }
        if public.is_empty() {
            return Err(Failure::input(format!("{name} holds no public key")));
        }
        Ok(Self { name: name.to_owned(), keys: public })
    }

    /// The signed text of `message`, once one good signature of a trusted key is found that has not
    /// expired at the time `now` (seconds since 1970). A key must have been valid when it signed; one
    /// that still is comes before one that has expired since.
    ///
    /// # Errors
    /// When there is none, naming `what` and the keys that signed it.
    pub fn verify(&self, what: &str, message: &[u8], now: u64) -> Result<Signed> {
        if message.len() > LARGEST {
            let text = format!("{what} has {} bytes, more than any signed index", message.len());
            return Err(Failure::io(text).with_help("name another mirror in os.mirrors"));
        }
        let wrong = || format!("{what} is no clear-signed text");
        let (message, _) = CleartextSignedMessage::from_armor(message).or_io(wrong)?;
        let text = message.signed_text();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut signer = None;
        for signature in message.signatures() {
            let good = self.signer(signature, text.as_bytes(), now);
            signer = Signer::better(signer, good);
            if signer.as_ref().is_some_and(|signer| !signer.expired) {
                break;
            }
        }
        match signer {
            Some(Signer { fingerprint, expired }) => {
                // The signature is over the text with carriage returns (RFC 9580, section 7.1).
                let text = text.replace("\r\n", "\n");
                Ok(Signed { text, fingerprint, key_expired: expired })
            }
            None => Err(self.refused(what, message.signatures(), text.as_bytes())),
        }
    }

    /// The trusted key that made the signature over `text`.
    fn signer(&self, signature: &Signature, text: &[u8], now: i64) -> Option<Signer> {
        let is_text = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary));
        let is_strong = matches!(
            signature.hash_alg(),
            Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
        );
        let at = i64::from(signature.created()?.as_secs());
        let lasts = signature.signature_expiration_time().map_or(0, Duration::as_secs);
        let expired = lasts != 0 && at + i64::from(lasts) < now;
        if !is_text || !is_strong || expired {
            return None;
        }
        // What a key says about itself costs many times more to check than a key's id.
        self.keys.iter().find_map(|key| {
            if signature.verify(&key.primary_key, text).is_ok() && key_is_valid(key, at) {
                let fingerprint = key.primary_key.fingerprint().to_string();
                return Some(Signer { fingerprint, expired: !key_is_valid(key, now) });
            }
            let both = |subkey: &SignedPublicSubKey, at| {
                key_is_valid(key, at) && subkey_is_valid(key, subkey, at)
            };
            let by = |subkey: &&SignedPublicSubKey| {
                signature.verify(&subkey.key, text).is_ok() && both(subkey, at)
            };
            let subkey = key.public_subkeys.iter().find(by)?;
            let fingerprint = subkey.key.fingerprint().to_string();
            Some(Signer { fingerprint, expired: !both(subkey, now) })
        })
    }

    /// None of the `signatures` over `text` counts: who made them, and why a trusted key's does not.
    fn refused(&self, what: &str, signatures: &[Signature], text: &[u8]) -> Failure {
        let mut ids: Vec<String> = signatures
            .iter()
            .flat_map(Signature::issuer_key_id)
            .map(|id| id.to_string().to_uppercase())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let by = if ids.is_empty() { "by nobody it names".to_owned() } else { ids.join(", ") };
        let refused = format!("no good signature on {what}: signed by {by}");
        if let Some(why) = signatures.iter().find_map(|signature| self.distrust(signature, text)) {
            return Failure::io(format!("{refused}, {why}")).with_help(
                "whoever has that key may be somebody else by now: name a mirror with an index signed by \
                 a valid key in os.mirrors, or the archive's newer keys in os.keyring",
            );
        }
        Failure::io(format!("{refused}, trusted is {}", self.name)).with_help(
            "the file was altered, or the archive is signed by other keys: name the right \
                 mirror in os.mirrors, or its keys in os.keyring",
        )
    }

    /// Why a signature over `text` that a known key did make is not believed.
    fn distrust(&self, signature: &Signature, text: &[u8]) -> Option<&'static str> {
        let key = self.keys.iter().find(|key| {
            let subkeys = key.public_subkeys.iter();
            signature.verify(&key.primary_key, text).is_ok()
                || subkeys.map(|subkey| &subkey.key).any(|key| signature.verify(key, text).is_ok())
        })?;
        let at = i64::from(signature.created()?.as_secs());
        Some(if is_revoked(key) {
            "a key that was revoked"
        } else if key_is_valid(key, at) {
            "whose signature or subkey is not valid any more"
        } else {
            "a key that was not valid when it signed"
        })
    }
}

/// Who made a good signature.
struct Signer {
    fingerprint: String,
    /// Whether the key, valid when it signed, no longer is.
    expired: bool,
}

impl Signer {
    /// The one to name: the first one, or the first that has not expired.
    fn better(first: Option<Self>, next: Option<Self>) -> Option<Self> {
        match (first, next) {
            (Some(first), Some(next)) if first.expired && !next.expired => Some(next),
            (first, next) => first.or(next),
        }
    }
}

/// Whether a primary key was revoked by itself.
fn is_revoked(key: &SignedPublicKey) -> bool {
    let mut revocations = key.details.revocation_signatures.iter();
    revocations.any(|signature| signature.verify_key(&key.primary_key).is_ok())
}

/// Whether a primary key could sign at the time `at`: not revoked, made before, not yet expired.
fn key_is_valid(key: &SignedPublicKey, at: i64) -> bool {
    let primary = &key.primary_key;
    let own = |user: &SignedUser, signature: &Signature| {
        signature.typ() != Some(SignatureType::CertRevocation)
            && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
    };
    let users: Vec<&Signature> = key
        .details
        .users
        .iter()
        .flat_map(|user| user.signatures.iter().filter(|signature| own(user, signature)))
        .collect();
    let direct: Vec<&Signature> = key
        .details
        .direct_signatures
        .iter()
        .filter(|signature| signature.verify_key(primary).is_ok())
        .collect();
    // Either kind may set an end, and one that does not leaves that of the other in force: Debian's
    // direct signatures only name who may revoke the key.
    let kinds = [users, direct];
    let mut spoken = kinds.into_iter().filter(|statements| !statements.is_empty()).peekable();
    !is_revoked(key)
        && spoken.peek().is_some()
        && spoken.all(|statements| is_current(primary, statements.into_iter(), at))
}

/// Whether a subkey was bound to its key for signing, and could sign at the time `at`.
fn subkey_is_valid(key: &SignedPublicKey, subkey: &SignedPublicSubKey, at: i64) -> bool {
    let primary = &key.primary_key;
    let own =
        |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let is_revocation =
        |signature: &Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    if subkey.signatures.iter().filter(own).any(is_revocation) {
        return false;
    }
    // A key that signs must agree to be a subkey (RFC 9580, section 5.2.1.8).
    let agreed = |signature: &&Signature| {
        signature.key_flags().sign()
            && signature
                .embedded_signature()
                .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok())
    };
    is_current(&subkey.key, subkey.signatures.iter().filter(own).filter(agreed), at)
}

/// Whether the latest of the owner's `statements` allows the key at the time `at`.
fn is_current<'a, K: KeyDetails + VerifyingKey + Serialize>(
    key: &K,
    statements: impl Iterator<Item = &'a Signature>,
    at: i64,
) -> bool {
    let created = i64::from(key.created_at().as_secs());
    let latest = statements.max_by_key(|statement| statement.created().map(Timestamp::as_secs));
    let Some(latest) = latest else { return false };
    let lasts = latest.key_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
    created <= at && (lasts == 0 || at < created + lasts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_keyring_holds_the_keys_of_three_releases() {
        let keyring = Keyring::debian().unwrap();
        assert_eq!(keyring.keys.len(), 9);
        // 2026-01-01: within the life of every key for releases 12 and 13.
        let valid = |at| keyring.keys.iter().filter(|key| key_is_valid(key, at)).count();
        assert_eq!(valid(1_767_225_600), 9);
        // 2020-01-01: before the first of them was made.
        assert_eq!(valid(1_577_836_800), 0);
        // 2033-05-18: only the two automatic keys of release 13 last longer.
        assert_eq!(valid(2_000_000_000), 2);
    }

    #[test]
    fn what_is_no_keyring_is_refused() {
        for bytes in [&b""[..], b"hello", &DEBIAN[..2000]] {
            assert_eq!(Keyring::read("k", bytes).err().unwrap().class(), Class::Input);
        }
    }
}
