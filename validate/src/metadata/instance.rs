//! One instance of one cloud: the description that every service and every medium is rendered from.
//!
//! Ids are derived from a seed, the cloud and the number of the clone, so that two runs tell a guest the
//! same and two clones differ.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use nodekiln_providers::Smbios;
use nodekiln_words::{Failure, Result, derive_uuid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Cloud;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let byte = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            Failure::input(format!("`{text}` is no Ethernet address"))
                .with_help("six bytes in hexadecimal, as in 52:54:00:6e:6b:01")
        })
    }
}

/// Whether EC2's service insists on tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokens {
    /// `http-tokens: required`: IMDSv2 only, the default of new accounts and of current images.
    #[default]
    Required,
    /// `http-tokens: optional`: requests without a token are answered too (IMDSv1).
    Optional,
}

/// An instance of a cloud.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance {
    /// The cloud it is in.
    pub cloud: Cloud,
    /// All other ids are derived from it.
    pub id: Uuid,
    /// UUID in the system's SMBIOS table, as the hypervisor is told it.
    pub system_uuid: Uuid,
    /// The strings of its machine's SMBIOS tables ([`Instance::smbios`]).
    pub(super) strings: Vec<(u8, &'static str, String)>,
    /// Host name without domain.
    pub hostname: String,
    /// Ethernet address of its only card.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix, 8 to 30 bits.
    pub prefix: u8,
    /// Its router.
    pub gateway: Ipv4Addr,
    /// Public keys, one OpenSSH line each.
    pub ssh_keys: Vec<String>,
    /// The user who gets the keys, where the cloud names one (Azure, GCE).
    pub admin: String,
    /// What the user wants done at first boot; any bytes.
    pub user_data: Option<Vec<u8>>,
    /// What the cloud wants done at first boot (OpenStack: JSON; NoCloud: as user-data).
    pub vendor_data: Option<Vec<u8>>,
    /// Region, in the cloud's own words.
    pub region: String,
    /// Availability zone, in the cloud's own words.
    pub zone: String,
    /// Machine type, in the cloud's own words.
    pub machine_type: String,
    /// Account, subscription or project.
    pub account: String,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// Whether EC2's service insists on tokens.
    pub tokens: Tokens,
}

/// Without user-data, which may hold secrets.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Instance");
        shown.field("cloud", &self.cloud).field("id", &self.id).field("hostname", &self.hostname);
        shown.finish_non_exhaustive()
    }
}

/// What a person writes of an instance; all that is left out is derived.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Description {
    /// Any text; another one gives an instance with other ids.
    pub seed: Option<String>,
    /// Number of the clone: 0, 1, …
    pub clone: u32,
    /// Host name without domain.
    pub hostname: Option<String>,
    /// Ethernet address; must be that of the guest's card.
    pub mac: Option<String>,
    /// Address and prefix, as in `10.0.2.15/24`.
    pub address: Option<String>,
    /// Router.
    pub gateway: Option<Ipv4Addr>,
    /// Public keys, one OpenSSH line each.
    pub ssh_keys: Vec<String>,
    /// User who gets the keys (Azure, GCE).
    pub admin: Option<String>,
    /// User-data.
    pub user_data: Option<String>,
    /// Vendor-data.
    pub vendor_data: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Availability zone.
    pub zone: Option<String>,
    /// Machine type.
    #[serde(rename = "type")]
    pub machine_type: Option<String>,
    /// Account number, subscription or project.
    pub account: Option<String>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// EC2: `required` (IMDSv2 only) or `optional`.
    pub http_tokens: Tokens,
}

