//! The list of public incidents, held against the corpora of files and of answers; those of disks and of guests are
//! in `tests/it/incidents.rs`.

use std::collections::BTreeSet;

use serde::Deserialize;

#[derive(Deserialize)]
struct List {
    incident: Vec<Incident>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incident {
    id: String,
    what: String,
    corpora: Vec<String>,
    /// Why no mutation stands for it.
    why: Option<String>,
}

fn incidents() -> Vec<Incident> {
    let text = fs_err::read_to_string("incidents.toml").unwrap();
    toml::from_str::<List>(&text).unwrap().incident
}

#[test]
fn each_incident_is_told_once_with_its_corpora_or_a_reason() {
    let mut ids = BTreeSet::new();
    for Incident { id, what, corpora, why } in incidents() {
        assert!(ids.insert(id.clone()) && !what.is_empty(), "{id}");
        assert_eq!(corpora.is_empty(), why.is_some(), "{id}");
        let known = ["files", "answers", "disks", "guests"];
        assert!(corpora.iter().all(|corpus| known.contains(&&**corpus)), "{id}: {corpora:?}");
    }
}

#[test]
fn the_corpora_of_files_and_answers_stand_for_the_incidents_of_the_list() {
    for (corpus, found) in [
        ("files", crate::at_rest::corpus::incidents()),
        ("answers", crate::checks::corpus::incidents()),
    ] {
        let listed = incidents();
        let listed = listed.iter().filter(|one| one.corpora.iter().any(|name| name == corpus));
        let listed: BTreeSet<&str> = listed.map(|one| &*one.id).collect();
        assert_eq!(listed, found, "{corpus}");
    }
}
