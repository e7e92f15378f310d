//! What the scripts print, read by functions that know no guest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::resource::{Port, Protocol};
use crate::target::{FileFacts, FileKind, Known, MountFacts, PackageFacts, Unknown, UserFacts};

fn broken(what: &str, line: &str) -> Unknown {
    Unknown::failed(format!("{what} makes no sense: {line:?}"))
}

/// `absent`, or stat's line and what a link says.
pub(super) fn file(text: &str) -> Known<Option<FileFacts>> {
    if text == "absent\n" {
        return Ok(None);
    }
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let wrong = || broken("stat's answer", line);
    let [mode, size, uid, gid, owner, group] =
        <[&str; 6]>::try_from(line.splitn(6, ' ').collect::<Vec<_>>()).map_err(|_| wrong())?;
    let mode = u32::from_str_radix(mode, 16).map_err(|_| wrong())?;
    let kind = FileKind::of_mode(mode).ok_or_else(wrong)?;
    let name =
        |name: &str, id: &str| if name == "UNKNOWN" { id.to_owned() } else { name.to_owned() };
    let link =
        (kind == FileKind::Symlink).then(|| rest.strip_suffix('\n').unwrap_or(rest).to_owned());
    Ok(Some(FileFacts {
        kind,
        mode: mode & 0o7777,
        size: size.parse().map_err(|_| wrong())?,
        owner: name(owner, uid),
        group: name(group, gid),
        uid: uid.parse().map_err(|_| wrong())?,
        gid: gid.parse().map_err(|_| wrong())?,
        link,
    }))
}

/// The first word of what sha256sum and its like print.
pub(super) fn digest(text: &str) -> Known<String> {
    let word = text.split_whitespace().next().unwrap_or_default();
    // A backslash stands before the digest of a file with an odd name; standard input has none.
    let hexadecimal = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal { Ok(word.to_ascii_lowercase()) } else { Err(broken("the digest", word)) }
}

/// `deb` or `rpm`, then the versions.
pub(super) fn package(text: &str) -> Known<PackageFacts> {
    let mut lines = text.lines();
    match lines.next() {
        Some("deb") => {
            // `install ok installed VERSION`; the first word is `hold` for a package on hold.
            let installed = lines.filter_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                match words.as_slice() {
                    ["install" | "hold", "ok", "installed", version] => Some((*version).to_owned()),
                    _ => None,
                }
            });
            Ok(PackageFacts { versions: installed.collect(), rpm: false })
        }
        Some("rpm") => Ok(PackageFacts { versions: lines.map(str::to_owned).collect(), rpm: true }),
        other => Err(broken("the package manager's answer", other.unwrap_or_default())),
    }
}

/// `yes` or `no`.
pub(super) fn yes(text: &str) -> Known<bool> {
    match text {
        "yes\n" => Ok(true),
        "no\n" => Ok(false),
        other => Err(broken("systemd's answer", other)),
    }
}

/// The first mount at `mountpoint` of /proc/self/mountinfo (proc(5)).
pub(super) fn mount(text: &str, mountpoint: &str) -> Known<Option<MountFacts>> {
    let wanted = match mountpoint.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    for line in text.lines() {
        let wrong = || broken("a line of mountinfo", line);
        // 36 35 98:0 /root /mountpoint options shared:1 - type source super-options
        let (front, back) = line.split_once(" - ").ok_or_else(wrong)?;
        let mut front = front.split(' ').skip(4);
        let (Some(point), Some(options)) = (front.next(), front.next()) else {
            return Err(wrong());
        };
        if unescaped(point) != wanted {
            continue;
        }
        let mut back = back.splitn(3, ' ');
        let (Some(file_system), Some(source)) = (back.next(), back.next()) else {
            return Err(wrong());
        };
        return Ok(Some(MountFacts {
            options: list(options),
            super_options: list(back.next().unwrap_or_default()),
            source: unescaped(source),
            file_system: file_system.to_owned(),
        }));
    }
    Ok(None)
}

