//! Writes: through the provider, as a build does it.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use nodekiln_disk::{Disk, Extent, Pass, Payload, Unpacking, open_with};
use nodekiln_plugins::{Limits, PluginProvider};
use nodekiln_providers::{ArtifactRequest, ImageFacts, Made, Provider as _};
use nodekiln_words::{Bytes, Cancel, Class, Event, Progress, Result, Sha256, Silent};

use crate::script::{
    COPY, Script, TALKATIVE, description, impatient, patient, told, write_program,
};

/// Size of a disk: that of Compute Engine's format is a whole number of GiB.
const SIZE: u64 = 64 * Bytes::MIB;

fn disk() -> Disk {
    disk_of(SIZE)
}

/// A disk with a partition table, as all formats take it.
fn disk_of(size: u64) -> Disk {
    let mut start = vec![0; 64 << 10];
    // One entry of a master boot record, and its signature.
    start[450] = 0x83;
    start[454] = 1;
    start[458] = 9;
    start[510..512].copy_from_slice(&[0x55, 0xAA]);
    Disk::new(size, vec![Extent::memory(0, start), Extent::memory(8 << 20, vec![7; 1 << 16])])
        .unwrap()
}

fn request(folder: &Path) -> ArtifactRequest {
    ArtifactRequest {
        name: "node".to_owned(),
        folder: folder.to_owned(),
        created: 1_793_491_200,
        facts: ImageFacts {
            distribution: "debian".to_owned(),
            distribution_version: "12".to_owned(),
            architecture: "amd64".to_owned(),
            kubernetes: Some("v1.36.1".to_owned()),
            ..ImageFacts::default()
        },
        ..ArtifactRequest::default()
    }
}

