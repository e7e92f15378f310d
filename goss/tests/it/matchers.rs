//! Every matcher, on values that it takes, does not take and cannot be asked of. The outcomes are those that goss's
//! manual tells of, and where it is silent those of goss 0.4's matchers.

use nodekiln_goss::{Dialect, Mismatch, Open, Verdict, judge};

use crate::fake::{Nothing, failure, suite_of};

/// Judges `content` by `matches`, both YAML in one line.
fn verdict(content: &str, matches: &str, dialect: Dialect) -> Verdict {
    let text = format!("matching:\n  x:\n    content: {content}\n    matches: {matches}\n");
    let suite = suite_of(&text, dialect).unwrap_or_else(|failure| panic!("{failure:?}"));
    judge(&suite.resources[0], &Nothing).results.remove(0).verdict
}

fn mismatch(content: &str, matches: &str) -> Mismatch {
    match verdict(content, matches, Dialect::Goss04) {
        Verdict::Fail(mismatch) => mismatch,
        other => panic!("{content} against {matches}: {other:?}"),
    }
}

/// Content, matcher, and whether it holds.
const GOLDEN: &[(&str, &str, bool)] = &[
    // Equality and its transforms.
    ("foo", "foo", true),
    ("foo", "Foo", false),
    ("42", "'42'", true),
    ("42", "42", true),
    ("42", "42.0", true),
    ("'42'", "42", true),
    ("' 42 '", "42", true),
    ("42", "43", false),
    ("42.5", "42.5", true),
    ("true", "true", true),
    ("true", "false", false),
    ("true", "'true'", true),
    ("'true'", "true", false),
    ("[a, b]", "\"a\\nb\"", true),
    ("[7]", "{equal: [7.0]}", true),
    // The example of the manual: a number as a text and as a number.
    (
        "42",
        "{and: ['42', {have-prefix: '4'}, {have-suffix: '2'}, {match-regexp: '\\d{2}'}, {contain-substring: '2'}]}",
        true,
    ),
    ("'42'", "{and: [42, 42.0, {gt: 40}, {lt: 45}]}", true),
    // Texts.
    ("foobar", "{have-prefix: foo}", true),
    ("foobar", "{have-prefix: bar}", false),
    ("foobar", "{have-suffix: bar}", true),
    ("foobar", "{have-suffix: foo}", false),
    ("foobar", "{contain-substring: oba}", true),
    ("foobar", "{contain-substring: abo}", false),
    ("foobar", "{match-regexp: '^f.*r$'}", true),
    ("foobar", "{match-regexp: '^o'}", false),
    ("1.20.2-00", "{match-regexp: '^\\Q1.20.2-00\\E$'}", true),
    ("1x20y2-00", "{match-regexp: '^\\Q1.20.2-00\\E$'}", false),
    // Numbers.
    ("'128'", "{gt: 127}", true),
    ("'128'", "{gt: 128}", false),
    ("'128'", "{ge: 128}", true),
    ("'128'", "{ge: 129}", false),
    ("'128'", "{lt: 129}", true),
    ("'128'", "{lt: 128}", false),
    ("'128'", "{le: 128}", true),
    ("'128'", "{le: 127.5}", false),
    // Lists.
    ("[group1, group2, group3]", "[group1, group2]", true),
    ("[group1, group2, group3]", "[group1, group2, group2]", false),
    ("[group1, group2]", "[group3]", false),
    ("[foo, bar, moo]", "{contain-elements: [foo, bar]}", true),
    ("[foo, bar, moo]", "{contain-elements: [foo, baz]}", false),
    ("[foo, bar, moo]", "{equal: [foo, bar, moo]}", true),
    ("[foo, bar, moo]", "{equal: [bar, foo, moo]}", false),
    ("[foo, bar, moo]", "{consist-of: [foo, {have-prefix: m}, bar]}", true),
    ("[foo, bar, moo]", "{consist-of: [foo, bar]}", false),
    ("[foo, bar]", "{consist-of: [foo, bar, moo]}", false),
    ("[foo, bar, moo]", "{contain-element: {have-prefix: b}}", true),
    ("[foo, bar, moo]", "{contain-element: {have-prefix: x}}", false),
    ("[1, 2]", "{contain-element: 2}", true),
    ("\"a\\nb\\n\"", "{contain-element: b}", true),
    ("\"a\\nb\\n\"", "{consist-of: [b, a]}", true),
    // The one that fits many must not take the element of the one that fits few.
    ("[ab, a]", "{contain-elements: [{have-prefix: a}, ab]}", true),
    ("[a, ab, abc]", "{consist-of: [{have-prefix: a}, {have-prefix: ab}, abc]}", true),
    ("[ab, ab]", "{consist-of: [{have-prefix: a}, a]}", false),
    // Lengths and keys.
    ("[a, b, c]", "{have-len: 3}", true),
    ("[a, b, c]", "{have-len: 2}", false),
    ("abc", "{have-len: 3}", true),
    ("{a: 1}", "{have-len: 1}", true),
    ("{foo: bar, baz: bing}", "{and: [{have-key: baz}]}", true),
    ("{foo: bar}", "{have-key: bar}", false),
    ("{foo: bar}", "{have-key: {have-prefix: f}}", true),
    ("{foo: 1, bar: baz}", "{have-key-with-value: {foo: 1, bar: baz}}", true),
    ("{foo: 1, bar: baz}", "{have-key-with-value: {foo: 2}}", false),
    ("{foo: 1}", "{have-key-with-value: {bar: 1}}", false),
    // Logic.
    ("foo", "{not: bar}", true),
    ("foo", "{not: foo}", false),
    ("foo", "{not: {have-prefix: f}}", false),
    ("foo", "{and: [{have-prefix: f}, {have-suffix: o}]}", true),
    ("foo", "{and: [{have-prefix: f}, {have-suffix: x}]}", false),
    ("foo", "{or: [bar, foo]}", true),
    ("foo", "{or: [bar, baz]}", false),
    ("foo", "{not: {or: [bar, baz]}}", true),
    // Lines.
    ("\"one\\ntwo\\n\"", "{have-patterns: [one, '/^tw/', '!three']}", true),
    ("\"one\\ntwo\\n\"", "{have-patterns: ['!two']}", false),
    ("[one, two]", "{have-patterns: ['/^one$/']}", true),
    // Versions, as in the manual.
    ("[1.0.1, 1.9.9]", "{semver-constraint: '>1.0.0 <2.0.0 !=1.5.0'}", true),
    ("[1.0.1, 1.5.0, 1.9.9]", "{not: {semver-constraint: '>1.0.0 <2.0.0 !=1.5.0'}}", true),
    ("1.0.1", "{semver-constraint: '>5.0.0 || < 1.5.0'}", true),
    ("1.0.1", "{semver-constraint: '>5.0.0'}", false),
    // JSON, as in the manual (with its missing colon).
    (
        JSON,
        "{gjson: {moo.nested: cow, foo: {have-prefix: b}, count: {le: 25}, '@this': {have-key: foo}}}",
        true,
    ),
    (JSON, "{gjson: {moo: {and: [{have-key: nested}, {not: {have-key: nested2}}]}}}", true),
    (JSON, "{gjson: {foo: baz}}", false),
];

