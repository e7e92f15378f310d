//! What may become of a sound tree's runtime.

use crate::at_rest::corpus::Mutation;

const CONFIG: &str = "/etc/containerd/config.toml";
const UNIT: &str = "/usr/lib/systemd/system/containerd.service";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/containerd.service";
const OWN: &str = "/etc/systemd/system/containerd.service";
const CRICTL: &str = "/etc/crictl.yaml";

pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
    Mutation::new(
        "config.toml is no TOML",
        &["containerd-config", "sandbox-image"],
        "/etc/containerd/config.toml",
        |image| image.tree.replace(CONFIG, "version = 2", "version = "),
    ),
    Mutation::new(
        "config.toml is one of containerd 2",
        &["containerd-config", "sandbox-image"],
        "/etc/containerd/config.toml",
        |image| image.tree.replace(CONFIG, "version = 2", "version = 3"),
    ),
    Mutation::new(
        "CRI is switched off",
        &["containerd-config"],
        "disabled_plugins has cri",
        |image| {
            image.tree.replace(CONFIG, "version = 2", "version = 2\ndisabled_plugins = [\"cri\"]");
        },
    ),
    Mutation::new(
        "an import is gone",
        &["containerd-config"],
        "/etc/more.toml is imported",
        |image| {
            image.tree.replace(CONFIG, "imports = [", "imports = [\"/etc/more.toml\", ");
        },
    ),
    Mutation::new(
        "an import is of a later version",
        &["containerd-config"],
        "conf.d/a.toml has version = 3",
        |image| {
            image.tree.write("/etc/containerd/conf.d/a.toml", 0o644, "version = 3\n");
        },
    ),
    Mutation::new("SystemdCgroup is a string", &["containerd-config"], "true or false", |image| {
        image.tree.replace(CONFIG, "SystemdCgroup = false", "SystemdCgroup = \"false\"");
    }),
    Mutation::new("nothing wants containerd", &["containerd-enabled"], "nothing wants", |image| {
        image.tree.remove(WANTS);
    }),
    Mutation::new(
        "containerd is masked",
        &["containerd-enabled"],
        "masks containerd.service",
        |image| {
            image.tree.link(OWN, "/dev/null");
        },
    ),
    Mutation::new(
        "containerd has no unit",
        &["containerd-enabled"],
        "no containerd.service",
        |image| {
            image.tree.remove(UNIT);
        },
    ),
    Mutation::new("the unit starts nothing", &["containerd-enabled"], "no ExecStart", |image| {
        image.tree.write(
            "/etc/systemd/system/containerd.service.d/a.conf",
            0o644,
            "[Service]\nExecStart=\n",
        );
    }),
    Mutation::new(
        "the unit starts what is not there",
        &["containerd-enabled"],
        "/opt/containerd",
        |image| {
            image.tree.replace(UNIT, "ExecStart=/usr/bin/containerd", "ExecStart=/opt/containerd");
        },
    ),
    Mutation::new(
        "there is a second runc",
        &["containerd-enabled"],
        "/usr/local/bin/runc, /usr/sbin/runc",
        |image| {
            image.tree.write("/usr/local/bin/runc", 0o755, "elf");
        },
    ),
    Mutation::new("runc cannot be executed", &["containerd-enabled"], "no runc", |image| {
        image.tree.change("/usr/sbin/runc", |entry| entry.mode = 0o644);
    }),
    Mutation::new(
        "containerd 2 with an old kubelet",
        &["runtime-fits"],
        "containerd 2.1 serves CRI v1,",
        |image| {
            image.tree.replace("/var/lib/dpkg/status", "1.6.20~ds1-1+deb12u3", "2.1.4~ds1-1");
        },
    ),
    Mutation::new(
        "containerd leaves cgroups to systemd",
        &["cgroup-driver-agrees"],
        "containerd has systemd",
        |image| {
            image.tree.replace(CONFIG, "SystemdCgroup = false", "SystemdCgroup = true");
        },
    ),
    Mutation::new(
        "the kubelet is told to use systemd",
        &["cgroup-driver-agrees"],
        "50-driver.conf:2",
        |image| {
            let text = "[Service]\nEnvironment=KUBELET_EXTRA_ARGS=--cgroup-driver=systemd\n";
            image.tree.write("/etc/systemd/system/kubelet.service.d/50-driver.conf", 0o644, text);
        },
    ),
    Mutation::new(
        "pods get a runtime that is not there",
        &["cgroup-driver-agrees"],
        "no runtime crun",
        |image| {
            let (old, new) = (
                "snapshotter = \"overlayfs\"",
                "snapshotter = \"overlayfs\"\ndefault_runtime_name = \"crun\"",
            );
            image.tree.replace(CONFIG, old, new);
        },
    ),
    Mutation::new("there is no loopback plugin", &["cni-plugins"], "no loopback", |image| {
        image.tree.remove("/opt/cni/bin/loopback");
    }),
    Mutation::new("a plugin cannot be executed", &["cni-plugins"], "no portmap", |image| {
        image.tree.change("/usr/lib/cni/portmap", |entry| entry.mode = 0o644);
    }),
    Mutation::new(
        "plugins are looked for elsewhere",
        &["cni-plugins"],
        "put theirs into /opt/cni/bin",
        |image| {
            let section = "\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\n\n[plugins.\"io.containerd.grpc.v1.cri\".registry]";
            image.tree.replace(
                CONFIG,
                "\n[plugins.\"io.containerd.grpc.v1.cri\".registry]",
                section,
            );
        },
    ),
    Mutation::new(
        "crictl asks another socket",
        &["crictl-endpoint"],
        "/run/dockershim.sock",
        |image| {
            image.tree.replace(
                CRICTL,
                "runtime-endpoint: unix:///run/containerd/containerd.sock",
                "runtime-endpoint: unix:///run/dockershim.sock",
            );
        },
    ),
    Mutation::new(
        "crictl asks another socket for images",
        &["crictl-endpoint"],
        "image-endpoint is",
        |image| {
            image.tree.write(CRICTL, 0o644, "runtime-endpoint: unix:///run/containerd/containerd.sock\nimage-endpoint: unix:///run/x.sock\n");
        },
    ),
    Mutation::new("crictl has no file", &["crictl-endpoint"], "no /etc/crictl.yaml", |image| {
        image.tree.remove(CRICTL);
    }),
    Mutation::new("crictl has no endpoint", &["crictl-endpoint"], "no runtime-endpoint", |image| {
        image.tree.write(CRICTL, 0o644, "timeout: 10\n");
    }),
    Mutation::new("crictl's file is no YAML", &["crictl-endpoint"], "no YAML", |image| {
        image.tree.write(CRICTL, 0o644, "runtime-endpoint: [\n");
    }),
];