/// Options between commas; those within quotes may have commas in them.
fn list(text: &str) -> Vec<String> {
    let mut quoted = false;
    let between = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    text.split(between).filter(|option| !option.is_empty()).map(str::to_owned).collect()
}

/// The kernel writes space, tab, line feed and backslash as `\` and three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The percentage of blocks in use: 100 less the whole percentage that is free, as goss computes it.
pub(super) fn usage(text: &str) -> Known<u64> {
    let wrong = || broken("stat's answer", text);
    let (blocks, free) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let blocks: u64 = blocks.parse().map_err(|_| wrong())?;
    let free: u64 = free.parse().map_err(|_| wrong())?;
    if blocks == 0 {
        return Err(Unknown::failed("the file system has no blocks"));
    }
    Ok(100_u64.saturating_sub(free.saturating_mul(100) / blocks))
}

/// A user of /etc/passwd with the groups of /etc/group.
pub(super) fn user(passwd: &str, group: &str, name: &str) -> Known<Option<UserFacts>> {
    let Some(line) = passwd.lines().find(|line| field(line, 0) == name) else { return Ok(None) };
    let number =
        |index| field(line, index).parse().map_err(|_| broken("a line of /etc/passwd", line));
    let (uid, gid) = (number(2)?, number(3)?);
    let primary = group.lines().find(|line| field(line, 2).parse() == Ok(gid));
    let others =
        group.lines().filter(|line| field(line, 3).split(',').any(|member| member == name));
    let mut groups: Vec<String> = Vec::new();
    for line in primary.into_iter().chain(others) {
        let group = field(line, 0).to_owned();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(Some(UserFacts {
        uid,
        gid,
        groups,
        home: field(line, 5).to_owned(),
        shell: field(line, 6).to_owned(),
    }))
}

/// The id of a group of /etc/group.
pub(super) fn group(text: &str, name: &str) -> Known<Option<u32>> {
    let Some(line) = text.lines().find(|line| field(line, 0) == name) else { return Ok(None) };
    let number = field(line, 2).parse();
    number.map(Some).map_err(|_| broken("a line of /etc/group", line))
}

fn field(line: &str, index: usize) -> &str {
    line.split(':').nth(index).unwrap_or_default()
}

/// The addresses of sockets that listen at `port`, from the kernel's tables /proc/net/tcp and its like.
///
/// Of TCP those in the state LISTEN (0A) count, of UDP all. Addresses are written as words in the byte order of the
/// machine, which is little-endian on all that nodekiln builds for.
pub(super) fn listening(text: &str, port: Port) -> Known<Vec<IpAddr>> {
    let mut within = false;
    let mut addresses = Vec::new();
    for line in text.lines() {
        if matches!(line, "tcp" | "tcp6" | "udp" | "udp6") {
            within = line == port.protocol.name();
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(slot), Some(local), Some(_), Some(state)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        // The table's own heading has no number in front.
        if !within || !slot.trim_end_matches(':').bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let wrong = || broken("a line of the kernel's sockets", line);
        let (address, number) = local.split_once(':').ok_or_else(wrong)?;
        let number = u16::from_str_radix(number, 16).map_err(|_| wrong())?;
        let stream = matches!(port.protocol, Protocol::Tcp | Protocol::Tcp6);
        if number != port.number || (stream && state != "0A") {
            continue;
        }
        addresses.push(self::address(address).ok_or_else(wrong)?);
    }
    Ok(addresses)
}

/// An address in hexadecimal words of four bytes, each the wrong way round.
fn address(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok().filter(|word| word.len() == 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_le_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let facts = file("81a4 2118 0 0 root root\n").unwrap().unwrap();
        assert_eq!((facts.kind, facts.mode, facts.size), (FileKind::File, 0o644, 2118));
        let facts = file("a1ff 7 1000 1000 UNKNOWN UNKNOWN\n/odd\nname\n").unwrap().unwrap();
        assert_eq!((facts.owner.as_str(), facts.link.as_deref()), ("1000", Some("/odd\nname")));
        assert_eq!((facts.uid, facts.gid), (1000, 1000));
        assert!(file("81a4 1 -1 0 a b\n").is_err());
        assert_eq!(file("absent\n"), Ok(None));
        assert!(
            file("").is_err() && file("zz 1 0 0 a b\n").is_err() && file("0 1 0 0 a b\n").is_err()
        );
    }

    #[test]
    fn packages() {
        let facts = package(
            "deb\ninstall ok installed 1.6-2.1\nhold ok installed 2:3~x\ndeinstall ok config-files 1\n",
        );
        assert_eq!(facts.unwrap().versions, ["1.6-2.1", "2:3~x"]);
        let facts = package("rpm\n1:1.20.2-0\n").unwrap();
        assert!(facts.rpm && facts.versions == ["1:1.20.2-0"]);
        assert_eq!(package("deb\n").unwrap().versions, [""; 0]);
        assert!(package("").is_err());
    }

    #[test]
    fn mounts() {
        let text = "24 31 0:22 / /proc rw,nosuid,relatime shared:5 - proc proc rw\n\
                    31 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n\
                    40 31 0:9 / /mnt/a\\040b ro - fuse.x src\\134y rw,o=\"a,b\",c\n";
        let root = mount(text, "/").unwrap().unwrap();
        assert_eq!((root.source.as_str(), root.file_system.as_str()), ("/dev/vda1", "ext4"));
        assert_eq!(root.super_options, ["rw", "errors=remount-ro"]);
        let odd = mount(text, "/mnt/a b/").unwrap().unwrap();
        assert_eq!(
            (odd.source.as_str(), odd.options.as_slice()),
            ("src\\y", &["ro".to_owned()][..])
        );
        assert_eq!(odd.super_options, ["rw", "o=\"a,b\"", "c"]);
        assert_eq!(mount(text, "/gone"), Ok(None));
        assert!(mount("nonsense\n", "/").is_err());
    }

    #[test]
    fn users_and_groups() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000:,,,:/home/me:/bin/sh\nbad:x:x:0::/:\n";
        let groups = "root:x:0:\nsudo:x:27:you,me\nme:x:1000:me\nother:x:5:meme\n";
        let me = user(passwd, groups, "me").unwrap().unwrap();
        assert_eq!(
            (me.uid, me.gid, me.home.as_str(), me.shell.as_str()),
            (1000, 1000, "/home/me", "/bin/sh")
        );
        assert_eq!(me.groups, ["me", "sudo"]);
        assert_eq!(user(passwd, groups, "m"), Ok(None));
        assert!(user(passwd, groups, "bad").is_err());
        assert_eq!(group(groups, "sudo"), Ok(Some(27)));
        assert_eq!(group(groups, "gone"), Ok(None));
    }

    #[test]
    fn sockets() {
        let text = "tcp\n  sl  local_address rem_address   st tx_queue\n\
             0: 0100007F:0016 00000000:0000 0A 00000000\n   1: 0200007F:0016 0100007F:9999 01 00000000\n\
             tcp6\n  sl  local_address\n   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0\n\
             udp\n  100: 00000000:0044 00000000:0000 07 0\n";
        let at = |port: &str| listening(text, Port::read(port).unwrap()).unwrap();
        assert_eq!(at("tcp:22"), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(at("tcp6:22")[0].to_string(), "::");
        assert_eq!(at("udp:68")[0].to_string(), "0.0.0.0");
        assert!(at("tcp:23").is_empty() && at("udp6:68").is_empty() && at("udp:22").is_empty());
        assert!(listening("tcp\n0: 01:0016 0 0A\n", Port::read("22").unwrap()).is_err());
    }

    #[test]
    fn blocks_in_use_are_what_is_not_free() {
        assert_eq!(usage("1000 250\n"), Ok(75));
        assert_eq!(usage("3 1\n"), Ok(67));
        assert!(usage("0 0\n").is_err() && usage("x\n").is_err());
    }
}
