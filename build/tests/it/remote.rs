//! The remote store: what one machine pushes another one pulls, and nothing in it is believed that is
//! not as it was pushed.

mod failing;
mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nodekiln_build::graph::{Ran, Run, needs, run_graph};
use nodekiln_build::remote::{Remote, RemoteSettings, Shared, public_line};
use nodekiln_recipes::plan::Plan;
use nodekiln_words::{Cancel, Class, Event, Progress, Result, Sha256};
use object_store::ObjectStore;

use crate::graph::Sketch;
use crate::node::Bench;

/// Remembers what was told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        let line = match event {
            Event::Warning(text) => format!("warning: {text}"),
            Event::Note(text) => format!("note: {text}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Told {
    fn warnings(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.starts_with("warning")).cloned().collect()
    }
}

/// A machine with an empty store of its own.
struct Machine {
    bench: Bench,
    plan: Plan,
    told: Arc<Told>,
    cancel: Cancel,
}

/// Everything of the plan below.
const ALL: [&str; 4] = ["shell", "one", "two", "big"];

impl Machine {
    /// The plan: one layer on another, with all that is hard to carry over, and a large one.
    fn new() -> Self {
        let bench = Bench::new();
        let mut sketch = Sketch::new(&bench);
        let links = "b=/bin/busybox; mkdir /etc /opt; echo text > /etc/one; $b ln /etc/one /etc/uno; \
                     $b ln -s ../../../etc/shadow /etc/link; $b mkfifo -m 640 /etc/pipe; \
                     $b chown 7:8 /etc/pipe; $b chmod 4755 /etc/one; echo old > /opt/old; echo > /gone";
        sketch.script("one", links, "shell");
        let above = "b=/bin/busybox; $b rm /gone; $b rm -r /opt; mkdir /opt; echo new > /opt/new; \
                     $b truncate -s 3000000 /sparse; echo end >> /sparse";
        sketch.script("two", above, "one");
        // More than one part of an upload, and nothing that a compressor could make smaller.
        let big =
            "s=1; while [ ${#s} -lt 2 ]; do s=$s$s; done; head -c 20000000 /dev/urandom > /big";
        sketch.script("big", big, "shell");
        let plan = sketch.plan;
        Self { bench, plan, told: Arc::default(), cancel: Cancel::default() }
    }

    fn over(&self, objects: Arc<dyn ObjectStore>, settings: &RemoteSettings) -> Remote {
        let told: Arc<dyn Progress> = Arc::clone(&self.told) as _;
        Remote::over(objects, settings, &self.bench.store, told, self.cancel.clone()).unwrap()
    }

    fn connect(&self, settings: &RemoteSettings) -> Result<Remote> {
        let told: Arc<dyn Progress> = Arc::clone(&self.told) as _;
        Remote::connect(settings, &self.bench.store, told, self.cancel.clone())
    }

    fn run(&self, targets: &[&str], remote: &Remote) -> Result<Ran> {
        let run = Run {
            store: &self.bench.store,
            remote: Some(remote),
            sandbox: &self.bench.sandbox,
            fetch: &|_| Ok(()),
            progress: &*self.told,
            cancel: &self.cancel,
            logs: &self.bench.path("logs"),
            keep_failed: false,
            shell_on_failure: false,
            jobs: 2,
        };
        run_graph(&self.plan, targets, &run)
    }

    /// Runs and pushes as a build does.
    fn build(&self, remote: &Remote) -> Ran {
        let ran = self.run(&ALL, remote).unwrap();
        remote.push(&self.shared(&ran)).unwrap();
        ran
    }

    fn shared(&self, ran: &Ran) -> Vec<Shared> {
        let shared = |node: &nodekiln_build::store::StoredNode| {
            let inputs = scripts(&self.plan, &node.record.name);
            Shared { node: node.clone(), inputs }
        };
        ran.nodes.values().map(shared).collect()
    }

    fn inventories(&self) -> BTreeMap<String, Sha256> {
        let found = |node: &nodekiln_recipes::plan::Node| {
            let stored = self.bench.store.node(node.id).unwrap()?;
            Some((node.name.clone(), stored.inventory().unwrap().digest()))
        };
        self.plan.nodes.iter().filter_map(found).collect()
    }

    fn record(&self, name: &str, key: &Sha256) -> String {
        format!("nodes/{}/{key}", self.plan.node(name).unwrap().id)
    }
}

