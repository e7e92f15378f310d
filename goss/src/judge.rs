//! Resources judged against a machine.

use nodekiln_words::Failure;
use serde::Serialize;
use serde_json::Value as Json;

use crate::kind::Kind;
use crate::matcher::{Dialect, Mismatch, Unmet};
use crate::place::Place;
use crate::resource::{Resource, Subject, Want, Wanted};
use crate::target::{Algorithm, FileFacts, Known, PackageFacts, Target, Unknown, UserFacts};

/// What was found of one resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The kind, as goss calls it.
    pub kind: String,
    /// The resource's key.
    pub id: String,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// What the file keeps with it.
    pub meta: Json,
    /// Where it stands.
    pub place: Place,
    /// One result for each attribute of which something is wanted; a single one, of attribute `*`, where the whole
    /// resource is skipped for its kind.
    pub results: Vec<AttributeResult>,
}

/// What was found of one attribute.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttributeResult {
    /// Its name in goss 0.4.
    pub attribute: &'static str,
    /// Whether it is as wanted.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Whether something is as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Pass,
    /// It is not: what was wanted and what was found.
    Fail(Mismatch),
    /// It was not judged.
    Skipped {
        /// Why not.
        reason: String,
        /// What that means for the whole.
        open: Open,
    },
}

/// Whether it stays open if the machine is as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Open {
    /// It does not: another attribute settles it, or the file says not to judge the resource.
    Settled,
    /// It does, since this machine, or tree, cannot tell; another might.
    Here,
    /// It does on every machine, since nodekiln does not judge such a thing.
    Everywhere,
}

/// The verdict on a whole resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// At least one attribute was judged, and all that were are as wanted.
    Pass,
    /// An attribute is not as wanted.
    Fail,
    /// No attribute was judged.
    Skipped,
}

impl Outcome {
    /// The verdict on all attributes together.
    #[must_use]
    pub fn overall(&self) -> Overall {
        let has = |fits: fn(&Verdict) -> bool| self.results.iter().any(|one| fits(&one.verdict));
        if has(|verdict| matches!(verdict, Verdict::Fail(_))) {
            Overall::Fail
        } else if has(|verdict| *verdict == Verdict::Pass) {
            Overall::Pass
        } else {
            Overall::Skipped
        }
    }

    /// The failure that says so, where it failed.
    ///
    /// # Errors
    /// A verdict's failure with each attribute that is not as wanted.
    pub fn result(&self) -> Result<(), Failure> {
        let failed: Vec<String> = self
            .results
            .iter()
            .filter_map(|one| match &one.verdict {
                Verdict::Fail(mismatch) => Some(format!("{}: {mismatch}", one.attribute)),
                _ => None,
            })
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let what = self.title.as_deref().unwrap_or(&self.id);
        let message = format!("{} {what}: {}", self.kind, failed.join("; "));
        Err(Failure::new(nodekiln_words::Class::Verdict, message))
    }
}

/// Judges one resource.
#[must_use]
pub fn judge(resource: &Resource, target: &dyn Target) -> Outcome {
    Outcome {
        kind: resource.kind_name.clone(),
        id: resource.id.clone(),
        title: resource.title.clone(),
        meta: resource.meta.clone(),
        place: resource.place.clone(),
        results: results(resource, target),
    }
}

fn results(resource: &Resource, target: &dyn Target) -> Vec<AttributeResult> {
    if let Subject::Skipped(reason) = &resource.subject {
        let verdict = match resource.skip {
            true => skipped(SKIP, Open::Settled),
            false => skipped(reason, Open::Everywhere),
        };
        return vec![AttributeResult { attribute: "*", verdict }];
    }
    let decides = resource.kind().is_some_and(|kind| kind.description().first_decides);
    let mut questions = Questions { resource, target, file: None, user: None, package: None };
    let mut results: Vec<AttributeResult> = Vec::new();
    // Why the attributes behind the first are not judged.
    let mut reason = resource.skip.then(|| SKIP.to_owned());
    for (index, wanted) in resource.wanted.iter().enumerate() {
        let attribute = wanted.attribute.name;
        let verdict = match &reason {
            Some(reason) => skipped(reason, Open::Settled),
            None => {
                let (verdict, found) = one(wanted, &mut questions);
                if index == 0 && decides {
                    reason = decided(attribute, &verdict, found.as_ref());
                }
                verdict
            }
        };
        results.push(AttributeResult { attribute, verdict });
    }
    results
}

