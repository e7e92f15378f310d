//! Configures unpacked packages with the tree's own dpkg.

use nodekiln_words::{Class, Failure, Result};

use super::Installation;
use super::deferred::Deferred;
use super::stand_ins::StandIns;
use crate::deb::{Database, Parcel};

/// What dpkg writes before it says which script of a package failed.
const ERROR: &str = "dpkg: error processing package ";

impl Installation<'_> {
    /// Configures `parcels`, or everything that is not yet configured.
    pub(super) fn configure(
        &self,
        parcels: &[Parcel],
        all: bool,
        deferred: &Deferred<'_>,
        stand_ins: &StandIns,
    ) -> Result<()> {
        let title = format!("configure {} packages", parcels.len());
        let task = self.progress.start(&title, None, "");
        let options = [
            "dpkg",
            // Conffiles that scripts wrote stay; nobody is there to be asked.
            "--force-confdef",
            "--force-confold",
            "--force-unsafe-io",
            "--abort-after=1",
            // Its lines carry the wall-clock time.
            "--log=/dev/null",
            "--configure",
        ];
        let mut argv: Vec<String> = options.map(str::to_owned).to_vec();
        if all {
            argv.push("--pending".to_owned());
        } else {
            argv.extend(parcels.iter().map(|parcel| parcel.control.database_name()));
        }
        let mut command = self.command(&title, argv);
        command.binds = deferred.binds(self.root)?;
        command.binds.extend(stand_ins.ischroot(self.root)?);
        match self.sandbox.run(&command, self.cancel) {
            Ok(_) => {
                self.progress.finish(task, "");
                Ok(())
            }
            Err(failure) => {
                self.progress.fail(task);
                Err(explain(failure))
            }
        }
    }
}

/// Puts the package and its script, which dpkg names in its output, into the message.
fn explain(failure: Failure) -> Failure {
    let output = failure.help().unwrap_or_default();
    let Some((_, after)) = output.split_once(ERROR) else { return failure };
    let mut lines = after.lines();
    let package = lines.next().unwrap_or_default().split(' ').next().unwrap_or_default();
    let reason = lines.next().unwrap_or_default().trim();
    let message = format!("package {package}: {reason}");
    failure.context(message)
}

/// Fails unless every package is configured, held or not, and no trigger is left to process. What a script
/// of the recipe removed is none of them.
pub(super) fn all_installed(database: &Database) -> Result<()> {
    let states = database.states()?;
    let finished = |state: &str| {
        let after = state.split_once(' ').map(|(_, after)| after);
        matches!(after, Some("ok installed" | "ok config-files" | "ok not-installed"))
    };
    let unfinished = states.iter().filter(|(_, state)| !finished(state));
    let unfinished: Vec<_> =
        unfinished.map(|(name, state)| format!("{name} is `{state}`")).collect();
    if unfinished.is_empty() {
        return Ok(());
    }
    let message = format!("dpkg left packages unfinished: {}", unfinished.join(", "));
    Err(Failure::new(Class::Verdict, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_script_is_named_with_its_package() {
        let output = "Setting up x (1) ...\ndpkg: error processing package x (--configure):\n \
                      installed x package post-installation script subprocess returned error exit \
                      status 3\nErrors were encountered while processing:\n x";
        let failure = Failure::new(Class::Verdict, "configure: status 1").with_help(output);
        let explained = explain(failure);
        assert_eq!(
            explained.to_string(),
            "package x: installed x package post-installation script subprocess returned error \
             exit status 3"
        );
        assert_eq!(explained.class(), Class::Verdict);
    }
}
