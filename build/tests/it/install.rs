//! Whole installations: maintainer scripts, triggers and conffiles, by the dpkg in the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nodekiln_build::deb::{Conffiles, Parcel, Unpacker};
use nodekiln_build::layer::Root;
use nodekiln_build::sandbox::{Sandbox, SandboxCommand};
use nodekiln_build::steps::packages::Installation;
use nodekiln_words::{Cancel, Class, Event, Progress, Result, Silent, TaskId};

use crate::deb::{Making, parcel, real_debs, run, text};
use crate::place::source_date;

/// What dpkg insists on, and what the scripts below use.
const PROGRAMS: [&str; 16] = [
    "sh",
    "cat",
    "mv",
    "rm",
    "rmdir",
    "tar",
    "diff",
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "dpkg-trigger",
    "ldconfig",
    "env",
    "xargs",
    "start-stop-daemon",
];

/// An essential package of this machine's own programs and their libraries.
fn base(place: &Path) -> Making {
    let base = Making::new(place, "base-passwd", "Essential: yes");
    base.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let found = run("debianutils", "which", &[program]);
        let file = String::from_utf8(found).unwrap().trim().to_owned();
        // `ldd` runs programs, but not scripts, of which dpkg needs none here.
        let libraries = std::process::Command::new("ldd").arg(&file).output().unwrap().stdout;
        let libraries = String::from_utf8(libraries).unwrap();
        files
            .extend(libraries.split_whitespace().filter(|w| w.starts_with('/')).map(str::to_owned));
        files.insert(file);
    }
    for file in files {
        let to = base.folder.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    base
}

fn script(text: &str) -> String {
    format!("#!/bin/sh\nset -e\n{text}\n")
}

struct Installed {
    _place: tempfile::TempDir,
    root: Root,
    log: PathBuf,
    result: Result<()>,
}

impl Installed {
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap()
    }
}

/// Installs the base and what `make` makes.
fn install(holds: &[&str], make: impl FnOnce(&Path) -> Vec<Making>) -> Installed {
    let place = tempfile::tempdir().unwrap();
    let mut makings = make(place.path());
    makings.push(base(place.path()));
    let parcels: Vec<_> = makings.iter().map(|making| parcel(&making.pack("none"))).collect();
    let root = Root::assemble(&[], place.path()).unwrap();
    let log = place.path().join("log");
    let holds: Vec<_> = holds.iter().map(|name| (*name).to_owned()).collect();
    let result = install_parcels(&root, &log, &parcels, &holds, &Silent);
    Installed { _place: place, root, log, result }
}

fn sandbox() -> Sandbox {
    Sandbox { launcher: PathBuf::from(env!("CARGO_BIN_EXE_nodekiln-sandbox")), clock: None }
}

fn install_parcels(
    root: &Root,
    log: &Path,
    parcels: &[Parcel],
    holds: &[String],
    progress: &dyn Progress,
) -> Result<()> {
    let scratch = log.with_file_name("scratch-of-the-installation");
    let installation = Installation {
        scratch: &scratch,
        root,
        essential: BTreeSet::new(),
        sandbox: &sandbox(),
        log,
        shell_on_failure: false,
        source_date: source_date(),
        progress,
        cancel: &Cancel::default(),
    };
    installation.install("bookworm", parcels, holds)
}

#[test]
fn python_modules_are_compiled_when_all_packages_are_configured() {
    let installed = install(&[], |place| {
        let python = Making::new(place, "python3-minimal", "X-Own: x");
        let program = script("echo \"compiled $*\" >> /opt/order");
        python.write("usr/bin/py3compile", &program, 0o755);
        python.write("opt/python", "", 0o644);
        let using = |(name, needs): (&str, &str)| {
            let package = Making::new(place, name, &format!("Depends: {needs}"));
            let text =
                format!("py3compile -p {name} -V 3.0-\necho \"configured {name}\" >> /opt/order");
            package.write("DEBIAN/postinst", &script(&text), 0o755);
            package.write(&format!("opt/{name}"), "", 0o644);
            package
        };
        vec![python, using(("a", "python3-minimal")), using(("b", "a"))]
    });
    installed.result.as_ref().unwrap();
    let order = installed.read("opt/order");
    let mut lines: Vec<&str> = order.lines().collect();
    lines[2..].sort_unstable(); // made at the same time
    let wanted = ["configured a", "configured b", "compiled -p a -V 3.0-", "compiled -p b -V 3.0-"];
    assert_eq!(lines, wanted, "{order}");
}

