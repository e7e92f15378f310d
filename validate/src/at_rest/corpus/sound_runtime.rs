//! The runtime, its store and the boot loader of a sound tree.

use crate::at_rest::{Examined, images};
use crate::rules::Family;
use crate::tree::Tree;
use crate::tree::packages::{of_package, rpm_database};

const CONFIG: &str = r#"version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "k8s.gcr.io/pause:3.2"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#;

const GRUB: &str = "set default=0
search --no-floppy --fs-uuid --set=root fb9bbee3-f56d-5fae-b0e0-6447f03c6d64
menuentry 'Linux' {
  linux /boot/vmlinuz-6.1.0-56-cloud-amd64 root=UUID=fb9bbee3-f56d-5fae-b0e0-6447f03c6d64 ro console=tty1 console=ttyS0
  initrd /boot/initrd.img-6.1.0-56-cloud-amd64
}
";

const STATUS: &str = "
Package: cloud-init
Status: install ok installed
Architecture: all
Version: 22.4.2-1+deb12u4

Package: containerd
Status: hold ok installed
Architecture: amd64
Version: 1.6.20~ds1-1+deb12u3

Package: runc
Status: hold ok installed
Architecture: amd64
Version: 1.1.5+ds1-1+deb12u1
";

/// Puts them into `examined`, an image of packages of `family`.
pub(super) fn add(examined: &mut Examined, family: Family) {
    let tree = &mut examined.tree;
    for program in
        ["/usr/bin/containerd", "/usr/sbin/runc", "/usr/bin/crictl", "/usr/sbin/dhclient"]
    {
        tree.write(program, 0o755, "elf");
    }
    for plugin in ["bridge", "host-local", "loopback", "portmap"] {
        tree.write(&format!("/usr/lib/cni/{plugin}"), 0o755, "elf");
        tree.link(&format!("/opt/cni/bin/{plugin}"), &format!("/usr/lib/cni/{plugin}"));
    }
    tree.write("/etc/containerd/config.toml", 0o644, CONFIG);
    tree.folder("/etc/containerd/conf.d", 0o755);
    tree.folder("/etc/containerd/certs.d", 0o755);
    let socket = "unix:///run/containerd/containerd.sock";
    tree.write(
        "/etc/crictl.yaml",
        0o644,
        format!("runtime-endpoint: {socket}\nimage-endpoint: {socket}\n"),
    );
    let unit = "[Service]\nExecStartPre=-/sbin/modprobe overlay\nExecStart=/usr/bin/containerd\n\n[Install]\nWantedBy=multi-user.target\n";
    tree.write("/usr/lib/systemd/system/containerd.service", 0o644, unit);
    let wants = "/etc/systemd/system/multi-user.target.wants/containerd.service";
    tree.link(wants, "/lib/systemd/system/containerd.service");
    // Empty: a first boot has been, as far as presets of units are concerned.
    tree.write("/etc/machine-id", 0o444, "");
    let kubelet = "/usr/lib/systemd/system/kubelet.service";
    if tree.entry(kubelet).is_none() {
        tree.write(kubelet, 0o644, "[Service]\nExecStart=/usr/bin/kubelet $KUBELET_EXTRA_ARGS\n");
    }
    match family {
        Family::Debian => {
            append(tree, "/var/lib/dpkg/status", STATUS);
            tree.write("/boot/grub/grub.cfg", 0o444, GRUB);
            let default = "GRUB_CMDLINE_LINUX=\"console=tty1 console=ttyS0\"\n";
            tree.write("/etc/default/grub", 0o644, default);
        }
        Family::Rpm => {
            let packages = [("containerd", "1.6.20"), ("runc", "1.1.12"), ("cloud-init", "23.4")];
            let headers = packages.map(|(name, version)| of_package(name, None, version, "1.el9"));
            tree.write("/var/lib/rpm/rpmdb.sqlite", 0o644, rpm_database(&headers));
            tree.write(
                "/boot/loader/entries/6.1.conf",
                0o644,
                "title Linux\nlinux /boot/vmlinuz-5.14.0-427.13.1.el9_4.x86_64\noptions $kernelopts console=ttyS0,115200\n",
            );
            tree.write(
                "/boot/grub2/grubenv",
                0o644,
                "# GRUB Environment Block\nkernelopts=ro console=tty1 console=ttyS0\n",
            );
        }
    }
    images::fill(examined);
}

/// Adds paragraphs to a file that others add to as well.
fn append(tree: &mut Tree, path: &str, text: &str) {
    let before = tree.text(path).unwrap().unwrap_or_default();
    tree.write(path, 0o644, format!("{before}{text}"));
}
