//! `nodekiln convert`: the same disk in another format.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use nodekiln_disk::{Disk, Pass, Payload, Written, ova, qcow2, raw, tar_gz, vhd, vmdk};
use nodekiln_validate::inspect::{self as room, Looking};
use nodekiln_vsphere::Machine;
use nodekiln_words::{Bytes, Failure, Progress, Result, ResultExt as _, Sha256};
use serde::Serialize;

use crate::Context;
use crate::arguments::{self, Convert, ImageFormat};
use crate::exit::{print, print_json};
use crate::progress::renderer;

/// Level of the deflate stream in VMDK and `.tar.gz`.
const LEVEL: i32 = 6;

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
    let writing =
        Writing { verb, disk: source.disk(), path: place.path(), progress: &progress, context };
    let payload = Payload::of(source.disk());
    let written = writing.write(format, &payload)?; // 3. the file, under another name
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

/// A file being written.
struct Writing<'a> {
    verb: &'a Convert,
    disk: &'a Disk,
    path: &'a Path,
    progress: &'a Arc<dyn Progress>,
    context: &'a Context,
}

impl Writing<'_> {
    fn write(&self, format: ImageFormat, payload: &Payload) -> Result<Written> {
        let (disk, path, cancel) = (self.disk, self.path, &self.context.cancel);
        let progress = &**self.progress;
        match format {
            ImageFormat::Raw => raw::write(disk, payload, path, progress, cancel),
            ImageFormat::Qcow2 => {
                let compression = compression(self.verb.compression).of_clusters();
                qcow2::write(disk, path, qcow2::Options { compression }, progress, cancel)
            }
            ImageFormat::Vhd => {
                let writer = vhd::Writer::create(disk, path, self.verb.source_date)?;
                self.pass(|pass| pass.plain(disk, writer.output()))?;
                writer.finish(disk, payload, progress, cancel)
            }
            ImageFormat::Vmdk => {
                let output = Arc::new(nodekiln_disk::Output::create(path)?);
                let mut writer = vmdk::Writer::new(disk, &output, 0, LEVEL)?;
                self.pass(|pass| pass.stream(disk, &mut writer))?;
                let name = self.file_name();
                let bytes = writer.finish(&name, &payload.digest(progress, cancel)?)?;
                let sha256 = output.sync_and_digest(cancel)?;
                Ok(Written { sha256, bytes, allocated: output.written() })
            }
            ImageFormat::Ova => self.ova(payload),
            ImageFormat::TarGz => {
                let created = self.verb.source_date;
                let mut writer = tar_gz::Writer::create(disk, path, LEVEL, created, cancel)?;
                self.pass(|pass| pass.stream(disk, &mut writer))?;
                writer.finish(cancel)
            }
        }
    }

    /// An OVA whose machine is of the usual size and knows its system.
    fn ova(&self, payload: &Payload) -> Result<Written> {
        let (progress, cancel) = (&**self.progress, &self.context.cancel);
        let name = self.file_name();
        let name = name.strip_suffix(".ova").unwrap_or(&name);
        let system = room::system(self.disk)?.unwrap_or_default();
        let machine = Machine::new(name, self.disk.size(), &system.id, &system.name);
        let largest = ova::Extent { length: u64::MAX, populated: u64::MAX };
        let mut members = nodekiln_vsphere::members(name, 0, self.verb.source_date);
        members.room = nodekiln_vsphere::descriptor(&machine, &members, &largest)?.len() as u64;
        let mut writer = ova::Writer::create(self.disk, self.path, members.clone(), LEVEL)?;
        self.pass(|pass| pass.stream(self.disk, &mut writer.extent))?;
        let describe =
            |extent: &ova::Extent| nodekiln_vsphere::descriptor(&machine, &members, extent);
        writer.finish(&payload.digest(progress, cancel)?, describe, cancel)
    }

    fn file_name(&self) -> String {
        let name = self.verb.out.file_name();
        name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Runs a pass with what `add` puts in.
    fn pass<'a>(&self, add: impl FnOnce(&mut Pass<'a>)) -> Result<()> {
        let mut pass = Pass::new();
        add(&mut pass);
        let title = format!("write {}", self.verb.out.display());
        let task = self.progress.start(&title, Some(pass.length()), "B");
        let ran = pass.run(&|done| self.progress.advance(task, done), &self.context.cancel);
        match &ran {
            Ok(_) => self.progress.finish(task, ""),
            Err(_) => self.progress.fail(task),
        }
        ran.map(drop)
    }
}

fn compression(compression: arguments::Compression) -> nodekiln_providers::Compression {
    match compression {
        arguments::Compression::Zlib => nodekiln_providers::Compression::Zlib,
        arguments::Compression::Zstd => nodekiln_providers::Compression::Zstd,
        arguments::Compression::None => nodekiln_providers::Compression::None,
    }
}
