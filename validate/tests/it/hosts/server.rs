//! OpenSSH's server on a port of this machine, with keys and accounts of its own.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nodekiln_validate::ssh::HostKey;
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// A server, and a folder that holds its keys and those of its users.
pub(super) struct Server {
    child: Child,
    folder: TempDir,
    pub(super) port: u16,
}

/// Starts the server with accounts of its own: `root`, and `plain` who can do nothing as root. The machine's accounts
/// are covered in a mount namespace, so that a password that locks root does not matter; so is /run, where nobody else
/// leaves anything then.
const START: &str = r#"
mount -t tmpfs none /run && mkdir -m 755 /run/sshd &&
mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/shadow" /etc/shadow && exec "$2" -D -e -f "$1/sshd_config"
"#;

impl Server {
    /// A server with these lines in its configuration; none where this machine cannot have one, which is told.
    pub(super) fn start(lines: &str) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            eprintln!("skipped: {SSHD} is missing: install Debian's package openssh-server");
            return None;
        }
        let namespace = ["--mount", "--propagation", "private", "true"];
        if !Command::new("unshare").args(namespace).status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: no mount namespace to be had: needs root and util-linux");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for kind in ["ed25519", "ecdsa", "rsa"] {
            key(&path(&format!("host-{kind}")), kind, "");
        }
        key(&path("key"), "ed25519", "");
        key(&path("secret"), "ed25519", "open sesame");
        key(&path("rsa"), "rsa", "");
        key(&path("stranger"), "ed25519", "");
        let public = |name: &str| std::fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
        let authorized = ["key", "secret", "rsa"].map(public).concat();
        std::fs::write(path("authorized_keys"), authorized).unwrap();
        let accounts = "root:x:0:0::/root:/bin/sh\nplain:x:65533:65533::/:/bin/sh\n\
                        gone:x:65532:65532::/:/usr/sbin/nologin\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n";
        std::fs::write(path("passwd"), accounts).unwrap();
        std::fs::write(path("shadow"), "root:*:1::::::\nplain:*:1::::::\ngone:*:1::::::\n")
            .unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile {0}/authorized_keys\n\
             HostKey {0}/host-rsa\nHostKey {0}/host-ecdsa\nHostKey {0}/host-ed25519\n{lines}\n",
            folder.path().display()
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", START, "sh"]);
        command.arg(folder.path()).arg(SSHD).stdin(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let server = Self { child, folder, port };
        server.wait();
        Some(server)
    }

    fn wait(&self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(self.path("log")).unwrap();
            assert!(started.elapsed() < Duration::from_secs(30), "sshd does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its host key of a kind.
    pub(super) fn host_key(&self, kind: &str) -> HostKey {
        let line = std::fs::read_to_string(self.path(&format!("host-{kind}.pub"))).unwrap();
        line.parse().unwrap()
    }

    /// Folders of root's shells that are there.
    pub(super) fn shells(&self) -> Vec<PathBuf> {
        let run = format!("/proc/{}/root/run", self.child.id());
        let entries = std::fs::read_dir(run).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().contains("/nodekiln.")).collect()
    }

    /// A file of known hosts in which `key` is the server's.
    pub(super) fn known(&self, key: &HostKey) -> PathBuf {
        let path = self.path("known_hosts");
        let mut file = std::fs::File::create(&path).unwrap();
        writeln!(file, "[127.0.0.1]:{} {key}", self.port).unwrap();
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent that holds one key.
pub(super) struct Agent {
    child: Child,
    pub(super) socket: PathBuf,
}

impl Agent {
    pub(super) fn with(key: &Path) -> Self {
        let socket = key.with_extension("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
        let agent = Self { child: command.spawn().unwrap(), socket };
        let started = Instant::now();
        while !agent.socket.exists() {
            assert!(started.elapsed() < Duration::from_secs(30), "no agent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut add = Command::new("ssh-add");
        let added = add.env("SSH_AUTH_SOCK", &agent.socket).arg("-q").arg(key).status().unwrap();
        assert!(added.success());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path).status();
    assert!(made.unwrap_or_else(|error| panic!("ssh-keygen of openssh-client: {error}")).success());
}