/// What a script of the plan is made from.
fn scripts(plan: &Plan, name: &str) -> BTreeSet<Sha256> {
    match &plan.node(name).unwrap().work {
        nodekiln_recipes::plan::Work::Script { content, .. } => [*content].into(),
        _ => BTreeSet::new(),
    }
}

fn names(names: &BTreeSet<String>) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// A folder for a remote store, and a key that several machines sign with.
struct Common {
    folder: tempfile::TempDir,
}

impl Common {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("remote")).unwrap();
        let common = Self { folder };
        common.make_key("key");
        common
    }

    fn make_key(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut command = std::process::Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
        let status = command.status().expect("ssh-keygen is missing: install openssh-client");
        assert!(status.success());
        path
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("remote")
    }

    fn settings(&self) -> RemoteSettings {
        RemoteSettings {
            address: format!("file://{}", self.path().display()),
            key: Some(self.folder.path().join("key")),
            ..RemoteSettings::default()
        }
    }

    /// The name of the key in the store.
    fn key_name(&self) -> Sha256 {
        let mut names = BTreeSet::new();
        for path in self.files() {
            if path.starts_with("nodes/") {
                names.insert(path.rsplit('/').next().unwrap().parse().unwrap());
            }
        }
        assert_eq!(names.len(), 1);
        names.pop_first().unwrap()
    }

    /// All objects.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let path = path.strip_prefix(self.path()).unwrap();
                        files.push(path.to_str().unwrap().to_owned());
                    }
                }
            }
        }
        files.sort();
        files
    }

    /// All objects with their bytes' digests.
    fn snapshot(&self) -> Vec<(String, Sha256)> {
        let digest = |path: String| {
            let bytes = std::fs::read(self.path().join(&path)).unwrap();
            (path, Sha256::of(bytes))
        };
        self.files().into_iter().map(digest).collect()
    }
}

#[test]
fn what_one_machine_pushed_another_one_pulls_and_executes_nothing() {
    let common = Common::new();
    let (first, second) = (Machine::new(), Machine::new());
    let remote = first.connect(&common.settings()).unwrap();
    let built = first.build(&remote);
    assert_eq!(built.executed.len(), 4);
    assert_eq!(remote.traffic().pushed.nodes.len(), 4);
    assert_eq!(remote.traffic().pushed.inputs, 3, "the scripts");
    assert!(remote.traffic().pushed.bytes > 20_000_000);
    let before = common.snapshot();

    let remote = second.connect(&common.settings()).unwrap();
    let planned = needs(&second.plan, &["two"], &second.bench.store, Some(&remote)).unwrap();
    let planned: Vec<_> = planned.iter().map(|need| (&*need.node.name, need.remote)).collect();
    assert_eq!(planned, [("two", true)], "below a node that can be pulled nothing is asked for");
    let ran = second.run(&["two"], &remote).unwrap();
    assert_eq!((names(&ran.executed), names(&ran.pulled)), (vec![], vec!["two"]));
    let ran = second.build(&remote);
    assert_eq!((names(&ran.executed), names(&ran.pulled)), (vec![], vec!["big", "one", "shell"]));
    assert_eq!(second.inventories(), first.inventories());
    assert_eq!(first.told.warnings().len() + second.told.warnings().len(), 0);
    assert_eq!(common.snapshot(), before, "nothing was there to push");
    let moved = remote.traffic();
    assert_eq!((moved.pulled.nodes.len(), moved.pushed.nodes.len()), (4, 0));

    // A third one, with a change at the end, executes that alone, and builds upon what came.
    let mut third = Machine::new();
    let mut sketch = Sketch::new(&third.bench);
    sketch.plan = third.plan.clone();
    sketch.script("three", "cat < /etc/uno > /three", "two");
    third.plan = sketch.plan;
    let remote = third.connect(&common.settings()).unwrap();
    let ran = third.run(&["three"], &remote).unwrap();
    assert_eq!(
        (names(&ran.executed), names(&ran.pulled)),
        (vec!["three"], vec!["one", "shell", "two"])
    );
    let text = std::fs::read_to_string(ran.nodes["three"].output().join("three"));
    assert_eq!(text.unwrap(), "text\n");
}

