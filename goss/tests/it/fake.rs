//! A machine that says what a test wants, and reading from a folder of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nodekiln_goss::file::{self, Settings, Suite};
use nodekiln_goss::{
    Algorithm, Command, Dialect, FileFacts, FileKind, Known, MountFacts, Outcome, Output,
    PackageFacts, Port, Request, Response, Target, Unknown, UserFacts, Verdict, judge,
};

/// Reads `text` as a goss file.
pub(crate) fn suite(text: &str) -> nodekiln_words::Result<Suite> {
    suite_of(text, Dialect::Goss04)
}

pub(crate) fn suite_of(text: &str, dialect: Dialect) -> nodekiln_words::Result<Suite> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("goss.yaml");
    std::fs::write(&path, text).unwrap();
    file::read(&[path], &Settings { dialect, ..Settings::default() })
}

/// The first line of a failure without the folder's name, and its remedy.
pub(crate) fn failure(text: &str) -> (String, String) {
    let failure = suite(text).map(|_| ()).unwrap_err();
    let message = failure.to_string();
    let start = message.find("goss.yaml").unwrap_or(0);
    (message[start..].to_owned(), failure.help().unwrap_or_default().to_owned())
}

/// `attribute=pass|fail|skip` for each result.
pub(crate) fn verdicts(outcome: &Outcome) -> String {
    let words = outcome.results.iter().map(|one| {
        let verdict = match one.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Skipped { .. } => "skip",
        };
        format!("{}={verdict}", one.attribute)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// All verdicts of a goss file on `target`, a line for each resource.
pub(crate) fn judged(text: &str, target: &dyn Target) -> String {
    let suite = suite(text).unwrap_or_else(|failure| panic!("{failure:?}"));
    lines(&suite, target)
}

pub(crate) fn lines(suite: &Suite, target: &dyn Target) -> String {
    let lines = suite.resources.iter().map(|resource| {
        let outcome = judge(resource, target);
        format!("{} {}: {}\n", outcome.kind, outcome.id, verdicts(&outcome))
    });
    lines.collect()
}

/// A machine made of what a test puts into it.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) files: BTreeMap<String, (FileKind, u32, Vec<u8>)>,
    pub(crate) packages: BTreeMap<String, PackageFacts>,
    pub(crate) enabled: Vec<String>,
    pub(crate) running: Vec<String>,
    pub(crate) commands: BTreeMap<String, (i32, String, String)>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) users: BTreeMap<String, UserFacts>,
    pub(crate) ports: Vec<(String, IpAddr)>,
    pub(crate) responses: BTreeMap<String, Response>,
    pub(crate) mounts: BTreeMap<String, MountFacts>,
}

impl Target for Fake {
    fn file(&self, path: &str) -> Known<Option<FileFacts>> {
        Ok(self.files.get(path).map(|(kind, mode, bytes)| FileFacts {
            kind: *kind,
            mode: *mode,
            size: bytes.len() as u64,
            owner: "root".into(),
            group: "adm".into(),
            uid: 0,
            gid: 4,
            link: (*kind == FileKind::Symlink).then(|| String::from_utf8(bytes.clone()).unwrap()),
        }))
    }

    fn contents(&self, path: &str) -> Known<Vec<u8>> {
        let file = self.files.get(path).filter(|file| file.0 == FileKind::File);
        file.map(|file| file.2.clone()).ok_or_else(|| Unknown::failed("it is no file"))
    }

    fn digest(&self, _: &str, _: Algorithm) -> Known<String> {
        Err(Unknown::not_here("digests are not kept"))
    }

    fn package(&self, name: &str) -> Known<PackageFacts> {
        Ok(self.packages.get(name).cloned().unwrap_or_default())
    }

    fn enabled(&self, unit: &str) -> Known<bool> {
        Ok(self.enabled.iter().any(|one| one == unit))
    }

    fn running(&self, unit: &str) -> Known<bool> {
        Ok(self.running.iter().any(|one| one == unit))
    }

    fn user(&self, name: &str) -> Known<Option<UserFacts>> {
        Ok(self.users.get(name).cloned())
    }

    fn group(&self, name: &str) -> Known<Option<u32>> {
        Ok((name == "adm").then_some(4))
    }

    fn command(&self, command: &Command) -> Known<Output> {
        let found = self.commands.get(&command.exec);
        let (status, stdout, stderr) =
            found.cloned().unwrap_or((127, String::new(), "not found".into()));
        Ok(Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() })
    }

    fn kernel_param(&self, name: &str) -> Known<String> {
        self.parameters.get(name).cloned().ok_or_else(|| Unknown::failed("no such parameter"))
    }

    fn mount(&self, mountpoint: &str) -> Known<Option<MountFacts>> {
        Ok(self.mounts.get(mountpoint).cloned())
    }

    fn usage(&self, _: &str) -> Known<u64> {
        Ok(42)
    }

    fn port(&self, port: Port) -> Known<Vec<IpAddr>> {
        let name = format!("{}:{}", port.protocol.name(), port.number);
        Ok(self.ports.iter().filter(|(one, _)| *one == name).map(|(_, ip)| *ip).collect())
    }

    fn http(&self, request: &Request) -> Known<Response> {
        self.responses
            .get(&request.url)
            .cloned()
            .ok_or_else(|| Unknown::failed("connection refused"))
    }
}

/// A tree at rest of which nothing is known.
pub(crate) struct Nothing;

impl Target for Nothing {
    fn file(&self, _: &str) -> Known<Option<FileFacts>> {
        Ok(None)
    }
    fn contents(&self, _: &str) -> Known<Vec<u8>> {
        Err(Unknown::failed("there is no such file"))
    }
    fn digest(&self, _: &str, _: Algorithm) -> Known<String> {
        Err(Unknown::failed("there is no such file"))
    }
    fn package(&self, _: &str) -> Known<PackageFacts> {
        Ok(PackageFacts::default())
    }
    fn enabled(&self, _: &str) -> Known<bool> {
        Ok(false)
    }
    fn user(&self, _: &str) -> Known<Option<UserFacts>> {
        Ok(None)
    }
    fn group(&self, _: &str) -> Known<Option<u32>> {
        Ok(None)
    }
}