/// Has `provider` write its artifact into `folder`.
fn write_with(
    provider: &PluginProvider,
    folder: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Made> {
    write_disk(&disk(), provider, folder, progress, cancel)
}

fn write_disk(
    disk: &Disk,
    provider: &PluginProvider,
    folder: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Made> {
    let payload = Payload::of(disk);
    let mut writer = provider.begin(disk, &request(folder), cancel)?;
    let mut pass = Pass::new();
    writer.join(disk, &mut pass);
    pass.run(&|_| (), cancel)?;
    writer.finish(disk, &payload, progress, cancel)
}

fn provider(script: &Script, limits: Limits) -> (PluginProvider, crate::script::Placed) {
    let placed = script.place();
    let loaded = placed.load().unwrap();
    let (executable, description) = (loaded.executable().clone(), loaded.description().clone());
    (PluginProvider::of(executable, description, limits).unwrap(), placed)
}

/// What comes of a plugin that does `write`, and what is in the folder afterwards.
fn outcome(write: &str, limits: Limits) -> (Result<Made>, Vec<String>) {
    let (provider, _placed) = provider(&Script::writing(write), limits);
    let folder = tempfile::tempdir().unwrap();
    let made = write_with(&provider, folder.path(), &Silent, &Cancel::default());
    (made, left(folder.path()))
}

fn left(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_artifact_arrives_with_its_digest_and_nothing_else_stays() {
    let (made, left) = outcome(COPY, patient());
    let made = made.unwrap();
    let payload = disk().digest(&Silent, &Cancel::default()).unwrap();
    let [artifact] = &made.files[..] else { panic!("{made:?}") };
    assert_eq!((artifact.file.as_str(), artifact.format.as_str()), ("node.x", "x"));
    assert_eq!((artifact.provider.as_str(), artifact.size), ("x", SIZE));
    assert_eq!(artifact.sha256, payload);
    assert_eq!(made.registration["name"], "node");
    assert_eq!(left, ["node.x"]);
}

#[test]
fn the_disk_comes_in_the_format_that_is_asked_for() {
    for format in ["raw", "qcow2", "vhd", "vmdk", "ova", "tar.gz"] {
        let (size, multiple) = match format {
            "tar.gz" => (Bytes::GIB, Bytes::GIB),
            _ => (SIZE, Bytes::MIB),
        };
        let describe = description(format).replace("1048576", &multiple.to_string());
        let describe = format!("say '{describe}'");
        let (provider, _placed) = provider(&Script { describe, ..Script::default() }, patient());
        let folder = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        let disk = disk_of(size);
        write_disk(&disk, &provider, folder.path(), &Silent, &cancel).unwrap();
        let payload = disk.digest(&Silent, &cancel).unwrap();
        let unpacking = Unpacking { folder: folder.path(), progress: &Silent, cancel: &cancel };
        let image = open_with(&folder.path().join("node.x"), Some(unpacking)).unwrap();
        assert_eq!(image.format().name(), format);
        assert_eq!(image.payload_digest(&Silent, &cancel).unwrap(), payload, "{format}");
    }
}

#[test]
fn the_request_tells_what_there_is_to_know() {
    let write = "printf '%s' \"$request\" >\"$name.x\"; done_with \"$name.x\"";
    let (provider, _placed) = provider(&Script::writing(write), patient());
    let folder = tempfile::tempdir().unwrap();
    write_with(&provider, folder.path(), &Silent, &Cancel::default()).unwrap();
    let text = fs_err::read_to_string(folder.path().join("node.x")).unwrap();
    let request: serde_json::Value = serde_json::from_str(&text).unwrap();
    let payload = disk().digest(&Silent, &Cancel::default()).unwrap().to_string();
    assert_eq!(request["disk"]["sha256"], payload);
    assert_eq!(request["input"]["sha256"], payload);
    assert_eq!(request["input"]["bytes"], SIZE);
    assert_eq!(request["date"], "2026-11-01T00:00:00Z");
    assert_eq!(request["silence"], 60);
    assert_eq!(request["facts"]["kubernetes"], "v1.36.1");
    assert_eq!(request["disk"]["boot"], "hybrid");
}

#[test]
fn only_what_is_announced_is_in_the_environment() {
    let describe = format!("say '{}'", description("raw")).replace(
        "\"input\"",
        "\"environment\":[\"CARGO_MANIFEST_DIR\",\"NODEKILN_NO_SUCH\"],\"input\"",
    );
    let write = "env | grep -v '^\\(PWD\\|OLDPWD\\|SHLVL\\|_\\)=' | cut -d= -f1 | sort >\"$name.x\"; done_with \"$name.x\"";
    let (provider, _placed) = provider(&Script { describe, ..Script::writing(write) }, patient());
    let folder = tempfile::tempdir().unwrap();
    write_with(&provider, folder.path(), &Silent, &Cancel::default()).unwrap();
    let names = fs_err::read_to_string(folder.path().join("node.x")).unwrap();
    let names: Vec<&str> = names.lines().collect();
    let expected =
        ["CARGO_MANIFEST_DIR", "HOME", "LANG", "PATH", "SOURCE_DATE_EPOCH", "TMPDIR", "TZ"];
    assert_eq!(names, expected);
}

/// Each write that goes wrong, with the class of its failure and what is said.
#[test]
fn what_goes_wrong_with_a_write_is_told_and_leaves_nothing() {
    let cases: [(&str, Class, &[&str]); 17] = [
        (
            "echo first >&2; echo last >&2; exit 7",
            Class::Verdict,
            &["ended while it wrote its artifact: exit status: 7", "first\nlast"],
        ),
        ("kill -9 $$", Class::Verdict, &["ended while it wrote its artifact: signal: 9"]),
        (
            "say '{\"answer\":\"error\",\"message\":\"no tool\",\"remedy\":\"install one\"}'; exit 1",
            Class::Verdict,
            &["cannot write its artifact: no tool", "(help: install one)"],
        ),
        (
            "say '{\"answer\":\"error\",\"message\":\"no \\u001b[1mtool\"}'; exit 1",
            Class::Verdict,
            &["cannot write its artifact: no \u{fffd}[1mtool"],
        ),
        ("echo progress", Class::Io, &["no message while it wrote its artifact: `progress`"]),
        ("say '{\"answer\":\"progress\",\"done\":1,\"mood\":2}'", Class::Io, &["mood"]),
        ("say '{\"answer\":\"cancelled\"}'", Class::Io, &["answered `cancelled` while it wrote"]),
        (
            "head -c 1048577 /dev/zero | tr '\\0' ' '",
            Class::Io,
            &["a line of more than 1048576 bytes while"],
        ),
        (
            "cp \"$disk\" node.x; done_with node.x 0000000000000000000000000000000000000000000000000000000000000000",
            Class::Io,
            &["has the sha256 0000", "and it has"],
        ),
        (
            "cp \"$disk\" node.x; done_with node.x nonsense",
            Class::Io,
            &["the digest `nonsense`, which is none"],
        ),
        (
            "cp \"$disk\" node.x; bytes=$(done_with node.x | sed 's/\"bytes\":[0-9]*/\"bytes\":5/'); say \"$bytes\"",
            Class::Io,
            &["has 5 bytes, and it has 67108864"],
        ),
        (
            "echo a >node.x; text=$(done_with node.x); rm node.x; say \"$text\"",
            Class::Io,
            &["which is not there"],
        ),
        (
            "echo a >../evil; done_with ../evil",
            Class::Io,
            &["says it wrote `../evil`, where `node.x` was announced"],
        ),
        ("ln -s \"$disk\" node.x; done_with node.x", Class::Io, &["`node.x` as a symbolic link"]),
        (
            "ln \"$disk\" node.x; done_with node.x",
            Class::Io,
            &["`node.x` as a second name of a file elsewhere"],
        ),
        (
            "echo a >node.x; echo b >more; done_with node.x",
            Class::Io,
            &["left `more` beside its artifact"],
        ),
        (
            "echo a >node.x; done_with node.x | sed 's/\"registration\".*/\"registration\":{\"id\":1}}/'",
            Class::Io,
            &["registration with the keys [\"id\"], where [\"name\"] were announced"],
        ),
    ];
    for (write, class, texts) in cases {
        let (made, left) = outcome(write, patient());
        let failure = made.unwrap_err();
        assert_eq!(failure.class(), class, "{write}: {}", told(&failure));
        for text in texts {
            assert!(told(&failure).contains(text), "{write}: {}", told(&failure));
        }
        assert_eq!(left, [""; 0], "{write}");
    }
}

#[test]
fn silence_while_writing_is_the_end_and_progress_is_not() {
    let limits = Limits {
        silence: Duration::from_millis(300),
        terminate: impatient().terminate,
        ..patient()
    };
    let (made, left) = outcome("say '{\"answer\":\"progress\",\"done\":1}'; sleep 1000", limits);
    let failure = made.unwrap_err();
    assert_eq!((failure.class(), left), (Class::Missing, vec![]));
    assert!(
        told(&failure).contains("said nothing for 0.3 s while it wrote its artifact"),
        "{failure:?}"
    );
    // Longer than the limit, with word in between, well within it on a busy machine too.
    let beat = "sleep 1; say '{\"answer\":\"progress\",\"done\":1,\"total\":2}'; ";
    let limits = Limits { silence: Duration::from_secs(10), ..patient() };
    let (made, _) = outcome(&(beat.repeat(12) + COPY), limits);
    made.unwrap();
}

/// Keeps what it is told.
#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Progress for Kept {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[test]
fn progress_is_shown_with_its_total() {
    let write = "say '{\"answer\":\"progress\",\"done\":3,\"total\":9}'".to_owned() + COPY;
    let (provider, _placed) = provider(&Script::writing(&write), patient());
    let (folder, kept) = (tempfile::tempdir().unwrap(), Kept::default());
    write_with(&provider, folder.path(), &kept, &Cancel::default()).unwrap();
    let events = kept.0.into_inner().unwrap();
    let started = events.iter().any(|event| {
        matches!(event, Event::Started { title, total: Some(9), unit: "B", .. } if title == "artifact by x")
    });
    let advanced = events.iter().any(|event| matches!(event, Event::Advanced { done: 3, .. }));
    assert!(started && advanced, "{events:?}");
}

/// Cancels as soon as the plugin says that it is at work, and gives the seconds until it was over.
fn cancelled(write: &str, limits: Limits) -> (Class, Vec<String>) {
    struct CancelAtFirst(Cancel);
    impl Progress for CancelAtFirst {
        fn event(&self, event: Event) {
            if matches!(event, Event::Started { title, .. } if title.starts_with("artifact by")) {
                self.0.cancel();
            }
        }
    }
    let write = format!("say '{{\"answer\":\"progress\",\"done\":1}}'\n{write}");
    let (provider, _placed) = provider(&Script::writing(&write), limits);
    let (folder, cancel) = (tempfile::tempdir().unwrap(), Cancel::default());
    let progress = CancelAtFirst(cancel.clone());
    let made = write_with(&provider, folder.path(), &progress, &cancel);
    (made.unwrap_err().class(), left(folder.path()))
}

#[test]
fn a_cancelled_write_is_told_so_and_may_end_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let heard = folder.path().join("heard");
    let polite = format!(
        "IFS= read -r word; case \"$word\" in *'\"request\":\"cancel\"'*) echo yes >{}; say '{{\"answer\":\"cancelled\"}}'; exit 0 ;; esac; sleep 1000",
        heard.display()
    );
    // Who does not hear the message is ended soon enough; it leaves no word of that.
    let limits = Limits { cancel: Duration::from_secs(10), ..patient() };
    assert_eq!(cancelled(&polite, limits), (Class::Interrupted, vec![]));
    assert!(heard.exists());
}

#[test]
fn who_does_not_hear_of_the_end_gets_a_signal_and_who_ignores_it_another() {
    let limits = Limits { cancel: Duration::from_millis(200), ..patient() };
    assert_eq!(cancelled("sleep 1000", limits), (Class::Interrupted, vec![]));
    let limits = Limits { terminate: Duration::from_millis(200), ..limits };
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    assert_eq!(cancelled(deaf, limits), (Class::Interrupted, vec![]));
    // One that has always something to say is not listened to for longer than one that says nothing.
    assert_eq!(cancelled(TALKATIVE, limits), (Class::Interrupted, vec![]));
}

#[test]
fn a_plugin_that_was_replaced_meanwhile_is_not_run() {
    let (provider, placed) = provider(&Script::default(), patient());
    write_program(&placed.path, "#!/bin/sh\nexit 0\n");
    let folder = tempfile::tempdir().unwrap();
    let failure = write_with(&provider, folder.path(), &Silent, &Cancel::default()).unwrap_err();
    assert!(told(&failure).contains("was replaced while it was in use"), "{failure:?}");
}

#[test]
fn several_files_arrive_in_the_order_in_which_they_were_announced() {
    let describe = format!("say '{}'", description("raw")).replace(
        r#"[{"file":"{name}.x","format":"x"}]"#,
        r#"[{"file":"{name}.x","format":"x"},{"file":"{name}.b.txt","format":"text"}]"#,
    );
    let write = r#"
        printf a >node.x; printf b >node.b.txt
        of() { printf '{"file":"%s","bytes":1,"sha256":"%s"}' "$1" "$(sha256sum <"$1" | cut -d' ' -f1)"; }
        say '{"answer":"done","artifacts":['"$(of node.x),$(of node.b.txt)"'],"registration":{"name":1}}'
    "#;
    let (provider, _placed) = provider(&Script { describe, ..Script::writing(write) }, patient());
    let folder = tempfile::tempdir().unwrap();
    let made = write_with(&provider, folder.path(), &Silent, &Cancel::default()).unwrap();
    let files: Vec<_> = made.files.iter().map(|file| (file.file.as_str(), file.sha256)).collect();
    assert_eq!(files, [("node.x", Sha256::of("a")), ("node.b.txt", Sha256::of("b"))]);
}

/// A path stands in the request, whose text is UTF-8. It is known before anything is written for long.
#[test]
fn a_folder_that_a_plugin_cannot_be_told_is_refused_at_once() {
    use std::os::unix::ffi::OsStrExt as _;
    let (provider, _placed) = provider(&Script::default(), patient());
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs_err::create_dir(&folder).unwrap();
    let begun = provider.begin(&disk(), &request(&folder), &Cancel::default());
    let Err(failure) = begun else { panic!("it was begun") };
    assert_eq!(failure.class(), Class::Input);
    assert!(told(&failure).contains("is not UTF-8"), "{failure:?}");
    assert!(failure.help().unwrap().contains("--out FOLDER"), "{failure:?}");
    assert_eq!(left(&folder), [""; 0]);
}
