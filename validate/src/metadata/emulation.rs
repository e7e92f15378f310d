//! A cloud's services at their real addresses, in a network of their own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use nodekiln_words::Result;

use super::exchange::Destination;
use super::faults::{Fault, Faults};
use super::instance::Instance;
use super::journal::Journal;
use super::namespace::{self, Namespace};
use super::server::{Listener, NameSockets, Server};

/// Where the name server listens inside: on loopback, where nobody else does.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// The port of name servers.
const DNS: u16 = 53;

/// The services of an instance's cloud, and the network in which they are what they are in the cloud.
///
/// A guest is brought into it by running the whole of its life inside:
/// `emulation.inside(|| …start QEMU with -netdev user, wait, log in by SSH…)`. QEMU's user-mode network
/// opens the guest's connections from the namespace, so that both link-local addresses answer; a port
/// forwarded to the guest is one of the namespace, and reached from inside only. QEMU's `restrict=on` must
/// be off there: it would keep the guest from the services, and there is no way out anyway.
#[derive(Debug)]
pub struct Emulation {
    server: Server,
    namespace: Namespace,
}

impl Emulation {
    /// Starts the services of `instance`.
    ///
    /// # Errors
    /// When this machine does not let us have a network namespace ([`namespace::own_user_namespace`]), or the
    /// cloud has names and there is no file by way of which they are looked up.
    pub fn start(instance: Instance, faults: Vec<Fault>, journal: Journal) -> Result<Self> {
        let services = instance.cloud.services();
        let addresses: BTreeSet<Ipv4Addr> = services.iter().map(|(address, ..)| *address).collect();
        let addresses: Vec<Ipv4Addr> = addresses.into_iter().collect();
        // A machine that looks no names up serves clouds that need none all the same.
        let named = !instance.cloud.names().is_empty() || namespace::has_resolver();
        let namespace = Namespace::create(&addresses, named.then_some(RESOLVER))?;
        let listeners = services.into_iter().map(|(address, port, destination)| {
            let socket = namespace.listen(SocketAddr::from((address, port)))?;
            Ok(Listener { socket, destination })
        });
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        let resolver = SocketAddr::from((RESOLVER, DNS));
        let names =
            NameSockets { udp: namespace.listen_udp(resolver)?, tcp: namespace.listen(resolver)? };
        let server = Server::start(instance, Faults::new(faults), journal, listeners, Some(names))?;
        Ok(Self { server, namespace })
    }

    /// Runs `work` in the network of the services ([`Namespace::inside`]).
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.inside(work)
    }

    /// The server: what the guest asked and told.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The network.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// All services of `instance`'s cloud at one address of this machine's own network.
///
/// # Errors
/// When the address is not this machine's or is taken.
pub fn serve_at(
    address: SocketAddr,
    instance: Instance,
    faults: Vec<Fault>,
    journal: Journal,
) -> Result<Server> {
    let socket = namespace::listen(address)?;
    let listener = Listener { socket, destination: Destination::Any };
    Server::start(instance, Faults::new(faults), journal, vec![listener], None)
}
