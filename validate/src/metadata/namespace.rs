//! A network of one's own, where the clouds' link-local addresses are this machine's.
//!
//! Made on a thread that leaves the network and mount namespaces of the others, brings the loopback
//! interface up and gives it the addresses; the thread ends, and open files keep the namespaces alive.
//! So nothing has to be removed: when this process ends, in whatever way, the files are closed and the
//! kernel removes the namespaces with all in them. No other interface is there, hence no way out.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nodekiln_words::{Class, Failure, Result, ResultExt as _};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::program::Program;

/// Where name servers are looked up.
const RESOLVER: &str = "/etc/resolv.conf";
/// Folders with the sockets of programs that look names up for others, in this machine's own network.
const LOOKED_UP_ELSEWHERE: [&str; 2] = ["/run/systemd/resolve", "/run/nscd"];
/// Makes namespaces without privileges.
const UNSHARE: Program = Program { name: "unshare", package: "util-linux" };

/// A network namespace with a mount namespace beside it.
#[derive(Debug)]
pub struct Namespace {
    net: File,
    mount: File,
}

impl Namespace {
    /// A network that has only its loopback interface, with these addresses besides 127.0.0.1. Programs in
    /// it find `resolver`, if there is one, as their only name server.
    ///
    /// # Errors
    /// When the kernel does not let this process have one; [`own_user_namespace`] may help.
    pub fn create(addresses: &[Ipv4Addr], resolver: Option<Ipv4Addr>) -> Result<Self> {
        let make = || {
            leave()?;
            bring_up(addresses).or_io(|| "set up a network namespace".to_owned())?;
            if let Some(resolver) = resolver {
                cover_resolver(resolver)?;
            }
            let open = |kind: &str| {
                File::open(format!("/proc/thread-self/ns/{kind}"))
                    .or_io(|| "keep a network namespace".to_owned())
            };
            Ok(Self { net: open("net")?, mount: open("mnt")? })
        };
        on_a_thread(make)?
    }

    /// Runs `work` on a thread inside. Sockets that it opens belong to the namespace wherever they are used
    /// afterwards; programs and threads that it starts are inside too.
    ///
    /// A program that is to die with its starter dies when `work` returns (`PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(|| {
            self.enter().or_io(|| "enter the network namespace".to_owned())?;
            Ok(work())
        })?
    }

    /// Moves this thread, and no other.
    fn enter(&self) -> io::Result<()> {
        let folder = std::env::current_dir();
        unshare(UnshareFlags::FS)?; // mount namespaces are joined by whoever shares no working folder
        move_into_link_name_space(self.mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
        move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))?;
        if let Ok(folder) = folder {
            rustix::process::chdir(folder)?; // joining went to the root
        }
        Ok(())
    }

    /// A command line by which a person enters, as long as this process lives.
    #[must_use]
    pub fn entrance(&self) -> String {
        let process = std::process::id();
        let file = |file: &File| format!("/proc/{process}/fd/{}", file.as_raw_fd());
        let (net, mount) = (file(&self.net), file(&self.mount));
        let user = if initial_user_namespace() {
            String::new()
        } else {
            format!("--user=/proc/{process}/ns/user --preserve-credentials ")
        };
        format!("nsenter {user}--net={net} --mount={mount}")
    }

    /// Listens inside.
    ///
    /// # Errors
    /// When the address is not the namespace's or is taken.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.inside(|| listen(address))?
    }

    /// Listens for datagrams inside.
    ///
    /// # Errors
    /// When the address is not the namespace's or is taken.
    pub fn listen_udp(&self, address: SocketAddr) -> Result<UdpSocket> {
        self.inside(|| UdpSocket::bind(address).or_io(|| format!("listen at {address}")))?
    }
}

/// Listens at an address of this thread's network.
///
/// # Errors
/// When there is no such address, or it is taken.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).or_io(|| format!("listen at {address}")).map_err(|failure| {
        failure.with_help("give another port to --listen; 0 takes one that is free")
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned());
        let thread = thread.spawn_scoped(scope, work).or_io(|| "start a thread".to_owned())?;
        thread.join().map_err(|_| Failure::io("a thread in the network namespace panicked"))
    })
}

fn leave() -> Result<()> {
    let left = unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).and_then(|()| {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)
    });
    left.map_err(|error| refused().with_source(io::Error::from(error)))
}

