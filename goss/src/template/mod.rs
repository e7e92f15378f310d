//! Go templates, in which goss files are written.
//!
//! The language is that of the crate `gotmpl`; here are the functions that goss adds to it, and the places: which line
//! of the template each line of the text comes from, and where an action failed. Templates are rendered on this
//! machine, not in the guest, so neither its environment nor its files are in them unless asked for.

mod changes;
mod clock;
mod convert;
mod expressions;
mod functions;
mod lists;
mod locate;
mod mappings;
mod numbers;
#[cfg(test)]
mod sprig;
mod texts;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use gotmpl::parse::{ListNode, Node, Parser};
use gotmpl::{MissingKey, Template, TemplateError, Value};
use serde_json::Value as Json;

use crate::place::{Place, Problem};
use crate::yaml::LARGEST;

/// Rounds of `range` in one rendering; image-builder's files need some hundred.
const MOST_ROUNDS: u64 = 1_000_000;
/// What the template itself is called among those that it defines.
const MAIN: &str = "the file itself";
/// Stand around the number of a line of the template, at the line's start, in the text that is rendered. Both are
/// private-use characters that no language has a use for.
const MARK: (char, char) = ('\u{f8fe}', '\u{f8ff}');

/// What a template can see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// `.Vars`, a mapping.
    pub(crate) vars: Json,
    /// `.Env` and `getEnv`; `None` where templates may not see it.
    pub(crate) environment: Option<BTreeMap<String, String>>,
    /// Where relative paths of `readFile` start; `None` where templates may not read files.
    pub(crate) files: Option<PathBuf>,
}

/// A rendered text.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// For each line, from 0, its line in the template from 1 and whether it stands there as it is.
    pub(crate) lines: Vec<(usize, bool)>,
}

/// Renders the template `source` of the file `file`.
///
/// # Errors
/// Where it is no template, or an action fails, with the action's place.
pub(crate) fn render(
    source: &str,
    file: &Arc<str>,
    context: &Context,
) -> Result<Rendered, Problem> {
    let (mut main, mut defined) = Parser::new(source, "{{", "}}")
        .and_then(Parser::parse)
        .map_err(|error| no_template(source, file, &error))?;
    for tree in std::iter::once(&mut main).chain(defined.iter_mut().map(|one| &mut one.body)) {
        mark_lines(tree, source);
        changes::spread(tree);
    }
    let mut template = Template::new(file)
        .missing_key(MissingKey::Error)
        .max_range_iters(MOST_ROUNDS)
        .funcs(functions::all(context));
    for one in defined {
        template = template.add_parse_tree(&one.name, one.body);
    }
    let data = convert::root(context);
    let run = |tree: ListNode| {
        let mut out = Bounded(String::new());
        let template = template.clone().add_parse_tree(MAIN, tree);
        template.execute_template_fmt(&mut out, MAIN, &data).map(|()| out.0)
    };
    match run(main.clone()) {
        Ok(text) => Ok(unmarked(&text, source)),
        Err(error) => {
            let offset = locate::failing(&main, &|tree| run(tree).is_err());
            let place = place_at(source, file, offset);
            Err(Problem::new(&place, format!("template: {error}"), remedy(&error, context)))
        }
    }
}

/// Text up to the size that is read afterwards.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The marks count too; they are a few bytes a line.
        if self.0.len() + text.len() > 2 * LARGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Puts the number of the line that begins there behind each line feed in the text between actions.
