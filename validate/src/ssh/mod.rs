//! Sessions with SSH servers: greeting one, knowing it by its host key, logging in, and getting to it through another.
//!
//! libssh2 is used without blocking, so that every wait looks at the deadline and at the machine's life: a panic, a
//! cancelled run or a QEMU that ended is noticed within a tenth of a second.

mod address;
mod host_key;
mod known_hosts;
mod link;
mod login;
mod trust;
mod tunnel;

use std::time::Duration;

use nodekiln_words::Result;

pub use address::Address;
pub use host_key::HostKey;
pub use login::{Identity, Login};
pub use trust::{Trust, Trusted};

pub(crate) use link::{Link, TICK, within};
pub(crate) use login::log_in;
pub(crate) use trust::Expected;
pub(crate) use tunnel::tunnel;

use crate::guest::Life;

/// The way to one machine's SSH server. Every session with the machine goes this way, and its server is recognised
/// each time.
pub(crate) trait Route {
    /// Greets the server and makes sure that it is the one that is meant; nobody is logged in yet.
    ///
    /// # Errors
    /// When it cannot be reached by `deadline`, or shows another host key.
    fn connect<'a>(&self, life: &'a dyn Life, deadline: Duration) -> Result<Link<'a>>;
}
