//! The clock of this machine, and Go's way to write a date: an example of it, of Monday 2006-01-02 15:04:05.

use std::time::{SystemTime, UNIX_EPOCH};

use gotmpl::Value;
use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::functions::{Entry, text};

/// The table; arguments come in sprig's order.
pub(super) static FUNCTIONS: &[Entry] = &[
    // There is no value that is a time; as a number it is what `date` takes as well.
    Entry("now", 0, 0, |_| Ok(Value::Int(seconds()))),
    Entry("date", 2, 2, |a| {
        // As with sprig, what is no time is now.
        let at = a[1].as_int().filter(|_| matches!(a[1], Value::Int(_))).unwrap_or_else(seconds);
        date(&a[0].to_string(), at).map(text)
    }),
];

/// Parts of the example and what stands there (strftime(3)), the longer before what they begin with. The zone is UTC.
const PARTS: [(&str, &str); 31] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("2006", "%Y"),
    ("-07:00:00", "+00:00:00"),
    ("-07:00", "+00:00"),
    ("-070000", "+000000"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("Z07:00:00", "Z"),
    ("Z07:00", "Z"),
    ("Z070000", "Z"),
    ("Z0700", "Z"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("_2", "%e"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn date(example: &str, at: i64) -> Result<String, String> {
    let moment = Timestamp::from_second(at).map_err(|error| error.to_string())?;
    let moment = moment.to_zoned(TimeZone::UTC);
    let (mut out, mut rest) = (String::new(), example);
    while let Some(c) = rest.chars().next() {
        let part = PARTS.iter().find(|(part, _)| {
            let behind = rest.strip_prefix(part).map(|rest| rest.chars().next());
            // Janet and Monty are people.
            let name = matches!(*part, "Jan" | "Mon");
            behind.is_some_and(|next| !(name && next.is_some_and(|c| c.is_ascii_lowercase())))
        });
        let (shown, length) = match part {
            Some((part, form)) => {
                let shown = strtime::format(form, &moment).map_err(|error| error.to_string())?;
                (shown, part.len())
            }
            None => (c.to_string(), c.len_utf8()),
        };
        out.push_str(&shown);
        rest = &rest[length..];
    }
    Ok(out)
}
