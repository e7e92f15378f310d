//! What the guest is told about itself in one run, and by which way: a NoCloud seed, the metadata service
//! of its cloud, or the medium that its cloud attaches.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use nodekiln_providers::MachineProfile;
use nodekiln_words::{Class, Failure, Result, ResultExt as _, Sha256};
use uuid::Uuid;

use crate::Machine;
use crate::artifact::Artifact;
use crate::evidence;
use crate::keys::{self, KeyPair, Keys};
use crate::metadata::{Cloud, Description, Emulation, Instance, Journal, Observed, media};
use crate::place::Place;
use crate::power_on::PowerOn;
use crate::rules::Software;
use crate::seed::{Bootstrap, Seed};

/// OpenStack's datasource for the config drive, as `datasource_list` has it.
const CONFIG_DRIVE: &str = "ConfigDrive";

/// What the guest's ids are derived from, so that two reports of one image are equal in them.
const INSTANCES: Uuid = Uuid::from_u128(0x6e6f_6465_6b69_6c6e_5f76_616c_6964_6174);

/// How a guest learns from its cloud who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// As the cloud does it: by its metadata service, its medium, or both.
    #[default]
    Usual,
    /// By OpenStack's config drive in place of its service.
    ConfigDrive,
}

/// What the guest is told, which the rules look for in it. Host name and keys are drawn for each run, so
/// that nothing in an image can be taken for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who tells it.
    pub cloud: Cloud,
    /// cloud-init's datasource for that, as `datasource_list` has it.
    pub data_source: &'static str,
    /// Its host name, without a domain.
    pub hostname: String,
    /// The name by which it registers with its cluster.
    pub node: String,
    /// Its instance id.
    pub instance_id: String,
    /// The public key that is told beside the user-data, where one is: an OpenSSH line.
    pub ssh_key: Option<String>,
    /// Digest of the user-data.
    pub user_data: Sha256,
    /// Of a host, to which this run told nothing, what is known of it instead; only `node` is true of it besides.
    pub host: Option<Host>,
}

/// What is known of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its cloud and cloud-init's datasource for that, where they are known.
    pub cloud: Option<(Cloud, &'static str)>,
    /// Whether its kubelet has joined a cluster.
    pub joined: bool,
    /// What it has.
    pub software: BTreeSet<Software>,
}

impl Told {
    /// What is known in place of what was told: `host`, which its cluster calls `node`.
    pub(crate) fn of_host(host: Host, node: String) -> Self {
        Self {
            cloud: Cloud::NoCloud,
            data_source: "",
            hostname: String::new(),
            node,
            instance_id: String::new(),
            ssh_key: None,
            user_data: Sha256::of(""),
            host: Some(host),
        }
    }
}

/// What the guest is told, and what is needed to tell it.
pub(crate) struct Provisioning {
    pub(crate) told: Told,
    /// A disk of raw bytes: NoCloud's seed.
    pub(crate) seed: Option<Vec<u8>>,
    /// The bytes of a CD.
    pub(crate) cd: Option<Vec<u8>>,
    service: Option<Instance>,
}

/// The part that is played for a guest: whose, and how that cloud tells it who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) cloud: Cloud,
    way: Way,
}

impl Part {
    /// The part for machines like `profile`. One whose own datasource is the config drive is told by that.
    ///
    /// # Errors
    /// [`Class::Unsupported`] for a datasource that nothing here can feed; [`Class::Input`] for a way that the
    /// cloud does not have.
    pub(crate) fn of(profile: &MachineProfile, way: Way) -> Result<Self> {
        let source = &profile.data_source;
        let cloud = Cloud::of_data_source(source).ok_or_else(|| {
            let text = format!("the image's machine wants the datasource {source}");
            Failure::new(Class::Unsupported, text).with_help(
                "validate plays the part of EC2, Azure, GCE, OpenStack, vSphere (OVF) and NoCloud",
            )
        })?;
        if way == Way::ConfigDrive && cloud != Cloud::OpenStack {
            let text = format!("there is no config drive on {}", cloud.as_str());
            return Err(Failure::input(text)
                .with_help("leave out `--config-drive`, or give an image for openstack"));
        }
        Ok(Self { cloud, way: if source == CONFIG_DRIVE { Way::ConfigDrive } else { way } })
    }

