//! A name server for a network without any other: it knows the cloud's names and the instance's own, and
//! says of all others that they do not exist.
//!
//! A guest's question reaches it through QEMU's user-mode network, which passes what is sent to its own
//! name server on to that of `/etc/resolv.conf`. simple-dns reads and writes the messages (RFC 1035): it
//! does nothing else, while hickory-proto brings TLS, random numbers and a tracing system along.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use simple_dns::rdata::{A, RData};
use simple_dns::{
    CLASS, OPCODE, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, SimpleDnsError, TYPE,
    header_buffer,
};

use super::faults::{DnsAction, Faults};
use super::instance::Instance;
use super::journal::Record;

/// Seconds that an answer may be kept.
const TTL: u32 = 60;
/// Bytes of a message's header, and of the longest label (RFC 1035, sections 4.1.1 and 2.3.4).
const HEADER: usize = 12;
const LONGEST_LABEL: u8 = 63;

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

/// Answers one message; `None` where it is shorter than a header, or an answer itself.
pub(super) fn reply(zone: &Zone, faults: &Faults, source: IpAddr, message: &[u8]) -> Option<Reply> {
    if header_buffer::has_flags(message, PacketFlag::RESPONSE).ok()? {
        return None; // who answers answers has them for ever
    }
    let query = match Packet::parse(message) {
        Ok(query) => query,
        // simple-dns reads no question of a type or class that it does not know.
        Err(SimpleDnsError::InvalidQType(_) | SimpleDnsError::InvalidClass(_)) => {
            return refuse(source, message, RCODE::NotImplemented, "NOTIMP");
        }
        Err(_) => return refuse(source, message, RCODE::FormatError, "FORMERR"),
    };
    if query.opcode() != OPCODE::StandardQuery {
        return refuse(source, message, RCODE::NotImplemented, "NOTIMP");
    }
    let [question] = &query.questions[..] else {
        return refuse(source, message, RCODE::FormatError, "FORMERR");
    };
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
        record: type_name(question.qtype.into()),
        answer: told,
        fault: struck.map(|(_, text)| text.to_owned()),
    };
    Some(Reply { bytes, record })
}

/// Says that a message is none that is understood, with as much as can be told of its question.
fn refuse(source: IpAddr, message: &[u8], code: RCODE, told: &str) -> Option<Reply> {
    let mut reply = Packet::new_reply(header_buffer::id(message).ok()?);
    *reply.rcode_mut() = code;
    let (name, kind) = first_question(message).unwrap_or_default();
    let record = Record::Dns {
        source,
        name,
        record: kind.map_or_else(|| "-".to_owned(), type_name),
        answer: Some(told.to_owned()),
        fault: None,
    };
    Some(Reply { bytes: reply.build_bytes_vec().ok(), record })
}

/// Name and type of the first question of a message (RFC 1035, section 4.1.2): a name there is never compressed,
/// for nothing stands before it.
pub(crate) fn first_question(message: &[u8]) -> Option<(String, Option<u16>)> {
    let mut rest = message.get(HEADER..)?;
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            let kind = after.first_chunk().map(|kind| u16::from_be_bytes(*kind));
            return Some((labels.join(".").to_ascii_lowercase(), kind));
        }
        let label = after.get(..usize::from(*length)).filter(|_| *length <= LONGEST_LABEL)?;
        labels.push(String::from_utf8_lossy(label));
        rest = after.get(label.len()..)?;
    }
}

/// The word for a type of record; a number where it is a rare one, as RFC 3597 writes it (section 5).
fn type_name(kind: u16) -> String {
    let known = [
        (1, "A"),
        (2, "NS"),
        (5, "CNAME"),
        (6, "SOA"),
        (12, "PTR"),
        (15, "MX"),
        (16, "TXT"),
        (28, "AAAA"),
        (33, "SRV"),
        (35, "NAPTR"),
        (43, "DS"),
        (44, "SSHFP"),
        (48, "DNSKEY"),
        (52, "TLSA"),
        (64, "SVCB"),
        (65, "HTTPS"),
        (255, "ANY"),
    ];
    let found = known.iter().find(|(number, _)| *number == kind);
    found.map_or_else(|| format!("TYPE{kind}"), |(_, word)| (*word).to_owned())
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

    fn reply_to(message: &[u8]) -> Option<(u16, RCODE, String)> {
        let reply = reply(&zone(), &Faults::default(), Ipv4Addr::LOCALHOST.into(), message)?;
        let bytes = reply.bytes.unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert!(packet.has_flags(PacketFlag::RESPONSE));
        Some((packet.id(), packet.rcode(), reply.record.to_string()))
    }

    /// A question for the record of type `kind` of `a.b`, after a header with these flags.
    fn question(flags: [u8; 2], kind: u8) -> Vec<u8> {
        let [high, low] = flags;
        let header = [0, 77, high, low, 0, 1, 0, 0, 0, 0, 0, 0];
        [&header[..], b"\x01A\x01b\0", &[0, kind, 0, 1]].concat()
    }

    #[test]
    fn a_question_that_is_not_understood_is_refused_and_written_down() {
        let told = |code, text: &str| Some((77, code, text.to_owned()));
        let known = reply_to(&question([1, 0], 65));
        assert_eq!(known, told(RCODE::NameError, "dns HTTPS a.b: NXDOMAIN"));
        for (kind, word) in [(44, "SSHFP"), (52, "TLSA"), (99, "TYPE99")] {
            let expected = format!("dns {word} a.b: NOTIMP");
            assert_eq!(reply_to(&question([1, 0], kind)), told(RCODE::NotImplemented, &expected));
        }
        let mut other_class = question([1, 0], 1);
        *other_class.last_mut().unwrap() = 7;
        let expected = told(RCODE::NotImplemented, "dns A a.b: NOTIMP");
        assert_eq!(reply_to(&other_class), expected);
        let notify = reply_to(&question([0x20, 0], 1));
        assert_eq!(notify, expected);
        let mut cut = question([1, 0], 1);
        cut.truncate(14);
        assert_eq!(reply_to(&cut), told(RCODE::FormatError, "dns - : FORMERR"));
        let mut two = question([1, 0], 1);
        two[5] = 0;
        assert_eq!(reply_to(&two), told(RCODE::FormatError, "dns A a.b: FORMERR"));
        assert_eq!(reply_to(&question([0x80, 0], 52)), None, "an answer is not answered");
        assert_eq!(reply_to(&question([1, 0], 1)[..11]), None, "no header");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_not(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let answered = reply(&zone(), &Faults::default(), Ipv4Addr::LOCALHOST.into(), &bytes);
            let is_question = bytes.len() >= HEADER && bytes[2] < 0x80;
            prop_assert_eq!(answered.is_some(), is_question);
        }
    }
}
