//! Rules on what lets somebody in or up: the SSH server, Kubernetes' files, programs with others' rights.

pub(super) mod capabilities;
mod known_programs;
pub(super) mod kubernetes_files;
pub(super) mod privileged;
pub(super) mod ssh_server;

use crate::rules::Rule;

/// All of them.
pub(super) const RULES: [&[Rule]; 4] =
    [ssh_server::RULES, kubernetes_files::RULES, privileged::RULES, capabilities::RULES];

#[cfg(test)]
pub(super) const MUTATIONS: [&[super::corpus::Mutation]; 4] = [
    ssh_server::MUTATIONS,
    kubernetes_files::MUTATIONS,
    privileged::MUTATIONS,
    capabilities::MUTATIONS,
];
