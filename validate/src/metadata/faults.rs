//! Faults on demand: which requests go wrong, how, and how often.
//!
//! Written as `METHOD PATH=WHAT`, for instance `GET /latest/user-data=500x3`: the first three requests
//! for the user-data are answered with 500, later ones as they should be.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use nodekiln_words::{Failure, Result};

use super::exchange::Request;

/// One fault, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The text that it was read from.
    text: String,
    target: Target,
    /// How many requests it meets; `None` is all of them.
    times: Option<u32>,
}

/// What a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Http { method: Option<Method>, pattern: String, action: Action },
    Dns { pattern: String, action: DnsAction },
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// This status and no content.
    Status(StatusCode),
    /// The right answer, this much later.
    Delay(Duration),
    /// The token, or the request for one, is refused: 401, and 403 to `PUT`.
    RefuseToken,
    /// The connection is reset (RST) without an answer.
    Reset,
    /// The first half of the right answer; then the connection ends.
    Half,
    /// The right answer at so many bytes a second.
    Slow(u32),
    /// The connection stays open and nothing comes.
    Hang,
    /// 200 with content that is of no format.
    Garbage,
}

/// What goes wrong with a question to the name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsAction {
    /// There is no such name.
    NxDomain,
    /// The server failed.
    ServFail,
    /// No answer.
    Hang,
    /// Another address than the right one.
    Address(Ipv4Addr),
}

const FORM: &str = "write METHOD PATH=WHAT or DNS NAME=WHAT, as in `GET /latest/user-data=500x3`. METHOD is GET, HEAD, \
PUT, POST, DELETE or `*`; `*` in PATH or NAME stands for anything; a PATH with `?` is compared with the query too. \
WHAT is a status (400 to 599), delay:2s, refuse-token, reset, half, slow:100 (bytes a second), hang or garbage; for DNS \
nxdomain, servfail, hang or an IPv4 address. `x3` at the end means the first three times";

impl FromStr for Fault {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Failure::input(format!("fault `{text}`: {why}")).with_help(FORM);
        let (head, what) =
            text.rsplit_once('=').ok_or_else(|| wrong("there is no `=`".to_owned()))?;
        let (method, pattern) = head.trim().split_once(' ').unwrap_or(("*", head.trim()));
        let pattern = pattern.trim().to_owned();
        let (what, times) = times(what.trim()).map_err(wrong)?;
        if method == "DNS" {
            if pattern.is_empty() || pattern.contains('/') {
                return Err(wrong(format!("`{pattern}` is no name")));
            }
            let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
            let action = dns_action(what).map_err(wrong)?;
            return Ok(Self { text: text.into(), target: Target::Dns { pattern, action }, times });
        }
        if !pattern.starts_with(['/', '*']) {
            return Err(wrong(format!("`{pattern}` is no path: it begins with neither / nor *")));
        }
        let known = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];
        let method = match method {
            "*" => None,
            name => match known.into_iter().find(|method| method.as_str() == name) {
                None => return Err(wrong(format!("`{name}` is no method"))),
                found => found,
            },
        };
        let action = action(what).map_err(wrong)?;
        Ok(Self { text: text.into(), target: Target::Http { method, pattern, action }, times })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Parts `500x3` into `500` and 3.
fn times(what: &str) -> std::result::Result<(&str, Option<u32>), String> {
    let Some((action, count)) = what.rsplit_once('x') else { return Ok((what, None)) };
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok((what, None)); // an x of a word, such as nxdomain
    }
    match count.parse() {
        Ok(0) | Err(_) => Err(format!("`x{count}` is no number of times")),
        Ok(times) => Ok((action, Some(times))),
    }
}

fn action(what: &str) -> std::result::Result<Action, String> {
    if what.len() == 3
        && let Ok(code) = what.parse::<u16>()
    {
        let status = StatusCode::from_u16(code).ok().filter(|code| code.as_u16() >= 400);
        let fine = status.filter(|status| status.as_u16() < 600);
        return fine.map(Action::Status).ok_or_else(|| format!("{code} is no status of an error"));
    }
    match what.split_once(':').unwrap_or((what, "")) {
        ("delay", time) => duration(time).map(Action::Delay),
        ("slow", rate) => match rate.parse() {
            Ok(0) | Err(_) => Err(format!("`{rate}` is no number of bytes a second")),
            Ok(rate) => Ok(Action::Slow(rate)),
        },
        ("refuse-token", "") => Ok(Action::RefuseToken),
        ("reset", "") => Ok(Action::Reset),
        ("half", "") => Ok(Action::Half),
        ("hang", "") => Ok(Action::Hang),
        ("garbage", "") => Ok(Action::Garbage),
        _ => Err(format!("`{what}` is nothing that can go wrong")),
    }
}

