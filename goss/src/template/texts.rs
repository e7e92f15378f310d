//! Functions on texts and paths.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::Value;
use nodekiln_words::Sha256;

use super::functions::{ANY, Entry, count, text, whole};

/// The table; arguments come in sprig's order, so that the text worked on is the last and can be piped.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("toLower", 1, 1, |a| Ok(text(a[0].to_string().to_lowercase()))),
    Entry("toUpper", 1, 1, |a| Ok(text(a[0].to_string().to_uppercase()))),
    Entry("lower", 1, 1, |a| Ok(text(a[0].to_string().to_lowercase()))),
    Entry("upper", 1, 1, |a| Ok(text(a[0].to_string().to_uppercase()))),
    Entry("title", 1, 1, |a| Ok(text(title(&a[0].to_string())))),
    Entry("trim", 1, 1, |a| Ok(text(a[0].to_string().trim()))),
    Entry("trimAll", 2, 2, trim_all),
    Entry("trimall", 2, 2, trim_all),
    Entry("trimPrefix", 2, 2, |a| {
        let (cut, whole) = (a[0].to_string(), a[1].to_string());
        Ok(text(whole.strip_prefix(&cut).unwrap_or(&whole)))
    }),
    Entry("trimSuffix", 2, 2, |a| {
        let (cut, whole) = (a[0].to_string(), a[1].to_string());
        Ok(text(whole.strip_suffix(&cut).unwrap_or(&whole)))
    }),
    Entry("contains", 2, 2, |a| Ok(Value::Bool(a[1].to_string().contains(&a[0].to_string())))),
    Entry("hasPrefix", 2, 2, |a| Ok(Value::Bool(a[1].to_string().starts_with(&a[0].to_string())))),
    Entry("hasSuffix", 2, 2, |a| Ok(Value::Bool(a[1].to_string().ends_with(&a[0].to_string())))),
    Entry("replace", 3, 3, |a| {
        Ok(text(a[2].to_string().replace(&a[0].to_string(), &a[1].to_string())))
    }),
    Entry("repeat", 2, 2, |a| Ok(text(a[1].to_string().repeat(count(&a[0])?)))),
    Entry("nospace", 1, 1, |a| Ok(text(a[0].to_string().replace(char::is_whitespace, "")))),
    Entry("trunc", 2, 2, |a| {
        let (length, whole) = (whole(&a[0])?, a[1].to_string());
        let size = whole.chars().count();
        let keep = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX).min(size);
        let skip = if length < 0 { size - keep } else { 0 };
        Ok(text(whole.chars().skip(skip).take(keep).collect::<String>()))
    }),
    Entry("substr", 3, 3, |a| {
        let whole = a[2].to_string();
        let from = usize::try_from(self::whole(&a[0])?).unwrap_or(0);
        let to = usize::try_from(self::whole(&a[1])?).unwrap_or(usize::MAX);
        Ok(text(whole.chars().take(to).skip(from).collect::<String>()))
    }),
    Entry("indent", 2, 2, |a| Ok(text(indented(count(&a[0])?, &a[1].to_string())))),
    Entry("nindent", 2, 2, |a| {
        Ok(text(format!("\n{}", indented(count(&a[0])?, &a[1].to_string()))))
    }),
    Entry("quote", 0, ANY, |a| Ok(text(each(a, |text| format!("{text:?}"))))),
    Entry("squote", 0, ANY, |a| Ok(text(each(a, |text| format!("'{text}'"))))),
    Entry("cat", 0, ANY, |a| Ok(text(each(a, str::to_owned)))),
    Entry("plural", 3, 3, |a| Ok(a[usize::from(whole(&a[2])? != 1)].clone())),
    Entry("swapcase", 1, 1, |a| {
        let swapped = a[0].to_string();
        let swapped = swapped.chars().map(|c| match c.is_uppercase() {
            true => c.to_lowercase().collect::<String>(),
            false => c.to_uppercase().collect(),
        });
        Ok(text(swapped.collect::<String>()))
    }),
    Entry("sha256sum", 1, 1, |a| {
        let digest = Sha256::of(a[0].to_string()).to_string();
        Ok(text(digest.rsplit(':').next().unwrap_or_default()))
    }),
    Entry("base", 1, 1, |a| Ok(text(base(&a[0].to_string())))),
    Entry("dir", 1, 1, |a| Ok(text(folder(&a[0].to_string())))),
    Entry("ext", 1, 1, |a| {
        let path = a[0].to_string();
        let name = path.rsplit('/').next().unwrap_or_default();
        Ok(text(name.rfind('.').map_or("", |dot| &name[dot..])))
    }),
    Entry("toString", 1, 1, |a| Ok(text(a[0].to_string()))),
    Entry("b64enc", 1, 1, |a| Ok(text(STANDARD.encode(a[0].to_string())))),
    Entry("b64dec", 1, 1, |a| {
        let bytes = STANDARD.decode(a[0].to_string()).map_err(|error| error.to_string())?;
        Ok(text(String::from_utf8_lossy(&bytes)))
    }),
    Entry("fail", 1, 1, |a| Err(a[0].to_string())),
];

fn trim_all(a: &[Value]) -> Result<Value, String> {
    let cut = a[0].to_string();
    Ok(text(a[1].to_string().trim_matches(|c| cut.contains(c))))
}

/// The last part of a path, as Go's package path has it.
fn base(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".".to_owned(),
        "" => "/".to_owned(),
        path => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

/// What stands before the last `/`, without detours, as Go's package path has it.
fn folder(path: &str) -> String {
    let before = path.rfind('/').map_or("", |at| &path[..=at]);
    let mut parts: Vec<&str> = Vec::new();
    for part in before.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", None) if before.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    match (before.starts_with('/'), parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn each(arguments: &[Value], write: impl Fn(&str) -> String) -> String {
    let given = arguments.iter().filter(|value| !matches!(value, Value::Nil));
    given.map(|value| write(&value.to_string())).collect::<Vec<_>>().join(" ")
}

fn indented(by: usize, text: &str) -> String {
    let pad = " ".repeat(by);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

fn title(text: &str) -> String {
    let mut start = true;
    let raised = text.chars().flat_map(|c| {
        let upper = std::mem::replace(&mut start, !c.is_alphanumeric()) && c.is_alphabetic();
        if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
    });
    raised.collect()
}