fn refused() -> Failure {
    Failure::new(Class::Unsupported, "cannot make a network namespace").with_help(
        "run this as root; or let users have namespaces of their own: the sysctls user.max_user_namespaces \
         and user.max_net_namespaces must not be 0, and where there is \
         kernel.apparmor_restrict_unprivileged_userns, it must be. `--listen 127.0.0.1:PORT` needs no \
         namespace",
    )
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    #[expect(
        deprecated,
        reason = "the replacement is unsafe because of UnshareFlags::FILES alone, which no caller passes"
    )]
    rustix::thread::unshare(flags)
}

/// Lays a file that names `resolver` over the machine's own, in this mount namespace only, and empty folders
/// over those through which names would be looked up elsewhere.
fn cover_resolver(resolver: Ipv4Addr) -> Result<()> {
    let cannot = || format!("lay another file over {RESOLVER}");
    let text = format!("nameserver {resolver}\noptions timeout:2 attempts:2\n");
    let place = place(Path::new(RESOLVER))?;
    for folder in LOOKED_UP_ELSEWHERE.iter().filter(|folder| Path::new(folder).is_dir()) {
        let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        let covered = rustix::mount::mount("tmpfs", *folder, "tmpfs", flags, c"size=64k,mode=755");
        covered.map_err(io::Error::from).or_io(|| format!("lay an empty folder over {folder}"))?;
    }
    if !place.exists() {
        return fs_err::write(place, text).or_io(cannot); // it was in one of these
    }
    uncover(&place).or_io(cannot)?;
    // The mount keeps the file when its name is gone.
    let file = tempfile::NamedTempFile::new().or_io(cannot)?;
    fs_err::write(file.path(), text).or_io(cannot)?;
    let readable = std::fs::Permissions::from_mode(0o644);
    fs_err::set_permissions(file.path(), readable).or_io(cannot)?;
    rustix::mount::mount_bind(file.path(), &place).map_err(io::Error::from).or_io(cannot)
}