const JSON: &str = r#"'{"foo": "bar", "moo": {"nested": "cow"}, "count": "15"}'"#;

#[test]
fn outcomes_are_those_of_the_manual() {
    for (content, matches, expected) in GOLDEN {
        let holds = verdict(content, matches, Dialect::Goss04) == Verdict::Pass;
        assert_eq!(holds, *expected, "{content} against {matches}");
    }
}

#[test]
fn what_cannot_be_asked_fails_also_under_not() {
    for (content, matches, because) in [
        ("abc", "{gt: 5}", "\"abc\" is no number"),
        ("abc", "{not: {gt: 5}}", "\"abc\" is no number"),
        ("true", "5", "a boolean is no number"),
        ("5", "{contain-element: a}", "a number is no list"),
        ("5", "{not: {have-len: 1}}", "a number has no length"),
        ("[a]", "{not: {have-key: a}}", "a list has no keys"),
        ("v1", "{not: {semver-constraint: '>1.0.0'}}", "`v1` is no version"),
        ("[]", "{semver-constraint: '>1.0.0'}", "a list is no version"),
        ("abc", "{not: {gjson: {a: b}}}", "not JSON"),
        (JSON, "{not: {gjson: {gone: b}}}", "nothing stands at \"gone\""),
        ("[a, 1]", "{not: {contain-element: {gt: 5}}}", "\"a\" is no number"),
    ] {
        let found = mismatch(content, matches).because.unwrap_or_default();
        assert!(found.contains(because), "{content} against {matches}: {found}");
    }
}

