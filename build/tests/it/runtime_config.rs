//! containerd's configuration: reviewed texts, and containerd's own reading of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_build::kubernetes::containerd::{Release, Settings, render, systemd_cgroup};
use nodekiln_build::kubernetes::images;
use nodekiln_build::steps::containerd::{Request, run};
use nodekiln_recipes::recipe::{CgroupDriver, Version};

use crate::debian;
use crate::node::Bench;

const fn kubernetes(minor: u32, patch: u32) -> Version {
    Version { major: 1, minor, patch }
}

/// containerd version, Kubernetes version, sandbox image.
const CASES: [(&str, Version, &str); 6] = [
    ("1.6.20~ds1", kubernetes(20, 2), "k8s.gcr.io/pause:3.2"),
    ("1.6.20~ds1", kubernetes(21, 14), "k8s.gcr.io/pause:3.4.1"),
    ("1.6.20~ds1", kubernetes(31, 4), "registry.k8s.io/pause:3.10"),
    ("1.7.24~ds1", kubernetes(20, 2), "k8s.gcr.io/pause:3.2"),
    ("1.7.24~ds1", kubernetes(31, 4), "registry.k8s.io/pause:3.10"),
    ("2.1.4", kubernetes(31, 4), "registry.k8s.io/pause:3.10"),
];

fn text(containerd: &str, version: Version, image: &str) -> String {
    let systemd_cgroup = systemd_cgroup(CgroupDriver::Auto, Some(version));
    let settings = Settings { sandbox_image: Some(image), systemd_cgroup };
    render(Release::of(containerd).unwrap(), settings)
}

/// `NODEKILN_GOLDEN=write cargo test -p nodekiln-build --test it runtime_config` rewrites the files.
#[test]
fn configurations_are_those_that_were_reviewed() {
    let folder = Path::new("tests/golden/containerd");
    for (containerd, version, image) in CASES {
        let path = folder.join(format!("{containerd}-kubernetes-{version}.toml"));
        let text = text(containerd, version, image);
        if std::env::var_os("NODEKILN_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&path, &text).unwrap();
        }
        let reviewed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, reviewed, "{}", path.display());
    }
}

#[test]
fn the_cgroup_driver_follows_kubeadms_default_and_the_recipe() {
    let auto = |minor| systemd_cgroup(CgroupDriver::Auto, Some(kubernetes(minor, 0)));
    assert_eq!([19, 20, 21, 22, 36].map(auto), [false, false, true, true, true]);
    assert!(systemd_cgroup(CgroupDriver::Systemd, Some(kubernetes(20, 2))));
    assert!(!systemd_cgroup(CgroupDriver::Cgroupfs, Some(kubernetes(31, 0))));
}

/// A tree with Debian's containerd.
fn tree(bench: &Bench) -> PathBuf {
    let tree = bench.path("node-tree");
    debian::unpack(&["containerd", "libc6", "libseccomp2"], &tree);
    tree
}

/// What the containerd of `tree` makes of the configuration, with its defaults filled in.
fn dump(tree: &Path, config: &Path) -> String {
    let program = tree.join("usr/bin/containerd");
    let output =
        Command::new(program).arg("--config").arg(config).args(["config", "dump"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Value of `key` in the TOML section `section`.
fn value(dump: &str, section: &str, key: &str) -> Option<String> {
    let header = format!("[{section}]");
    let mut lines = dump.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    let mut own = lines.by_ref().take_while(|line| !line.starts_with('['));
    own.find_map(|line| Some(line.strip_prefix(key)?.trim().strip_prefix('=')?.trim().to_owned()))
}

const CRI: &str = "plugins.\"io.containerd.grpc.v1.cri\"";

#[test]
fn debians_containerd_takes_every_value_at_its_place() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let config = bench.path("config.toml");
    for (version, image, cgroup) in [
        (kubernetes(20, 2), "k8s.gcr.io/pause:3.2", "false"),
        (kubernetes(21, 14), "k8s.gcr.io/pause:3.4.1", "true"),
    ] {
        std::fs::write(&config, text("1.6.20", version, image)).unwrap();
        let dump = dump(&tree, &config);
        let cri = |below: &str, key: &str| value(&dump, &format!("{CRI}{below}"), key).unwrap();
        assert_eq!(cri("", "sandbox_image"), format!("\"{image}\""));
        assert_eq!(cri(".containerd", "snapshotter"), "\"overlayfs\"");
        assert_eq!(cri(".registry", "config_path"), "\"/etc/containerd/certs.d\"");
        let runc = ".containerd.runtimes.runc";
        assert_eq!(cri(runc, "runtime_type"), "\"io.containerd.runc.v2\"");
        assert_eq!(cri(&format!("{runc}.options"), "SystemdCgroup"), cgroup);
        assert_eq!(cri(".cni", "bin_dir"), "\"/opt/cni/bin\"", "defaults beside ours stay");
    }
}

#[test]
fn a_value_of_the_newer_schema_does_not_reach_an_older_containerd() {
    let bench = Bench::new();
    let config = bench.path("config.toml");
    let newer = text("2.1.4", kubernetes(31, 4), "registry.k8s.io/pause:3.10");
    std::fs::write(&config, newer.replace("version = 3", "version = 2")).unwrap();
    let dump = dump(&tree(&bench), &config);
    assert_ne!(value(&dump, CRI, "sandbox_image").unwrap(), "\"registry.k8s.io/pause:3.10\"");
}

#[test]
fn the_step_writes_the_configuration_for_the_containerd_it_finds() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let version = kubernetes(20, 2);
    let pause = images::pause(version, "k8s.gcr.io").unwrap().to_string();
    let request = Request {
        kubernetes: Some(version),
        cgroup_driver: CgroupDriver::Auto,
        sandbox_image: Some(&pause),
    };
    let (output, facts) = bench
        .execute("step", &[&tree], &Default::default(), &[], |execution| run(&request, execution));
    let facts = facts.unwrap();
    assert!(facts["version.containerd"].starts_with("1.6."), "{facts:?}");
    assert_eq!(facts["containerd.cgroup-driver"], "cgroupfs");
    assert_eq!(facts["containerd.sandbox-image"], pause);
    let written = std::fs::read_to_string(output.join("etc/containerd/config.toml")).unwrap();
    assert_eq!(written, text("1.6.20", version, &pause));
    for folder in ["conf.d", "certs.d"] {
        assert!(output.join("etc/containerd").join(folder).is_dir(), "{folder}");
    }
}

#[test]
fn a_tree_without_containerd_is_refused_with_the_packages_name() {
    let bench = Bench::new();
    let empty = bench.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let request =
        Request { kubernetes: None, cgroup_driver: CgroupDriver::Auto, sandbox_image: None };
    let (_, result) = bench
        .execute("step", &[&empty], &Default::default(), &[], |execution| run(&request, execution));
    assert!(result.unwrap_err().help().unwrap().contains("`containerd`"));
}
