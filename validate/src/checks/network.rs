//! What the guest reached for over its network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use nodekiln_words::{Failure, Result};

use super::{Applies, Ask, Context, Judge, Rule, Severity, Verdict};
use crate::Tier;
use crate::guest::Output;
use crate::metadata::{Cloud, METADATA};
use crate::place::Place;
use crate::traffic::{Peer, Protocol};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "network-attempts",
    title: "The guest reaches for nothing but what belongs to its cloud",
    tier: Tier::Boot,
    severity: Severity::Advisory,
    reads: &["each frame of the guest's network card"],
    why: "what a node fetches by itself is in no lock, is another thing tomorrow, and fails where there is no way out",
    remedy: "disable the timer or service that asks, or point it at a host of the cloud's or your own; \
             `network.pcap` in the evidence has the frames",
    source: "names asked (RFC 1035), TCP segments that open a connection, and UDP datagrams of the guest's",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Machine(Ask::Nothing, network_attempts),
}];

/// The name server of QEMU's user-mode network.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Amazon's time service.
const AWS_TIME: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 123);

/// What may be reached for.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A name, or one below it.
    Name(&'static str),
    /// The guest's own host name, or one below which it stands.
    OwnName,
    /// Names that the name server of the guest's cloud knows.
    CloudNames,
    /// A port of any address.
    Port(Protocol, u16),
    /// One port of one address.
    Peer(Protocol, Ipv4Addr, u16),
    /// Every port of a network: its address, and how many bits of it count.
    Network(Ipv4Addr, u32),
    /// The services of the guest's cloud, where this run has them.
    Services,
}

/// Where it is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Everywhere,
    On(Cloud),
    InClusters,
}

/// What is let pass: what it is, where, and why.
const LET_PASS: &[(What, Where, &str)] = &[
    (What::Port(Protocol::Udp, 67), Where::Everywhere, "DHCP gives the guest its address"),
    (What::Port(Protocol::Udp, 547), Where::Everywhere, "DHCP for IPv6"),
    (
        What::Peer(Protocol::Udp, NAME_SERVER, 53),
        Where::Everywhere,
        "the name server of QEMU's network; the names are judged by themselves",
    ),
    (
        What::Peer(Protocol::Tcp, NAME_SERVER, 53),
        Where::Everywhere,
        "the same, where an answer is long",
    ),
    (What::Services, Where::Everywhere, "the metadata services of the guest's cloud"),
    (What::CloudNames, Where::Everywhere, "their names"),
    (What::OwnName, Where::Everywhere, "the guest looks itself up"),
    (
        What::Name("2.0.10.in-addr.arpa"),
        Where::Everywhere,
        "the SSH server, or who else is spoken to, asks for the name of its peer in QEMU's network",
    ),
    (
        What::Name("does-not-exist.example.com"),
        Where::Everywhere,
        "cloud-init tells by it whether the name server makes answers up",
    ),
    (What::Name("example.invalid"), Where::Everywhere, "the same"),
    (What::Name("__cloud_init_expected_not_found__"), Where::Everywhere, "the same"),
    (
        What::Name("instance-data"),
        Where::On(Cloud::Aws),
        "the second address at which cloud-init looks for EC2's service",
    ),
    (
        What::Peer(Protocol::Udp, AWS_TIME, 123),
        Where::On(Cloud::Aws),
        "Amazon's time service, which no run plays",
    ),
    (
        What::Peer(Protocol::Udp, METADATA, 123),
        Where::On(Cloud::Gce),
        "the metadata server tells the time too, which no run plays",
    ),
    (
        What::Network(Ipv4Addr::new(10, 96, 0, 0), 12),
        Where::InClusters,
        "services of the run's cluster, before the node has their rules",
    ),
    (
        What::Network(Ipv4Addr::new(10, 244, 0, 0), 16),
        Where::InClusters,
        "pods of the run's cluster",
    ),
    (What::Name("cluster.local"), Where::InClusters, "names of the run's cluster"),
];

