//! The plan of a kit: what it shares with that of the image, and what changes it.

use nodekiln_recipes::plan::Plan;
use nodekiln_recipes::recipe::{KubernetesSource, Recipe};
use nodekiln_recipes::{
    CONFORMANCE_IMAGES, CONFORMANCE_SUITE, Lock, conformance_plan_of, load, plan_of, tree_name,
};
use nodekiln_words::{Class, Sha256};

use crate::planning;

fn lock() -> Lock {
    let mut lock = planning::lock();
    let tools = lock.trees[tree_name::CONTROL_PLANE].clone();
    lock.trees.insert(tree_name::CONFORMANCE.to_owned(), tools);
    lock
}

fn recipe() -> Recipe {
    load("quickstart", &[]).unwrap().recipe
}

fn plan(lock: &Lock, images: &[&str]) -> Plan {
    let images: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
    conformance_plan_of(&recipe(), lock, &images).unwrap()
}

fn id(plan: &Plan, name: &str) -> String {
    plan.node(name).unwrap().id.to_string()
}

#[test]
fn the_compilers_tree_is_that_of_the_image() {
    let image = plan_of(&recipe(), &lock(), &["qemu"], &|_| Ok(Sha256::of("x"))).unwrap();
    let kit = plan(&lock(), &["x/pause:1"]);
    assert_eq!(id(&kit, tree_name::COMPILER), id(&image, tree_name::COMPILER));
    assert!(image.node(CONFORMANCE_SUITE).is_none(), "an image's plan has no suite");
}

#[test]
fn another_list_of_images_compiles_nothing_anew() {
    let (one, other) = (plan(&lock(), &["x/pause:1"]), plan(&lock(), &["x/pause:2"]));
    assert_eq!(id(&one, CONFORMANCE_SUITE), id(&other, CONFORMANCE_SUITE));
    assert_ne!(id(&one, CONFORMANCE_IMAGES), id(&other, CONFORMANCE_IMAGES));
    let mut moved = lock();
    for file in moved.files.values_mut() {
        file.sha256 = Sha256::of("other sources");
    }
    let moved = plan(&moved, &["x/pause:1"]);
    assert_ne!(id(&one, CONFORMANCE_SUITE), id(&moved, CONFORMANCE_SUITE));
    assert_ne!(id(&one, CONFORMANCE_IMAGES), id(&moved, CONFORMANCE_IMAGES));
}

#[test]
fn a_recipe_without_sources_is_told_the_other_way() {
    let mut recipe = recipe();
    if let Some(kubernetes) = &mut recipe.kubernetes {
        kubernetes.source = KubernetesSource::Directory { path: "/k8s".into() };
    }
    let failure = conformance_plan_of(&recipe, &lock(), &[]).unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    assert!(failure.help().unwrap().contains("--suite"), "{failure:?}");
}
