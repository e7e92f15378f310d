//! The sandbox's promises, each broken on purpose where that can be done from inside.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nodekiln_build::layer::{Root, private_mounts};
use nodekiln_build::sandbox::{Bind, OtherClock};
use nodekiln_words::{Cancel, Class};

use crate::place::{Place, source_date};

#[test]
fn environment_is_exactly_as_promised() {
    let place = Place::new();
    let mut command = place.command(&["env"]);
    command.environment.insert("OWN".into(), "value".into());
    let output = String::from_utf8(place.run(&command).unwrap().stdout).unwrap();
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    let date = format!("SOURCE_DATE_EPOCH={}", source_date().unix());
    assert_eq!(
        lines,
        [
            "DEBCONF_NONINTERACTIVE_SEEN=true",
            "DEBIAN_FRONTEND=noninteractive",
            "HOME=/root",
            "LANG=C.UTF-8",
            "LC_ALL=C.UTF-8",
            "OWN=value",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            &date,
            "TZ=UTC",
        ]
    );
}

#[test]
fn another_clock_is_seen_in_the_sandbox_and_leaves_no_trace() {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut place = Place::new();
    // `ci/prepare test` installs libfaketime.
    let clock = OtherClock::ahead().unwrap();
    let ahead = u64::from(clock.ahead);
    place.sandbox.clock = Some(clock);
    let before = now();
    // Programs made before glibc 2.33 ask for a file's times by this name, the seconds being at 88.
    let old_stat = "import ctypes, struct; buffer = ctypes.create_string_buffer(144)\n\
        ctypes.CDLL(None).__xstat(1, b'/old', buffer); print(struct.unpack_from('q', buffer, 88)[0])";
    let said = place.says(&format!(
        "date +%s; perl -e 'print time, \"\\n\"'; : > /file; touch -d @1000000000 /old; \
         stat -c %Y /file /old; /usr/bin/python3 -c \"{old_stat}\""
    ));
    let after = now();
    let said: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    let [date, perl, file, old, old_by_its_old_name] = said[..] else { panic!("{said:?}") };
    for seen in [date, perl] {
        assert!((before + ahead..=after + ahead).contains(&seen), "{seen} at {before}");
    }
    // Archives are made with the times of files, which are this machine's or what was asked for.
    assert!((before..=after).contains(&file), "{file} at {before}");
    assert_eq!((old, old_by_its_old_name), (1_000_000_000, 1_000_000_000));
    let mut left: Vec<_> =
        fs::read_dir(place.tree()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, ["bin", "etc", "file", "lib", "lib64", "old", "sbin", "usr", "var"]);
}

#[test]
fn host_name_umask_folder_and_process_ids_are_the_sandboxs_own() {
    let place = Place::new();
    assert_eq!(
        place.says("hostname; umask; pwd; ls /proc | grep -c '^[0-9]'"),
        "nodekiln\n0022\n/\n4\n"
    );
}

#[test]
fn this_machines_paths_are_invisible() {
    let place = Place::new();
    fs::write(place.path("secret"), "x").unwrap();
    let seen =
        place.says(&format!("ls / | tr '\\n' ' '; test ! -e {}", place.folder.path().display()));
    assert_eq!(seen, "bin dev etc lib lib64 proc run sbin tmp usr var ");
    let mounts = place.says("cut -d' ' -f2 /proc/mounts | sort | tr '\\n' ' '");
    assert!(!mounts.contains("home") && mounts.starts_with("/ /dev /dev/full"), "{mounts}");
}

#[test]
fn there_is_no_network_but_the_loopback_interface_is_up() {
    let place = Place::new();
    let interfaces = place.says("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '");
    assert_eq!(interfaces, "lo\n");
    // The local table has 127.0.0.1 only once the interface is up.
    assert!(place.says("cat /proc/net/fib_trie").contains("127.0.0.1"));
    let reach = place.command(&["bash", "-c", "echo >/dev/tcp/192.0.2.1/80"]);
    let failure = place.run(&reach).unwrap_err();
    assert!(failure.help().unwrap().contains("Network is unreachable"), "{failure:?}");
}

#[test]
fn exit_status_and_last_lines_are_reported() {
    let place = Place::new();
    let failure = place.run(&place.shell("seq 1 30; echo trouble >&2; exit 7")).unwrap_err();
    assert_eq!(failure.class(), Class::Verdict);
    assert_eq!(failure.to_string(), "the test failed with exit status 7");
    let help = failure.help().unwrap();
    assert!(help.contains("  30\n") && help.contains("  trouble\n"), "{help}");
    assert!(!help.contains("  10\n"), "more than the last lines: {help}");
    assert!(place.log().contains("\n1\n") && help.contains("log"), "{help}");
}

