//! The clouds' services at their real addresses. Needs root, as the sandbox's tests do.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nodekiln_validate::metadata::{
    Cloud, Description, Emulation, Instance, Journal, METADATA, Namespace, WIRESERVER, namespace,
};

fn emulation(cloud: Cloud, seed: &str) -> Option<Emulation> {
    let description = Description { seed: Some(seed.to_owned()), ..Description::default() };
    let instance = Instance::of(cloud, description).unwrap();
    unless_refused(Emulation::start(instance, Vec::new(), Journal::default()))
}

/// What was made; `None`, told, where this machine lets only root make network namespaces.
fn unless_refused<T>(made: nodekiln_words::Result<T>) -> Option<T> {
    match made {
        Err(failure) if !namespace::privileged() => {
            assert!(failure.help().is_some_and(|help| help.contains("root")), "{failure:?}");
            eprintln!("skipped: only root may make network namespaces: {failure}");
            None
        }
        made => Some(made.unwrap()),
    }
}

/// The body of one answer, as seen from this thread's network.
fn get(address: Ipv4Addr, head: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((address, 80));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "{head}\r\nHost: h\r\nConnection: close\r\n\r\n")?;
    let mut told = String::new();
    stream.read_to_string(&mut told)?;
    Ok(told.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

const GCE_ID: &str = "GET /computeMetadata/v1/instance/id HTTP/1.1\r\nMetadata-Flavor: Google";

#[test]
fn the_services_are_inside_and_nowhere_else() {
    let Some(emulation) = emulation(Cloud::Azure, "inside") else { return };
    let head = "GET /metadata/versions HTTP/1.1\r\nMetadata: true";
    let told = emulation.inside(|| get(METADATA, head)).unwrap().unwrap();
    assert!(told.contains("apiVersions"), "{told}");
    let told = emulation.inside(|| get(WIRESERVER, "GET /?comp=versions HTTP/1.1")).unwrap();
    assert!(told.unwrap().contains("<Preferred>"));
    // Each address has its own service, though both are the same server's.
    let told = emulation.inside(|| get(WIRESERVER, head)).unwrap().unwrap();
    assert_eq!(told, "");
    // From outside, whoever answers there, if anybody does, does not know this instance.
    let outside = get(METADATA, head).unwrap_or_default();
    assert!(!outside.contains("2023-11-15"), "{outside}");
    // From inside there is no way out.
    let out = SocketAddr::from(([192, 0, 2, 1], 80));
    let limit = Duration::from_secs(2);
    let error = emulation.inside(|| TcpStream::connect_timeout(&out, limit)).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable);
}

#[test]
fn two_networks_at_once_are_two() {
    let (Some(one), Some(two)) = (emulation(Cloud::Gce, "one"), emulation(Cloud::Gce, "two"))
    else {
        return;
    };
    std::thread::scope(|scope| {
        for emulation in [&one, &two] {
            for _ in 0..4 {
                scope.spawn(|| {
                    let told = emulation.inside(|| get(METADATA, GCE_ID)).unwrap().unwrap();
                    assert_eq!(told, emulation.server().instance().instance_id());
                });
            }
        }
    });
}

#[test]
fn a_network_made_inside_another_is_one_of_its_own() {
    let Some(outer) = emulation(Cloud::Gce, "outer") else { return };
    let inner = outer.inside(|| emulation(Cloud::Gce, "inner").unwrap()).unwrap();
    for emulation in [&outer, &inner] {
        let told = emulation.inside(|| get(METADATA, GCE_ID)).unwrap().unwrap();
        assert_eq!(told, emulation.server().instance().instance_id());
        let resolver = emulation.inside(|| fs_err::read_to_string("/etc/resolv.conf")).unwrap();
        assert!(resolver.unwrap().contains("127.0.0.53"));
    }
}

#[test]
fn programs_inside_find_the_name_and_this_process_keeps_its_own_names() {
    let before = fs_err::read("/etc/resolv.conf").unwrap();
    let Some(emulation) = emulation(Cloud::Gce, "names") else { return };
    let folder = std::env::current_dir().unwrap();
    let (told, inside) = emulation
        .inside(|| {
            let mut command = Command::new("getent");
            let told = command.args(["ahostsv4", "metadata.google.internal"]).output().unwrap();
            (String::from_utf8(told.stdout).unwrap(), std::env::current_dir().unwrap())
        })
        .unwrap();
    assert!(told.starts_with("169.254.169.254"), "{told}");
    assert_eq!(inside, folder);
    assert_eq!(fs_err::read("/etc/resolv.conf").unwrap(), before);
    let counts = emulation.server().journal().counts();
    let asked = |kind: &String| kind.starts_with("DNS A metadata.google.internal 169.254.169.254");
    assert!(counts.keys().any(asked), "{counts:?}");
}

#[test]
fn what_is_no_question_gets_no_answer_and_the_next_one_does() {
    let Some(emulation) = emulation(Cloud::Gce, "dns") else { return };
    let socket = emulation.namespace().listen_udp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 53], 53));
    let ask = |socket: &UdpSocket, bytes: &[u8]| socket.send_to(bytes, server).unwrap();
    ask(&socket, b"nonsense");
    // A question for the record A of `metadata`.
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x08metadata\0\0\x01\0\x01";
    ask(&socket, question);
    let mut answer = [0; 512];
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (length, _) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(&answer[..2], b"\0\x07");
    assert_eq!(&answer[length - 4..length], &METADATA.octets());
}

#[test]
fn a_program_in_it_dies_with_the_thread_that_started_it() {
    let Some(network) = unless_refused(Namespace::create(&[], None)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script = "sleep 600 & sleep 600 & echo started > \"$0\"; wait";
    let mut child = network
        .inside(|| {
            let child = start(script, &mark);
            assert!(
                marked(&mark).len() >= 5,
                "the command, the first process, a shell and two more"
            );
            child
        })
        .unwrap();
    let status = child.wait().unwrap(); // without the guard it would take ten minutes
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    eventually("all that it started is gone", || marked(&mark).is_empty());
}

#[test]
fn a_program_in_it_can_be_asked_to_end() {
    let Some(network) = unless_refused(Namespace::create(&[], None)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script =
        "trap 'echo told > \"$0\"; exit 7' TERM; echo up > \"$0\"; while :; do sleep 0.1; done";
    let code = network.inside(|| {
        let mut child = start(script, &mark);
        namespace::ask_to_end(&child);
        let mut code = None;
        eventually("it ended", || {
            code = child.try_wait().unwrap().and_then(|status| status.code());
            code.is_some()
        });
        code
    });
    assert_eq!(code.unwrap(), Some(7));
    assert_eq!(fs_err::read_to_string(&mark).unwrap(), "told\n");
}

/// Starts a shell that writes to the file `mark` when it is ready; its environment names the file.
fn start(script: &str, mark: &Path) -> Child {
    let mut command = namespace::mortal(Path::new("sh")).unwrap();
    command.args(["-c", script]).arg(mark).env("NODEKILN_TEST", mark);
    let child = command.spawn().unwrap();
    eventually("it started", || !fs_err::read(mark).unwrap_or_default().is_empty());
    child
}

/// Processes whose environment names the file `mark`.
fn marked(mark: &Path) -> Vec<u32> {
    let mark = format!("NODEKILN_TEST={}", mark.display());
    let entries = fs_err::read_dir("/proc").unwrap();
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let named = |process: &u32| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
    };
    processes.filter(named).collect()
}

/// Waits until something holds, half a minute at most.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