#[test]
fn certificates_are_listed_once_when_all_packages_are_configured() {
    let installed = install(&[], |place| {
        let certificates = Making::new(place, "ca-certificates", "X-Own: x");
        let program = script("echo \"listed $# $*\" >> /opt/order");
        certificates.write("usr/sbin/update-ca-certificates", &program, 0o755);
        certificates.write("opt/certificates", "", 0o644);
        let calls = "update-ca-certificates --hooksdir ''\nupdate-ca-certificates\n\
                     echo configured >> /opt/order";
        certificates.write("DEBIAN/postinst", &script(calls), 0o755);
        vec![certificates]
    });
    installed.result.as_ref().unwrap();
    assert_eq!(installed.read("opt/order"), "configured\nlisted 0 \n");
}

#[test]
fn calls_for_other_certificates_are_made_as_they_came() {
    let installed = install(&[], |place| {
        let certificates = Making::new(place, "ca-certificates", "X-Own: x");
        let program = script("echo \"listed $# $*\" >> /opt/order");
        certificates.write("usr/sbin/update-ca-certificates", &program, 0o755);
        certificates.write("opt/certificates", "", 0o644);
        let calls = "update-ca-certificates --hooksdir ''\n\
                     update-ca-certificates --etccertsdir '/opt/my certs'";
        certificates.write("DEBIAN/postinst", &script(calls), 0o755);
        vec![certificates]
    });
    installed.result.as_ref().unwrap();
    let wanted = "listed 2 --hooksdir \nlisted 2 --etccertsdir /opt/my certs\n";
    assert_eq!(installed.read("opt/order"), wanted);
}

/// libc's script asks process 1 to start anew and sleeps, unless it is told that this is a chroot.
#[test]
fn scripts_are_told_that_they_run_in_a_chroot() {
    let installed = install(&[], |place| {
        let package = Making::new(place, "debianutils", "X-Own: x");
        package.write("usr/bin/ischroot", &script("exit 1"), 0o755);
        package.write("DEBIAN/postinst", &script("ischroot && echo yes > /opt/chroot"), 0o755);
        package.write("opt/a", "", 0o644);
        vec![package]
    });
    installed.result.as_ref().unwrap();
    assert_eq!(installed.read("opt/chroot"), "yes\n");
    assert!(installed.read("usr/bin/ischroot").contains("exit 1"));
}

#[test]
fn a_module_that_cannot_be_compiled_fails_the_installation() {
    let installed = install(&[], |place| {
        let python = Making::new(place, "python3-minimal", "X-Own: x");
        python.write("usr/bin/py3compile", &script("echo syntax >&2; exit 1"), 0o755);
        let package = Making::new(place, "a", "Depends: python3-minimal");
        package.write("DEBIAN/postinst", &script("py3compile -p a"), 0o755);
        package.write("opt/a", "", 0o644);
        vec![python, package]
    });
    let failure = installed.result.unwrap_err();
    assert!(format!("{failure:?}").contains("syntax"), "{failure:?}");
}