/// Without user-data, which may hold secrets.
impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Description");
        shown.field("seed", &self.seed).field("clone", &self.clone);
        shown.field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Description {
    /// Reads YAML.
    ///
    /// # Errors
    /// When it is no YAML or has unknown keys; told with line and column.
    pub fn parse(text: &str) -> Result<Self> {
        // Without the lines around the error: they may be user-data.
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            Failure::input("this is no description of an instance")
                .with_source(error)
                .with_help(
                    "keys: seed, clone, hostname, mac, address, gateway, ssh-keys, admin, user-data, \
                     vendor-data, region, zone, type, account, tags, http-tokens (docs/metadata.md)",
                )
        })
    }
}

/// Seeds of people's own words are derived from this one.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e6f_6465_6b69_5c6e_a1d0_6d65_7461_6461);
/// QEMU's user-mode network gives its guest this address.
const ADDRESS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 15), 24);
/// The router there.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

impl Instance {
    /// The instance that `description` asks for.
    ///
    /// # Errors
    /// When a value is none that the cloud could have: host name, addresses, keys, tags.
    pub fn of(cloud: Cloud, description: Description) -> Result<Self> {
        let seed = Uuid::new_v5(&NAMESPACE, description.seed.unwrap_or_default().as_bytes());
        let id = derive_uuid(seed, &format!("{}/{}", cloud.as_str(), description.clone));
        let defaults = Defaults::of(cloud);
        let [a, b, c, ..] = *derive_uuid(id, "mac").as_bytes();
        let mac = match &description.mac {
            Some(text) => text.parse()?,
            None => Mac([0x52, 0x54, 0x00, a, b, c]), // QEMU's prefix
        };
        let (address, prefix) = match &description.address {
            Some(text) => network(text)?,
            None => ADDRESS,
        };
        let region = description.region.unwrap_or_else(|| defaults.region.to_owned());
        let zone = description.zone.unwrap_or_else(|| defaults.zone.replace("{}", &region));
        let name = || format!("node-{:08x}", derive_uuid(id, "hostname").as_fields().0);
        let user_data = description.user_data.map(String::into_bytes);
        let account = |name: &str| name.replace("{}", &derive_uuid(id, "account").to_string());
        let instance = Self {
            cloud,
            id,
            system_uuid: derive_uuid(id, "machine"),
            strings: Vec::new(),
            hostname: description.hostname.unwrap_or_else(name),
            mac,
            address,
            prefix,
            gateway: description.gateway.unwrap_or(GATEWAY),
            ssh_keys: description.ssh_keys,
            admin: description.admin.unwrap_or_else(|| defaults.admin.to_owned()),
            user_data,
            vendor_data: description.vendor_data.map(String::into_bytes),
            region,
            zone,
            machine_type: description.machine_type.unwrap_or_else(|| defaults.machine_type.into()),
            account: description.account.unwrap_or_else(|| account(defaults.account)),
            tags: description.tags,
            tokens: description.http_tokens,
        };
        instance.check()?;
        Ok(instance)
    }

    fn check(&self) -> Result<()> {
        name("host name", &self.hostname)?;
        if self.hostname.contains('.') {
            return Err(Failure::input(format!("host name `{}` has a domain", self.hostname))
                .with_help("give the name alone: each cloud adds a domain of its own"));
        }
        let words = [
            ("region", &self.region),
            ("zone", &self.zone),
            ("type", &self.machine_type),
            ("account", &self.account),
            ("admin", &self.admin),
        ];
        words.iter().try_for_each(|(what, word)| name(what, word))?;
        self.ssh_keys.iter().try_for_each(|key| public_key(key))?;
        self.tags.keys().try_for_each(|key| tag(key))
    }

    /// The id by which the cloud's own services and its datasource know the instance.
    #[must_use]
    pub fn instance_id(&self) -> String {
        match self.cloud {
            Cloud::Aws => self.resource("i", "instance"),
            Cloud::Gce => self.number("instance").to_string(),
            Cloud::Azure | Cloud::VSphere => self.system_uuid.to_string(),
            Cloud::OpenStack | Cloud::NoCloud => self.id.to_string(),
        }
    }

