//! Whether a plugin keeps to the protocol: for its author, point by point.
//!
//! The plugin is run a dozen times, each time for one request, on a small synthetic disk. What it must do is
//! in `docs/plugins.md`; each point names what the plugin did instead.

mod disk;

use std::time::{Duration, Instant};

use nodekiln_plugin_protocol as said;
use nodekiln_plugin_protocol::{Answer, Handshake, Request};
use nodekiln_providers::Provider as _;
use nodekiln_recipes::provider::ForProvider;
use nodekiln_words::{Cancel, Class, Failure, Result, Sha256};
use serde::Serialize;

use crate::provider::{Place, PluginProvider, describe};
use crate::session::{Session, word};
use crate::verify::Verified;
use crate::{Executable, Limits, PROGRAM};
use disk::Trial;

/// A version of the protocol that there will never be.
const NO_VERSION: u32 = u32::MAX;
/// Longer than the second in which formats tell times.
const CLOCK_STEP: Duration = Duration::from_millis(1100);
/// A recipe of the library, over which a plugin's layer is laid to see whether it is one.
const RECIPE: &str = "debian-12";

/// What came of holding a plugin against the protocol.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The provider.
    pub name: String,
    /// The plugin's own version, where it tells one.
    pub version: Option<String>,
    /// Digest of the executable.
    pub sha256: Sha256,
    /// The points, in the order in which they were looked at.
    pub points: Vec<Point>,
}

/// One thing that a plugin must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Its name.
    pub point: &'static str,
    /// What must be so.
    pub must: &'static str,
    /// Whether it is.
    pub outcome: Outcome,
    /// What there was to see: what is wrong, or why nobody looked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Whether a point is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// Nobody could look, because of an earlier point.
    Skipped,
}

impl Report {
    /// How many points had this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.points.iter().filter(|point| point.outcome == outcome).count()
    }
}

/// Whether a point is kept, or what is wrong.
type Looked = std::result::Result<(), String>;
/// What a look came to.
type Look = std::result::Result<Looked, Trouble>;

