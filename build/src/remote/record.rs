//! Records: what a remote store says of a node, signed.
//!
//! ```text
//! nodekiln remote node 1
//! {"id":…,"record":…,"pack":…}
//! -----BEGIN SSH SIGNATURE-----
//! …
//! ```
//!
//! The signature is OpenSSH's (PROTOCOL.sshsig), over the two lines, in a namespace of its own;
//! `ssh-keygen -Y verify` checks it. The node's id, the inventory's digest and the pack's digest
//! are signed together, so that nobody can serve one node, or one pack, for another.

use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Result, ResultExt as _, Sha256};
use serde::{Deserialize, Serialize};
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::pack::PackName;
use crate::store::NodeRecord;

/// The namespace of the signature: no other signature of the same key is taken for one of these.
const NAMESPACE: &str = "nodekiln-node";

/// The first line; raised when the format changes.
const MAGIC: &str = "nodekiln remote node 1\n";

/// What the signature begins with. The lines before it have no line end within.
const SIGNATURE: &str = "\n-----BEGIN SSH SIGNATURE-----";

/// The longest record, in bytes. The longest part of one is what the node's id is made of; a list of
/// a thousand packages has 200 kB.
pub(super) const RECORD_LIMIT: u64 = 16 << 20;

/// A node that can be had from a remote store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offer {
    /// The node.
    pub(super) id: NodeId,
    /// What the store keeps of it; `output` is the digest of its inventory.
    pub(super) record: NodeRecord,
    /// Its inventory and files.
    pub(super) pack: PackName,
}

impl Offer {
    /// The record's bytes, signed by `key`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(super) fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>> {
        let cannot = || "cannot sign a node's record".to_owned();
        let mut text = MAGIC.to_owned() + &serde_json::to_string(self).or_io(cannot)? + "\n";
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes()).or_io(cannot)?;
        text += &signature.to_pem(LineEnding::LF).or_io(cannot)?;
        Ok(text.into_bytes())
    }

    /// Reads the record of the node `id` that `key` should have signed.
    ///
    /// # Errors
    /// Why it is not to be believed, in words.
    pub(super) fn verify(
        bytes: &[u8],
        id: NodeId,
        key: &PublicKey,
    ) -> std::result::Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        if !text.starts_with(MAGIC) {
            let first = text.lines().next().unwrap_or_default();
            let first: String = first.chars().take(40).collect();
            return Err(format!("it begins with `{first}`, not with `{}`", MAGIC.trim_end()));
        }
        let (signed, signature) = match text.find(SIGNATURE) {
            Some(at) => text.split_at(at + 1),
            None => return Err("it has no signature, or its end is missing".to_owned()),
        };
        let signature: SshSig =
            signature.parse().map_err(|error| format!("its signature cannot be read: {error}"))?;
        // Before anything that was signed is looked at.
        key.verify(NAMESPACE, signed.as_bytes(), &signature)
            .map_err(|error| format!("its signature is wrong: {error}"))?;
        let json = signed.strip_prefix(MAGIC).unwrap_or_default();
        let offer: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if offer.id != id {
            return Err(format!("it is the record of another node, {}", offer.id));
        }
        if Sha256::of(&offer.record.preimage) != id.0 {
            return Err("what it says that the id is made of is something else".to_owned());
        }
        Ok(offer)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use ssh_key::private::{Ed25519Keypair, KeypairData};

    fn key(seed: u8) -> PrivateKey {
        let data = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
        PrivateKey::new(data, "test").unwrap()
    }

    fn offer(preimage: &str) -> Offer {
        let record = NodeRecord {
            name: "one".to_owned(),
            preimage: preimage.to_owned(),
            output: Sha256::of("inventory"),
            files: 1,
            bytes: 2,
            seconds: 0.25,
            facts: [("a".to_owned(), "-----BEGIN SSH SIGNATURE-----".to_owned())].into(),
        };
        let pack = PackName { sha256: Sha256::of("pack"), size: 9, unpacked: 10 };
        Offer { id: NodeId(Sha256::of(preimage)), record, pack }
    }

    #[test]
    fn a_record_is_believed_as_it_was_signed_and_in_no_other_way() {
        let (mine, other) = (key(1), key(2));
        let offer = offer("preimage");
        let bytes = offer.sign(&mine).unwrap();
        let public = mine.public_key();
        assert_eq!(Offer::verify(&bytes, offer.id, public).unwrap(), offer);
        let why = |bytes: &[u8], id| Offer::verify(bytes, id, public).unwrap_err();
        assert!(why(&bytes, NodeId(Sha256::of("x"))).contains("another node"));
        let forged = offer.sign(&other).unwrap();
        assert!(why(&forged, offer.id).contains("signature is wrong"));
        assert!(why(&bytes[..bytes.len() - 40], offer.id).contains("signature cannot be read"));
        assert!(why(&bytes[..60], offer.id).contains("no signature"));
        assert!(why(b"\xff", offer.id).contains("no text"));
        assert!(why(b"nodekiln remote node 2\n", offer.id).contains("remote node 2"));
        // Every byte that is signed counts; of the signature some white space does not.
        let end = bytes.windows(SIGNATURE.len()).position(|part| part == SIGNATURE.as_bytes());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            match Offer::verify(&bad, offer.id, public) {
                Ok(read) => assert!(at > end.unwrap() && read == offer, "byte {at}"),
                Err(why) => assert!(!why.is_empty()),
            }
        }
        // The same key's signature for another purpose.
        let text = String::from_utf8(bytes.clone()).unwrap();
        let signed = text.split_at(text.find(SIGNATURE).unwrap() + 1).0;
        let elsewhere = mine.sign("file", HashAlg::Sha512, signed.as_bytes()).unwrap();
        let swapped = signed.to_owned() + &elsewhere.to_pem(LineEnding::LF).unwrap();
        assert!(why(swapped.as_bytes(), offer.id).contains("signature is wrong"));
    }

    #[test]
    fn a_signed_record_whose_id_is_not_made_of_its_inputs_is_refused() {
        let mut offer = offer("preimage");
        offer.record.preimage.push('!');
        let bytes = offer.sign(&key(1)).unwrap();
        let why = Offer::verify(&bytes, offer.id, key(1).public_key()).unwrap_err();
        assert!(why.contains("made of"), "{why}");
    }

    #[test]
    fn openssh_verifies_the_signature() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = offer("preimage").sign(&key(1)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (signed, signature) = text.split_at(text.find(SIGNATURE).unwrap() + 1);
        let (file, signers) = (folder.path().join("sig"), folder.path().join("signers"));
        std::fs::write(&file, signature).unwrap();
        let public = key(1).public_key().to_openssh().unwrap();
        std::fs::write(&signers, format!("builder {public}\n")).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-I", "builder", "-n", NAMESPACE, "-s"]);
        command.arg(&file).arg("-f").arg(&signers).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("ssh-keygen is missing: install openssh-client");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), signed.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
