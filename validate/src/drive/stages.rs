//! The stages of a boot, each with its deadline.

use std::cell::Cell;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nodekiln_words::{Class, Failure, Result};
use serde_json::Value;

use crate::api_server::api_script;
use crate::checks::{COMPONENTS, trouble};
use crate::deadlines::Stage;
use crate::guest::{Guest, Life as _};
use crate::keys::Keys;
use crate::run::{Running, Waited};
use crate::seed::{Bootstrap, CLIENT_NAME, OBJECTS, POD_NAME, SENTINEL};

/// A stage's result: a failure says which stage it was.
type Staged<T> = std::result::Result<T, (Stage, Failure)>;

/// How far a guest came, and what kept it from going further.
pub(super) struct Reached<'a> {
    /// The session, where there is one.
    pub(super) guest: Option<Guest<'a>>,
    /// The first stage that failed.
    pub(super) failure: Option<(Stage, Failure)>,
}

impl Reached<'_> {
    /// Whether there is a cluster to ask about.
    pub(super) fn cluster(&self) -> bool {
        !matches!(self.failure, Some((stage, _)) if stage <= Stage::KubeadmInit)
    }
}

/// Waits for each stage in turn; `meanwhile` is done while the pods of a cluster come up. After the login a stage that takes too long does not keep the rules
/// from being asked: they say what is wrong better than a deadline does.
pub(super) fn reach<'a>(
    running: &'a Running<'a>,
    keys: &Keys,
    bootstrap: Option<Bootstrap>,
    meanwhile: &mut dyn FnMut(&Guest) -> Result<()>,
) -> Reached<'a> {
    let greeting = Greeting::default();
    let console = |stage, enough: fn(crate::console::Reached) -> bool| {
        let enough = |reached| enough(reached) || greeting.heard(running.port());
        running
            .stage(stage, |deadline| running.wait_console(deadline, enough))
            .map_err(|failure| (stage, failure))
    };
    let login = || {
        let stage = Stage::Login;
        running
            .stage(stage, |deadline| Guest::login(running.port(), keys, running, deadline))
            .map_err(|failure| (stage, failure))
    };
    let guest = console(Stage::Firmware, |reached| reached.kernel)
        .and_then(|()| console(Stage::Kernel, |reached| reached.manager))
        .and_then(|()| login());
    match guest {
        Err(failure) => Reached { guest: None, failure: Some(failure) },
        Ok(guest) => {
            let failure = settle(running, &guest, bootstrap, meanwhile).err();
            Reached { guest: Some(guest), failure }
        }
    }
}

/// The greeting of the guest's SSH server: who is greeted need not read on a console that the kernel has come up, which a
/// kernel that was told to be `quiet` does not write there.
#[derive(Default)]
struct Greeting {
    heard: Cell<bool>,
    /// When it was last listened for.
    last: Cell<Option<Instant>>,
}

impl Greeting {
    /// How often is listened, and how long.
    const EVERY: Duration = Duration::from_secs(5);
    const LISTENS: Duration = Duration::from_secs(1);

    /// Whether the server behind `port` greets, or did before.
    fn heard(&self, port: u16) -> bool {
        if !self.heard.get() && self.last.get().is_none_or(|last| last.elapsed() > Self::EVERY) {
            self.heard.set(Self::listen(port).unwrap_or(false));
            self.last.set(Some(Instant::now()));
        }
        self.heard.get()
    }

    /// RFC 4253, 4.2: a server that has something to say before its version is none of a guest's.
    fn listen(port: u16) -> std::io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Self::LISTENS)?;
        stream.set_read_timeout(Some(Self::LISTENS))?;
        let mut start = [0; 4];
        stream.read_exact(&mut start)?;
        Ok(&start == b"SSH-")
    }
}

/// From the login to the state that the rules judge.
fn settle(
    running: &Running,
    guest: &Guest,
    bootstrap: Option<Bootstrap>,
    meanwhile: &mut dyn FnMut(&Guest) -> Result<()>,
) -> Staged<()> {
    let wait = |stage: Stage, look: &dyn Fn(Duration) -> Result<Waited<()>>| {
        let command = running.deadlines().command();
        running
            .stage(stage, |deadline| running.wait_for(deadline, || look(command)))
            .map_err(|failure| (stage, failure))
    };
    let bootstrapped = |stage, verb| {
        wait(stage, &|command| cloud_init(guest, command))?;
        bootstrapped(guest, verb, running.deadlines().command()).map_err(|failure| (stage, failure))
    };
    let plan = match bootstrap {
        None => return wait(Stage::CloudInit, &|command| cloud_init(guest, command)),
        Some(Bootstrap::Join(_)) => return bootstrapped(Stage::KubeadmJoin, "join"),
        Some(Bootstrap::Init(plan)) => plan,
    };
    bootstrapped(Stage::KubeadmInit, "init")?;
    if plan.pod_image.is_some() {
        make_objects(guest, running.deadlines().command())
            .map_err(|failure| (Stage::PodRunning, failure))?;
    }
    running
        .stage(Stage::System, |_| meanwhile(guest))
        .map_err(|failure| (Stage::System, failure))?;
    wait(Stage::NodeReady, &|command| node_ready(guest, command))?;
    if plan.pod_image.is_some() {
        wait(Stage::PodRunning, &|command| pods_running(guest, command))?;
    }
    let dns = plan.brings_dns();
    wait(Stage::ControlPlane, &|command| control_plane(guest, dns, command))?;
    running.check().map_err(|failure| (Stage::ControlPlane, failure))
}