/// Why a resource is not judged that has `skip: true`.
const SKIP: &str = "the file says to skip it";

fn skipped(reason: &str, open: Open) -> Verdict {
    Verdict::Skipped { reason: reason.to_owned(), open }
}

/// Why the others are skipped, where the first is not as wanted or is found false.
fn decided(attribute: &str, verdict: &Verdict, found: Option<&Json>) -> Option<String> {
    match (verdict, found) {
        (Verdict::Fail(_), _) => Some(format!("`{attribute}` is not as wanted")),
        (Verdict::Pass, Some(Json::Bool(false))) => {
            Some(format!("`{attribute}` is false, as wanted"))
        }
        _ => None,
    }
}

/// Judges one attribute; also what was found.
fn one(wanted: &Wanted, questions: &mut Questions<'_>) -> (Verdict, Option<Json>) {
    let matcher = match &wanted.matcher {
        Want::Matcher(matcher) => matcher,
        Want::Missing => {
            let because = "goss demands that the file says what is wanted of it".to_owned();
            let mismatch = Mismatch {
                wanted: "nothing".into(),
                found: "not asked".into(),
                because: Some(because),
            };
            return (Verdict::Fail(mismatch), None);
        }
    };
    match questions.found(wanted.attribute.name) {
        Ok(found) => match matcher.test(&found) {
            Ok(()) => (Verdict::Pass, Some(found)),
            Err(Unmet::Mismatch(mismatch)) => (Verdict::Fail(mismatch), Some(found)),
            Err(Unmet::Untold(reason)) => (skipped(&reason, Open::Everywhere), Some(found)),
        },
        Err(Unknown::NotHere(reason)) => (skipped(&reason, Open::Here), None),
        Err(Unknown::Failed(reason)) => {
            let wanted = matcher.written().to_string();
            let mismatch = Mismatch { wanted, found: "nothing".into(), because: Some(reason) };
            (Verdict::Fail(mismatch), None)
        }
    }
}

/// Asks the target, the same question once.
struct Questions<'a> {
    resource: &'a Resource,
    target: &'a dyn Target,
    file: Option<Known<Option<FileFacts>>>,
    user: Option<Known<Option<UserFacts>>>,
    package: Option<Known<PackageFacts>>,
}

