//! What the bootstrap does: kubeadm's configuration, the network plugin's, and what is run in the cluster.

use nodekiln_recipes::recipe::Version;
use nodekiln_words::Result;

use super::GUEST_ADDRESS;
use super::authorities::Authorities;
use super::user_data::File;
use crate::metadata::Cloud;

/// Written by the bootstrap when `kubeadm init` succeeded: Cluster API's contract.
pub const SENTINEL: &str = "/run/cluster-api/bootstrap-success.complete";
/// What is run in the cluster, in the namespace `default`: collection at the API server, and the manifest's path in the
/// guest.
pub const OBJECTS: [(&str, &str); 3] = [
    ("services", "/run/nodekiln/service.yaml"),
    ("pods", "/run/nodekiln/pod.yaml"),
    ("pods", "/run/nodekiln/client.yaml"),
];
/// The name of the probe pod and of its Service.
pub const POD_NAME: &str = "nodekiln-probe";
/// The name of the pod that reaches the probe pod from within the cluster.
pub const CLIENT_NAME: &str = "nodekiln-client";
/// The port of the node at which [`CLIENT_NAME`] answers: below those of Services, and no component's.
pub const HOST_PORT: u16 = 12379;
/// kubeadm's configuration in the guest.
const KUBEADM_CONFIG: &str = "/run/kubeadm/kubeadm.yaml";

/// The phase of `kubeadm init` that deploys CoreDNS.
const DNS_PHASE: &str = "addon/coredns";

/// How the templates of Cluster API's provider for `cloud` name the node: the only jinja in what it sends.
/// cloud-init fills it in from the metadata.
#[must_use]
pub fn node_name(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws | Cloud::NoCloud => "{{ ds.meta_data.local_hostname }}",
        Cloud::Azure => "{{ ds.meta_data[\"local_hostname\"] }}",
        Cloud::Gce => "{{ ds.meta_data.local_hostname.split(\".\")[0] }}",
        Cloud::OpenStack | Cloud::VSphere => "{{ local_hostname }}",
    }
}

/// A single-node cluster to bootstrap in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeadmPlan {
    /// The Kubernetes version of the image.
    pub version: Version,
    /// Registry and path of the control-plane images; `None` keeps kubeadm's default.
    pub image_repository: Option<String>,
    /// Phases of `kubeadm init` to leave out, such as `addon/coredns`.
    pub skip_phases: Vec<&'static str>,
    /// Preflight checks whose errors are let pass.
    pub ignore_preflight: Vec<&'static str>,
    /// Image of the probe pod, if there is one to run.
    pub pod_image: Option<String>,
    /// The node's name, as a template that cloud-init fills in ([`node_name`]).
    pub node_name: &'static str,
    /// What the cluster's certificates are signed with.
    pub authorities: Authorities,
}

impl KubeadmPlan {
    /// The plan for an image that claims `expect` and runs in `cloud`, with authorities of its own; `None` when it
    /// claims no Kubernetes.
    ///
    /// Without CoreDNS the DNS add-on is skipped, and kubeadm's check `ImagePull` is let pass, for it
    /// would try to fetch that image.
    ///
    /// # Errors
    /// When no keys can be drawn.
    pub fn of(expect: &crate::expect::Expectations, cloud: Cloud) -> Result<Option<Self>> {
        let Some(version) = expect.kubernetes else { return Ok(None) };
        let mut plan = Self {
            version,
            image_repository: expect.image_repository.clone(),
            skip_phases: Vec::new(),
            ignore_preflight: Vec::new(),
            pod_image: expect.pod_image().map(str::to_owned),
            node_name: node_name(cloud),
            authorities: Authorities::draw()?,
        };
        if expect.unavailable("coredns").is_some() {
            plan.skip_phases.push(DNS_PHASE);
        }
        if !expect.unavailable_images.is_empty() {
            plan.ignore_preflight.push("ImagePull");
        }
        Ok(Some(plan))
    }

    /// Whether kubeadm deploys the DNS add-on.
    pub(crate) fn brings_dns(&self) -> bool {
        !self.skip_phases.contains(&DNS_PHASE)
    }