#[test]
fn a_machine_believes_its_own_key_and_those_it_was_told_to_trust() {
    let common = Common::new();
    let (first, second) = (Machine::new(), Machine::new());
    let own = RemoteSettings { key: None, ..common.settings() };
    first.build(&first.connect(&own).unwrap());

    // Not told to trust: everything is made anew, and pushed under the other key beside the first.
    let remote = second.connect(&own).unwrap();
    let ran = second.run(&["two"], &remote).unwrap();
    assert_eq!(names(&ran.executed), ["one", "shell", "two"]);
    let told = second.told.0.lock().unwrap().join("\n");
    assert!(told.contains("not trusted here: SHA256:"), "{told}");
    assert_eq!(second.told.warnings(), Vec::<String>::new());
    let before = common.files();
    remote.push(&second.shared(&ran)).unwrap();
    let new: Vec<String> =
        common.files().into_iter().filter(|path| !before.contains(path)).collect();
    assert_eq!(new.len(), 3, "three records, and packs that are the same: {new:?}");

    let file = common.folder.path().join("trusted");
    std::fs::write(&file, public_line(&first.bench.store).unwrap()).unwrap();
    let third = Machine::new();
    let settings = RemoteSettings { trust: vec![file], read_only: true, ..own };
    let ran = third.build(&third.connect(&settings).unwrap());
    assert_eq!(names(&ran.executed), Vec::<&str>::new());
}

#[test]
fn a_remote_store_that_is_read_only_is_never_written() {
    let common = Common::new();
    let machine = Machine::new();
    let settings = RemoteSettings { read_only: true, ..common.settings() };
    let ran = machine.build(&machine.connect(&settings).unwrap());
    assert_eq!(ran.executed.len(), 4);
    assert_eq!(common.files(), Vec::<String>::new());

    let pusher = Machine::new();
    pusher.build(&pusher.connect(&common.settings()).unwrap());
    // What is bad stays as it is, too.
    let pack = common.files().into_iter().find(|path| path.starts_with("packs")).unwrap();
    std::fs::write(common.path().join(pack), "evil").unwrap();
    let before = common.snapshot();
    let reader = Machine::new();
    let ran = reader.build(&reader.connect(&settings).unwrap());
    assert_eq!(ran.executed.len(), 1);
    assert_eq!(common.snapshot(), before);
}

#[test]
fn a_node_that_was_damaged_here_is_not_given_to_others() {
    let common = Common::new();
    let machine = Machine::new();
    let settings = RemoteSettings { read_only: true, ..common.settings() };
    let ran = machine.run(&["one"], &machine.connect(&settings).unwrap()).unwrap();
    std::fs::write(ran.nodes["one"].output().join("etc/one"), "evil").unwrap();
    let script = scripts(&machine.plan, "one").pop_first().unwrap();

    // Another process, which has not seen the node being made, or the script.
    let store = nodekiln_build::store::Store::open(machine.bench.store.root()).unwrap();
    let blob = store.blob_path(&script).unwrap();
    std::fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&blob, "evil").unwrap();
    let store = nodekiln_build::store::Store::open(machine.bench.store.root()).unwrap();
    let nodes = ["shell", "one"].map(|name| store.node(machine.plan.node(name).unwrap().id));
    let told: Arc<dyn Progress> = Arc::clone(&machine.told) as _;
    let remote = Remote::connect(&common.settings(), &store, told, Cancel::default()).unwrap();
    let shared = |node: nodekiln_build::store::StoredNode| Shared {
        inputs: scripts(&machine.plan, &node.record.name),
        node,
    };
    let shared: Vec<Shared> =
        nodes.into_iter().map(|node| shared(node.unwrap().unwrap())).collect();
    remote.push(&shared).unwrap();
    assert_eq!(names(&remote.traffic().pushed.nodes), ["shell"]);
    assert!(!common.files().iter().any(|path| path.starts_with("blobs")), "{:?}", common.files());
    let warnings = machine.told.warnings();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("not pushed") && warning.contains("/etc/one"), "{warning}");
}