/// Takes away the file that an outer namespace of this kind laid there, in this mount namespace only: the
/// kernel lays nothing over a file that has no name any more.
fn uncover(place: &Path) -> io::Result<()> {
    while std::fs::metadata(place)?.nlink() == 0 {
        rustix::mount::unmount(place, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The file that a path leads to.
fn place(path: &Path) -> Result<PathBuf> {
    fs_err::canonicalize(path)
        .or_io(|| format!("lay another file over {}", path.display()))
        .map_err(|failure| {
            failure.with_help(format!(
                "names are looked up by way of {}: make it a file, which may be empty",
                path.display()
            ))
        })
}

/// Whether there is a file by whose means programs look names up, and over which another can be laid.
pub(super) fn has_resolver() -> bool {
    Path::new(RESOLVER).exists()
}

/// Whether this process is in the first user namespace, where user ids are what they are.
fn initial_user_namespace() -> bool {
    // Ids of all 32 bits are mapped to themselves there and nowhere else.
    let map = fs_err::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether this process may make namespaces without more ado.
#[must_use]
pub fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts this program again, with `arguments`, as root of a user namespace of its own, in place of this
/// process: there it may make other namespaces.
///
/// # Errors
/// When the machine does not let users have namespaces.
pub fn own_user_namespace(arguments: impl Iterator<Item = OsString>) -> Result<Infallible> {
    let unshare = UNSHARE.find()?;
    let user = ["--user", "--map-root-user"];
    let probe = Command::new(&unshare)
        .args(user)
        .args(["--net", "--mount", "--", "true"])
        .stdin(Stdio::null())
        .output()
        .or_fail(Class::Missing, || format!("run {}", unshare.display()))?;
    if !probe.status.success() {
        let said = String::from_utf8_lossy(&probe.stderr).trim().to_owned();
        return Err(refused().with_source(Failure::io(said)));
    }
    let again = || "start this program in a user namespace".to_owned();
    let program = std::env::current_exe().or_io(again)?;
    let error = Command::new(unshare).args(user).arg("--").arg(program).args(arguments).exec();
    Err(error).or_fail(Class::Missing, again)
}

/// Runs what it is given as arguments and ends with its exit code. The shell is there to be the first process
/// of its namespace, which signals hardly reach: a program is not used to that.
const FIRST_PROCESS: &str = "\"$@\"; exit $?";

/// A command that runs `program` so that it and all that it starts die with the thread that starts it:
/// in a process namespace whose first process the kernel kills with its parent.
///
/// # Errors
/// When a program of util-linux is missing.
pub fn mortal(program: &Path) -> Result<Command> {
    let mut command = UNSHARE.mortal()?;
    command.args(["--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--"]);
    command.args(["sh", "-c", FIRST_PROCESS, "sh"]).arg(program);
    Ok(command)
}

/// Asks what a [`mortal`] command runs to end (SIGTERM): the program, and what it left to its first process. The
/// command itself and that first process pass no signal on.
///
/// Where the kernel keeps no lists of children (`CONFIG_PROC_CHILDREN`) nobody is asked.
pub fn ask_to_end(command: &Child) {
    for process in children(command.id()).into_iter().flat_map(children) {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw);
        if let Some(process) = process {
            let _ = rustix::process::kill_process(process, Signal::TERM); // it may have ended just now
        }
    }
}

/// The children of a process that has one thread.
fn children(process: u32) -> Vec<u32> {
    let list = fs_err::read_to_string(format!("/proc/{process}/task/{process}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// `RTM_NEWLINK` and `RTM_NEWADDR` (linux/rtnetlink.h): change an interface, add an address.
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_ACK`, and with `NLM_F_CREATE | NLM_F_EXCL`.
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
const CREATE: u16 = 0x400 | 0x200;
/// `NLMSG_ERROR`: the answer, whose error number is 0 when all is well.
const ANSWER: u16 = 2;
/// The loopback interface is the first in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IFA_ADDRESS` and `IFA_LOCAL`.
const ATTRIBUTES: [u16; 2] = [1, 2];
/// `AF_INET`.
const INET: u8 = 2;

/// Sets the loopback interface up and gives it the addresses, each as a network of its own.
///
/// Two messages of thirty bytes (rtnetlink(7)): a netlink library would be most of this room. The sandbox of the
/// room `build` sends the first of them too, and keeps it to itself on purpose: neither room may know the other,
/// and the one below both knows of no kernel.
fn bring_up(addresses: &[Ipv4Addr]) -> io::Result<()> {
    // Protocol 0 of this family is NETLINK_ROUTE.
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    let messages = std::iter::once(link_up()).chain(addresses.iter().copied().map(new_address));
    for message in messages {
        rustix::net::sendto(&socket, &message, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 1024];
        let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
        verdict(answer.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

/// `struct nlmsghdr` around a body, in the machine's byte order.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes()); // sequence number
    message.extend(0_u32.to_ne_bytes()); // sender: chosen by the kernel
    message.extend(body);
    message
}

/// `struct ifinfomsg`.
fn link_up() -> Vec<u8> {
    let mut body = vec![0; 4]; // family, padding, device type
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(UP.to_ne_bytes()); // flags
    body.extend(UP.to_ne_bytes()); // which flags to change
    message(NEW_LINK, REQUEST_WITH_ANSWER, &body)
}

/// `struct ifaddrmsg` and two `struct rtattr`.
fn new_address(address: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![INET, 32, 0, 0]; // family, prefix, flags, scope: the whole world
    body.extend(LOOPBACK.to_ne_bytes());
    for attribute in ATTRIBUTES {
        body.extend(8_u16.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(address.octets());
    }
    message(NEW_ADDRESS, REQUEST_WITH_ANSWER | CREATE, &body)
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
    fn messages_are_as_long_as_they_say() {
        for message in [link_up(), new_address(Ipv4Addr::LOCALHOST)] {
            let length = u32::from_ne_bytes(message[..4].try_into().unwrap());
            assert_eq!(message.len(), length as usize);
        }
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

    #[test]
    fn a_machine_without_a_resolver_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("resolv.conf");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let failure = place(&link).unwrap_err();
        assert!(failure.help().is_some_and(|help| help.contains("resolv.conf")), "{failure:?}");
    }

    #[test]
    fn an_address_that_is_taken_is_told_with_a_remedy() {
        let taken = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let failure = listen(taken.local_addr().unwrap()).unwrap_err();
        assert!(failure.help().is_some_and(|help| help.contains("--listen")), "{failure:?}");
    }
}
