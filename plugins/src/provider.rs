//! A plugin as a provider: its layer and machine as it describes them, its artifact as it writes it.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::{Disk, FileWriter, Pass, Payload, Written, qcow2, raw, tar_gz, vhd, vmdk};
use nodekiln_plugin_protocol as said;
use nodekiln_providers::{
    Artifact, ArtifactRequest, ArtifactWriter, Compression, FileName, ImageFacts, MachineProfile,
    Made, Plugin, Provider,
};
use nodekiln_vsphere::Template;
use nodekiln_words::{
    Cancel, Class, Failure, Progress, Result, ResultExt as _, SourceDate, TaskId,
};

use crate::described::{self, IMAGE};
use crate::session::Session;
use crate::verify::{Folder, Verified};
use crate::work_folder::WorkFolder;
use crate::{Executable, Limits};

/// A provider that is a plugin.
#[derive(Clone, Debug)]
pub struct PluginProvider {
    executable: Executable,
    description: said::Description,
    machine: MachineProfile,
    limits: Limits,
}

impl PluginProvider {
    /// Asks the plugin what it is.
    ///
    /// # Errors
    /// When it does not answer, or not as the protocol has it.
    pub fn load(executable: Executable, limits: Limits, cancel: &Cancel) -> Result<Self> {
        let name = executable.name.clone();
        let description = describe(&executable, limits, cancel)?;
        Self::of(executable, description, limits).map_err(|problems| {
            let problems = problems.join("; ");
            Failure::io(format!(
                "provider plugin `{name}` does not describe itself well: {problems}"
            ))
            .with_help(format!("`nodekiln provider check {name}` tells its author more"))
        })
    }

    /// The plugin that said `description` of itself.
    ///
    /// # Errors
    /// What is wrong with the description, in fragments.
    pub fn of(
        executable: Executable,
        description: said::Description,
        limits: Limits,
    ) -> std::result::Result<Self, Vec<String>> {
        let problems = described::problems(&executable.name, &description);
        if !problems.is_empty() {
            return Err(problems);
        }
        let machine = described::machine(&description.machine);
        Ok(Self { executable, description, machine, limits })
    }

    /// Its executable.
    #[must_use]
    pub fn executable(&self) -> &Executable {
        &self.executable
    }

    /// What it said of itself.
    #[must_use]
    pub fn description(&self) -> &said::Description {
        &self.description
    }

    /// Names of its files for an image of this name.
    fn file_names(&self, image: &str) -> Vec<String> {
        self.files(image).into_iter().map(|named| named.file).collect()
    }

    /// Has the plugin write its artifact into `place`, from the input there, and verifies it.
    pub(crate) fn write(
        &self,
        place: &Place,
        request: &said::Write,
        told: &mut dyn FnMut(&said::Progress),
        cancel: &Cancel,
    ) -> Result<(Vec<Verified>, said::Done)> {
        let name = &self.executable.name;
        self.executable.verify(cancel)?;
        let mut environment = place.environment()?;
        environment.push(("SOURCE_DATE_EPOCH".to_owned(), request.created.to_string().into()));
        environment.extend(
            self.description
                .environment
                .iter()
                .filter_map(|variable| Some((variable.clone(), std::env::var_os(variable)?))),
        );
        let folder = place.folder.path();
        let session = Session::start(&self.executable, folder, &environment, self.limits, cancel)?;
        let done = session.write(request, told)?;
        let expected = self.file_names(&request.name);
        let verified = place.folder.verify(name, &expected, &done.artifacts, cancel)?;
        let keys: Vec<&String> = done.registration.keys().collect();
        let announced: Vec<&String> = self.description.registration.keys().collect();
        if keys != announced {
            let text = format!(
                "provider plugin `{name}` tells a registration with the keys {keys:?}, where {announced:?} were announced"
            );
            return Err(Failure::io(text)
                .with_help(format!("`nodekiln provider check {name}` tells its author more")));
        }
        Ok((verified, done))
    }
}

