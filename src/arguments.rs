//! What can be typed. One struct a verb; its documentation is its `--help`.

pub(crate) mod hosts;
pub(crate) mod kit;
pub(crate) mod metadata;
pub(crate) mod provider;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use nodekiln_words::Bytes;

/// Builds Kubernetes node images from recipes, boots the very bytes it will ship, and explains them.
///
/// A recipe (YAML) becomes a tree of Debian packages and your own steps, the tree a disk, the disk
/// one artifact per provider. `validate` then boots an artifact in QEMU and runs kubeadm on it.
#[derive(Parser)]
#[command(name = "nodekiln", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER_HELP: &str = "\
Start here:
  nodekiln recipe list                    what can be built
  nodekiln plan quickstart                what a build would do, and what it would reuse
  nodekiln build quickstart               write out/quickstart/
  nodekiln validate out/quickstart/quickstart.qcow2 --tier kubeadm

Exit codes: 0 done, 1 a step or check failed, 2 wrong input, 3 not supported, 4 a program or
service is missing, 5 reading or writing failed, 130 interrupted.";

const VALIDATE_HELP: &str = "\
Examples:
  nodekiln validate out/node/node.qcow2                       by the manifest beside it
  nodekiln validate out/node --provider azure                 the VHD of a build, by UEFI, with wireserver
  nodekiln validate out/node --provider azure --firmware bios     a machine of the first generation
  nodekiln validate out/node --provider aws --tier kubeadm    kubeadm init by user-data from EC2's service
  nodekiln validate foreign.ova --provider vsphere            an image that nodekiln did not build
  nodekiln validate out/node --provider all --tier static     every artifact as it lies there: nothing boots
  nodekiln validate out/node --provider all --tier boot       one after the other, and one page of all
  nodekiln validate out/node --provider qemu --tier conformance --kit node-1.20.2.kit   Kubernetes' tests for nodes
  nodekiln validate --host admin@192.0.2.7 --provider aws     an instance that is up: by SSH, nothing is changed there
  nodekiln validate --host root@10.0.0.7 --bastion me@jump    one that is reached through another host
  nodekiln validate --list-rules                              what is judged, in which tier
  nodekiln validate out/node --provider aws --rules goss.yaml --goss-vars vars.yaml    rules of your own too
  nodekiln validate out/node --provider all --tier static --rules node.rules.yaml      those that need no boot

What each provider's machine is: nodekiln provider show NAME. Exit code 1: a rule failed.";

/// Options of every verb.
#[derive(Args, Clone)]
pub(crate) struct Global {
    /// Folder of the content store.
    #[arg(long, global = true, env = "NODEKILN_CACHE", value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
    /// How progress is shown on standard error.
    #[arg(long, global = true, value_enum, default_value_t = ProgressStyle::Auto, value_name = "STYLE")]
    pub(crate) progress: ProgressStyle,
    /// When to color messages.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressStyle {
    /// Bars on a terminal, lines elsewhere.
    Auto,
    /// A line when a task begins or ends.
    Plain,
    /// One JSON object a line.
    Json,
    /// Nothing but warnings.
    Quiet,
}

impl ProgressStyle {
    /// Its word on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Quiet => "quiet",
        }
    }
}

/// When to color messages.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Global {
    /// Whether messages on standard error are colored.
    pub(crate) fn color(&self) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
            }
        }
    }
}

