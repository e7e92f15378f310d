//! The way to a host, straight or through a bastion.

use std::cell::OnceCell;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

use nodekiln_words::{Failure, Result};

use super::Destination;
use crate::guest::Life;
use crate::report::HostSession;
use crate::ssh::{Address, Expected, HostKey, Link, Route, Trusted, tunnel, within};

/// A host that somebody is logged in to, and from which others are reached.
pub(super) struct Bastion<'a> {
    pub(super) link: Link<'a>,
    /// Its name in words.
    pub(super) name: String,
}

/// The way to a host.
pub(super) struct HostRoute<'b> {
    address: Address,
    expected: Expected,
    through: Option<Rc<Bastion<'b>>>,
    /// The key that it showed at first, to which every later session is held.
    shown: OnceCell<(HostKey, Trusted)>,
}

impl<'b> HostRoute<'b> {
    pub(super) fn to(host: &Destination, through: Option<Rc<Bastion<'b>>>) -> Result<Self> {
        let expected = Expected::of(&host.trust, &host.address)?;
        Ok(Self { address: host.address.clone(), expected, through, shown: OnceCell::new() })
    }

    /// What a report tells of the session on this way.
    pub(super) fn session(&self, address: &Address) -> HostSession {
        let (key, trusted) = self.shown.get().cloned().unzip();
        HostSession {
            address: address.to_string(),
            fingerprint: key.as_ref().map(HostKey::fingerprint).unwrap_or_default(),
            key: key.map(|key| key.to_string()).unwrap_or_default(),
            trusted: trusted.unwrap_or(Trusted::Accepted),
            through: None,
            system: String::new(),
        }
    }

    fn recognise(&self, link: &Link) -> Result<()> {
        let place = self.address.known_as();
        let Some(key) = link.shown() else {
            return Err(Failure::io(format!("{place} shows no host key")));
        };
        match self.shown.get() {
            Some((first, _)) if *first == key => Ok(()),
            Some((first, _)) => {
                let (now, before) = (key.told(), first.told());
                Err(Failure::io(format!("{place} shows the host key {now} now, after {before}")))
            }
            None => {
                let trusted = self.expected.judge(&self.address, &key)?;
                let _ = self.shown.set((key, trusted));
                Ok(())
            }
        }
    }
}

impl Route for HostRoute<'_> {
    fn connect<'a>(&self, life: &'a dyn Life, deadline: Duration) -> Result<Link<'a>> {
        let kinds = self.expected.kinds();
        let greeted = match &self.through {
            None => Link::greet(dial(&self.address, life, deadline)?, &kinds, life, deadline),
            Some(bastion) => {
                let stream = tunnel(&bastion.link, &bastion.name, &self.address, deadline)?;
                Link::greet(stream, &kinds, life, deadline)
            }
        };
        let place = self.address.known_as();
        let link = greeted
            .map_err(|failure| failure.context(format!("no session over SSH with {place}")))?;
        self.recognise(&link)?;
        Ok(link)
    }
}

/// A connection to the first of the host's addresses that answers.
fn dial(address: &Address, life: &dyn Life, deadline: Duration) -> Result<TcpStream> {
    let (host, port) = (address.host.clone(), address.port);
    let place = address.known_as();
    let connect = move || -> std::io::Result<TcpStream> {
        let addresses: Vec<_> = (host.as_str(), port).to_socket_addrs()?.collect();
        let each = deadline / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = std::io::Error::other("the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, each) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true); // questions are short
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let connected = within(life, deadline, &format!("reach {place}"), connect)?;
    connected.map_err(|error| {
        Failure::io(format!("{place} cannot be reached")).with_source(error).with_help(
            "look at the name and the port, whether an SSH server is up there, and whether a firewall is in between; \
             `--bastion` leads through another host",
        )
    })
}
