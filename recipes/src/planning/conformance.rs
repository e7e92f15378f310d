//! The plan of a kit for node conformance: the suite compiled, and the images that it runs.

use std::collections::BTreeMap;

use nodekiln_words::{Class, Failure, Result};

use super::{Planning, seed_of, tree_name};
use crate::lock::Lock;
use crate::plan::{Plan, Work};
use crate::recipe::{KubernetesSource, Recipe};

/// The node whose output has the suite (`bin/e2e_node.test`, `specs.json`).
pub const SUITE: &str = "conformance/suite";
/// The node whose output has the images' archives.
pub const IMAGES: &str = "conformance/images";

/// Makes the plan of the parts of a kit from the sources that `recipe` names, with `images` for its specs; what
/// enters is taken from `lock`. It has no disks; its last nodes are [`SUITE`] and [`IMAGES`].
///
/// # Errors
/// When the recipe does not build Kubernetes from source, or the lock lacks a tree.
pub fn conformance_plan_of(recipe: &Recipe, lock: &Lock, images: &[String]) -> Result<Plan> {
    let kubernetes = recipe
        .kubernetes
        .as_ref()
        .filter(|kubernetes| matches!(kubernetes.source, KubernetesSource::Source { .. }));
    let Some(kubernetes) = kubernetes else {
        let text = format!("the recipe `{}` does not build Kubernetes from source", recipe.name);
        return Err(Failure::new(Class::Unsupported, text).with_help(
            "name the version and give its suite: `nodekiln kit 1.31.2 --suite FILE --images FOLDER`",
        ));
    };
    let version = kubernetes.version;
    let mut planning = Planning {
        recipe,
        lock,
        digest_of: &|_| Err(Failure::input("a kit has no files of the recipe")),
        source_date: recipe.source_date,
        seed: seed_of(&recipe.name),
        nodes: Vec::new(),
    };
    let (release, packages) = planning.tree(tree_name::COMPILER)?;
    let work = Work::Packages { release, packages, holds: Vec::new() };
    let compiler = planning.add(tree_name::COMPILER, work, None, &[]);
    let sources = planning.locked_files("source/");
    let work = Work::ConformanceSuite { version, sources };
    let suite = planning.add(SUITE, work, Some(&compiler), &[]);
    let (_, packages) = planning.tree(tree_name::CONFORMANCE)?;
    let tools = planning.add(tree_name::CONFORMANCE, Work::ToolsTree { packages }, None, &[]);
    let work = Work::ConformanceImages { images: images.to_vec() };
    planning.add(IMAGES, work, None, &[&suite, &tools]);
    let Planning { source_date, seed, nodes, .. } = planning;
    Ok(Plan { name: recipe.name.clone(), source_date, seed, nodes, disks: BTreeMap::new() })
}
