//! The graph runner: asks the store for each node of a plan and executes those that it lacks.
//!
//! Nodes that do not depend on each other run at the same time, as many as there are jobs. A node is
//! looked at only when somebody needs it: below a layer that is there, nothing is asked for.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_recipes::plan::{Node, NodeId, Plan};
use nodekiln_words::{Bytes, Cancel, Failure, Progress, Result, ResultExt as _};

use crate::execution::Execution;
use crate::layer::scan_as;
use crate::remote::Remote;
use crate::sandbox::Sandbox;
use crate::steps;
use crate::store::{Begun, NodeInProgress, NodeRecord, Store, StoredNode};

/// How a graph is run.
pub struct Run<'a> {
    /// Where results are looked up and kept.
    pub store: &'a Store,
    /// Where results are looked for that the store lacks.
    pub remote: Option<&'a Remote>,
    /// Where steps run.
    pub sandbox: &'a Sandbox,
    /// Brings into the store what these nodes take in; called once, before the first is executed.
    pub fetch: &'a (dyn Fn(&[&Node]) -> Result<()> + Sync),
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Who may ask to stop.
    pub cancel: &'a Cancel,
    /// Folder for one log per executed node.
    pub logs: &'a Path,
    /// Keep the working folder of a node that fails, and say where.
    pub keep_failed: bool,
    /// Open a shell in the sandbox of a step that fails.
    pub shell_on_failure: bool,
    /// Nodes executed at the same time.
    pub jobs: usize,
}

/// What became of the nodes that were needed.
pub struct Ran {
    /// The nodes by name.
    pub nodes: BTreeMap<String, StoredNode>,
    /// Those that were executed rather than found.
    pub executed: BTreeSet<String>,
    /// Those that came from the remote store.
    pub pulled: BTreeSet<String>,
}

/// Whether the store has a node, and why it was asked.
pub struct Need<'a> {
    /// The node.
    pub node: &'a Node,
    /// What the store has.
    pub found: Option<StoredNode>,
    /// Whether the remote store says that it has what the store lacks.
    pub remote: bool,
}

impl Need<'_> {
    /// Whether the node has to be executed, as far as is known.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.found.is_none() && !self.remote
    }
}

/// The nodes needed for `targets`, in the plan's order: those that are there, here or in the remote
/// store, and those that are missing together with all that the missing ones stand on.
///
/// # Errors
/// When the store cannot be read, and on cancellation while the remote store is asked.
pub fn needs<'a>(
    plan: &'a Plan,
    targets: &[&str],
    store: &Store,
    remote: Option<&Remote>,
) -> Result<Vec<Need<'a>>> {
    let none = BTreeSet::new();
    let needs = needs_beside(plan, targets, store, &none)?;
    let Some(remote) = remote else { return Ok(needs) };
    // What all would be needed without the remote store; asked for at once, since it answers slowly.
    let lacking = needs.iter().filter(|need| need.found.is_none());
    let lacking: Vec<NodeId> = lacking.map(|need| need.node.id).collect();
    let offered = remote.offers(&lacking)?;
    if offered.is_empty() {
        return Ok(needs);
    }
    needs_beside(plan, targets, store, &offered)
}

/// The nodes needed where those of `offered` can be had from elsewhere.
fn needs_beside<'a>(
    plan: &'a Plan,
    targets: &[&str],
    store: &Store,
    offered: &BTreeSet<NodeId>,
) -> Result<Vec<Need<'a>>> {
    let mut wanted: BTreeSet<&str> = targets.iter().copied().collect();
    let mut needs = Vec::new();
    // Parents come first in a plan, so walking backwards sees each node after all that need it.
    for node in plan.nodes.iter().rev() {
        if !wanted.contains(node.name.as_str()) {
            continue;
        }
        let found = store.node(node.id)?;
        let remote = found.is_none() && offered.contains(&node.id);
        if found.is_none() && !remote {
            wanted.extend(parents(plan, node));
        }
        needs.push(Need { node, found, remote });
    }
    needs.reverse();
    Ok(needs)
}

/// The nodes whose outputs `node` reads when it is executed: the whole tree below, and its inputs.
fn parents<'a>(plan: &'a Plan, node: &'a Node) -> Vec<&'a str> {
    let below = node.below.as_deref().map(|below| plan.chain(below)).unwrap_or_default();
    below
        .iter()
        .map(|node| node.name.as_str())
        .chain(node.uses.iter().map(String::as_str))
        .collect()
}

