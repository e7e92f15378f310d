//! A name server for a network without any other: it knows the cloud's names and the instance's own, and
//! says of all others that they do not exist.
//!
//! A guest's question reaches it through QEMU's user-mode network, which passes what is sent to its own
//! name server on to that of `/etc/resolv.conf`. simple-dns reads and writes the messages (RFC 1035): it
//! does nothing else, while hickory-proto brings TLS, random numbers and a tracing system along.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::faults::{DnsAction, Faults};
use super::instance::Instance;
use super::journal::Record;

/// Seconds that an answer may be kept.
const TTL: u32 = 60;

/// The names that there are, in small letters and without a dot at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone(BTreeMap<String, Ipv4Addr>);

impl Zone {
    /// The names of the instance's cloud and its own.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        let own = [instance.fqdn(), instance.hostname.clone()].map(|name| (name, instance.address));
        let names = instance.cloud.names();
        let cloud = names.into_iter().map(|(name, address)| (name.to_owned(), address));
        Self(own.into_iter().chain(cloud).map(|(n, a)| (n.to_ascii_lowercase(), a)).collect())
    }
}

/// What is done about a question.
#[derive(Debug)]
pub(super) struct Reply {
    /// The message to send; `None` sends nothing.
    pub(super) bytes: Option<Vec<u8>>,
    /// What goes into the journal.
    pub(super) record: Record,
}

/// Answers one message; `None` where it is no question.
pub(super) fn reply(zone: &Zone, faults: &Faults, source: IpAddr, query: &[u8]) -> Option<Reply> {
    let query = Packet::parse(query).ok()?;
    if query.has_flags(PacketFlag::RESPONSE) || query.opcode() != OPCODE::StandardQuery {
        return None;
    }
    let [question] = &query.questions[..] else { return None };
    let name = question.qname.to_string().trim_end_matches('.').to_ascii_lowercase();
    let struck = faults.strike_name(&name);
    let mut reply = Packet::new_reply(query.id());
    reply.questions = vec![question.clone()];
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let address = match struck {
        Some((DnsAction::Address(address), _)) => Some(address),
        _ => zone.0.get(&name).copied(),
    };
    let told = match (struck, address) {
        (Some((DnsAction::Hang, _)), _) => None,
        (Some((DnsAction::ServFail, _)), _) => {
            *reply.rcode_mut() = RCODE::ServerFailure;
            Some("SERVFAIL".to_owned())
        }
        (Some((DnsAction::NxDomain, _)), _) | (_, None) => {
            *reply.rcode_mut() = RCODE::NameError;
            Some("NXDOMAIN".to_owned())
        }
        (_, Some(address)) if matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY) => {
            let data = RData::A(A { address: address.to_bits() });
            let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
            reply.answers.push(record);
            Some(address.to_string())
        }
        // The name is there and has no record of this type, such as AAAA.
        (_, Some(_)) => Some("none".to_owned()),
    };
    let bytes = if told.is_some() { reply.build_bytes_vec_compressed().ok() } else { None };
    let record = Record::Dns {
        source,
        name,
        record: format!("{:?}", question.qtype).replace("TYPE(", "").replace(')', ""),
        answer: told,
        fault: struck.map(|(_, text)| text.to_owned()),
    };
    Some(Reply { bytes, record })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{Name, QCLASS, Question};

    use super::*;
    use crate::metadata::{Cloud, Description, METADATA};

    fn zone() -> Zone {
        Zone::of(&Instance::of(Cloud::Gce, Description::default()).unwrap())
    }

    fn ask(faults: &[&str], name: &str, kind: TYPE) -> (Option<Vec<u8>>, String) {
        let mut query = Packet::new_query(77);
        query.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new_unchecked(name);
        query.questions.push(Question::new(
            name,
            QTYPE::TYPE(kind),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        let faults = Faults::new(faults.iter().map(|fault| fault.parse().unwrap()).collect());
        let bytes = query.build_bytes_vec().unwrap();
        let reply = reply(&zone(), &faults, Ipv4Addr::LOCALHOST.into(), &bytes).unwrap();
        (reply.bytes, reply.record.to_string())
    }

    fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
        let packet = Packet::parse(bytes).unwrap();
        assert_eq!(packet.id(), 77);
        assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
        match &packet.answers[..] {
            [] => None,
            [ResourceRecord { rdata: RData::A(a), .. }] => Some(Ipv4Addr::from_bits(a.address)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_metadata_server_has_a_name_and_others_have_none() {
        let (bytes, told) = ask(&[], "Metadata.Google.internal", TYPE::A);
        assert_eq!(address(&bytes.unwrap()), Some(METADATA));
        assert_eq!(told, "dns A metadata.google.internal: 169.254.169.254");
        let (bytes, _) = ask(&[], "metadata.google.internal", TYPE::AAAA);
        let bytes = bytes.unwrap();
        assert_eq!(address(&bytes), None);
        assert_eq!(Packet::parse(&bytes).unwrap().rcode(), RCODE::NoError);
        let (bytes, told) = ask(&[], "example.com", TYPE::A);
        assert_eq!(Packet::parse(&bytes.unwrap()).unwrap().rcode(), RCODE::NameError);
        assert!(told.ends_with("NXDOMAIN"), "{told}");
    }

    #[test]
    fn faults_of_names_strike() {
        let name = "metadata.google.internal";
        let code = |fault: &str| {
            let bytes = ask(&[fault], name, TYPE::A).0.unwrap();
            Packet::parse(&bytes).unwrap().rcode()
        };
        assert_eq!(code("DNS *=servfail"), RCODE::ServerFailure);
        assert_eq!(code("DNS *=nxdomain"), RCODE::NameError);
        assert_eq!(ask(&["DNS *=hang"], name, TYPE::A).0, None);
        let (bytes, told) = ask(&["DNS *=10.9.8.7"], name, TYPE::A);
        assert_eq!(address(&bytes.unwrap()), Some([10, 9, 8, 7].into()));
        assert!(told.contains("[fault DNS *=10.9.8.7]"), "{told}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_not(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = reply(&zone(), &Faults::default(), Ipv4Addr::LOCALHOST.into(), &bytes);
        }
    }
}
