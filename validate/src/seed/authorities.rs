//! The authorities of a cluster, which Cluster API makes before there is one and hands over to its first node.
//!
//! Source: Cluster API, `util/secret` — the four of a cluster whose etcd is stacked, their paths, modes and order; each
//! certificate has the name `kubernetes`, signs, and holds for ten years from five minutes ago. Cluster API draws RSA
//! keys; these are drawn on an elliptic curve, as those are that kubeadm draws here.

use std::fmt;
use std::time::{Duration, SystemTime};

use nodekiln_words::{Class, Result, ResultExt as _, Sha256};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};

use super::user_data::File;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a cluster's certificates and tokens are signed with, drawn for one run.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    cluster: Authority,
    etcd: Authority,
    front_proxy: Authority,
    /// The keys of the tokens of service accounts.
    accounts: Pair,
}

/// A certificate that signs others, and its key.
#[derive(Clone, PartialEq, Eq)]
struct Authority {
    certificate: String,
    key: String,
    /// SHA-256 of the public key's SubjectPublicKeyInfo in DER.
    public: Sha256,
}

/// A key pair in PEM.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    public: String,
    private: String,
}

/// Without the keys.
impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authorities").field(&self.fingerprint()).finish()
    }
}

impl Authorities {
    /// New authorities, whose certificates hold from now on.
    ///
    /// # Errors
    /// When no key can be drawn.
    pub(super) fn draw() -> Result<Self> {
        let accounts = key()?;
        Ok(Self {
            cluster: Authority::draw()?,
            etcd: Authority::draw()?,
            front_proxy: Authority::draw()?,
            accounts: Pair { public: accounts.public_key_pem(), private: accounts.serialize_pem() },
        })
    }

    /// By what a machine that joins knows the cluster: `sha256:` and hexadecimal digits, as kubeadm's
    /// `caCertHashes` has it.
    pub(crate) fn fingerprint(&self) -> String {
        format!("sha256:{}", self.cluster.public)
    }

    /// The files, where kubeadm looks for them.
    pub(super) fn files(&self) -> Vec<File> {
        let Self { cluster, etcd, front_proxy, accounts } = self;
        [
            ("/etc/kubernetes/pki/ca.crt", "0640", &cluster.certificate),
            ("/etc/kubernetes/pki/ca.key", "0600", &cluster.key),
            ("/etc/kubernetes/pki/etcd/ca.crt", "0640", &etcd.certificate),
            ("/etc/kubernetes/pki/etcd/ca.key", "0600", &etcd.key),
            ("/etc/kubernetes/pki/front-proxy-ca.crt", "0640", &front_proxy.certificate),
            ("/etc/kubernetes/pki/front-proxy-ca.key", "0600", &front_proxy.key),
            ("/etc/kubernetes/pki/sa.pub", "0640", &accounts.public),
            ("/etc/kubernetes/pki/sa.key", "0600", &accounts.private),
        ]
        .map(|(path, mode, content)| File { path, mode, content: content.clone() })
        .into()
    }
}

impl Authority {
    fn draw() -> Result<Self> {
        let key = key()?;
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.not_before = (now - Duration::from_secs(5 * 60)).into();
        params.not_after = (now + 10 * YEAR).into();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        let certificate =
            params.self_signed(&key).or_fail(Class::Io, || "sign a certificate".into())?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            public: Sha256::of(key.subject_public_key_info()),
        })
    }
}

fn key() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .or_fail(Class::Io, || "draw a key for a cluster".into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn openssl(folder: &Path, words: &[&str]) -> String {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(words).current_dir(folder).output().expect("openssl is missing");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn openssl_takes_each_certificate_for_an_authority_with_that_key() {
        let folder = tempfile::tempdir().unwrap();
        let authorities = Authorities::draw().unwrap();
        for file in authorities.files() {
            let name = file.path.strip_prefix("/etc/kubernetes/pki/").unwrap().replace('/', "-");
            fs_err::write(folder.path().join(name), file.content).unwrap();
        }
        for name in ["ca", "etcd-ca", "front-proxy-ca"] {
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            openssl(
                folder.path(),
                &["verify", "-check_ss_sig", "-x509_strict", "-CAfile", &certificate, &certificate],
            );
            let public =
                openssl(folder.path(), &["x509", "-in", &certificate, "-noout", "-pubkey"]);
            assert_eq!(public, openssl(folder.path(), &["pkey", "-in", &key, "-pubout"]), "{name}");
            let text = openssl(folder.path(), &["x509", "-in", &certificate, "-noout", "-text"]);
            for words in
                ["CA:TRUE", "Certificate Sign", "Subject: CN = kubernetes", "id-ecPublicKey"]
            {
                assert!(text.contains(words), "{words} in\n{text}");
            }
            // Nine years ahead it still holds; eleven years ahead no more.
            let years = (9 * YEAR).as_secs().to_string();
            openssl(folder.path(), &["x509", "-in", &certificate, "-noout", "-checkend", &years]);
            let years = (11 * YEAR).as_secs().to_string();
            let words = ["x509", "-in", &certificate, "-noout", "-checkend", &years];
            let status = Command::new("openssl").args(words).current_dir(folder.path()).output();
            assert!(!status.unwrap().status.success(), "{name}");
        }
        let accounts = openssl(folder.path(), &["pkey", "-in", "sa.key", "-pubout"]);
        let told = fs_err::read_to_string(folder.path().join("sa.pub")).unwrap();
        assert_eq!(accounts, told.replace("\r\n", "\n"));
        openssl(
            folder.path(),
            &["pkey", "-in", "ca.key", "-pubout", "-outform", "DER", "-out", "ca.der"],
        );
        let der = fs_err::read(folder.path().join("ca.der")).unwrap();
        assert_eq!(authorities.fingerprint(), format!("sha256:{}", Sha256::of(der)));
    }

    #[test]
    fn two_runs_have_different_authorities_and_debug_hides_the_keys() {
        let (one, two) = (Authorities::draw().unwrap(), Authorities::draw().unwrap());
        assert_ne!(one, two);
        assert_ne!(one.cluster.certificate, one.etcd.certificate);
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