#[test]
fn two_machines_push_the_same_at_once() {
    let common = Common::new();
    let machines = [Machine::new(), Machine::new()];
    let ready = std::sync::Barrier::new(2);
    let ran: Vec<_> = machines
        .iter()
        .map(|machine| {
            let remote = machine.connect(&common.settings()).unwrap();
            let targets = ["shell", "one", "two"];
            let ran = machine.run(&targets, &remote).unwrap();
            (machine, remote, ran)
        })
        .collect();
    std::thread::scope(|scope| {
        for (machine, remote, ran) in &ran {
            let ready = &ready;
            scope.spawn(move || {
                ready.wait();
                remote.push(&machine.shared(ran)).unwrap();
            });
        }
    });
    assert!(machines.iter().all(|machine| machine.told.warnings().is_empty()));
    let files = common.files();
    assert!(files.iter().all(|path| !path.contains('#')), "{files:?}");
    let reader = Machine::new();
    let ran = reader.run(&["shell", "one", "two"], &reader.connect(&common.settings()).unwrap());
    assert_eq!(names(&ran.unwrap().executed), Vec::<&str>::new());
    assert_eq!(reader.inventories(), machines[0].inventories());
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start_with_a_remedy() {
    let common = Common::new();
    let machine = Machine::new();
    let refused = |settings: &RemoteSettings| {
        let failure = machine.connect(settings).err().unwrap();
        assert!(failure.help().is_some(), "{failure:?}");
        (failure.class(), failure.to_string())
    };
    let at = |address: &str| RemoteSettings { address: address.to_owned(), ..common.settings() };
    assert_eq!(refused(&at("ftp://host/x")).0, Class::Input);
    assert_eq!(refused(&at("file:///nowhere/at/all")).0, Class::Input);
    let key = |key: &str| RemoteSettings { key: Some(key.into()), ..common.settings() };
    assert_eq!(refused(&key(common.path().join("no").to_str().unwrap())).0, Class::Input);
    let nobody = RemoteSettings { trust: vec!["/dev/null".into()], ..common.settings() };
    assert_eq!(refused(&nobody).0, Class::Input);
    assert_eq!(common.files(), Vec::<String>::new(), "nothing was made on the way");

    let marker = common.path().join("nodekiln-store");
    std::fs::write(&marker, "nodekiln remote store 2\n").unwrap();
    assert_eq!(refused(&common.settings()).0, Class::Unsupported);
    std::fs::write(&marker, "evil").unwrap();
    machine.connect(&common.settings()).unwrap();
    assert!(machine.told.warnings()[0].contains("nodekiln-store"));
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), "nodekiln remote store 1\n");
}

/// Asks to stop as soon as bytes have moved.
struct StopsWhenMoving(Cancel);

impl Progress for StopsWhenMoving {
    fn event(&self, event: Event) {
        if let Event::Advanced { .. } = event {
            self.0.cancel();
        }
    }
}

#[test]
fn a_pull_and_a_push_that_are_stopped_leave_nothing_half_made() {
    let common = Common::new();
    let first = Machine::new();
    let ran = first.build(&first.connect(&common.settings()).unwrap());
    let scratch = |machine: &Machine| {
        let folder = std::fs::read_dir(machine.bench.store.root().join("scratch")).unwrap();
        folder.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    let connect = |machine: &Machine, folder: &Path| {
        let stops = Arc::new(StopsWhenMoving(machine.cancel.clone()));
        let address = format!("file://{}", folder.display());
        let settings = RemoteSettings { address, ..common.settings() };
        Remote::connect(&settings, &machine.bench.store, stops, machine.cancel.clone()).unwrap()
    };
    let second = Machine::new();
    let failure = second.run(&["big"], &connect(&second, &common.path())).err().unwrap();
    assert_eq!(failure.class(), Class::Interrupted);
    assert_eq!(scratch(&second), ["partial"]);
    assert!(second.bench.store.node(second.plan.node("big").unwrap().id).unwrap().is_none());

    let empty = common.folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let remote = connect(&first, &empty);
    let big: Vec<Shared> =
        first.shared(&ran).into_iter().filter(|shared| shared.node.record.name == "big").collect();
    let big: Vec<Shared> =
        big.into_iter().map(|shared| Shared { inputs: BTreeSet::new(), ..shared }).collect();
    assert_eq!(remote.push(&big).unwrap_err().class(), Class::Interrupted);
    assert_eq!(scratch(&first), ["partial"]);
    let mut left: Vec<_> = std::fs::read_dir(&empty).unwrap().map(|e| e.unwrap().path()).collect();
    left.extend(
        std::fs::read_dir(empty.join("packs/sha256"))
            .into_iter()
            .flatten()
            .map(|e| e.unwrap().path()),
    );
    assert!(left.iter().all(|path| path.is_dir() || path.ends_with("nodekiln-store")), "{left:?}");
}