/// Why a look told nothing.
enum Trouble {
    /// What it needs is not there, because an earlier point failed.
    Skip(&'static str),
    /// The plugin did not come as far as to be looked at.
    Failure(Failure),
    /// This machine did not.
    Ours(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A point, what must be so, and who looks whether it is.
struct Rule {
    point: &'static str,
    must: &'static str,
    look: fn(&mut Checking) -> Look,
}

const fn rule(point: &'static str, must: &'static str, look: fn(&mut Checking) -> Look) -> Rule {
    Rule { point, must, look }
}

/// The points; those behind `description` need one, those behind `write` what was written.
static RULES: [Rule; 13] = [
    rule(
        "handshake",
        "answers the handshake with the versions that it speaks",
        Checking::handshake,
    ),
    rule(
        "no-request",
        "ends with exit code 0 when its input ends after the handshake",
        Checking::no_request,
    ),
    rule(
        "other-version",
        "tells its versions to a nodekiln that it cannot speak to, and ends",
        Checking::other_version,
    ),
    rule(
        "unknown-request",
        "answers a request that it does not know with an error, and ends",
        Checking::unknown_request,
    ),
    rule("description", "describes itself without a mistake", Checking::description),
    rule("same-description", "describes itself the same each time", Checking::same_description),
    rule("layer", "declares a layer that a recipe can have", Checking::layer),
    rule(
        "write",
        "writes the artifact that it announced, with the digests that it tells",
        Checking::write,
    ),
    rule(
        "same-bytes",
        "writes the same bytes each time, wherever its folders are and whatever the clock says",
        Checking::same_bytes,
    ),
    rule("input-untouched", "leaves the disk that it is given as it is", Checking::input_untouched),
    rule(
        "missing-input",
        "answers a write whose disk is missing with an error",
        Checking::missing_input,
    ),
    rule("cancel", "ends within its time when it is told to stop", Checking::cancel),
    rule("abandoned", "ends by itself when its input ends during a write", Checking::abandoned),
];

/// A plugin being held against the protocol.
struct Checking {
    executable: Executable,
    limits: Limits,
    cancel: Cancel,
    /// From the point `description` on.
    provider: Option<PluginProvider>,
    /// From the point `write` on.
    first: Option<Written>,
    input_untouched: Option<bool>,
}

/// What a write came to.
#[derive(PartialEq)]
struct Written {
    files: Vec<Verified>,
    registration: Vec<(String, serde_json::Value)>,
}

/// Holds the plugin against every point; `told` hears of each as soon as it was looked at.
///
/// # Errors
/// When somebody asked to stop, or this machine cannot do its part. What the plugin does wrong is no error.
pub fn check(
    executable: &Executable,
    limits: Limits,
    cancel: &Cancel,
    told: &mut dyn FnMut(&Point),
) -> Result<Report> {
    let mut checking = Checking {
        executable: executable.clone(),
        limits,
        cancel: cancel.clone(),
        provider: None,
        first: None,
        input_untouched: None,
    };
    let mut points = Vec::new();
    for Rule { point, must, look } in &RULES {
        cancel.check()?;
        let (outcome, detail) = match look(&mut checking) {
            Ok(Ok(())) => (Outcome::Passed, String::new()),
            Ok(Err(detail)) => (Outcome::Failed, detail),
            Err(Trouble::Skip(why)) => (Outcome::Skipped, why.to_owned()),
            Err(Trouble::Ours(failure)) => return Err(failure),
            Err(Trouble::Failure(failure)) if failure.class() == Class::Interrupted => {
                return Err(failure);
            }
            Err(Trouble::Failure(failure)) => (Outcome::Failed, failure.chain().join(": ")),
        };
        let point = Point { point, must, outcome, detail };
        told(&point);
        points.push(point);
    }
    let version = checking.provider.map(|provider| provider.description().version.clone());
    Ok(Report { name: executable.name.clone(), version, sha256: executable.sha256, points })
}

impl Checking {
    fn provider(&self) -> std::result::Result<&PluginProvider, Trouble> {
        let why = "without a description there is nothing to ask for";
        self.provider.as_ref().ok_or(Trouble::Skip(why))
    }

    /// A session after the handshake.
    fn session(&self, place: &Place) -> Result<Session> {
        let environment = place.environment()?;
        Session::start(
            &self.executable,
            place.folder.path(),
            &environment,
            self.limits,
            &self.cancel,
        )
    }

    fn trial(&self) -> std::result::Result<Trial, Trouble> {
        Trial::for_provider(self.provider()?, &self.cancel).map_err(Trouble::Ours)
    }

    fn handshake(&mut self) -> Look {
        let place = place()?;
        self.session(&place).map(drop)?;
        Ok(Ok(()))
    }

    fn no_request(&mut self) -> Look {
        let place = place()?;
        let mut session = self.session(&place)?;
        Ok(match session.hang_up() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("it ended with {status}")),
            None => Err("it did not end".to_owned()),
        })
    }

    fn other_version(&mut self) -> Look {
        let place = place()?;
        let environment = place.environment()?;
        let ours = Handshake {
            nodekiln_provider: NO_VERSION,
            oldest: Some(NO_VERSION),
            program: PROGRAM.to_owned(),
        };
        let folder = place.folder.path();
        let (mut session, theirs) = Session::introduce(
            &self.executable,
            folder,
            &environment,
            self.limits,
            &self.cancel,
            &ours,
        )?;
        if ours.agreed(&theirs).is_some() {
            return Ok(Err(format!("it says that it speaks version {NO_VERSION}")));
        }
        Ok(session.hang_up().map(drop).ok_or_else(|| "it did not end".to_owned()))
    }

    fn unknown_request(&mut self) -> Look {
        let place = place()?;
        let mut session = self.session(&place)?;
        session.say("{\"request\":\"no-such-request\"}\n");
        Ok(
            match session.answer(self.limits.describe, "when it was asked for something unknown")? {
                Answer::Error(_) => {
                    session.hang_up().map(drop).ok_or_else(|| "it did not end".to_owned())
                }
                other => Err(format!("it answered `{}`", word(&other))),
            },
        )
    }

    fn description(&mut self) -> Look {
        let description = describe(&self.executable, self.limits, &self.cancel)?;
        let provider = PluginProvider::of(self.executable.clone(), description, self.limits);
        Ok(provider
            .map(|provider| self.provider = Some(provider))
            .map_err(|problems| problems.join("; ")))
    }

    fn same_description(&mut self) -> Look {
        let first = self.provider()?.description().clone();
        let again = describe(&self.executable, self.limits, &self.cancel)?;
        Ok(if first == again {
            Ok(())
        } else {
            Err("the second description is another".to_owned())
        })
    }

    fn layer(&mut self) -> Look {
        let provider = self.provider()?;
        let terms = ForProvider {
            name: provider.name().to_owned(),
            layer: provider.layer().to_owned(),
            disk: None,
        };
        Ok(match nodekiln_recipes::load_for(RECIPE, &[], &[terms]) {
            Ok(_) => Ok(()),
            Err(diagnostics) => Err(diagnostics.render(false).trim().to_owned()),
        })
    }

    fn write(&mut self) -> Look {
        let trial = self.trial()?;
        let (written, untouched) = self.written(&trial)?;
        self.first = Some(written);
        self.input_untouched = Some(untouched);
        Ok(Ok(()))
    }

    /// Has the artifact written, and tells whether the disk is what it was.
    fn written(&self, trial: &Trial) -> std::result::Result<(Written, bool), Trouble> {
        let provider = self.provider()?;
        let (files, done) =
            provider.write(&trial.place, &trial.request, &mut |_| (), &self.cancel)?;
        let registration = done.registration.into_iter().collect();
        Ok((Written { files, registration }, trial.is_untouched(&self.cancel)?))
    }

    fn first(&self) -> std::result::Result<&Written, Trouble> {
        self.first.as_ref().ok_or(Trouble::Skip("nothing was written that could be compared"))
    }

    fn same_bytes(&mut self) -> Look {
        self.first()?;
        let trial = self.trial()?;
        // Two writes in one second would tell the same time.
        std::thread::sleep(CLOCK_STEP);
        let (again, _) = self.written(&trial)?;
        let first = self.first()?;
        let differs = |(one, other): (&Verified, &Verified)| {
            (one != other).then(|| format!("`{}` has other bytes the second time", one.file))
        };
        let found = first.files.iter().zip(&again.files).find_map(differs);
        let registration = (first.registration != again.registration)
            .then(|| "the registration is another the second time".to_owned());
        Ok(found.or(registration).map_or(Ok(()), Err))
    }

    fn input_untouched(&mut self) -> Look {
        let untouched = self.input_untouched.ok_or(Trouble::Skip("nothing was written"))?;
        Ok(if untouched { Ok(()) } else { Err("the disk is not what it was".to_owned()) })
    }

    fn missing_input(&mut self) -> Look {
        let trial = self.trial()?;
        let mut request = trial.request.clone();
        request.input.path.push_str(".missing");
        let mut session = self.session(&trial.place)?;
        session.ask(&Request::Write(Box::new(request)))?;
        let since = Instant::now();
        loop {
            match session.answer(self.limits.silence, "when its disk was missing")? {
                // Without a disk there is nothing that could go on for long.
                Answer::Progress(_) if since.elapsed() > self.limits.silence => {
                    let seconds = self.limits.silence.as_secs_f64();
                    return Ok(Err(format!("it told of progress for {seconds} s")));
                }
                Answer::Progress(_) => {}
                Answer::Error(said::Problem { message, .. }) if message.trim().is_empty() => {
                    return Ok(Err("the error has no message".to_owned()));
                }
                Answer::Error(_) => return Ok(Ok(())),
                other => return Ok(Err(format!("it answered `{}`", word(&other)))),
            }
        }
    }

    fn cancel(&mut self) -> Look {
        let trial = self.trial()?;
        let mut session = self.session(&trial.place)?;
        session.ask(&Request::Write(Box::new(trial.request.clone())))?;
        Ok(match session.stop() {
            // So small a disk may have been done with before, or was not to be had any more.
            Some(Answer::Cancelled {} | Answer::Done(_) | Answer::Error(_)) => Ok(()),
            Some(other) => Err(format!("it answered `{}`", word(&other))),
            None => {
                Err(format!("it did not end well within {} s", self.limits.cancel.as_secs_f64()))
            }
        })
    }

    fn abandoned(&mut self) -> Look {
        let trial = self.trial()?;
        let mut session = self.session(&trial.place)?;
        session.ask(&Request::Write(Box::new(trial.request.clone())))?;
        Ok(session.hang_up().map(drop).ok_or_else(|| "it did not end".to_owned()))
    }
}

/// Where a plugin works that is not to write.
fn place() -> std::result::Result<Place, Trouble> {
    Place::within(&std::env::temp_dir()).map_err(Trouble::Ours)
}
