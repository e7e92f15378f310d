//! The scripts.
//!
//! A script ends with 0 and its answer, with [`UNAVAILABLE`] where the guest lacks what it needs, and with another
//! status where the question has no answer; then its error output says why.

use super::{Ask, Input, PATIENCE, Question, curl};
use crate::target::Algorithm;

/// The guest lacks a program; sysexits' EX_UNAVAILABLE.
pub(super) const UNAVAILABLE: i32 = 69;

/// Puts the home directory in place of `~` or `~NAME` in front of `$1`; the path is then `$path`.
macro_rules! home {
    ($rest:literal) => {
        concat!(
            r#"
path=$1
case $path in
"~"*)
    user=${path%%/*} rest=${path#"${path%%/*}"}
    user=${user#"~"}
    home=
    while IFS=: read -r name _ _ _ _ dir _; do
        if [ "$name" = "${user:-root}" ]; then home=$dir; fi
    done </etc/passwd
    if [ -z "$home" ]; then echo "there is no user ${user:-root}" >&2; exit 1; fi
    path=$home$rest
    ;;
esac
"#,
            $rest
        )
    };
}

/// Mode in hexadecimal, size, numbers and names of owner and group; below it what a link says.
const FILE: &str = home!(
    r#"
if [ ! -e "$path" ] && [ ! -L "$path" ]; then echo absent; exit 0; fi
command -v stat >/dev/null 2>&1 || { echo "stat is missing" >&2; exit 69; }
LC_ALL=C stat -c '%f %s %u %g %U %G' -- "$path" || exit 1
if [ -L "$path" ]; then readlink -- "$path"; fi
exit 0
"#
);

const CONTENTS: &str = home!(
    r#"
if [ -d "$path" ]; then echo "it is a directory" >&2; exit 1; fi
exec cat -- "$path"
"#
);

const DIGEST: &str = home!(
    r#"
command -v "$2" >/dev/null 2>&1 || { echo "$2 is missing" >&2; exit 69; }
if [ -d "$path" ]; then echo "it is a directory" >&2; exit 1; fi
exec "$2" <"$path"
"#
);

/// `deb` or `rpm` in the first line, then a line for each installed version.
const PACKAGE: &str = r#"
if command -v dpkg-query >/dev/null 2>&1 && [ -s /var/lib/dpkg/status ]; then
    echo deb
    dpkg-query -W -f '${Status} ${Version}\n' -- "$1" 2>/dev/null
    exit 0
fi
if command -v rpm >/dev/null 2>&1; then
    echo rpm
    versions=$(rpm -q --nosignature --nodigest --qf '%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n' -- "$1" 2>/dev/null) &&
        printf '%s\n' "$versions"
    exit 0
fi
echo "neither dpkg-query nor rpm is there" >&2
exit 69
"#;

const ENABLED: &str = r#"
command -v systemctl >/dev/null 2>&1 || { echo "systemctl is missing" >&2; exit 69; }
if systemctl -q is-enabled -- "$1" >/dev/null 2>&1; then echo yes; else echo no; fi
"#;

const RUNNING: &str = r#"
command -v systemctl >/dev/null 2>&1 || { echo "systemctl is missing" >&2; exit 69; }
[ -d /run/systemd/system ] || { echo "systemd does not run" >&2; exit 69; }
if systemctl -q is-active -- "$1" >/dev/null 2>&1; then echo yes; else echo no; fi
"#;

const COMMAND: &str = r#"exec sh -c "$1""#;

const KERNEL_PARAM: &str = r#"
[ -e "/proc/sys/$1" ] || { echo "the kernel has no such parameter" >&2; exit 1; }
exec cat -- "/proc/sys/$1"
"#;

const MOUNTS: &str = "exec cat /proc/self/mountinfo";

/// Blocks, then those that are free.
const USAGE: &str = r#"
command -v stat >/dev/null 2>&1 || { echo "stat is missing" >&2; exit 69; }
exec stat -f -c '%b %f' -- "$1"
"#;

const USERS: &str = "exec cat /etc/passwd";

const GROUPS: &str = "exec cat /etc/group";

/// The kernel's own tables, since not every image has ss: each behind a line with its name.
const SOCKETS: &str = r#"
for table in tcp tcp6 udp udp6; do
    if [ -r "/proc/net/$table" ]; then echo "$table"; cat "/proc/net/$table"; fi
done
"#;

/// curl, or Python in its place, reads the whole request from standard input, so that no password stands in the list of
/// processes. cloud-init brings Python; RHEL 8's is no program of the PATH.
const HTTP: &str = r#"
command -v curl >/dev/null 2>&1 && exec curl -q --config -
for python in python3 /usr/libexec/platform-python; do
    command -v "$python" >/dev/null 2>&1 && exec "$python" -I -c "$1"
done
echo "neither curl nor Python is there" >&2
exit 69
"#;
/// What Python does where there is no curl.
const REQUEST: &str = include_str!("request.py");

/// What to run for a question.
pub(super) fn ask(question: Question) -> Ask {
    let one = |text: &String| vec![text.clone()];
    let (script, arguments) = match &question {
        Question::File(path) => (FILE, one(path)),
        Question::Contents(path) => (CONTENTS, one(path)),
        Question::Digest(path, algorithm) => {
            let program = match algorithm {
                Algorithm::Md5 => "md5sum",
                Algorithm::Sha256 => "sha256sum",
                Algorithm::Sha512 => "sha512sum",
            };
            (DIGEST, vec![path.clone(), program.to_owned()])
        }
        Question::Package(name) => (PACKAGE, one(name)),
        Question::Enabled(unit) => (ENABLED, one(unit)),
        Question::Running(unit) => (RUNNING, one(unit)),
        Question::Command(command) => (COMMAND, one(&command.exec)),
        Question::KernelParam(name) => (KERNEL_PARAM, vec![parameter_path(name)]),
        Question::Mounts => (MOUNTS, Vec::new()),
        Question::Usage(mountpoint) => (USAGE, one(mountpoint)),
        Question::Users => (USERS, Vec::new()),
        Question::Groups => (GROUPS, Vec::new()),
        Question::Sockets => (SOCKETS, Vec::new()),
        Question::Http(_) => (HTTP, vec![REQUEST.to_owned()]),
    };
    let timeout = match &question {
        Question::Command(command) => command.timeout,
        // The program ends itself; what comes on top is for the way there and back.
        Question::Http(request) => request.timeout + PATIENCE,
        _ => PATIENCE,
    };
    let input = match &question {
        Question::Http(request) => Input(curl::config(request).into_bytes()),
        _ => Input::default(),
    };
    Ask { question, script, arguments, input, timeout }
}

/// The path below /proc/sys of a parameter. As with sysctl, where a name has a dot before any slash its dots are
/// slashes and its slashes dots (`net.ipv4.conf.eth0/100.forwarding`).
fn parameter_path(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => {
            let swapped = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            // Of a name such as `..` nothing is left that leads out of /proc/sys.
            let path: String = name.chars().map(swapped).collect();
            path.split('/').filter(|part| *part != "..").collect::<Vec<_>>().join("/")
        }
        _ => name.split('/').filter(|part| *part != "..").collect::<Vec<_>>().join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parameters_become_paths_as_with_sysctl() {
        assert_eq!(parameter_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(
            parameter_path("net/ipv4/conf/eth0.1/forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            parameter_path("net.ipv4.conf.eth0/1.forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(parameter_path("a/../../etc/passwd"), "a/etc/passwd");
        assert!(!parameter_path("x.//.//.etc.passwd").contains("/../"));
    }

    #[test]
    fn the_scripts_know_the_status_for_what_is_missing() {
        for script in [FILE, DIGEST, PACKAGE, ENABLED, RUNNING, USAGE, HTTP] {
            assert!(script.contains(&format!("exit {UNAVAILABLE}")), "{script}");
        }
    }
}
