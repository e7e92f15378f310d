//! What can be typed of `nodekiln provider`.

use clap::{Args, Subcommand};

/// List, show and check providers.
#[derive(Args)]
pub(crate) struct Provider {
    #[command(subcommand)]
    pub(crate) verb: ProviderVerb,
}

/// What to do with providers.
#[derive(Subcommand)]
pub(crate) enum ProviderVerb {
    /// List the providers: those of nodekiln's own, and plugins on PATH, each of which is asked what it is.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what a provider is: its artifact, the disks that it takes, its machine and its layer.
    Show {
        /// The provider.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell whether a provider plugin keeps to the protocol (docs/plugins.md), point by point.
    ///
    /// Runs it a dozen times, on a small synthetic disk. The exit code is 1 where a point is not kept.
    Check {
        /// A plugin on PATH by its provider's name, or a path to an executable nodekiln-provider-NAME.
        #[arg(value_name = "NAME|PATH")]
        plugin: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
