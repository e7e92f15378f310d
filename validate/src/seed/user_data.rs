//! The user-data document: cloud-config behind a jinja header, as Cluster API sends it.
//!
//! The header makes cloud-init render the document, so nothing in it may look like a template by
//! accident: `{{`, `{%` and `{#` stand only where they are meant.

use std::fmt::Write as _;

use super::kubeadm;
use super::{Bootstrap, Seed};
use crate::keys::{Host, USER};

/// One entry of `write_files`.
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) mode: &'static str,
    pub(super) content: String,
}

pub(super) fn render(seed: &Seed) -> String {
    let mut text = String::from("## template: jinja\n#cloud-config\n\n");
    let bootstrap = seed.bootstrap.map(|bootstrap| match bootstrap {
        Bootstrap::Init(plan) => (plan.files(), plan.commands()),
        Bootstrap::Join(plan) => (plan.files(seed.place), plan.commands(seed.place)),
    });
    if let Some((files, commands)) = bootstrap {
        write_files(&mut text, &files);
        text.push_str("runcmd:\n");
        for command in commands {
            let _ = writeln!(text, "  - {}", quoted(&command));
        }
    }
    users(&mut text, seed);
    host_keys(&mut text, seed);
    text
}

fn write_files(text: &mut String, files: &[File]) {
    text.push_str("write_files:\n");
    for File { path, mode, content } in files {
        let _ = writeln!(text, "  - path: {path}");
        let _ = writeln!(text, "    owner: root:root\n    permissions: '{mode}'\n    content: |");
        indent(text, content, 6);
    }
}

/// Cluster API's infrastructure providers add one user and leave the image's default user out.
fn users(text: &mut String, seed: &Seed) {
    let _ = writeln!(text, "users:\n  - name: {USER}");
    text.push_str("    gecos: validation of this image\n    shell: /bin/bash\n");
    text.push_str("    sudo: ALL=(ALL) NOPASSWD:ALL\n    lock_passwd: true\n");
    let _ = writeln!(text, "    ssh_authorized_keys:\n      - {}", seed.keys.login.public);
}

/// A guest that does not make its own host key takes one from here, which is sooner done. What becomes of keys of the
/// image is the image's affair.
fn host_keys(text: &mut String, seed: &Seed) {
    let Host::Given(key) = &seed.keys.host else { return };
    text.push_str("ssh_keys:\n  ed25519_private: |\n");
    indent(text, &key.private, 4);
    let _ = writeln!(text, "  ed25519_public: {}", key.public);
}

fn indent(text: &mut String, content: &str, by: usize) {
    for line in content.lines() {
        let _ = writeln!(text, "{:by$}{line}", "");
    }
}

/// A YAML scalar in double quotes: JSON's string is one.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

impl kubeadm::KubeadmPlan {
    /// The commands that cloud-init runs, last of all.
    pub(super) fn commands(&self) -> Vec<String> {
        vec![format!("{} && echo success > {}", self.init(), kubeadm::SENTINEL)]
    }
}
