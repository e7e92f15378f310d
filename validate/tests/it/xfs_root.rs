//! A disk whose root is XFS, as those of RHEL, Rocky Linux and Amazon Linux are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nodekiln_disk::gpt::{Entry, TYPE_ROOT_X86_64, Table};
use nodekiln_disk::{Disk, Extent, Payload, Source, raw};
use nodekiln_providers::Provider as _;
use nodekiln_validate::at_rest::{self, Subject};
use nodekiln_validate::inspect::{Looking, inspect};
use nodekiln_validate::report::Outcome;
use nodekiln_validate::rules::Verdict;
use nodekiln_validate::{Machine, Way};
use nodekiln_words::{Cancel, Silent};
use uuid::{Uuid, uuid};

const START: u64 = 1 << 20;
/// Bytes of the root: mkfs.xfs makes none of less than 300 MB.
const LENGTH: u64 = 320 << 20;
const ROOT_ID: Uuid = uuid!("fb9bbee3-f56d-5fae-b0e0-6447f03c6d64");

/// A raw disk with a small tree of Rocky Linux in an XFS, in which a key of a host was left.
fn disk(folder: &Path) -> PathBuf {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let release =
        file("release", "ID=\"rocky\"\nPRETTY_NAME=\"Rocky Linux 9.6\"\nVERSION_ID=\"9.6\"\n");
    let fstab = file("fstab", &format!("UUID={ROOT_ID} / xfs defaults 0 0\n"));
    let key = file("key", "a key\n");
    let entry = file(
        "entry",
        &format!("title Linux\nlinux /boot/vmlinuz\noptions root=UUID={ROOT_ID} ro\n"),
    );
    let description = file(
        "description",
        &format!(
            "/none\n0 0\nd--755 0 0\n\
             etc d--755 0 0\nos-release l--777 0 0 ../usr/lib/os-release\nfstab ---644 0 0 {fstab}\n\
             ssh d--755 0 0\nssh_host_ed25519_key ---600 0 0 {key}\n$\n$\n\
             boot d--755 0 0\nloader d--755 0 0\nentries d--755 0 0\nlinux.conf ---644 0 0 {entry}\n$\n$\n$\n\
             usr d--755 0 0\nlib d--755 0 0\nos-release ---644 0 0 {release}\n$\n$\n$\n"
        ),
    );
    let root = folder.join("root");
    let made = Command::new("/usr/sbin/mkfs.xfs")
        .args(["-q", "-f", "-L", "root", "-m", &format!("uuid={ROOT_ID}"), "-p", &description])
        .arg(format!("-dfile,name={},size={LENGTH}", root.display()))
        .output();
    let made = made.unwrap_or_else(|error| panic!("install Debian's xfsprogs: {error}"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let entry = Entry {
        number: 1,
        kind: TYPE_ROOT_X86_64,
        guid: Uuid::from_u128(2),
        first: START / 512,
        last: (START + LENGTH) / 512 - 1,
        attributes: 0,
        name: "root".to_owned(),
    };
    let size = START + LENGTH + START;
    let table = Table { disk: Uuid::from_u128(1), entries: vec![entry] };
    let ends = table.encode(size / 512, &[]).unwrap();
    let tail = size - ends.tail.len() as u64;
    let file = Arc::new(std::fs::File::open(root).unwrap());
    let source = Source::File { file, offset: 0 };
    let extents = vec![
        Extent::memory(0, ends.head),
        Extent { start: START, length: LENGTH, source },
        Extent::memory(tail, ends.tail),
    ];
    let (path, disk) = (folder.join("disk.raw"), Disk::new(size, extents).unwrap());
    raw::write(&disk, &Payload::of(&disk), &path, &Silent, &Cancel::default()).unwrap();
    path
}

/// What the rules `wanted` say of the image at `path`.
fn judged(path: &Path, wanted: &[&str]) -> Vec<(String, Verdict)> {
    let image = nodekiln_disk::open(path).unwrap();
    let machine = Machine { profile: nodekiln_aws::Aws.machine(), ..Machine::default() };
    let cancel = Cancel::default();
    let subject = Subject::new(&image, &machine, Way::Usual, None, &cancel).unwrap();
    let judgement = at_rest::judge(&subject).unwrap();
    let judged = judgement.rules.into_iter().map(|judged| match judged.outcome {
        Outcome::Judged(verdict) => (judged.rule.id.to_string(), verdict),
        other => panic!("{}: {other:?}", judged.rule.id),
    });
    let mut judged: Vec<_> = judged.filter(|(id, _)| wanted.contains(&id.as_str())).collect();
    judged.sort_by(|(one, _), (other, _)| one.cmp(other));
    judged
}

#[test]
fn an_xfs_root_is_inspected_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = disk(folder.path());
    let (scratch, cancel) = (std::env::temp_dir(), Cancel::default());
    let looking = Looking { digests: false, scratch: &scratch, progress: &Silent, cancel: &cancel };
    let found = inspect(&path, looking).unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let part = &found.partitions[0];
    assert_eq!((part.content.as_deref(), part.label.as_deref()), (Some("xfs"), Some("root")));
    assert_eq!(part.id.as_deref(), Some(ROOT_ID.to_string().as_str()));
    let system = found.system.unwrap();
    assert_eq!((system.name.as_str(), system.id.as_str()), ("Rocky Linux 9.6", "rocky"));
    // A rule on files sees the one that should not be there, and one on disks finds the root by the names that the
    // boot loader and fstab have for it.
    let verdicts = judged(&path, &["host-keys", "root-by-uuid"]);
    let [(keys, Verdict::Fail(why)), (_, Verdict::Pass(_))] = verdicts.as_slice() else {
        panic!("{verdicts:?}")
    };
    assert!(keys == "host-keys" && why.contains("ssh_host_ed25519_key"), "{why}");
}