/// cloud-init writes its result last of all, and systemd is through with its jobs after that.
fn cloud_init(guest: &Guest, command: Duration) -> Result<Waited<()>> {
    const SCRIPT: &str = "\
        timeout 20 systemctl is-system-running --wait >/dev/null 2>&1\n\
        if ! test -e /run/cloud-init/result.json; then\n\
          echo \"cloud-init says: $(tail -n 1 /var/log/cloud-init-output.log 2>&1)\"; exit\n\
        fi\n\
        state=$(systemctl is-system-running)\n\
        case $state in starting|initializing) echo \"the system is $state\";; esac";
    let output = guest.run(&["sh", "-c", SCRIPT], command)?;
    Ok(match output.text() {
        text if text.is_empty() => Waited::Done(()),
        text => Waited::Still(text),
    })
}

/// Without the sentinel there is no cluster to wait for.
fn bootstrapped(guest: &Guest, verb: &str, command: Duration) -> Result<()> {
    const CAUSE: &str = "\
        log=/var/log/cloud-init-output.log\n\
        grep -E 'error execution phase|\\[ERROR ' \"$log\" || tail -n 3 \"$log\"";
    if guest.run(&["test", "-e", SENTINEL], command)?.status == 0 {
        return Ok(());
    }
    let output = guest.run(&["sh", "-c", CAUSE], command)?;
    let said = output.text().lines().map(str::trim).collect::<Vec<_>>().join(" | ");
    Err(Failure::new(Class::Verdict, format!("kubeadm {verb} did not succeed: {said}")))
}