fn dns_action(what: &str) -> std::result::Result<DnsAction, String> {
    match what {
        "nxdomain" => Ok(DnsAction::NxDomain),
        "servfail" => Ok(DnsAction::ServFail),
        "hang" => Ok(DnsAction::Hang),
        address => {
            let parsed = address.parse().map(DnsAction::Address);
            parsed.map_err(|_| format!("`{what}` is nothing that can go wrong with a name"))
        }
    }
}

/// A number with `ms`, `s` or `m`; a day at most.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let milliseconds = number.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
    let fine = milliseconds.filter(|milliseconds| *milliseconds <= 24 * 3_600_000);
    fine.map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no time such as 500ms, 2s or 1m"))
}

/// The faults of one server, with how often each has struck.
#[derive(Debug, Default)]
pub struct Faults(Vec<(Fault, AtomicU32)>);

impl Faults {
    /// Faults of which none has struck yet. Where several meet a request, the first that is not used up
    /// strikes.
    #[must_use]
    pub fn new(faults: Vec<Fault>) -> Self {
        Self(faults.into_iter().map(|fault| (fault, AtomicU32::new(0))).collect())
    }

    /// What goes wrong with this request, if anything does, and the fault's own text.
    pub(super) fn strike(&self, request: &Request) -> Option<(Action, &str)> {
        let (path, target) = (request.path.as_str(), request.target());
        self.first(|fault| match &fault.target {
            Target::Http { method, pattern, action } => {
                let asked = if pattern.contains('?') { target.as_str() } else { path };
                let meant = method.as_ref().is_none_or(|method| *method == request.method);
                (meant && matches(pattern, asked)).then_some(*action)
            }
            Target::Dns { .. } => None,
        })
    }

    /// What goes wrong with this question; `name` is in small letters and has no dot at its end.
    pub(super) fn strike_name(&self, name: &str) -> Option<(DnsAction, &str)> {
        self.first(|fault| match &fault.target {
            Target::Dns { pattern, action } => matches(pattern, name).then_some(*action),
            Target::Http { .. } => None,
        })
    }

    fn first<A>(&self, meets: impl Fn(&Fault) -> Option<A>) -> Option<(A, &str)> {
        self.0.iter().find_map(|(fault, struck)| {
            let action = meets(fault)?;
            let once_more = |struck: u32| {
                let limit = fault.times.unwrap_or(u32::MAX);
                (struck < limit || fault.times.is_none()).then(|| struck.saturating_add(1))
            };
            let counted = struck.fetch_update(Ordering::SeqCst, Ordering::SeqCst, once_more);
            counted.is_ok().then_some((action, fault.text.as_str()))
        })
    }

    /// Faults that never struck: a path that nobody asked for, or a slip of the pen.
    #[must_use]
    pub fn unused(&self) -> Vec<&Fault> {
        let unused = |(_, struck): &&(Fault, AtomicU32)| struck.load(Ordering::SeqCst) == 0;
        self.0.iter().filter(unused).map(|(fault, _)| fault).collect()
    }
}