/// The verbs.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Build a recipe's artifacts, bill of materials and manifest.
    Build(Build),
    /// Print what a build would do: the nodes, their ids, and which are already there.
    Plan(Plan),
    /// Lock what a recipe is built from, move the lock, or check it.
    Lock(Lock),
    /// Build a recipe twice under different circumstances and tell where the two differ.
    VerifyReproducible(VerifyReproducible),
    /// Judge an image as it lies there, boot it under its own cloud's conditions and judge it again.
    ///
    /// The file is read by nodekiln's own readers, judged before a boot (container, partition table, cloud-init's
    /// datasources, drivers), and booted in QEMU on a throw-away overlay: on the machine of its provider, with
    /// that cloud's metadata service and media, which needs root or user namespaces. The file stays as it is.
    #[command(after_help = VALIDATE_HELP)]
    Validate(Validate),
    /// Make a kit for node conformance: Kubernetes' own test suite for nodes and the images that it runs, in one
    /// file.
    #[command(after_help = kit::HELP)]
    Kit(kit::Kit),
    /// Put the reports of several validations on one page.
    ///
    /// Reads the `report.json` of each folder of evidence and writes them as one HTML page that needs no other file,
    /// as a Markdown summary, as JUnit or as JSON; prints a line for each.
    Report(Report),
    /// Tell what an image file is: format, partitions, boot, system, Kubernetes.
    ///
    /// Reads raw, qcow2, fixed VHD, VMDK, OVA and .tar.gz by itself, and VHDX, VDI and dynamic VHD through
    /// qemu-img where that is installed. Needs no root and mounts nothing.
    Inspect(Inspect),
    /// Write an image file in another format.
    ///
    /// The disk stays the same, byte by byte. Reads what `inspect` reads; writes raw, qcow2, vhd, vmdk, ova
    /// and tar.gz. The same input gives the same bytes on any machine.
    Convert(Convert),
    /// Tell a guest what its cloud would tell it: metadata services, and the disks that clouds attach.
    Metadata(metadata::Metadata),
    /// List, show and check recipes.
    Recipe(Recipe),
    /// List, show and check providers.
    Provider(provider::Provider),
    /// Look after the content store.
    Cache(Cache),
    /// Print a completion script for a shell.
    Completions(Completions),
}

/// Which recipe, and what is changed in it for this run.
#[derive(Args)]
pub(crate) struct Selection {
    /// A recipe of the library by name, or a path to a YAML file.
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: String,
    /// Override a value, as in `--set disk.size=8GiB`. May be given several times.
    #[arg(long = "set", value_name = "PATH.TO.KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// The recipe's lock; by default `NAME.lock.yaml` beside the recipe, followed if it is there.
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    /// Use what was fetched before and ask no server, but for a remote store that is named.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Base URL of a package archive, instead of those this machine uses. May be given several times.
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Vec<String>,
    /// File with the certificates of authorities to trust for https, in PEM form.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// The environment variable that names a remote store.
pub(crate) const REMOTE_VARIABLE: &str = "NODEKILN_CACHE_REMOTE";

/// The store that machines share.
#[derive(Args)]
pub(crate) struct RemoteStore {
    /// Store shared with other machines: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX
    /// or file:///FOLDER. What is there is pulled instead of built; what was built is pushed.
    /// Credentials come from the cloud's own environment variables.
    #[arg(long, env = REMOTE_VARIABLE, value_name = "URL")]
    pub(crate) cache_remote: Option<String>,
    /// Pull from the remote store and never write to it.
    #[arg(long, env = "NODEKILN_CACHE_REMOTE_READ_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) cache_remote_read_only: bool,
    /// File with public keys, one OpenSSH line each, whose signed results are used besides this store's
    /// own. May be given several times; the variable parts files by `:`.
    #[arg(long, env = "NODEKILN_CACHE_REMOTE_TRUST", value_delimiter = ':', value_name = "FILE")]
    pub(crate) cache_remote_trust: Vec<PathBuf>,
    /// Private key (OpenSSH, Ed25519) that signs what is pushed, instead of this store's own.
    #[arg(long, env = "NODEKILN_CACHE_REMOTE_KEY", value_name = "FILE")]
    pub(crate) cache_remote_key: Option<PathBuf>,
}

/// A recipe to be planned or built, and for whom.
#[derive(Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Providers to build for, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "qemu,raw", value_name = "NAMES")]
    pub(crate) provider: Vec<String>,
    /// Take the newest of everything, though there is a lock.
    #[arg(long, conflicts_with = "lock")]
    pub(crate) no_lock: bool,
}

/// Build a recipe's artifacts, bill of materials and manifest.
#[derive(Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) remote: RemoteStore,
    /// Folder that receives a folder named after the recipe.
    #[arg(long, short, default_value = "out", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Replace what another build left in the output folder.
    #[arg(long)]
    pub(crate) force: bool,
    /// Compression of formats that have any.
    #[arg(long, value_enum, default_value_t = Compression::Default)]
    pub(crate) compression: Compression,
    /// Keep the working folder of a step that fails.
    #[arg(long)]
    pub(crate) keep_failed: bool,
    /// Open a shell in the sandbox of a step that fails.
    #[arg(long)]
    pub(crate) shell_on_failure: bool,
    /// Print the manifest to standard output when done.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show programs in the sandbox another clock: `verify-reproducible` does, for its second build.
    #[arg(long, hide = true)]
    pub(crate) other_clock: bool,
    /// Stop when the program that started this one ends: `verify-reproducible` does, for its builds.
    #[arg(long, hide = true)]
    pub(crate) end_with_parent: bool,
}