    /// The datasource that the image has to have in the cloud itself.
    pub(crate) fn own(self, profile: &MachineProfile) -> &str {
        match self.way {
            Way::ConfigDrive => CONFIG_DRIVE,
            Way::Usual => &profile.data_source,
        }
    }

    /// The datasource that has to be chosen under QEMU. On vSphere the one for VMware needs the hypervisor's
    /// own channel, and the one for the OVF environment is what remains.
    pub(crate) fn data_source(self) -> &'static str {
        match (self.cloud, self.way) {
            (Cloud::Aws, _) => "Ec2",
            (Cloud::Azure, _) => "Azure",
            (Cloud::Gce, _) => "GCE",
            (Cloud::OpenStack, Way::Usual) => "OpenStack",
            (Cloud::OpenStack, Way::ConfigDrive) => CONFIG_DRIVE,
            (Cloud::VSphere, _) => "OVF",
            (Cloud::NoCloud, _) => "NoCloud",
        }
    }

    /// Whether the cloud tells a guest by a medium, and whether by a service.
    fn channels(self) -> (bool, bool) {
        match (self.cloud, self.way) {
            (Cloud::VSphere, _) => (true, false),
            // OpenStack's service is there beside a config drive.
            (Cloud::Azure, _) | (Cloud::OpenStack, Way::ConfigDrive) => (true, true),
            (Cloud::Aws | Cloud::Gce | Cloud::OpenStack, _) => (false, true),
            (Cloud::NoCloud, _) => (false, false),
        }
    }
}

impl Provisioning {
    /// Draws up what the guest of this run is told.
    ///
    /// # Errors
    /// When there is no randomness, or a medium cannot be made.
    pub(crate) fn draw(
        machine: &Machine,
        place: Place,
        artifact: &Artifact,
        part: Part,
        keys: &Keys,
        bootstrap: Option<Bootstrap>,
    ) -> Result<Self> {
        let cloud = part.cloud;
        let name = artifact.path.to_string_lossy();
        let hostname = format!("node-{:08x}", u32::from_ne_bytes(keys::random()?));
        let mut instance = nodekiln_words::derive_uuid(INSTANCES, &name);
        if place != Place::FIRST {
            instance = nodekiln_words::derive_uuid(instance, &place.number().to_string());
        }
        let seed = Seed { place, instance, hostname: &hostname, keys, bootstrap };
        let user_data = sent(cloud, seed.user_data().into_bytes())?;
        let told = Told {
            cloud,
            data_source: part.data_source(),
            node: hostname.clone(),
            instance_id: instance.to_string(),
            ssh_key: None,
            user_data: Sha256::of(&user_data),
            hostname: hostname.clone(),
            host: None,
        };
        if cloud == Cloud::NoCloud {
            let seed = Some(seed.image()?);
            return Ok(Self { told, seed, cd: None, service: None });
        }
        let key = KeyPair::generate()?.public;
        let mut instance = Instance::of(
            cloud,
            Description {
                seed: Some(name.into_owned()),
                hostname: Some(hostname),
                clone: place.number().into(),
                mac: Some(place.mac()),
                address: Some(format!("{}/{}", place.address(), Place::PREFIX)),
                gateway: Some(place.gateway()),
                ssh_keys: vec![key.clone()],
                ..Description::default()
            },
        )?;
        instance.user_data = Some(user_data);
        let Machine { profile, seed, .. } = machine;
        // The cloud knows the machine by the id that its firmware tells.
        let instance = instance.on(&profile.smbios, *seed);
        let node = instance.node_name();
        let instance_id = instance.instance_id();
        let told = Told { node, instance_id, ssh_key: Some(key), ..told };
        let (medium, service) = part.channels();
        let cd = if medium { Some(media::medium(&instance)?.bytes) } else { None };
        Ok(Self { told, seed: None, cd, service: service.then_some(instance) })
    }

    /// Starts the cloud's services in a network of their own, where it has any; what they are asked is
    /// written into the folder `out`.
    ///
    /// # Errors
    /// When this machine does not let us have a network.
    pub(crate) fn serve(&self, out: &Path, power_on: PowerOn) -> Result<Option<Emulation>> {
        let Some(instance) = &self.service else { return Ok(None) };
        let journal = Journal::to_file(&out.join(power_on.file(evidence::METADATA)))?;
        let started = Emulation::start(instance.clone(), Vec::new(), journal);
        started.map(Some).map_err(no_network)
    }
}

