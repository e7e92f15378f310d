//! What goes wrong with a remote store, and what that means for a build: nearly always a warning.

use nodekiln_words::Failure;

/// Why something could not be pulled or pushed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The object is missing, or not what it should be: it is made here, and replaced there.
    Object(String),
    /// The remote store does not answer, or refuses: the build goes on without it.
    Remote(String),
    /// Something on this machine: a full disk, or somebody asked to stop.
    Here(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

/// The outcome of a transfer.
pub(super) type Tried<T> = Result<T, Trouble>;

/// What the answer of a remote store means for one object.
pub(super) fn trouble(error: &object_store::Error) -> Trouble {
    match error {
        object_store::Error::NotFound { .. } => Trouble::Object("it is missing".to_owned()),
        error => Trouble::Remote(reason(error)),
    }
}

/// The longest cause that is told, in characters.
const LONGEST_REASON: usize = 400;

/// An error's cause on one line. What stands in an address behind `?` may be a signature or a token
/// and is left out; of an answer in XML code and message are told.
pub(super) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = text + ": " + &more;
        }
        cause = error.source();
    }
    if let Some(code) = element(&text, "Code") {
        let message = element(&text, "Message").unwrap_or_default();
        text = format!("{code}: {message}");
    }
    let words: Vec<&str> = text.split_whitespace().map(without_query).collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
}

/// The text of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn without_query(word: &str) -> &str {
    match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_tells_no_secrets() {
        let error = |text: &str| reason(&std::io::Error::other(text.to_owned()));
        let text = error("PUT https://a.blob/c?sig=SECRET&se=1 failed");
        assert_eq!(text, "PUT https://a.blob/c failed");
        let xml =
            "status 404: <?xml?>\n<Error><Code>NoSuchBucket</Code><Message>no\nsuch</Message>";
        assert_eq!(error(xml), "NoSuchBucket: no such");
        assert_eq!(error(&"x".repeat(5000)).len(), LONGEST_REASON);
    }
}
