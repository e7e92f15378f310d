//! Owners that are neither package nor binary nor image: steps, generators, state, nobody.

use std::collections::BTreeMap;

use super::files::Held;
use super::model::{Component, Data, Kind};
use crate::attribution::{Ownership, RULES};

/// A component that stands for whoever made the files.
pub(super) fn component(reference: &str, held: Held) -> Component {
    let inputs: BTreeMap<&str, &str> =
        RULES.iter().map(|rule| (rule.generator, rule.inputs)).collect();
    let (kind, name) = reference.split_once(':').unwrap_or((reference, reference));
    let description = match kind {
        "step" => format!("files written by the recipe step {name}"),
        "generator" => match inputs.get(name) {
            Some(inputs) => format!("files made by {name} from {inputs}"),
            None => format!("files made by {name}"),
        },
        "state" => "files that belong to the machine and may differ".to_owned(),
        _ => "files without a known owner".to_owned(),
    };
    let ownership = held.ownership.unwrap_or(Ownership::Unknown);
    Component {
        bom_ref: Some(reference.to_owned()),
        components: held.components,
        data: vec![Data { kind: if kind == "step" { "configuration" } else { "other" } }],
        description: Some(description),
        kind: Kind::Data,
        name: name.to_owned(),
        ..Component::default()
    }
    .with_properties(vec![("files", held.count.to_string()), ("ownership", ownership.to_string())])
}