impl Questions<'_> {
    /// The value of an attribute.
    fn found(&mut self, attribute: &str) -> Known<Json> {
        let resource = self.resource;
        match &resource.subject {
            Subject::File(path) => self.of_file(path, attribute),
            Subject::Package(name) => {
                let facts =
                    self.package.get_or_insert_with(|| self.target.package(name)).clone()?;
                Ok(match attribute {
                    "installed" => (!facts.versions.is_empty()).into(),
                    _ => versions(&facts, resource.dialect).into(),
                })
            }
            Subject::Service(name) => match attribute {
                "enabled" => self.target.enabled(name).map(Json::from),
                "running" => self.target.running(name).map(Json::from),
                _ => Err(Unknown::not_here("systemd has no run levels")),
            },
            Subject::Command(command) => {
                let output = self.target.command(command)?;
                Ok(match attribute {
                    "exit-status" => output.status.into(),
                    "stdout" => text(&output.stdout),
                    _ => text(&output.stderr),
                })
            }
            Subject::KernelParam(name) => self.target.kernel_param(name).map(Json::from),
            Subject::Mount(mountpoint) => self.of_mount(mountpoint, attribute),
            Subject::User(name) => self.of_user(name, attribute),
            Subject::Group(name) => {
                let gid = self.target.group(name)?;
                match attribute {
                    "exists" => Ok(gid.is_some().into()),
                    _ => gid.map(Json::from).ok_or_else(|| absent("group")),
                }
            }
            Subject::Port(port) => {
                let addresses = self.target.port(*port)?;
                Ok(match attribute {
                    "listening" => (!addresses.is_empty()).into(),
                    _ => addresses.iter().map(|address| Json::from(address.to_string())).collect(),
                })
            }
            Subject::Http(request) => {
                let response = self.target.http(request)?;
                Ok(match attribute {
                    "status" => response.status.into(),
                    "headers" => response.headers.join("\n").into(),
                    _ => text(&response.body),
                })
            }
            Subject::Matching(content) => Ok(content.clone()),
            Subject::Skipped(reason) => Err(Unknown::not_here(reason.as_str())),
        }
    }

    fn of_file(&mut self, path: &str, attribute: &str) -> Known<Json> {
        let target = self.target;
        let hexadecimal = |algorithm| target.digest(path, algorithm).map(Json::from);
        match attribute {
            "contents" => return target.contents(path).map(|bytes| text(&bytes)),
            "md5" => return hexadecimal(Algorithm::Md5),
            "sha256" => return hexadecimal(Algorithm::Sha256),
            "sha512" => return hexadecimal(Algorithm::Sha512),
            _ => {}
        }
        let facts = self.file.get_or_insert_with(|| target.file(path)).clone()?;
        if attribute == "exists" {
            return Ok(facts.is_some().into());
        }
        let facts = facts.ok_or_else(|| absent("file"))?;
        match attribute {
            "mode" => Ok(format!("{:04o}", facts.mode & 0o7777).into()),
            "owner" => Ok(facts.owner.into()),
            "group" => Ok(facts.group.into()),
            "uid" => Ok(facts.uid.into()),
            "gid" => Ok(facts.gid.into()),
            "filetype" => Ok(facts.kind.name().into()),
            "size" => Ok(facts.size.into()),
            _ => {
                facts.link.map(Json::from).ok_or_else(|| Unknown::failed("it is no symbolic link"))
            }
        }
    }

    fn of_mount(&mut self, mountpoint: &str, attribute: &str) -> Known<Json> {
        if attribute == "usage" {
            return self.target.usage(mountpoint).map(Json::from);
        }
        let facts = self.target.mount(mountpoint)?;
        if attribute == "exists" {
            return Ok(facts.is_some().into());
        }
        let facts = facts.ok_or_else(|| Unknown::failed("nothing is mounted there"))?;
        Ok(match attribute {
            "opts" => facts.options.into(),
            "vfs-opts" => facts.super_options.into(),
            "source" => facts.source.into(),
            _ => facts.file_system.into(),
        })
    }

    fn of_user(&mut self, name: &str, attribute: &str) -> Known<Json> {
        let facts = self.user.get_or_insert_with(|| self.target.user(name)).clone()?;
        if attribute == "exists" {
            return Ok(facts.is_some().into());
        }
        let facts = facts.ok_or_else(|| absent("user"))?;
        Ok(match attribute {
            "uid" => facts.uid.into(),
            "gid" => facts.gid.into(),
            "groups" => facts.groups.into(),
            "home" => facts.home.into(),
            _ => facts.shell.into(),
        })
    }
}

fn absent(what: &str) -> Unknown {
    Unknown::failed(format!("there is no such {what}"))
}

/// Bytes as a text; what is no UTF-8 becomes replacement characters, which no pattern fits by chance.
fn text(bytes: &[u8]) -> Json {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// goss 0.3 saw of an RPM version neither epoch nor release.
fn versions(facts: &PackageFacts, dialect: Dialect) -> Vec<String> {
    let whole = facts.versions.iter();
    if !facts.rpm || dialect == Dialect::Goss04 {
        return whole.cloned().collect();
    }
    let short = whole.map(|version| {
        let version = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
        version.rsplit_once('-').map_or(version, |(version, _)| version).to_owned()
    });
    short.collect()
}

/// What a kind asks of a machine is decided by its table; this says which of them a tree at rest can answer.
#[must_use]
pub fn needs_a_running_machine(resource: &Resource) -> bool {
    match resource.kind() {
        Some(Kind::Command | Kind::KernelParam | Kind::Mount | Kind::Port | Kind::Http) => true,
        Some(Kind::Service) => !resource.wants("enabled"),
        _ => false,
    }
}
