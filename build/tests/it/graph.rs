//! The graph runner over real steps in a small tree: what is done once, what is done again, and what
//! is left when a step fails.

use std::path::Path;
use std::sync::Mutex;

use nodekiln_build::explain::{Explainer, Explanation, Reason};
use nodekiln_build::graph::{Ran, Run, run_graph};
use nodekiln_build::reproduce::{Conditions, Kind, compare};
use nodekiln_recipes::plan::{Node, NodeId, Plan, PlannedFile, PlannedFileNode, Work};
use nodekiln_recipes::recipe::Hook;
use nodekiln_words::{Cancel, Class, Event, Progress, Result, Sha256, Silent};

use crate::node::{Bench, source_date};

/// A plan of a tree with a shell, and scripts upon it.
pub(crate) struct Sketch<'a> {
    bench: &'a Bench,
    pub(crate) plan: Plan,
}

impl<'a> Sketch<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Self {
        let busybox = bench.store.put_file(Path::new("/bin/busybox"));
        let busybox = busybox.expect("busybox (Debian package busybox-static)");
        let planned = |path: &str, node| PlannedFile {
            path: path.to_owned(),
            node,
            mode: 0o755,
            owner: "0".to_owned(),
            group: "0".to_owned(),
        };
        let link = |path| planned(path, PlannedFileNode::Link("/bin/busybox".to_owned()));
        let files = vec![
            planned("/bin/busybox", PlannedFileNode::File(busybox)),
            link("/bin/sh"),
            link("/bin/sleep"),
            link("/bin/head"),
            link("/bin/cat"),
            link("/bin/mkdir"),
        ];
        let plan = Plan {
            name: "test".to_owned(),
            source_date: source_date(),
            seed: uuid::Uuid::nil(),
            nodes: Vec::new(),
            disks: Default::default(),
        };
        let mut sketch = Self { bench, plan };
        sketch.add("shell", Work::Files { files }, None);
        sketch
    }

    fn add(&mut self, name: &str, work: Work, below: Option<&str>) {
        let below_id = below.and_then(|below| self.plan.node(below)).map(|node| node.id);
        let preimage = Node::preimage(&work, self.plan.source_date, below_id, &[]);
        self.plan.nodes.push(Node {
            name: name.to_owned(),
            work,
            below: below.map(str::to_owned),
            uses: Vec::new(),
            id: NodeId(Sha256::of(preimage)),
        });
    }

    pub(crate) fn script(&mut self, name: &str, text: &str, below: &str) {
        let content = self.bench.store.put_bytes(text.as_bytes()).unwrap();
        let (hook, environment) = (Hook::Post, Default::default());
        let work = Work::Script { hook, name: name.to_owned(), content, environment };
        self.add(name, work, Some(below));
    }

    fn run(&self, targets: &[&str], keep_failed: bool) -> Result<Ran> {
        let run = Run {
            store: &self.bench.store,
            remote: None,
            sandbox: &self.bench.sandbox,
            fetch: &|_| Ok(()),
            progress: &Silent,
            cancel: &Cancel::default(),
            logs: &self.bench.path("logs"),
            keep_failed,
            shell_on_failure: false,
            jobs: 2,
        };
        run_graph(&self.plan, targets, &run)
    }

    pub(crate) fn id(&self, name: &str) -> NodeId {
        self.plan.node(name).unwrap().id
    }
}

fn executed(ran: &Ran) -> Vec<&str> {
    ran.executed.iter().map(String::as_str).collect()
}

#[test]
fn only_what_changed_and_what_stands_on_it_is_done_again() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("one", "echo 1 > /one", "shell");
    sketch.script("two", "cat < /one > /two", "one");
    let ran = sketch.run(&["two"], false).unwrap();
    assert_eq!(executed(&ran), ["one", "shell", "two"]);
    let two = ran.nodes["two"].output().join("two");
    assert_eq!(std::fs::read_to_string(two).unwrap(), "1\n");
    assert_eq!(executed(&sketch.run(&["two"], false).unwrap()), Vec::<&str>::new());

    let mut changed = Sketch::new(&bench);
    changed.script("one", "echo 1 > /one", "shell");
    changed.script("two", "echo other > /two", "one");
    assert_eq!(executed(&changed.run(&["two"], false).unwrap()), ["two"]);
}