fn mark_lines(list: &mut ListNode, source: &str) {
    for node in &mut list.nodes {
        match node {
            Node::Text(text) => {
                let rest = source.get(text.pos.offset..).unwrap_or_default();
                // What `-}}` trims in front of the text may lie between.
                let start = text.pos.offset + rest.find(&*text.text).unwrap_or(0);
                let mut line = 1 + source.get(..start).unwrap_or_default().matches('\n').count();
                let mut marked = String::with_capacity(text.text.len() * 2);
                for c in text.text.chars() {
                    marked.push(c);
                    if c == '\n' {
                        line += 1;
                        marked.push_str(&format!("{}{line}{}", MARK.0, MARK.1));
                    }
                }
                text.text = marked.into();
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                mark_lines(&mut branch.body, source);
                if let Some(other) = &mut branch.else_body {
                    mark_lines(other, source);
                }
            }
            Node::List(list) => mark_lines(list, source),
            Node::Define(define) => mark_lines(&mut define.body, source),
            Node::Action(_) | Node::Template(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

/// Takes the marks out again.
fn unmarked(text: &str, source: &str) -> Rendered {
    let originals: Vec<&str> = source.lines().collect();
    let mut clean = String::with_capacity(text.len());
    let mut lines = Vec::new();
    let mut known = 1;
    for line in text.split_inclusive('\n') {
        let mark = line
            .strip_prefix(MARK.0)
            .and_then(|line| line.split_once(MARK.1))
            .and_then(|(number, body)| Some((number.parse::<usize>().ok()?, body)));
        // A line that begins within a value stands where the value does.
        let (number, body) = mark.unwrap_or((known, line));
        known = number;
        let original = originals.get(number.saturating_sub(1));
        let body_alone = body.strip_suffix('\n').unwrap_or(body);
        lines.push((number, original.is_some_and(|original| *original == body_alone)));
        clean.push_str(body);
    }
    Rendered { text: clean, lines }
}

fn place_at(source: &str, file: &Arc<str>, offset: usize) -> Place {
    let before = source.get(..offset).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    Place { file: file.clone(), line, column }
}

fn no_template(source: &str, file: &Arc<str>, error: &TemplateError) -> Problem {
    let help = "see the syntax of Go's text/template; write `{{\"{{\"}}` for two braces that mean themselves";
    match error {
        TemplateError::Parse { line, col, message, .. }
        | TemplateError::Lex { line, col, message, .. } => {
            let place = Place { file: file.clone(), line: *line, column: *col };
            Problem::new(&place, format!("not a template: {message}"), help)
        }
        other => Problem::new(&place_at(source, file, 0), format!("not a template: {other}"), help),
    }
}

fn remedy(error: &TemplateError, context: &Context) -> String {
    match error {
        TemplateError::MissingKey { key } if key == "Env" && context.environment.is_none() => {
            functions::ENVIRONMENT_IS_OFF.to_owned()
        }
        TemplateError::MissingKey { key } => {
            format!("give `{key}` a value in the file of variables")
        }
        TemplateError::UndefinedFunction(_) => {
            format!("functions that there are: {}", functions::names().join(", "))
        }
        TemplateError::Write => format!("the text grows beyond {LARGEST} bytes; split the file"),
        TemplateError::Exec(text) if text.contains("nil") => {
            "a value above it is missing in the file of variables".to_owned()
        }
        _ => "correct the action, or the variable that it takes".to_owned(),
    }
}

/// A function's failure in the template's words.
fn failed(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

/// What goss's functions are to the template engine.
type Function = fn(&[Value]) -> Result<Value, String>;

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        let vars = serde_json::json!({
            "OS": "ubuntu", "version": "1.20.2", "list": ["a", "b"], "empty": null,
            "ubuntu": {"package": {"jq": null, "curl": {"skip": true}}},
        });
        Context { vars, ..Context::default() }
    }

    fn rendered(source: &str) -> Result<Rendered, Problem> {
        render(source, &"t.yaml".into(), &context())
    }

    fn text(source: &str) -> String {
        rendered(source).unwrap_or_else(|problem| panic!("{problem}")).text
    }

    #[test]
    fn the_language_that_goss_files_use() {
        assert_eq!(text("{{.Vars.OS}}-{{ .Vars.version | printf \"%s!\" }}"), "ubuntu-1.20.2!");
        assert_eq!(text("{{if eq .Vars.OS \"rhel\"}}a{{else if ne .Vars.OS \"x\"}}b{{end}}"), "b");
        let range = "{{range $n, $v := index .Vars .Vars.OS \"package\"}}{{$n}}:{{range $k, $x := $v}}{{$k}}={{$x}}{{end}};{{end}}";
        assert_eq!(text(range), "curl:skip=true;jq:;");
        assert_eq!(text("{{range index .Vars .Vars.OS \"service\"}}x{{else}}none{{end}}"), "none");
        assert_eq!(text("{{with .Vars.empty}}a{{else}}b{{end}}"), "b");
        assert_eq!(text("{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Vars.OS}}"), "<ubuntu>");
        assert_eq!(text("{{range mkSlice \"a\" \"b\"}}{{.}},{{end}}"), "a,b,");
        assert_eq!(text("{{if and (not .Vars.empty) (or .Vars.empty .Vars.OS)}}y{{end}}"), "y");
        assert_eq!(text("a {{- \" b\" -}} \n c{{/* no */}}"), "a bc");
        assert_eq!(text("{{len .Vars.list}}{{index .Vars.list 1}}"), "2b");
        assert_eq!(text("{{ if .Vars.OS | regexMatch \"[Uu]bun(tu|TU)\" }}y{{end}}"), "y");
        assert_eq!(text("{{if semverCompare \">=1.20.0\" .Vars.version}}y{{end}}"), "y");
        assert_eq!(
            text("{{.Vars.list}} {{ \"hello!\" | upper | repeat 2 }}"),
            "[a b] HELLO!HELLO!"
        );
    }

    #[test]
    fn each_line_knows_where_it_comes_from() {
        let source = "a: 1\n{{- range .Vars.list}}\n  {{.}}:\n    mode: x\n{{- end}}\nz: 2";
        let rendered = rendered(source).unwrap();
        assert_eq!(rendered.text, "a: 1\n  a:\n    mode: x\n  b:\n    mode: x\nz: 2");
        let lines: Vec<usize> = rendered.lines.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 3, 4, 6], "{:?}", rendered.lines);
        let exact: Vec<bool> = rendered.lines.iter().map(|(_, exact)| *exact).collect();
        assert_eq!(exact, [true, false, true, false, true, true]);
    }

    #[test]
    fn an_action_that_fails_is_found() {
        let fails = |source: &str, place: &str, words: &str| {
            let problem = rendered(source).unwrap_err();
            assert_eq!(problem.place.to_string(), place, "{problem}");
            let all = format!("{} {}", problem.message, problem.help);
            assert!(all.contains(words), "{all}");
        };
        fails("x\n  {{.Vars.nothing}}", "t.yaml:2:5", "give `nothing` a value");
        fails("x\n{{if .Vars.OS}}\n y {{.Vars.no}}\n{{end}}", "t.yaml:3:6", "`no`");
        fails(
            "{{if .Vars.empty}}{{else}}\n\n{{range .Vars.list}}{{.x}}{{end}}{{end}}",
            "t.yaml:3:23",
            "x",
        );
        fails("\n{{range .Vars.gone}}{{end}}", "t.yaml:2:9", "gone");
        fails("{{index .Vars \"a\" \"b\"}}", "t.yaml:1:3", "missing in the file of variables");
        fails("{{.Env.HOME}}", "t.yaml:1:3", "environment");
        fails("{{getEnv \"HOME\"}}", "t.yaml:1:3", "environment");
        fails("{{readFile \"/etc/hostname\"}}", "t.yaml:1:3", "files");
        fails("{{randAlpha 3}}", "t.yaml:1:3", "semverCompare");
        fails("a\n{{if}}", "t.yaml:2:7", "text/template");
        fails("{{range until 100000}}{{repeat 1000 \"x\"}}{{end}}", "t.yaml:1:25", "split");
    }

    #[test]
    fn environment_and_files_are_seen_where_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), " secret \n").unwrap();
        let context = Context {
            environment: Some(BTreeMap::from([("OS".to_owned(), "centos".to_owned())])),
            files: Some(folder.path().to_owned()),
            ..context()
        };
        let source = "{{.Env.OS}} {{getEnv \"OS\"}} {{getEnv \"NO\" \"x\"}} {{readFile \"token\"}}";
        assert_eq!(render(source, &"t".into(), &context).unwrap().text, "centos centos x secret");
        assert!(render("{{readFile \"gone\"}}", &"t".into(), &context).is_err());
    }
}
