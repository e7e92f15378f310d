//! The artifact: an OCI image layout in a tar archive, without any time but the image's source date.
//!
//! The disk is read twice: a blob's name is its digest, and stands before its bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use nodekiln_plugin_protocol::{Artifact, Done, Problem, Write};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::describe::ENDING;
use crate::image::{self, Blob, CONFIG, LAYER, MANIFEST};

/// User and group of KubeVirt's QEMU, to whom the disk has to belong.
const QEMU: u64 = 107;

/// Told how many bytes of how many are done; fails where the work is to be given up.
pub(crate) type Told<'a> = dyn FnMut(u64, u64) -> Result<(), Problem> + 'a;

/// Writes the archive that `request` asks for into its folder.
pub(crate) fn write(request: &Write, told: &mut Told<'_>) -> Result<Done, Problem> {
    let disk = format!("disk/{}.qcow2", request.name);
    let (total, mut done) = (2 * request.input.bytes, 0);
    let mut advance = |count: u64| {
        done += count;
        told(done, total)
    };

    // 1. the layer, for now only to know its digest
    let mut nowhere = Digested::over(io::sink());
    write_layer(&mut nowhere, request, &disk, &mut advance)?;
    let layer = nowhere.blob(LAYER);

    // 2. the documents, each of which names the one before by its digest
    let reference = image::reference(request);
    let (config, config_text) = document(CONFIG, &image::config(request, &layer))?;
    let (manifest, manifest_text) = document(MANIFEST, &image::manifest(&config, &layer))?;
    let index = text(&image::index(&manifest, &reference))?;
    let docker = text(&image::docker_manifest(&config, &layer, &reference))?;
    let layout = text(&json!({ "imageLayoutVersion": "1.0.0" }))?;
    let documents = [
        ("oci-layout".to_owned(), layout),
        ("index.json".to_owned(), index),
        ("manifest.json".to_owned(), docker),
        (manifest.path(), manifest_text),
        (config.path(), config_text),
    ];

    // 3. the archive
    let file = format!("{}.{ENDING}", request.name);
    let path = Path::new(&request.folder).join(&file);
    let cannot =
        |error: io::Error| Problem::new(format!("cannot write {}: {error}", path.display()));
    let created = File::create_new(&path).map_err(cannot)?;
    let mut output = Digested::over(BufWriter::new(created));
    let mut archive = Builder::new(&mut output);
    for (name, bytes) in &documents {
        let mut header = header(request, bytes.len() as u64);
        archive.append_data(&mut header, name, bytes.as_slice()).map_err(cannot)?;
    }
    let mut header = header(request, layer.bytes);
    header.set_path(layer.path()).map_err(cannot)?;
    header.set_cksum();
    archive.get_mut().write_all(header.as_bytes()).map_err(cannot)?;
    write_layer(archive.get_mut(), request, &disk, &mut advance)?;
    archive.finish().and_then(|()| archive.get_mut().flush()).map_err(cannot)?;
    drop(archive);

    // 4. what it is
    let Blob { sha256, bytes, .. } = output.blob("");
    let registration = [
        ("image", reference),
        ("digest", format!("sha256:{}", manifest.sha256)),
        ("disk", format!("/{disk}")),
    ];
    Ok(Done {
        artifacts: vec![Artifact { file, bytes, sha256 }],
        registration: registration.map(|(key, value)| (key.to_owned(), value.into())).into(),
    })
}

/// Writes the layer: a tar archive with the folder and the disk in it. It is a whole number of tar's blocks
/// long, so that it can be a member of another archive as it is.
fn write_layer(
    output: &mut impl io::Write,
    request: &Write,
    disk: &str,
    advance: &mut dyn FnMut(u64) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let (path, bytes) = (&request.input.path, request.input.bytes);
    let unreadable = |error: io::Error| Problem::new(format!("cannot read {path}: {error}"));
    let input = File::open(path).map_err(unreadable)?;
    let found = input.metadata().map_err(unreadable)?.len();
    if found != bytes {
        return Err(Problem::new(format!("{path} has {found} bytes, not {bytes}")));
    }
    let unwritten = |error: io::Error| Problem::new(format!("cannot write the layer: {error}"));
    let mut archive = Builder::new(output);
    let mut folder = header(request, 0);
    folder.set_entry_type(EntryType::Directory);
    folder.set_mode(0o755);
    belongs_to_qemu(&mut folder);
    archive.append_data(&mut folder, "disk/", io::empty()).map_err(unwritten)?;
    let mut stopped = None;
    let mut member = header(request, bytes);
    belongs_to_qemu(&mut member);
    let watched = Watched { input: input.take(bytes), advance, stopped: &mut stopped };
    let copied = archive.append_data(&mut member, disk, watched);
    match stopped {
        Some(problem) => Err(problem),
        None => copied.and_then(|()| archive.finish()).map_err(unwritten),
    }
}

/// The head of a member that root owns and everybody reads.
fn header(request: &Write, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o444);
    header.set_mtime(request.created);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn belongs_to_qemu(header: &mut Header) {
    header.set_uid(QEMU);
    header.set_gid(QEMU);
}

/// A document with its descriptor.
fn document(media_type: &'static str, value: &Value) -> Result<(Blob, Vec<u8>), Problem> {
    let text = text(value)?;
    let sha256 = hex(&Sha256::digest(&text));
    Ok((Blob { media_type, sha256, bytes: text.len() as u64 }, text))
}

