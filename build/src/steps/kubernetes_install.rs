//! Puts Kubernetes into a node's tree: the three programs, what kubeadm wants beside them, and the
//! files that say which version this is. Unit files come from the recipe.

use std::collections::BTreeMap;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Class, Failure, Result};

use super::uses::output_with;
use crate::execution::Execution;
use crate::kubernetes::{NODE_BINARIES, crictl};
use crate::layer::{Attributes, Root};
use crate::sandbox::SandboxCommand;

/// Where CAPI looks for the version.
const VERSION_FILE: &str = "/etc/kubernetes-version";
/// image-builder's identity file, kept for those who read it.
const RELEASE_FILE: &str = "/etc/image-builder-release";
/// Where kubelets and network add-ons look for plugins.
const CNI_BIN: &str = "/opt/cni/bin";
/// Where Debian puts them.
const CNI_BIN_OF_DEBIAN: &str = "/usr/lib/cni";
/// From this minor on kubeadm speaks CRI itself and asks for no crictl.
const FIRST_WITHOUT_CRICTL: u32 = 32;

/// Installs the binaries of the used node that has them, then asks each for its version.
///
/// Facts: `version.kubernetes`, and `crictl` = `stand-in` where the tree had none.
///
/// # Errors
/// When a binary is missing, does not run, or is of another version.
pub fn run(version: Version, execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let binaries = output_with(execution, "bin/kubelet")?;
    let root = Root::assemble(&execution.below, execution.scratch)?;
    for name in NODE_BINARIES {
        let from = binaries.join("bin").join(name);
        root.copy_file(&format!("/usr/bin/{name}"), &from, Attributes::root(0o755))?;
    }
    let mut facts = BTreeMap::from([("version.kubernetes".to_owned(), version.to_string())]);
    if put_crictl(&root, version)? {
        facts.insert("crictl".to_owned(), "stand-in".to_owned());
    }
    link_plugins(&root)?;
    let text =
        |text: String, path: &str| root.write_file(path, text.as_bytes(), Attributes::root(0o644));
    text(format!("v{version}\n"), VERSION_FILE)?;
    text(release(version, execution), RELEASE_FILE)?;
    check_versions(&root, version, execution)?;
    root.finish(execution.source_date)?;
    Ok(facts)
}

fn put_crictl(root: &Root, version: Version) -> Result<bool> {
    for path in crictl::REAL {
        if root.exists(path)? {
            return Ok(false);
        }
    }
    if version.minor >= FIRST_WITHOUT_CRICTL {
        return Ok(false);
    }
    root.write_file(crictl::PATH, crictl::SCRIPT.as_bytes(), Attributes::root(0o755))?;
    Ok(true)
}

/// Links each plugin of Debian's folder that has no entry yet.
fn link_plugins(root: &Root) -> Result<()> {
    root.make_directory(CNI_BIN, Attributes::root(0o755))?;
    if !root.exists(CNI_BIN_OF_DEBIAN)? {
        return Ok(());
    }
    for name in root.list(CNI_BIN_OF_DEBIAN)? {
        let link = format!("{CNI_BIN}/{name}");
        if !root.exists(&link)? {
            root.make_link(&link, &format!("{CNI_BIN_OF_DEBIAN}/{name}"), 0, 0)?;
        }
    }
    Ok(())
}

/// Keys that image-builder writes; the date is the source date. Which nodekiln it was stands in the
/// bill of materials: here it would make every image another one with each release of nodekiln.
fn release(version: Version, execution: &Execution<'_>) -> String {
    format!(
        "IMAGE_BUILDER_VERSION=nodekiln\nIMAGE_BUILDER_COMMIT=\nKUBERNETES_VERSION=v{version}\n\
         BUILD_DATE={}\n",
        execution.source_date
    )
}

fn check_versions(root: &Root, version: Version, execution: &Execution<'_>) -> Result<()> {
    let questions: [&[&str]; 3] = [
        &["/usr/bin/kubeadm", "version", "--output=short"],
        &["/usr/bin/kubelet", "--version"],
        &["/usr/bin/kubectl", "version", "--client", "--output=json"],
    ];
    for argv in questions {
        let name = argv.first().copied().unwrap_or_default();
        let command = SandboxCommand::new(
            format!("ask {name} for its version"),
            root.path(),
            argv.iter().copied(),
            execution.log,
            execution.source_date,
        );
        let output = execution.sandbox.run(&command, execution.cancel)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let expected = format!("v{version}");
        if !words(&text).any(|word| word == expected) {
            return Err(Failure::new(
                Class::Verdict,
                format!("{name} is not of version {expected}: it says `{}`", text.trim()),
            )
            .with_help("set `kubernetes.version` to the version of these files"));
        }
    }
    Ok(())
}

/// Words between white space and quotes: versions stand alone, in a sentence, or in JSON.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || c == '"')
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_version_is_found_whole_or_not_at_all() {
        let says = |text: &str| words(text).any(|word| word == "v1.20.2");
        assert!(says("v1.20.2\n"));
        assert!(says("Kubernetes v1.20.2\n"));
        assert!(says("{ \"gitVersion\": \"v1.20.2\" }"));
        assert!(!says("Kubernetes v1.20.20\n"));
        assert!(!says("Kubernetes v1.20.2-alpha\n"));
    }
}