#[test]
fn scripts_triggers_and_conffiles_come_in_dpkgs_order() {
    let installed = install(&["b"], |place| {
        let early = Making::new(place, "early", "X-Own: x");
        early.write("opt/early", "", 0o644);
        early.write("DEBIAN/postinst", &script("echo early configured >> /opt/order"), 0o755);
        let a = Making::new(place, "a", "Pre-Depends: early");
        let preinst = "test ! -e /opt/a; test -e /opt/early; test -e /var/lib/dpkg/tmp.ci/control\n\
                       echo \"$DPKG_MAINTSCRIPT_PACKAGE $DPKG_MAINTSCRIPT_NAME $1\" >> /opt/order";
        a.write("DEBIAN/preinst", &script(preinst), 0o755);
        a.write("opt/a", "", 0o644);
        a.write("etc/a.conf", "shipped", 0o600);
        a.write("DEBIAN/conffiles", "/etc/a.conf\n", 0o644);
        a.write(
            "DEBIAN/postinst",
            &script("echo \"a $1 $INITRD\" >> /opt/order; cat /etc/a.conf"),
            0o755,
        );
        let b = Making::new(place, "b", "Depends: a");
        b.write("DEBIAN/triggers", "interest-noawait /opt\ninterest-noawait wish\n", 0o644);
        b.write("DEBIAN/postinst", &script("echo \"b $1\" >> /opt/order"), 0o755);
        let c = Making::new(place, "c", "Depends: b");
        c.write("DEBIAN/triggers", "activate-noawait wish\n", 0o644);
        vec![early, a, b, c]
    });
    installed.result.as_ref().unwrap();
    let order = "early configured\na preinst install\na configure No\nb configure\nb triggered\n";
    assert_eq!(installed.read("opt/order"), order);
    assert_eq!(installed.read("etc/a.conf"), "shipped");
    assert!(!installed.root.exists("/etc/a.conf.dpkg-new").unwrap());
    assert!(!installed.root.exists("/var/lib/dpkg/tmp.ci").unwrap());
    let admin = format!("--admindir={}", text(&installed.root.path().join("var/lib/dpkg")));
    let states = run("dpkg", "dpkg-query", &[&admin, "-W", "-f=${Package} ${Status}, "]);
    let states = String::from_utf8(states).unwrap();
    assert!(states.starts_with("a install ok installed, b hold ok installed, "), "{states}");
    assert_eq!(run("dpkg", "dpkg", &[&admin, "--audit"]), b"");
}

#[test]
fn a_failing_script_is_named_with_its_package_status_and_log() {
    for name in ["preinst", "postinst"] {
        let installed = install(&[], |place| {
            let broken = Making::new(place, "broken", "X-Own: x");
            broken.write(&format!("DEBIAN/{name}"), &script("echo no luck today; exit 7"), 0o755);
            vec![broken]
        });
        let failure = installed.result.as_ref().unwrap_err();
        assert_eq!(failure.class(), Class::Verdict);
        let (message, help) = (failure.to_string(), failure.help().unwrap());
        assert!(message.contains("package broken: ") && message.contains("status 7"), "{message}");
        assert!(help.contains("no luck today") && help.contains(text(&installed.log)), "{help}");
    }
}

#[test]
fn holding_what_is_not_installed_is_refused() {
    let failure = install(&["absent"], |_| Vec::new()).result.unwrap_err();
    assert!(failure.to_string().contains("package absent"), "{failure:?}");
}

/// Packages added to what `install` made, in a layer of their own.
struct Added {
    _place: tempfile::TempDir,
    root: Root,
    /// The layer below.
    below: PathBuf,
    result: Result<bool>,
}

impl Added {
    fn layer(&self, path: &str) -> bool {
        let layer = self.root.path().with_file_name("output");
        layer.join(path).symlink_metadata().is_ok()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap()
    }

    fn dpkg(&self, program: &str, arguments: &[&str]) -> String {
        let admin = format!("--admindir={}", text(&self.root.path().join("var/lib/dpkg")));
        let arguments: Vec<&str> =
            std::iter::once(admin.as_str()).chain(arguments.iter().copied()).collect();
        String::from_utf8(run("dpkg", program, &arguments)).unwrap()
    }
}

/// Installs the base and what `below` makes, marks `holds`, and adds what `above` makes.
fn add(
    holds: &[&str],
    below: impl FnOnce(&Path) -> Vec<Making>,
    above: impl FnOnce(&Path) -> Vec<Making>,
) -> Added {
    let Installed { _place: place, root, log, result } = install(holds, below);
    result.unwrap();
    root.finish(source_date()).unwrap();
    let above = above(place.path());
    add_over(place, &log, &above)
}

