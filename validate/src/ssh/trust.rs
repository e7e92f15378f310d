//! When a host key is believed.

use std::path::PathBuf;

use nodekiln_words::{Failure, Result, ResultExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known_hosts::Known;
use super::{Address, HostKey};

/// By what a host's key is believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// It is one of these.
    Pinned(Vec<HostKey>),
    /// It is in the user's files.
    Known {
        /// Files of known hosts; one that is not there knows nobody.
        files: Vec<PathBuf>,
        /// Whether a host that none of them knows is believed too. A changed key never is.
        accept_new: bool,
    },
}

/// Why a host's key was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trusted {
    /// It is the one that was named for this run.
    Pinned,
    /// It is in the user's known hosts.
    Known,
    /// Nobody knew it, and it was to be accepted.
    Accepted,
}

impl Trusted {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Known => "known",
            Self::Accepted => "accepted unseen",
        }
    }
}

/// The keys that one host may show.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    known: Known,
    /// Why a key among them is believed.
    because: Trusted,
    accept_new: bool,
}

impl Expected {
    /// What `trust` says of the host at `address`.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub(crate) fn of(trust: &Trust, address: &Address) -> Result<Self> {
        let (files, accept_new) = match trust {
            Trust::Pinned(keys) => return Ok(Self::pinned(keys.clone())),
            Trust::Known { files, accept_new } => (files, *accept_new),
        };
        let mut known = Known::default();
        for file in files.iter().filter(|file| file.exists()) {
            let text = fs_err::read(file).or_io(|| "read the known hosts".into())?;
            known.add(&String::from_utf8_lossy(&text), &address.known_as());
        }
        Ok(Self { known, because: Trusted::Known, accept_new })
    }

    /// These keys and no other.
    pub(crate) fn pinned(keys: Vec<HostKey>) -> Self {
        let known = Known { keys, ..Known::default() };
        Self { known, because: Trusted::Pinned, accept_new: false }
    }

    /// The kinds of its keys: a server that has keys of several kinds is asked for one that can be compared.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.known.keys.iter().map(HostKey::kind).collect()
    }

    /// Why the key that the host at `address` shows is believed.
    ///
    /// # Errors
    /// When it is not: it is another one than before, revoked, or nobody knows it.
    pub(crate) fn judge(&self, address: &Address, shown: &HostKey) -> Result<Trusted> {
        let Self { known, because, accept_new } = self;
        let place = address.known_as();
        if known.revoked.contains(shown) {
            let text = format!("{place} shows a revoked host key, {}", shown.told());
            return Err(Failure::io(text).with_help("whoever has this key is not to be believed"));
        }
        if known.keys.contains(shown) {
            return Ok(*because);
        }
        if !known.keys.is_empty() {
            let keys: Vec<String> = known.keys.iter().map(HostKey::told).collect();
            let text = format!(
                "{place} shows the host key {}, and the {} one is {}",
                shown.told(),
                because.as_str(),
                keys.join(" or ")
            );
            return Err(Failure::io(text).with_help(
                "another machine answers there, or the host was made anew: compare the key with what its console or \
                 its cloud tells, then name it by `--host-key`, or remove the old one with `ssh-keygen -R`",
            ));
        }
        if *accept_new {
            return Ok(Trusted::Accepted);
        }
        let text = format!("nobody knows the host key of {place}, {}", shown.told());
        let help = format!(
            "compare it by another way, then say `--host-key '{shown}'`; `--accept-new` takes it unseen"
        );
        Err(Failure::input(text).with_help(help))
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Class;

    use super::*;
    use crate::keys::KeyPair;

    fn key(seed: u8) -> HostKey {
        KeyPair::from_seed([seed; 32]).unwrap().public.parse().unwrap()
    }

    #[test]
    fn a_changed_key_is_refused_with_both_fingerprints_whatever_is_accepted() {
        let address: Address = "root@node:2222".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (file, none) = (folder.path().join("known"), folder.path().join("none"));
        fs_err::write(&file, format!("[node]:2222 {}\n@revoked * {}\n", key(1), key(3))).unwrap();
        for accept_new in [false, true] {
            let trust = Trust::Known { files: vec![none.clone(), file.clone()], accept_new };
            let expected = Expected::of(&trust, &address).unwrap();
            assert_eq!(expected.kinds(), ["ssh-ed25519"]);
            assert_eq!(expected.judge(&address, &key(1)).unwrap(), Trusted::Known);
            let failure = expected.judge(&address, &key(2)).unwrap_err();
            assert_eq!(failure.class(), Class::Io);
            let text = failure.to_string();
            assert!(
                text.contains(&key(1).fingerprint()) && text.contains(&key(2).fingerprint()),
                "{text}"
            );
            let revoked = expected.judge(&address, &key(3)).unwrap_err();
            assert!(revoked.to_string().contains("revoked"), "{revoked:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_taken_only_where_it_is_said() {
        let address: Address = "node".parse().unwrap();
        let judge = |accept_new| {
            let trust = Trust::Known { files: vec![], accept_new };
            Expected::of(&trust, &address).unwrap().judge(&address, &key(1))
        };
        assert_eq!(judge(true).unwrap(), Trusted::Accepted);
        let failure = judge(false).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        assert!(
            failure.help().is_some_and(|help| help.contains(&key(1).to_string())),
            "{failure:?}"
        );
        let pinned = Expected::of(&Trust::Pinned(vec![key(1), key(2)]), &address).unwrap();
        assert_eq!(pinned.judge(&address, &key(2)).unwrap(), Trusted::Pinned);
        assert!(pinned.judge(&address, &key(3)).is_err());
    }
}