    /// Host name with the domain that the cloud gives it.
    #[must_use]
    pub fn fqdn(&self) -> String {
        match self.cloud {
            Cloud::Aws if self.region == "us-east-1" => format!("{}.ec2.internal", self.hostname),
            Cloud::Aws => format!("{}.{}.compute.internal", self.hostname, self.region),
            Cloud::Gce => format!("{}.{}.c.{}.internal", self.hostname, self.zone, self.account),
            Cloud::OpenStack => format!("{}.novalocal", self.hostname),
            Cloud::Azure | Cloud::NoCloud | Cloud::VSphere => self.hostname.clone(),
        }
    }

    /// The first address of its network.
    #[must_use]
    pub fn network(&self, prefix: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & mask(prefix))
    }

    /// The mask of its network.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// The name that kubelet registers the node by, where the cloud's own controller is to find it again.
    pub(crate) fn node_name(&self) -> String {
        match self.cloud {
            Cloud::Aws => self.fqdn(),
            Cloud::Azure | Cloud::Gce | Cloud::OpenStack | Cloud::VSphere | Cloud::NoCloud => {
                self.hostname.clone()
            }
        }
    }

    /// An id as EC2 writes them: a prefix, a hyphen and 17 hexadecimal digits.
    pub(super) fn resource(&self, prefix: &str, role: &str) -> String {
        let digits = derive_uuid(self.id, role).simple().to_string();
        format!("{prefix}-{}", digits.get(..17).unwrap_or_default())
    }

    /// An id as GCE writes them: a positive number of 63 bits.
    pub(super) fn number(&self, role: &str) -> u64 {
        derive_uuid(self.id, role).as_u64_pair().0 >> 1
    }

    /// The same instance on a machine whose firmware tells `machine`, with ids derived from `seed`.
    #[must_use]
    pub fn on(mut self, machine: &Smbios, seed: Uuid) -> Self {
        self.strings.clear();
        for (table, fields) in machine.fields(seed) {
            self.strings.extend(fields.into_iter().map(|(field, text)| (table, field, text)));
        }
        if let Some(uuid) = machine.uuid_of(seed) {
            self.system_uuid = uuid;
            self.strings.push((1, "uuid", uuid.to_string()));
        }
        for (table, field, text) in &mut self.strings {
            if self.cloud == Cloud::Aws && (*table, *field) == (1, "product") {
                text.clone_from(&self.machine_type); // the profile has that of one machine
            }
        }
        self
    }

    /// Strings of the guest's SMBIOS tables by which it knows its cloud: table, field and text, in the words
    /// of QEMU's `-smbios`. The UUID is `-uuid`'s as well. There are none as long as the instance is not
    /// [on](Self::on) a machine.
    #[must_use]
    pub fn smbios(&self) -> Vec<(u8, &'static str, String)> {
        self.strings.clone()
    }
}

/// What is assumed of an instance in each cloud.
struct Defaults {
    region: &'static str,
    /// `{}` stands for the region.
    zone: &'static str,
    machine_type: &'static str,
    /// `{}` stands for a derived UUID.
    account: &'static str,
    admin: &'static str,
}

impl Defaults {
    fn of(cloud: Cloud) -> Self {
        let [region, zone, machine_type, account, admin] = match cloud {
            Cloud::Aws => ["us-east-1", "{}a", "m5.large", "123456789012", "nodekiln"],
            Cloud::Azure => ["westeurope", "1", "Standard_D2s_v3", "{}", "capi"],
            // cloud-init takes keys of this user wherever it runs, whatever its default user is.
            Cloud::Gce => ["europe-west1", "{}-b", "n2-standard-2", "nodekiln", "cloudinit"],
            Cloud::OpenStack => ["RegionOne", "nova", "m1.medium", "{}", "nodekiln"],
            Cloud::NoCloud | Cloud::VSphere => ["none", "none", "none", "none", "nodekiln"],
        };
        Self { region, zone, machine_type, account, admin }
    }
}

