//! `nodekiln convert`: the same disk in another format.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_disk::{
    Disk, FileWriter, Payload, Written, qcow2, raw, tar_gz, vhd, vmdk, write_file,
};
use nodekiln_providers::Firmware;
use nodekiln_validate::inspect::{self as room, Looking};
use nodekiln_vsphere::{Machine, Template};
use nodekiln_words::{Bytes, Cancel, Failure, Result, ResultExt as _, Sha256};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::Context;
use crate::arguments::{Convert, ImageFormat};
use crate::emit::compression;
use crate::exit::{print, print_json};
use crate::output::sweep;
use crate::progress::renderer;

/// What unfinished files are called by; [`sweep`] knows its beginning.
const PREFIX: &str = ".nodekiln-convert-";

/// Names that tell a format, the longer first.
const ENDINGS: [(&str, ImageFormat); 10] = [
    (".tar.gz", ImageFormat::TarGz),
    (".tgz", ImageFormat::TarGz),
    (".qcow2", ImageFormat::Qcow2),
    (".vmdk", ImageFormat::Vmdk),
    (".ova", ImageFormat::Ova),
    (".vhd", ImageFormat::Vhd),
    (".raw", ImageFormat::Raw),
    (".img", ImageFormat::Raw),
    (".bin", ImageFormat::Raw),
    (".dd", ImageFormat::Raw),
];

/// What was written.
#[derive(Serialize)]
struct Converted {
    file: PathBuf,
    format: String,
    size: u64,
    sha256: Sha256,
    payload: Sha256,
    disk_size: u64,
}

/// Writes an image file in another format.
pub(crate) fn convert(verb: &Convert, context: &Context) -> Result<ExitCode> {
    let format = format_of(verb)?; // 1. what is wanted
    if !verb.force && fs_err::symlink_metadata(&verb.out).is_ok() {
        return Err(there_already(&verb.out));
    }
    let progress = renderer(context.global.progress);
    let folder = match verb.out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let looking =
        Looking { digests: false, scratch: folder, progress: &*progress, cancel: &context.cancel };
    let source = room::open(&verb.image, looking)?; // 2. what there is
    let place = place_in(folder)?;
    let (disk, path) = (source.disk(), place.path());
    let writer = writer(verb, format, disk, path, &context.cancel)?;
    let payload = Payload::of(disk);
    let written = Payload::beside(&[&payload], &*progress, &context.cancel, || {
        write_file(disk, &payload, writer, &verb.out, &*progress, &context.cancel)
    })?; // 3. the file, under another name
    let payload = payload.digest(&*progress, &context.cancel)?;
    let named = match verb.force {
        true => place.persist(&verb.out),
        false => place.persist_noclobber(&verb.out), // somebody else may have made it meanwhile
    };
    match named.map_err(|error| error.error) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(there_already(&verb.out));
        }
        named => named.or_io(|| format!("cannot name it {}", verb.out.display()))?,
    }; // 4. all at once
    say(verb, format, &written, payload, source.size())
}

fn there_already(path: &Path) -> Failure {
    Failure::input(format!("{} is there already", path.display()))
        .with_help("give another name, or `--force`")
}

/// An empty file in `folder`, locked as long as it is open, so that what a killed conversion left behind is
/// told from it and swept away by the next.
fn place_in(folder: &Path) -> Result<NamedTempFile> {
    sweep(folder, PREFIX, Path::is_file);
    loop {
        let place = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o666)) // less what the umask takes
            .tempfile_in(folder)
            .or_io(|| format!("cannot write into {}", folder.display()))?;
        // Where there are no locks, nobody sweeps either.
        let _ = place.as_file().lock();
        // Somebody who swept between making and locking took it for abandoned.
        if place.path().exists() {
            return Ok(place);
        }
    }
}