/// The objects that a script printed as one JSON list; an API server that restarts is no reason to give up.
fn objects(
    guest: &Guest,
    script: &str,
    command: Duration,
) -> Result<std::result::Result<Vec<Value>, String>> {
    let output = guest.run(&["sh", "-c", script], command)?;
    if output.status != 0 {
        let said = output.error_text();
        return Ok(Err(said.lines().last().unwrap_or("no answer").to_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout).map_err(|error| error.to_string()))
}

/// Waits in the guest, on events of the API server, until the node is Ready or some seconds have passed.
const NODES: &str = api_script!(
    r#"
nodes = wait("/api/v1/nodes", lambda nodes: nodes and all(map(ready, nodes)), 20)
print(json.dumps(nodes))
"#
);

fn node_ready(guest: &Guest, command: Duration) -> Result<Waited<()>> {
    let nodes = match objects(guest, NODES, command)? {
        Ok(nodes) => nodes,
        Err(said) => return Ok(Waited::Still(said)),
    };
    let conditions = nodes.first().and_then(|node| node.pointer("/status/conditions"));
    let conditions = conditions.and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    Ok(match ready {
        Some(condition) if condition["status"] == "True" => Waited::Done(()),
        Some(condition) => Waited::Still(condition["message"].to_string()),
        None => Waited::Still("the node has no condition Ready".into()),
    })
}

/// Has the guest make what is run in the cluster as soon as it may: pods are refused until the controller manager has made
/// the namespace's service account, a few seconds after the node is Ready. The arguments are collections and manifests.
const MAKE: &str = api_script!(
    r#"
while sys.argv[1:]:
    try:
        wait("/api/v1/namespaces/default/serviceaccounts", bool, 60)
        with open(sys.argv[2]) as file:
            body = file.read().encode()
        place = "/api/v1/namespaces/default/" + sys.argv[1]
        status, text = call(place, "POST", body, "application/yaml")
        if status in (201, 409):
            del sys.argv[1:3]
            continue
        print(place, status, text, flush=True)
    except (OSError, ValueError, http.client.HTTPException, Refused) as error:
        print(error, flush=True)
    time.sleep(1)
"#
);

fn make_objects(guest: &Guest, command: Duration) -> Result<()> {
    const BACKGROUND: &str = "sh -c \"$@\" >/run/nodekiln/pod.log 2>&1 &";
    let mut argv = vec!["sh", "-c", BACKGROUND, "background", MAKE, "make"];
    argv.extend(OBJECTS.iter().flat_map(|(collection, path)| [*collection, *path]));
    guest.run(&argv, command).map(drop)
}

/// The same for the pods that the validator runs.
const PODS: &str = api_script!(
    r#"
names = {"nodekiln-probe", "nodekiln-client"}
pods = wait(PODS, lambda pods: names <= {pod["metadata"]["name"] for pod in pods if ready(pod)}, 20)
print(json.dumps(pods))
"#
);

fn pods_running(guest: &Guest, command: Duration) -> Result<Waited<()>> {
    let pods = match objects(guest, PODS, command)? {
        Ok(pods) => pods,
        Err(said) => return Ok(Waited::Still(said)),
    };
    for name in [POD_NAME, CLIENT_NAME] {
        let still = match pods.iter().find(|pod| pod["metadata"]["name"] == name) {
            None => match guest.run(&["tail", "-n", "1", "/run/nodekiln/pod.log"], command)?.text()
            {
                log if log.is_empty() => format!("there is no pod {name}"),
                log => log,
            },
            Some(pod) => match trouble(pod) {
                None => continue,
                Some(trouble) => format!("{name} {trouble}"),
            },
        };
        return Ok(Waited::Still(still));
    }
    Ok(Waited::Done(()))
}

/// The same for what kubeadm runs: five pods at least, and CoreDNS where the image brings it.
const SYSTEM: &str = api_script!(
    r#"
path = "/api/v1/namespaces/kube-system/pods"
print(json.dumps(wait(path, lambda pods: len(pods) > 4 and all(map(ready, pods)), 20)))
"#
);

fn control_plane(guest: &Guest, dns: bool, command: Duration) -> Result<Waited<()>> {
    let pods = match objects(guest, SYSTEM, command)? {
        Ok(pods) => pods,
        Err(said) => return Ok(Waited::Still(said)),
    };
    Ok(missing(&pods, dns).map_or(Waited::Done(()), Waited::Still))
}

/// The label of CoreDNS's pods, which kubeadm gives the name of their predecessor.
const DNS: (&str, &str) = ("/metadata/labels/k8s-app", "kube-dns");

/// What is asked about the cluster needs its pods ready: the first of them that is not, if any. CoreDNS
/// starts last, once there is a network, and only where the image brings it.
fn missing(pods: &[Value], dns: bool) -> Option<String> {
    let wanted = COMPONENTS.iter().chain(dns.then_some(&DNS));
    wanted.into_iter().find_map(|(label, name)| {
        let pod = pods.iter().find(|pod| pod.pointer(label).and_then(Value::as_str) == Some(name));
        match pod {
            None => Some(format!("{name} has no pod")),
            Some(pod) => trouble(pod).map(|trouble| format!("{name} {trouble}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod((label, name): (&str, &str), ready: bool) -> Value {
        let key = label.rsplit('/').next().unwrap();
        json!({"metadata": {"labels": {key: name}},
            "status": {"phase": "Running", "containerStatuses": [{"ready": ready}]}})
    }

    #[test]
    fn a_greeting_is_heard_once_and_another_server_greets_nobody() {
        use std::io::Write as _;
        use std::net::TcpListener;

        let serve = |says: &'static [u8]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = std::thread::spawn(move || {
                listener.accept().unwrap().0.write_all(says).unwrap();
            });
            (port, server)
        };
        let (port, server) = serve(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        let greeting = Greeting::default();
        assert!(greeting.heard(port));
        server.join().unwrap();
        assert!(greeting.heard(port), "nobody listens there any more");
        let (port, server) = serve(b"HTTP/1.0 400\r\n");
        let greeting = Greeting::default();
        assert!(!greeting.heard(port) && !greeting.heard(port));
        server.join().unwrap();
    }

    #[test]
    fn cluster_dns_is_waited_for_where_the_image_brings_it() {
        let mut pods: Vec<Value> = COMPONENTS.map(|component| pod(component, true)).into();
        assert_eq!(missing(&pods, false), None);
        assert_eq!(missing(&pods, true).as_deref(), Some("kube-dns has no pod"));
        pods.push(pod(DNS, false));
        assert!(missing(&pods, true).is_some_and(|still| still.starts_with("kube-dns is Running")));
        pods.pop();
        pods.push(pod(DNS, true));
        assert_eq!(missing(&pods, true), None);
        pods.remove(0);
        assert_eq!(missing(&pods, true).as_deref(), Some("etcd has no pod"));
    }
}
