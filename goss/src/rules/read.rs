//! Rules and waivers read from YAML.

use std::collections::BTreeMap;

use crate::kind::{Description, KINDS, SKIPPED};
use crate::place::{Place, Problem, Problems, did_you_mean};
use crate::read::{self, Reading};
use crate::resource::Resource;
use crate::yaml::{Entry, Node, Resolved, Value};

use super::{Rule, Rules, Severity, Tier, Waiver};

const TOP: &[&str] = &["rules", "waivers"];
const RULE: &[&str] = &["id", "title", "severity", "why", "remedy", "tier", "check"];
const WAIVER: &[&str] = &["rule", "reason", "until", "provider", "image", "finding"];

/// The rules of a file; all that is wrong with it where anything is.
pub(super) fn rules(root: &Node) -> Result<Rules, Problems> {
    let mut reader = Reader { problems: Problems::default(), ids: BTreeMap::new() };
    let rules = reader.file(root);
    if reader.problems.is_empty() { Ok(rules) } else { Err(reader.problems) }
}

struct Reader {
    problems: Problems,
    /// Lines of the ids so far.
    ids: BTreeMap<String, usize>,
}

impl Reader {
    fn file(&mut self, root: &Node) -> Rules {
        let mut rules = Rules::default();
        if !self.mapping(root, "the file", TOP) {
            return rules;
        }
        if root.get("rules").is_none() && root.get("waivers").is_none() {
            self.wrong(
                &root.place,
                "the file has neither rules nor waivers",
                "write `rules:` and a list",
            );
        }
        rules.rules = self.list(root, "rules").iter().filter_map(|node| self.rule(node)).collect();
        rules.waivers =
            self.list(root, "waivers").iter().filter_map(|node| self.waiver(node)).collect();
        rules
    }

    fn rule(&mut self, node: &Node) -> Option<Rule> {
        if !self.mapping(node, "a rule", RULE) {
            return None;
        }
        let id = self.required(node, "id", "a rule");
        if let Some(id) = &id {
            self.id(id, node);
        }
        let title = self.required(node, "title", "a rule");
        let severity =
            self.word(node, "severity", &[("warn", Severity::Warn), ("fail", Severity::Fail)]);
        if severity.is_none() && node.get("severity").is_none() {
            self.missing(node, "severity", "a rule");
        }
        let tiers = [("static", Tier::Static), ("boot", Tier::Boot), ("kubeadm", Tier::Kubeadm)];
        let tier = self.word(node, "tier", &tiers);
        let check = self.check(node, tier);
        Some(Rule {
            id: id?,
            title: title?,
            severity: severity?,
            why: self.text(node, "why"),
            remedy: self.text(node, "remedy"),
            tier,
            check: check?,
            place: node.place.clone(),
        })
    }

