//! `nodekiln cache`: count, check and prune the content store, and tell its key.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nodekiln_build::remote::public_line;
use nodekiln_build::store::{Keep, Store};
use nodekiln_recipes::Inventory;
use nodekiln_words::{Bytes, Cancel, Failure, Progress, Result};

use crate::Context;
use crate::arguments::{Cache, CacheVerb};
use crate::exit::{print, print_json};
use crate::progress::renderer;

/// Counts, checks, prunes or tells the key.
pub(crate) fn cache(verb: &Cache, context: &Context) -> Result<ExitCode> {
    let store = open(context, &renderer(context.global.progress))?;
    match &verb.verb {
        CacheVerb::Stats { json } => stats(&store, *json),
        CacheVerb::Verify { json } => verify(&store, *json, context),
        CacheVerb::Key => print(&format!("{}\n", public_line(&store)?)).map(|()| ExitCode::SUCCESS),
        CacheVerb::Prune { keep, json } => prune(&store, keep, *json),
    }
}

/// Opens the store that the command line names; what it has to say goes to `progress`.
pub(crate) fn open(context: &Context, progress: &Arc<dyn Progress>) -> Result<Store> {
    let root = match &context.global.cache {
        Some(folder) => folder.clone(),
        None => Store::default_root()?,
    };
    Store::open_with(&root, Arc::clone(progress))
}

fn stats(store: &Store, json: bool) -> Result<ExitCode> {
    let stats = store.stats()?;
    if json {
        print_json(&stats)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{}\n", store.root().display()))?;
    let kinds = [
        ("blobs", &stats.blobs),
        ("nodes", &stats.nodes),
        ("scratch", &stats.scratch),
        ("partial", &stats.partial),
        ("index", &stats.index),
        ("damaged", &stats.damaged),
        ("failed", &stats.failed),
    ];
    for (name, count) in kinds {
        print(&format!("  {name:<8} {:>6}  {}\n", count.number, count.size))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(store: &Store, json: bool, context: &Context) -> Result<ExitCode> {
    let progress = renderer(context.global.progress);
    let scan = |folder: &Path, expected: &Inventory, cancel: &Cancel| {
        nodekiln_build::layer::scan_as(folder, expected, true, cancel)
    };
    let found = store.verify(&scan, &*progress, &context.cancel)?;
    if json {
        print_json(&found)?;
    } else {
        for damage in &found.damaged {
            print(&format!("damaged: {}: {}\n", damage.what, damage.how))?;
        }
        let (blobs, nodes, damaged) = (found.blobs, found.nodes, found.damaged.len());
        print(&format!("{blobs} blobs and {nodes} nodes read, {damaged} damaged\n"))?;
    }
    Ok(if found.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn prune(store: &Store, keep: &str, json: bool) -> Result<ExitCode> {
    let pruned = store.prune(keep_of(keep)?, now())?;
    if json {
        print_json(&pruned)?;
    } else {
        let (blobs, nodes, freed) = (pruned.blobs, pruned.nodes, pruned.freed);
        let busy = match pruned.in_use {
            0 => String::new(),
            n => format!("; {n} were in use and stayed"),
        };
        let failed = match pruned.failed {
            0 => String::new(),
            n => format!(" and {n} folders of failed nodes"),
        };
        let clusters = match pruned.clusters {
            0 => String::new(),
            n => format!(" and the compressed clusters of {n} artifacts"),
        };
        let text =
            format!("removed {blobs} blobs and {nodes} nodes{failed}{clusters}, {freed}{busy}\n");
        print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The time of day, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads `20GiB` as a size and `30d`, `12h`, `45m`, `0s` as an age in seconds.
fn keep_of(text: &str) -> Result<Keep> {
    const UNITS: [(char, u64); 5] =
        [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 604_800)];
    for (unit, seconds) in UNITS {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<u64>()
            && let Some(age) = number.checked_mul(seconds)
        {
            return Ok(Keep::Age(age));
        }
    }
    text.parse::<Bytes>().map(Keep::Size).map_err(|_| {
        Failure::input(format!("`{text}` is neither a size nor an age"))
            .with_help("write a size such as 20GiB, or an age such as 30d, 12h or 45m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_told_apart() {
        assert!(matches!(keep_of("20GiB"), Ok(Keep::Size(Bytes(size))) if size == 20 << 30));
        assert!(matches!(keep_of("30d"), Ok(Keep::Age(age)) if age == 30 * 86_400));
        for text in ["", "d", "1.5d", "ten", "-3h"] {
            assert!(keep_of(text).is_err(), "{text}");
        }
    }
}
