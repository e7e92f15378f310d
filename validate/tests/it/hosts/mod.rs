//! Hosts that are up: OpenSSH's own server lets nodekiln in or not, and this very machine is judged.

mod cut;
mod server;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nodekiln_validate::remote::{Destination, HostRequest, validate_host};
use nodekiln_validate::report::{Kept, Outcome};
use nodekiln_validate::rules::Verdict;
use nodekiln_validate::ssh::{Address, HostKey, Identity, Login, Trust, Trusted};
use nodekiln_validate::{Expectations, Report, Tier};
use nodekiln_words::{Cancel, Class, Failure, Result, Silent};
use tempfile::TempDir;

use server::{Agent, Server};

fn address(user: &str, port: u16) -> Address {
    format!("{user}@127.0.0.1:{port}").parse().unwrap()
}

fn by_key(path: &Path) -> Login {
    let identity = Identity::read(path, &|_| Ok("open sesame".to_owned())).unwrap();
    Login { identities: vec![identity], agent: None }
}

/// A run with the host behind `server`, as root, by the key `key`, with its host key pinned.
struct Run {
    request: HostRequest,
    _out: TempDir,
}

impl Run {
    fn with(server: &Server) -> Self {
        let out = tempfile::tempdir().unwrap();
        let trust = Trust::Pinned(vec![server.host_key("ed25519")]);
        let request = HostRequest {
            host: Destination { address: address("root", server.port), trust },
            bastion: None,
            login: by_key(&server.path("key")),
            provider: None,
            tier: None,
            expect: None,
            out: out.path().to_owned(),
            patience: 1,
        };
        Self { request, _out: out }
    }

    fn trusting(mut self, trust: Trust) -> Self {
        self.request.host.trust = trust;
        self
    }

    fn by(mut self, login: Login) -> Self {
        self.request.login = login;
        self
    }

    fn go(&self) -> Result<Report> {
        validate_host(&self.request, &Silent, &Cancel::default())
    }

    fn trusted(&self) -> Trusted {
        self.go().unwrap().host.unwrap().trusted
    }

    fn refused(&self) -> Failure {
        self.go().unwrap_err()
    }
}

fn known(files: &[PathBuf], accept_new: bool) -> Trust {
    Trust::Known { files: files.to_vec(), accept_new }
}

/// Waits until no shell of root's is left with the server.
fn clean(server: &Server) {
    let started = Instant::now();
    while !server.shells().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "left: {:?}", server.shells());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_unasked(report: &Report, id: &str) -> bool {
    let judged = report.rules.iter().find(|judged| judged.rule.id == id).unwrap();
    matches!(judged.outcome, Outcome::Unasked(_))
}

#[test]
fn this_machine_is_judged_and_nothing_is_left_on_it() {
    let Some(server) = Server::start("") else { return };
    let run = Run::with(&server);
    let report = run.go().unwrap();
    assert_eq!(report.format, "host");
    let host = report.host.as_ref().unwrap();
    assert_eq!(host.address, format!("root@127.0.0.1:{}", server.port));
    assert_eq!(host.key, server.host_key("ed25519").to_string());
    assert_eq!(host.trusted, Trusted::Pinned);
    assert!(host.system.contains("Linux"), "{host:?}");
    let verdict = |id: &str| {
        let judged = report.rules.iter().find(|judged| judged.rule.id == id);
        judged.unwrap_or_else(|| panic!("no {id}")).verdict().cloned()
    };
    for id in ["console", "instance-id", "user-data", "hostname"] {
        assert!(matches!(verdict(id), Some(Verdict::Skipped(_))), "{id}: {:?}", verdict(id));
    }
    assert!(
        matches!(verdict("ssh-passwords"), Some(Verdict::Pass(_))),
        "{:?}",
        verdict("ssh-passwords")
    );
    assert!(verdict("swap").is_some() && verdict("containerd").is_some());
    let took = |id: &str| report.rules.iter().find(|judged| judged.rule.id == id).unwrap().took;
    assert!(took("swap").is_some() && took("console").is_none());
    assert!(report.rules.iter().all(|judged| judged.rule.tier != Tier::Static));
    let kept = Kept::read(&run.request.out).unwrap();
    assert_eq!(kept.report, report);
    assert!(report.text().contains(&host.fingerprint), "{}", report.text());
    clean(&server);
}

