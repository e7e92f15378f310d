//! `nodekiln validate --host`: judge machines that are up already.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_validate::remote::{Destination, HostRequest, validate_host};
use nodekiln_validate::report::{self, Kept};
use nodekiln_validate::ssh::{Address, HostKey, Identity, Login, Trust, Trusted};
use nodekiln_validate::{Expectations, MachineProfile};
use nodekiln_words::{Class, Event, Failure, Progress, Result};

use super::{chosen, tell};
use crate::Context;
use crate::arguments::Validate;
use crate::arguments::hosts::Hosts;
use crate::exit::{self, print};
use crate::output::EVIDENCE;
use crate::passphrase;
use crate::progress::renderer;
use crate::registry;
use crate::report::write;

/// Judges one host after the other; the exit code is 1 where a rule failed.
pub(super) fn validate(verb: &Validate, context: &Context) -> Result<ExitCode> {
    let progress = renderer(context.global.progress);
    let requests = requests(verb, &*progress, context)?; // 1. which hosts, by which keys
    let several = requests.len() > 1;
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for request in requests {
        match validate_host(&request, &*progress, &context.cancel) {
            Ok(report) => {
                warn_of_accepted(&report, &*progress);
                let one = Kept { folder: request.out, report }; // 2. judge, keep evidence
                if several && !verb.json {
                    print(&report::overview(std::slice::from_ref(&one)))?;
                }
                kept.push(one);
            }
            // One that cannot be reached keeps nobody from judging the others.
            Err(failure) if several && failure.class() != Class::Interrupted => {
                progress.event(Event::Warning(failure.chain().join(": ")));
                lost.push(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    if several {
        let folder = verb.out.clone().unwrap_or_else(|| EVIDENCE.into());
        write(&folder.join("report.html"), &report::page(&kept))?; // 3. all of them on one page
        write(&folder.join("summary.md"), &report::summary(&kept))?;
        write(&folder.join("junit.xml"), &report::junit(&kept))?;
    }
    if !kept.is_empty() {
        tell(verb, &kept, true)?;
    }
    let failures = kept.iter().filter_map(|kept| kept.report.result().err());
    let worst = failures.chain(lost).min_by_key(|failure| failure.class() != Class::Verdict);
    Ok(worst.map_or(ExitCode::SUCCESS, |failure| exit::report(&failure, &context.global)))
}

/// Tells which keys were believed unseen, so that they can be compared and named the next time.
fn warn_of_accepted(report: &nodekiln_validate::Report, progress: &dyn Progress) {
    let Some(host) = &report.host else { return };
    for session in std::iter::once(host).chain(host.bastions()) {
        if session.trusted == Trusted::Accepted {
            progress.event(Event::Warning(format!(
                "the host key of {} was taken unseen: {} ({})",
                session.address, session.fingerprint, session.key
            )));
        }
    }
}

fn requests(
    verb: &Validate,
    progress: &dyn Progress,
    context: &Context,
) -> Result<Vec<HostRequest>> {
    let Hosts { host: hosts, identity, host_key, bastion, bastion_key, .. } = &verb.hosts;
    if hosts.len() > 1 && !host_key.is_empty() {
        return Err(Failure::input("`--host-key` is one host's, and there are several")
            .with_help("put the keys into a file of known hosts and name it by `--known-hosts`"));
    }
    let read =
        |path: &PathBuf| Identity::read(path, &|path| passphrase::ask(path, &context.cancel));
    let login = Login {
        identities: identity.iter().map(read).collect::<Result<_>>()?,
        agent: std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from),
    };
    let bastion = bastion.as_ref().map(|text| {
        Ok::<_, Failure>(Destination { address: address(text)?, trust: trust(verb, bastion_key)? })
    });
    let bastion = bastion.transpose()?;
    let expect = verb.manifest.as_deref().map(Expectations::read).transpose()?;
    let provider = provider(verb, progress, context)?;
    let several = hosts.len() > 1;
    let request = |text: &String| {
        let address = address(text)?;
        let folder = address.known_as().replace(['[', ']'], "").replace([':', '%'], "-");
        let out = match &verb.out {
            Some(out) if several => out.join(folder),
            Some(out) => out.clone(),
            None => Path::new(EVIDENCE).join(folder),
        };
        Ok::<_, Failure>(HostRequest {
            host: Destination { address, trust: trust(verb, host_key)? },
            bastion: bastion.clone(),
            login: login.clone(),
            provider: provider.clone(),
            tier: chosen(verb),
            expect: expect.clone(),
            out,
            patience: verb.patience,
        })
    };
    hosts.iter().map(request).collect()
}

/// An address with its user: who is meant where nobody is named is who one is here, as for `ssh`.
fn address(text: &str) -> Result<Address> {
    let mut address: Address = text.parse()?;
    let here = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    address.user = address.user.or_else(here).or_else(|| Some("root".to_owned()));
    Ok(address)
}

fn trust(verb: &Validate, keys: &[String]) -> Result<Trust> {
    let Hosts { known_hosts, accept_new, .. } = &verb.hosts;
    if !keys.is_empty() {
        let keys = keys.iter().map(|text| HostKey::read(text)).collect::<Result<Vec<_>>>()?;
        return Ok(Trust::Pinned(keys.into_iter().flatten().collect()));
    }
    if let Some(absent) = known_hosts.iter().find(|file| !file.exists()) {
        return Err(Failure::input(format!("there is no file {}", absent.display())));
    }
    let mut files = known_hosts.clone();
    if files.is_empty() {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        files.extend(home.map(|home| home.join(".ssh/known_hosts")));
        files.push("/etc/ssh/ssh_known_hosts".into());
    }
    Ok(Trust::Known { files, accept_new: *accept_new })
}

fn provider(
    verb: &Validate,
    progress: &dyn Progress,
    context: &Context,
) -> Result<Option<(String, MachineProfile)>> {
    match &verb.provider[..] {
        [] => Ok(None),
        [name] => {
            let machine = registry::by_name(name, progress, &context.cancel)?.machine();
            Ok(Some((name.clone(), machine)))
        }
        _ => Err(Failure::input("a host is in one provider's cloud, and several are named")
            .with_help("judge the hosts of each provider in a run of their own")),
    }
}