/// Whether `text` is as `pattern` says, where `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Fault {
        text.parse().unwrap_or_else(|failure| panic!("{text}: {failure:?}"))
    }

    fn get(target: &str) -> Request {
        Request::new(Method::GET, target)
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says() {
        let faults = Faults::new(vec![parse("GET /latest/user-data=500x3")]);
        for _ in 0..3 {
            let (action, text) = faults.strike(&get("/latest/user-data")).unwrap();
            assert_eq!(action, Action::Status(StatusCode::INTERNAL_SERVER_ERROR));
            assert_eq!(text, "GET /latest/user-data=500x3");
        }
        assert_eq!(faults.strike(&get("/latest/user-data")), None);
        let ever = Faults::new(vec![parse("* /a=reset")]);
        assert!((0..100).all(|_| ever.strike(&get("/a")).is_some()));
    }

    #[test]
    fn only_the_method_and_path_that_are_meant_are_struck() {
        let faults = Faults::new(vec![parse("PUT /latest/*=refuse-token"), parse("/x?a=1*=503")]);
        assert_eq!(faults.strike(&get("/latest/api/token")), None);
        let put = Request::new(Method::PUT, "/latest/api/token?x=y");
        assert!(matches!(faults.strike(&put), Some((Action::RefuseToken, _))));
        assert_eq!(faults.unused().len(), 1);
        assert!(faults.strike(&get("/x?a=12")).is_some());
        assert_eq!(faults.strike(&get("/x?b=1")), None);
        assert!(faults.unused().is_empty());
        let suffix = Faults::new(vec![parse("/latest/*data=503")]);
        assert!(suffix.strike(&get("/latest/user-data")).is_some());
        assert_eq!(suffix.strike(&get("/latest/user-data/x")), None);
    }

    #[test]
    fn the_second_fault_takes_over_when_the_first_is_used_up() {
        let faults = Faults::new(vec![parse("/a=410x1"), parse("/*=429x1")]);
        let struck: Vec<_> = (0..3).map(|_| faults.strike(&get("/a")).map(|(a, _)| a)).collect();
        let status = |code| Some(Action::Status(StatusCode::from_u16(code).unwrap()));
        assert_eq!(struck, [status(410), status(429), None]);
    }

    #[test]
    fn every_action_is_understood() {
        let action = |text: &str| match parse(text).target {
            Target::Http { action, .. } => action,
            Target::Dns { .. } => panic!("{text}"),
        };
        assert_eq!(action("GET /a=delay:500ms"), Action::Delay(Duration::from_millis(500)));
        assert_eq!(action("GET /a=slow:100x2"), Action::Slow(100));
        for (text, expected) in
            [("half", Action::Half), ("hang", Action::Hang), ("garbage", Action::Garbage)]
        {
            assert_eq!(action(&format!("* /a={text}")), expected);
        }
        let names =
            Faults::new(vec![parse("DNS *.Google.internal.=nxdomainx1"), parse("DNS a=10.0.0.1")]);
        assert_eq!(names.strike_name("metadata.google.internal").unwrap().0, DnsAction::NxDomain);
        assert_eq!(names.strike_name("metadata.google.internal"), None);
        assert_eq!(names.strike_name("a").unwrap().0, DnsAction::Address([10, 0, 0, 1].into()));
        assert_eq!(names.strike(&get("/a")), None);
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_form() {
        let wrong = [
            "",
            "GET /a",
            "GET a=500",
            "TAKE /a=500",
            "GET /a=200",
            "GET /a=999",
            "GET /a=50",
            "GET /a=500x0",
            "GET /a=delay",
            "GET /a=delay:2",
            "GET /a=delay:9999999m",
            "GET /a=slow:0",
            "GET /a=half:2",
            "GET /a=nonsense",
            "DNS a/b=nxdomain",
            "DNS =nxdomain",
            "DNS a=500",
            "get /a=500",
        ];
        for text in wrong {
            let failure = text.parse::<Fault>().expect_err(text);
            assert!(failure.to_string().contains("fault `"), "{failure}");
            assert!(failure.help().is_some_and(|help| help.contains("METHOD PATH=WHAT")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_fault_or_an_error(text in "\\PC{0,40}") {
            let _ = text.parse::<Fault>();
        }

        #[test]
        fn a_pattern_matches_what_it_was_made_from(a in "[a-c]{0,3}", b in "[a-c]{0,3}", c in "[a-c]{0,3}", between in "[a-c]{0,3}") {
            let (pattern, text) = (format!("{a}*{b}*{c}"), format!("{a}{between}{b}{between}{c}"));
            prop_assert!(matches(&pattern, &text));
            let (plain, longer) = (format!("{a}{b}"), format!("{a}{b}d"));
            prop_assert!(matches(&plain, &plain));
            prop_assert!(!matches(&plain, &longer));
        }
    }
}
