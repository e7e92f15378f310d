//! Configures containerd for the version that the tree has.

use std::collections::BTreeMap;

use nodekiln_recipes::recipe::{CgroupDriver, Version};
use nodekiln_words::{Failure, Result};

use crate::execution::Execution;
use crate::kubernetes::containerd::{
    CERTS_D, CONF_D, PATH, Release, Settings, render, systemd_cgroup,
};
use crate::layer::{Attributes, Root};
use crate::sandbox::SandboxCommand;

/// What the plan says about containerd.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Kubernetes version, which decides the cgroup driver.
    pub kubernetes: Option<Version>,
    /// What the recipe says.
    pub cgroup_driver: CgroupDriver,
    /// The sandbox image; `None` leaves containerd its own default.
    pub sandbox_image: Option<&'a str>,
}

/// Writes `config.toml` and makes the folders that it names.
///
/// Facts: `version.containerd`, `containerd.cgroup-driver`, `containerd.sandbox-image`.
///
/// # Errors
/// When the tree has no containerd, or one that does not go with this Kubernetes.
pub fn run(request: &Request<'_>, execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = Root::assemble(&execution.below, execution.scratch)?;
    let version = version_in(&root, execution)?;
    let release = Release::of(&version)?;
    if let Some(kubernetes) = request.kubernetes {
        release.serves(kubernetes)?;
    }
    let systemd_cgroup = systemd_cgroup(request.cgroup_driver, request.kubernetes);
    let settings = Settings { sandbox_image: request.sandbox_image, systemd_cgroup };
    root.write_file(PATH, render(release, settings).as_bytes(), Attributes::root(0o644))?;
    for folder in [CONF_D, CERTS_D] {
        root.make_directory(folder, Attributes::root(0o755))?;
    }
    root.finish(execution.source_date)?;
    let driver = if systemd_cgroup { "systemd" } else { "cgroupfs" };
    let mut facts = BTreeMap::from([
        ("version.containerd".to_owned(), version),
        ("containerd.cgroup-driver".to_owned(), driver.to_owned()),
    ]);
    facts.extend(
        request
            .sandbox_image
            .map(|image| ("containerd.sandbox-image".to_owned(), image.to_owned())),
    );
    Ok(facts)
}

/// The version that the tree's containerd reports of itself.
fn version_in(root: &Root, execution: &Execution<'_>) -> Result<String> {
    let command = SandboxCommand::new(
        "ask containerd's version",
        root.path(),
        ["containerd", "--version"],
        execution.log,
        execution.source_date,
    );
    let output = execution.sandbox.run(&command, execution.cancel).map_err(|failure| {
        failure.context("the tree has no working containerd").with_help(
            "name the package `containerd` under `packages:`, or drop `containerd:` from the recipe",
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).map(|word| word.trim_start_matches('v'));
    version
        .map(str::to_owned)
        .ok_or_else(|| Failure::io(format!("containerd reports no version but `{}`", text.trim())))
}