const fn mask(prefix: u8) -> u32 {
    match u32::MAX.checked_shl(32 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

fn network(text: &str) -> Result<(Ipv4Addr, u8)> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let prefix = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix))?;
        Some((address.parse().ok()?, prefix))
    });
    parsed.ok_or_else(|| {
        Failure::input(format!("`{text}` is no address with prefix"))
            .with_help("write it as 10.0.2.15/24; the prefix has 8 to 30 bits")
    })
}

/// A word that goes into paths, host names and lines: letters, digits, dots, hyphens, underscores.
fn name(what: &str, word: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    if (1..=63).contains(&bytes.len())
        && bytes.iter().copied().all(fine)
        && edge(bytes.first())
        && edge(bytes.last())
    {
        return Ok(());
    }
    Err(Failure::input(format!("{what} `{}` is none", word.escape_debug())).with_help(
        "1 to 63 letters, digits, dots, hyphens and underscores, with a letter or digit at either end",
    ))
}

/// EC2 shows keys of tags as paths, so it refuses others (instance tags in instance metadata).
fn tag(key: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"+-=._:@,".contains(&byte);
    if !key.is_empty() && key.len() <= 128 && key.bytes().all(fine) && key != "." && key != ".." {
        return Ok(());
    }
    Err(Failure::input(format!("tag `{}` cannot be shown in metadata", key.escape_debug()))
        .with_help("letters, digits and + - = . _ : @ , only"))
}