fn say(
    verb: &Convert,
    format: ImageFormat,
    written: &Written,
    payload: Sha256,
    disk_size: u64,
) -> Result<ExitCode> {
    let converted = Converted {
        file: verb.out.clone(),
        format: word(format).to_owned(),
        size: written.bytes,
        sha256: written.sha256,
        payload,
        disk_size,
    };
    if verb.json {
        print_json(&converted)?;
    } else {
        let (file, size) = (verb.out.display(), Bytes(written.bytes));
        print(&format!("{file}: {size}\nsha256  {}\npayload {payload}\n", written.sha256))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Vhd => "vhd",
        ImageFormat::Vmdk => "vmdk",
        ImageFormat::Ova => "ova",
        ImageFormat::TarGz => "tar.gz",
    }
}

fn format_of(verb: &Convert) -> Result<ImageFormat> {
    let name = verb.out.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    let told = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format);
    verb.format.or(told).ok_or_else(|| {
        Failure::input(format!("the name of {} tells no format", verb.out.display())).with_help(
            "give `--format`, or a name that ends in .raw, .qcow2, .vhd, .vmdk, .ova or .tar.gz",
        )
    })
}

/// The writer of the format, into the file at `path`.
fn writer(
    verb: &Convert,
    format: ImageFormat,
    disk: &Disk,
    path: &Path,
    cancel: &Cancel,
) -> Result<Box<dyn FileWriter>> {
    let compression = compression(verb.compression);
    let (deflate, created) = (compression.of_pieces(), verb.source_date);
    let name = verb.out.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    Ok(match format {
        ImageFormat::Raw => Box::new(raw::Writer::create(disk, path)?),
        ImageFormat::Qcow2 => {
            let options = qcow2::Options { compression: compression.of_clusters() };
            Box::new(qcow2::Writer::create(disk, path, options, None)?)
        }
        ImageFormat::Vhd => Box::new(vhd::Writer::create(disk, path, created)?),
        ImageFormat::Vmdk => Box::new(vmdk::Alone::create(disk, path, &name, deflate)?),
        ImageFormat::Ova => {
            // A machine of the usual size that knows its system, with the firmware that starts it.
            let name = name.strip_suffix(".ova").unwrap_or(&name);
            let (boot, system) = room::boot_and_system(disk, cancel)?;
            let system = system.unwrap_or_default();
            let mut machine = Machine::new(name, disk.size(), &system.id, &system.name);
            if boot.uefi && !boot.bios {
                machine.firmware = Firmware::Uefi;
            }
            Box::new(Template::create(disk, path, machine, created, deflate)?)
        }
        ImageFormat::TarGz => {
            Box::new(tar_gz::Writer::create(disk, path, deflate, created, cancel)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use nodekiln_words::{Cancel, Class};

    use super::*;
    use crate::arguments::{ColorChoice, Compression, Global, ProgressStyle};

    fn context() -> Context {
        let (progress, color) = (ProgressStyle::Quiet, ColorChoice::Never);
        Context { global: Global { cache: None, progress, color }, cancel: Cancel::default() }
    }

    fn verb(image: &Path, out: &Path) -> Convert {
        Convert {
            image: image.to_owned(),
            out: out.to_owned(),
            format: None,
            compression: Compression::Default,
            source_date: 1_793_491_200,
            force: false,
            json: true,
        }
    }

    /// A raw disk of so many MiB with an old partition table and a few bytes.
    fn raw(folder: &Path, size: u64) -> PathBuf {
        let path = folder.join(format!("disk-{size}.raw"));
        let mut start = vec![0; 8 << 20];
        start[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
        start[510..512].copy_from_slice(&[0x55, 0xAA]);
        start[(3 << 20)..(3 << 20) + 70_000].fill(7);
        fs_err::write(&path, start).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(size << 20).unwrap();
        path
    }

    /// A disk in a file there, with an EFI system partition that UEFI starts from, and with code for a BIOS or
    /// without.
    fn bootable(folder: &Path, bios: bool) -> PathBuf {
        let path = folder.join(format!("bootable-{bios}.raw"));
        let loader = [("EFI/BOOT/BOOTX64.EFI".to_owned(), b"MZ".to_vec())];
        let date = nodekiln_words::SourceDate::from_unix(1_700_000_000).unwrap();
        let esp = nodekiln_disk::esp::build(&loader, 34 << 20, 7, date).unwrap();
        let mut bytes = vec![0; 1 << 20];
        bytes[..3].copy_from_slice(if bios { b"\xEB\x63\x90" } else { b"\0\0\0" });
        bytes[446..454].copy_from_slice(&[0, 0, 0, 0, 0xEF, 0, 0, 0]);
        bytes[454..458].copy_from_slice(&2048_u32.to_le_bytes());
        bytes[458..462].copy_from_slice(&(34_u32 << 11).to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        bytes.extend(esp);
        fs_err::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_template_has_the_firmware_that_starts_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        for (bios, firmware) in [(false, "efi"), (true, "bios")] {
            let out = folder.path().join(format!("{firmware}.ova"));
            convert(&verb(&bootable(folder.path(), bios), &out), &context()).unwrap();
            let bytes = fs_err::read(&out).unwrap();
            let descriptor = String::from_utf8_lossy(&bytes[..16 << 10]).into_owned();
            let expected = format!("vmw:key=\"firmware\" vmw:value=\"{firmware}\"");
            assert!(descriptor.contains(&expected), "{descriptor}");
        }
    }

    fn hidden(folder: &Path) -> Vec<String> {
        let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(PREFIX)).collect()
    }

    #[test]
    fn every_format_holds_the_same_disk_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let (scratch, cancel) = (folder.path(), Cancel::default());
        let progress = &nodekiln_words::Silent;
        let looking = Looking { digests: false, scratch, progress, cancel: &cancel };
        for (ending, format) in ENDINGS {
            // Compute Engine takes whole GiB.
            let size = if format == ImageFormat::TarGz { 1024 } else { 16 };
            let image = raw(folder.path(), size);
            let out = folder.path().join(format!("node{ending}"));
            convert(&verb(&image, &out), &context()).unwrap();
            let (before, after) =
                (room::open(&image, looking).unwrap(), room::open(&out, looking).unwrap());
            assert_eq!(after.format().name(), word(format), "{ending}");
            let differs = before.disk().first_difference(after.disk(), &cancel).unwrap();
            assert_eq!(differs, None, "{ending}");
            fs_err::remove_file(out).unwrap();
        }
        assert_eq!(hidden(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn what_is_there_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let (image, out) = (raw(folder.path(), 16), folder.path().join("node.qcow2"));
        fs_err::write(&out, "mine").unwrap();
        let failure = convert(&verb(&image, &out), &context()).unwrap_err();
        assert_eq!((failure.class(), failure.help().is_some()), (Class::Input, true));
        assert_eq!(fs_err::read_to_string(&out).unwrap(), "mine");
        convert(&Convert { force: true, ..verb(&image, &out) }, &context()).unwrap();
        assert!(fs_err::read(&out).unwrap().starts_with(b"QFI"));
        assert_eq!(hidden(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn what_killed_conversions_left_is_swept_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (image, out) = (raw(folder.path(), 16), folder.path().join("node.vhd"));
        let place = |name: &str| folder.path().join(name);
        let (dead, live) = (".nodekiln-convert-dEad01", ".nodekiln-convert-live01");
        let (folder_of_user, link) = (".nodekiln-convert-folder", ".nodekiln-convert-link01");
        let others = [".nodekiln-other1", ".nodekiln-convert-my-key", ".nodekiln-convert-", "file"];
        for name in others.into_iter().chain([dead, live]) {
            fs_err::write(place(name), "").unwrap();
        }
        fs_err::create_dir(place(folder_of_user)).unwrap();
        std::os::unix::fs::symlink("file", place(link)).unwrap();
        let locked = std::fs::File::open(place(live)).unwrap();
        locked.lock().unwrap();
        convert(&verb(&image, &out), &context()).unwrap();
        let there = |name: &str| place(name).symlink_metadata().is_ok();
        assert!(!there(dead));
        for name in others.into_iter().chain([live, folder_of_user, link]) {
            assert!(there(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_no_archive_takes_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let image = raw(folder.path(), 16);
        let out = folder.path().join(format!("{}.ova", "n".repeat(100)));
        let failure = convert(&verb(&image, &out), &context()).unwrap_err();
        assert_eq!(failure.class(), Class::Input, "{failure:?}");
        assert!(!out.exists() && hidden(folder.path()).is_empty());
    }
}