/// Asks a plugin what it is.
pub(crate) fn describe(
    executable: &Executable,
    limits: Limits,
    cancel: &Cancel,
) -> Result<said::Description> {
    let place = Place::within(&std::env::temp_dir())?;
    let environment = place.environment()?;
    Session::start(executable, place.folder.path(), &environment, limits, cancel)?.describe()
}

impl Provider for PluginProvider {
    fn name(&self) -> &str {
        &self.executable.name
    }

    fn description(&self) -> &str {
        &self.description.description
    }

    fn layer(&self) -> &str {
        &self.description.layer
    }

    fn machine(&self) -> MachineProfile {
        self.machine.clone()
    }

    fn files(&self, image: &str) -> Vec<FileName> {
        let file = |artifact: &said::ArtifactName| {
            FileName::new(artifact.file.replacen(IMAGE, image, 1), &artifact.format)
        };
        self.description.artifacts.iter().map(file).collect()
    }

    fn plugin(&self) -> Option<Plugin> {
        let (version, sha256) = (self.description.version.clone(), self.executable.sha256);
        Some(Plugin { version, sha256 })
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        let place = Place::within(&request.folder)?;
        place.told()?; // what cannot be told later is refused before anything is written
        let input = input(self.description.input, disk, &place.input, request, cancel)?;
        let (provider, request) = (self.clone(), request.clone());
        Ok(Box::new(Writing { provider, request, place, input }))
    }
}

/// Where a plugin works: a folder of its own with the disk, its artifact and what it needs besides, which goes
/// when this does.
#[derive(Debug)]
pub(crate) struct Place {
    _work: WorkFolder,
    pub(crate) folder: Folder,
    /// Path of the disk.
    pub(crate) input: PathBuf,
    /// Home folder, and that for temporary files.
    scratch: PathBuf,
}

impl Place {
    /// Makes one in `folder`.
    pub(crate) fn within(folder: &Path) -> Result<Self> {
        let cannot = || format!("cannot make a folder in {}", folder.display());
        let folder = std::path::absolute(folder).or_io(cannot)?;
        let work = WorkFolder::within(&folder)?;
        let [out, scratch] = ["out", "scratch"].map(|name| work.path().join(name));
        fs_err::create_dir(&out).or_io(cannot)?;
        fs_err::create_dir(&scratch).or_io(cannot)?;
        let (folder, input) = (Folder::open(&out)?, work.path().join("disk"));
        Ok(Self { _work: work, folder, input, scratch })
    }

    /// The paths of the disk and of the artifact's folder, as the plugin is told them.
    ///
    /// # Errors
    /// When they are not UTF-8.
    fn told(&self) -> Result<(String, String)> {
        Ok((text(&self.input)?, text(self.folder.path())?))
    }

    /// What every plugin finds in its environment.
    pub(crate) fn environment(&self) -> Result<Vec<(String, OsString)>> {
        let own = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            (name.to_owned(), value.as_ref().to_owned())
        };
        let path = std::env::var_os("PATH").ok_or_else(|| {
            Failure::new(Class::Input, "PATH is not set")
                .with_help("plugins and their tools are found by it")
        })?;
        Ok(vec![
            own("PATH", &path),
            own("HOME", &self.scratch),
            own("TMPDIR", &self.scratch),
            own("LANG", &"C.UTF-8"),
            own("TZ", &"UTC"),
        ])
    }
}

/// The writer of the disk that a plugin is given.
pub(crate) fn input(
    format: said::Format,
    disk: &Disk,
    path: &Path,
    request: &ArtifactRequest,
    cancel: &Cancel,
) -> Result<Box<dyn FileWriter>> {
    let (compression, created) = (request.compression, request.created);
    let deflate = compression.of_pieces();
    Ok(match format {
        said::Format::Raw => Box::new(raw::Writer::create(disk, path)?),
        said::Format::Qcow2 => {
            let options = qcow2::Options { compression: compression.of_clusters() };
            Box::new(qcow2::Writer::create(disk, path, options, request.clusters.clone())?)
        }
        said::Format::Vhd => Box::new(vhd::Writer::create(disk, path, created)?),
        said::Format::Vmdk => {
            let name = format!("{}.vmdk", request.name);
            Box::new(vmdk::Alone::create(disk, path, &name, deflate)?)
        }
        said::Format::Ova => Box::new(Template::of(disk, path, request)?),
        said::Format::TarGz => {
            Box::new(tar_gz::Writer::create(disk, path, deflate, created, cancel)?)
        }
    })
}