    /// The `kubeadm init` command.
    pub(super) fn init(&self) -> String {
        let mut command = format!("kubeadm init --config {KUBEADM_CONFIG}");
        for (flag, names) in [
            ("--skip-phases", &self.skip_phases),
            ("--ignore-preflight-errors", &self.ignore_preflight),
        ] {
            if !names.is_empty() {
                command.push_str(&format!(" {flag}={}", names.join(",")));
            }
        }
        command
    }

    pub(super) fn files(&self) -> Vec<File> {
        let file = |path, mode, content| File { path, mode, content };
        let mut files = self.authorities.files();
        files.extend([
            file(KUBEADM_CONFIG, "0640", self.configuration()),
            placeholder(),
            network_plugin(NETWORK_PLUGIN.to_owned()),
        ]);
        if let Some(image) = &self.pod_image {
            let contents =
                [service(), pod(POD_NAME, image, ""), pod(CLIENT_NAME, image, &host_port())];
            files.extend(
                OBJECTS
                    .iter()
                    .zip(contents)
                    .map(|(&(_, path), content)| file(path, "0640", content)),
            );
        }
        files
    }

    /// kubeadm's API version: v1beta2 up to 1.21, v1beta3 up to 1.30, v1beta4 from 1.31.
    pub(super) fn api_version(&self) -> &'static str {
        match self.version.minor {
            ..=21 => "kubeadm.k8s.io/v1beta2",
            22..=30 => "kubeadm.k8s.io/v1beta3",
            31.. => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// `ClusterConfiguration` and `InitConfiguration`. The version is spelled out, so that kubeadm
    /// does not ask the network for the newest one.
    fn configuration(&self) -> String {
        let api = self.api_version();
        let version = self.version;
        let (cluster_timeout, init_timeouts) = self.timeouts();
        let (keys, patience) = (self.key_algorithm(), self.patience());
        let repository = match &self.image_repository {
            Some(repository) => format!("imageRepository: {repository}\n"),
            None => String::new(),
        };
        format!(
            "---\n\
             apiVersion: {api}\n\
             kind: ClusterConfiguration\n\
             clusterName: nodekiln\n\
             controlPlaneEndpoint: {GUEST_ADDRESS}:6443\n\
             {repository}\
             kubernetesVersion: v{version}\n\
             {cluster_timeout}\
             {keys}\
             {patience}\
             networking:\n  \
               dnsDomain: cluster.local\n  \
               podSubnet: 10.244.0.0/16\n  \
               serviceSubnet: 10.96.0.0/12\n\
             ---\n\
             apiVersion: {api}\n\
             kind: InitConfiguration\n\
             localAPIEndpoint:\n  \
               advertiseAddress: {GUEST_ADDRESS}\n  \
               bindPort: 6443\n\
             nodeRegistration:\n  \
               criSocket: {}\n  \
               name: '{}'\n\
             {init_timeouts}",
            self.cri_socket(),
            self.node_name,
        )
    }

    /// kubeadm's own patience, for `ClusterConfiguration` and, from v1beta4 on, for
    /// `InitConfiguration`. Its four minutes are made for hardware; the run's deadline decides.
    fn timeouts(&self) -> (&'static str, &'static str) {
        if self.version.minor < 31 {
            ("apiServer:\n  timeoutForControlPlane: 20m0s\n", "")
        } else {
            (
                "",
                "timeouts:\n  controlPlaneComponentHealthCheck: 20m0s\n  \
                 kubeletHealthCheck: 10m0s\n  kubernetesAPICall: 5m0s\n",
            )
        }
    }

    /// The same for `JoinConfiguration`: the first node may have been powered on a moment ago. Of its part
    /// `discovery`, and from v1beta4 on of the document.
    pub(super) fn join_timeouts(&self) -> (&'static str, &'static str) {
        if self.version.minor < 31 {
            ("  timeout: 20m0s\n", "")
        } else {
            (
                "",
                "timeouts:\n  discovery: 20m0s\n  kubeletHealthCheck: 10m0s\n  tlsBootstrap: 20m0s\n",
            )
        }
    }

    /// Has kubeadm draw the keys of its certificates on an elliptic curve: under emulation each search for a pair of RSA
    /// primes takes seconds. No part of the image has a say in it. A feature gate from 1.19 on, which leaves the keys in
    /// kubeconfig files as they are; a setting of v1beta4.
    fn key_algorithm(&self) -> &'static str {
        match self.version.minor {
            ..=18 => "",
            19..=30 => "featureGates:\n  PublicKeysECDSA: true\n",
            31.. => "encryptionAlgorithm: ECDSA-P256\n",
        }
    }