#[test]
fn a_miss_is_explained_by_the_first_input_that_differs_from_the_nearest_earlier_node() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("one", "echo 1 > /one", "shell");
    sketch.script("two", "echo 2 > /two", "one");
    let reason = |sketch: &Sketch, name: &str| {
        let explainer = Explainer::over(&bench.store).unwrap();
        explainer.explain(&sketch.plan, sketch.plan.node(name).unwrap())
    };
    let never = Explanation { reason: Reason::First, expected_seconds: None };
    assert_eq!(reason(&sketch, "one"), never);
    let ran = sketch.run(&["two"], false).unwrap();

    let mut changed = Sketch::new(&bench);
    changed.script("one", "echo 9 > /one", "shell");
    changed.script("two", "echo 2 > /two", "one");
    let digest = |text: &str| Sha256::of(text).to_string();
    let why = reason(&changed, "one");
    let expected = format!(
        "scripts.post[one].content: {} → {}",
        digest("echo 1 > /one"),
        digest("echo 9 > /one")
    );
    assert_eq!(why.reason.to_string(), expected);
    assert_eq!(why.expected_seconds, Some(ran.nodes["one"].record.seconds));
    assert_eq!(reason(&changed, "two").reason, Reason::Parent { parent: "one".to_owned() });

    let mut turned = Sketch::new(&bench);
    let Work::Files { files } = &mut turned.plan.nodes[0].work else { panic!("files come first") };
    files.swap(3, 4);
    let shell = turned.plan.nodes[0].work.clone();
    turned.plan.nodes.clear();
    turned.add("shell", shell, None);
    assert_eq!(reason(&turned, "shell").reason, Reason::Order);

    // Of two earlier nodes the one on the same parent is nearer, though its own inputs differ more.
    changed.run(&["two"], false).unwrap();
    let mut third = Sketch::new(&bench);
    third.script("one", "echo 9 > /one", "shell");
    third.script("two", "echo 3 > /two", "one");
    assert!(reason(&third, "two").reason.to_string().starts_with("scripts.post[two].content: "));
}

/// Two stores, and a plan whose script takes chance into a file: the path is told, once, with its cause.
#[test]
fn a_script_that_writes_chance_is_found_out_by_its_path() {
    let mut plans = Vec::new();
    let benches = [Bench::new(), Bench::new()];
    for bench in &benches {
        let mut sketch = Sketch::new(bench);
        sketch.script("steady", "echo 1 > /steady", "shell");
        sketch.script("chance", "mkdir /opt; head -c 32 /dev/urandom > /opt/chance", "steady");
        sketch.script("after", "cat /opt/chance > /copy", "chance");
        // Far into a file, behind what is read at once.
        let far = "{ head -c 5000000 /dev/zero; head -c 99 /dev/urandom; } > /far";
        sketch.script("far", far, "steady");
        sketch.run(&["after", "far"], false).unwrap();
        plans.push(sketch.plan);
    }
    let [one, other] = &benches;
    let conditions = Conditions::default();
    let found =
        compare(&plans[0], &one.store, &other.store, &conditions, &Cancel::default()).unwrap();
    let [difference, far] = &found.differences[..] else { panic!("{found:?}") };
    assert!(matches!(far.kind, Kind::Content { offset: 5_000_000..5_000_008 }), "{far:?}");
    assert!(far.cause.as_ref().unwrap().starts_with("chance"), "{far:?}");
    assert_eq!(difference.path.as_deref(), Some("/opt/chance"));
    assert_eq!(difference.node, "chance");
    assert!(matches!(difference.kind, Kind::Content { offset: 0..8 }), "{difference:?}");
    assert!(difference.cause.as_ref().unwrap().starts_with("chance"), "{difference:?}");
    assert_eq!(found.consequences, ["after"]);
    assert_eq!((found.nodes, found.untold), (5, 0));
    let same = compare(&plans[0], &one.store, &one.store, &conditions, &Cancel::default());
    assert_eq!(same.unwrap().differences, []);
}

#[test]
fn of_many_differing_paths_some_are_told_and_the_rest_is_counted() {
    let mut plans = Vec::new();
    let benches = [Bench::new(), Bench::new()];
    for bench in &benches {
        let mut sketch = Sketch::new(bench);
        let many = "mkdir /many; for n in $(seq 61); do head -c 9 /dev/urandom > /many/$n; done";
        sketch.script("many", many, "shell");
        sketch.run(&["many"], false).unwrap();
        plans.push(sketch.plan);
    }
    let [one, other] = &benches;
    let conditions = Conditions::default();
    let found = compare(&plans[0], &one.store, &other.store, &conditions, &Cancel::default());
    let found = found.unwrap();
    assert_eq!((found.differences.len(), found.untold), (50, 11));
}

#[test]
fn a_layer_whose_bytes_changed_in_the_store_is_not_built_upon() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("one", "echo good > /one", "shell");
    let one = sketch.run(&["one"], false).unwrap().nodes["one"].output().join("one");
    std::fs::write(&one, "evil\n").unwrap();
    sketch.script("two", "echo 2 > /two", "one");

    // Another process would see the store anew; within one, a node is verified once.
    let store = nodekiln_build::store::Store::open(bench.store.root()).unwrap();
    let plan = sketch.plan;
    let again = Bench { store, ..bench };
    let sketch = Sketch { bench: &again, plan };
    let text = format!("{:?}", sketch.run(&["two"], false).err().unwrap());
    assert!(text.contains("`one`") && text.contains("damaged"), "{text}");
    let healed = sketch.run(&["two"], false).unwrap();
    assert_eq!(executed(&healed), ["one", "two"]);
    let one = std::fs::read_to_string(healed.nodes["one"].output().join("one"));
    assert_eq!(one.unwrap(), "good\n");
}

