//! The way to a host through another one.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nodekiln_words::{Failure, Result, ResultExt as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::Channel;

use super::{Address, Link, TICK};

/// Bytes that are carried at once.
const LOAD: usize = 32 << 10;

/// A stream to the SSH server at `address`, through the host at the other end of `link`. A thread carries its bytes
/// until either end hangs up.
///
/// # Errors
/// When that host does not open the way.
pub(crate) fn tunnel(
    link: &Link,
    through: &str,
    address: &Address,
    deadline: Duration,
) -> Result<UnixStream> {
    let Address { host, port, .. } = address;
    let what = format!("get from {through} to {}", address.known_as());
    let opened =
        link.try_poll(deadline, &what, || link.session().channel_direct_tcpip(host, *port, None))?;
    let channel = opened.map_err(|error| {
        Failure::io(format!("{through} does not open the way to {}", address.known_as()))
            .with_source(error)
            .with_help("the host has to answer there on that port, and the bastion's sshd to have `AllowTcpForwarding`")
    })?;
    let cannot = || "make a way through the bastion".to_owned();
    let (ours, theirs) = UnixStream::pair().or_io(cannot)?;
    theirs.set_nonblocking(true).or_io(cannot)?;
    let carry = move || Carrier::default().carry(channel, &theirs);
    std::thread::Builder::new().name("bastion".to_owned()).spawn(carry).or_io(cannot)?;
    Ok(ours)
}

/// What is on its way.
#[derive(Default)]
struct Carrier {
    /// To the host.
    there: Vec<u8>,
    /// From the host.
    back: Vec<u8>,
}

impl Carrier {
    fn carry(mut self, mut channel: Channel, ours: &UnixStream) {
        // An end of either side is the end of both: nothing here uses half a connection.
        while let Ok(moved) = self.turn(&mut channel, ours) {
            if !moved {
                let mut ends = [PollFd::new(ours, PollFlags::IN)];
                let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
                let _ = poll(&mut ends, Some(&tick));
            }
        }
        let _ = channel.close();
    }

    /// Moves what can be moved without waiting; says whether anything was. Fails at the end of a side.
    fn turn(&mut self, channel: &mut Channel, mut ours: &UnixStream) -> std::io::Result<bool> {
        let mut moved = take(&mut ours, &mut self.there)?;
        moved |= give(channel, &mut self.there)?;
        moved |= take(channel, &mut self.back)?;
        moved |= give(&mut ours, &mut self.back)?;
        Ok(moved)
    }
}

/// Reads into `load` where that is empty.
fn take(from: &mut impl Read, load: &mut Vec<u8>) -> std::io::Result<bool> {
    if !load.is_empty() {
        return Ok(false);
    }
    let mut buffer = [0; LOAD];
    match from.read(&mut buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            load.extend_from_slice(&buffer[..count]);
            Ok(true)
        }
        Err(error) => not_yet(error),
    }
}

/// Writes of `load` what can be written.
fn give(to: &mut impl Write, load: &mut Vec<u8>) -> std::io::Result<bool> {
    if load.is_empty() {
        return Ok(false);
    }
    match to.write(load) {
        Ok(count) => {
            load.drain(..count);
            Ok(count > 0)
        }
        Err(error) => not_yet(error),
    }
}

fn not_yet(error: std::io::Error) -> std::io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}