/// The user-data as Cluster API's provider of the cloud sends it. Amazon's (CAPA) compresses it, unless
/// `uncompressedUserData` is set.
fn sent(cloud: Cloud, user_data: Vec<u8>) -> Result<Vec<u8>> {
    if cloud != Cloud::Aws {
        return Ok(user_data);
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let written = packed.write_all(&user_data).and_then(|()| packed.finish());
    written.or_io(|| "compress the user-data".into())
}

/// A failure to have a network for a cloud's services, with the remedy where this machine does not let us.
#[must_use]
pub fn no_network(failure: Failure) -> Failure {
    let text = "cannot play the part of the cloud's metadata service";
    if failure.class() != Class::Unsupported {
        return failure.context(text);
    }
    Failure::new(Class::Unsupported, text).with_source(failure).with_help(
        "run this as root, or let users have namespaces of their own: the service's address exists in a \
         network namespace alone. The sysctls user.max_user_namespaces and user.max_net_namespaces must not be \
         0, and where there is kernel.apparmor_restrict_unprivileged_userns, it must be",
    )
}

/// Whether the services of the cloud need a network of their own, which takes root or a user namespace.
#[must_use]
pub fn needs_namespace(profile: &MachineProfile, way: Way) -> bool {
    Part::of(profile, way).is_ok_and(|part| part.channels().1)
}

/// What the guest asked of its cloud's services and told them, so far.
pub(crate) fn observed(emulation: Option<&Emulation>) -> Option<Observed> {
    emulation.map(|emulation| emulation.server().observed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_the_clouds_own_and_another_is_refused() {
        let profile = |source: &str| MachineProfile {
            data_source: source.to_owned(),
            ..MachineProfile::virtio()
        };
        for (source, cloud, needs) in [
            ("Ec2", Cloud::Aws, true),
            ("Azure", Cloud::Azure, true),
            ("GCE", Cloud::Gce, true),
            ("OpenStack", Cloud::OpenStack, true),
            ("ConfigDrive", Cloud::OpenStack, true),
            ("VMware", Cloud::VSphere, false),
            ("NoCloud", Cloud::NoCloud, false),
        ] {
            let profile = profile(source);
            assert_eq!(Part::of(&profile, Way::Usual).unwrap().cloud, cloud);
            assert_eq!(needs_namespace(&profile, Way::Usual), needs, "{source}");
            let drive = Part::of(&profile, Way::ConfigDrive);
            assert_eq!(drive.is_ok(), cloud == Cloud::OpenStack, "{source}");
        }
        let failure = Part::of(&profile("Scaleway"), Way::Usual).unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        let told = |source, way| {
            let (profile, part) = (profile(source), Part::of(&profile(source), way).unwrap());
            (part.own(&profile).to_owned(), part.data_source(), part.channels().0)
        };
        for (source, way) in [
            ("ConfigDrive", Way::Usual),
            ("ConfigDrive", Way::ConfigDrive),
            ("OpenStack", Way::ConfigDrive),
        ] {
            assert_eq!(told(source, way), ("ConfigDrive".to_owned(), "ConfigDrive", true));
        }
        assert_eq!(told("OpenStack", Way::Usual), ("OpenStack".to_owned(), "OpenStack", false));
        assert_eq!(told("VMware", Way::Usual), ("VMware".to_owned(), "OVF", true));
    }

    #[test]
    fn a_machine_without_namespaces_is_told_with_what_this_verb_can_do() {
        let failure = Failure::new(Class::Unsupported, "no").with_help("use --listen");
        let told = no_network(failure);
        assert_eq!(told.class(), Class::Unsupported);
        let help = told.help().unwrap();
        assert!(help.contains("root") && !help.contains("--listen"), "{help}");
        // Where a program is missing or a disk is full, namespaces are no remedy.
        let failure = Failure::new(Class::Missing, "no setpriv").with_help("install it");
        let told = no_network(failure);
        assert_eq!((told.class(), told.help()), (Class::Missing, Some("install it")));
        assert!(told.to_string().contains("metadata service"), "{told}");
    }
}
