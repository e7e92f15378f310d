//! What other readers find on a medium.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// So many bytes as no other path has.
fn content(path: &str, size: usize) -> Vec<u8> {
    let digest = nodekiln_words::Sha256::of(path.as_bytes()).to_string();
    digest.trim_start_matches("sha256:").bytes().cycle().take(size).collect()
}

fn files() -> Vec<(String, Vec<u8>)> {
    let file = |path: &str, size: usize| (path.to_owned(), content(path, size));
    let mut files = vec![
        file("ovf-env.xml", 3000),
        file("openstack/latest/meta_data.json", 2048),
        file("openstack/latest/meta_data.jsonx", 1),
        file("openstack/latest/user_data", 0),
        file("openstack/2018-08-27/vendor_data2.json", 10),
        file("ec2/latest/meta-data.json", 5),
        file("umlaut-ä.txt", 7),
    ];
    // So many that the folder needs several sectors, and 8.3 names collide.
    files.extend((0..120).map(|n| file(&format!("many/entry-with-a-long-name-{n:03}"), n)));
    files
}

fn image(files: &[(String, Vec<u8>)], folder: &Path) -> std::path::PathBuf {
    let path = folder.join("medium.iso");
    fs_err::write(&path, write("config-2", files).unwrap()).unwrap();
    path
}

fn run(program: &str, package: &str, arguments: &[&str], image: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).arg(image).output();
    let output = output
        .unwrap_or_else(|_| panic!("{program} is missing: install Debian's package {package}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What bsdtar unpacks, as one of the three kinds of names.
fn unpacked(image: &Path, options: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    run("bsdtar", "libarchive-tools", &["-C", place, "--options", options, "-xf"], image);
    let mut found = BTreeMap::new();
    let mut open = vec![folder.path().to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs_err::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs_err::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn bsdtar_finds_every_file_by_rock_ridge_and_by_joliet() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(&files(), folder.path());
    let expected: BTreeMap<String, Vec<u8>> = files().into_iter().collect();
    assert_eq!(unpacked(&image, "iso9660:!joliet"), expected);
    assert_eq!(unpacked(&image, "iso9660:!rockridge"), expected);
    let plain = unpacked(&image, "iso9660:!joliet,iso9660:!rockridge");
    assert_eq!(plain.len(), expected.len());
    let mut contents: Vec<&Vec<u8>> = plain.values().collect();
    let mut wanted: Vec<&Vec<u8>> = expected.values().collect();
    contents.sort();
    wanted.sort();
    assert_eq!(contents, wanted);
    for name in plain.keys() {
        let last = name.rsplit('/').next().unwrap();
        let (stem, extension) = last.split_once('.').unwrap_or((last, ""));
        assert!(stem.len() <= 8 && extension.len() <= 3, "{name}");
    }
}

#[test]
fn isoinfo_lists_what_was_written_and_finds_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(&files(), folder.path());
    for option in ["-R", "-J"] {
        let listing = run("isoinfo", "genisoimage", &["-f", option, "-i"], &image);
        let listing = String::from_utf8_lossy(&listing).into_owned();
        for (path, _) in files() {
            let found =
                listing.lines().any(|line| line.trim_end_matches(";1") == format!("/{path}"));
            assert!(found || !path.is_ascii(), "{option} {path}: {listing}");
        }
    }
    let told = run("isoinfo", "genisoimage", &["-d", "-i"], &image);
    let told = String::from_utf8_lossy(&told).into_owned();
    for line in [
        "Volume id: config-2",
        "Joliet with UCS level 3 found",
        "Rock Ridge signatures version 1 found",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

#[test]
fn blkid_knows_the_label() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(&files(), folder.path());
    let told = run("/usr/sbin/blkid", "util-linux", &["-p", "-o", "export"], &image);
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("LABEL=config-2") && told.contains("TYPE=iso9660"), "{told}");
}

#[test]
fn the_same_files_give_the_same_bytes_in_any_order() {
    let mut turned = files();
    turned.reverse();
    let image = write("config-2", &files()).unwrap();
    assert!(image == write("config-2", &files()).unwrap());
    assert!(image == write("config-2", &turned).unwrap(), "in another order");
    assert_eq!(image.len() % SECTOR, 0);
}

#[test]
fn what_cannot_be_told_is_refused() {
    let one = |path: &str| write("label", &[(path.to_owned(), vec![])]);
    let long = "x".repeat(65);
    for path in
        ["", "a//b", "/a", "a/", "a:b", "a\u{1}", "../a", long.as_str(), "1/2/3/4/5/6/7/8/9"]
    {
        assert!(one(path).is_err(), "{path}");
    }
    let twice = ["a", "a/b"].map(|path| (path.to_owned(), vec![]));
    assert!(write("label", &twice).is_err());
    for label in ["", "with blank", "seventeen-letters"] {
        assert!(write(label, &files()).is_err(), "{label}");
    }
    assert!(one("1/2/3/4/5/6/7/8").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_is_read_back(paths in prop::collection::btree_set("[a-zA-Z0-9._ -]{1,20}(/[a-z.]{1,12}){0,3}", 1..12), size in 0_usize..5000) {
        let files: Vec<(String, Vec<u8>)> =
            paths.iter().map(|path| (path.clone(), content(path, size))).collect();
        let folder = tempfile::tempdir().unwrap();
        if let Ok(bytes) = write("label", &files) {
            let path = folder.path().join("a.iso");
            fs_err::write(&path, bytes).unwrap();
            let expected: BTreeMap<String, Vec<u8>> = files.into_iter().collect();
            prop_assert_eq!(unpacked(&path, "iso9660:!joliet"), expected.clone());
            prop_assert_eq!(unpacked(&path, "iso9660:!rockridge"), expected);
        }
    }
}