/// Adds what `above` makes over the layer in `place`.
fn add_over(place: tempfile::TempDir, log: &Path, above: &[Making]) -> Added {
    let parcels: Vec<_> = above.iter().map(|making| parcel(&making.pack("none"))).collect();
    let below = place.path().join("output");
    let scratch = place.path().join("above");
    fs::create_dir(&scratch).unwrap();
    let root = Root::assemble(std::slice::from_ref(&below), &scratch).unwrap();
    let installation = Installation {
        scratch: &scratch,
        root: &root,
        essential: BTreeSet::new(),
        sandbox: &sandbox(),
        log,
        shell_on_failure: false,
        source_date: source_date(),
        progress: &Silent,
        cancel: &Cancel::default(),
    };
    let result = installation.add(&parcels);
    Added { _place: place, root, below, result }
}

/// A package that is interested in `/opt`, and one that is nobody's business.
fn interested(place: &Path) -> Vec<Making> {
    let b = Making::new(place, "b", "X-Own: x");
    b.write("DEBIAN/triggers", "interest-noawait /opt\n", 0o644);
    b.write("DEBIAN/postinst", &script("echo \"b $1\" >> /var/order"), 0o755);
    b.write("var/b", "", 0o644);
    let other = Making::new(place, "other", "X-Own: x");
    other.write("srv/other", "other", 0o644);
    other.write("etc/other.conf", "other", 0o644);
    other.write("etc/machine-id", "", 0o444);
    other.write("DEBIAN/conffiles", "/etc/other.conf\n", 0o644);
    vec![b, other]
}

#[test]
fn packages_are_added_over_a_tree_by_its_own_dpkg() {
    let added = add(&["b"], interested, |place| {
        let early = Making::new(place, "early", "X-Own: x");
        early.write("DEBIAN/postinst", &script("echo early >> /var/order"), 0o755);
        let a = Making::new(place, "a", "Pre-Depends: early\nDepends: b, other");
        let preinst = script("test -e /srv/other; test ! -e /opt/a; echo \"a $1\" >> /var/order");
        a.write("DEBIAN/preinst", &preinst, 0o755);
        a.write("DEBIAN/postinst", &script("echo \"a $1 $INITRD\" >> /var/order"), 0o755);
        a.write("opt/a", "new", 0o644);
        a.write("etc/a.conf", "shipped", 0o644);
        a.write("DEBIAN/conffiles", "/etc/a.conf\n", 0o644);
        vec![early, a]
    });
    assert!(!added.result.as_ref().unwrap(), "nobody asked for another initial RAM disk");
    let order = "b configure\nearly\na install\na configure No\nb triggered\n";
    assert_eq!(added.read("var/order"), order);
    assert_eq!((added.read("opt/a"), added.read("etc/a.conf")), ("new".into(), "shipped".into()));
    let states = added.dpkg("dpkg-query", &["-W", "-f=${Package} ${Status}, "]);
    let wanted = "a install ok installed, b hold ok installed, base-passwd install ok installed, \
                  early install ok installed, other install ok installed, ";
    assert_eq!(states, wanted, "what was held stays so");
    assert_eq!(added.dpkg("dpkg", &["--audit"]), "");
    let root = format!("--root={}", text(added.root.path()));
    assert_eq!(run("dpkg", "dpkg", &[&root, "--verify", "a", "b", "early", "other"]), b"");
    // The layer has what is new, and nothing of the packages below.
    assert!(added.layer("opt/a") && added.layer("var/lib/dpkg/status"));
    for below in ["srv/other", "etc/other.conf", "usr/bin/dpkg", "var/b", "etc/machine-id"] {
        assert!(!added.layer(below), "{below}");
    }
    assert!(!added.below.join("opt/a").exists());
}

#[test]
fn an_added_package_takes_no_file_from_one_that_is_there_unless_it_replaces_it() {
    for path in ["srv/other", "etc/other.conf"] {
        for conffile in [false, true] {
            let added = add(&[], interested, |place| {
                let thief = Making::new(place, "thief", "X-Own: x");
                thief.write(path, "mine", 0o644);
                if conffile {
                    thief.write("DEBIAN/conffiles", &format!("/{path}\n"), 0o644);
                }
                vec![thief]
            });
            let Err(failure) = &added.result else { panic!("{path} {conffile} was taken") };
            let text = failure.chain().join(": ");
            assert!(text.contains("packages other and thief both have /"), "{text}");
        }
    }
    let heir = add(&[], interested, |place| {
        let heir = Making::new(place, "heir", "Replaces: other (<< 9)");
        heir.write("srv/other", "heir's", 0o644);
        vec![heir]
    });
    heir.result.as_ref().unwrap();
    assert_eq!(heir.read("srv/other"), "heir's");
    assert_eq!(heir.dpkg("dpkg", &["-S", "/srv/other"]), "heir: /srv/other\n");
    assert_eq!(heir.dpkg("dpkg", &["--audit"]), "");
    assert_eq!(fs::read_to_string(heir.below.join("srv/other")).unwrap(), "other");
}

