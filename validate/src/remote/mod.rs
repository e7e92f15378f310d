//! Judges a host that is up already, over SSH: an instance in a cloud, or any other machine.
//!
//! The rules are those on a booted guest. Those that judge what only a run with a guest of its own knows, and those
//! that change the machine, are left out with the reason: nothing is changed on a host, but for a folder in its memory
//! that goes with the session.

mod ask;
mod found;
mod route;
mod watch;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nodekiln_providers::MachineProfile;
use nodekiln_words::{Cancel, Class, Failure, Progress, Result};

use crate::checks::Context;
use crate::deadlines::Stage;
use crate::evidence::{self, Evidence};
use crate::guest::{Guest, shell_words};
use crate::provisioning::Told;
use crate::report::{self, HostSession, Report};
use crate::ssh::{Address, Login, Route as _, Trust, log_in};
use crate::{Expectations, Tier};

use found::Found;
use route::{Bastion, HostRoute};
use watch::Watch;

/// How long one step on the way to a host may take: looking up its name, the greeting, a key.
const STEP: Duration = Duration::from_secs(20);

/// A server, and by what its key is believed.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Where it is; who logs in has to be said.
    pub address: Address,
    /// By what its host key is believed.
    pub trust: Trust,
}

/// Which host to judge, and how to get there.
#[derive(Clone, Debug)]
pub struct HostRequest {
    /// The host.
    pub host: Destination,
    /// A host from which it is reached, where it is not from here.
    pub bastion: Option<Destination>,
    /// The keys that open both.
    pub login: Login,
    /// Name of the provider whose cloud it is in, and that provider's machine; by default its firmware tells.
    pub provider: Option<(String, MachineProfile)>,
    /// How far to go; by default the kubeadm tier on a node with `/etc/kubernetes/admin.conf`, else the boot tier.
    pub tier: Option<Tier>,
    /// What its image claims about itself; `None` where no manifest was read.
    pub expect: Option<Expectations>,
    /// Folder that receives the reports and, where a rule failed, the host's logs. What an earlier run left is removed.
    pub out: PathBuf,
    /// Every deadline is taken this many times; 1 is normal.
    pub patience: u32,
}

/// Judges a host. The report says whether it passed ([`Report::result`]); it is returned, and kept in the request's
/// folder in the forms that [`crate::validate`] has.
///
/// # Errors
/// When there is no report to make: the host cannot be reached, shows a key that is not believed, lets nobody in or has
/// no root's shell for whoever is let in, another run has the folder, or the run was cancelled. A host that is lost
/// half-way is no such error: the report tells which rules could not be asked.
pub fn validate_host(
    request: &HostRequest,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Report> {
    if request.tier == Some(Tier::Static) {
        return Err(Failure::input("the static tier judges an image's file, and a host is none")
            .with_help("leave out `--tier`, or give the file in place of `--host`"));
    }
    let evidence = Evidence::open(&request.out, false)?;
    let watch = Watch::start(request.patience, progress);
    let (guest, found, session) = watch.stage(Stage::Login, || enter(request, cancel))?; // 1. in, as root
    let tier = request.tier.unwrap_or(if found.admin { Tier::Kubeadm } else { Tier::Boot });
    let expect = request.expect.clone().unwrap_or_default();
    let profile = request.provider.as_ref().map(|(_, profile)| profile);
    let told = Told::of_host(found.host(profile), found.node.clone()); // 2. which machine it is
    let context = Context {
        expect: &expect,
        claimed: request.expect.is_some(),
        tier,
        told: &told,
        observed: None,
        console: &[],
        traffic: None,
        asked: None,
        conformance: None,
    };
    let command = watch.command();
    let rules = watch.stage(Stage::Rules, || ask::ask_all(&guest, &context, command))?; // 3. the rules
    let logs = match rules.iter().any(ask::calls_for_logs) {
        true => ask::fetch_logs(&guest, &request.out, command)?,
        false => Vec::new(),
    };
    cancel.check()?;
    let report = Report {
        schema: report::SCHEMA.to_owned(),
        image: session.address.clone().into(),
        provider: request.provider.as_ref().map(|(name, _)| name.clone()),
        format: "host".to_owned(),
        sha256: None,
        tier,
        firmware: found.firmware,
        accelerator: None,
        timeline: watch.laps(),
        rules,
        boot_times: None,
        network: None,
        further: Vec::new(),
        waivers: Vec::new(),
        obstacles: Vec::new(),
        cause: None,
        findings: Vec::new(),
        conformance: None,
        metadata: None,
        logs,
        console: evidence::CONSOLE.into(),
        fidelity: report::fidelity_of_host(tier),
        host: Some(HostSession { system: found.system, ..session }),
    };
    evidence.keep(&report)?; // 4. the report
    Ok(report)
}

/// Logs in, becomes root and looks around.
fn enter<'a>(request: &HostRequest, cancel: &'a Cancel) -> Result<(Guest<'a>, Found, HostSession)> {
    let patience = request.patience.max(1);
    let (step, command) = (STEP * patience, watch::command(patience));
    let mut through = None;
    if let Some(bastion) = &request.bastion {
        let route = HostRoute::to(bastion, None)?;
        let link = route.connect(cancel, step)?;
        let user = user(bastion)?;
        log_in(&link, user, &bastion.address.to_string(), &request.login, step)?;
        let session = route.session(&bastion.address);
        through = Some((Rc::new(Bastion { link, name: bastion.address.known_as() }), session));
    }
    let (bastion, through) = through.unzip();
    let route = HostRoute::to(&request.host, bastion)?;
    let link = route.connect(cancel, step)?;
    let user = user(&request.host)?.to_owned();
    log_in(&link, &user, &request.host.address.to_string(), &request.login, step)?;
    let session =
        HostSession { through: through.map(Box::new), ..route.session(&request.host.address) };
    let guest = Guest::over(link, Box::new(route), root());
    let found = Found::look(&guest, command).map_err(|failure| match failure.class() {
        Class::Unsupported => Failure::new(
            Class::Unsupported,
            format!("{user} cannot do anything as root at {}", request.host.address),
        )
        .with_source(failure)
        .with_help(format!(
            "log in as root, or let {user} run commands by `sudo -n` there: without a password, without a terminal"
        )),
        _ => failure,
    })?;
    Ok((guest, found, session))
}

fn user(destination: &Destination) -> Result<&str> {
    destination.address.user.as_deref().ok_or_else(|| {
        Failure::input(format!("it is not said who logs in to {}", destination.address))
            .with_help("write `user@host`")
    })
}

/// The line that starts a shell of root's, for root and for one who becomes root without a password.
fn root() -> String {
    shell_words(&["sh", "-c", "test \"$(id -u)\" = 0 && exec sh; exec sudo -n -- sh"])
}