/// Compression of artifacts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Each block once for all formats: two thirds of the time for five of them, qcow2 a twentieth larger, VMDK
    /// and tar.gz a ninth and an eighth.
    Fast,
    /// A fortieth to a twentieth larger than the usual programs make them.
    Default,
    /// Smaller by four hundredths, for more than twice the time.
    Small,
    /// qcow2 in Zstandard: fast and small, but readers need QEMU 5.1.
    Zstd,
    /// qcow2 as it is; formats that have to be compressed as quickly as possible.
    None,
}

/// Print what a build would do: each node with its id, whether the store has it, how long it took or is
/// expected to take, and for what is missing, the first input that differs from the nearest earlier node.
#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) remote: RemoteStore,
    /// Print JSON.
    #[arg(long, conflicts_with = "graph")]
    pub(crate) json: bool,
    /// Print the graph for another program to draw, as in `nodekiln plan quickstart --graph dot | dot -Tsvg`.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) graph: Option<GraphFormat>,
}

/// Formats of `plan --graph`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Graphviz.
    Dot,
}

/// Lock what a recipe is built from: every package, file and image by digest, in NAME.lock.yaml beside the
/// recipe. `build` and `plan` follow it and take nothing that is not in it.
///
/// Without options a lock is made, or an existing one is brought in line with the recipe while everything
/// else stays as it is.
#[derive(Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Providers whose packages are locked besides the image's own, separated by commas; by default all
    /// that there are.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) provider: Vec<String>,
    /// Move to the newest: everything, or the packages and images named.
    #[arg(long, num_args = 0.., value_name = "NAME")]
    pub(crate) update: Option<Vec<String>>,
    /// Only tell whether the lock is whole and fits the recipe; asks no server, and ends with 1 if not.
    #[arg(long, conflicts_with_all = ["update", "verify"])]
    pub(crate) check: bool,
    /// Hold all that is locked against archives, release servers and registries as they answer now:
    /// signatures, versions and digests.
    #[arg(long, conflicts_with = "update")]
    pub(crate) verify: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Build a recipe twice, each time in an empty store and from one lock, and tell where the two differ: node,
/// partition, file system, path, kind of difference, and the likely cause.
///
/// The second build sees other circumstances, which must not matter; and it always comes later.
#[derive(Args)]
pub(crate) struct VerifyReproducible {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What differs for the second build.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all", value_name = "WHAT")]
    pub(crate) vary: Vec<Vary>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `verify-reproducible` varies.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vary {
    /// Everything.
    All,
    /// Nothing but the minutes between the two.
    None,
    /// One processor in place of all.
    Cores,
    /// Another language, time zone, home folder and user.
    Environment,
    /// Another host name.
    Hostname,
    /// New files are their owner's alone.
    Umask,
    /// A store in memory, where folders list their entries in another order.
    FileSystem,
    /// A date more than a year ahead for programs in the sandbox; needs libfaketime on this machine.
    Clock,
}

/// Tell what an image file is.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The image file.
    #[arg(value_name = "FILE")]
    pub(crate) image: PathBuf,
    /// Leave out the digests of the file and of its disk, and the check of every cluster, which take as
    /// long as reading them.
    #[arg(long)]
    pub(crate) no_digest: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write an image file in another format.
#[derive(Args)]
pub(crate) struct Convert {
    /// The image file.
    #[arg(value_name = "IN")]
    pub(crate) image: PathBuf,
    /// The new file.
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Its format; told from its name where left out.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<ImageFormat>,
    /// Compression of formats that have any.
    #[arg(long, value_enum, default_value_t = Compression::Default)]
    pub(crate) compression: Compression,
    /// Time in formats that have one: seconds since 1970.
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 0, value_name = "SECONDS")]
    pub(crate) source_date: u64,
    /// Write over a file that is there.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageFormat {
    /// The bytes of the disk, with holes.
    Raw,
    /// QEMU's compressed format.
    Qcow2,
    /// Microsoft's fixed disk, as Azure takes it.
    Vhd,
    /// VMware's stream-optimised disk.
    Vmdk,
    /// An OVF package in one file.
    Ova,
    /// An archive with `disk.raw`, as Google Compute Engine takes it.
    TarGz,
}

