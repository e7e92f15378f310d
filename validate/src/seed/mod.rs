//! What the validator tells the guest, and the NoCloud seed that tells it on a small disk.
//!
//! A FAT file system labelled `CIDATA` with `meta-data`, `user-data` and `network-config`, as
//! cloud-init's NoCloud datasource reads it. The user-data has the shape that Cluster API's
//! kubeadm bootstrap provider sends, plus what the validator needs to look inside.

mod authorities;
mod join;
mod kubeadm;
mod medium;
mod user_data;

pub use authorities::Authorities;
pub use join::{JoinPlan, TOKEN, way};
pub(crate) use kubeadm::NETWORK_PLUGIN;
pub use kubeadm::{CLIENT_NAME, HOST_PORT, KubeadmPlan, OBJECTS, POD_NAME, SENTINEL, node_name};

use nodekiln_words::Result;
use uuid::Uuid;

use crate::keys::Keys;
use crate::place::Place;

/// The guest's address in QEMU's user-mode network.
pub const GUEST_ADDRESS: &str = "10.0.2.15";

/// What the seed tells.
#[derive(Clone, Debug)]
pub struct Seed<'a> {
    /// Which machine of the run it is for.
    pub place: Place,
    /// The instance's id: another one makes cloud-init treat the boot as a first boot.
    pub instance: Uuid,
    /// The node's name.
    pub hostname: &'a str,
    /// The keys of this run.
    pub keys: &'a Keys,
    /// What to bootstrap; `None` leaves the node alone.
    pub bootstrap: Option<Bootstrap<'a>>,
}

/// What cloud-init makes of the node with kubeadm.
#[derive(Clone, Copy, Debug)]
pub enum Bootstrap<'a> {
    /// A cluster's first node.
    Init(&'a KubeadmPlan),
    /// Another node of a cluster.
    Join(&'a JoinPlan),
}

/// A disk that NoCloud takes for its own, with these files.
///
/// # Errors
/// When the file system cannot be made, or is too small for them.
pub(crate) fn cidata(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    medium::build(files)
}

impl Seed<'_> {
    /// The seed's disk image.
    ///
    /// # Errors
    /// When the file system cannot be made.
    pub fn image(&self) -> Result<Vec<u8>> {
        medium::build(&[
            ("meta-data", self.meta_data()),
            ("user-data", self.user_data()),
            ("network-config", self.network_config()),
        ])
    }

    /// The user-data, which every cloud hands over as it is.
    #[must_use]
    pub fn user_data(&self) -> String {
        user_data::render(self)
    }

    fn network_config(&self) -> String {
        let gateway = self.place.gateway().to_string();
        NETWORK_CONFIG.replace("{MAC}", &self.place.mac()).replace("{GATEWAY}", &gateway)
    }

    fn meta_data(&self) -> String {
        format!("instance-id: {}\nlocal-hostname: {}\n", self.instance, self.hostname)
    }
}