#[test]
fn a_signal_is_reported_by_name() {
    let place = Place::new();
    let failure = place.run(&place.shell("kill -SEGV $$")).unwrap_err();
    assert_eq!(failure.to_string(), "the test was ended by signal 11 (SIGSEGV)");
}

#[test]
fn a_missing_program_is_told_from_one_that_cannot_start() {
    let place = Place::new();
    let failure = place.run(&place.command(&["no-such-program"])).unwrap_err();
    assert_eq!(failure.class(), Class::Missing);
    assert!(failure.to_string().contains("no program `no-such-program`"), "{failure}");
    fs::write(place.tree().join("etc/text"), "not a program").unwrap();
    let failure = place.run(&place.command(&["/etc/text"])).unwrap_err();
    assert_eq!(failure.class(), Class::Verdict);
    assert!(failure.to_string().contains("cannot be started"), "{failure}");
}

#[test]
fn standard_input_is_what_was_given_else_empty() {
    let place = Place::new();
    assert_eq!(place.says("wc -c"), "0\n");
    let mut command = place.command(&["cat"]);
    command.stdin = Some(vec![b'x'; 200_000]);
    assert_eq!(place.run(&command).unwrap().stdout, vec![b'x'; 200_000]);
}

#[test]
fn nothing_of_the_sandbox_stays_in_the_tree() {
    let place = Place::new();
    let sbin = place.tree().join("usr/sbin");
    fs::create_dir_all(&sbin).unwrap();
    let mut command =
        place.shell("touch /run/x /tmp/x /dev/shm/x; /usr/sbin/policy-rc.d || echo $?");
    // Programs under another name, so that the tree's own /usr/sbin takes the policy.
    command.binds[0].guest = "/host".into();
    command.argv[0] = "/host/bin/sh".into();
    command.binds.push(Bind { host: "/lib64".into(), guest: "/lib64x".into(), read_only: true });
    command.environment.insert("PATH".into(), "/host/bin".into());
    fs::remove_file(place.tree().join("lib64")).unwrap();
    fs::remove_file(place.tree().join("lib")).unwrap();
    fs::remove_file(place.tree().join("bin")).unwrap();
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("host/{name}"), place.tree().join(name)).unwrap();
    }
    let before = (listing(&place.tree()), fs::metadata(&sbin).unwrap().modified().unwrap());
    assert_eq!(place.run(&command).unwrap().stdout, b"101\n");
    let after = (listing(&place.tree()), fs::metadata(&sbin).unwrap().modified().unwrap());
    assert_eq!(before, after);
}

fn listing(folder: &Path) -> Vec<String> {
    let output = Command::new("find").arg(folder).output().unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn binds_are_read_only_where_asked_and_writable_otherwise() {
    let place = Place::new();
    for name in ["fixed", "open"] {
        fs::create_dir(place.path(name)).unwrap();
        fs::write(place.path(name).join("file"), name).unwrap();
    }
    let mut command = place.shell(
        "cat /in/fixed/file; echo new >/run/open/file
         if touch /in/fixed/x 2>/dev/null; then echo BAD; fi",
    );
    let bind = |name: &str, guest: &str, read_only| Bind {
        host: place.path(name),
        guest: guest.to_owned(),
        read_only,
    };
    command.binds.push(bind("fixed", "/in/fixed", true));
    command.binds.push(bind("open", "/run/open", false));
    assert_eq!(place.run(&command).unwrap().stdout, b"fixed");
    assert_eq!(fs::read_to_string(place.path("open").join("file")).unwrap(), "new\n");
    assert!(!place.tree().join("in").exists(), "the mount point stayed");
}

#[test]
fn orphans_are_reaped_and_do_not_outlive_the_command() {
    let place = Place::new();
    // An orphan that exits becomes a zombie unless process 1 waits for it.
    let zombies = place.says(
        "(sleep 0.1 & ) ; sleep 0.4; cat /proc/[0-9]*/stat | grep -c ' Z ' || true; (sleep 1000 &)",
    );
    assert_eq!(zombies, "0\n");
    assert!(!is_running("sleep\x001000\0"));
}

fn is_running(command_line: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == command_line.as_bytes())
    })
}

#[test]
fn cancelling_ends_the_command_soon() {
    let place = Place::new();
    let cancel = Cancel::default();
    let started = Instant::now();
    let failure = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            cancel.cancel();
        });
        place.sandbox.run(&place.command(&["sleep", "2222"]), &cancel).unwrap_err()
    });
    assert_eq!(failure.class(), Class::Interrupted);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!is_running("sleep\x002222\0"));
}