#[test]
fn keys_of_files_and_of_the_agent_open_it_and_others_do_not() {
    let Some(server) = Server::start("") else { return };
    for name in ["secret", "rsa"] {
        Run::with(&server).by(by_key(&server.path(name))).go().unwrap();
    }
    let agent = Agent::with(&server.path("key"));
    let by_agent = Login { identities: vec![], agent: Some(agent.socket.clone()) };
    Run::with(&server).by(by_agent).go().unwrap();
    let stranger = Run::with(&server).by(by_key(&server.path("stranger"))).refused();
    assert!(stranger.to_string().contains("stranger: refused"), "{stranger:?}");
    assert!(stranger.help().is_some_and(|help| help.contains("authorized_keys")));
    let wrong = Identity::read(&server.path("secret"), &|_| Ok("wrong".to_owned())).unwrap();
    let wrong = Run::with(&server).by(Login { identities: vec![wrong], agent: None }).refused();
    assert!(wrong.to_string().contains("passphrase"), "{wrong:?}");
    let none = Run::with(&server).by(Login::default()).refused();
    assert_eq!(none.class(), Class::Input);
    assert!(none.help().is_some_and(|help| help.contains("--identity")));
    let absent = Login { identities: vec![], agent: Some(server.path("no-agent")) };
    let absent = Run::with(&server).by(absent).refused();
    assert!(absent.to_string().contains("agent"), "{absent:?}");
}

#[test]
fn a_host_is_believed_by_its_key_alone() {
    let Some(server) = Server::start("") else { return };
    // Of its three keys it shows the one that can be compared.
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let file = server.known(&server.host_key(kind));
        assert_eq!(Run::with(&server).trusting(known(&[file], false)).trusted(), Trusted::Known);
    }
    let other: HostKey =
        std::fs::read_to_string(server.path("stranger.pub")).unwrap().parse().unwrap();
    let file = server.known(&other);
    for trust in [
        Trust::Pinned(vec![other.clone()]),
        known(std::slice::from_ref(&file), false),
        known(&[file], true),
    ] {
        let failure = Run::with(&server).trusting(trust).refused();
        let text = failure.to_string();
        let shown = server.host_key("ed25519").fingerprint();
        assert!(text.contains(&other.fingerprint()) && text.contains(&shown), "{text}");
    }
    let empty = server.path("empty");
    std::fs::write(&empty, "").unwrap();
    let unknown = Run::with(&server).trusting(known(std::slice::from_ref(&empty), false)).refused();
    assert_eq!(unknown.class(), Class::Input);
    assert!(unknown.help().is_some_and(|help| help.contains("--accept-new")), "{unknown:?}");
    let accepted = Run::with(&server).trusting(known(std::slice::from_ref(&empty), true));
    assert_eq!(accepted.trusted(), Trusted::Accepted);
    assert_eq!(std::fs::read_to_string(&empty).unwrap(), "", "the user's file is only read");
}

