//! The library's images, resolved, in `recipes/golden/`.

use nodekiln_recipes::{library, load, to_yaml};

use crate::snapshot;

fn images() -> impl Iterator<Item = &'static str> {
    library::recipes().into_iter().filter(|recipe| recipe.complete).map(|recipe| recipe.name)
}

#[test]
fn resolved_library_recipes_are_as_reviewed() {
    for name in images() {
        let loaded =
            load(name, &[]).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
        snapshot::check(&format!("golden/{name}.yaml"), &to_yaml(&loaded.recipe));
    }
}

#[test]
fn a_resolved_recipe_loads_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    for name in images() {
        let recipe = load(name, &[]).unwrap().recipe;
        let path = folder.path().join("resolved.yaml");
        std::fs::write(&path, to_yaml(&recipe)).unwrap();
        let again = load(path.to_str().unwrap(), &[]);
        let again = again.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert_eq!(again.recipe, recipe, "{name}");
        assert_eq!(again.sources.len(), 1);
    }
}