    fn id(&mut self, id: &str, node: &Node) {
        let place = node.get("id").map_or(&node.place, |node| &node.place);
        let fits = !id.starts_with('-')
            && !id.ends_with('-')
            && !id.is_empty()
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            let message = format!("`{id}` is no id");
            self.wrong(place, message, "write lower-case letters, digits and `-` between them");
        }
        if let Some(line) = self.ids.insert(id.to_owned(), place.line) {
            let message = format!("the id `{id}` is given twice, first in line {line}");
            self.wrong(place, message, "give one of the two rules another id");
        }
    }

    /// What a rule checks: one kind with its resources.
    fn check(&mut self, rule: &Node, tier: Option<Tier>) -> Option<Vec<Resource>> {
        let Some(node) = rule.get("check") else {
            self.missing(rule, "check", "a rule");
            return None;
        };
        let help = "write one kind, such as `file:`, and below it a resource with its attributes";
        let [section] = node.entries() else {
            let message = match node.entries().len() {
                0 => format!("`check` is {}", node.noun()),
                many => format!("`check` has {many} kinds"),
            };
            self.wrong(&node.place, message, help);
            return None;
        };
        let description = self.kind(section)?;
        if section.node.entries().is_empty() {
            let message = format!("`{}` has {} below it", section.key, section.node.noun());
            self.wrong(&section.key_place, message, help);
            return None;
        }
        let mut resources = Vec::new();
        for entry in section.node.entries() {
            match read::resource(description, entry, Reading::Rule) {
                Ok(resource) => resources.push(self.judgeable(resource, tier)),
                Err(problems) => problems.iter().for_each(|one| self.problems.push(one.clone())),
            }
        }
        Some(resources)
    }

    fn kind(&mut self, section: &Entry) -> Option<&'static Description> {
        let known = Description::named(&section.key);
        if known.is_none() {
            let message = format!("`{}` is no kind of resource", section.key);
            let help = match SKIPPED.iter().find(|(kind, _)| *kind == section.key) {
                Some((_, reason)) => (*reason).to_owned(),
                None => did_you_mean(
                    &section.key,
                    &KINDS.iter().map(|one| one.name).collect::<Vec<_>>(),
                ),
            };
            self.wrong(&section.key_place, message, &help);
        }
        known
    }

    /// A rule that could never be judged is a mistake.
    fn judgeable(&mut self, resource: Resource, tier: Option<Tier>) -> Resource {
        if tier == Some(Tier::Static) && crate::needs_a_running_machine(&resource) {
            let message = format!("a {} needs a running machine", resource.kind_name);
            self.wrong(&resource.place, message, "give the rule `tier: boot`");
        }
        if tier == Some(Tier::Static) && resource.wants("enabled") && resource.wants("running") {
            let message = "`running` needs a running machine";
            self.wrong(&resource.place, message, "give the rule `tier: boot`, or take it out");
        }
        if resource.skip {
            let message =
                format!("the {} is skipped, so the rule says nothing", resource.kind_name);
            self.wrong(
                &resource.place,
                message,
                "take `skip` out; a waiver lets a rule fail for a time",
            );
        }
        if let Some(reason) = resource.unsupported() {
            self.wrong(&resource.place, reason, "use another path or matcher");
        }
        resource
    }

    fn waiver(&mut self, node: &Node) -> Option<Waiver> {
        if !self.mapping(node, "a waiver", WAIVER) {
            return None;
        }
        let rule = self.required(node, "rule", "a waiver");
        let reason = self.required(node, "reason", "a waiver");
        let until = self.required(node, "until", "a waiver").and_then(|text| {
            let place = node.get("until").map_or(&node.place, |node| &node.place);
            let help = "write year, month and day; the waiver holds through that day";
            text.parse().map_err(|message: String| self.wrong(place, message, help)).ok()
        });
        Some(Waiver {
            rule: rule?,
            reason: reason?,
            until: until?,
            provider: self.text(node, "provider"),
            image: self.text(node, "image"),
            finding: self.text(node, "finding"),
            place: node.place.clone(),
        })
    }

    /// Whether `node` is a mapping; keys that are not `known` are told.
    fn mapping(&mut self, node: &Node, what: &str, known: &[&str]) -> bool {
        let Value::Mapping(entries) = &node.value else {
            let message = format!("{what} is {}", node.noun());
            self.wrong(
                &node.place,
                message,
                &format!("write a mapping; known here: {}", known.join(", ")),
            );
            return false;
        };
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let message = format!("{what} has no `{}`", entry.key);
                self.wrong(&entry.key_place, message, &did_you_mean(&entry.key, known));
            }
        }
        true
    }

    fn list<'n>(&mut self, root: &'n Node, key: &str) -> &'n [Node] {
        match root.get(key).map(|node| (&node.value, node)) {
            None => &[],
            Some((Value::List(items), _)) => items,
            Some((_, node)) => {
                let message = format!("`{key}` is {}", node.noun());
                self.wrong(&node.place, message, "write a list, each item behind `- `");
                &[]
            }
        }
    }

    fn required(&mut self, node: &Node, key: &str, what: &str) -> Option<String> {
        if node.get(key).is_none() {
            self.missing(node, key, what);
        }
        self.text(node, key)
    }

    fn missing(&mut self, node: &Node, key: &str, what: &str) {
        self.wrong(&node.place, format!("{what} needs `{key}`"), &format!("add `{key}:`"));
    }

    /// A text that says something.
    fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        let node = node.get(key)?;
        match node.scalar() {
            Some(scalar)
                if scalar.resolved() == Resolved::Text && !scalar.text.trim().is_empty() =>
            {
                Some(scalar.text.trim_end().to_owned())
            }
            Some(scalar) if scalar.text.trim().is_empty() => {
                self.wrong(&node.place, format!("`{key}` is empty"), "write a text");
                None
            }
            _ => {
                self.wrong(
                    &node.place,
                    format!("`{key}` is {}", node.noun()),
                    "write a text, here in quotes",
                );
                None
            }
        }
    }

    fn word<T: Copy>(&mut self, node: &Node, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let place = node.get(key).map_or(&node.place, |node| &node.place);
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(place, format!("`{key}` is `{text}`"), &did_you_mean(&text, &known));
        }
        found
    }

    fn wrong(&mut self, place: &Place, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::new(place, message, help));
    }
}
