//! What went over the guest's network card, from the frames that QEMU's `filter-dump` writes down.
//!
//! A guest under validation has no way out, so what it reaches for is seen and never answered: the names that it
//! asks for, and the hosts to which it opens connections or sends datagrams. The frames are kept as evidence, but
//! not what the guest talks about with the run itself, for that has the keys of the run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};
use nodekiln_words::{Failure, Result, ResultExt as _};
use pcap_file::pcap::{PcapReader, PcapWriter, RawPcapPacket};
use pcap_file::{DataLink, PcapError};

use crate::metadata::dns::first_question;
use crate::place::Place;

/// Bytes of a frame that are written down: as many as the largest has, so that none is cut.
pub const SNAP_LENGTH: u32 = 65536;
/// The port of name servers.
const DNS: u16 = 53;
/// Names or hosts beyond this are not told apart any more: no boot asks for as many, and a guest that makes them up
/// does not fill the memory.
const MOST: usize = 4096;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What a guest reached for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Names that were asked of any name server, in small letters and without a dot at the end, and how often.
    pub names: BTreeMap<String, usize>,
    /// Whom the guest spoke to of its own accord: how many connections it tried, or datagrams it sent.
    pub peers: BTreeMap<Peer, usize>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        write!(f, "{protocol} {}", std::net::SocketAddr::new(self.address, self.port))
    }
}

impl Traffic {
    /// Reads the frames of `capture`, in the file format of libpcap. One that is cut off at the end is left out: the
    /// guest may be sending it just now, or have ended meanwhile.
    ///
    /// # Errors
    /// When it is no capture of Ethernet frames, or cannot be read.
    pub fn read(capture: impl Read) -> Result<Self> {
        let mut seen = Seen::default();
        frames(capture, |frame| {
            seen.add(&frame.data);
            Ok(())
        })?;
        Ok(seen.traffic)
    }
}

/// Copies `capture` to `kept`, where of frames from or to one of `own` only the headers are left.
///
/// # Errors
/// When it is no capture of Ethernet frames, or cannot be read; or `kept` not be written.
pub(crate) fn keep(
    capture: impl Read,
    kept: impl Write,
    own: impl Fn(&Peer) -> bool,
) -> Result<()> {
    let cannot = || "keep the frames of the guest's network".to_owned();
    let mut writer = PcapWriter::new(kept).or_io(cannot)?;
    frames(capture, |frame| {
        let length = kept_bytes(&frame.data, &own).min(frame.data.len());
        let mut frame = frame.clone();
        frame.data = frame.data[..length].to_vec().into();
        frame.incl_len = u32::try_from(length).unwrap_or(u32::MAX);
        writer.write_raw_packet(&frame).or_io(cannot)?;
        Ok(())
    })
}

/// Does `work` for each whole frame.
fn frames(capture: impl Read, mut work: impl FnMut(&RawPcapPacket) -> Result<()>) -> Result<()> {
    let cannot = || "read the frames of the guest's network".to_owned();
    let mut reader = PcapReader::new(capture).or_io(cannot)?;
    if reader.header().datalink != DataLink::ETHERNET {
        return Err(Failure::io("the frames of the guest's network are not Ethernet's"));
    }
    loop {
        match reader.next_raw_packet() {
            None => return Ok(()),
            Some(Ok(frame)) => work(&frame)?,
            Some(Err(PcapError::IoError(error))) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(());
            }
            Some(Err(error)) => return Err(error).or_io(cannot),
        }
    }
}

/// What is seen while frames go by.
#[derive(Default)]
struct Seen {
    traffic: Traffic,
    /// A connection is tried again from the same port until somebody answers.
    tried: BTreeSet<(Peer, u16)>,
}

impl Seen {
    fn add(&mut self, frame: &[u8]) {
        let Some(frame) = Frame::read(frame).filter(|frame| frame.from_guest) else { return };
        let peer = frame.to;
        match frame.transport {
            TransportSlice::Tcp(tcp) => {
                let opens = tcp.syn() && !tcp.ack();
                if opens && self.tried.len() < MOST && self.tried.insert((peer, tcp.source_port()))
                {
                    count(&mut self.traffic.peers, peer);
                }
            }
            TransportSlice::Udp(udp) => {
                count(&mut self.traffic.peers, peer);
                if peer.port == DNS
                    && let Some((name, _)) = first_question(udp.payload())
                {
                    let name = if name.is_empty() { ".".to_owned() } else { name };
                    count(&mut self.traffic.names, name);
                }
            }
            _ => {}
        }
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if counts.len() < MOST || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1;
    }
}

/// A frame with a datagram or segment in it.
struct Frame<'a> {
    from_guest: bool,
    from: Peer,
    to: Peer,
    transport: TransportSlice<'a>,
}

impl<'a> Frame<'a> {
    /// Reads a frame; nothing where it carries neither TCP nor UDP, such as ARP.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(bytes).ok()?;
        let Some(LinkSlice::Ethernet2(link)) = packet.link else { return None };
        let (source, destination): (IpAddr, IpAddr) = match packet.net? {
            LaxNetSlice::Ipv4(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            LaxNetSlice::Ipv6(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let transport = packet.transport?;
        let (protocol, from, to) = match &transport {
            TransportSlice::Tcp(tcp) => (Protocol::Tcp, tcp.source_port(), tcp.destination_port()),
            TransportSlice::Udp(udp) => (Protocol::Udp, udp.source_port(), udp.destination_port()),
            _ => return None,
        };
        let peer = |address, port| Peer { protocol, address, port };
        Some(Self {
            // Before it has its address a guest that forwards sends what it is sent on: that is no word of its own.
            from_guest: is_guest(link.source()) && source != IpAddr::from(GATEWAY),
            from: peer(source, from),
            to: peer(destination, to),
            transport,
        })
    }
}

/// From where a guest is spoken to in QEMU's user-mode network.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Whether an Ethernet address is that of the guest's card.
fn is_guest(address: [u8; 6]) -> bool {
    let text = address.map(|byte| format!("{byte:02x}")).join(":");
    text == Place::FIRST.mac()
}

/// How many bytes of a frame are kept: all of them, or the headers where one end is one of `own`.
fn kept_bytes(bytes: &[u8], own: impl Fn(&Peer) -> bool) -> usize {
    let Some(frame) = Frame::read(bytes).filter(|frame| own(&frame.from) || own(&frame.to)) else {
        return bytes.len();
    };
    let payload = match &frame.transport {
        TransportSlice::Tcp(tcp) => tcp.payload(),
        TransportSlice::Udp(udp) => udp.payload(),
        _ => &[],
    };
    // Behind the payload there may be padding, which is let go too.
    (payload.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize)
}

#[cfg(test)]
mod tests;
