//! Handshakes and descriptions.

use nodekiln_plugins::{Limits, PluginProvider};
use nodekiln_providers::{Firmware, Provider};
use nodekiln_words::{Bytes, Cancel, Class};

use crate::script::{Script, description, impatient, patient, told, write_program};

#[test]
fn a_plugin_is_a_provider_as_it_describes_itself() {
    let placed = Script::default().place();
    let provider = placed.load().unwrap();
    assert_eq!((provider.name(), Provider::description(&provider)), ("x", "a test"));
    assert_eq!(provider.layer(), "kernel-args: [quiet]\n");
    assert_eq!(provider.machine().firmware, [Firmware::Uefi]);
    assert_eq!(provider.machine().accepts.multiple, Bytes(Bytes::MIB));
    let files = provider.files("node");
    assert_eq!((files[0].file.as_str(), files[0].format.as_str()), ("node.x", "x"));
    let plugin = provider.plugin().unwrap();
    assert_eq!((plugin.version.as_str(), plugin.sha256), ("1.2", placed.executable().sha256));
}

/// Each handshake with the class of its failure, and what is said.
#[test]
fn what_goes_wrong_at_the_handshake_is_told() {
    let cases: [(&str, Class, &[&str]); 8] = [
        (
            "echo boom >&2; exit 3",
            Class::Verdict,
            &["ended before it shook hands: exit status: 3", "standard error: boom"],
        ),
        ("kill -9 $$", Class::Verdict, &["ended before it shook hands: signal: 9"]),
        ("echo hello", Class::Io, &["no message as its handshake: `hello`", "provider check x"]),
        (
            "echo '{\"answer\":\"done\"}'",
            Class::Io,
            &["no message as its handshake", "nodekiln_provider"],
        ),
        (
            "head -c 2000000 /dev/zero | tr '\\0' x",
            Class::Io,
            &["a line of more than 1048576 bytes"],
        ),
        (
            "say '{\"nodekiln_provider\":7,\"oldest\":5}'",
            Class::Unsupported,
            &["speaks version 5 to 7 of the protocol, and nodekiln 1", "newer version of nodekiln"],
        ),
        (
            "say '{\"nodekiln_provider\":0}'",
            Class::Unsupported,
            &["speaks version 0 of the protocol", "newer version of the plugin"],
        ),
        ("printf '\\377\\n'", Class::Io, &["no message as its handshake"]),
    ];
    for (hello, class, texts) in cases {
        let placed = Script::greeting(hello).place();
        let failure = placed.load().unwrap_err();
        assert_eq!(failure.class(), class, "{hello}: {}", told(&failure));
        for text in texts {
            assert!(told(&failure).contains(text), "{hello}: {}", told(&failure));
        }
    }
}

#[test]
fn a_plugin_that_hangs_is_told_and_ended() {
    let failure = Script::greeting("sleep 1000").place().load_hanging();
    assert_eq!(failure.class(), Class::Missing);
    assert!(
        told(&failure).contains("`x` said nothing for 0.3 s before it shook hands"),
        "{failure:?}"
    );
    let slow = Script { describe: "sleep 1000".to_owned(), ..Script::default() }.place();
    let limits =
        Limits { describe: impatient().describe, terminate: impatient().terminate, ..patient() };
    let failure = PluginProvider::load(slow.executable(), limits, &Cancel::default()).unwrap_err();
    assert!(told(&failure).contains("for 0.3 s when it was asked what it is"), "{failure:?}");
}

#[test]
fn a_program_that_cannot_be_run_is_told() {
    let placed = Script::default().place();
    write_program(&placed.path, "#!/no/such/interpreter\n");
    let failure = placed.load().unwrap_err();
    assert!(told(&failure).contains("ended before it shook hands: exit status: 12"), "{failure:?}");
    assert!(told(&failure).contains("nodekiln-provider-x"), "{failure:?}");
}

#[test]
fn what_goes_wrong_with_a_description_is_told() {
    let good = description("raw");
    let say = |text: &str| format!("say '{text}'");
    let cases: [(String, Class, &str); 9] = [
        (
            say(&good.replace("\"x\",\"version\"", "\"y\",\"version\"")),
            Class::Io,
            "`name` is `y`, not `x`",
        ),
        (say(&good.replace("\"version\"", "\"versoin\"")), Class::Io, "versoin"),
        (
            say(&good.replace("\"version\"", "\"\\u001b[1m\"")),
            Class::Io,
            "unknown field `\u{fffd}[1m`",
        ),
        (say(&good.replace("nvme", "floppy")), Class::Io, "floppy"),
        (say(&good.replace("{name}.x", "../x")), Class::Io, "the file `../x`"),
        (
            say("{\"answer\":\"done\",\"artifacts\":[]}"),
            Class::Io,
            "answered `done` when it was asked what it is",
        ),
        (
            say("{\"answer\":\"error\",\"message\":\"no licence\",\"remedy\":\"buy one\"}"),
            Class::Verdict,
            "cannot say what it is: no licence (help: buy one)",
        ),
        (format!("{}; say more", say(&good)), Class::Io, "said more after its last answer: `more`"),
        (
            format!("{}; exit 4", say(&good)),
            Class::Verdict,
            "failed after its last answer: exit status: 4",
        ),
    ];
    for (describe, class, text) in cases {
        let failure = Script { describe: describe.clone(), ..Script::default() }.place().load();
        let failure = failure.unwrap_err();
        assert_eq!(failure.class(), class, "{describe}: {}", told(&failure));
        assert!(told(&failure).contains(text), "{describe}: {}", told(&failure));
        assert!(!told(&failure).contains('\u{1b}'), "{}", told(&failure));
    }
}

#[test]
fn a_plugin_that_stays_after_its_answer_is_told() {
    let describe = format!("say '{}'; sleep 1000", description("raw"));
    let placed = Script { describe, ..Script::default() }.place();
    let limits = Limits { end: impatient().end, terminate: impatient().terminate, ..patient() };
    let failure =
        PluginProvider::load(placed.executable(), limits, &Cancel::default()).unwrap_err();
    assert!(told(&failure).contains("did not end within 0.3 s of its last answer"), "{failure:?}");
}
