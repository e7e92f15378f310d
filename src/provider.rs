//! `nodekiln provider`: the providers in the tree.

use std::process::ExitCode;

use nodekiln_words::Result;
use serde::Serialize;

use crate::arguments::{Provider, ProviderVerb};
use crate::exit::{print, print_json};

/// Lists providers, or shows one's machine profile.
pub(crate) fn provider(verb: &Provider) -> Result<ExitCode> {
    match &verb.verb {
        ProviderVerb::List { json } => list(*json)?,
        ProviderVerb::Show { name, json } => show(name, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    description: &'static str,
}

fn list(json: bool) -> Result<()> {
    let rows: Vec<Row> = nodekiln_providers::all()
        .iter()
        .map(|provider| Row { name: provider.name(), description: provider.description() })
        .collect();
    if json {
        return print_json(&rows);
    }
    rows.iter().try_for_each(|row| print(&format!("{:<10} {}\n", row.name, row.description)))
}

fn show(name: &str, json: bool) -> Result<()> {
    let provider = nodekiln_providers::by_name(name)?;
    let machine = provider.machine();
    if json {
        return print_json(&machine);
    }
    print(&format!(
        "{name}: {}\nfirmware     {:?}\ndisk         {:?}\nnetwork      {:?}\nconsole      {}\ndata source  {}\nfile         {}\n",
        provider.description(),
        machine.firmware,
        machine.disk,
        machine.network,
        machine.console,
        machine.data_source,
        provider.file_name("NAME"),
    ))
}