/// One line of OpenSSH's. What follows the key goes into other lines and documents, and must not end them.
fn public_key(line: &str) -> Result<()> {
    if !line.contains(char::is_control) && ssh_key::PublicKey::from_openssh(line).is_ok() {
        return Ok(());
    }
    let shown: String = line.chars().take(40).collect();
    Err(Failure::input(format!("`{}` is no public key of OpenSSH", shown.escape_debug()))
        .with_help("one line, as in ~/.ssh/id_ed25519.pub: ssh-ed25519 AAAA… name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f tester";

    fn of(cloud: Cloud, yaml: &str) -> Result<Instance> {
        Instance::of(cloud, Description::parse(yaml)?)
    }

    #[test]
    fn ids_are_derived_and_clones_differ() {
        for cloud in Cloud::ALL {
            let one = of(cloud, "seed: a").unwrap();
            assert_eq!(one, of(cloud, "seed: a").unwrap());
            for other in ["{seed: a, clone: 1}", "seed: b"] {
                let other = of(cloud, other).unwrap();
                assert_ne!(one.instance_id(), other.instance_id());
                assert_ne!(one.system_uuid, other.system_uuid);
                assert_ne!(one.mac, other.mac);
                assert_ne!(one.hostname, other.hostname);
            }
        }
    }

    #[test]
    fn an_instance_is_the_machine_that_it_is_on() {
        use nodekiln_providers::Provider as _;
        let machine = nodekiln_aws::Aws.machine().smbios;
        let instance = of(Cloud::Aws, "{seed: a, type: c5.large}").unwrap();
        let seed = instance.id;
        let instance = instance.on(&machine, seed);
        let strings = instance.smbios();
        let field = |table, name| {
            let found = strings.iter().find(|(at, field, _)| (*at, *field) == (table, name));
            found.map(|(_, _, text)| text.as_str())
        };
        let uuid = machine.uuid_of(seed).unwrap();
        assert_eq!(instance.system_uuid, uuid);
        assert_eq!(field(1, "uuid"), Some(uuid.to_string().as_str()));
        assert_eq!(field(1, "uuid"), field(1, "serial")); // as cloud-init up to 22.4 wants it
        assert_eq!(field(0, "vendor"), Some("Amazon EC2"));
        assert_eq!(field(1, "product"), Some("c5.large"));
        assert!(instance.instance_id().starts_with("i-") && instance.instance_id().len() == 19);
        // One whose machine says nothing keeps its own UUID, and that is the one of most machines.
        let silent = of(Cloud::Azure, "seed: a").unwrap();
        let own = silent.system_uuid;
        assert_eq!(nodekiln_azure::Azure.machine().smbios.uuid_of(silent.id), Some(own));
        let silent = silent.on(&Smbios::default(), seed);
        assert_eq!((silent.system_uuid, silent.smbios()), (own, vec![]));
    }

    #[test]
    fn a_node_is_called_as_its_clouds_controller_looks_it_up() {
        let name = |cloud| of(cloud, "{hostname: node-1, region: eu-west-1}").unwrap().node_name();
        assert_eq!(name(Cloud::Aws), "node-1.eu-west-1.compute.internal");
        for cloud in [Cloud::Azure, Cloud::Gce, Cloud::OpenStack, Cloud::VSphere, Cloud::NoCloud] {
            assert_eq!(name(cloud), "node-1");
        }
    }

    #[test]
    fn user_data_is_not_shown_by_accident() {
        let description =
            Description::parse("user-data: hush-hush\nvendor-data: hush-hush").unwrap();
        let shown = format!("{description:?}");
        let instance = Instance::of(Cloud::OpenStack, description).unwrap();
        assert_eq!(instance.user_data.as_deref(), Some(b"hush-hush".as_slice()));
        assert!(!format!("{shown}{instance:?}").contains("104, 117"), "{instance:?}");
        assert!(!shown.contains("hush"), "{shown}");
        for wrong in [
            "user-data: hush-hush\ncolour: red\n",
            "user-data: hush-hush\nclone: x\nhostname: a",
            "user-data: |\n  #cloud-config\n  hush-hush\n bad",
            "user-data: \"hush-hush",
            "user-data: [hush-hush]",
            "user-data: {hush: hush}",
        ] {
            let failure = Description::parse(wrong).expect_err(wrong);
            let told = format!("{:?} {failure:?}", failure.chain());
            assert!(!told.contains("hush"), "{wrong}: {told}");
        }
    }

    #[test]
    fn networks_are_masked() {
        let instance = of(Cloud::Aws, "address: 10.1.2.77/26").unwrap();
        assert_eq!(instance.network(26).to_string(), "10.1.2.64");
        assert_eq!(instance.mask().to_string(), "255.255.255.192");
    }

    #[test]
    fn what_no_cloud_could_have_is_refused_with_a_remedy() {
        let wrong = [
            "hostname: a.b",
            "hostname: 'a b'",
            "hostname: '-a'",
            "mac: 52:54:00:6e:6b",
            "mac: '+5:54:00:6e:6b:01'",
            "address: 10.0.2.15",
            "address: 10.0.2.15/31",
            "ssh-keys: [\"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQ\"]",
            "ssh-keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a\\nb\"]",
            // A key of the right kind and too short.
            "ssh-keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQ== a\"]",
            "tags: {'a/b': c}",
            "zone: 'x/y'",
            "colour: red",
        ];
        for yaml in wrong {
            let failure = of(Cloud::Gce, yaml).expect_err(yaml);
            assert_eq!(failure.class(), nodekiln_words::Class::Input, "{yaml}");
            assert!(failure.help().is_some(), "{yaml}: {failure:?}");
        }
        let disguised = format!("ssh-keys: ['{}']", KEY.replace("ssh-ed25519", "ssh-rsa"));
        assert!(of(Cloud::Gce, &disguised).is_err());
        let fine = format!("ssh-keys: ['{KEY}']\ntags: {{Name: a}}\nmac: 52-54-00-6E-6B-01");
        assert_eq!(of(Cloud::Gce, &fine).unwrap().mac.to_string(), "52:54:00:6e:6b:01");
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place() {
        let failure = Description::parse("hostname: a\ncolour: red\n").unwrap_err();
        let text = failure.chain().join(" ");
        assert!(text.contains("colour") && text.contains('2'), "{text}");
    }
}
