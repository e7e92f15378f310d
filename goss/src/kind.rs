//! The kinds of resources and their attributes: one table for reading, judging and the schema.

/// What a resource is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file, directory, link or device.
    File,
    /// A package of the distribution.
    Package,
    /// A unit of systemd.
    Service,
    /// A command and its output.
    Command,
    /// A kernel parameter (sysctl).
    KernelParam,
    /// A mount point.
    Mount,
    /// A user of `/etc/passwd`.
    User,
    /// A group of `/etc/group`.
    Group,
    /// A local port.
    Port,
    /// A request over HTTP.
    Http,
    /// A value of the file itself.
    Matching,
}

/// What an attribute's value is, which decides how what is wanted of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A text.
    Text,
    /// Permission bits as four octal digits.
    Mode,
    /// A text or a number.
    TextOrInteger,
    /// A list of texts.
    Texts,
    /// Lines, of a file or an output.
    Output,
    /// Anything.
    Any,
}

/// An attribute that is judged.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) name: &'static str,
    /// Its name in goss 0.3, where that was another.
    pub(crate) old_name: Option<&'static str>,
    pub(crate) shape: Shape,
    /// Must be wanted.
    pub(crate) required: bool,
    pub(crate) about: &'static str,
}

/// An attribute that says how to find out, and is not judged itself.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) about: &'static str,
}

/// A kind with all that a resource of it may have.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    /// As goss files call it.
    pub(crate) name: &'static str,
    /// What the key of a resource is, and the setting that may say it instead.
    pub(crate) key: &'static str,
    pub(crate) key_setting: Option<&'static str>,
    /// In the order in which they are judged.
    pub(crate) attributes: &'static [Attribute],
    pub(crate) settings: &'static [Setting],
    /// Whether the others are skipped where the first attribute is not as wanted, or is found false.
    pub(crate) first_decides: bool,
}

/// Kinds that goss has and nodekiln does not judge, with the reason.
pub(crate) static SKIPPED: &[(&str, &str)] = &[
    ("addr", "an image is judged without a network, so no other address can be reached"),
    ("dns", "an image is judged without a network, so no name can be resolved"),
    ("interface", "the machine's cards are those of the test and not of the image"),
    ("process", "a service is judged by its unit; use `service`, or `command` with pgrep"),
];

/// What every resource may have besides.
pub(crate) static COMMON: &[Setting] = &[
    setting("title", Shape::Text, "What a report calls it."),
    setting("meta", Shape::Any, "Anything; it is kept and not looked at."),
    setting("skip", Shape::Boolean, "True skips it."),
];

