//! `nodekiln recipe`: list, show and check recipes.

use std::process::ExitCode;

use nodekiln_recipes::load::{self, Loaded};
use nodekiln_recipes::provider::ForProvider;
use nodekiln_recipes::{library, schema};
use nodekiln_words::{Class, Failure, Result};

use crate::Context;
use crate::arguments::{Recipe, RecipeVerb};
use crate::exit::{print, print_error, print_json};
use crate::progress::renderer;
use crate::registry;

/// Lists, shows or checks recipes.
pub(crate) fn recipe(verb: &Recipe, context: &Context) -> Result<ExitCode> {
    match &verb.verb {
        RecipeVerb::List { json } => list(*json)?,
        RecipeVerb::Show { recipe, resolved, provider, sets, json } => {
            show(&load(recipe, sets, &terms(provider, context)?, context)?, *resolved, *json)?;
        }
        RecipeVerb::Check { recipe, provider, sets, json } => {
            return check(recipe, sets, &terms(provider, context)?, *json, context);
        }
        RecipeVerb::Schema => print_json(&schema::schema())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads a recipe for `providers`; what is wrong with it is printed in full before the failure is returned.
pub(crate) fn load(
    recipe: &str,
    sets: &[String],
    providers: &[ForProvider],
    context: &Context,
) -> Result<Loaded> {
    let loaded = load::load_for(recipe, sets, providers).map_err(|diagnostics| {
        print_error(&diagnostics.render(context.global.color()));
        Failure::new(Class::Input, format!("the recipe `{recipe}` cannot be used"))
            .with_help("`nodekiln recipe schema` prints what a recipe may contain; docs/recipes.md explains it")
    })?;
    print_error(&loaded.warnings.render(context.global.color()));
    Ok(loaded)
}

fn list(json: bool) -> Result<()> {
    let recipes = library::recipes();
    if json {
        return print_json(&recipes);
    }
    let width = recipes.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    for recipe in recipes {
        let part = if recipe.complete { "" } else { " (a part)" };
        print(&format!("{:<width$}  {}{part}\n", recipe.name, recipe.description))?;
    }
    Ok(())
}

/// What the providers called `names` bring.
fn terms(names: &[String], context: &Context) -> Result<Vec<ForProvider>> {
    let progress = renderer(context.global.progress);
    Ok(registry::terms(&registry::chosen(names, &*progress, &context.cancel)?))
}

fn show(loaded: &Loaded, resolved: bool, json: bool) -> Result<()> {
    if json {
        return print_json(&loaded.recipe);
    }
    if resolved {
        return print(&nodekiln_recipes::to_yaml(&loaded.recipe));
    }
    match loaded.sources.first() {
        Some(source) => print(&source.text),
        None => Ok(()),
    }
}

fn check(
    recipe: &str,
    sets: &[String],
    providers: &[ForProvider],
    json: bool,
    context: &Context,
) -> Result<ExitCode> {
    match load::load_for(recipe, sets, providers) {
        Ok(loaded) if json => {
            print_json(
                &serde_json::json!({"name": loaded.recipe.name, "diagnostics": loaded.warnings}),
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(loaded) => {
            print_error(&loaded.warnings.render(context.global.color()));
            let files = loaded.sources.len();
            print(&format!("{}: good ({files} files read)\n", loaded.recipe.name))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(diagnostics) if json => {
            print_json(&serde_json::json!({"name": null, "diagnostics": diagnostics}))?;
            Ok(ExitCode::from(2))
        }
        Err(diagnostics) => {
            print_error(&diagnostics.render(context.global.color()));
            Ok(ExitCode::from(2))
        }
    }
}