#[test]
fn a_failure_stops_what_runs_beside_it() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("base", "echo > /base", "shell");
    // Started first; the other waits for its log, so both run at the same time.
    sketch.script("sleeps", "echo asleep; exec sleep 100000", "base");
    sketch.script("fails", "echo why; sleep 1; exit 9", "base");
    let failure = sketch.run(&["sleeps", "fails"], false).err().unwrap();
    let text = format!("{failure:?}");
    assert!(text.contains("`fails` failed") && text.contains("why"), "{text}");
    let log = std::fs::read_to_string(bench.path("logs/sleeps.log")).unwrap();
    assert!(log.contains("asleep"), "it was under way: {log}");
    for name in ["sleeps", "fails"] {
        assert!(bench.store.node(sketch.id(name)).unwrap().is_none(), "{name} is in the store");
    }
    let scratch: Vec<_> = std::fs::read_dir(bench.store.root().join("scratch"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(scratch, ["partial"], "the folder for transfers is always there");
}

#[test]
fn a_failed_steps_folder_is_kept_when_asked_for() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("fails", "echo half > /half; exit 1", "shell");
    let failure = sketch.run(&["fails"], true).err().unwrap();
    let kept = bench.store.root().join("failed").join(sketch.id("fails").0.short());
    assert!(failure.help().unwrap().contains(kept.to_str().unwrap()), "{failure:?}");
    assert_eq!(std::fs::read_to_string(kept.join("output/half")).unwrap(), "half\n");
    // A second try replaces it.
    sketch.run(&["fails"], true).err().unwrap();
    assert!(kept.join("output/half").is_file());
}

#[test]
fn what_enters_is_asked_for_once_and_only_for_what_is_missing() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("one", "echo 1 > /one", "shell");
    sketch.run(&["shell"], false).unwrap();
    let asked: Mutex<Vec<Vec<String>>> = Mutex::default();
    let run = Run {
        store: &bench.store,
        remote: None,
        sandbox: &bench.sandbox,
        fetch: &|nodes| {
            asked.lock().unwrap().push(nodes.iter().map(|node| node.name.clone()).collect());
            Ok(())
        },
        progress: &Silent,
        cancel: &Cancel::default(),
        logs: &bench.path("logs"),
        keep_failed: false,
        shell_on_failure: false,
        jobs: 2,
    };
    run_graph(&sketch.plan, &["one"], &run).unwrap();
    run_graph(&sketch.plan, &["one"], &run).unwrap();
    assert_eq!(*asked.lock().unwrap(), [["one".to_owned()]]);
}

/// Panics when the node of this name is begun, as a fault anywhere in its execution would.
struct PanicsAt(&'static str);

impl Progress for PanicsAt {
    fn event(&self, event: Event) {
        if let Event::Started { title, .. } = event {
            assert!(title != self.0, "a fault in `{title}`");
        }
    }
}

#[test]
fn a_panic_in_one_node_fails_the_run_and_stops_what_runs_beside_it() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("base", "echo > /base", "shell");
    sketch.script("sleeps", "exec sleep 100000", "base");
    sketch.script("panics", "echo never", "base");
    let run = Run {
        store: &bench.store,
        remote: None,
        sandbox: &bench.sandbox,
        fetch: &|_| Ok(()),
        progress: &PanicsAt("panics"),
        cancel: &Cancel::default(),
        logs: &bench.path("logs"),
        keep_failed: false,
        shell_on_failure: false,
        jobs: 2,
    };
    let failure = run_graph(&sketch.plan, &["sleeps", "panics"], &run).err().unwrap();
    assert_eq!(failure.class(), Class::Io);
    let text = failure.to_string();
    assert!(text.contains("`panics` failed") && text.contains("a fault in `panics`"), "{text}");
    assert!(failure.help().is_some());
    assert!(bench.store.node(sketch.id("sleeps")).unwrap().is_none());
}

#[test]
fn a_record_counts_regular_files_and_nothing_else() {
    let bench = Bench::new();
    let mut sketch = Sketch::new(&bench);
    sketch.script("one", "echo 1 > /one; echo > /two; : > /three", "shell");
    let record = &sketch.run(&["one"], false).unwrap().nodes["one"].record;
    assert_eq!((record.files, record.bytes), (3, 3));
    // busybox itself; the others are links to it, and folders.
    assert_eq!(sketch.run(&["shell"], false).unwrap().nodes["shell"].record.files, 1);
}
