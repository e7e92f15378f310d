//! Where an SSH server is, as people write it.

use std::fmt;
use std::str::FromStr;

use nodekiln_words::Failure;

/// SSH's port (RFC 4253).
const PORT: u16 = 22;

/// `[user@]host[:port]`; an IPv6 address with a port has brackets, as in `root@[2001:db8::1]:2222`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who logs in, where it is said.
    pub user: Option<String>,
    /// A name or a number, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for Address {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Err(Failure::input(format!("`{text}` is no address of a host: {why}"))
                .with_help("write `user@host`, `user@host:port` or `user@[IPv6]:port`"))
        };
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, text),
        };
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return wrong("something other than a port follows `]`"),
            },
            Some(None) => return wrong("a `]` is missing"),
            // Two colons and no brackets: an IPv6 address by itself.
            None if place.matches(':').count() > 1 => (place, None),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port.map(str::parse::<u16>) {
            None => PORT,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return wrong("the port is no number from 1 to 65535"),
        };
        let odd = |text: &str| {
            text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if odd(host) || host.contains(['/', '[', ']']) {
            return wrong("the host's name is empty or has characters that names do not have");
        }
        if user.as_deref().is_some_and(odd) {
            return wrong("the user's name is empty or has characters that names do not have");
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl Address {
    /// Host and port as `known_hosts` files name them: `host`, or `[host]:port` for another port than 22.
    #[must_use]
    pub fn known_as(&self) -> String {
        let host = self.host.to_lowercase();
        if self.port == PORT { host } else { format!("[{host}]:{}", self.port) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.host.contains(':'), self.port) {
            (false, PORT) => f.write_str(&self.host),
            (false, port) => write!(f, "{}:{port}", self.host),
            (true, PORT) => write!(f, "[{}]", self.host),
            (true, port) => write!(f, "[{}]:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for (text, user, host, port, again) in [
            ("node", None, "node", 22, "node"),
            (
                "admin@node.example:2222",
                Some("admin"),
                "node.example",
                2222,
                "admin@node.example:2222",
            ),
            ("root@10.0.0.7:22", Some("root"), "10.0.0.7", 22, "root@10.0.0.7"),
            (
                "root@[2001:db8::1]:2222",
                Some("root"),
                "2001:db8::1",
                2222,
                "root@[2001:db8::1]:2222",
            ),
            ("fe80::1%eth0", None, "fe80::1%eth0", 22, "[fe80::1%eth0]"),
            ("a@corp@node", Some("a@corp"), "node", 22, "a@corp@node"),
        ] {
            let read: Address = text.parse().unwrap();
            let wanted = Address { user: user.map(str::to_owned), host: host.to_owned(), port };
            assert_eq!(read, wanted);
            assert_eq!(read.to_string(), again);
            assert_eq!(again.parse::<Address>().unwrap(), wanted);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form() {
        for wrong in [
            "",
            "@node",
            "root@",
            "node:",
            "node:0",
            "node:99999",
            "[::1",
            "[::1]x",
            "a b",
            "a/b",
            ":22",
        ] {
            let failure = wrong.parse::<Address>().unwrap_err();
            assert!(failure.help().is_some_and(|help| help.contains("user@host")), "{wrong}");
        }
    }

    #[test]
    fn another_port_is_part_of_the_name_that_is_known() {
        assert_eq!("root@Node".parse::<Address>().unwrap().known_as(), "node");
        assert_eq!("Node:2222".parse::<Address>().unwrap().known_as(), "[node]:2222");
    }
}