/// Whether it is by a script or by a trigger of a package below.
#[test]
fn an_added_package_that_asks_for_another_initial_ram_disk_is_noticed_and_nothing_is_made() {
    let tools = |place: &Path| {
        let tools = Making::new(place, "initramfs-tools", "X-Own: x");
        tools.write("usr/sbin/update-initramfs", &script("echo made > /var/made"), 0o755);
        tools.write("DEBIAN/triggers", "interest-noawait update-initramfs\n", 0o644);
        let postinst = script("test \"$1\" = configure || update-initramfs -u");
        tools.write("DEBIAN/postinst", &postinst, 0o755);
        tools.write("var/tools", "", 0o644);
        vec![tools]
    };
    let asks = |triggers: Option<&str>, postinst: Option<&str>| {
        let added = add(&[], tools, |place| {
            let package = Making::new(place, "a", "X-Own: x");
            package.write("opt/a", "", 0o644);
            if let Some(triggers) = triggers {
                package.write("DEBIAN/triggers", triggers, 0o644);
            }
            if let Some(postinst) = postinst {
                package.write("DEBIAN/postinst", &script(postinst), 0o755);
            }
            vec![package]
        });
        assert!(!added.root.exists("/var/made").unwrap());
        added.result.unwrap()
    };
    assert!(asks(Some("activate-noawait update-initramfs\n"), None));
    assert!(asks(None, Some("update-initramfs -u -k all")));
    assert!(!asks(None, Some("true")));
}

/// What a recipe's script removed from the tree below, with its settings or without, is in nobody's way: not
/// in another package's, and not in its own when it comes back.
#[test]
fn packages_are_added_where_others_were_removed() {
    let removes = |place: &Path| {
        let mut makings = interested(place);
        let gone = Making::new(place, "gone", "X-Own: x");
        gone.write("opt/gone", "", 0o644);
        gone.write("etc/gone.conf", "gone", 0o644);
        gone.write("DEBIAN/conffiles", "/etc/gone.conf\n", 0o644);
        gone.write("DEBIAN/postrm", &script("true"), 0o755);
        makings.push(gone);
        makings
    };
    let cases = ["--remove", "--purge"].into_iter().flat_map(|v| [(v, false), (v, true)]);
    for (verb, again) in cases {
        let Installed { _place: place, root, log, result } = install(&[], removes);
        result.unwrap();
        let argv = ["dpkg", "--log=/dev/null", verb, "gone"];
        let command = SandboxCommand::new("remove", root.path(), argv, &log, source_date());
        sandbox().run(&command, &Cancel::default()).unwrap();
        // As dpkg remembers a package that somebody chose and nobody installed.
        let status = root.path().join("var/lib/dpkg/status");
        let ghost = "Package: ghost\nStatus: purge ok not-installed\nPriority: optional\n\n";
        let text = fs::read_to_string(&status).unwrap() + ghost;
        fs::write(&status, text).unwrap();
        root.finish(source_date()).unwrap();
        let ghost = Making::new(place.path(), "ghost", "X-Own: x");
        ghost.write("opt/ghost", "", 0o644);
        // Of one package's name and settings, or of another that takes its paths over.
        let name = if again { "gone" } else { "heir" };
        let above = place.path().join("makings");
        fs::create_dir(&above).unwrap();
        let heir = Making::new(&above, name, "X-Own: x");
        heir.write("opt/gone", "heir's", 0o644);
        heir.write("etc/gone.conf", "heir's", 0o644);
        if again {
            heir.write("DEBIAN/conffiles", "/etc/gone.conf\n", 0o644);
        }
        let added = add_over(place, &log, &[heir, ghost]);
        added.result.as_ref().unwrap();
        assert_eq!(added.read("opt/gone"), "heir's");
        let kept = again && verb == "--remove";
        assert_eq!(added.read("etc/gone.conf"), if kept { "gone" } else { "heir's" });
        let states = added.dpkg("dpkg-query", &["-W", "-f=${Package} ${Status}\n", name, "ghost"]);
        let wanted = [name, "ghost"].map(|name| format!("{name} install ok installed\n"));
        for state in wanted {
            assert!(states.contains(&state), "{states}");
        }
        assert_eq!(added.dpkg("dpkg", &["--audit"]), "");
        let script = added.root.exists("/var/lib/dpkg/info/gone.postrm").unwrap();
        assert_eq!(script, verb == "--remove" && !again, "the one of a package that stays removed");
    }
}