/// Executes what is missing for `targets`, and gives the results of all nodes that were needed.
///
/// # Errors
/// The first failure of a node; nodes that run meanwhile are asked to stop and waited for.
pub fn run_graph(plan: &Plan, targets: &[&str], run: &Run) -> Result<Ran> {
    let (needs, pulled) = pulled(plan, targets, run)?; // 1. what is there, what is missing
    let missing: Vec<&Node> =
        needs.iter().filter(|need| need.found.is_none()).map(|need| need.node).collect();
    if !missing.is_empty() {
        (run.fetch)(&missing)?; // 2. everything that enters, verified
    }
    let done: BTreeMap<String, StoredNode> =
        needs.into_iter().filter_map(|need| Some((need.node.name.clone(), need.found?))).collect();
    let executed: BTreeSet<String> = missing.iter().map(|node| node.name.clone()).collect();
    let board = Board::new(plan, missing, done, run.cancel.child());
    std::thread::scope(|scope| {
        // 3. as many workers as jobs, each taking the first node whose parents are done
        for _ in 0..run.jobs.max(1) {
            scope.spawn(|| board.work(run));
        }
    });
    let nodes = board.finish()?;
    Ok(Ran { nodes, executed, pulled })
}

/// The nodes needed for `targets` after everything was pulled that could be, and the names of those
/// that were. What is offered and then turns out to be bad leaves a gap below which more is needed.
fn pulled<'a>(
    plan: &'a Plan,
    targets: &[&str],
    run: &Run,
) -> Result<(Vec<Need<'a>>, BTreeSet<String>)> {
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let needs = needs(plan, targets, run.store, run.remote)?;
        let offered: Vec<NodeId> =
            needs.iter().filter(|need| need.remote).map(|need| need.node.id).collect();
        let Some(remote) = run.remote.filter(|_| !offered.is_empty()) else {
            let pulled = needs.iter().filter(|need| asked.contains(&need.node.id));
            let pulled = pulled.filter(|need| need.found.is_some());
            let pulled = pulled.map(|need| need.node.name.clone()).collect();
            return Ok((needs, pulled));
        };
        if offered.iter().any(|id| asked.contains(id)) {
            return Err(Failure::io("a node that was just pulled is gone from the store")
                .with_help("check the disk, and whether something else empties the store"));
        }
        remote.pull(&offered)?;
        asked.extend(offered);
    }
}

/// What the workers share.
struct Board<'a> {
    plan: &'a Plan,
    state: Mutex<State<'a>>,
    changed: Condvar,
    /// Set when a node failed or somebody asked to stop, so that the others stop.
    stop: Cancel,
}

struct State<'a> {
    waiting: Vec<&'a Node>,
    running: usize,
    done: BTreeMap<String, StoredNode>,
    failure: Option<Failure>,
}

impl<'a> Board<'a> {
    fn new(
        plan: &'a Plan,
        waiting: Vec<&'a Node>,
        done: BTreeMap<String, StoredNode>,
        stop: Cancel,
    ) -> Self {
        let state = State { waiting, running: 0, done, failure: None };
        Self { plan, state: Mutex::new(state), changed: Condvar::new(), stop }
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, run: &Run) {
        while let Some((node, inputs)) = self.take() {
            let result = caught(&node.name, || execute(self.plan, node, &inputs, run, &self.stop));
            let mut state = self.lock();
            state.running -= 1;
            match result {
                Ok(stored) => {
                    state.done.insert(node.name.clone(), stored);
                }
                Err(failure) => {
                    self.stop.cancel();
                    state.waiting.clear();
                    state.failure.get_or_insert(failure);
                }
            }
            self.changed.notify_all();
        }
    }

