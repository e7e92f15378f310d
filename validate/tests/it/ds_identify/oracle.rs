//! Debian's own script, run over a machine that is nothing but files.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nodekiln_validate::ds_identify::{Edition, GuestInfo, Identified, MachineView};
use nodekiln_validate::tree::Files as _;

/// The files of an image by their paths.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A script of Debian's with the edition that it is.
pub(crate) struct Oracle {
    pub(crate) edition: Edition,
    /// Debian's package, unpacked.
    package: PathBuf,
    /// The script with its four fixed paths moved below the root that all others are below.
    script: PathBuf,
    work: tempfile::TempDir,
}

/// What the script did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) written: Option<String>,
}

/// Fixed paths in the script, and how often each edition has them (22.4.2, 25.1.4, 26.2).
const FIXED: [(&str, &str, [usize; 3]); 4] = [
    ("[ -d /run/systemd ]", "[ -d \"${PATH_ROOT}/run/systemd\" ]", [1, 0, 0]),
    ("is_socket_file /dev/lxd/sock", "is_socket_file \"${PATH_ROOT}/dev/lxd/sock\"", [1, 1, 1]),
    ("for d in /config-drive ", "for d in \"${PATH_ROOT}/config-drive\" ", [1, 1, 1]),
    (
        "[ -f /etc/cloud/cloud-init.disabled ]",
        "[ -f \"${PATH_ROOT}/etc/cloud/cloud-init.disabled\" ]",
        [0, 1, 1],
    ),
];

/// The oracles of the suites whose packages were unpacked, the same for all tests.
pub(crate) fn oracles() -> &'static [Oracle] {
    static ORACLES: OnceLock<Vec<Oracle>> = OnceLock::new();
    ORACLES.get_or_init(found_oracles)
}

fn found_oracles() -> Vec<Oracle> {
    let cache = std::env::var_os("NODEKILN_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/nodekiln"),
        PathBuf::from,
    );
    let suites =
        [("bookworm", Edition::V22_4), ("trixie", Edition::V25_1), ("sid", Edition::V26_2)];
    let mut oracles = Vec::new();
    for (suite, edition) in suites {
        let package = cache.join(format!("peers/cloud-init-{suite}"));
        let source = package.join("usr/lib/cloud-init/ds-identify");
        let known = fs::read(&source).ok().and_then(|script| Edition::of_script(&script));
        // The unstable suite moves, and may not have been fetched.
        if suite == "sid" && known.is_none() {
            eprintln!("skipped: {} is not cloud-init {}", source.display(), edition.as_str());
            continue;
        }
        assert!(source.exists(), "{} is missing: run `ci/peers cloud-init`", source.display());
        assert_eq!(
            known,
            Some(edition),
            "{} is none that the port knows: compare it, and list its digest",
            source.display()
        );
        oracles.push(Oracle::new(edition, package, &source));
    }
    oracles
}

impl Oracle {
    fn new(edition: Edition, package: PathBuf, source: &Path) -> Self {
        let work = tempfile::tempdir().unwrap();
        let mut text = fs::read_to_string(source).unwrap();
        let column = Edition::ALL.iter().position(|known| *known == edition).unwrap();
        for (fixed, moved, counts) in FIXED {
            assert_eq!(text.matches(fixed).count(), counts[column], "{edition:?}: {fixed}");
            text = text.replace(fixed, moved);
        }
        let script = work.path().join("ds-identify");
        fs::write(&script, text).unwrap();
        let oracle = Self { edition, package, script, work };
        oracle.make_tools();
        oracle
    }

