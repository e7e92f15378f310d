//! Paths below which a running machine alone has anything: what stands there in a tree is hidden, or gone, once it runs.

use nodekiln_goss::{Resource, Subject};

use crate::tree::Tree;

/// File systems of the kernel, and of systemd's for as long as the machine runs; /tmp is emptied at boot or one of them.
const PLACES: [&str; 5] = ["/run", "/proc", "/sys", "/dev", "/tmp"];
/// Other names of places below them (hier(7), file-hierarchy(7)).
const LINKS: [&str; 2] = ["/var/run", "/var/lock"];
/// Most links that lead from one to the next (Linux, `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Whether `resource` is by its name about what only a running machine has.
pub(super) fn is_about(resource: &Resource) -> bool {
    match &resource.subject {
        Subject::File(path) => PLACES.iter().chain(&LINKS).any(|place| below(place, path)),
        _ => false,
    }
}

/// The place that `path` leads below in `tree`, which has nothing to tell of it. The last part is followed where it is a
/// link if `last` says so, as for reading.
pub(super) fn place(tree: &Tree, path: &str, last: bool) -> Option<&'static str> {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.rev().map(str::to_owned).collect()
    };
    let (mut at, mut left, mut links) = (String::new(), parts(path), 0);
    while let Some(part) = left.pop() {
        if part == ".." {
            at.truncate(at.rfind('/').unwrap_or(0));
            continue;
        }
        let next = format!("{at}/{part}");
        if let Some(place) = PLACES.iter().find(|place| below(place, &next)) {
            return Some(place);
        }
        let target = tree.entry(&next).and_then(|entry| entry.target.as_ref());
        let Some(target) = target.filter(|_| last || !left.is_empty()) else {
            at = next;
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return None;
        }
        if target.starts_with('/') {
            at.clear();
        }
        left.extend(parts(target));
    }
    None
}

fn below(place: &str, path: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_to_what_a_running_machine_has() {
        let mut tree = Tree::default();
        tree.folder("/etc", 0o755);
        tree.link("/var/run", "/run");
        tree.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        tree.link("/etc/mtab", "/proc/self/mounts");
        tree.link("/etc/loop", "loop");
        for (path, read, stood) in [
            ("/run/a/b", Some("/run"), Some("/run")),
            ("/var/run/a.sock", Some("/run"), Some("/run")),
            ("/etc/../tmp/x", Some("/tmp"), Some("/tmp")),
            ("/etc/resolv.conf", Some("/run"), None),
            ("/etc/mtab", Some("/proc"), None),
            ("/dev/kvm", Some("/dev"), Some("/dev")),
            ("/sys/fs/cgroup", Some("/sys"), Some("/sys")),
            ("/run", None, None),
            ("/tmp/", None, None),
            ("/runner/x", None, None),
            ("/var/tmp/x", None, None),
            ("/etc/loop", None, None),
            ("/etc/none", None, None),
        ] {
            assert_eq!(place(&tree, path, true), read, "{path}");
            assert_eq!(place(&tree, path, false), stood, "{path}");
        }
    }
}
