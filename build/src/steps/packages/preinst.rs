//! Runs `preinst install`, which comes before a package's files.
//!
//! dpkg runs it as part of unpacking, which nodekiln does itself. All scripts of a wave run in one
//! sandbox, one after the other, in the environment that dpkg gives them (dpkg(1), deb-preinst(5)).

use nodekiln_words::{Class, Failure, Result};

use super::Installation;
use crate::deb::Parcel;

/// Folders of control files, next to which dpkg's own is called `tmp.ci`.
const STAGED: &str = "nodekiln.ci";

/// Runs the scripts of the packages named by its arguments, by name and architecture, each in the
/// place where dpkg would run it: debconf looks there for the package's name and questions. Ends well
/// in any case; a script that fails is its last line.
const BATCH: &str = r#"
cd /var/lib/dpkg
export DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= DPKG_MAINTSCRIPT_NAME=preinst
export DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_MAINTSCRIPT_DEBUG=0 DPKG_COLORS=never
DPKG_RUNNING_VERSION=$(dpkg-query --show --showformat='${Version}' dpkg)
export DPKG_RUNNING_VERSION
while [ $# -ge 2 ]; do
    echo "preinst $1" >&2
    mv "nodekiln.ci/$1" tmp.ci
    DPKG_MAINTSCRIPT_PACKAGE="$1" DPKG_MAINTSCRIPT_ARCH="$2" \
        sh -c 'cd /; exec /var/lib/dpkg/tmp.ci/preinst install' </dev/null >&2
    status=$?
    if [ $status -ne 0 ]; then
        echo "$1 $status"
        exit 0
    fi
    rm -rf tmp.ci
    shift 2
done
rmdir nodekiln.ci
"#;

impl Installation<'_> {
    pub(super) fn run_preinsts(&self, parcels: &[Parcel]) -> Result<()> {
        let mut argv =
            vec!["/bin/sh".to_owned(), "-c".to_owned(), BATCH.to_owned(), "preinst".to_owned()];
        let database = crate::deb::Database::open(self.root.path())?;
        let with_script = parcels.iter().map(|parcel| &parcel.control);
        let with_script: Vec<_> =
            with_script.filter(|control| control.files.contains_key("preinst")).collect();
        for control in &with_script {
            database.lay_out_control(control, &format!("{STAGED}/{}", control.name))?;
            argv.extend([control.name.clone(), control.architecture.clone()]);
        }
        if with_script.is_empty() {
            return Ok(());
        }
        let title = format!("preinst scripts of {} packages", with_script.len());
        let task = self.progress.start(&title, None, "");
        let command = self.command(&title, argv);
        let verdict =
            self.sandbox.run(&command, self.cancel).and_then(|output| judge(&output.stdout, self));
        match &verdict {
            Ok(()) => self.progress.finish(task, ""),
            Err(_) => self.progress.fail(task),
        }
        verdict
    }
}

fn judge(stdout: &[u8], installation: &Installation<'_>) -> Result<()> {
    let text = String::from_utf8_lossy(stdout);
    let Some((package, status)) = text.trim_end().rsplit_once(' ') else { return Ok(()) };
    let message = format!("package {package}: its preinst script ended with status {status}");
    let log = std::fs::read(installation.log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    Err(Failure::new(Class::Verdict, message).with_help(format!(
        "{}\nthe whole output is in {}",
        last.join("\n"),
        installation.log.display()
    )))
}