#[test]
fn a_bastion_leads_to_a_host_and_is_believed_by_its_own_key() {
    let (Some(bastion), Some(server)) = (Server::start(""), Server::start("")) else { return };
    // Both take the same key.
    std::fs::copy(server.path("authorized_keys"), bastion.path("authorized_keys")).unwrap();
    let run = |trust| {
        let mut run = Run::with(&server);
        run.request.bastion = Some(Destination { address: address("root", bastion.port), trust });
        run
    };
    let report = run(Trust::Pinned(vec![bastion.host_key("ed25519")])).go().unwrap();
    let host = report.host.as_ref().unwrap();
    assert_eq!(host.key, server.host_key("ed25519").to_string());
    let through = host.through.as_ref().unwrap();
    assert_eq!(through.key, bastion.host_key("ed25519").to_string());
    assert!(!is_unasked(&report, "ssh-passwords"), "a second session goes the same way");
    // The host's key is not the bastion's.
    let wrong = run(Trust::Pinned(vec![server.host_key("ed25519")])).refused();
    assert!(wrong.to_string().contains(&bastion.port.to_string()), "{wrong:?}");
    let mut nowhere = run(Trust::Pinned(vec![bastion.host_key("ed25519")]));
    nowhere.request.host.address.port = free_port();
    let nowhere = nowhere.refused();
    assert!(nowhere.help().is_some_and(|help| help.contains("AllowTcpForwarding")), "{nowhere:?}");
}

#[test]
fn one_who_is_not_root_and_cannot_become_it_is_told_what_to_do() {
    let Some(server) = Server::start("") else { return };
    for user in ["plain", "gone"] {
        let mut run = Run::with(&server);
        run.request.host.address = address(user, server.port);
        let failure = run.refused();
        assert_eq!(failure.class(), Class::Unsupported, "{failure:?}");
        assert!(failure.help().is_some_and(|help| help.contains("sudo -n")), "{failure:?}");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_port_without_a_server_is_told_at_once_and_one_without_an_answer_at_an_interruption() {
    let Some(server) = Server::start("") else { return };
    let mut run = Run::with(&server);
    run.request.host.address.port = free_port();
    let started = Instant::now();
    let dead = run.refused();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(dead.to_string().contains("cannot be reached") && dead.help().is_some(), "{dead:?}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    run.request.host.address.port = silent.local_addr().unwrap().port();
    let cancel = Cancel::default();
    let stop = cancel.clone();
    let started = Instant::now();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        stop.cancel();
    });
    let stopped = validate_host(&run.request, &Silent, &cancel).unwrap_err();
    assert_eq!(stopped.class(), Class::Interrupted, "{stopped:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_host_that_is_lost_half_way_leaves_rules_that_were_not_asked() {
    let Some(server) = Server::start("") else { return };
    let mut run = Run::with(&server);
    // Enough for the login and some rules; the kernel's settings alone are more.
    run.request.host.address.port = cut::after(server.port, 24 << 10);
    let started = Instant::now();
    let report = run.go().unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert!(!is_unasked(&report, "swap"), "{}", report.text());
    for id in ["ssh-passwords", "containerd"] {
        assert!(is_unasked(&report, id), "{id}:\n{}", report.text());
    }
    assert!(!report.passed() && report.result().is_err());
    clean(&server);
}

/// Judges the host at `NODEKILN_HOST`, by the key `NODEKILN_IDENTITY` or the agent, with the claims of
/// `NODEKILN_MANIFEST`, and prints the report.
#[test]
#[ignore = "needs a host: NODEKILN_HOST=user@address NODEKILN_IDENTITY=FILE"]
fn a_real_host() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let address: Address = std::env::var("NODEKILN_HOST").unwrap().parse().unwrap();
    let login = match variable("NODEKILN_IDENTITY") {
        Some(path) => by_key(&path),
        None => Login { identities: vec![], agent: variable("SSH_AUTH_SOCK") },
    };
    let expect = variable("NODEKILN_MANIFEST").map(|path| Expectations::read(&path).unwrap());
    let out = tempfile::tempdir().unwrap();
    let request = HostRequest {
        host: Destination { address, trust: known(&[], true) },
        bastion: None,
        login,
        provider: None,
        tier: None,
        expect,
        out: out.path().to_owned(),
        patience: 4,
    };
    let report = validate_host(&request, &Silent, &Cancel::default()).unwrap();
    eprintln!("{}", report.text());
}
