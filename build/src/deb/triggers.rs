//! Triggers: who wants to be told about which names and paths, and what unpacking activates.
//!
//! Formats: deb-triggers(5) for a package's file, dpkg's triggers specification for the database:
//! `triggers/File` has `PATH PACKAGE[/noawait]`, `triggers/NAME` has `PACKAGE[/noawait]`, and
//! `triggers/Unincorp` has `TRIGGER AWAITER…`, where `-` stands for an activation that nobody awaits.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_words::{Failure, Result};

/// A line of a package's file `triggers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// The package wants to be told.
    Interest {
        /// A name, or an absolute path and all below it.
        trigger: String,
        /// Whoever activates it stays `triggers-awaited` until it was processed.
        awaited: bool,
    },
    /// The package activates the trigger when its state changes.
    Activate {
        /// A name or an absolute path.
        trigger: String,
        /// The activating package waits.
        awaited: bool,
    },
}

impl Directive {
    pub(crate) fn parse_all<'a>(
        lines: impl Iterator<Item = &'a str>,
        label: &str,
    ) -> Result<Vec<Self>> {
        let mut directives = Vec::new();
        for line in lines {
            let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
            if !line.is_empty() {
                directives.push(Self::parse(line).ok_or_else(|| {
                    Failure::io(format!("package {label}: `{line}` is no trigger directive"))
                })?);
            }
        }
        Ok(directives)
    }

    fn parse(line: &str) -> Option<Self> {
        let (verb, trigger) = line.split_once([' ', '\t'])?;
        let trigger = trigger.trim();
        // A name without a slash becomes a file name in the database.
        let path = trigger.starts_with('/');
        if trigger.is_empty()
            || trigger.contains(|c: char| !c.is_ascii_graphic())
            || (!path && (trigger.contains('/') || trigger.starts_with('.')))
        {
            return None;
        }
        let trigger = trigger.to_owned();
        Some(match verb {
            "interest" | "interest-await" => Self::Interest { trigger, awaited: true },
            "interest-noawait" => Self::Interest { trigger, awaited: false },
            "activate" | "activate-await" => Self::Activate { trigger, awaited: true },
            "activate-noawait" => Self::Activate { trigger, awaited: false },
            _ => return None,
        })
    }
}

/// The database's interests: by trigger, the interested packages as they are written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interests {
    /// Paths, each with packages in order of registration.
    pub(crate) paths: Vec<(String, String)>,
    /// Names.
    pub(crate) names: BTreeMap<String, Vec<String>>,
}

impl Interests {
    pub(crate) fn read_paths(&mut self, text: &str) {
        let pairs = text.lines().filter_map(|line| line.rsplit_once(' '));
        self.paths.extend(pairs.map(|(path, package)| (path.to_owned(), package.to_owned())));
    }

    /// Registers the interests of the package that the database calls `name`.
    pub(crate) fn register(&mut self, name: &str, directives: &[Directive]) {
        for directive in directives {
            let Directive::Interest { trigger, awaited } = directive else { continue };
            let package = if *awaited { name.to_owned() } else { format!("{name}/noawait") };
            if trigger.starts_with('/') {
                self.paths.push((trigger.clone(), package));
            } else {
                self.names.entry(trigger.clone()).or_default().push(package);
            }
        }
    }

    /// The path triggers that a file or folder at `path` activates: those for itself and for every
    /// folder above it.
    fn activated_by(&self, path: &[u8]) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|(trigger, _)| trigger.as_str()).filter(move |trigger| {
            path.strip_prefix(trigger.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }
}

/// Activations that dpkg has yet to note in its database: awaiting packages by trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending(BTreeMap<String, BTreeSet<String>>);

impl Pending {
    pub(crate) fn read(text: &str) -> Self {
        let mut pending = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace().map(str::to_owned);
            if let Some(trigger) = words.next() {
                pending.0.entry(trigger).or_default().extend(words);
            }
        }
        pending
    }

    /// Takes in what unpacking the package that the database calls `name` activates.
    pub(crate) fn unpacked<'a>(
        &mut self,
        name: &str,
        directives: &[Directive],
        paths: impl Iterator<Item = &'a [u8]>,
        interests: &Interests,
    ) {
        for directive in directives {
            if let Directive::Activate { trigger, awaited } = directive {
                let awaiter = if *awaited { name } else { "-" };
                self.activate(trigger, awaiter);
            }
        }
        for path in paths {
            for trigger in interests.activated_by(path) {
                self.activate(trigger, name);
            }
        }
    }

    fn activate(&mut self, trigger: &str, awaiter: &str) {
        if !self.0.get(trigger).is_some_and(|awaiters| awaiters.contains(awaiter)) {
            self.0.entry(trigger.to_owned()).or_default().insert(awaiter.to_owned());
        }
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.0.iter().map(|(trigger, awaiters)| {
            let awaiters: Vec<_> = awaiters.iter().map(String::as_str).collect();
            format!("{trigger} {}\n", awaiters.join(" "))
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Directive>> {
        Directive::parse_all(text.lines(), "p")
    }

    #[test]
    fn directives_of_both_kinds_are_read() {
        let read = parse("# note\ninterest-noawait /usr/x\nactivate ldconfig # more\n").unwrap();
        assert_eq!(
            read,
            [
                Directive::Interest { trigger: "/usr/x".to_owned(), awaited: false },
                Directive::Activate { trigger: "ldconfig".to_owned(), awaited: true },
            ]
        );
    }

    #[test]
    fn names_that_would_leave_the_database_are_refused() {
        for text in ["interest ../x", "interest a/b", "interest", "wish x", "activate a b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_activates_triggers_of_folders_above_it_only() {
        let mut interests = Interests::default();
        interests.register("a", &parse("interest /usr/share/x\ninterest-noawait name").unwrap());
        let mut pending = Pending::default();
        let paths: [&[u8]; 3] = [b"/usr/share/xy", b"/usr/share/x/1", b"/usr/share"];
        pending.unpacked(
            "b",
            &parse("activate-noawait name").unwrap(),
            paths.into_iter(),
            &interests,
        );
        assert_eq!(pending.text(), "/usr/share/x b\nname -\n");
        assert_eq!(Pending::read(&pending.text()), pending);
        assert_eq!(interests.names["name"], ["a/noawait"]);
    }
}
