//! `nodekiln plan`: what a build would do, and what it would reuse.

use std::process::ExitCode;

use nodekiln_build::graph;
use nodekiln_recipes::Plan;
use nodekiln_words::Result;
use serde::Serialize;

use crate::Context;
use crate::arguments;
use crate::exit::{print, print_json};
use crate::progress::renderer;
use crate::resolve::{Resolved, resolve};

/// Resolves a recipe and prints its plan; no node is executed. (Resolving a prebuilt Kubernetes asks its
/// kubeadm, in the sandbox, which images it needs.)
pub(crate) fn plan(verb: &arguments::Plan, context: &Context) -> Result<ExitCode> {
    let progress = renderer(context.global.progress);
    let resolved = resolve(&verb.selection, context, &progress)?;
    if verb.json {
        print_json(&rows(&resolved)?)?;
    } else {
        print(&text(&resolved)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One node of the plan, as printed.
#[derive(Serialize)]
struct Row {
    name: String,
    id: String,
    state: &'static str,
    below: Option<String>,
    uses: Vec<String>,
    /// Seconds that it took when it was made, where that is known.
    seconds: Option<f64>,
}

fn rows(resolved: &Resolved) -> Result<Vec<Row>> {
    let plan = &resolved.plan;
    let targets = targets(plan, &resolved.providers);
    let needs = graph::needs(plan, &targets, &resolved.store)?;
    let row = |node: &nodekiln_recipes::plan::Node| {
        let need = needs.iter().find(|need| need.node.name == node.name);
        let state = match need {
            None => "not needed",
            Some(need) if need.found.is_some() => "hit",
            Some(_) => "miss",
        };
        let found = need.and_then(|need| need.found.as_ref());
        Row {
            name: node.name.clone(),
            id: node.id.to_string(),
            state,
            below: node.below.clone(),
            uses: node.uses.clone(),
            seconds: found.map(|stored| stored.record.seconds),
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

fn text(resolved: &Resolved) -> Result<String> {
    let rows = rows(resolved)?;
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{}: {} nodes\n", resolved.plan.name, rows.len());
    for row in &rows {
        let took =
            row.seconds.map(|seconds| format!("  (took {seconds:.1} s)")).unwrap_or_default();
        let on = row.below.as_deref().map(|below| format!("  on {below}")).unwrap_or_default();
        let uses = if row.uses.is_empty() {
            String::new()
        } else {
            format!("  uses {}", row.uses.join(", "))
        };
        let id = row.id.get(..12).unwrap_or(&row.id);
        text.push_str(&format!(
            "  {:<10}  {id}  {:<width$}{took}{on}{uses}\n",
            row.state, row.name
        ));
    }
    Ok(text)
}