/// Network configuration, version 2. The address comes by DHCP, as it would in a cloud; the default
/// route is named here, because QEMU's closed network announces none and kubeadm and the kubelet
/// refuse a node without one. Nothing answers behind it.
const NETWORK_CONFIG: &str = "\
version: 2
ethernets:
  primary:
    match:
      macaddress: \"{MAC}\"
    set-name: eth0
    dhcp4: true
    dhcp6: false
    routes:
      - to: 0.0.0.0/0
        via: {GATEWAY}
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nodekiln_words::Sha256;

    use super::*;
    use crate::expect::Expectations;
    use crate::keys::{Host, KeyPair};
    use crate::metadata::Cloud;

    fn expect(version: &str) -> Expectations {
        let images = [(format!("registry.example/etcd:{version}"), Sha256::of("etcd"))].into();
        Expectations {
            kubernetes: Some(version.parse().unwrap()),
            images,
            ..Expectations::default()
        }
    }

    fn user_data(expect: &Expectations) -> String {
        let keys = Keys {
            login: KeyPair::from_seed([1; 32]).unwrap(),
            host: Host::Given(KeyPair::from_seed([2; 32]).unwrap()),
        };
        let plan = KubeadmPlan::of(expect, Cloud::NoCloud).unwrap();
        let seed = Seed {
            place: Place::FIRST,
            instance: Uuid::nil(),
            hostname: "node-1",
            keys: &keys,
            bootstrap: plan.as_ref().map(Bootstrap::Init),
        };
        let text = user_data::render(&seed);
        without_secrets(&text)
    }

    /// Keys and certificates are drawn anew, and OpenSSH's private format holds a random number besides: of each
    /// only its first and last line can be reviewed.
    fn without_secrets(text: &str) -> String {
        let mut inside = false;
        let reviewed = text.lines().filter(|line| {
            inside &= !line.contains("-----END");
            let shown = !inside;
            inside |= line.contains("-----BEGIN");
            shown
        });
        reviewed.map(|line| format!("{line}\n")).collect()
    }

    fn golden(name: &str, actual: &str) {
        let path = Path::new("golden").join(name);
        if std::env::var_os("NODEKILN_BLESS").is_some() {
            fs_err::write(&path, actual).unwrap();
        }
        let reviewed = fs_err::read_to_string(&path).unwrap();
        assert_eq!(actual, reviewed, "{name}; set NODEKILN_BLESS=1 to rewrite");
    }

    #[test]
    fn user_data_is_as_reviewed_for_each_api_version() {
        let mut old = expect("1.20.2");
        old.unavailable_images.insert("k8s.gcr.io/coredns:1.7.0".into(), "no source".into());
        old.image_repository = Some("k8s.gcr.io".into());
        golden("user-data-1.20.txt", &user_data(&old));
        golden("user-data-1.30.txt", &user_data(&expect("1.30.1")));
        golden("user-data-1.36.txt", &user_data(&expect("1.36.1")));
    }

    #[test]
    fn without_a_cluster_the_user_data_only_lets_the_validator_in() {
        let text = user_data(&Expectations::default());
        assert!(text.starts_with("## template: jinja\n#cloud-config\n"), "{text}");
        assert!(text.contains("name: nodekiln") && !text.contains("kubeadm"), "{text}");
    }

    #[test]
    fn preflight_is_only_let_pass_what_a_missing_image_forces() {
        let plan = KubeadmPlan::of(&expect("1.36.1"), Cloud::NoCloud).unwrap().unwrap();
        assert!(plan.skip_phases.is_empty() && plan.ignore_preflight.is_empty());
        assert!(plan.brings_dns());
        let mut without = expect("1.20.2");
        without.unavailable_images.insert("r/coredns:1.7.0".into(), "no source".into());
        assert!(!KubeadmPlan::of(&without, Cloud::NoCloud).unwrap().unwrap().brings_dns());
        assert_eq!(KubeadmPlan::of(&Expectations::default(), Cloud::NoCloud).unwrap(), None);
    }

    #[test]
    fn the_node_is_named_by_the_template_of_each_clouds_provider() {
        for cloud in Cloud::ALL {
            let keys = Keys { login: KeyPair::from_seed([1; 32]).unwrap(), host: Host::own() };
            let plan = KubeadmPlan::of(&expect("1.36.1"), cloud).unwrap();
            let seed = Seed {
                place: Place::FIRST,
                instance: Uuid::nil(),
                hostname: "n",
                keys: &keys,
                bootstrap: plan.as_ref().map(Bootstrap::Init),
            };
            let text = seed.user_data();
            assert!(
                text.contains(&format!("  name: '{}'\n", node_name(cloud))),
                "{cloud:?}\n{text}"
            );
            assert_eq!(text.matches("{{").count(), 1, "{cloud:?}");
            assert!(!text.contains("ssh_keys:"), "it makes its own: {text}");
        }
    }

    #[test]
    fn a_yaml_parser_finds_every_file_and_command() {
        #[derive(serde::Deserialize)]
        struct CloudConfig {
            write_files: Vec<WriteFile>,
            runcmd: Vec<String>,
        }
        #[derive(serde::Deserialize)]
        struct WriteFile {
            path: String,
            content: String,
        }
        let config: CloudConfig = serde_saphyr::from_str(&user_data(&expect("1.36.1"))).unwrap();
        let paths: Vec<&str> = config.write_files.iter().map(|file| file.path.as_str()).collect();
        let (authorities, paths) = paths.split_at(8);
        assert!(authorities.iter().all(|path| path.starts_with("/etc/kubernetes/pki/")));
        assert_eq!(
            paths,
            [
                "/run/kubeadm/kubeadm.yaml",
                "/run/cluster-api/placeholder",
                "/etc/cni/net.d/10-nodekiln.conflist",
                OBJECTS[0].1,
                OBJECTS[1].1,
                OBJECTS[2].1,
            ]
        );
        serde_json::from_str::<serde_json::Value>(&config.write_files[8 + 2].content).unwrap();
        let last = config.runcmd.last().unwrap();
        assert_eq!(
            last,
            &format!(
                "kubeadm init --config /run/kubeadm/kubeadm.yaml && echo success > {SENTINEL}"
            )
        );
    }

    #[test]
    fn jinja_marks_stand_only_where_they_are_meant() {
        let text = user_data(&expect("1.20.2"));
        let rest = text.replace(node_name(Cloud::NoCloud), "");
        for mark in ["{{", "{%", "{#", "}}", "%}", "#}"] {
            assert!(!rest.contains(mark), "{mark}");
        }
    }
}
