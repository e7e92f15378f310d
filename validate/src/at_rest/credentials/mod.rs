//! Rules on who may get in and by what: accounts, passwords, sudo, keys and tokens that the image carries.

pub(super) mod accounts;
pub(super) mod keys;
pub(super) mod known_passwords;
pub(super) mod passwords;
mod scan;
pub(super) mod sudo;
pub(super) mod tokens;

use crate::rules::Rule;

/// All of them.
pub(super) const RULES: [&[Rule]; 6] = [
    accounts::RULES,
    passwords::RULES,
    known_passwords::RULES,
    sudo::RULES,
    keys::RULES,
    tokens::RULES,
];

#[cfg(test)]
pub(super) const MUTATIONS: [&[super::corpus::Mutation]; 6] = [
    accounts::MUTATIONS,
    passwords::MUTATIONS,
    known_passwords::MUTATIONS,
    sudo::MUTATIONS,
    keys::MUTATIONS,
    tokens::MUTATIONS,
];

/// Names that image builders give the account by which they get into the machine that becomes the image.
const BUILDERS: [&str; 7] =
    ["builder", "packer", "vagrant", "ansible", "imagebuilder", "image-builder", "buildkit"];