    /// The next node whose parents are done, with their results; waits for one, and ends with `None`
    /// when none will come.
    fn take(&self) -> Option<(&'a Node, BTreeMap<String, StoredNode>)> {
        let mut state = self.lock();
        loop {
            let ready = state.waiting.iter().position(|node| {
                parents(self.plan, node).iter().all(|parent| state.done.contains_key(*parent))
            });
            if let Some(index) = ready {
                let node = state.waiting.remove(index);
                state.running += 1;
                let inputs = parents(self.plan, node)
                    .into_iter()
                    .filter_map(|name| Some((name.to_owned(), state.done.get(name)?.clone())))
                    .collect();
                return Some((node, inputs));
            }
            if state.running == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(self) -> Result<BTreeMap<String, StoredNode>> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failure {
            Some(failure) => Err(failure),
            None => Ok(state.done),
        }
    }
}

/// What executing a node comes to; a panic is a failure, since the other workers wait for its end.
///
/// What the node shares with others stays valid: the store takes a node in by one rename, and the
/// board is not touched while a node is executed.
fn caught(name: &str, execute: impl FnOnce() -> Result<StoredNode>) -> Result<StoredNode> {
    catch_unwind(AssertUnwindSafe(execute)).unwrap_or_else(|panic| {
        let what = panic_text(&*panic);
        Err(Failure::io(format!("`{name}` failed: nodekiln panicked: {what}"))
            .with_help("this is a fault of nodekiln: report it with what was printed before"))
    })
}

/// What a panic said, where it said so in words.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

/// Executes one node, unless another process did so meanwhile.
fn execute(
    plan: &Plan,
    node: &Node,
    inputs: &BTreeMap<String, StoredNode>,
    run: &Run,
    stop: &Cancel,
) -> Result<StoredNode> {
    stop.check()?;
    let task = run.progress.start(&node.name, None, "");
    let begun = Instant::now();
    let result = match run.store.begin_node(node.id, stop) {
        Ok(Begun::AlreadyThere(stored)) => Ok((stored, "made by another process".to_owned())),
        Ok(Begun::Mine(place)) => make(plan, node, inputs, place, begun, run, stop),
        Err(failure) => Err(failure),
    };
    match result {
        Ok((stored, note)) => {
            run.progress.finish(task, &note);
            Ok(stored)
        }
        Err(failure) => {
            run.progress.fail(task);
            Err(failure.context(format!("`{}` failed", node.name)))
        }
    }
}

/// Makes a node's output in `place` and commits it.
fn make(
    plan: &Plan,
    node: &Node,
    inputs: &BTreeMap<String, StoredNode>,
    place: NodeInProgress,
    begun: Instant,
    run: &Run,
    stop: &Cancel,
) -> Result<(StoredNode, String)> {
    let log = log_path(run.logs, &node.name)?;
    let below_facts = facts(plan, node, inputs);
    let execution = Execution {
        store: run.store,
        sandbox: run.sandbox,
        progress: run.progress,
        cancel: stop,
        source_date: plan.source_date,
        scratch: place.dir(),
        log: &log,
        below: below(plan, node, inputs, run)?,
        below_facts: &below_facts,
        uses: uses(node, inputs, run)?,
        shell_on_failure: run.shell_on_failure,
    };
    let made = match steps::run(&node.work, &execution) {
        Ok(made) => made,
        Err(failure) if run.keep_failed => {
            let kept = place.keep()?;
            let help = format!("the working folder is kept at {}", kept.display());
            let help = failure.help().map_or(help.clone(), |text| format!("{text}\n{help}"));
            return Err(failure.with_help(help));
        }
        Err(failure) => return Err(failure),
    };
    let record = NodeRecord {
        name: node.name.clone(),
        preimage: plan.preimage(node),
        output: made.inventory.digest(),
        files: files(&made.inventory),
        bytes: made.inventory.size(),
        seconds: begun.elapsed().as_secs_f64(),
        facts: made.facts,
    };
    let note = format!("{} files, {}", record.files, Bytes(record.bytes));
    let stored = place.commit(record, &made.inventory)?;
    Ok((stored, note))
}

/// How many regular files there are, each name of a file counted.
fn files(inventory: &Inventory) -> u64 {
    let is_file =
        |entry: &&Entry| matches!(entry.kind, EntryKind::File { .. } | EntryKind::Disk { .. });
    inventory.entries.values().filter(is_file).count() as u64
}

fn log_path(logs: &Path, name: &str) -> Result<PathBuf> {
    fs_err::create_dir_all(logs).or_io(|| "cannot make the folder for logs".to_owned())?;
    Ok(logs.join(format!("{}.log", name.replace('/', "-"))))
}

/// Folders of the layers below `node`, bottom first, each verified against its inventory.
fn below(
    plan: &Plan,
    node: &Node,
    inputs: &BTreeMap<String, StoredNode>,
    run: &Run,
) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for layer in node.below.as_deref().map(|below| plan.chain(below)).unwrap_or_default() {
        if let Some(stored) = inputs.get(&layer.name) {
            verify(stored, run)?;
            folders.push(stored.output());
        }
    }
    Ok(folders)
}

/// Compares a node with its inventory before anything is built upon it; once per process.
fn verify(stored: &StoredNode, run: &Run) -> Result<()> {
    stored.verify(&|folder, expected, cancel| scan_as(folder, expected, true, cancel), run.cancel)
}

/// What the layers below found out; a higher layer has the last word.
fn facts(
    plan: &Plan,
    node: &Node,
    inputs: &BTreeMap<String, StoredNode>,
) -> BTreeMap<String, String> {
    let chain = node.below.as_deref().map(|below| plan.chain(below)).unwrap_or_default();
    let records = chain.iter().filter_map(|layer| inputs.get(&layer.name));
    records.flat_map(|stored| stored.record.facts.clone()).collect()
}

/// The other nodes that `node` reads, verified, by name.
fn uses(
    node: &Node,
    inputs: &BTreeMap<String, StoredNode>,
    run: &Run,
) -> Result<BTreeMap<String, StoredNode>> {
    let mut uses = BTreeMap::new();
    for name in &node.uses {
        if let Some(stored) = inputs.get(name) {
            verify(stored, run)?;
            uses.insert(name.clone(), stored.clone());
        }
    }
    Ok(uses)
}
