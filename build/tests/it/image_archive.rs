//! Archives against another reader: skopeo.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use nodekiln_build::oci::layer::{self, Entries, Node};
use nodekiln_build::oci::{self, Image, ImageSpec, archive, read};
use nodekiln_words::{Cancel, Sha256};

use crate::node::source_date;

fn image(folder: &Path) -> Image {
    let mut entries = Entries::default();
    entries.add("bin/tool", Node::Bytes(vec![7; 5000].into()), 0o755).unwrap();
    entries.add("bin/sh", Node::Link("tool".to_owned()), 0o777).unwrap();
    let path = folder.join("layer");
    let layer = layer::write(&entries, source_date(), &path, &Cancel::default()).unwrap();
    let spec = ImageSpec {
        reference: "registry.example/tools/tool:1.2".parse().unwrap(),
        architecture: "amd64",
        entrypoint: vec!["/bin/tool".to_owned()],
        command: Vec::new(),
        user: Some("65535:65535".to_owned()),
        environment: vec!["A=b".to_owned()],
        labels: BTreeMap::from([("key".to_owned(), "value".to_owned())]),
    };
    oci::build(&spec, layer, source_date()).unwrap()
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output();
    let output = output.expect("skopeo of the package skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn archive_of(image: &Image, folder: &Path) -> std::path::PathBuf {
    let path = folder.join("image.tar");
    let images = std::slice::from_ref(image);
    archive::write(images, source_date(), &path, &Cancel::default()).unwrap();
    path
}

#[test]
fn an_archive_reads_back_as_what_was_written_and_is_the_same_twice() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = image(one.path());
    let path = archive_of(&image, one.path());
    let other = archive_of(&self::image(two.path()), two.path());
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(other).unwrap());
    let read = read::archive(&path, "amd64").unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].reference, image.reference);
    let digests = |image: &Image| image.blobs().map(|blob| blob.digest).collect::<Vec<_>>();
    assert_eq!(digests(&read[0]), digests(&image));
}

#[test]
fn skopeo_reads_an_archive_and_agrees_on_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let path = archive_of(&image, folder.path());
    let text = skopeo(&["inspect", &format!("oci-archive:{}:1.2", path.display())]);
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["Digest"], format!("sha256:{}", image.manifest.digest));
    assert_eq!(seen["Layers"][0], format!("sha256:{}", image.layers[0].digest));
    assert_eq!(seen["Labels"]["key"], "value");
    assert_eq!(seen["Created"], "2023-11-14T22:13:20Z");
    assert_eq!(seen["Architecture"], "amd64");
}

#[test]
fn what_skopeo_writes_for_docker_is_read_under_its_plain_name() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let path = archive_of(&image, folder.path());
    let docker = folder.path().join("docker.tar");
    skopeo(&[
        "--insecure-policy",
        "copy",
        &format!("oci-archive:{}:1.2", path.display()),
        &format!("docker-archive:{}:registry.example/tools/tool-amd64:1.2", docker.display()),
    ]);
    let read = read::archive(&docker, "amd64").unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].reference, image.reference, "the architecture's suffix is gone");
    assert_eq!(read[0].diff_ids().unwrap(), image.diff_ids().unwrap());
}

#[test]
fn a_flipped_bit_anywhere_in_a_blob_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive_of(&image(folder.path()), folder.path());
    let good = std::fs::read(&path).unwrap();
    let first_blob = 512 * 6; // two members of two blocks each, two folders of one
    let mut found = 0;
    for at in (first_blob..good.len() - 1024).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        match read::archive(&path, "amd64") {
            Err(_) => found += 1,
            Ok(read) => {
                // Padding and times of a tar header carry nothing.
                let bytes: usize = read[0].blobs().map(|blob| blob.size as usize).sum();
                assert!(bytes > 0);
                let intact = read[0].verify();
                assert!(intact.is_ok(), "{at}");
            }
        }
    }
    assert!(found > 10, "{found}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_in_an_archives_place_end_in_an_answer(
        index in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        name in "(index|manifest)\\.json",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &index).unwrap();
        proptest::prop_assert!(read::archive(&path, "amd64").is_err());
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_size(index.len() as u64);
        tar.append_data(&mut header, &name, &index[..]).unwrap();
        tar.finish().unwrap();
        proptest::prop_assert!(read::archive(&path, "amd64").is_err(), "{index:?} is no document");
    }
}

#[test]
fn an_archive_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for bytes in [&b""[..], b"not a tar archive", &Sha256::of("x").to_string().into_bytes()] {
        std::fs::write(&path, bytes).unwrap();
        assert!(read::archive(&path, "amd64").is_err());
    }
}