fn text(value: &Value) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::new(format!("cannot write JSON: {error}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An input whose reader is told how far it is, and stopped.
struct Watched<'a> {
    input: io::Take<File>,
    advance: &'a mut dyn FnMut(u64) -> Result<(), Problem>,
    stopped: &'a mut Option<Problem>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        (self.advance)(count as u64).map_err(|problem| {
            let error = io::Error::other(problem.message.clone());
            *self.stopped = Some(problem);
            error
        })?;
        Ok(count)
    }
}

/// An output whose bytes are counted and digested on their way.
struct Digested<W> {
    output: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: io::Write> Digested<W> {
    fn over(output: W) -> Self {
        Self { output, digest: Sha256::new(), bytes: 0 }
    }

    /// All that was written.
    fn blob(self, media_type: &'static str) -> Blob {
        Blob { media_type, sha256: hex(&self.digest.finalize()), bytes: self.bytes }
    }
}

impl<W: io::Write> io::Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_plugin_protocol::{Boot, Compression, Facts, Format, Input, Payload};

    use super::*;

    const DISK: &[u8] = &[7; 70_000];

    /// A request for the disk above, in a folder that goes with the first value.
    fn request() -> (tempfile::TempDir, Write) {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("disk.qcow2");
        std::fs::write(&path, DISK).unwrap();
        let folder = work.path().join("out");
        std::fs::create_dir(&folder).unwrap();
        let sha256 = hex(&Sha256::digest(DISK));
        let request = Write {
            name: "node".to_owned(),
            input: Input {
                path: path.to_str().unwrap().to_owned(),
                format: Format::Qcow2,
                bytes: DISK.len() as u64,
                sha256: sha256.clone(),
            },
            folder: folder.to_str().unwrap().to_owned(),
            disk: Payload { bytes: 1 << 20, sha256, boot: Boot::Hybrid },
            compression: Compression::Default,
            created: 1_793_491_200,
            date: "2026-11-01T00:00:00Z".to_owned(),
            silence: 60,
            facts: Facts {
                distribution: "debian".to_owned(),
                distribution_version: "12".to_owned(),
                architecture: "amd64".to_owned(),
                kubernetes: Some("v1.36.1".to_owned()),
                ..Facts::default()
            },
        };
        (work, request)
    }

    type Members = std::collections::BTreeMap<String, (Header, Vec<u8>)>;

    fn members(archive: &[u8]) -> Members {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let (mut bytes, header) = (Vec::new(), entry.header().clone());
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), (header, bytes))
        });
        entries.collect()
    }

    fn json_of(members: &Members, path: &str) -> Value {
        serde_json::from_slice(&members[path].1).unwrap()
    }

    #[test]
    fn the_index_leads_to_the_disk_by_digests() {
        let (_work, request) = request();
        let done = write(&request, &mut |_, _| Ok(())).unwrap();
        let bytes =
            std::fs::read(Path::new(&request.folder).join("node.containerdisk.tar")).unwrap();
        let Artifact { bytes: length, sha256, .. } = &done.artifacts[0];
        assert_eq!((*length, sha256), (bytes.len() as u64, &hex(&Sha256::digest(&bytes))));
        let members = members(&bytes);
        for (path, (_, blob)) in &members {
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, hex(&Sha256::digest(blob)), "{path}");
            }
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let path = format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
            assert_eq!(members[&path].1.len() as u64, descriptor["size"]);
            path
        };
        let index = json_of(&members, "index.json");
        assert_eq!(done.registration["digest"], index["manifests"][0]["digest"]);
        let manifest = json_of(&members, &blob(&index["manifests"][0]));
        let config = json_of(&members, &blob(&manifest["config"]));
        let layer = &manifest["layers"][0];
        assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
        assert_eq!(config["created"], "2026-11-01T00:00:00Z");
        let docker = json_of(&members, "manifest.json");
        assert_eq!(docker[0]["Layers"][0], blob(layer));
        assert_eq!(docker[0]["RepoTags"][0], "debian-12-container-disk:v1.36.1");
        let inside = self::members(&members[&blob(layer)].1);
        let (header, disk) = &inside["disk/node.qcow2"];
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (107, 107));
        assert_eq!(header.mtime().unwrap(), 1_793_491_200);
        assert!(disk == DISK);
        assert_eq!(inside.len(), 2);
    }

    #[test]
    fn a_disk_that_is_not_as_told_is_refused_and_so_is_a_file_in_the_way() {
        let (_work, mut request) = request();
        let failed = |request: &Write| write(request, &mut |_, _| Ok(())).unwrap_err().message;
        request.input.bytes += 1;
        assert!(failed(&request).contains("has 70000 bytes, not 70001"));
        request.input.bytes -= 1;
        write(&request, &mut |_, _| Ok(())).unwrap();
        assert!(failed(&request).contains("node.containerdisk.tar: File exists"));
        request.input.path.push('x');
        assert!(failed(&request).contains("cannot read"));
    }

    #[test]
    fn who_is_told_to_stop_stops() {
        let (_work, request) = request();
        let mut asked = 0;
        let mut told = |done, total| {
            asked += 1;
            assert!(done <= total);
            Err(Problem::new("cancelled"))
        };
        let problem = write(&request, &mut told).unwrap_err();
        assert_eq!((problem.message.as_str(), asked), ("cancelled", 1));
    }
}