    /// Has controller manager and scheduler outlive an API server that is slow under emulation. With kubeadm's own
    /// settings each ends itself when its lease is not renewed within ten seconds, and is started minutes later.
    ///
    /// The scheduler holds no lease: there is one. The controller manager without a lease ends itself too, ten
    /// seconds after its start, where the API server does not answer by then; one that has to get a lease first
    /// waits for it.
    fn patience(&self) -> String {
        let lease = [
            ("leader-elect-lease-duration", "60s"),
            ("leader-elect-renew-deadline", "50s"),
            ("leader-elect-retry-period", "3s"),
        ];
        let components: [(&str, &[(&str, &str)]); 2] =
            [("controllerManager", &lease), ("scheduler", &[("leader-elect", "false")])];
        let mut text = String::new();
        for (component, arguments) in components {
            text.push_str(&format!("{component}:\n  extraArgs:\n"));
            for (name, value) in arguments {
                text.push_str(&if self.version.minor < 31 {
                    format!("    {name}: \"{value}\"\n")
                } else {
                    format!("    - name: {name}\n      value: \"{value}\"\n")
                });
            }
        }
        text
    }

    /// A path up to 1.23; from 1.24 kubeadm wants a URL and warns without.
    pub(super) fn cri_socket(&self) -> &'static str {
        if self.version.minor < 24 {
            "/run/containerd/containerd.sock"
        } else {
            "unix:///run/containerd/containerd.sock"
        }
    }
}

/// Cluster API's bootstrap provider puts some file here so that the folder of the sentinel exists.
const PLACEHOLDER: &str = "this file makes the folder of the bootstrap's sentinel\n";

pub(super) fn placeholder() -> File {
    let content = PLACEHOLDER.to_owned();
    File { path: "/run/cluster-api/placeholder", mode: "0640", content }
}

/// The network plugin's configuration, `content`.
pub(super) fn network_plugin(content: String) -> File {
    File { path: "/etc/cni/net.d/10-nodekiln.conflist", mode: "0644", content }
}

/// A network for pods on one node. It comes from the validator, never from the image; the image
/// brings the plugins.
pub(crate) const NETWORK_PLUGIN: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "nodekiln",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [ [ { "subnet": "10.244.0.0/24" } ] ],
        "routes": [ { "dst": "0.0.0.0/0" } ]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
"#;

/// A Service with an address of its own in front of the probe pod.
fn service() -> String {
    format!(
        "apiVersion: v1\n\
         kind: Service\n\
         metadata:\n  \
           name: {POD_NAME}\n  \
           namespace: default\n\
         spec:\n  \
           selector:\n    \
             app: {POD_NAME}\n  \
           ports:\n    \
             - port: 2379\n"
    )
}

/// The part of a container that gives it a port of the node.
fn host_port() -> String {
    format!(
        "      \
               ports:\n        \
                 - containerPort: 2379\n          \
                   hostPort: {HOST_PORT}\n"
    )
}

/// A long-running server in a pod of its own, scheduled on the control-plane node; `more` is added to its container.
fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n  \
           name: {name}\n  \
           namespace: default\n  \
           labels:\n    \
             app: {name}\n\
         spec:\n  \
           automountServiceAccountToken: false\n  \
           terminationGracePeriodSeconds: 1\n  \
           tolerations:\n    \
             - operator: Exists\n  \
           containers:\n    \
             - name: server\n      \
               image: {image}\n      \
               imagePullPolicy: Never\n      \
               command:\n        \
                 - etcd\n        \
                 - --data-dir=/data/etcd\n        \
                 - --listen-client-urls=http://0.0.0.0:2379\n        \
                 - --advertise-client-urls=http://127.0.0.1:2379\n\
         {more}      \
               volumeMounts:\n        \
                 - name: data\n          \
                   mountPath: /data\n  \
           volumes:\n    \
             - name: data\n      \
               emptyDir: {{}}\n"
    )
}