    /// An image with the configuration of the package and its script, and nothing else.
    pub(crate) fn image(&self) -> Files {
        let mut paths =
            vec!["/usr/lib/cloud-init/ds-identify".to_owned(), "/etc/cloud/cloud.cfg".to_owned()];
        let drop_ins = "/etc/cloud/cloud.cfg.d";
        for entry in fs::read_dir(self.package.join(&drop_ins[1..])).unwrap() {
            paths.push(format!("{drop_ins}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
        let read = |path: String| {
            let bytes = fs::read(self.package.join(&path[1..])).unwrap();
            (path, bytes)
        };
        paths.into_iter().map(read).collect()
    }

    /// Runs the script.
    pub(crate) fn run(&self, machine: &MachineView, image: &Files) -> Outcome {
        let root = tempfile::tempdir_in(self.work.path()).unwrap();
        let root = root.path();
        let _socket = lay_out(root, machine, image);
        fs::create_dir(root.join("told")).unwrap();
        fs::create_dir_all(root.join("run/cloud-init")).unwrap();
        for (path, text) in self.answers(machine) {
            fs::write(root.join(path), text).unwrap();
        }
        let mut command = Command::new("dash");
        command.arg(&self.script).arg("--force").env_clear();
        command.env("PATH", self.path(image));
        command.env("PATH_ROOT", root).env("LC_ALL", "C");
        // Spares some processes: each run takes some ten.
        command.env("DI_LOG", "stderr").env("DEBUG_LEVEL", "0");
        if let Some(info) = &machine.environment_guest_info {
            command.env("VMX_GUESTINFO", "1");
            for (name, text) in entries(info).into_iter().skip(1) {
                command.envs(
                    text.map(|text| (format!("VMX_GUESTINFO_{}", name.to_uppercase()), text)),
                );
            }
        }
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let code = done.status().unwrap().code();
        let written = fs::read_to_string(root.join("run/cloud-init/cloud.cfg")).ok();
        Outcome { code, written }
    }

    /// The folders of the programs that the script finds: those that any system has, and those of the image.
    fn path(&self, image: &Files) -> String {
        let mut folders = vec![self.tools("base")];
        for name in IMAGE_TOOLS {
            let places = ["/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin"];
            if places.iter().any(|folder| image.contains_key(&format!("{folder}/{name}"))) {
                folders.push(self.tools(name));
            }
        }
        let folders: Vec<String> =
            folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("{}:/usr/bin:/bin", folders.join(":"))
    }

    fn tools(&self, name: &str) -> PathBuf {
        self.work.path().join("tools").join(name)
    }

    /// Makes the programs that the script asks. They tell what stands in the folder `told` of the machine's
    /// root, and are made once: a file that another thread's child still has open for writing cannot be run.
    fn make_tools(&self) {
        let tell = "while IFS= read -r line; do printf '%s\\n' \"$line\"; done <\"$told\"\n";
        for name in ["blkid", "systemd-detect-virt", "uname", "dmidecode"] {
            let told = format!("told=\"$PATH_ROOT/told/{name}\"\nread -r code <\"$told.code\"\n");
            make_tool(&self.tools("base").join(name), &format!("{told}{tell}exit $code\n"));
        }
        for name in IMAGE_TOOLS {
            // `vmtoolsd --cmd "info-get …"`, `vmware-rpctool "info-get …"`
            let ask = "for last; do :; done\ntold=\"$PATH_ROOT/told/${last#info-get }\"\n";
            let none = "[ -e \"$told\" ] || { echo 'No value found' >&2; exit 1; }\n";
            make_tool(&self.tools(name).join(name), &format!("{ask}{none}{tell}"));
        }
    }

    /// What the programs tell of a machine: text, which ends with a line, and exit code.
    fn answers(&self, machine: &MachineView) -> Vec<(String, String)> {
        let physical = machine.virtualisation == "none";
        let (version, architecture) = (&machine.kernel_version, &machine.architecture);
        let uname = match self.edition {
            Edition::V22_4 => format!("Linux node 6.1.0 {version} {architecture} GNU/Linux\n"),
            Edition::V25_1 | Edition::V26_2 => format!("Linux {version} {architecture}\n"),
        };
        let blkid = machine.blkid();
        let mut answers = Vec::new();
        for (name, code, text) in [
            ("blkid", if blkid.is_some() { 0 } else { 2 }, blkid.unwrap_or_default()),
            ("systemd-detect-virt", i32::from(physical), format!("{}\n", machine.virtualisation)),
            ("uname", 0, uname),
            ("dmidecode", 1, String::new()),
        ] {
            answers.push((format!("told/{name}"), text));
            answers.push((format!("told/{name}.code"), format!("{code}\n")));
        }
        for (name, text) in machine.guest_info.iter().flat_map(entries) {
            answers
                .extend(text.map(|text| (format!("told/guestinfo.{name}"), format!("{text}\n"))));
        }
        answers
    }
}

/// VMware's two, which an image has or has not.
const IMAGE_TOOLS: [&str; 2] = ["vmware-rpctool", "vmtoolsd"];

fn make_tool(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    // Once it can be run it stays so.
    let mut command = Command::new(path);
    command.env("PATH_ROOT", "/nowhere").stdout(Stdio::null()).stderr(Stdio::null());
    loop {
        match command.status() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => {
                done.unwrap();
                return;
            }
        }
    }
}

fn entries(info: &GuestInfo) -> [(&'static str, Option<&String>); 4] {
    let GuestInfo { ovf_environment, metadata, user_data, vendor_data } = info;
    [
        ("ovfEnv", ovf_environment.as_ref()),
        ("metadata", metadata.as_ref()),
        ("userdata", user_data.as_ref()),
        ("vendordata", vendor_data.as_ref()),
    ]
}

/// Writes the machine and the image below `root`; the socket lives as long as what is returned.
fn lay_out(root: &Path, machine: &MachineView, image: &Files) -> Option<UnixListener> {
    let put = |path: &str, bytes: &[u8]| {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let line = |path: &str, text: &str| put(path, format!("{text}\n").as_bytes());
    for (path, bytes) in image {
        put(path, bytes);
    }
    fs::create_dir_all(root.join("run/systemd")).unwrap();
    if let Some(dmi) = &machine.dmi {
        let folder = "sys/class/dmi/id";
        fs::create_dir_all(root.join(folder)).unwrap();
        for (name, text) in [
            ("sys_vendor", &dmi.sys_vendor),
            ("product_name", &dmi.product_name),
            ("product_serial", &dmi.product_serial),
            ("product_uuid", &dmi.product_uuid),
            ("board_name", &dmi.board_name),
            ("chassis_asset_tag", &dmi.chassis_asset_tag),
        ] {
            if let Some(text) = text {
                line(&format!("{folder}/{name}"), text);
            }
        }
    }
    line("proc/uptime", "1.0 1.0");
    line("proc/cmdline", &machine.command_line);
    if let Some(words) = &machine.init_command_line {
        put("proc/1/cmdline", words.replace(' ', "\0").as_bytes());
    }
    let name = machine.init_product_name.as_ref();
    let name = name.map_or_else(String::new, |name| format!("product_name={name}\0"));
    put("proc/1/environ", format!("HOME=/\0{name}").as_bytes());
    if let Some(uuid) = &machine.hypervisor_uuid {
        line("sys/hypervisor/uuid", uuid);
    }
    for (number, name) in machine.virtio_ports.iter().enumerate() {
        line(&format!("sys/class/virtio-ports/vport0p{number}/name"), name);
    }
    for device in &machine.devices {
        let schema: &[u8] =
            b"\0<Environment xmlns=\"http://schemas.dmtf.org/ovf/environment/1\">\n";
        put(&device.path, if device.ovf_environment { schema } else { b"nothing of it" });
        if let (Some(size), Some(name)) = (device.size, device.path.rsplit('/').next()) {
            line(&format!("sys/class/block/{name}/size"), &(size / 512).to_string());
        }
    }
    machine.lxd_socket.then(|| {
        fs::create_dir_all(root.join("dev/lxd")).unwrap();
        UnixListener::bind(root.join("dev/lxd/sock")).unwrap()
    })
}

/// Where port and script do not agree, and how.
pub(crate) fn difference(oracle: &Oracle, machine: &MachineView, image: &Files) -> Option<String> {
    let port = nodekiln_validate::ds_identify::identify(oracle.edition, machine, image).unwrap();
    let script = oracle.run(machine, image);
    let Identified { code, written, datasources, .. } = &port;
    let list = format!("datasource_list: [ {} ]", datasources.join(", "));
    let told = written.as_deref().and_then(|text| text.lines().next());
    let same_list = datasources.is_empty() || told == Some(list.as_str());
    let same = script.code == Some(i32::from(*code)) && script.written == *written && same_list;
    (!same).then(|| {
        let texts = image.iter().filter(|(path, _)| !path.ends_with("/ds-identify"));
        let texts: Vec<String> = texts
            .map(|(path, text)| format!("{path}: {:?}", String::from_utf8_lossy(text)))
            .collect();
        let edition = oracle.edition;
        assert!(image.exists("/etc/cloud").unwrap(), "an image without cloud-init");
        format!(
            "{edition:?}\n{machine:#?}\n{}\nscript {script:?}\nport {port:#?}",
            texts.join("\n")
        )
    })
}