/// What the plugin is asked for, `written` being the disk at the input's place.
pub(crate) fn write_request(
    provider: &PluginProvider,
    request: &ArtifactRequest,
    place: &Place,
    written: &Written,
    disk: said::Payload,
) -> Result<said::Write> {
    let (path, folder) = place.told()?;
    Ok(said::Write {
        name: request.name.clone(),
        input: said::Input {
            path,
            format: provider.description.input,
            bytes: written.bytes,
            sha256: written.sha256.to_string(),
        },
        folder,
        disk,
        compression: match request.compression {
            Compression::Fast => said::Compression::Fast,
            Compression::Default => said::Compression::Default,
            Compression::Small => said::Compression::Small,
            Compression::Zstd => said::Compression::Zstd,
            Compression::None => said::Compression::None,
        },
        created: request.created,
        date: SourceDate::from_unix(request.created)
            .ok_or_else(|| Failure::input(format!("{} is no source date", request.created)))?
            .to_string(),
        silence: provider.limits.silence.as_secs().max(1),
        facts: facts(&request.facts),
    })
}

fn facts(facts: &ImageFacts) -> said::Facts {
    let ImageFacts {
        distribution,
        distribution_version,
        architecture,
        kubernetes,
        kubernetes_source: _, // how it was made is no business of who runs it
        containerd,
        cni,
    } = facts.clone();
    said::Facts { distribution, distribution_version, architecture, kubernetes, containerd, cni }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::input(format!("{} is not UTF-8, as a plugin has to be told it", path.display()))
            .with_help("choose another output folder with `--out FOLDER`")
    })
}

/// A plugin's artifact being written: first the disk, then by the plugin what it makes of it.
struct Writing {
    provider: PluginProvider,
    request: ArtifactRequest,
    place: Place,
    input: Box<dyn FileWriter>,
}

impl ArtifactWriter for Writing {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        self.input.join(disk, pass);
    }

    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Made> {
        let Self { provider, request, place, input } = *self;
        let written = input.finish(disk, payload, progress, cancel)?; // 1. the disk for it
        let read_only = std::fs::Permissions::from_mode(0o444);
        fs_err::set_permissions(&place.input, read_only).or_io(|| "cannot write".to_owned())?;
        let told = said::Payload {
            bytes: disk.size(),
            sha256: payload.digest(progress, cancel)?.to_string(),
            boot: described::boot_said(request.boot),
        };
        let asked = write_request(&provider, &request, &place, &written, told)?;
        let mut shown = Shown { progress, name: provider.name(), task: None };
        let answered = provider.write(&place, &asked, &mut |told| shown.advance(told), cancel);
        shown.end(answered.is_ok());
        let (verified, done) = answered?; // 2. its artifact
        let mut made =
            Made { registration: done.registration.into_iter().collect(), ..Made::default() };
        for (Verified { file, bytes, sha256 }, named) in
            verified.into_iter().zip(provider.files(&request.name))
        {
            place.folder.hand_over(&file, &request.folder)?; // 3. among the others
            made.files.push(Artifact {
                provider: provider.name().to_owned(),
                format: named.format,
                file,
                size: bytes,
                sha256,
            });
        }
        Ok(made)
    }
}

/// A plugin's progress as nodekiln shows it, from the first that it tells.
struct Shown<'a> {
    progress: &'a dyn Progress,
    name: &'a str,
    task: Option<TaskId>,
}

impl Shown<'_> {
    fn advance(&mut self, told: &said::Progress) {
        let start = || self.progress.start(&format!("artifact by {}", self.name), told.total, "B");
        let task = *self.task.get_or_insert_with(start);
        self.progress.advance(task, told.done);
    }

    fn end(&self, well: bool) {
        match self.task {
            Some(task) if well => self.progress.finish(task, "verified"),
            Some(task) => self.progress.fail(task),
            None => {}
        }
    }
}
