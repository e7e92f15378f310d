//! nodekiln's own rules: goss resources with a name, a severity and a reason, and waivers with an end.
//!
//! They stand in `NAME.rules.yaml`. The file is read strictly: no template, no key that is not known, no value of
//! another kind than the attribute's; so what it says is what is checked.

mod read;
mod schema;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use nodekiln_words::{Failure, Result, ResultExt};
use schemars::JsonSchema;
use serde::Serialize;

use crate::place::{Place, Problems};
use crate::resource::Resource;
use crate::yaml::{self, Manner, Text};

pub use schema::schema;

/// The rules and waivers of a file.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules, each with an id of its own.
    pub rules: Vec<Rule>,
    /// The waivers.
    pub waivers: Vec<Waiver>,
    /// The file.
    pub file: PathBuf,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name: lower-case letters, digits and `-`.
    pub id: String,
    /// What it demands, in a line.
    pub title: String,
    /// What a failure means.
    pub severity: Severity,
    /// Why it is demanded.
    pub why: Option<String>,
    /// What to do where it fails.
    pub remedy: Option<String>,
    /// When it is judged; `None` where nodekiln decides by what the check needs.
    pub tier: Option<Tier>,
    /// What is checked; all of one kind.
    pub check: Vec<Resource>,
    /// Where it stands.
    pub place: Place,
}

/// What a failure of a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It is told.
    Warn,
    /// The image fails.
    Fail,
}

/// When a rule is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// On the tree, without a boot.
    Static,
    /// In the booted guest.
    Boot,
    /// In the guest, as a node of a cluster.
    Kubeadm,
}

/// A rule that may fail, for a reason and until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// The rule's id; also one of nodekiln's own rules.
    pub rule: String,
    /// Why it may fail.
    pub reason: String,
    /// The last day on which it holds.
    pub until: Day,
    /// The one provider for whose images it holds; `None` for all.
    pub provider: Option<String>,
    /// The one image, by the recipe's name, for which it holds; `None` for all.
    pub image: Option<String>,
    /// What a finding of the rule has to say for the waiver to be for it, or a path in it; `None` for whatever is found.
    pub finding: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// A day of the calendar, written `2027-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day of `moment` in UTC.
    ///
    /// # Errors
    /// Where the calendar ends before it.
    pub fn of(moment: SystemTime) -> Result<Self> {
        let moment = Timestamp::try_from(moment).or_io(|| "read this machine's clock".into())?;
        Ok(Self(TimeZone::UTC.to_datetime(moment).date()))
    }
}

/// Years ahead that a waiver may hold; what is to be longer is not for a time.
const MOST_YEARS: i64 = 2;

impl FromStr for Day {
    type Err = String;

    /// Takes four, two and two digits joined by `-`, of a day that there is.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let shape = text.len() == 10
            && text.bytes().enumerate().all(|(index, byte)| match index {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let day = text.parse().ok().filter(|_| shape);
        day.map(Self).ok_or_else(|| format!("`{text}` is no day such as 2027-01-31"))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Waiver {
    /// Whether it holds no more: from the day after [`Waiver::until`] on.
    #[must_use]
    pub fn expired(&self, today: Day) -> bool {
        today > self.until
    }

    /// Whether it is to hold for longer than two years from `today` on, which no waiver may.
    #[must_use]
    pub fn too_long(&self, today: Day) -> bool {
        self.until.0 > today.0.saturating_add(MOST_YEARS.years())
    }

    /// Whether it is for `finding`: one that has its text in it, or its path, and not as a part of another path.
    #[must_use]
    pub fn is_for(&self, finding: &str) -> bool {
        let Some(wanted) = &self.finding else { return true };
        if !wanted.starts_with('/') {
            return finding.contains(wanted.as_str());
        }
        let goes_on = |c: char| c.is_alphanumeric() || "/._-+@~%".contains(c);
        finding.match_indices(wanted.as_str()).any(|(at, _)| {
            let (before, behind) = (&finding[..at], &finding[at + wanted.len()..]);
            // A dot that ends a sentence ends the path too.
            let behind = behind.trim_start_matches('.');
            !before.ends_with(goes_on) && !behind.starts_with(goes_on)
        })
    }

    /// Whether it is meant for an image of this name made for this provider; it may still have expired.
    #[must_use]
    pub fn covers(&self, provider: &str, image: &str) -> bool {
        let fits =
            |scope: &Option<String>, name: &str| scope.as_deref().is_none_or(|one| one == name);
        fits(&self.provider, provider) && fits(&self.image, image)
    }
}

/// Reads the rules of the file at `path`.
///
/// # Errors
/// With the place and a remedy of each mistake, or where the file cannot be read.
pub fn read(path: &Path) -> Result<Rules> {
    let bytes = std::fs::read(path).or_io(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let message = format!("{} is not UTF-8", path.display());
        Failure::input(message).with_help("store it as UTF-8 text")
    })?;
    let rules = of_text(&path.to_string_lossy(), &text)?;
    Ok(Rules { file: path.to_owned(), ..rules })
}

/// Reads rules from a text; `name` stands for the file in messages.
///
/// # Errors
/// With the place and a remedy of each mistake.
pub fn of_text(name: &str, text: &str) -> std::result::Result<Rules, Problems> {
    let text = Text { file: name.into(), text, lines: None };
    let root = yaml::parse(&text, Manner::Strict, &mut Problems::default())?;
    read::rules(&root)
}
