//! `nodekiln plan`: what a build would do, what it would reuse, and why not the rest.

use std::process::ExitCode;

use nodekiln_build::explain::{Explainer, Explanation};
use nodekiln_build::graph;
use nodekiln_recipes::Plan;
use nodekiln_recipes::plan::Node;
use nodekiln_words::Result;
use serde::Serialize;

use crate::Context;
use crate::arguments;
use crate::exit::{print, print_json};
use crate::progress::renderer;
use crate::resolve::{Access, Resolved, resolve};

/// Resolves a recipe and prints its plan; no node is executed. (Resolving a prebuilt Kubernetes asks its
/// kubeadm, in the sandbox, which images it needs.)
pub(crate) fn plan(verb: &arguments::Plan, context: &Context) -> Result<ExitCode> {
    let progress = renderer(context.global.progress);
    let remote = Some((&verb.remote, Access::Read));
    let resolved = resolve(&verb.target, remote, context, &progress)?;
    let rows = rows(&resolved)?;
    match verb.graph {
        Some(arguments::GraphFormat::Dot) => print(&dot(&resolved.plan.name, &rows))?,
        None if verb.json => print_json(&rows)?,
        None => print(&text(&resolved.plan.name, &rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the store has a node.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Hit,
    /// It would be pulled.
    Remote,
    Miss,
    /// Nobody reads it: what it is for is there.
    #[serde(rename = "not needed")]
    NotNeeded,
}

/// One node of the plan, as printed.
#[derive(Serialize)]
struct Row {
    name: String,
    id: String,
    state: State,
    below: Option<String>,
    uses: Vec<String>,
    /// Seconds that it took when it was made, where that is known.
    seconds: Option<f64>,
    /// Why it is missing, and how long it may take.
    #[serde(flatten)]
    explanation: Option<Explanation>,
}

fn rows(resolved: &Resolved) -> Result<Vec<Row>> {
    let plan = &resolved.plan;
    let targets = targets(plan, &resolved.providers);
    let needs = graph::needs(plan, &targets, &resolved.store, resolved.remote.as_ref())?;
    let explainer = match needs.iter().all(|need| !need.is_missing()) {
        true => None, // reading all records takes longer than saying that nothing is missing
        false => Some(Explainer::over(&resolved.store)?),
    };
    let row = |node: &Node| {
        let need = needs.iter().find(|need| need.node.name == node.name);
        let found = need.and_then(|need| need.found.as_ref());
        let state = match need {
            None => State::NotNeeded,
            Some(need) if need.found.is_some() => State::Hit,
            Some(need) if need.remote => State::Remote,
            Some(_) => State::Miss,
        };
        let explanation = explainer.as_ref().filter(|_| state == State::Miss);
        Row {
            name: node.name.clone(),
            id: node.id.to_string(),
            state,
            below: node.below.clone(),
            uses: node.uses.clone(),
            seconds: found.map(|stored| stored.record.seconds),
            explanation: explanation.map(|explainer| explainer.explain(plan, node)),
        }
    };
    Ok(plan.nodes.iter().map(row).collect())
}

/// The nodes that a build needs in the end: each provider's disk, and every layer of its tree.
pub(crate) fn targets<'a>(plan: &'a Plan, providers: &[String]) -> Vec<&'a str> {
    let mut targets = Vec::new();
    for disk in providers.iter().filter_map(|provider| plan.disk_for(provider)) {
        let layers = disk.below.as_deref().map(|below| plan.chain(below)).unwrap_or_default();
        targets.extend(layers.iter().map(|node| node.name.as_str()));
        targets.push(disk.name.as_str());
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Remote => "remote",
            Self::Miss => "miss",
            Self::NotNeeded => "not needed",
        }
    }
}

impl Row {
    /// `took 1.2 s`, `about 1.2 s`, or nothing where nobody knows.
    fn time(&self) -> String {
        let expected = self.explanation.as_ref().and_then(|why| why.expected_seconds);
        match (self.seconds, expected) {
            (Some(seconds), _) => format!("took {seconds:.1} s"),
            (None, Some(seconds)) => format!("about {seconds:.1} s"),
            (None, None) => String::new(),
        }
    }
}

fn text(name: &str, rows: &[Row]) -> String {
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    let expected = |row: &Row| row.explanation.as_ref().map(|why| why.expected_seconds);
    let expected: Vec<Option<f64>> = rows.iter().filter_map(expected).collect();
    let (hits, misses) = (count(State::Hit), count(State::Miss));
    let remote = match count(State::Remote) {
        0 => String::new(),
        remote => format!(" {remote} in the remote store,"),
    };
    let mut text = format!("{name}: {} nodes, {hits} hits,{remote} {misses} misses", rows.len());
    let seconds: f64 = expected.iter().flatten().sum();
    match expected.iter().filter(|seconds| seconds.is_none()).count() {
        _ if misses == 0 => text.push_str("; nothing to build"),
        0 => text.push_str(&format!("; about {seconds:.0} s of work")),
        unknown if unknown == misses => {}
        unknown => text.push_str(&format!(
            "; about {seconds:.0} s of work and {unknown} nodes never built before"
        )),
    }
    text.push('\n');
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        let id = row.id.get(..12).unwrap_or(&row.id);
        let line =
            format!("  {:<10}  {id}  {:<width$}  {}", row.state.word(), row.name, row.time());
        text.push_str(line.trim_end());
        text.push('\n');
        if let Some(why) = &row.explanation {
            text.push_str(&format!("{:14}{}\n", "", why.reason));
        }
    }
    text
}

/// The graph in Graphviz' language: layers upon what they lie on, dashed what else is read.
fn dot(name: &str, rows: &[Row]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text =
        format!("digraph {} {{\n  rankdir=BT;\n  node [shape=box, style=filled];\n", quoted(name));
    for row in rows {
        let color = match row.state {
            State::Hit => "palegreen",
            State::Remote => "lightblue",
            State::Miss => "lightsalmon",
            State::NotNeeded => "gray90",
        };
        let id = row.id.get(..12).unwrap_or(&row.id);
        let why = row.explanation.as_ref().map(|why| why.reason.to_string()).unwrap_or_default();
        let lines = [row.name.as_str(), id, &row.time(), &why].map(str::to_owned);
        let lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let label = quoted(&lines.join("\n")).replace('\n', "\\n");
        text.push_str(&format!("  {} [label={label}, fillcolor={color}];\n", quoted(&row.name)));
        if let Some(below) = &row.below {
            text.push_str(&format!("  {} -> {};\n", quoted(&row.name), quoted(below)));
        }
        for used in &row.uses {
            let (from, to) = (quoted(&row.name), quoted(used));
            text.push_str(&format!("  {from} -> {to} [style=dashed];\n"));
        }
    }
    text.push_str("}\n");
    text
}