/// What hosts are reached for: in a word, and the names (or what they are below) and ports that tell it.
type Purpose = (&'static str, &'static [&'static str], &'static [(Protocol, u16)]);

/// The purposes that are told apart; the last one is for all others.
const PURPOSES: &[Purpose] = &[
    (
        "time",
        &[
            "ntp.org",
            "ntp.ubuntu.com",
            "time.google.com",
            "time.cloudflare.com",
            "time.windows.com",
            "time.apple.com",
            "time.aws.com",
        ],
        &[(Protocol::Udp, 123)],
    ),
    (
        "packages",
        &[
            "debian.org",
            "archive.ubuntu.com",
            "security.ubuntu.com",
            "ports.ubuntu.com",
            "esm.ubuntu.com",
            "fedoraproject.org",
            "rockylinux.org",
            "almalinux.org",
            "centos.org",
            "pkgs.k8s.io",
            "download.docker.com",
            "snapcraft.io",
            "fwupd.org",
            "pypi.org",
        ],
        &[],
    ),
    (
        "container images",
        &["registry.k8s.io", "gcr.io", "docker.io", "docker.com", "quay.io", "ghcr.io", "pkg.dev"],
        &[],
    ),
    ("Kubernetes' releases", &["dl.k8s.io", "cdn.dl.k8s.io", "storage.googleapis.com"], &[]),
    (
        "names",
        &[],
        &[(Protocol::Udp, 53), (Protocol::Tcp, 53), (Protocol::Udp, 5353), (Protocol::Udp, 5355)],
    ),
    ("other hosts", &[], &[]),
];
/// Most names and hosts that are told of one purpose.
const MOST_TOLD: usize = 8;

/// Whether what is said with `peer` is the run's own: by SSH, by which it asks the guest, or by the services of the
/// guest's cloud at `services`.
pub(crate) fn is_own(peer: &Peer, services: &[(Ipv4Addr, u16)]) -> bool {
    let is = |address: IpAddr, port| peer.address == address && peer.port == port;
    peer.protocol == Protocol::Tcp
        && (is(Place::FIRST.address().into(), 22)
            || services.iter().any(|(address, port)| is((*address).into(), *port)))
}

fn network_attempts(_: &Output, context: &Context) -> Result<Verdict> {
    let Some(traffic) = context.traffic else {
        return Err(Failure::io("what went over the guest's network was not written down"));
    };
    let mut told: BTreeMap<usize, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let mut passed = 0;
    for (name, count) in &traffic.names {
        if LET_PASS.iter().any(|row| lets_name(row, name, context)) {
            passed += 1;
            continue;
        }
        let purpose = purpose(|(_, names, _)| names.iter().any(|known| is_below(name, known)));
        told.entry(purpose).or_default().0.push(times(name, *count));
    }
    for (peer, count) in &traffic.peers {
        if LET_PASS.iter().any(|row| lets_peer(row, peer, context)) {
            passed += 1;
            continue;
        }
        let purpose = purpose(|(_, _, ports)| ports.contains(&(peer.protocol, peer.port)));
        told.entry(purpose).or_default().1.push(times(&peer.to_string(), *count));
    }
    let wrong: Vec<String> = told
        .into_iter()
        .filter_map(|(at, (names, peers))| Some((PURPOSES.get(at)?.0, names, peers)))
        .map(|(purpose, names, peers)| format!("{purpose}: {}", sentence(names, peers)))
        .collect();
    // A closed network names no name server, so that a guest asks nobody.
    let unseen = if context.observed.is_none() {
        "; the guest was given no name server, so that names which it looked up are not seen"
    } else {
        ""
    };
    Ok(if wrong.is_empty() {
        let seen = format!("nothing else; {passed} names and hosts are the run's{unseen}");
        Verdict::Pass(seen)
    } else {
        Verdict::Fail(wrong.join("; ") + unseen)
    })
}

/// The place of the first purpose that `fits`, or of the last, which is for all others.
fn purpose(fits: impl Fn(&Purpose) -> bool) -> usize {
    PURPOSES.iter().position(fits).unwrap_or(PURPOSES.len() - 1)
}

/// Names asked and hosts spoken to, in words.
fn sentence(names: Vec<String>, peers: Vec<String>) -> String {
    let mut words = Vec::new();
    if !names.is_empty() {
        words.push(format!("asks {}", shortened(names)));
    }
    if !peers.is_empty() {
        words.push(shortened(peers));
    }
    words.join(", ")
}

fn shortened(mut list: Vec<String>) -> String {
    let more = list.len().saturating_sub(MOST_TOLD);
    list.truncate(MOST_TOLD);
    if more > 0 {
        list.push(format!("{more} more"));
    }
    list.join(", ")
}

fn times(what: &str, count: usize) -> String {
    if count == 1 { what.to_owned() } else { format!("{what} ×{count}") }
}

fn is_below(name: &str, known: &str) -> bool {
    name.strip_suffix(known).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn holds(place: Where, context: &Context) -> bool {
    match place {
        Where::Everywhere => true,
        Where::On(cloud) => context.told.cloud == cloud,
        Where::InClusters => context.tier.clusters(),
    }
}

fn lets_name((what, place, _): &(What, Where, &str), name: &str, context: &Context) -> bool {
    let own = &context.told.hostname;
    holds(*place, context)
        && match what {
            What::Name(known) => is_below(name, known),
            What::OwnName => name
                .strip_prefix(own.as_str())
                .is_some_and(|domain| domain.is_empty() || domain.starts_with('.')),
            What::CloudNames => {
                context.told.cloud.names().iter().any(|(known, _)| is_below(name, known))
            }
            What::Port(..) | What::Peer(..) | What::Network(..) | What::Services => false,
        }
}

fn lets_peer((what, place, _): &(What, Where, &str), peer: &Peer, context: &Context) -> bool {
    let is = |protocol, address: Ipv4Addr, port| {
        *peer == Peer { protocol, address: address.into(), port }
    };
    holds(*place, context)
        && match *what {
            What::Port(protocol, port) => (peer.protocol, peer.port) == (protocol, port),
            What::Peer(protocol, address, port) => is(protocol, address, port),
            What::Network(network, bits) => match peer.address {
                IpAddr::V4(address) => {
                    (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits
                }
                IpAddr::V6(_) => false,
            },
            What::Services => {
                context.observed.is_some()
                    && context
                        .told
                        .cloud
                        .services()
                        .iter()
                        .any(|(address, port, _)| is(Protocol::Tcp, *address, *port))
            }
            What::Name(_) | What::OwnName | What::CloudNames => false,
        }
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use super::{Ipv4Addr, Peer, Protocol};
    use crate::checks::corpus::{Answer, Mutation, Scene};

    fn speak(guest: &mut Scene, protocol: Protocol, address: [u8; 4], port: u16) {
        let peer = Peer { protocol, address: Ipv4Addr::from(address).into(), port };
        guest.traffic.peers.insert(peer, 3);
    }

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "network-attempts",
        "",
        &[
            Mutation::new(
                "a timer fetches lists of packages",
                "packages: asks deb.debian.org",
                |guest| {
                    guest.traffic.names.insert("deb.debian.org".to_owned(), 1);
                },
            ),
            Mutation::new(
                "the time is asked of the world",
                "time: asks 0.debian.pool.ntp.org ×2",
                |guest| {
                    guest.traffic.names.insert("0.debian.pool.ntp.org".to_owned(), 2);
                },
            ),
            Mutation::new("a program reports home", "TCP 151.101.1.1:443 ×3", |guest| {
                speak(guest, Protocol::Tcp, [151, 101, 1, 1], 443);
            }),
            Mutation::new("another name server is in the image", "UDP 8.8.8.8:53", |guest| {
                speak(guest, Protocol::Udp, [8, 8, 8, 8], 53);
            }),
        ],
    )
    .given(|guest| {
        speak(guest, Protocol::Udp, [255, 255, 255, 255], 67);
        speak(guest, Protocol::Udp, [10, 0, 2, 3], 53);
    })];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, fails, judge_with, passes, told};
    use super::*;
    use crate::expect::Expectations;
    use crate::metadata::Observed;
    use crate::provisioning::Told;
    use crate::seed::GUEST_ADDRESS;
    use crate::traffic::Traffic;

    fn peer(protocol: Protocol, address: &str, port: u16) -> Peer {
        Peer { protocol, address: address.parse().unwrap(), port }
    }

    fn traffic(names: &[&str], peers: &[Peer]) -> Traffic {
        Traffic {
            names: names.iter().map(|name| ((*name).to_owned(), 1)).collect(),
            peers: peers.iter().map(|peer| (*peer, 3)).collect(),
        }
    }

    fn judged(tier: Tier, cloud: Cloud, traffic: &Traffic) -> Verdict {
        let (expect, observed) = (Expectations::default(), Observed::default());
        let told = Told { cloud, ..told().clone() };
        let served = cloud != Cloud::NoCloud;
        let context = Context {
            told: &told,
            observed: served.then_some(&observed),
            traffic: Some(traffic),
            ..context(&expect, tier)
        };
        judge_with("network-attempts", "", 0, &context).unwrap()
    }

    #[test]
    fn what_belongs_to_the_run_is_let_pass() {
        let own = traffic(
            &["node-1", "node-1.ec2.internal", "does-not-exist.example.com", "instance-data"],
            &[
                peer(Protocol::Udp, "255.255.255.255", 67),
                peer(Protocol::Udp, "10.0.2.3", 53),
                peer(Protocol::Tcp, "169.254.169.254", 80),
                peer(Protocol::Udp, "169.254.169.123", 123),
            ],
        );
        let verdict = judged(Tier::Boot, Cloud::Aws, &own);
        assert!(passes(&verdict) && verdict.seen().contains("8 names and hosts"), "{verdict:?}");
        // What is one cloud's own is none of another's.
        let verdict = judged(Tier::Boot, Cloud::OpenStack, &own);
        assert!(fails(&verdict, "asks instance-data") && fails(&verdict, "169.254.169.123:123"));
        let verdict = judged(Tier::Boot, Cloud::NoCloud, &own);
        assert!(fails(&verdict, "169.254.169.254:80"), "nobody plays a service there: {verdict:?}");
        assert!(passes(&judged(
            Tier::Boot,
            Cloud::Gce,
            &traffic(&["metadata.google.internal"], &[peer(Protocol::Udp, "169.254.169.254", 123)])
        )));
    }

    #[test]
    fn what_a_guest_reaches_for_is_told_by_its_purpose() {
        let reached = traffic(
            &["0.debian.pool.ntp.org", "deb.debian.org", "evil-debian.org", "registry.k8s.io"],
            &[peer(Protocol::Tcp, "151.101.1.1", 443), peer(Protocol::Udp, "8.8.8.8", 53)],
        );
        let verdict = judged(Tier::Boot, Cloud::Aws, &reached);
        assert_eq!(
            verdict,
            Verdict::Fail(
                "time: asks 0.debian.pool.ntp.org; packages: asks deb.debian.org; container images: asks \
                 registry.k8s.io; names: UDP 8.8.8.8:53 ×3; other hosts: asks evil-debian.org, TCP \
                 151.101.1.1:443 ×3"
                    .into()
            )
        );
        let many: Vec<String> = (0..20).map(|number| format!("{number}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(fails(&judged(Tier::Boot, Cloud::Aws, &traffic(&many, &[])), ", 12 more"));
    }

    #[test]
    fn a_closed_network_tells_that_names_are_not_seen() {
        let verdict = judged(Tier::Boot, Cloud::NoCloud, &Traffic::default());
        assert!(passes(&verdict) && verdict.seen().contains("no name server"), "{verdict:?}");
        let verdict = judged(Tier::Boot, Cloud::Gce, &Traffic::default());
        assert!(!verdict.seen().contains("no name server"), "{verdict:?}");
    }

    #[test]
    fn a_clusters_addresses_are_its_own_only_where_there_is_one() {
        let service = [
            peer(Protocol::Udp, "10.96.0.10", 53),
            peer(Protocol::Tcp, "10.111.255.1", 443),
            peer(Protocol::Tcp, "10.244.0.7", 80),
        ];
        let reached = traffic(&["kubernetes.default.svc.cluster.local"], &service);
        assert!(passes(&judged(Tier::Kubeadm, Cloud::NoCloud, &reached)));
        let verdict = judged(Tier::Boot, Cloud::NoCloud, &reached);
        assert!(fails(&verdict, "10.96.0.10:53") && fails(&verdict, "cluster.local"));
        let beside = traffic(&[], &[peer(Protocol::Tcp, "10.112.0.1", 443)]);
        assert!(fails(&judged(Tier::Kubeadm, Cloud::NoCloud, &beside), "10.112.0.1"));
    }

    #[test]
    fn without_frames_there_is_no_verdict() {
        let expect = Expectations::default();
        assert!(judge_with("network-attempts", "", 0, &context(&expect, Tier::Boot)).is_err());
    }

    #[test]
    fn only_ssh_to_the_guest_and_its_services_are_the_runs_own_talk() {
        let services = [(METADATA, 80)];
        for (own, port, address) in [
            (true, 22, GUEST_ADDRESS),
            (false, 22, "10.0.2.2"),
            (true, 80, "169.254.169.254"),
            (false, 81, "169.254.169.254"),
        ] {
            assert_eq!(is_own(&peer(Protocol::Tcp, address, port), &services), own);
        }
        assert!(!is_own(&peer(Protocol::Tcp, "169.254.169.254", 80), &[]));
    }

    #[test]
    fn everything_that_is_let_pass_has_its_reason() {
        assert!(LET_PASS.iter().all(|(_, _, reason)| !reason.is_empty()));
    }
}
