//! What the guest is prepared by before the suite starts.

use std::time::Duration;

use nodekiln_kit::Manifest;
use nodekiln_words::{Class, Failure, Result};

use crate::guest::Guest;
use crate::seed::NETWORK_PLUGIN;

/// Where the kit is unpacked in the guest.
pub(super) const KIT: &str = "/var/lib/nodekiln-kit";
/// Serial number of the disk that is the kit.
pub(crate) const SERIAL: &str = "nodekiln-kit";
/// How much longer than a short command unpacking and importing may take: a hundred MiB each.
const LONG: u32 = 4;

/// What is known of the node.
#[derive(Debug)]
pub(super) struct Node {
    /// Minor version of the suite.
    pub(super) minor: u32,
    /// The suite's path in the guest.
    pub(super) suite: String,
    /// File of `KUBE_TEST_REPO_LIST`, where there is one.
    pub(super) repositories: Option<String>,
    /// The cgroup driver that containerd has, and the kubelet gets.
    pub(super) driver: String,
}

/// The suite starts a kubelet of its own on the image's ports, and its API server reaches that by the node's name, which a
/// cloud's name server would know.
const UNPACK: &str = "\
    set -e\n\
    disk=/dev/disk/by-id/virtio-$2\n\
    test -e \"$disk\" || udevadm settle\n\
    mkdir -p \"$1\"\n\
    tar -x -f \"$disk\" -C \"$1\" --no-same-owner\n\
    name=$(hostname)\n\
    getent -s files hosts \"$name\" >/dev/null || echo \"127.0.0.1 $name\" >>/etc/hosts\n\
    systemctl stop kubelet 2>/dev/null || true\n\
    systemctl reset-failed 'kubelet*' 2>/dev/null || true\n\
    systemctl start containerd";

/// The network of pods, unless the image brings one.
const NETWORK: &str = "\
    set -e\n\
    mkdir -p /etc/cni/net.d\n\
    if ! ls /etc/cni/net.d/*.conf /etc/cni/net.d/*.conflist >/dev/null 2>&1; then\n\
      printf '%s' \"$1\" >/etc/cni/net.d/10-nodekiln.conflist\n\
    fi";

/// What containerd really has: its files merged.
const DRIVER: &str = "\
    if containerd config dump 2>/dev/null | grep -q 'SystemdCgroup *= *true'; then\n\
      echo systemd\n\
    else\n\
      echo cgroupfs\n\
    fi";

/// Unpacks the kit in the guest and puts its images into containerd.
///
/// # Errors
/// When a step fails, or an image of the kit is not there afterwards.
pub(super) fn prepare(guest: &Guest, manifest: &Manifest, deadline: Duration) -> Result<Node> {
    let step = |what: &str, argv: &[&str]| -> Result<String> {
        let output = guest.run(argv, deadline * LONG)?;
        if output.status == 0 {
            return Ok(output.text());
        }
        let said = output.error_text();
        let said = said.lines().last().unwrap_or("it said nothing").to_owned();
        Err(Failure::new(Class::Verdict, format!("cannot {what} in the guest: {said}")))
    };
    step("unpack the kit", &["sh", "-c", UNPACK, "unpack", KIT, SERIAL])?;
    step("give pods a network", &["sh", "-c", NETWORK, "network", NETWORK_PLUGIN])?;
    let mut files: Vec<&str> = manifest.images.values().map(|image| image.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let path = format!("{KIT}/{file}");
        step(
            &format!("import {file}"),
            &["ctr", "--namespace", "k8s.io", "images", "import", &path],
        )?;
    }
    let there = step("list images", &["ctr", "--namespace", "k8s.io", "images", "ls", "-q"])?;
    for reference in manifest.images.keys() {
        if !there.lines().any(|line| line == reference) {
            let text = format!("the guest's containerd has no {reference} after the import");
            return Err(Failure::new(Class::Verdict, text)
                .with_help("specs that run it would wait five minutes each: make the kit again"));
        }
    }
    let repositories = match manifest.repository_list() {
        None => None,
        Some(list) => {
            let path = format!("{KIT}/repositories.yaml");
            let script = "printf '%s' \"$1\" >\"$2\"";
            step("name registries", &["sh", "-c", script, "registries", &list, &path])?;
            Some(path)
        }
    };
    Ok(Node {
        minor: manifest.kubernetes.minor,
        suite: format!("{KIT}/{}", manifest.suite),
        repositories,
        driver: step("ask for the cgroup driver", &["sh", "-c", DRIVER])?,
    })
}
