//! What the Go linker wrote into a binary: version, module list, build settings.
//!
//! Sources: Go's `debug/buildinfo` and `cmd/link`; ELF-64, little-endian. The section
//! `.go.buildinfo` begins with a magic, the pointer size and flags. Since Go 1.18 (flag 2) two
//! strings follow at offset 32, each with its length as a varint; before that, two pointers to
//! string headers did, which are not followed.

/// Build information of a Go program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildInfo {
    /// Version of the compiler, such as `go1.19.8`.
    pub(crate) go_version: String,
    /// Import path of the main package.
    pub(crate) path: Option<String>,
    /// The main module and the modules it needs, as used, in the order written.
    pub(crate) modules: Vec<Module>,
    /// Build settings, `KEY=VALUE`.
    pub(crate) settings: Vec<String>,
}

/// A Go module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) path: String,
    /// Empty where it has none: a main module that was not fetched, or a folder in its place.
    pub(crate) version: String,
    /// Checksum as in `go.sum`.
    pub(crate) sum: Option<String>,
    /// The module that holds the main package.
    pub(crate) main: bool,
}

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Flag: the strings stand in the section itself.
const INLINE: u8 = 2;
/// Where the inline strings begin.
const STRINGS: usize = 32;

/// Reads the build information of an ELF program; `None` where there is none that can be read.
pub(crate) fn build_info(elf: &[u8]) -> Option<BuildInfo> {
    let section = section(elf, b".go.buildinfo")?;
    if !section.starts_with(MAGIC) || section.get(15)? & INLINE == 0 {
        return None;
    }
    let (version, rest) = string(section.get(STRINGS..)?)?;
    let (modules, _) = string(rest)?;
    let mut info = BuildInfo {
        go_version: String::from_utf8_lossy(version).into_owned(),
        ..BuildInfo::default()
    };
    // Between two marks of 16 bytes each, by which Go finds the text in a running program.
    let text = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    String::from_utf8_lossy(text).lines().for_each(|line| take_line(&mut info, line));
    Some(info)
}

/// One line: a word, a tab, and values between tabs.
fn take_line(info: &mut BuildInfo, line: &str) {
    let mut values = line.split('\t');
    let word = values.next().unwrap_or_default();
    let first = values.next().unwrap_or_default().to_owned();
    match word {
        "path" => info.path = Some(first),
        "build" => info.settings.push(first),
        "mod" | "dep" => info.modules.push(module(first, values, word == "mod")),
        // A replacement stands in the line after what it replaces.
        "=>" => {
            if let Some(replaced) = info.modules.pop() {
                info.modules.push(replacement(replaced, module(first, values, false)));
            }
        }
        _ => {}
    }
}

/// The module at `path` with its version and checksum, which `values` go on with.
fn module<'a>(path: String, mut values: impl Iterator<Item = &'a str>, main: bool) -> Module {
    let mut value = || values.next().filter(|value| !value.is_empty() && *value != "(devel)");
    let version = value().unwrap_or_default().to_owned();
    Module { path, version, sum: value().map(str::to_owned), main }
}

/// What is used in place of `replaced`: another module, or a folder of the main module, which has no
/// name of its own, so that the module keeps its name and has no known version.
fn replacement(replaced: Module, by: Module) -> Module {
    let is_folder = ["./", "../", "/"].iter().any(|start| by.path.starts_with(start));
    if is_folder {
        Module { version: String::new(), sum: None, ..replaced }
    } else {
        Module { main: replaced.main, ..by }
    }
}

/// A string after its length, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// The bytes of a section of an ELF-64 little-endian file.
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    /// Length of a section header.
    const HEADER: usize = 64;
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(elf, 0x28, 8)?).ok()?;
    let count = usize::try_from(number(elf, 0x3c, 2)?).ok()?;
    let header = |index: usize| elf.get(table.checked_add(index * HEADER)?..)?.get(..HEADER);
    let names = contents(elf, header(usize::try_from(number(elf, 0x3e, 2)?).ok()?)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let start = usize::try_from(number(header, 0, 4)?).ok()?;
        let rest = names.get(start..)?.strip_prefix(name)?;
        (rest.first() == Some(&0)).then(|| contents(elf, header)).flatten()
    })
}

