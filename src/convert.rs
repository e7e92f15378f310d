//! `nodekiln convert`: the same disk in another format.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_disk::{
    Disk, FileWriter, Payload, Written, qcow2, raw, tar_gz, vhd, vmdk, write_file,
};
use nodekiln_validate::inspect::{self as room, Looking};
use nodekiln_vsphere::{Machine, Template};
use nodekiln_words::{Bytes, Cancel, Failure, Result, ResultExt as _, Sha256};
use serde::Serialize;

use crate::Context;
use crate::arguments::{Convert, ImageFormat};
use crate::emit::compression;
use crate::exit::{print, print_json};
use crate::progress::renderer;

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
        let message = format!("{} is there already", verb.out.display());
        return Err(Failure::input(message).with_help("give another name, or `--force`"));
    }
    let progress = renderer(context.global.progress);
    let folder = match verb.out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let looking =
        Looking { digests: false, scratch: folder, progress: &*progress, cancel: &context.cancel };
    let source = room::open(&verb.image, looking)?; // 2. what there is
    let place = tempfile::Builder::new()
        .prefix(".nodekiln-convert-")
        .permissions(std::fs::Permissions::from_mode(0o666)) // less what the umask takes
        .tempfile_in(folder)
        .or_io(|| format!("cannot write into {}", folder.display()))?;
    let (disk, path) = (source.disk(), place.path());
    let writer = writer(verb, format, disk, path, &context.cancel)?;
    let payload = Payload::of(disk);
    let written = Payload::beside(&[&payload], &*progress, &context.cancel, || {
        write_file(disk, &payload, writer, &verb.out, &*progress, &context.cancel)
    })?; // 3. the file, under another name
    let payload = payload.digest(&*progress, &context.cancel)?;
    place
        .persist(&verb.out)
        .map_err(|error| error.error)
        .or_io(|| format!("cannot name it {}", verb.out.display()))?; // 4. all at once
    say(verb, format, &written, payload, source.size())
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
    let (level, created) = (compression.level(), verb.source_date);
    let name = verb.out.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    Ok(match format {
        ImageFormat::Raw => Box::new(raw::Writer::create(disk, path)?),
        ImageFormat::Qcow2 => {
            let options = qcow2::Options { compression: compression.of_clusters() };
            Box::new(qcow2::Writer::create(disk, path, options, None)?)
        }
        ImageFormat::Vhd => Box::new(vhd::Writer::create(disk, path, created)?),
        ImageFormat::Vmdk => Box::new(vmdk::Alone::create(disk, path, &name, level)?),
        ImageFormat::Ova => {
            // A machine of the usual size that knows its system.
            let name = name.strip_suffix(".ova").unwrap_or(&name);
            let system = room::system(disk)?.unwrap_or_default();
            let machine = Machine::new(name, disk.size(), &system.id, &system.name);
            Box::new(Template::create(disk, path, machine, created, level)?)
        }
        ImageFormat::TarGz => Box::new(tar_gz::Writer::create(disk, path, level, created, cancel)?),
    })
}
