//! A request for curl and the answer that it prints, or that Python prints in its place (`request.py`).

use std::fmt::Write as _;

use crate::resource::{Request, Secret};
use crate::target::{Known, Response, Unknown};

/// Stands before the numbers that curl prints at the end of its error output.
pub(super) const TRAILER: &str = "nodekiln-goss ";

/// The request as curl's configuration.
pub(super) fn config(request: &Request) -> String {
    let mut out = String::new();
    let mut flag = |name: &str| out.push_str(&format!("{name}\n"));
    // Headers and body in one stream; told apart by the size of the headers, which curl prints at the end.
    for name in ["silent", "show-error", "include", "globoff"] {
        flag(name);
    }
    if request.allow_insecure {
        flag("insecure");
    }
    if request.follow {
        flag("location");
    }
    let mut value = |name: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name} = \"{}\"", escaped(text));
    };
    value("url", &request.url);
    // Go's client gives up after as many.
    value("max-redirs", "10");
    value("max-time", &format!("{:.3}", request.timeout.as_secs_f64()));
    value("write-out", &format!("%{{stderr}}\n{TRAILER}%{{http_code}} %{{size_header}}\n"));
    let content_type = |header: &String| header.to_ascii_lowercase().starts_with("content-type:");
    if let Some(body) = &request.body {
        value("data-raw", body);
        // A body alone makes neither a POST nor a form of it.
        value("request", request.method.as_deref().unwrap_or("GET"));
        if !request.headers.iter().any(content_type) {
            value("header", "Content-Type:");
        }
    } else if request.method.as_deref() == Some("HEAD") {
        out.push_str("head\n");
    } else if let Some(method) = &request.method {
        value("request", method);
    }
    let mut value = |name: &str, text: &str| {
        let _ = writeln!(out, "{name} = \"{}\"", escaped(text));
    };
    for header in &request.headers {
        value("header", header);
    }
    if let Some((name, Secret(password))) = &request.credentials {
        value("user", &format!("{name}:{password}"));
    }
    let files = [
        ("cacert", &request.ca_file),
        ("cert", &request.cert_file),
        ("key", &request.key_file),
        ("proxy", &request.proxy),
    ];
    for (name, given) in files {
        if let Some(given) = given {
            value(name, given);
        }
    }
    out
}

/// A text between the quotes of curl's configuration.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c => out.push(c),
        }
    }
    out
}

/// Reads what curl printed.
pub(super) fn response(stdout: &[u8], stderr: &[u8]) -> Known<Response> {
    let stderr = String::from_utf8_lossy(stderr);
    let broken = || Unknown::failed("the answer has no end");
    let trailer =
        stderr.lines().rev().find_map(|line| line.strip_prefix(TRAILER)).ok_or_else(broken)?;
    let (status, size) = trailer.split_once(' ').ok_or_else(broken)?;
    let status: u16 = status.parse().map_err(|_| broken())?;
    let size: usize = size.trim().parse().map_err(|_| broken())?;
    let (head, body) = stdout.split_at_checked(size).ok_or_else(broken)?;
    let head = String::from_utf8_lossy(head);
    // Each redirect has a block of headers; the last is that of the answer.
    let last = head.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let headers = last.lines().skip(1).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some(format!("{}: {}", canonical(name.trim()), value.trim()))
    });
    let mut headers: Vec<String> = headers.collect();
    headers.sort();
    Ok(Response { status, headers, body: body.to_vec() })
}

/// A header's name as Go writes it: `content-type` is `Content-Type`.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase()).into_iter();
        first.chain(letters.map(|c| c.to_ascii_lowercase())).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_is_written_so_that_no_value_becomes_an_option() {
        let request = Request {
            url: "http://x/\"\nproxy = \"http://evil".to_owned(),
            method: Some("PUT".to_owned()),
            allow_insecure: true,
            follow: false,
            timeout: Duration::from_millis(1500),
            headers: vec!["X-A: 1".to_owned()],
            body: Some("{\"a\": \"b\\c\"}".to_owned()),
            credentials: Some(("me".to_owned(), Secret("pass\"word".to_owned()))),
            ca_file: None,
            cert_file: None,
            key_file: None,
            proxy: None,
        };
        let config = config(&request);
        assert!(!config.lines().any(|line| line.starts_with("proxy")), "{config}");
        assert!(
            config.contains("user = \"me:pass\\\"word\"\n")
                && config.contains("max-time = \"1.500\"\n")
        );
        assert!(config.contains("insecure\n") && !config.contains("location"));
        assert!(config.contains("data-raw = \"{\\\"a\\\": \\\"b\\\\c\\\"}\"\n"));
        assert!(!format!("{request:?}").contains("word"), "a password is not shown");
    }

    #[test]
    fn the_last_answer_of_a_redirect_counts() {
        let head = "HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\nHTTP/2 200\r\ncontent-type: text/plain\r\nX-b: 1\r\n\r\n";
        let stdout = format!("{head}HTTP/1.1 is a protocol\r\n\r\nend");
        let stderr = format!("\n{TRAILER}200 {}\n", head.len());
        let response = response(stdout.as_bytes(), stderr.as_bytes()).unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.headers, ["Content-Type: text/plain", "X-B: 1"]);
        assert_eq!(response.body, b"HTTP/1.1 is a protocol\r\n\r\nend");
    }

    #[test]
    fn a_cut_answer_is_none() {
        for (stdout, stderr) in
            [("", ""), ("HTTP", "nodekiln-goss 200 400\n"), ("", "nodekiln-goss x 1\n")]
        {
            assert!(response(stdout.as_bytes(), stderr.as_bytes()).is_err(), "{stderr}");
        }
    }
}