fn contents<'a>(elf: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let offset = usize::try_from(number(header, 0x18, 8)?).ok()?;
    let length = usize::try_from(number(header, 0x20, 8)?).ok()?;
    elf.get(offset..)?.get(..length)
}

/// A little-endian number of `width` bytes.
fn number(bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.get(..width)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file with two sections: names, and build information with these strings.
    pub(crate) fn program(version: &str, modules: &str) -> Vec<u8> {
        let mut info = MAGIC.to_vec();
        info.extend([8, INLINE]);
        info.resize(STRINGS, 0);
        let mark = [0x30; 16];
        let modules = [&mark[..], modules.as_bytes(), &mark[..]].concat();
        for text in [version.as_bytes(), &modules] {
            let length = text.len();
            info.extend([(length & 0x7f | 0x80) as u8, (length >> 7) as u8]);
            info.extend(text);
        }
        let names = b"\0.shstrtab\0.go.buildinfo\0";
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64, 0);
        let names_at = elf.len() as u64;
        elf.extend(names);
        let info_at = elf.len() as u64;
        elf.extend(&info);
        let table = elf.len() as u64;
        for (name, at, length) in
            [(1_u32, names_at, names.len() as u64), (11, info_at, info.len() as u64)]
        {
            let mut header = name.to_le_bytes().to_vec();
            header.resize(0x18, 0);
            header.extend(at.to_le_bytes());
            header.extend(length.to_le_bytes());
            header.resize(64, 0);
            elf.extend(header);
        }
        elf[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&2_u16.to_le_bytes());
        elf
    }

    #[test]
    fn modules_replacements_and_settings_are_read() {
        let elf = program(
            "go1.19.8",
            "path\tk8s.io/kubernetes/cmd/kubelet\nmod\tk8s.io/kubernetes\t(devel)\t\n\
             dep\texample.org/a\tv1.0.0\th1:x=\ndep\texample.org/b\tv0.0.0\n\
             =>\texample.org/c\tv2.0.0\th1:y=\nbuild\t-trimpath=true\n",
        );
        let info = build_info(&elf).unwrap();
        assert_eq!(info.go_version, "go1.19.8");
        assert_eq!(info.path.as_deref(), Some("k8s.io/kubernetes/cmd/kubelet"));
        let paths: Vec<_> = info.modules.iter().map(|module| module.path.as_str()).collect();
        assert_eq!(paths, ["k8s.io/kubernetes", "example.org/a", "example.org/c"]);
        assert_eq!(info.modules[1].sum.as_deref(), Some("h1:x="));
        assert_eq!(info.settings, ["-trimpath=true"]);
    }

    #[test]
    fn a_module_replaced_by_a_folder_keeps_its_name_and_has_no_version() {
        let elf = program(
            "go1.22.5",
            "path\tk8s.io/kubernetes/cmd/kubelet\nmod\tk8s.io/kubernetes\t(devel)\t\n\
             dep\tk8s.io/api\tv0.0.0\n=>\t./staging/src/k8s.io/api\t(devel)\t\n\
             dep\texample.org/up\tv1.0.0\n=>\t../up\t\t\ndep\texample.org/root\tv1.0.0\n\
             =>\t/src/root\t(devel)\th1:z=\ndep\texample.org/workspace\t(devel)\t\n",
        );
        let modules = build_info(&elf).unwrap().modules;
        let names: Vec<_> = modules.iter().map(|module| module.path.as_str()).collect();
        let main = "k8s.io/kubernetes";
        let expected =
            [main, "k8s.io/api", "example.org/up", "example.org/root", "example.org/workspace"];
        assert_eq!(names, expected);
        for module in &modules {
            assert_eq!((module.version.as_str(), module.sum.as_deref()), ("", None));
            assert_eq!(module.main, module.path == main);
        }
    }

    #[test]
    fn a_replacement_of_nothing_is_passed_over() {
        let elf = program("go1.22.5", "=>\t./x\t(devel)\n");
        assert_eq!(build_info(&elf).unwrap().modules, Vec::new());
    }

    proptest! {
        #[test]
        fn damaged_programs_end_in_a_value(at in 0_usize..400, byte: u8, keep in 0_usize..500) {
            let mut elf = program("go1.19.8", "path\tx\n");
            if let Some(place) = elf.get_mut(at) {
                *place = byte;
            }
            elf.truncate(keep);
            let _ = build_info(&elf);
        }
    }
}
