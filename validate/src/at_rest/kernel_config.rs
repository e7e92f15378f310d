//! The kernel as system-validators judges it: its version, its options, and the modules that these name.

mod tables;

use std::collections::BTreeMap;

use nodekiln_words::Result;
use tables::{Edition, KernelOption};

use super::{Examined, cgroups, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::Tree;
use crate::tree::drop_ins::LoadedModules;
use crate::tree::loader::Loader;
use crate::tree::modules::Modules;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "kernel-config",
        title: "The kernel has the options that Kubernetes requires",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/boot/config-*",
            "/usr/src/linux-*",
            "/lib/modules/*/config",
            "/usr/lib/kernel/config-*",
        ],
        why: "kubeadm refuses a kernel without them, and one whose options it cannot find",
        remedy: "take a kernel that has the option; keep the config file of its package",
        source: "kubeadm preflight: SystemVerification; system-validators, kernel_validator.go",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(required),
    },
    Rule {
        id: "kernel-config-advised",
        title: "The kernel has the options that Kubernetes advises",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &[
            "/boot/config-*",
            "/usr/src/linux-*",
            "/lib/modules/*/config",
            "/usr/lib/kernel/config-*",
        ],
        why: "without them containers have no overlays, limits or system call filters",
        remedy: "take a kernel that has the option",
        source: "kubeadm preflight: SystemVerification; system-validators, kernel_validator.go",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(advised),
    },
    Rule {
        id: "kernel-version",
        title: "The kernel is one that Kubernetes runs on",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/boot/vmlinuz-*", "/boot/grub/grub.cfg", "/boot/loader/entries"],
        why: "kubeadm refuses kernels before 3.10, and newer ones warn of those that are no longer supported",
        remedy: "take a kernel with long-term support: 5.4, 5.10, 5.15, or 6 and later",
        source: "kubeadm preflight: SystemVerification; system-validators, kernel_validator.go",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(version),
    },
    Rule {
        id: "kernel-modules",
        title: "Options that are modules have their files",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/lib/modules/*", "/etc/modules-load.d", "/boot/config-*"],
        why: "an option that is a module does nothing without its file, which kubeadm does not look for",
        remedy: "install the package with the kernel's modules, of the same release",
        source: "kubeadm preflight: SystemVerification; modules.builtin(5), modules-load.d(5)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(modules),
    },
];

/// Where a node looks for the config of the kernel `REL`, in this order, after /proc/config.gz.
const PLACES: [&str; 8] = [
    "/boot/config-REL",
    "/usr/src/linux-REL/.config",
    "/usr/src/linux/.config",
    "/usr/lib/modules/REL/config",
    "/usr/lib/ostree-boot/config-REL",
    "/usr/lib/kernel/config-REL",
    "/usr/src/linux-headers-REL/.config",
    "/lib/modules/REL/build/.config",
];

/// A kernel's options.
pub(super) struct Config {
    /// The file that has them.
    pub(super) path: String,
    /// What is set, without `CONFIG_`.
    options: BTreeMap<String, String>,
    /// `MAJOR.MINOR` of the kernel that the file says it is of.
    of: Option<String>,
}

impl Config {
    /// That of the kernel `release`, as a node would find it.
    pub(super) fn of(tree: &Tree, release: &str) -> Result<Option<Self>> {
        for place in PLACES {
            let path = place.replace("REL", release);
            if let Some(text) = tree.text(&path)? {
                return Ok(Some(Self::parse(path, &text)));
            }
        }
        Ok(None)
    }

    fn parse(path: String, text: &str) -> Self {
        let pair = |line: &str| {
            let (name, value) = line.trim().strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        // `# Linux/x86 6.1.170 Kernel Configuration`
        let head = text.lines().take(8).find(|line| line.contains("Kernel Configuration"));
        let numbers = head.and_then(|line| {
            line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        });
        Self { path, options: text.lines().filter_map(pair).collect(), of: numbers.map(series) }
    }

    /// What the option is set to, without quotes.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(|value| value.trim_matches('"'))
    }

    /// Whether the option is part of the kernel or a module: by any of its names.
    fn has(&self, option: &KernelOption) -> bool {
        option.names.iter().any(|(name, _)| matches!(self.get(name), Some("y" | "m")))
    }
}

/// The first two numbers of a version: `6.1` of `6.1.0-56-cloud-amd64`.
fn series(release: &str) -> String {
    let mut parts = release.split(['.', '-', '+']);
    format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The release of each kernel with its config, or a verdict where there is nothing to judge.
type Kernels = std::result::Result<Vec<(String, Option<Config>)>, Verdict>;

/// The kernels of `tree`.
fn kernels(tree: &Tree) -> Result<Kernels> {
    let releases = Loader::of(tree)?.kernels;
    if releases.is_empty() {
        return Ok(Err(Verdict::NotProven(
            "there is no kernel called /boot/vmlinuz-RELEASE".to_owned(),
        )));
    }
    let mut found = Vec::new();
    for release in releases {
        let config = Config::of(tree, &release)?;
        found.push((release, config));
    }
    Ok(Ok(found))
}

fn required(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let edition = Edition::of(examined.facts.kubernetes);
    let (mut wrong, mut open, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let found = match kernels(tree)? {
        Ok(found) => found,
        Err(verdict) => return Ok(verdict),
    };
    for (release, config) in found {
        let Some(config) = config else {
            let others = tree.names("/boot").into_iter().filter(|name| name.starts_with("config-"));
            let others: Vec<&str> = others.collect();
            match others.is_empty() {
                // It may carry its config in itself.
                true => open.push(format!("no config of {release} at {}", PLACES.join(", "))),
                false => {
                    wrong.push(format!("no config of {release}: /boot has {}", others.join(", ")));
                }
            }
            continue;
        };
        if let Some(other) = config.of.as_ref().filter(|it| **it != series(&release)) {
            wrong.push(format!("{} is that of a kernel {other}, not of {release}", config.path));
            continue;
        }
        let hierarchy = cgroups::hierarchy(examined)?.of(&release);
        let lacking = edition.required(hierarchy).filter(|option| !config.has(option));
        let lacking: Vec<String> = lacking.map(KernelOption::title).collect();
        match lacking.is_empty() {
            true => seen.push(config.path),
            false => wrong.push(format!("{} has no {}", config.path, lacking.join(", "))),
        }
    }
    if wrong.is_empty() && !open.is_empty() {
        return Ok(Verdict::NotProven(findings::some(&open)));
    }
    Ok(judged(&wrong, &seen, edition, examined))
}

fn advised(examined: &Examined) -> Result<Verdict> {
    let edition = Edition::of(examined.facts.kubernetes);
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    let found = match kernels(&examined.tree)? {
        Ok(found) => found,
        Err(verdict) => return Ok(verdict),
    };
    for (release, config) in found {
        // That there is none is the other rule's to say.
        let Some(config) = config else {
            return Ok(Verdict::NotProven(format!("no config of {release}")));
        };
        let lacking = edition.advised().filter(|option| !config.has(option));
        let lacking: Vec<String> = lacking.map(KernelOption::title).collect();
        match lacking.is_empty() {
            true => seen.push(config.path),
            false => wrong.push(format!("{} has no {}", config.path, lacking.join(", "))),
        }
    }
    Ok(judged(&wrong, &seen, edition, examined))
}

/// A verdict that says which table it is by.
fn judged(wrong: &[String], seen: &[String], edition: &Edition, examined: &Examined) -> Verdict {
    let by = edition.told(examined.facts.kubernetes);
    match wrong.is_empty() {
        true => Verdict::Pass(format!("{}, by {by}", findings::some(seen))),
        false => Verdict::Fail(format!("{}, by {by}", findings::some(wrong))),
    }
}

fn version(examined: &Examined) -> Result<Verdict> {
    let edition = Edition::of(examined.facts.kubernetes);
    let releases = Loader::of(&examined.tree)?.kernels;
    if releases.is_empty() {
        return Ok(Verdict::NotProven(
            "there is no kernel called /boot/vmlinuz-RELEASE".to_owned(),
        ));
    }
    let (mut refused, mut old, mut open, mut seen) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for release in releases {
        let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            open.push(format!("/boot/vmlinuz-{release} does not begin with a version"));
            continue;
        };
        match edition.weighs(major, minor) {
            tables::Weight::Fine => seen.push(release),
            tables::Weight::Warned => {
                old.push(format!("kernel {release} is not one of {}", edition.kernels));
            }
            tables::Weight::Refused => {
                refused.push(format!("kernel {release} is not one of {}", edition.kernels));
            }
        }
    }
    let by = edition.told(examined.facts.kubernetes);
    Ok(match (refused.is_empty(), old.is_empty(), open.is_empty()) {
        (false, ..) => Verdict::Fail(format!("{}, by {by}", findings::some(&refused))),
        (true, false, _) => Verdict::Warn(format!("{}, by {by}", findings::some(&old))),
        (true, true, false) => Verdict::NotProven(findings::some(&open)),
        (true, true, true) => Verdict::Pass(format!("{}, by {by}", findings::some(&seen))),
    })
}

fn modules(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let edition = Edition::of(examined.facts.kubernetes);
    let loaded = LoadedModules::of(tree)?;
    let (mut wrong, mut open, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let found = match kernels(tree)? {
        Ok(found) => found,
        Err(verdict) => return Ok(verdict),
    };
    for (release, config) in found {
        let modules = Modules::of(tree, &release)?;
        if !modules.is_known() {
            wrong.push(format!("there is no /lib/modules/{release}/modules.builtin"));
            continue;
        }
        let hierarchy = cgroups::hierarchy(examined)?.of(&release);
        // 1. Modules of options that are required.
        if let Some(config) = &config {
            for option in edition.required(hierarchy) {
                // Built in by one name, it needs no module of the other.
                let names = &option.names;
                let values: Vec<_> =
                    names.iter().map(|(name, module)| (config.get(name), *module)).collect();
                let modular = values
                    .iter()
                    .filter(|(value, _)| *value == Some("m"))
                    .map(|(_, module)| *module);
                let modular: Vec<&str> = modular.collect();
                let built_in = values.iter().any(|(value, _)| *value == Some("y"));
                if !built_in
                    && !modular.is_empty()
                    && !modular.iter().any(|module| modules.has(module))
                {
                    let title = option.title();
                    wrong.push(format!(
                        "{release} has no {}, which {title} is by {}",
                        modular[0], config.path
                    ));
                }
            }
        } else {
            open.push(format!("no config of {release} tells which options are modules"));
        }
        // 2. Modules that are loaded at boot.
        for (module, place) in loaded.all() {
            if !modules.has(module) {
                wrong.push(format!("{release} has no {module}, which {place} loads"));
            }
        }
        seen.push(format!("/lib/modules/{release}"));
    }
    if wrong.is_empty() && !open.is_empty() {
        return Ok(Verdict::NotProven(findings::some(&open)));
    }
    Ok(judged(&wrong, &seen, edition, examined))
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
