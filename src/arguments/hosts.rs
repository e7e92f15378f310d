//! What can be typed for `nodekiln validate --host`.

use std::path::PathBuf;

use clap::Args;

/// Which hosts are judged in place of an image, and how they are reached.
#[derive(Args)]
#[command(next_help_heading = "Hosts")]
pub(crate) struct Hosts {
    /// Judge this host, which is up already, in place of an image; several times for several hosts. Without a user, by
    /// the name that you have here.
    #[arg(
        long,
        value_name = "[USER@]HOST[:PORT]",
        conflicts_with_all = ["image", "list_rules", "firmware", "config_drive", "digests", "quick", "rules", "kit"]
    )]
    pub(crate) host: Vec<String>,
    /// Private key to log in with, several times for several; by default the keys of the agent at SSH_AUTH_SOCK. A
    /// passphrase is asked for on the terminal.
    #[arg(long, value_name = "FILE", requires = "host")]
    pub(crate) identity: Vec<PathBuf>,
    /// The host's public key, as a line `ssh-ed25519 AAAA…` or a file of such lines; several times for several.
    #[arg(long, value_name = "KEY|FILE", requires = "host", conflicts_with_all = ["known_hosts", "accept_new"])]
    pub(crate) host_key: Vec<String>,
    /// Files of known hosts; by default ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts. They are only read.
    #[arg(long, value_name = "FILE", requires = "host")]
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Take the key of a host that nobody knows. It is told and kept in the report; a changed key is refused all the
    /// same.
    #[arg(long, requires = "host")]
    pub(crate) accept_new: bool,
    /// Reach the hosts through this one.
    #[arg(long, value_name = "[USER@]HOST[:PORT]", requires = "host")]
    pub(crate) bastion: Option<String>,
    /// The bastion's public key, as `--host-key` has it.
    #[arg(long, value_name = "KEY|FILE", requires = "bastion")]
    pub(crate) bastion_key: Vec<String>,
}
