//! Accounts, first boot and access of a sound tree.

use crate::rules::Family;
use crate::tree::Tree;

/// Puts them into the tree.
pub(super) fn add(tree: &mut Tree, family: Family) {
    tree.write("/etc/machine-id", 0o444, "");
    tree.write("/etc/hostname", 0o644, "");
    tree.write(
        "/etc/hosts",
        0o644,
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    );
    tree.write("/etc/login.defs", 0o644, "UID_MIN 1000\n");
    tree.write("/etc/subuid", 0o644, "");
    tree.write("/etc/subgid", 0o644, "");
    for log in ["wtmp", "btmp", "lastlog"] {
        tree.write(&format!("/var/log/{log}"), 0o660, "");
    }
    cloud_init(tree);
    kubernetes(tree);
    tree.write("/usr/sbin/sshd", 0o755, b"\x7fELF\0OpenSSH_6.6.1*\0OpenSSH_9.2p1\0");
    match family {
        Family::Debian => debian(tree),
        Family::Rpm => rpm(tree),
    }
}

/// Writes a file unless another area has.
fn fill(tree: &mut Tree, path: &str, mode: u32, text: &str) {
    if tree.entry(path).is_none() {
        tree.write(path, mode, text);
    }
}

fn cloud_init(tree: &mut Tree) {
    let settings = "cloud_init_modules:\n - seed_random\n - growpart\n - ssh\n";
    fill(tree, "/etc/cloud/cloud.cfg", 0o644, settings);
    tree.write("/etc/cloud/cloud.cfg.d/10-node.cfg", 0o644, "ssh_pwauth: false\n");
    let unit = "/usr/lib/systemd/system/cloud-init.service";
    fill(tree, unit, 0o644, "[Service]\nExecStart=/usr/bin/cloud-init init\n");
    tree.link("/etc/systemd/system/cloud-init.target.wants/cloud-init.service", unit);
}

fn kubernetes(tree: &mut Tree) {
    let unit = "/usr/lib/systemd/system/kubelet.service";
    fill(tree, unit, 0o644, "[Service]\nExecStart=/usr/bin/kubelet\n");
    let drop_in = "[Service]\nEnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\n";
    fill(tree, "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", 0o644, drop_in);
}

fn debian(tree: &mut Tree) {
    tree.write("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", 0o644, "elf");
    let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                  sync:x:4:65534:sync:/bin:/bin/sync\nsshd:x:102:65534::/run/sshd:/usr/sbin/nologin\n\
                  nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    tree.write("/etc/passwd", 0o644, passwd);
    let shadow = "root:*:20758:0:99999:7:::\ndaemon:*:20758:0:99999:7:::\nsync:*:20758:0:99999:7:::\n\
                  sshd:!:20758::::::\nnobody:!*:20758:0:99999:7:::\n";
    tree.write("/etc/shadow", 0o640, shadow);
    tree.change("/etc/shadow", |entry| entry.gid = 42);
    let group = "root:x:0:\ndaemon:x:1:\nsudo:x:27:\nshadow:x:42:\nnogroup:x:65534:\n";
    tree.write("/etc/group", 0o644, group);
    tree.write("/etc/gshadow", 0o640, "root:*::\ndaemon:*::\nsudo:*::\nshadow:*::\nnogroup:*::\n");
    tree.change("/etc/gshadow", |entry| entry.gid = 42);
    let sudoers = "Defaults\tenv_reset\nroot\tALL=(ALL:ALL) ALL\n%sudo\tALL=(ALL:ALL) ALL\n\
                   @includedir /etc/sudoers.d\n";
    tree.write("/etc/sudoers", 0o440, sudoers);
    tree.write("/etc/sudoers.d/README", 0o440, "# drop-ins\n");
    let sshd = "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n\
                X11Forwarding yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n";
    tree.write("/etc/ssh/sshd_config", 0o644, sshd);
    let node = "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n";
    tree.write("/etc/ssh/sshd_config.d/10-node.conf", 0o644, node);
    tree.write("/etc/apt/sources.list", 0o644, "deb https://deb.debian.org/debian bookworm main\n");
    set_id(tree, &["/usr/bin/su", "/usr/bin/sudo", "/usr/bin/mount"], 0o4755);
    set_id(tree, &["/usr/bin/chage"], 0o2755);
    ping(tree);
}

fn rpm(tree: &mut Tree) {
    tree.write("/usr/lib64/systemd/libsystemd-shared-252-46.el9.so", 0o644, "elf");
    let passwd = "root:x:0:0:root:/root:/bin/bash\nbin:x:1:1:bin:/bin:/sbin/nologin\n\
                  shutdown:x:6:0:shutdown:/sbin:/sbin/shutdown\n\
                  nobody:x:65534:65534:Kernel Overflow User:/:/sbin/nologin\n";
    tree.write("/etc/passwd", 0o644, passwd);
    let shadow = "root:!!:20758:0:99999:7:::\nbin:*:20758:0:99999:7:::\nshutdown:*:20758:0:99999:7:::\n\
                  nobody:*:20758:0:99999:7:::\n";
    tree.write("/etc/shadow", 0o000, shadow);
    tree.write("/etc/group", 0o644, "root:x:0:\nbin:x:1:\nwheel:x:10:\nnobody:x:65534:\n");
    tree.write("/etc/gshadow", 0o000, "root:::\nbin:::\nwheel:::\nnobody:::\n");
    let sudoers = "Defaults env_reset\nroot\tALL=(ALL) \tALL\n%wheel\tALL=(ALL)\tALL\n\
                   #includedir /etc/sudoers.d\n";
    tree.write("/etc/sudoers", 0o440, sudoers);
    tree.folder("/etc/sudoers.d", 0o750);
    tree.write("/etc/ssh/sshd_config", 0o600, "Include /etc/ssh/sshd_config.d/*.conf\n");
    let packaged = "ChallengeResponseAuthentication no\nUsePAM yes\nX11Forwarding yes\n";
    tree.write("/etc/ssh/sshd_config.d/50-redhat.conf", 0o600, packaged);
    let node = "PasswordAuthentication no\nPermitRootLogin no\n";
    tree.write("/etc/ssh/sshd_config.d/10-node.conf", 0o600, node);
    let repository = "[baseos]\nmirrorlist=https://mirrors.rockylinux.org/mirrorlist\nenabled=1\n";
    tree.write("/etc/yum.repos.d/rocky.repo", 0o644, repository);
    set_id(tree, &["/usr/bin/su", "/usr/bin/mount", "/usr/sbin/unix_chkpwd"], 0o4755);
    set_id(tree, &["/usr/bin/sudo"], 0o4111);
    ping(tree);
}

fn set_id(tree: &mut Tree, paths: &[&str], mode: u32) {
    for path in paths {
        tree.write(path, mode, "elf");
    }
}

/// `ping` with `cap_net_raw=ep`, as packages give it where the kernel's ping sockets do not do.
fn ping(tree: &mut Tree) {
    tree.write("/usr/bin/ping", 0o755, "elf");
    tree.change("/usr/bin/ping", |entry| entry.capability = Some(RAW.to_vec()));
}

/// `struct vfs_cap_data` of revision 2 with the effective bit and capability 13 permitted.
const RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