const fn wanted(name: &'static str, shape: Shape, about: &'static str) -> Attribute {
    Attribute { name, old_name: None, shape, required: false, about }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Attribute {
    Attribute { name, old_name: None, shape, required: true, about }
}

const fn setting(name: &'static str, shape: Shape, about: &'static str) -> Setting {
    Setting { name, shape, about }
}

/// All kinds, in the order in which reports list them.
pub(crate) static KINDS: &[Description] = &[
    Description {
        kind: Kind::File,
        name: "file",
        key: "Path.",
        key_setting: Some("path"),
        attributes: &[
            required(
                "exists",
                Shape::Boolean,
                "Whether it is there; a link is, wherever it points.",
            ),
            wanted("mode", Shape::Mode, "Permission bits as four octal digits."),
            wanted("owner", Shape::Text, "Name of the owner."),
            wanted("uid", Shape::Integer, "Numeric id of the owner."),
            wanted("group", Shape::Text, "Name of the group."),
            wanted("gid", Shape::Integer, "Numeric id of the group."),
            wanted("linked-to", Shape::Text, "What a symbolic link says."),
            wanted(
                "filetype",
                Shape::Text,
                "file, directory, symlink, socket, pipe, character-device or block-device.",
            ),
            Attribute {
                name: "contents",
                old_name: Some("contains"),
                shape: Shape::Output,
                required: false,
                about: "Patterns on its lines, or a matcher on all of it.",
            },
            wanted("size", Shape::Integer, "Size in bytes."),
            wanted("md5", Shape::Text, "MD5 digest in hexadecimal."),
            wanted("sha256", Shape::Text, "SHA-256 digest in hexadecimal."),
            wanted("sha512", Shape::Text, "SHA-512 digest in hexadecimal."),
        ],
        settings: &[setting("path", Shape::Text, "Path, where the key is a name.")],
        first_decides: true,
    },
    Description {
        kind: Kind::Package,
        name: "package",
        key: "Name of the package.",
        key_setting: Some("name"),
        attributes: &[
            required("installed", Shape::Boolean, "Whether it is installed."),
            wanted("versions", Shape::Texts, "Versions that are installed."),
        ],
        settings: &[setting("name", Shape::Text, "Name, where the key is another.")],
        first_decides: true,
    },
    Description {
        kind: Kind::Service,
        name: "service",
        key: "Name of the unit; `.service` may be left out.",
        key_setting: Some("name"),
        attributes: &[
            wanted("enabled", Shape::Boolean, "Whether it starts at boot."),
            wanted("running", Shape::Boolean, "Whether it is active now."),
            wanted("runlevels", Shape::Texts, "Run levels; skipped, systemd has none."),
        ],
        settings: &[setting("name", Shape::Text, "Name, where the key is another.")],
        first_decides: false,
    },
    Description {
        kind: Kind::Command,
        name: "command",
        key: "The command, for a shell.",
        key_setting: Some("exec"),
        attributes: &[
            required("exit-status", Shape::Integer, "Exit status."),
            wanted(
                "stdout",
                Shape::Output,
                "Patterns on lines of its output, or a matcher on all.",
            ),
            wanted("stderr", Shape::Output, "The same of its error output."),
        ],
        settings: &[
            setting("exec", Shape::Text, "The command, where the key is a name."),
            setting(
                "timeout",
                Shape::Integer,
                "Milliseconds until it is given up; 10000 by default.",
            ),
        ],
        first_decides: false,
    },
    Description {
        kind: Kind::KernelParam,
        name: "kernel-param",
        key: "Name, such as net.ipv4.ip_forward.",
        key_setting: Some("name"),
        attributes: &[required("value", Shape::TextOrInteger, "Its value.")],
        settings: &[setting("name", Shape::Text, "Name, where the key is another.")],
        first_decides: false,
    },
    Description {
        kind: Kind::Mount,
        name: "mount",
        key: "Mount point.",
        key_setting: Some("mountpoint"),
        attributes: &[
            required("exists", Shape::Boolean, "Whether something is mounted there."),
            wanted("opts", Shape::Texts, "Options of the mount."),
            wanted("vfs-opts", Shape::Texts, "Options of the file system."),
            wanted("source", Shape::Text, "What is mounted, such as /dev/vda1."),
            wanted("filesystem", Shape::Text, "Type of the file system."),
            wanted("usage", Shape::Integer, "Percentage of blocks in use."),
        ],
        settings: &[
            setting("mountpoint", Shape::Text, "Mount point, where the key is a name."),
            setting(
                "timeout",
                Shape::Integer,
                "Milliseconds until it is given up; 1000 by default.",
            ),
        ],
        first_decides: true,
    },
    Description {
        kind: Kind::User,
        name: "user",
        key: "Login name.",
        key_setting: Some("username"),
        attributes: &[
            required("exists", Shape::Boolean, "Whether /etc/passwd has it."),
            wanted("uid", Shape::Integer, "Numeric id."),
            wanted("gid", Shape::Integer, "Numeric id of the primary group."),
            wanted("groups", Shape::Texts, "Names of all its groups."),
            wanted("home", Shape::Text, "Home directory."),
            wanted("shell", Shape::Text, "Login shell."),
        ],
        settings: &[setting("username", Shape::Text, "Login name, where the key is another.")],
        first_decides: true,
    },
    Description {
        kind: Kind::Group,
        name: "group",
        key: "Name of the group.",
        key_setting: Some("groupname"),
        attributes: &[
            required("exists", Shape::Boolean, "Whether /etc/group has it."),
            wanted("gid", Shape::Integer, "Numeric id."),
        ],
        settings: &[setting("groupname", Shape::Text, "Name, where the key is another.")],
        first_decides: true,
    },
    Description {
        kind: Kind::Port,
        name: "port",
        key: "tcp, tcp6, udp or udp6, a colon and the number; tcp may be left out.",
        key_setting: Some("port"),
        attributes: &[
            required("listening", Shape::Boolean, "Whether something listens there."),
            wanted("ip", Shape::Texts, "Addresses that it listens on."),
        ],
        settings: &[setting("port", Shape::TextOrInteger, "The port, where the key is a name.")],
        first_decides: true,
    },
    Description {
        kind: Kind::Http,
        name: "http",
        key: "URL.",
        key_setting: Some("url"),
        attributes: &[
            required("status", Shape::Integer, "Status of the answer."),
            wanted("headers", Shape::Output, "Patterns on its header lines."),
            wanted("body", Shape::Output, "Patterns on its lines, or a matcher on all."),
        ],
        settings: &[
            setting("url", Shape::Text, "URL, where the key is a name."),
            setting("method", Shape::Text, "Method; GET by default."),
            setting("allow-insecure", Shape::Boolean, "True takes any certificate."),
            setting("no-follow-redirects", Shape::Boolean, "True takes a redirect for the answer."),
            setting(
                "timeout",
                Shape::Integer,
                "Milliseconds until it is given up; 5000 by default.",
            ),
            setting("request-headers", Shape::Texts, "Headers to send, `Name: value`."),
            setting("request-body", Shape::Text, "Body to send."),
            setting("username", Shape::Text, "Name for basic authentication."),
            setting("password", Shape::Text, "Password for basic authentication."),
            setting("ca-file", Shape::Text, "Certificates to trust; a path in the guest."),
            setting("cert-file", Shape::Text, "Client certificate; a path in the guest."),
            setting("key-file", Shape::Text, "Its key; a path in the guest."),
            setting("proxy", Shape::Text, "URL of a proxy."),
        ],
        first_decides: true,
    },
    Description {
        kind: Kind::Matching,
        name: "matching",
        key: "A name.",
        key_setting: None,
        attributes: &[required("matches", Shape::Any, "The matcher.")],
        settings: &[setting("content", Shape::Any, "The value that is matched.")],
        first_decides: false,
    },
];

impl Kind {
    /// As goss files call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.description().name
    }

    pub(crate) fn description(self) -> &'static Description {
        // Every kind has a record, which a test counts.
        KINDS.iter().find(|one| one.kind == self).unwrap_or(&KINDS[0])
    }
}

impl Description {
    /// The kind called `name`.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|one| one.name == name)
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        let mut attributes = self.attributes.iter();
        attributes.find(|one| one.name == name || one.old_name == Some(name))
    }

    pub(crate) fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().chain(COMMON).find(|one| one.name == name)
    }

    /// All keys that a resource of this kind may have.
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        let settings = self.settings.iter().chain(COMMON).map(|one| one.name);
        self.attributes.iter().map(|one| one.name).chain(settings).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_record_and_no_key_two_meanings() {
        for (index, one) in KINDS.iter().enumerate() {
            assert_eq!(one.kind as usize, index, "{}", one.name);
            assert_eq!(one.kind.description().name, one.name);
            let mut keys = one.keys();
            keys.sort_unstable();
            let count = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), count, "{}", one.name);
            assert!(one.key_setting.is_none_or(|name| one.setting(name).is_some()), "{}", one.name);
            assert!(!one.first_decides || one.attributes[0].required, "{}", one.name);
        }
    }
}
