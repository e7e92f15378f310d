//! In which order packages are unpacked and configured.
//!
//! The essential set comes first: nothing runs before it is there. All else is unpacked at once and
//! configured at once, with one exception. A package's `preinst` runs before its files are unpacked
//! and may rely on its `Pre-Depends` being configured (Debian policy, section 7.2), so these get
//! waves of their own where they are needed. Most packages have no `preinst` and do not care.

use std::collections::BTreeSet;

use super::control::Control;
use super::stanza::Providers;

/// Waves in which a set of packages is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// One after the other; the first has the essential packages.
    pub waves: Vec<Wave>,
}

/// Packages that are unpacked and then configured together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Indexes of the packages, those that others depend on first.
    pub packages: Vec<usize>,
}

/// Creates `/etc/passwd` and `/etc/group` in its `preinst`; every other script may need them.
const FIRST: &str = "base-passwd";

impl Schedule {
    /// Plans for `packages`; `essential` says of each whether it is to be there before all others.
    /// What the essential ones depend on is counted among them.
    #[must_use]
    pub fn plan(packages: &[Control], essential: impl Fn(&Control) -> bool) -> Self {
        let graph = Graph::new(packages);
        let chosen = (0..packages.len()).filter(|&index| essential(&packages[index])).collect();
        let mut done = graph.closure(chosen);
        let mut rest: BTreeSet<usize> =
            (0..packages.len()).filter(|index| !done.contains(index)).collect();
        let mut waves = vec![graph.wave(&done)];
        while !rest.is_empty() {
            let ready = |index: &usize| graph.ready(*index, &done);
            let mut batch = BTreeSet::new();
            for index in rest.iter().filter(|index| !ready(index)) {
                let mut needed = graph.closure(graph.pre_depends[*index].iter().copied().collect());
                needed.retain(|index| !done.contains(index));
                if needed.iter().all(ready) {
                    batch.extend(needed);
                }
            }
            // Everybody is ready, or the rest wait for each other and nobody can be served first.
            if batch.is_empty() {
                batch.clone_from(&rest);
            }
            waves.push(graph.wave(&batch));
            rest.retain(|index| !batch.contains(index));
            done.extend(batch);
        }
        waves.retain(|wave| !wave.packages.is_empty());
        Self { waves }
    }
}

/// Who needs whom, by index.
struct Graph<'a> {
    packages: &'a [Control],
    pre_depends: Vec<Vec<usize>>,
    depends: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(packages: &'a [Control]) -> Self {
        let providers = Providers::new(packages.iter().map(|p| (p.name.as_str(), &p.stanza)));
        let needs = |field: &str| {
            let of = |package: &Control| {
                let relation = package.stanza.relation(field);
                relation.iter().filter_map(|clause| providers.fulfilling(clause)).collect()
            };
            packages.iter().map(of).collect()
        };
        Self { packages, pre_depends: needs("Pre-Depends"), depends: needs("Depends") }
    }

    fn needs(&self, index: usize) -> impl Iterator<Item = usize> {
        self.pre_depends[index].iter().chain(&self.depends[index]).copied()
    }

    /// `set` and all that it depends on.
    fn closure(&self, mut set: BTreeSet<usize>) -> BTreeSet<usize> {
        let mut open: Vec<usize> = set.iter().copied().collect();
        while let Some(index) = open.pop() {
            open.extend(self.needs(index).filter(|need| set.insert(*need)));
        }
        set
    }

    /// Whether the `preinst` of a package can run once `done` are configured.
    fn ready(&self, index: usize, done: &BTreeSet<usize>) -> bool {
        !self.packages[index].files.contains_key("preinst")
            || self.pre_depends[index].iter().all(|need| done.contains(need))
    }

    /// The packages of `set` in order of dependency, ties and circles in order of name.
    fn wave(&self, set: &BTreeSet<usize>) -> Wave {
        let mut by_name: Vec<usize> = set.iter().copied().collect();
        by_name
            .sort_by_key(|&index| (self.packages[index].name != FIRST, &self.packages[index].name));
        let mut order = Order { graph: self, set, seen: BTreeSet::new(), packages: Vec::new() };
        if let Some((&first, _)) = by_name.split_first()
            && self.packages[first].name == FIRST
        {
            order.seen.insert(first);
            order.packages.push(first);
        }
        for index in by_name {
            order.visit(index);
        }
        Wave { packages: order.packages }
    }
}

struct Order<'a> {
    graph: &'a Graph<'a>,
    set: &'a BTreeSet<usize>,
    seen: BTreeSet<usize>,
    packages: Vec<usize>,
}

impl Order<'_> {
    /// Puts what `index` needs, then itself. Keeps its own stack: chains of dependencies are as long
    /// as an archive makes them.
    fn visit(&mut self, index: usize) {
        let mut stack = vec![(index, false)];
        while let Some((index, needs_done)) = stack.pop() {
            if needs_done {
                self.packages.push(index);
            } else if self.set.contains(&index) && self.seen.insert(index) {
                stack.push((index, true));
                let needs: Vec<usize> = self.graph.needs(index).collect();
                stack.extend(needs.into_iter().rev().map(|need| (need, false)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::control::ControlFile;
    use crate::deb::stanza::Stanza;

    fn package(text: &str, preinst: bool) -> Control {
        let stanza = Stanza::parse(&text.replace("; ", "\n"), "p").unwrap();
        let script = ControlFile { bytes: Vec::new(), mode: 0o755, mtime: 0 };
        Control {
            name: stanza.get("Package").unwrap().to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            conffiles: Vec::new(),
            triggers: Vec::new(),
            files: preinst.then(|| ("preinst".to_owned(), script)).into_iter().collect(),
            mtime: 0,
            stanza,
        }
    }

    fn waves(packages: &[Control]) -> Vec<Vec<&str>> {
        let schedule = Schedule::plan(packages, Control::essential);
        let names = |wave: Wave| wave.packages.iter().map(|&i| packages[i].name.as_str()).collect();
        schedule.waves.into_iter().map(names).collect()
    }

    #[test]
    fn essential_packages_bring_what_they_depend_on() {
        let packages = [
            package("Package: a; Depends: sh", false),
            package("Package: base-passwd; Essential: yes; Depends: libc", false),
            package("Package: dash; Essential: yes; Provides: sh; Depends: libc", false),
            package("Package: libc", false),
        ];
        assert_eq!(waves(&packages), [vec!["base-passwd", "libc", "dash"], vec!["a"]]);
    }

    #[test]
    fn a_preinst_waits_for_its_pre_dependencies_and_nobody_else_does() {
        let packages = [
            package("Package: a; Pre-Depends: lib", true),
            package("Package: b; Pre-Depends: other", false),
            package("Package: lib; Depends: libdata", false),
            package("Package: libdata", true),
            package("Package: other", false),
        ];
        assert_eq!(waves(&packages), [vec!["libdata", "lib"], vec!["a", "other", "b"]]);
    }

    #[test]
    fn circles_end() {
        let packages = [
            package("Package: a; Pre-Depends: b", true),
            package("Package: b; Pre-Depends: a", true),
        ];
        assert_eq!(waves(&packages), [vec!["b", "a"]]);
    }
}