#[test]
fn no_process_outlives_a_cancelled_command_even_if_it_hides() {
    let place = Place::new();
    let cancel = Cancel::default();
    // In sessions of their own and without a share in the command's output.
    let command = place.shell(
        "for n in $(seq 300); do setsid sleep 4444 </dev/null >/dev/null 2>&1 & done
         echo all; sleep 5555",
    );
    let failure = std::thread::scope(|scope| {
        scope.spawn(|| {
            let started = || place.log().ends_with("all\n");
            (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                started()
            });
            cancel.cancel();
        });
        place.sandbox.run(&command, &cancel).unwrap_err()
    });
    assert!(!is_running("sleep\x004444\0"), "something still runs");
    assert_eq!(failure.class(), Class::Interrupted);
    assert!(place.log().ends_with("all\n"), "it was cancelled too early");
}

fn vanishes(command_line: &str) -> bool {
    (0..100).any(|_| {
        let running = is_running(command_line);
        if running {
            std::thread::sleep(Duration::from_millis(50));
        }
        !running
    })
}

#[test]
fn kill_9_of_the_supervisor_leaves_no_process_and_no_mount() {
    let place = Place::new();
    let before = fs::read_to_string("/proc/mounts").unwrap();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::supervise_until_killed", "--ignored"])
        .env("NODEKILN_TEST_TREE", place.tree())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let sleeping = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        is_running("sleep\x003333\0")
    });
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    assert!(sleeping, "the sandboxed command never started");
    assert!(vanishes("sleep\x003333\0"), "the command outlived its supervisor");
    assert_eq!(fs::read_to_string("/proc/mounts").unwrap(), before);
}

#[test]
#[ignore = "not a test of its own: the supervisor that another test kills"]
fn supervise_until_killed() {
    let Some(tree) = std::env::var_os("NODEKILN_TEST_TREE") else { return };
    private_mounts().unwrap();
    let place = Place::new();
    let root = Root::assemble(&[tree.into()], &place.path("scratch")).unwrap();
    let mut command = place.command(&["sleep", "3333"]);
    command.root = root.path().to_path_buf();
    place.run(&command).unwrap();
}

#[test]
fn a_shell_opens_on_the_terminal_when_the_command_fails() {
    let place = Place::new();
    let test = format!(
        "{} --exact sandbox::fail_with_a_shell --ignored --nocapture",
        std::env::current_exe().unwrap().display()
    );
    // script(1) of bsdutils gives the program a terminal.
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &test, "/dev/null"])
        .env("NODEKILN_TEST_TREE", place.tree())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test needs script; install the Debian package bsdutils");
    let typed = b"cat /tmp/left; echo answer-$((40 + 2)) $$-$(hostname)\nexit\n";
    terminal.stdin.take().unwrap().write_all(typed).unwrap();
    let seen = String::from_utf8_lossy(&terminal.wait_with_output().unwrap().stdout).into_owned();
    assert!(seen.contains("scratch of the command") && seen.contains("answer-42"), "{seen}");
    assert!(seen.contains("-nodekiln") && seen.contains("failed with exit status 9"), "{seen}");
}

#[test]
#[ignore = "not a test of its own: run by another on a terminal"]
fn fail_with_a_shell() {
    let Some(tree) = std::env::var_os("NODEKILN_TEST_TREE") else { return };
    let place = Place::new();
    let mut command = place.shell("echo scratch of the command > /tmp/left; exit 9");
    command.root = tree.into();
    command.shell_on_failure = true;
    println!("{}", place.run(&command).unwrap_err());
}

#[test]
fn the_machine_cannot_be_changed_through_proc_or_devices() {
    let place = Place::new();
    // `! command` would not do: a script under -e does not end when that fails.
    let tried = place.says(
        "if (echo x >/proc/sys/kernel/hostname) 2>/dev/null; then echo BAD-1; fi
         if (echo h >/proc/sysrq-trigger) 2>/dev/null; then echo BAD-2; fi
         cat /proc/kcore | wc -c
         if mount -t tmpfs x /tmp 2>/dev/null; then echo BAD-3; fi
         echo tried",
    );
    assert_eq!(tried, "0\ntried\n");
}

#[test]
fn devices_can_be_made_and_not_be_opened_wherever_they_are_made() {
    let place = Place::new();
    let bound = place.path("bound");
    fs::create_dir(&bound).unwrap();
    // The device /dev/zero, so that nothing but `nodev` keeps a byte from being read.
    let mut command = place.shell(
        "for folder in /var /tmp /run /dev /dev/shm /bound; do
             mknod $folder/made c 1 5
             if head -c1 $folder/made >/dev/null 2>&1; then echo BAD-$folder; fi
         done
         head -c1 /dev/zero | wc -c",
    );
    command.binds.push(Bind { host: bound, guest: "/bound".into(), read_only: false });
    let output = place.run(&command).unwrap().stdout;
    assert_eq!(String::from_utf8(output).unwrap(), "1\n");
}

