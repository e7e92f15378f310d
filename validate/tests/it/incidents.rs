//! The list of public incidents, held against the corpora of disks and of guests.

use std::collections::BTreeSet;

use crate::{disk_mutations, guest_mutations};

#[test]
fn the_corpora_of_disks_and_guests_stand_for_the_incidents_of_the_list() {
    let text = std::fs::read_to_string("incidents.toml").unwrap();
    let list: toml::Table = toml::from_str(&text).unwrap();
    let listed = |corpus: &str| -> BTreeSet<String> {
        let named = |one: &&toml::Value| {
            one["corpora"].as_array().unwrap().iter().any(|name| name.as_str() == Some(corpus))
        };
        let incidents = list["incident"].as_array().unwrap().iter().filter(named);
        incidents.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let disks = disk_mutations::incidents().into_iter().map(str::to_owned).collect();
    assert_eq!(listed("disks"), disks);
    assert_eq!(listed("guests"), guest_mutations::incidents());
}