/// Boot an image and judge it.
#[derive(Args)]
pub(crate) struct Validate {
    /// The image file: raw, qcow2, VHD, VMDK, OVA or .tar.gz, which is never written to; or a build's output
    /// folder or manifest.
    #[arg(value_name = "FILE", required_unless_present_any = ["list_rules", "host"])]
    pub(crate) image: Option<PathBuf>,
    /// Print every rule with its tier, severity and title, and judge nothing; `--json` prints the whole records.
    #[arg(long, conflicts_with = "image")]
    pub(crate) list_rules: bool,
    #[command(flatten)]
    pub(crate) own: OwnRules,
    /// Which artifacts of a build's folder or manifest, `all` for every one; with a file, whose machine it is
    /// booted on; with `--host`, whose cloud it is in, where its firmware does not tell.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) provider: Vec<String>,
    /// How far to go: `static` reads the file and boots nothing, `boot` goes to multi-user, `kubeadm` to a Ready
    /// node, `conformance` through Kubernetes' own suite for nodes. By default `boot`; of a host with
    /// /etc/kubernetes/admin.conf `kubeadm`.
    #[arg(long, value_enum)]
    pub(crate) tier: Option<Tier>,
    /// The kit of the conformance tier, as `nodekiln kit` makes it.
    #[arg(long, value_name = "FILE", required_if_eq("tier", "conformance"))]
    pub(crate) kit: Option<PathBuf>,
    /// Run only the specs of node conformance whose text matches this regular expression.
    #[arg(long, value_name = "REGEX", requires = "kit")]
    pub(crate) focus: Option<String>,
    /// Cut the specs into this many parts, of which `--shard` says the one to run; give each an `--out` of its own.
    #[arg(long, value_name = "N", requires = "kit")]
    pub(crate) shards: Option<usize>,
    /// The part to run, from 1.
    #[arg(long, value_name = "K", requires = "shards", default_value_t = 1)]
    pub(crate) shard: usize,
    /// Run this many specs at once in the guest. Many of them mostly wait: some four times its processors are fine on
    /// hardware, two or three under emulation. Wants a kit with Ginkgo's own program.
    #[arg(long, value_name = "N", requires = "kit", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) parallel: u32,
    /// Go on at the next spec where an earlier run with the same image, kit and output folder was interrupted.
    #[arg(long, requires = "kit")]
    pub(crate) resume: bool,
    /// Firmware to boot by; by default the usual one of the image's provider, else the BIOS.
    #[arg(long, value_enum)]
    pub(crate) firmware: Option<Firmware>,
    /// Give the node its data on OpenStack's config drive instead of by the metadata service.
    #[arg(long)]
    pub(crate) config_drive: bool,
    /// How the processor is provided; `auto` tries KVM with a deadline.
    #[arg(long, value_enum, default_value_t = Accelerator::Auto)]
    pub(crate) accelerator: Accelerator,
    /// Memory of the guest.
    #[arg(long, default_value = "4GiB", value_name = "SIZE")]
    pub(crate) memory: Bytes,
    /// Processors of the guest.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) cpus: u32,
    /// Power the image on once and no more: no power cut, and no second machine beside the first, to whose rules
    /// nothing is said then. For checks of a change; a release wants all of it.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Take every deadline this many times; more suits a busy machine.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) patience: u32,
    /// Manifest that says what to expect; by default `manifest.json` beside the image.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Digest the file and read every byte of its disk in the static tier too, which otherwise reads tables and
    /// files alone.
    #[arg(long)]
    pub(crate) digests: bool,
    /// Folder for console and reports; by default `evidence/NAME` beside the image for its provider's name, else
    /// `evidence/`; of several artifacts each has a folder in it. The static tier writes none unless one is named.
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Print the report as JSON to standard output.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) hosts: hosts::Hosts,
}

