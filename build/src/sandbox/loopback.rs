//! Brings the loopback interface of a new network namespace up, by one rtnetlink message (RFC 3549;
//! linux/rtnetlink.h), so that programs which talk to themselves work. There is no other interface.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `RTM_NEWLINK`: change an interface.
const NEW_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
/// `NLMSG_ERROR`: the answer, whose error number is 0 when all is well.
const ANSWER: u16 = 2;
/// `LOOPBACK_IFINDEX` of the kernel: the loopback interface is the first in every namespace.
const LOOPBACK: i32 = 1;
/// `IFF_UP`.
const UP: u32 = 1;

/// Sets the loopback interface up and waits for the kernel's answer.
pub(crate) fn bring_up() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &message(), SendFlags::empty(), &kernel)?;
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    verdict(answer.get(..length).unwrap_or_default())
}

/// `struct nlmsghdr` (16 bytes) and `struct ifinfomsg` (16 bytes), in the machine's byte order.
fn message() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes()); // length
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes()); // sequence number
    message.extend(0_u32.to_ne_bytes()); // sender: chosen by the kernel
    message.extend([0, 0, 0, 0]); // family, padding, device type
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // flags
    message.extend(UP.to_ne_bytes()); // which flags to change
    message
}

fn verdict(answer: &[u8]) -> io::Result<()> {
    let number = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, number(16).map(i32::from_ne_bytes)) {
        (Some(ANSWER), Some(0)) => Ok(()),
        (Some(ANSWER), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no answer from rtnetlink")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_as_long_as_it_says() {
        assert_eq!(message().len(), 32);
    }

    #[test]
    fn an_error_in_the_answer_is_an_error_here() {
        let answer = |error: i32| {
            let mut bytes = vec![0; 16];
            bytes[4..6].copy_from_slice(&ANSWER.to_ne_bytes());
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        assert!(verdict(&answer(0)).is_ok());
        assert_eq!(verdict(&answer(-1)).unwrap_err().raw_os_error(), Some(1));
        assert!(verdict(&[]).is_err());
    }
}
