use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::PcapHeader;
use proptest::prelude::*;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};

use super::*;

const GUEST: [u8; 6] = [0x52, 0x54, 0x00, 0x6e, 0x6b, 0x01];
const HOST: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];
const GUEST_IP: [u8; 4] = [10, 0, 2, 15];

/// A segment of the guest's, or with `answer` one to it.
fn tcp(to: ([u8; 4], u16), from: u16, answer: bool, payload: &[u8]) -> Vec<u8> {
    let builder = if answer {
        let ip = PacketBuilder::ethernet2(HOST, GUEST).ipv4(to.0, GUEST_IP, 64);
        ip.tcp(to.1, from, 1, 1000).syn().ack(2)
    } else {
        let ip = PacketBuilder::ethernet2(GUEST, HOST).ipv4(GUEST_IP, to.0, 64);
        let tcp = ip.tcp(from, to.1, 1, 1000);
        if payload.is_empty() { tcp.syn() } else { tcp.ack(2) }
    };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn udp(to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2(GUEST, HOST).ipv4(GUEST_IP, to.0, 64);
    let mut bytes = Vec::new();
    ip.udp(40000, to.1).write(&mut bytes, payload).unwrap();
    bytes
}

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut query = Packet::new_query(7);
    let (name, class) = (Name::new_unchecked(name), QCLASS::CLASS(CLASS::IN));
    query.questions.push(Question::new(name, QTYPE::TYPE(kind), class, false));
    query.build_bytes_vec().unwrap()
}

fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let header = PcapHeader { snaplen: SNAP_LENGTH, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        let packet = pcap_file::pcap::PcapPacket::new(Duration::from_secs(1), length, frame);
        writer.write_packet(&packet).unwrap();
    }
    writer.into_writer()
}

fn told(traffic: &Traffic) -> Vec<String> {
    let names = traffic.names.iter().map(|(name, count)| format!("{name} {count}"));
    let peers = traffic.peers.iter().map(|(peer, count)| format!("{peer} {count}"));
    names.chain(peers).collect()
}

const WEB: ([u8; 4], u16) = ([151, 101, 1, 1], 443);
const SERVICE: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
const RESOLVER: ([u8; 4], u16) = ([10, 0, 2, 3], 53);

#[test]
fn names_connections_and_datagrams_of_the_guest_are_counted() {
    let frames = [
        udp(RESOLVER, &question("0.Debian.pool.NTP.org", TYPE::A)),
        udp(RESOLVER, &question("0.debian.pool.ntp.org", TYPE::AAAA)),
        udp(([1, 2, 3, 4], 123), &[0; 48]),
        tcp(WEB, 50000, false, b""),
        tcp(WEB, 50000, false, b""), // the same connection, tried again
        tcp(WEB, 50001, false, b""),
        tcp(WEB, 50001, true, b""),         // an answer is no attempt
        tcp(WEB, 50001, false, b"request"), // nor is what is said later
    ];
    let traffic = Traffic::read(&*capture(&frames)).unwrap();
    assert_eq!(
        told(&traffic),
        [
            "0.debian.pool.ntp.org 2",
            "TCP 151.101.1.1:443 2",
            "UDP 1.2.3.4:123 1",
            "UDP 10.0.2.3:53 2"
        ]
    );
}

#[test]
fn names_in_ipv6_and_behind_a_tag_of_a_virtual_network_are_seen_too() {
    let six = PacketBuilder::ethernet2(GUEST, HOST).ipv6([1; 16], [2; 16], 64).udp(546, 547);
    let mut bytes = Vec::new();
    six.write(&mut bytes, b"solicit").unwrap();
    let tagged = PacketBuilder::ethernet2(GUEST, HOST)
        .single_vlan(7_u16.try_into().unwrap())
        .ipv4(GUEST_IP, WEB.0, 64)
        .tcp(50000, WEB.1, 1, 1000)
        .syn();
    let mut other = Vec::new();
    tagged.write(&mut other, b"").unwrap();
    let traffic = Traffic::read(&*capture(&[bytes, other])).unwrap();
    let six = "UDP [202:202:202:202:202:202:202:202]:547 1";
    assert_eq!(told(&traffic), ["TCP 151.101.1.1:443 1", six]);
}

#[test]
fn a_frame_that_is_cut_off_at_the_end_is_left_out_and_no_error() {
    let whole = capture(&[tcp(WEB, 50000, false, b""), tcp(WEB, 50001, false, b"")]);
    for cut in [1, 20, 54, 60] {
        let traffic = Traffic::read(&whole[..whole.len() - cut]).unwrap();
        assert_eq!(told(&traffic), ["TCP 151.101.1.1:443 1"], "{cut}");
    }
    assert_eq!(Traffic::read(&whole[..24]).unwrap(), Traffic::default());
    assert!(
        Traffic::read(&whole[..10]).is_err()
            && Traffic::read(&b"no capture, but long enough"[..]).is_err()
    );
}

#[test]
fn of_what_is_said_with_the_runs_own_services_only_the_headers_are_kept() {
    let secret = b"HTTP/1.1 200 OK\r\n\r\nthe host's private key";
    let frames = [
        tcp(SERVICE, 50000, false, secret),
        udp(RESOLVER, &question("example.org", TYPE::A)),
        tcp(WEB, 50001, false, b"hello"),
    ];
    let mut kept = Vec::new();
    let service: IpAddr = SERVICE.0.into();
    keep(&*capture(&frames), &mut kept, |peer| peer.address == service).unwrap();
    let holds = |words: &[u8]| kept.windows(words.len()).any(|window| window == words);
    assert!(!holds(b"private key") && !holds(b"HTTP") && holds(b"hello") && holds(b"example"));
    let mut lengths = Vec::new();
    super::frames(&*kept, |frame| {
        lengths.push((frame.incl_len as usize, frame.orig_len as usize));
        Ok(())
    })
    .unwrap();
    let [service, others @ ..] = &lengths[..] else { panic!("{lengths:?}") };
    assert_eq!(*service, (54, frames[0].len()), "Ethernet, IPv4 and TCP without options");
    assert!(others.iter().all(|(kept, whole)| kept == whole) && others.len() == 2);
    assert_eq!(Traffic::read(&*kept).unwrap(), Traffic::read(&*capture(&frames)).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Traffic::read(&*bytes);
        let records = [capture(&[]), bytes.clone()].concat();
        let _ = Traffic::read(&*records);
        prop_assert!(Traffic::read(&*capture(std::slice::from_ref(&bytes))).is_ok());
        let _ = told_of(&bytes);
    }

    #[test]
    fn a_frame_with_any_byte_changed_is_read(
        at in 0_usize..90, value: u8, cut in 0_usize..90, name in "[a-z]{0,20}"
    ) {
        for mut frame in [udp(RESOLVER, &question(&name, TYPE::A)), tcp(WEB, 50000, false, b"hello")] {
            let length = frame.len();
            frame[at % length] = value;
            frame.truncate(cut % length);
            let traffic = Traffic::read(&*capture(&[frame.clone()])).unwrap();
            prop_assert!(traffic.names.len() + traffic.peers.len() <= 2);
            prop_assert!(told_of(&frame) <= frame.len());
        }
    }
}

/// How much of a frame is kept where all is the run's own.
fn told_of(frame: &[u8]) -> usize {
    kept_bytes(frame, |_| true)
}
