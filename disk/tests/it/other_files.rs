//! Images that name other files of the machine which reads them: none of those is opened, neither by our
//! readers nor by QEMU below an overlay of ours.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::qcow2::{self, Backing};
use nodekiln_disk::{open, ova};
use nodekiln_words::Class;

use crate::tools::{noise, qemu_img};

/// Bytes of the disks here.
const SIZE: u64 = 1 << 20;

/// A file that no image may show.
fn secret(folder: &Path) -> (PathBuf, Vec<u8>) {
    let (path, bytes) = (folder.join("secret"), noise(9, 1 << 20));
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

/// A descriptor as VMware writes it, with these lines for extents and more.
fn descriptor(id: &str, lines: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={id}\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\n{lines}\nddb.adapterType = \"ide\"\n"
    )
}

/// An empty sparse VMDK with `descriptor` where QEMU looks for it; the header says that it is there too, or
/// in the file's last sectors, where a harmless one stands.
fn vmdk(path: &Path, descriptor: &str, elsewhere: bool) {
    qemu_img(&["create", "-q", "-f", "vmdk"], &[path, Path::new("1M")]);
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut own = vec![0; 20 * 512];
    file.read_exact_at(&mut own, 512).unwrap();
    if elsewhere {
        let length = file.metadata().unwrap().len();
        file.write_all_at(&own, length).unwrap();
        file.write_all_at(&(length / 512).to_le_bytes(), 28).unwrap();
    }
    let mut bytes = descriptor.as_bytes().to_vec();
    bytes.resize(own.len(), 0);
    file.write_all_at(&bytes, 512).unwrap();
}

fn set_capacity(path: &Path, sectors: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&sectors.to_le_bytes(), 12).unwrap();
}

/// Whether QEMU, reading `image`, comes to the secret.
fn shows(format: &str, image: &Path, secret: &[u8]) -> bool {
    let flat = image.with_extension("flat");
    qemu_img(&["convert", "-f", format, "-O", "raw"], &[image, &flat]);
    std::fs::read(&flat).unwrap().windows(512).any(|window| window == &secret[..512])
}

/// Whether QEMU comes to the secret through an overlay of ours.
fn shows_below_an_overlay(backing: &Backing, folder: &Path, secret: &[u8]) -> bool {
    let overlay = folder.join("overlay.qcow2");
    qcow2::write_overlay(&overlay, backing, SIZE).unwrap();
    shows("qcow2", &overlay, secret)
}

fn refused(path: &Path, class: Class, words: &str) {
    let failure = open(path).unwrap_err();
    assert_eq!(failure.class(), class, "{failure:?}");
    let told = failure.chain().join(": ");
    assert!(told.contains(words), "{told}");
}

#[test]
fn the_parent_that_a_vmdk_hints_at_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = secret(folder.path());
    let flat = format!("RW 2048 FLAT \"{}\" 0", file.display());
    let parent = folder.path().join("parent.vmdk");
    std::fs::write(&parent, descriptor("ffffffff", &flat)).unwrap();
    let names = [
        parent.display().to_string(),
        format!("json:{{'driver':'vmdk','file.filename':'{}'}}", parent.display()),
    ];
    let image = folder.path().join("node.vmdk");
    for (name, elsewhere) in names.iter().flat_map(|name| [(name, false), (name, true)]) {
        let hint = format!("RW 2048 SPARSE \"node.vmdk\"\nparentFileNameHint=\"{name}\"");
        vmdk(&image, &descriptor("12345678", &hint), elsewhere);
        assert!(shows("vmdk", &image, &secret), "QEMU itself does not follow {name}");
        refused(&image, Class::Unsupported, "needs its parent");
        let length = std::fs::metadata(&image).unwrap().len();
        let backing = Backing::Vmdk { file: image.clone(), range: 0..length };
        assert!(!shows_below_an_overlay(&backing, folder.path(), &secret), "{name}");
        // Nor in a package.
        let package = packed(&image);
        refused(&package, Class::Unsupported, "needs its parent");
        let length = std::fs::metadata(&package).unwrap().len();
        let range = 1024..length - 1024;
        let backing = Backing::Vmdk { file: package, range };
        assert!(!shows_below_an_overlay(&backing, folder.path(), &secret), "{name}");
    }
}

/// An OVA that is no more than a descriptor without bytes and this disk.
fn packed(image: &Path) -> PathBuf {
    let path = image.with_file_name("node.ova");
    let bytes = std::fs::read(image).unwrap();
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for (name, content) in [("node.ovf", &[][..]), ("node.vmdk", &bytes[..])] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.finish().unwrap();
    drop(archive);
    let opened = ova::Contents::read(&std::fs::File::open(&path).unwrap().into());
    assert_eq!(opened.unwrap().extent.start, 1024);
    path
}

#[test]
fn the_extents_that_a_vmdk_lists_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = secret(folder.path());
    let image = folder.path().join("node.vmdk");
    let flat = format!("RW 2048 FLAT \"{}\" 0", file.display());
    vmdk(&image, &descriptor("12345678", &flat), false);
    refused(&image, Class::Unsupported, "other files, of the kinds FLAT");
    // With an extent of its own QEMU does not look at the list.
    assert!(!shows("vmdk", &image, &secret));
    // Without one it does, below an overlay too: this is for our reader to refuse, wherever the list stands.
    for elsewhere in [false, true] {
        vmdk(&image, &descriptor("12345678", &flat), elsewhere);
        set_capacity(&image, 0);
        if !elsewhere {
            assert!(shows("vmdk", &image, &secret), "QEMU itself does not follow the list");
        }
        refused(&image, Class::Input, "a disk of no sectors");
    }
    let two = "RW 1024 SPARSE \"one.vmdk\"\nRW 1024 SPARSE \"two.vmdk\"";
    vmdk(&image, &descriptor("12345678", two), false);
    refused(&image, Class::Unsupported, "SPARSE, SPARSE");
    vmdk(&image, &descriptor("12345678", "RW 2048 SPARSE \"other name.vmdk\""), true);
    open(&image).unwrap();
}

#[test]
fn the_backing_file_of_a_qcow2_is_not_opened_below_an_overlay() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = secret(folder.path());
    let image = folder.path().join("node.qcow2");
    let options = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
    qemu_img(&options, &[&file, &image]);
    assert!(shows("qcow2", &image, &secret), "QEMU itself does not follow the name");
    let backing = Backing::Qcow2(image.clone());
    assert!(!shows_below_an_overlay(&backing, folder.path(), &secret));
    // External data QEMU would open in any case: our reader refuses them.
    std::fs::remove_file(&image).unwrap();
    let data = format!("data_file={},data_file_raw=on", folder.path().join("data").display());
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data], &[&image, Path::new("1M")]);
    refused(&image, Class::Unsupported, "external data file");
}
