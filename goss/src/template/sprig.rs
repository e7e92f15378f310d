//! What sprig itself makes of templates.

use std::collections::BTreeMap;

use super::{Context, render};

/// Templates, and what sprig 3.2.3 (Debian's golang-github-masterminds-sprig-dev) in Go's text/template makes of them,
/// in a time zone of UTC.
const MADE: &[(&str, &str)] = &[
    (r##"{{$d := dict "a" 1}}{{$_ := set $d "b" 2}}{{$d.a}}{{$d.b}}"##, "12"),
    (
        r##"{{$d := dict "a" 1 "b" 2}}{{$_ := unset $d "a"}}{{hasKey $d "a"}}{{hasKey $d "b"}}"##,
        "falsetrue",
    ),
    (
        r##"{{$d := dict}}{{range list "x" "y"}}{{$_ := set $d . true}}{{end}}{{keys $d | sortAlpha | join ","}}"##,
        "x,y",
    ),
    (r##"{{$d := dict "a" 1}}{{"v" | set $d "k"}}{{$d.k}}"##, "map[a:1 k:v]v"),
    (r##"{{set (dict "a" 1) "b" 2}}"##, "map[a:1 b:2]"),
    (
        r##"{{$d := dict "a" (dict "b" 1)}}{{dig "a" "b" 0 $d}}{{dig "a" "c" 7 $d}}{{dig "x" "y" "no" $d}}"##,
        "17no",
    ),
    (
        r##"{{pick (dict "a" 1 "b" 2 "c" 3) "a" "c" "z"}} {{omit (dict "a" 1 "b" 2) "a" "z"}} {{pluck "a" (dict "a" 1) (dict "b" 2) (dict "a" 3)}}"##,
        "map[a:1 c:3] map[b:2] [1 3]",
    ),
    (
        r##"{{$a := dict "a" 1 "b" (dict "c" 1) "e" "" "f" (list 1) "h" false}}{{$b := merge $a (dict "a" 2 "b" (dict "c" 2 "d" 3) "e" "x" "f" (list 2) "g" nil "h" true)}}{{toJson $b}} {{toJson $a}}"##,
        r##"{"a":1,"b":{"c":1,"d":3},"e":"x","f":[1],"h":true} {"a":1,"b":{"c":1,"d":3},"e":"x","f":[1],"h":true}"##,
    ),
    (
        r##"{{$a := dict "a" 1 "b" (dict "c" 1) "e" "y" "f" (list 1) "h" true}}{{$b := mergeOverwrite $a (dict "a" 2 "b" (dict "c" 2 "d" 3) "e" "" "f" (list 2) "g" nil "h" false)}}{{toJson $b}} {{toJson $a}}"##,
        r##"{"a":2,"b":{"c":2,"d":3},"e":"","f":[2],"g":null,"h":false} {"a":2,"b":{"c":2,"d":3},"e":"","f":[2],"g":null,"h":false}"##,
    ),
    (r##"{{$a := dict "a" 1}}{{$b := deepCopy $a}}{{$_ := set $b "a" 2}}{{$a.a}}{{$b.a}}"##, "12"),
    (
        r##"{{$j := fromJson "{\"a\": [1, 2.5, \"x\"], \"b\": null}"}}{{index $j.a 0}} {{index $j.a 1}} {{$j.a}} {{kindOf (index $j.a 0)}}"##,
        "1 2.5 [1 2.5 x] float64",
    ),
    (
        r##"{{toJson "<a&b>"}}|{{toPrettyJson (dict "a" (list 1 "<") "b" (dict) "c" (list))}}"##,
        r##""\u003ca\u0026b\u003e"|{
  "a": [
    1,
    "\u003c"
  ],
  "b": {},
  "c": []
}"##,
    ),
    ("{{toJson (list 1 2.5 true nil)}}", "[1,2.5,true,null]"),
    (
        r##"{{reverse (list 1 2 3)}} {{initial (list 1 2 3)}} {{prepend (list 1) 0}} {{compact (list 1 0 "" "a" nil false)}} {{chunk 2 (list 1 2 3 4 5)}} {{chunk 2 (list)}} {{without (list 1 2 3 2) 2}} {{without (list "a" "b") "a" "b"}}"##,
        "[3 2 1] [1 2] [0 1] [1 a] [[1 2] [3 4] [5]] [] [1 3] []",
    ),
    (
        r##"{{any 0 "" 1}} {{any 0 ""}} {{all 1 "a"}} {{all 1 ""}} {{any}} {{all}}"##,
        "true false true false false true",
    ),
    (
        r##"{{kindIs "string" "a"}} {{kindOf 1}} {{kindOf 1.5}} {{kindOf (list)}} {{kindOf (dict)}} {{kindOf true}} {{typeOf "a"}} {{typeOf 1}} {{typeOf (list)}} {{typeOf (dict)}} {{typeIs "int" 1}} {{typeOf 1.5}} {{typeOf true}} {{kindOf nil}} {{typeOf nil}}"##,
        "true int float64 slice map bool string int []interface {} map[string]interface {} true float64 bool invalid <nil>",
    ),
    (
        r##"{{splitn "/" 2 "a/b/c"}} {{(splitn "/" 2 "a/b/c")._1}} {{splitn "/" 9 "a/b"}} {{splitn "/" 0 "a"}} {{splitn "/" -1 "a/b/c"}} {{splitn "" 2 "abc"}}"##,
        "map[_0:a _1:b/c] b/c map[_0:a _1:b] map[] map[_0:a _1:b _2:c] map[_0:a _1:bc]",
    ),
    (
        r##"{{(semver "v1.2.3-rc.1+b5").Major}} {{(semver "1.2.3-rc.1+b5").Minor}} {{(semver "1.2.3-rc.1+b5").Patch}} {{(semver "1.2.3-rc.1+b5").Prerelease}} {{(semver "1.2.3-rc.1+b5").Metadata}} {{(semver "v1.2").Original}}"##,
        "1 2 3 rc.1 b5 v1.2",
    ),
    (
        r##"{{regexReplaceAllLiteral "a(x*)b" "-ab-axxb-" "${1}"}} {{regexSplit "z+" "pizza" -1}} {{regexSplit "z+" "pizzazz" 2}} {{regexSplit "z" "" -1}} {{regexSplit "z" "pizza" 0}} {{regexSplit "" "abc" -1}} {{regexSplit "^p" "pizza" -1 | toJson}} {{regexFindAll "[2,4,6,8]" "123456789" -1}} {{regexFindAll "a*" "baac" -1 | toJson}} {{regexFindAll "a" "aaa" 2}} {{regexFindAll "a" "aaa" 0}}"##,
        r##"-${1}-${1}- [pi a] [pi azz] [] [] [a b c] ["","izza"] [2 4 6 8] ["","aa",""] [a a] []"##,
    ),
    (
        r##"{{cat "a" 1 nil true}} {{cat}}|{{base "/a/b.txt"}} {{base "a/"}} {{base ""}} {{base "//"}} {{dir "/a/b"}} {{dir "a"}} {{dir ""}} {{dir "/a//b/"}} {{ext "a/b.tar.gz"}} {{ext "b"}}"##,
        "a 1 true |b.txt a . / /a . . /a/b .gz ",
    ),
    (
        r##"{{ceil 1.2}} {{ceil "-1.2"}} {{floor 1.8}} {{floor -1.2}} {{round 123.5555 3}} {{round 123.5555 3 0.9}} {{round -1.5 0}} {{round "2.5" 0}} {{round 2 1}}"##,
        "2 -1 1 -2 123.556 123.555 -2 3 2",
    ),
    (
        r##"{{float64 "3.5"}} {{float64 2}} {{float64 "x"}} {{float64 true}} {{printf "%.2f" (float64 "1.005")}}"##,
        "3.5 2 0 1 1.00",
    ),
    (
        r##"{{toStrings (list 1 "a" nil 2.5)}} {{toStrings "x"}} {{trimall "$" "$5.00$"}} {{sha256sum "hello"}} {{swapcase "aBc dE"}} {{plural "one" "many" 1}} {{plural "one" "many" 0}}"##,
        "[1 a 2.5] [x] 5.00 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 AbC De one many",
    ),
    (r##"{{12 | plural "one anchovy" "many anchovies"}}"##, "many anchovies"),
    (
        r##"{{date "2006-01-02 15:04:05 Mon Monday Jan January 2 _2 1 06 3 03 PM pm MST -0700 -07:00 Z07:00 Z0700 4 5 002 .000" 1700000000}}"##,
        "2023-11-14 22:13:20 Tue Tuesday Nov November 14 14 11 23 10 10 PM pm UTC +0000 +00:00 Z Z 13 20 318 .000",
    ),
    (r##"{{date "Janet Monty 20060102" 0}}"##, "Janet Monty 19700101"),
    (
        r##"{{dir "../a/../../b/c"}} {{dir "/../a/b"}} {{base "a/b/"}} {{ext "/a.b/c"}}"##,
        "../../b /a b ",
    ),
    (
        r##"{{splitn "," 3 "a,b,c,d"}} {{splitn "," 1 "a,b"}} {{(splitn ":" 2 "k:v:w")._1}}"##,
        "map[_0:a _1:b _2:c,d] map[_0:a,b] v:w",
    ),
    (
        r##"{{$d := dict}}{{if true}}{{$_ := set $d "x" (list 1)}}{{end}}{{$_ := set $d "y" (index $d.x 0)}}{{toJson $d}}"##,
        r##"{"x":[1],"y":1}"##,
    ),
    (r##"{{$d := dict "n" (dict)}}{{with $d}}{{$_ := set $d "z" 1}}{{end}}{{$d.z}}"##, "1"),
    (
        "{{without (list) 1}} {{initial (list)}} {{reverse (list)}} {{toStrings (list)}} {{chunk 3 (list 1 2 3)}}",
        "[] [] [] [] [[1 2 3]]",
    ),
    (
        r##"{{date "2006-01-02T15:04:05Z07:00" 86399}} {{date "Jan _2 15:04" 0}} {{date "2006_2 3:4:5PM" 3661}}"##,
        "1970-01-01T23:59:59Z Jan  1 00:00 1970 1 1:1:1AM",
    ),
];

fn made(source: &str, environment: Option<BTreeMap<String, String>>) -> Result<String, String> {
    let vars = serde_json::json!({"map": {"a": 1}});
    let context = Context { vars, environment, ..Context::default() };
    let rendered = render(source, &"t.yaml".into(), &context);
    rendered.map(|rendered| rendered.text).map_err(|problem| format!("{problem} {}", problem.help))
}

#[test]
fn templates_become_what_sprig_makes_of_them() {
    for (source, expected) in MADE {
        assert_eq!(made(source, None).as_deref(), Ok(*expected), "{source}");
    }
}

#[test]
fn what_cannot_be_changed_in_place_is_told() {
    for source in [
        "{{$_ := set .Vars.map \"b\" 2}}",
        "{{$_ := set $.Vars.map \"b\" 2}}",
        "{{$d := dict \"m\" (dict)}}{{$_ := unset $d.m \"b\"}}",
        "{{$d := dict}}{{if set $d \"a\" 1}}{{end}}",
        "{{$d := dict}}{{set $d \"a\" 1 | toJson}}",
    ] {
        let told = made(source, None).unwrap_err();
        assert!(told.contains("only a mapping in a variable"), "{source}: {told}");
    }
    assert!(made("{{$d := 1}}{{$_ := set $d \"a\" 1}}", None).unwrap_err().contains("no mapping"));
}

#[test]
fn the_clock_is_asked_where_a_file_does_and_the_environment_where_it_may_be() {
    let today = made("{{now | date \"2006\"}} {{date \"2006\" \"no time\"}}", None).unwrap();
    let (one, other) = today.split_once(' ').unwrap();
    assert!(one == other && one.parse::<u32>().unwrap() > 2024, "{today}");
    let source = "{{expandenv \"$HOME/${A_B}x$$NONE-$\"}}";
    let pairs = [("HOME", "/root"), ("A_B", "y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(made(source, Some(pairs.into())).as_deref(), Ok("/root/yxNONE-$"));
    assert!(made(source, None).unwrap_err().contains("environment"));
}
