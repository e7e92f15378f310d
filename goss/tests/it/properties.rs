//! Laws that hold for whatever is written: matchers, patterns, and readers that never panic.

use nodekiln_goss::{Overall, judge, rules};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::fake::{Nothing, suite};

/// Whether `content` is as `matches` wants it; `None` where that cannot be asked.
fn holds(content: &Json, matches: &Json) -> bool {
    // JSON is YAML, and goss files may be either.
    let text = json!({ "matching": { "x": { "content": content, "matches": matches } } });
    // Two braces would begin an action of a template.
    let text = text.to_string().replace("{{", "{\\u007b");
    let suite = suite(&text).unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
    judge(&suite.resources[0], &Nothing).overall() == Overall::Pass
}

fn word() -> impl Strategy<Value = String> {
    "[a-c]{1,2}"
}

/// Wanted elements: a word itself, or words that begin with one.
fn element() -> impl Strategy<Value = Json> {
    prop_oneof![
        word().prop_map(Json::from),
        word().prop_map(|word| json!({ "have-prefix": word })),
        word().prop_map(|word| json!({ "not": word })),
    ]
}

fn fits(wanted: &Json, found: &str) -> bool {
    match (wanted.as_str(), wanted.get("have-prefix"), wanted.get("not")) {
        (Some(word), ..) => found == word,
        (_, Some(prefix), _) => found.starts_with(prefix.as_str().unwrap()),
        (.., Some(word)) => found != word.as_str().unwrap(),
        _ => panic!("{wanted}"),
    }
}

/// By trying all ways: whether each wanted one can have an element of its own.
fn placed(wanted: &[Json], found: &[String], taken: &mut Vec<bool>) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    (0..found.len()).any(|index| {
        if taken[index] || !fits(first, &found[index]) {
            return false;
        }
        taken[index] = true;
        let all = placed(rest, found, taken);
        taken[index] = false;
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elements_are_placed_wherever_that_is_possible(
        found in prop::collection::vec(word(), 1..5),
        wanted in prop::collection::vec(element(), 1..5),
    ) {
        let possible = placed(&wanted, &found, &mut vec![false; found.len()]);
        prop_assert_eq!(holds(&json!(found), &json!({ "contain-elements": wanted })), possible);
        prop_assert_eq!(holds(&json!(found), &json!(wanted)), possible);
        let whole = possible && found.len() == wanted.len();
        prop_assert_eq!(holds(&json!(found), &json!({ "consist-of": wanted })), whole);
    }

    #[test]
    fn logic_is_logic(found in word(), one in element(), other in element()) {
        let (a, b) = (fits(&one, &found), fits(&other, &found));
        let found = json!(found);
        prop_assert_eq!(holds(&found, &json!({ "not": one })), !a);
        prop_assert_eq!(holds(&found, &json!({ "and": [one, other] })), a && b);
        prop_assert_eq!(holds(&found, &json!({ "or": [one, other] })), a || b);
        prop_assert_eq!(holds(&json!([found]), &json!({ "contain-element": one })), a);
    }

    #[test]
    fn numbers_compare_as_numbers_also_as_texts(a in -999i32..999, b in -999i32..999) {
        for found in [json!(a), json!(a.to_string()), json!(format!(" {a}\n"))] {
            prop_assert_eq!(holds(&found, &json!(b)), a == b);
            prop_assert_eq!(holds(&found, &json!({ "gt": b })), a > b);
            prop_assert_eq!(holds(&found, &json!({ "ge": b })), a >= b);
            prop_assert_eq!(holds(&found, &json!({ "lt": b })), a < b);
            prop_assert_eq!(holds(&found, &json!({ "le": b })), a <= b);
        }
        prop_assert!(holds(&json!(a), &json!(a.to_string())));
    }

    #[test]
    fn a_quoted_stretch_means_itself(text in "[ -~]{0,12}", other in "[ -~]{0,12}") {
        prop_assume!(!text.contains("\\E"));
        let wanted = json!({ "match-regexp": format!("^\\Q{text}\\E$") });
        prop_assert!(holds(&json!(text), &wanted));
        prop_assert_eq!(holds(&json!(other), &wanted), text == other);
    }

    #[test]
    fn a_pattern_sees_what_a_line_has(lines in prop::collection::vec("[a-c ]{0,6}", 0..5), part in "[a-c]{1,3}") {
        let text = json!(lines.join("\n"));
        let there = lines.iter().any(|line| line.contains(&part));
        let patterns = |pattern: String| json!({ "have-patterns": [pattern] });
        prop_assert_eq!(holds(&text, &patterns(part.clone())), there);
        prop_assert_eq!(holds(&text, &patterns(format!("!{part}"))), !there);
        prop_assert_eq!(holds(&text, &patterns(format!("/{part}/"))), there);
        prop_assert_eq!(holds(&text, &patterns(format!("!/{part}/"))), !there);
        prop_assert_eq!(holds(&text, &patterns(format!("\\!{part}"))), false);
    }

    #[test]
    fn texts_and_lengths(found in "[a-c]{0,6}", part in "[a-c]{0,3}") {
        let content = json!(found);
        prop_assert_eq!(holds(&content, &json!({ "have-prefix": part })), found.starts_with(&part));
        prop_assert_eq!(holds(&content, &json!({ "have-suffix": part })), found.ends_with(&part));
        prop_assert_eq!(holds(&content, &json!({ "contain-substring": part })), found.contains(&part));
        prop_assert_eq!(holds(&content, &json!({ "have-len": part.len() })), found.len() == part.len());
        prop_assert_eq!(holds(&content, &json!({ "equal": part })), found == part);
    }

    #[test]
    fn versions_are_ordered(a in (0u8..3, 0u8..3, 0u8..3), b in (0u8..3, 0u8..3, 0u8..3)) {
        let text = |(x, y, z): (u8, u8, u8)| format!("{x}.{y}.{z}");
        let found = json!(text(a));
        for (sign, expected) in
            [(">", a > b), (">=", a >= b), ("<", a < b), ("<=", a <= b), ("=", a == b), ("!=", a != b)]
        {
            let range = json!({ "semver-constraint": format!("{sign}{}", text(b)) });
            prop_assert_eq!(holds(&found, &range), expected);
        }
    }

    #[test]
    fn whatever_is_written_ends_in_resources_or_a_failure_with_a_remedy(text in "[a-z0-9:{}\\[\\]'\"&*<>!|# \n.\\-$/()~]{0,120}") {
        if let Err(failure) = suite(&text).map(|_| ()) {
            prop_assert!(failure.help().is_some(), "{:?}", failure);
        }
        if let Err(problems) = rules::of_text("n", &text).map(|_| ()) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn whatever_a_template_has_in_it_is_rendered_or_refused(
        parts in prop::collection::vec(
            prop_oneof![
                Just("{{if .Vars}}".to_owned()), Just("{{range mkSlice 1 2}}".to_owned()), Just("{{end}}".to_owned()),
                Just("{{- else -}}".to_owned()), Just("{{.Vars.x}}".to_owned()), Just("{{define \"a\"}}".to_owned()),
                Just("{{template \"a\" .}}".to_owned()), Just("{{/*".to_owned()), Just("{{printf \"%d\" 1 | repeat 3}}".to_owned()),
                Just("\n".to_owned()), Just("file: {/a: {exists: false}}\n".to_owned()), "[ -~]{0,8}",
            ],
            0..12,
        )
    ) {
        if let Err(failure) = suite(&parts.concat()).map(|_| ()) {
            prop_assert!(failure.help().is_some(), "{:?}", failure);
        }
    }
}
