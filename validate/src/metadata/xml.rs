//! XML documents as values: written and read by quick-xml, so that no text is taken for markup.

use std::fmt;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;

/// Levels of elements that are read; a report of health has seven.
const DEEPEST: usize = 32;
/// Bytes of the path to a text; a report of health has paths of seventy. It is kept for each text, so a
/// document of 1 MiB could fill the memory if long names were let stand over many short texts.
const LONGEST_PATH: usize = 256;

/// An element with attributes and either text or elements.
#[derive(Clone, Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: String,
    inner: Vec<Self>,
}

impl Element {
    /// An empty element.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), text: String::new(), inner: Vec::new() }
    }

    /// Adds an attribute.
    pub(super) fn attribute(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Sets its text. Control characters cannot be told in XML and become blanks.
    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Adds an element.
    pub(super) fn with(mut self, element: Self) -> Self {
        self.inner.push(element);
        self
    }

    /// The document whose root this is.
    pub(super) fn document(&self) -> String {
        format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{self}\n")
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = depth * 2;
        write!(f, "{:indent$}<{}", "", self.name)?;
        for (name, value) in &self.attributes {
            // A line end in an attribute would be read as a blank.
            let value = escape(sayable(value)).replace('\n', "&#10;").replace('\t', "&#9;");
            write!(f, " {name}=\"{value}\"")?;
        }
        if self.inner.is_empty() && self.text.is_empty() {
            return f.write_str("/>");
        }
        write!(f, ">{}", escape(sayable(&self.text)))?;
        for element in &self.inner {
            f.write_str("\n")?;
            element.write(f, depth + 1)?;
        }
        if !self.inner.is_empty() {
            write!(f, "\n{:indent$}", "")?;
        }
        write!(f, "</{}>", self.name)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// Text of the characters that XML 1.0 allows (section 2.2).
fn sayable(text: &str) -> String {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n');
    text.chars().map(|c| if allowed(c) { c } else { ' ' }).collect()
}

/// The texts of a document, each with the path of local names that leads to it; `None` where the bytes
/// are no well-formed document, or one that is deeper than [`DEEPEST`] or has longer paths than
/// [`LONGEST_PATH`].
pub(super) fn texts(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().expand_empty_elements = true;
    let mut path = String::new(); // each name with a slash before it
    let mut open: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    let mut buffer = Vec::new();
    let mut roots = 0;
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).ok()?;
        match event {
            Event::Start(start) => {
                roots += usize::from(open.is_empty());
                let name = start.local_name();
                let name = std::str::from_utf8(name.as_ref()).ok()?;
                let fits = path.len() + 1 + name.len() <= LONGEST_PATH;
                if open.len() == DEEPEST || !fits || name.is_empty() || name.contains('/') {
                    return None;
                }
                path.push('/');
                path.push_str(name);
                open.push(String::new());
            }
            Event::End(_) => {
                let text = open.pop()?;
                let text = text.trim();
                if !text.is_empty() {
                    texts.push((path.trim_start_matches('/').to_owned(), text.to_owned()));
                }
                path.truncate(path.rfind('/')?);
            }
            Event::Text(text) => append(&mut open, &text.decode().ok()?)?,
            Event::CData(text) => append(&mut open, &text.decode().ok()?)?,
            Event::GeneralRef(name) => match name.resolve_char_ref().ok()? {
                Some(c) => append(&mut open, c.encode_utf8(&mut [0; 4]))?,
                None => append(&mut open, resolve_predefined_entity(&name.decode().ok()?)?)?,
            },
            Event::DocType(_) => return None, // no agent sends one, and entities are a danger
            Event::Eof => return (open.is_empty() && roots == 1).then_some(texts),
            _ => {}
        }
    }
}

/// Adds to the innermost open element; outside of any only blanks may stand.
fn append(open: &mut [String], text: &str) -> Option<()> {
    match open.last_mut() {
        Some(innermost) => innermost.push_str(text),
        None if text.trim().is_empty() => {}
        None => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was_written(text in "[^\\p{Cc}]{1,40}") {
            prop_assume!(text.trim() == text && !text.is_empty());
            let document = Element::new("A")
                .attribute("b", text.clone())
                .with(Element::new("C").text(text.clone()))
                .document();
            prop_assert_eq!(texts(document.as_bytes()), Some(vec![("A/C".to_owned(), text)]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = texts(&bytes);
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&nbsp;</a>",
            "<!DOCTYPE a><a/>",
            "<a/>x",
            "<a/b>x</a/b>",
        ] {
            assert_eq!(texts(text.as_bytes()), None, "{text}");
        }
        let deep = |levels: usize| {
            format!("{}x{}", "<a>".repeat(levels), "</a>".repeat(levels)).into_bytes()
        };
        assert!(texts(&deep(DEEPEST)).is_some());
        assert_eq!(texts(&deep(DEEPEST + 1)), None);
        // As many texts under one long name as a body has room for: told in full they would be gigabytes.
        let wide = |name: &str| format!("<{name}>{}</{name}>", "<a>x</a>".repeat(9)).into_bytes();
        assert_eq!(texts(&wide(&"n".repeat(LONGEST_PATH - 3))).map(|texts| texts.len()), Some(9));
        assert_eq!(texts(&wide(&"n".repeat(LONGEST_PATH - 2))), None);
        let told = texts(
            b"<?xml version='1.0'?><x:a xmlns:x='u'><x:b> 1 &amp; &#50;<![CDATA[<3]]></x:b></x:a>",
        );
        assert_eq!(told, Some(vec![("a/b".into(), "1 & 2<3".into())]));
    }

    #[test]
    fn control_characters_become_blanks() {
        let text = Element::new("A").attribute("b", "a\nb\r").text("a\u{1}b").document();
        assert!(text.contains("<A b=\"a&#10;b \">a b</A>"), "{text}");
    }
}