/// Rules that the user brings.
#[derive(Args)]
pub(crate) struct OwnRules {
    /// Judge by rules of your own too: a goss file, a NAME.rules.yaml with rules and waivers, or a folder with such
    /// files (its goss.yaml and every NAME.rules.yaml). May be given several times.
    #[arg(long, value_name = "PATH")]
    pub(crate) rules: Vec<PathBuf>,
    /// Variables (YAML or JSON) for the templates of goss files; of equal keys the last file's holds. May be given
    /// several times.
    #[arg(long, value_name = "FILE", requires = "rules")]
    pub(crate) goss_vars: Vec<PathBuf>,
    /// Let the templates of goss files see this machine's environment.
    #[arg(long, requires = "rules")]
    pub(crate) goss_env: bool,
    /// Let the templates of goss files read this machine's files.
    #[arg(long, requires = "rules")]
    pub(crate) goss_read_files: bool,
    /// Whose meaning goss files have where goss 0.3 and 0.4 differ.
    #[arg(long, value_enum, default_value_t = GossDialect::Goss04, value_name = "VERSION", requires = "rules")]
    pub(crate) goss_dialect: GossDialect,
}

/// Versions of goss.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GossDialect {
    /// goss 0.3: wanted elements may share a found one, and RPM versions have no release.
    #[value(name = "0.3")]
    Goss03,
    /// goss 0.4.
    #[value(name = "0.4")]
    Goss04,
}

/// Put the reports of several validations on one page.
#[derive(Args)]
pub(crate) struct Report {
    /// Folders of evidence, as `validate` leaves them.
    #[arg(value_name = "FOLDER", required = true)]
    pub(crate) folders: Vec<PathBuf>,
    /// Write one HTML page with verdicts, rules, consoles and timelines to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write a summary in Markdown to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Write JUnit XML, a suite a run, to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print the reports as a list in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tiers of validation.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// The file and the files in it are as they should be; nothing is booted.
    Static,
    /// Boots, and the running system is as declared.
    Boot,
    /// Boot, then `kubeadm init` through cloud-init.
    Kubeadm,
    /// Boot, then Kubernetes' own suite for nodes from a kit.
    Conformance,
}

/// Firmware of the guest.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// How the guest's processor is provided.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accelerator {
    /// KVM where it works, else TCG.
    Auto,
    /// Hardware virtualisation.
    Kvm,
    /// Emulation.
    Tcg,
}

/// List, show and check recipes.
#[derive(Args)]
pub(crate) struct Recipe {
    #[command(subcommand)]
    pub(crate) verb: RecipeVerb,
}

/// What to do with recipes.
#[derive(Subcommand)]
pub(crate) enum RecipeVerb {
    /// List the recipes of the library.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a recipe: as written, or resolved with `--resolved`.
    Show {
        /// A recipe of the library by name, or a path.
        #[arg(value_name = "RECIPE")]
        recipe: String,
        /// Follow `extends`, fill in defaults, and print the result.
        #[arg(long)]
        resolved: bool,
        /// Providers to show it for, separated by commas: with their layers, where `--resolved` is given.
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        provider: Vec<String>,
        /// Override a value.
        #[arg(long = "set", value_name = "PATH.TO.KEY=VALUE")]
        sets: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a recipe and everything that it extends.
    Check {
        /// A path, or a recipe of the library by name.
        #[arg(value_name = "FILE")]
        recipe: String,
        /// Providers to check it for, separated by commas: their layers, and the disks that they take.
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        provider: Vec<String>,
        /// Override a value.
        #[arg(long = "set", value_name = "PATH.TO.KEY=VALUE")]
        sets: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of recipes.
    Schema,
}

/// Look after the content store.
#[derive(Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) verb: CacheVerb,
}

/// What to do with the store.
#[derive(Subcommand)]
pub(crate) enum CacheVerb {
    /// Count what is stored.
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read everything stored and compare it with its digest.
    Verify {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the public key by which other machines can be told to trust what this store pushes to a
    /// remote one (--cache-remote-trust). A key is made where there is none.
    Key,
    /// Remove what was used longest ago.
    Prune {
        /// What to keep: a size such as 20GiB, or an age such as 30d or 12h.
        #[arg(long, value_name = "SIZE|AGE")]
        keep: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Print a completion script for a shell.
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Writes the completion script of `shell` to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) {
    let mut command = Arguments::command();
    clap_complete::generate(shell, &mut command, "nodekiln", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
