//! The store is the same in every build.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use nodekiln_build::layer::scan;
use nodekiln_build::oci::{Image, archive};
use nodekiln_build::sandbox::OtherClock;

use super::{PAUSE, extras, files, image, image_of_layers, preload, second_start, tree};
use crate::node::{Bench, source_date};

/// Looks at all images as containers would, and unpacks one more.
const USE_ALL: &str = r#"
containerd --log-level warn >&2 &
server=$!
until ctr version >/dev/null 2>&1; do sleep 0.1; done
mkdir /tmp/mounted
for name in k8s.gcr.io/pause:3.2 docker.io/library/base:1 docker.io/library/left:1 docker.io/library/right:1; do
    ctr -n k8s.io images mount --rw $name /tmp/mounted >&2
    cd /tmp/mounted
    echo $name: */*
    cd /
    ctr -n k8s.io images unmount --rm /tmp/mounted >&2
done
ctr -n k8s.io snapshots usage
ctr -n k8s.io leases list
kill $server
wait $server
"#;

/// Two images with a layer of their own each over one that is theirs and a third's.
fn images_that_share(folder: &Path) -> Vec<Image> {
    let base = || ("base", files(&["etc/base", "bin/base"]));
    let name = |name: &str| format!("docker.io/library/{name}:1");
    vec![
        image(PAUSE, "pause", folder),
        image_of_layers(&name("base"), &[base()], folder),
        image_of_layers(&name("left"), &[base(), ("l", files(&["etc/left", "bin/base"]))], folder),
        image_of_layers(&name("right"), &[base(), ("r", files(&["etc/right"]))], folder),
    ]
}

/// Everything below `folder` with kind, mode, owner, time to the nanosecond and link.
fn listed(folder: &Path) -> Vec<String> {
    let output = std::process::Command::new("find")
        .arg(folder)
        .args(["-printf", "%P %y %m %U %G %T@ %l\n"])
        .output()
        .expect("find of the package findutils");
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Lines of either that the other has not.
fn differing<'a>(one: &'a [String], other: &'a [String]) -> Vec<&'a str> {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (one.iter().collect(), other.iter().collect());
    one.symmetric_difference(&other).map(|line| line.as_str()).collect()
}

#[test]
fn a_store_is_the_same_bytes_at_another_time_on_another_file_system() {
    let first = Bench::new();
    let tree = tree(&first);
    for name in ["mkdir", "rmdir", "umount"] {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    let images = images_that_share(first.folder.path());
    let wanted: Vec<String> = images.iter().map(|image| image.reference.to_string()).collect();
    // Blocks in use are others in memory than on a disk, and so is the order of names.
    let mut second = Bench::within(Path::new("/dev/shm"));
    second.sandbox.clock = Some(OtherClock::ahead().unwrap());
    let made = [(&first, false), (&second, true)].map(|(bench, reverse)| {
        let node = bench.stored("images", |output| {
            std::fs::create_dir(output.join("images")).unwrap();
            let mut images: Vec<(usize, &Image)> = images.iter().enumerate().collect();
            if reverse {
                images.reverse();
            }
            for (number, image) in images {
                let name =
                    if reverse { format!("{}.tar", 9 - number) } else { format!("{number}") };
                let path = output.join("images").join(name);
                archive::write(std::slice::from_ref(image), source_date(), &path, &bench.cancel)
                    .unwrap();
            }
        });
        let mut request = wanted.clone();
        if reverse {
            request.reverse();
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        let (output, facts) = preload(bench, "scratch", &tree, &node, &extras(&request));
        let inventory = scan(&output, true, &bench.cancel).unwrap();
        (facts.unwrap(), listed(&output), inventory.lines().collect::<Vec<_>>(), output)
    });
    let [(facts, names, contents, _), (other_facts, other_names, other_contents, store)] = made;
    assert_eq!(facts, other_facts);
    assert_eq!(differing(&names, &other_names), [""; 0]);
    assert_eq!(differing(&contents, &other_contents), [""; 0]);

    // Four chains: the base, two over it, and the pause image's. Views get the numbers from 5 on.
    let store = store.join("var/lib/containerd");
    let used = second_start(&second, &tree, &store, USE_ALL);
    assert!(used.contains("base:1: bin/base etc/base\n"), "{used}");
    assert!(used.contains("left:1: bin/base etc/base etc/left\n"), "{used}");
    assert!(used.contains("right:1: bin/base etc/base etc/right\n"), "{used}");
    // A root, two folders and two files of the base; 5 blocks of 4 KiB.
    assert!(used.contains(" 20.0 KiB 5"), "{used}");
    assert!(!used.contains("nodekiln"), "a lease is left: {used}");
}

#[test]
fn of_two_archives_with_one_image_the_first_by_name_is_taken() {
    // There a folder lists its names as they came.
    let benches = [(); 2].map(|()| Bench::within(Path::new("/dev/shm")));
    let tree = tree(&benches[0]);
    let folder = benches[0].folder.path();
    let images =
        ["one", "other"].map(|file| image_of_layers(PAUSE, &[(file, files(&[file]))], folder));
    let [first, second] = [["a", "b"], ["b", "a"]];
    let facts = [(&benches[0], first), (&benches[1], second)].map(|(bench, names)| {
        let node = bench.stored("images", |output| {
            std::fs::create_dir(output.join("images")).unwrap();
            for name in names {
                let image = &images[usize::from(name == "b")];
                let path = output.join("images").join(name);
                archive::write(std::slice::from_ref(image), source_date(), &path, &bench.cancel)
                    .unwrap();
            }
        });
        preload(bench, "scratch", &tree, &node, &extras(&[PAUSE.to_owned()])).1.unwrap()
    });
    assert!(facts[0]["images"].contains(&images[0].manifest.digest.to_string()));
    assert_eq!(facts[0], facts[1]);
}
