//! Plugins in a few lines of shell.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nodekiln_plugins::{Executable, Limits, PluginProvider};
use nodekiln_words::{Cancel, Failure, Result};

/// What a plugin does at each turn of the conversation, in shell.
pub(crate) struct Script {
    /// At the handshake, which is in `$hello`.
    pub(crate) hello: String,
    /// When it is asked what it is.
    pub(crate) describe: String,
    /// When it is asked to write: in its folder, with `$name`, `$disk` and `$request`.
    pub(crate) write: String,
}

/// The answer to `describe` of a plugin that wants the disk as `input`.
pub(crate) fn description(input: &str) -> String {
    format!(
        r#"{{"answer":"description","name":"x","version":"1.2","description":"a test",
        "layer":"kernel-args: [quiet]\n",
        "machine":{{"firmware":["uefi"],"disk":"nvme","network":"e1000e","data-source":"NoCloud",
        "console":"ttyS0","accepts":{{"multiple":1048576,"boot":["uefi","hybrid"]}}}},
        "input":"{input}","artifacts":[{{"file":"{{name}}.x","format":"x"}}],
        "registration":{{"name":"what it is called"}}}}"#
    )
    .replace('\n', "")
}

/// Copies the disk, and tells so.
pub(crate) const COPY: &str = r#"
    cp "$disk" "$name.x" && chmod u+w "$name.x" || {
        say '{"answer":"error","message":"cannot copy the disk","remedy":"look at it"}'; exit 1
    }
    done_with "$name.x"
"#;

/// Tells of its progress for ever, faster than anybody listens, whatever it is told.
pub(crate) const TALKATIVE: &str = "trap '' TERM; exec yes '{\"answer\":\"progress\",\"done\":1}'";

impl Default for Script {
    fn default() -> Self {
        Self {
            hello: "say '{\"nodekiln_provider\":1}'".to_owned(),
            describe: format!("say '{}'", description("raw")),
            write: COPY.to_owned(),
        }
    }
}

impl Script {
    /// One that does `write` when it is asked to write.
    pub(crate) fn writing(write: &str) -> Self {
        Self { write: write.to_owned(), ..Self::default() }
    }

    /// One that does `hello` instead of a handshake.
    pub(crate) fn greeting(hello: &str) -> Self {
        Self { hello: hello.to_owned(), ..Self::default() }
    }

    fn text(&self) -> String {
        let Self { hello, describe, write } = self;
        format!(
            r#"#!/bin/sh
            say() {{ printf '%s\n' "$1"; }}
            field() {{ printf '%s' "$request" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }}
            # done_with FILE [DIGEST]
            done_with() {{
                bytes=$(wc -c <"$1"); sha=${{2:-$(sha256sum <"$1" | cut -d' ' -f1)}}
                say '{{"answer":"done","artifacts":[{{"file":"'"$1"'","bytes":'"$bytes"',"sha256":"'"$sha"'"}}],"registration":{{"name":"'"$name"'"}}}}'
            }}
            IFS= read -r hello || exit 0
            {hello}
            case "$hello" in *'"oldest":1,'*) ;; *) exit 2 ;; esac
            IFS= read -r request || exit 0
            case "$request" in
            *'"request":"describe"'*)
                {describe}
                ;;
            *'"request":"write"'*)
                disk=$(field path); name=$(printf '%s' "$request" | sed 's/^{{"request":"write","name":"\([^"]*\)".*/\1/')
                {write}
                ;;
            *) say '{{"answer":"error","message":"no such request"}}' ;;
            esac
            "#
        )
    }

    /// Puts it where it can be run.
    pub(crate) fn place(&self) -> Placed {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodekiln-provider-x");
        write_program(&path, &self.text());
        Placed { path, _folder: folder }
    }
}

/// Writes an executable file. It is renamed into place: one that is open for writing, in a process that another
/// test is just starting too, cannot be run.
pub(crate) fn write_program(path: &std::path::Path, text: &str) {
    let new = path.with_extension("new");
    fs_err::write(&new, text).unwrap();
    fs_err::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    fs_err::rename(&new, path).unwrap();
}

/// A plugin that can be run.
pub(crate) struct Placed {
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Placed {
    pub(crate) fn executable(&self) -> Executable {
        Executable::at(&self.path).unwrap()
    }

    pub(crate) fn load(&self) -> Result<PluginProvider> {
        PluginProvider::load(self.executable(), patient(), &Cancel::default())
    }

    /// As [`Placed::load`], for one that does nothing where something is expected.
    pub(crate) fn load_hanging(&self) -> Failure {
        PluginProvider::load(self.executable(), impatient(), &Cancel::default()).unwrap_err()
    }
}

/// Limits that a busy machine keeps.
pub(crate) fn patient() -> Limits {
    let minute = Duration::from_secs(60);
    Limits {
        handshake: minute,
        describe: minute,
        silence: minute,
        end: minute,
        cancel: minute,
        terminate: minute,
    }
}

/// Limits for plugins that are to miss them.
pub(crate) fn impatient() -> Limits {
    let short = Duration::from_millis(300);
    Limits {
        handshake: short,
        describe: short,
        silence: short,
        end: short,
        cancel: short,
        terminate: short,
    }
}

/// What is said of a failure, its causes and its remedy included.
pub(crate) fn told(failure: &Failure) -> String {
    format!("{} (help: {})", failure.chain().join(" | "), failure.help().unwrap_or_default())
}