/// What root may do inside: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, IPC_LOCK, IPC_OWNER, SYS_CHROOT, SYS_NICE, MKNOD, SETFCAP, by their
/// numbers in linux/capability.h.
const KEPT: [u32; 16] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 18, 23, 27, 31];

#[test]
fn capabilities_are_the_listed_ones_whatever_the_caller_passes_on() {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    // Of this test's thread, which the sandbox is started from.
    let own = rustix::thread::capabilities(None).unwrap();
    let inheritable = own.permitted;
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable, ..own }).unwrap();
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SYS_PTRACE, true).unwrap();
    let seen = Place::new().says("grep ^Cap /proc/self/status");
    let kept = KEPT.iter().fold(0_u64, |all, number| all | 1 << number);
    assert_eq!(
        seen,
        format!(
            "CapInh:\t{none:016x}\nCapPrm:\t{kept:016x}\nCapEff:\t{kept:016x}\n\
             CapBnd:\t{kept:016x}\nCapAmb:\t{none:016x}\n",
            none = 0
        )
    );
}

/// Opens the folder that is its argument by handle. `struct file_handle` is the room in bytes, a
/// kind, and the room; -100 is `AT_FDCWD`, 65536 is `O_DIRECTORY`.
const OPEN_BY_HANDLE: &str = r#"
    my ($name_to_handle, $open_by_handle, $path) = (shift() + 0, shift() + 0, shift);
    my ($handle, $mount) = (pack("Ii", 128, 0) . "\0" x 128, pack("i", 0));
    syscall($name_to_handle, -100, $path, $handle, $mount, 0) == 0 or die "no handle: $!\n";
    opendir(my $tree, $path) or die "no folder: $!\n";
    my $opened = syscall($open_by_handle, fileno($tree), $handle, 65536);
    print $opened < 0 ? "$!\n" : "opened\n";
"#;

#[test]
fn files_cannot_be_opened_by_handle_not_even_in_a_user_namespace() {
    let place = Place::new();
    let open = |script: &str, may_mount: bool| {
        let mut command = place.shell(script);
        let calls = [libc::SYS_name_to_handle_at, libc::SYS_open_by_handle_at];
        for (name, call) in ["NAME_TO_HANDLE", "OPEN_BY_HANDLE"].into_iter().zip(calls) {
            command.environment.insert(name.to_owned(), call.to_string());
        }
        command.environment.insert("OPEN".to_owned(), OPEN_BY_HANDLE.to_owned());
        command.may_mount = may_mount;
        String::from_utf8(place.run(&command).unwrap().stdout).unwrap()
    };
    let perl = r#"perl -e "$OPEN" $NAME_TO_HANDLE $OPEN_BY_HANDLE"#;
    for may_mount in [false, true] {
        assert_eq!(open(&format!("{perl} /etc"), may_mount), "Operation not permitted\n");
    }
    // On a file system of the namespace's own, its root may open folders by handle (Linux 6.11).
    let own = format!("mount -t tmpfs own /tmp && {perl} /tmp");
    let seen = open(&format!("unshare --user --map-root-user --mount sh -euc '{own}'"), false);
    assert_eq!(seen, "Operation not permitted\n");
}

#[test]
fn open_files_of_the_caller_are_not_passed_on() {
    use rustix::io::FdFlags;
    let place = Place::new();
    // A number that nothing else here has; such a file is passed on to all that is started.
    let secret = fs::File::open(place.folder.path()).unwrap();
    let passed = rustix::io::fcntl_dupfd_cloexec(&secret, 200).unwrap();
    rustix::io::fcntl_setfd(&passed, FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&passed);
    let seen = place
        .says(&format!("echo begun; if [ -e /proc/self/fd/{number} ]; then echo passed on; fi"));
    assert_eq!(seen, "begun\n");
    let outside = Command::new("ls").arg(format!("/proc/self/fd/{number}")).output().unwrap();
    assert!(outside.status.success(), "the test passes nothing on");
}

#[test]
fn mounting_works_for_a_command_that_may() {
    let place = Place::new();
    let mut command =
        place.shell("mkdir /tmp/m; mount -t tmpfs x /tmp/m; grep -c /tmp/m /proc/mounts");
    command.may_mount = true;
    assert_eq!(place.run(&command).unwrap().stdout, b"1\n");
}

#[test]
fn a_tree_whose_folders_are_links_to_this_machine_stays_inside() {
    let place = Place::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["tmp", "run"] {
        std::os::unix::fs::symlink(&outside, place.tree().join(name)).unwrap();
    }
    // The link's target does not exist within the tree, so the mount point cannot be made there;
    // what must not happen is that this machine's folder is used.
    let answer = place.run(&place.shell("touch /tmp/escaped"));
    assert!(answer.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