#[test]
fn a_package_that_is_there_already_is_not_added() {
    let added = add(&[], interested, |place| {
        let other = Making::new(place, "other", "X-Own: x");
        other.write("opt/a", "", 0o644);
        vec![other]
    });
    let failure = added.result.as_ref().unwrap_err();
    assert!(failure.to_string().contains("has the package already"), "{failure:?}");
    assert!(!added.root.exists("/opt/a").unwrap());
}

#[test]
fn a_failing_script_of_an_added_package_is_named() {
    let added = add(&[], interested, |place| {
        let broken = Making::new(place, "broken", "X-Own: x");
        broken.write("DEBIAN/postinst", &script("echo no luck; exit 7"), 0o755);
        vec![broken]
    });
    let failure = added.result.as_ref().unwrap_err();
    assert_eq!(failure.class(), Class::Verdict);
    assert!(failure.to_string().contains("package broken: "), "{failure}");
}

/// A tree that is only unpacked: what [`nodekiln_build::steps::tools_tree`] makes.
#[test]
fn programs_of_an_unpacked_tree_run_without_any_script() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::assemble(&[], place.path()).unwrap();
    let parcels = [parcel(&base(place.path()).pack("none"))];
    let mut unpacker = Unpacker::new(root.path(), Conffiles::InPlace).unwrap();
    unpacker.merge_usr().unwrap();
    unpacker.unpack(&parcels, &Silent, &Cancel::default()).unwrap();
    let log = place.path().join("log");
    let command =
        SandboxCommand::new("ask dpkg", root.path(), ["dpkg", "--version"], log, source_date());
    let output = sandbox().run(&command, &Cancel::default()).unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("dpkg"));
    assert!(!root.exists("/var/lib/dpkg/status").unwrap());
}

#[test]
#[ignore = "needs a folder of packages, named by NODEKILN_TEST_DEBS"]
fn a_whole_system_is_installed() {
    let out =
        std::env::var_os("NODEKILN_TEST_OUT").expect("NODEKILN_TEST_OUT names a folder to make");
    let out = PathBuf::from(out);
    fs::create_dir(&out).unwrap();
    let root = Root::assemble(&[], &out).unwrap();
    let start = Instant::now();
    let parcels: Vec<_> = real_debs().iter().map(|deb| parcel(deb)).collect();
    install_parcels(&root, &out.join("log"), &parcels, &[], &Timed::new()).unwrap();
    println!("all: {:.2?}", start.elapsed());
    let option = format!("--root={}", text(root.path()));
    assert_eq!(run("dpkg", "dpkg", &[&option, "--audit"]), b"");
}

/// Prints each task with the time it took.
struct Timed {
    start: Instant,
    titles: Mutex<BTreeMap<TaskId, (String, Duration)>>,
}

impl Timed {
    fn new() -> Self {
        Self { start: Instant::now(), titles: Mutex::default() }
    }
}

impl Progress for Timed {
    fn event(&self, event: Event) {
        let mut titles = self.titles.lock().unwrap();
        match event {
            Event::Started { task, title, .. } => {
                titles.insert(task, (title, self.start.elapsed()));
            }
            Event::Finished { task, .. } | Event::Failed { task } => {
                let (title, begun) = &titles[&task];
                println!("{title}: {:.2?}", self.start.elapsed() - *begun);
            }
            _ => {}
        }
    }
}
