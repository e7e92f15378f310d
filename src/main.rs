//! The nodekiln command line: arguments in, verbs called, progress and reports out.
//!
//! Each verb is one file named after it, whose first function is the verb's story. No verb does work
//! of its own: the rooms do, and this crate is the only one that prints.

mod arguments;
mod build;
mod cache;
mod clusters;
mod convert;
mod emit;
mod evidence;
mod exit;
mod inspect;
mod kit;
mod lock;
mod metadata;
mod output;
mod passphrase;
mod plan;
mod progress;
mod provider;
mod recipe;
mod registry;
mod report;
mod resolve;
mod validate;
mod verify_reproducible;
mod writing;

use std::process::ExitCode;

use clap::Parser;
use nodekiln_words::{Cancel, Result};

use arguments::{Arguments, Verb};

fn main() -> ExitCode {
    // The sandbox starts this program again under another name to set itself up.
    if let Some(code) = nodekiln_build::sandbox::enter_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    let global = arguments.global.clone();
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => exit::report(&failure, &global),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let cancel = Cancel::default();
    exit::stop_on_signals(&cancel)?;
    let context = Context { global: arguments.global, cancel };
    match arguments.verb {
        Verb::Build(verb) => build::build(&verb, &context),
        Verb::Plan(verb) => plan::plan(&verb, &context),
        Verb::Lock(verb) => lock::lock(&verb, &context),
        Verb::VerifyReproducible(verb) => verify_reproducible::verify_reproducible(&verb, &context),
        Verb::Kit(verb) => kit::kit(&verb, &context),
        Verb::Validate(verb) => validate::validate(&verb, &context),
        Verb::Report(verb) => report::report(&verb),
        Verb::Inspect(verb) => inspect::inspect(&verb, &context),
        Verb::Convert(verb) => convert::convert(&verb, &context),
        Verb::Metadata(verb) => metadata::metadata(&verb, &context),
        Verb::Recipe(verb) => recipe::recipe(&verb, &context),
        Verb::Provider(verb) => provider::provider(&verb, &context),
        Verb::Cache(verb) => cache::cache(&verb, &context),
        Verb::Completions(verb) => {
            arguments::completions(verb.shell);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What every verb may need.
struct Context {
    global: arguments::Global,
    cancel: Cancel,
}
