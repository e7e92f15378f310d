//! Where a machine stands in the run: by its number everything differs that must differ between two of them.

use std::net::Ipv4Addr;

/// One of the machines of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u8);

impl Place {
    /// The first machine.
    pub const FIRST: Self = Self(0);
    /// The second one, made of the same image.
    pub const CLONE: Self = Self(1);
    /// Bits of the prefix of its network.
    pub const PREFIX: u8 = 24;

    /// Its number: 0, 1.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The Ethernet address of its card; locally administered.
    #[must_use]
    pub fn mac(self) -> String {
        format!("52:54:00:6e:6b:{:02x}", 1 + self.0)
    }

    /// The Ethernet address of the card that joins it to the other machine, where they have such; locally administered.
    #[must_use]
    pub fn second_mac(self) -> String {
        format!("52:54:00:6e:6c:{:02x}", 1 + self.0)
    }

    /// Its address in QEMU's user-mode network, of which each machine has one of its own.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.within(15)
    }

    /// The router there.
    #[must_use]
    pub const fn gateway(self) -> Ipv4Addr {
        self.within(2)
    }

    /// The network itself; `None` where it is the one that QEMU takes by itself.
    #[must_use]
    pub fn network(self) -> Option<String> {
        (self != Self::FIRST).then(|| format!("{}/{}", self.within(0), Self::PREFIX))
    }

    const fn within(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 2 + self.0, host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stands_where_qemu_puts_it_and_the_clone_elsewhere() {
        let (first, clone) = (Place::FIRST, Place::CLONE);
        assert_eq!((first.mac().as_str(), first.network()), ("52:54:00:6e:6b:01", None));
        assert_eq!(first.address().to_string(), crate::seed::GUEST_ADDRESS);
        assert_ne!((first.mac(), first.address()), (clone.mac(), clone.address()));
        assert_eq!(first.second_mac(), "52:54:00:6e:6c:01");
        assert_eq!(clone.network().as_deref(), Some("10.0.3.0/24"));
        assert_eq!(clone.gateway().to_string(), "10.0.3.2");
    }
}