#[test]
fn a_mismatch_tells_wanted_and_found_and_why() {
    let found = mismatch("'128'", "{gt: 200}");
    assert_eq!(found.to_string(), r#"wanted {"gt":200}, found "128""#);
    let found = mismatch("[a, b]", "[a, c, {have-prefix: d}]");
    assert_eq!(
        found.to_string(),
        r#"wanted ["a","c",{"have-prefix":"d"}], found ["a","b"] (nothing fits wanted elements 2, 3)"#
    );
    let found = mismatch("\"one\\ntwo\"", "{have-patterns: [one, '!two', four]}");
    assert_eq!(found.because.unwrap(), "line 2 is \"two\", against `!two`; no line fits `four`");
    assert!(mismatch(&"x".repeat(5000), "y").found.len() < 700);
}

#[test]
fn the_older_dialect_lets_an_element_stand_for_several() {
    assert_eq!(verdict("[root]", "[root, root]", Dialect::Goss03), Verdict::Pass);
    assert_ne!(verdict("[root]", "[root, root]", Dialect::Goss04), Verdict::Pass);
    assert_ne!(verdict("[root]", "[root, adm]", Dialect::Goss03), Verdict::Pass);
}

#[test]
fn what_is_not_supported_is_skipped_with_the_reason() {
    for matches in [
        "{gjson: {'list.#(a==1)': 1}}",
        "{gjson: {n: 7, 'list.#(a==1)': 1}}",
        "{not: {gjson: {'list.#(a==1)': 1}}}",
        "{and: [{gjson: {'list.#(a==1)': 1}}, {have-len: 20}]}",
        "{or: [{gjson: {'list.#(a==1)': 1}}, {have-len: 1}]}",
        "{contain-elements: [{gjson: {'list.#(a==1)': 1}}]}",
        "{contain-element: {gjson: {'list.#(a==1)': 1}}}",
    ] {
        match verdict(QUERIED, matches, Dialect::Goss04) {
            Verdict::Skipped { reason, open: Open::Everywhere } => {
                assert!(reason.contains("queries"), "{reason}");
            }
            other => panic!("{matches}: {other:?}"),
        }
    }
}

const QUERIED: &str = r#"'{"list": [], "n": 7}'"#;

#[test]
fn what_can_be_told_wrong_is_told_beside_what_is_not_supported() {
    for (content, matches) in [
        (QUERIED, "{gjson: {'list.#(a==1)': 1, n: 8}}"),
        (QUERIED, "{gjson: {'gone.#(a==1)': 1}}"),
        (QUERIED, "{and: [{gjson: {'list.#(a==1)': 1}}, {have-len: 1}]}"),
        (QUERIED, "{contain-elements: [{gjson: {'list.#(a==1)': 1}}, {have-prefix: x}]}"),
        (QUERIED, "{consist-of: [{gjson: {'list.#(a==1)': 1}}, {have-prefix: '{'}]}"),
        ("no JSON", "{gjson: {'list.#(a==1)': 1}}"),
    ] {
        let said = verdict(content, matches, Dialect::Goss04);
        assert!(matches!(said, Verdict::Fail(_)), "{matches}: {said:?}");
    }
    let either = "{or: [{gjson: {'list.#(a==1)': 1}}, {have-len: 20}]}";
    assert_eq!(verdict(QUERIED, either, Dialect::Goss04), Verdict::Pass);
}

#[test]
fn matchers_that_are_wrong_are_told_at_their_place() {
    let wrong = |matches: &str| {
        failure(&format!("matching:\n  x:\n    content: 1\n    matches: {matches}\n"))
    };
    for (matches, message, help) in [
        (
            "{have-prefx: a}",
            "goss.yaml:4:15: `have-prefx` is no matcher",
            "did you mean `have-prefix`?",
        ),
        ("{gt: 1, lt: 3}", "goss.yaml:4:14: several matchers", "`and: [...]`"),
        ("{gt: a}", "goss.yaml:4:19: `gt` has a text", "give it a number"),
        ("{and: {gt: 1}}", "goss.yaml:4:20: `and` has a mapping", "a list of matchers"),
        ("{have-prefix: 4}", "goss.yaml:4:28: `have-prefix` has a number", "in quotes"),
        ("{match-regexp: 'a('}", "goss.yaml:4:29: `a(` is no regular expression", "RE2"),
        ("{have-len: -1}", "goss.yaml:4:25: `have-len` has a number", "a whole number"),
        ("{semver-constraint: '~1'}", "goss.yaml:4:34: `~1` is no version constraint", ">=1.2.0"),
        (
            "{have-patterns: [[a]]}",
            "goss.yaml:4:31: a list stands in place of a pattern",
            "one text",
        ),
        ("{}", "goss.yaml:4:14: an empty mapping", "write what is wanted"),
        ("{not: }", "goss.yaml:4:", "write what is wanted"),
    ] {
        let (found, remedy) = wrong(matches);
        assert!(found.starts_with(message), "{matches}: {found}");
        assert!(remedy.contains(help), "{matches}: {remedy}");
    }
}
