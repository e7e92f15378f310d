//! Keys that must not be believed, made here with what is wrong with them.

use nodekiln_build::debian::{Keyring, Signed};
use nodekiln_words::{Class, Result};
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::packet::{KeyFlags, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{Duration, Password, SigningKey, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{DATE, Fixture, NOW};

const YEAR: u32 = 365 * 24 * 3600;
/// When the keys here were made: 2023-11-14T22:13:20Z.
const MADE: u32 = 1_700_000_000;
/// When they sign.
const SIGNED: u32 = MADE + YEAR;

/// A key with a subkey that signs.
fn key(seed: u64) -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .created_at(Timestamp::from_secs(MADE))
        .can_sign(true)
        .build()
        .unwrap();
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .created_at(Timestamp::from_secs(MADE))
        .can_sign(true)
        .can_certify(true)
        .primary_user_id("Test archive <archive@test.invalid>".into())
        .subkey(subkey)
        .build()
        .unwrap()
        .generate(StdRng::seed_from_u64(seed))
        .unwrap()
}

/// How `key` makes a signature at the time `at` that says this besides.
fn config(
    key: &impl SigningKey,
    typ: SignatureType,
    at: u32,
    says: Vec<SubpacketData>,
) -> SignatureConfig {
    let mut config = SignatureConfig::from_key(StdRng::seed_from_u64(3), key, typ).unwrap();
    let basics = [
        SubpacketData::SignatureCreationTime(Timestamp::from_secs(at)),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ];
    let all = basics.into_iter().chain(says);
    config.hashed_subpackets = all.map(|data| Subpacket::regular(data).unwrap()).collect();
    config
}

/// A text that `key` signed.
fn message(key: &impl SigningKey, says: Vec<SubpacketData>) -> Vec<u8> {
    let config = config(key, SignatureType::Text, SIGNED, says);
    let message = CleartextSignedMessage::new("text\n", config, key, &Password::empty()).unwrap();
    message.to_armored_bytes(ArmorOptions::default()).unwrap()
}

fn by_primary(key: &SignedSecretKey) -> Vec<u8> {
    message(&key.primary_key, Vec::new())
}

fn by_subkey(key: &SignedSecretKey) -> Vec<u8> {
    message(&key.secret_subkeys[0].key, Vec::new())
}

fn keyring(key: &SignedPublicKey) -> Keyring {
    Keyring::read("keys", &key.to_armored_bytes(ArmorOptions::default()).unwrap()).unwrap()
}

fn verify(key: &SignedPublicKey, message: &[u8], now: u32) -> Result<Signed> {
    keyring(key).verify("message", message, u64::from(now))
}

fn is_refused(key: &SignedPublicKey, message: &[u8]) -> bool {
    match verify(key, message, SIGNED) {
        Ok(_) => false,
        Err(failure) => {
            assert!(failure.to_string().contains("no good signature"), "{failure}");
            true
        }
    }
}

/// What `key` says about `signee`, which may be itself.
fn about_key(
    key: &SignedSecretKey,
    signee: &SignedSecretKey,
    typ: SignatureType,
    says: Vec<SubpacketData>,
) -> Signature {
    let config = config(&key.primary_key, typ, MADE + 1, says);
    config.sign_key(&key.primary_key, &Password::empty(), signee.primary_key.public_key()).unwrap()
}

/// How `key` binds its subkey to itself, or unbinds it.
fn about_subkey(key: &SignedSecretKey, typ: SignatureType, says: Vec<SubpacketData>) -> Signature {
    let (primary, subkey) = (&key.primary_key, key.secret_subkeys[0].key.public_key());
    config(primary, typ, MADE + 1, says)
        .sign_subkey_binding(primary, primary.public_key(), &Password::empty(), subkey)
        .unwrap()
}

#[test]
fn a_key_and_its_subkey_are_believed() {
    let key = key(1);
    let public = key.to_public_key();
    for message in [by_primary(&key), by_subkey(&key)] {
        let signed = verify(&public, &message, SIGNED).unwrap();
        assert_eq!((signed.text.as_str(), signed.key_expired), ("text\n", false));
    }
}

#[test]
fn a_revoked_key_is_not_believed_nor_is_its_subkey() {
    let key = key(1);
    let mut public = key.to_public_key();
    let revocation = about_key(&key, &key, SignatureType::KeyRevocation, Vec::new());
    public.details.revocation_signatures.push(revocation);
    assert!(is_refused(&public, &by_primary(&key)));
    assert!(is_refused(&public, &by_subkey(&key)));
}

#[test]
fn nobody_else_can_revoke_a_key() {
    let (own, other) = (key(1), key(2));
    let mut public = own.to_public_key();
    let revocation = about_key(&other, &own, SignatureType::KeyRevocation, Vec::new());
    public.details.revocation_signatures.push(revocation);
    assert!(!is_refused(&public, &by_primary(&own)));
}

#[test]
fn a_revoked_subkey_is_not_believed() {
    let key = key(1);
    let mut public = key.to_public_key();
    let revocation = about_subkey(&key, SignatureType::SubkeyRevocation, Vec::new());
    public.public_subkeys[0].signatures.push(revocation);
    assert!(is_refused(&public, &by_subkey(&key)));
    assert!(!is_refused(&public, &by_primary(&key)));
}

/// Otherwise a key's owner could claim another's key, and with it what that one signed.
#[test]
fn a_subkey_that_did_not_agree_is_not_believed() {
    let key = key(1);
    let mut public = key.to_public_key();
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let says = vec![SubpacketData::KeyFlags(flags)];
    let binding = about_subkey(&key, SignatureType::SubkeyBinding, says);
    assert!(binding.embedded_signature().is_none());
    public.public_subkeys[0].signatures = vec![binding];
    assert!(is_refused(&public, &by_subkey(&key)));
}

#[test]
fn a_signature_is_believed_until_it_expires() {
    let key = key(1);
    let public = key.to_public_key();
    let day = 24 * 3600;
    let says = vec![SubpacketData::SignatureExpirationTime(Duration::from_secs(day))];
    let message = message(&key.primary_key, says);
    verify(&public, &message, SIGNED + day).unwrap();
    let failure = verify(&public, &message, SIGNED + day + 1).unwrap_err();
    assert!(failure.to_string().contains("no good signature"), "{failure}");
}

/// `key` with an end after so many years.
fn lasting(key: &SignedSecretKey, years: u32) -> SignedPublicKey {
    let says = vec![SubpacketData::KeyExpirationTime(Duration::from_secs(years * YEAR))];
    let mut public = key.to_public_key();
    public.details.direct_signatures.push(about_key(key, key, SignatureType::Key, says));
    public
}

#[test]
fn a_key_must_be_valid_when_it_signs_and_is_told_when_it_no_longer_is() {
    let key = key(1);
    for message in [by_primary(&key), by_subkey(&key)] {
        let two = lasting(&key, 2);
        assert!(!verify(&two, &message, SIGNED).unwrap().key_expired);
        assert!(verify(&two, &message, SIGNED + YEAR).unwrap().key_expired);
        let failure = verify(&lasting(&key, 1), &message, SIGNED).unwrap_err();
        assert!(failure.to_string().ends_with("was not valid when it signed"), "{failure}");
    }
}

#[test]
fn a_key_that_is_still_valid_is_named_before_one_that_expired() {
    let (old, new) = (key(1), key(2));
    let sign = |text: &str| {
        let sign = |key: &SignedSecretKey| {
            let config = config(&key.primary_key, SignatureType::Text, SIGNED, Vec::new());
            config.sign(&key.primary_key, &Password::empty(), text.as_bytes())
        };
        Ok(vec![sign(&old)?, sign(&new)?])
    };
    let message = CleartextSignedMessage::new_many("text\n", sign).unwrap();
    let message = message.to_armored_bytes(ArmorOptions::default()).unwrap();
    let binary = |key: &SignedPublicKey| pgp::ser::Serialize::to_bytes(key).unwrap();
    let both = [binary(&lasting(&old, 2)), binary(&new.to_public_key())].concat();
    let keyring = Keyring::read("keys", &both).unwrap();
    let fingerprint = pgp::types::KeyDetails::fingerprint(&new.primary_key).to_string();
    let later = keyring.verify("message", &message, u64::from(SIGNED + YEAR)).unwrap();
    assert_eq!((later.fingerprint, later.key_expired), (fingerprint.clone(), false));
    let early = keyring.verify("message", &message, u64::from(SIGNED)).unwrap();
    assert_ne!(early.fingerprint, fingerprint, "the first of two good ones");
}

#[test]
fn a_suite_signed_by_a_key_that_has_expired_is_used_with_a_warning() {
    let mut fixture = Fixture::new();
    fixture.key = key(1);
    let keys = lasting(&fixture.key, 50).to_armored_bytes(ArmorOptions::default()).unwrap();
    fs_err::write(fixture.folder.path().join("keyring.asc"), keys).unwrap();
    fixture.publish("test", "", &format!("Suite: test\nDate: {DATE}\n"));
    let store = fixture.fetcher().1;
    let (fetcher, told) = Fixture::watched(&store, false);
    let open = |now| {
        let spec = nodekiln_build::debian::ArchiveSpec { now, ..fixture.spec() };
        nodekiln_build::debian::Archive::open(&spec, &fetcher, &store).unwrap();
        told.warnings()
    };
    assert_eq!(open(u64::from(MADE + 20 * YEAR)), Vec::<String>::new());
    let warnings = open(NOW);
    assert!(warnings.iter().any(|text| text.contains("expired since")), "{warnings:?}");
}

#[test]
fn a_suite_signed_by_a_revoked_key_is_refused_with_a_remedy() {
    let mut fixture = Fixture::new();
    fixture.key = key(1);
    fixture.publish("test", "", &format!("Suite: test\nDate: {DATE}\n"));
    let trust = |public: &SignedPublicKey| {
        let keys = public.to_armored_bytes(ArmorOptions::default()).unwrap();
        fs_err::write(fixture.folder.path().join("keyring.asc"), keys).unwrap();
    };
    let mut public = fixture.key.to_public_key();
    trust(&public);
    fixture.open().unwrap();
    let revocation =
        about_key(&fixture.key, &fixture.key, SignatureType::KeyRevocation, Vec::new());
    public.details.revocation_signatures.push(revocation);
    trust(&public);
    let failure = fixture.failure();
    assert_eq!(failure.class(), Class::Io);
    assert!(failure.to_string().contains("no good signature"), "{failure}");
    assert!(failure.to_string().ends_with("a key that was revoked"), "{failure}");
    assert!(failure.help().unwrap().contains("os.keyring"), "{failure:?}");
}

#[test]
fn a_message_too_large_for_an_index_is_refused_unread() {
    let key = key(1);
    let mut message = by_primary(&key);
    // Blanks after the signature mean nothing: only the size is wrong.
    message.resize(4 << 20, b'\n');
    verify(&key.to_public_key(), &message, SIGNED).unwrap();
    message.push(b'\n');
    let failure = verify(&key.to_public_key(), &message, SIGNED).unwrap_err();
    assert_eq!(failure.class(), Class::Io);
    assert!(failure.to_string().contains("4194305 bytes"), "{failure}");
    assert!(failure.help().is_some());
}
