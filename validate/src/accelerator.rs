//! Which engine runs the guest's processors, found out rather than assumed.
//!
//! A `/dev/kvm` that opens is no evidence: on some nested hosts QEMU aborts while it sets registers,
//! on others the guest hangs. So a guest of one sector is run under a deadline; only if it answers
//! is KVM used. The outcome is part of every report.

mod probe_sector;

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::program;
use probe_sector::{PROBE_ANSWER, probe_sector};

/// What the caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// KVM where it works, else emulation.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation.
    Tcg,
}

/// What runs the guest's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The host's virtualisation.
    Kvm,
    /// QEMU's own translator.
    Tcg,
}

impl Engine {
    /// QEMU's `-accel` value. Under TCG each virtual processor has its own host thread, and a large
    /// translation cache (in MiB) keeps a booting distribution from translating its code twice.
    #[must_use]
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi,tb-size=1024",
        }
    }

    /// QEMU's processor model: all that the engine offers.
    ///
    /// Under TCG besides a counter of time stamps that is told to be invariant, which it is, since it is the host's: without
    /// that Linux holds those of several processors of this vendor for unsynchronized, and reads the time from the HPET,
    /// a device that QEMU emulates with its lock held, by a system call each. QEMU up to 8 knows the feature for KVM alone,
    /// so it is forced, and not warned about.
    #[must_use]
    pub const fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max,invtsc=on,x-force-features=on,check=off",
        }
    }

    /// The name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// The engine that a run uses, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// The engine.
    pub engine: Engine,
    /// Why this one.
    pub why: String,
    /// Processor model given to QEMU.
    pub cpu: String,
    /// QEMU's version.
    pub qemu: String,
}

impl Chosen {
    /// The same choice fallen back to emulation, for the reason `why`.
    #[must_use]
    pub fn emulated(&self, why: String) -> Self {
        let engine = Engine::Tcg;
        Self { engine, why, cpu: engine.cpu().into(), qemu: self.qemu.clone() }
    }
}

/// The tiny guest answers within milliseconds where KVM works.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// What is known of KVM on this machine, once it was probed: a guest that hangs takes the whole deadline each time.
static KVM: Mutex<Option<Probed>> = Mutex::new(None);

/// Decides which engine a run uses. KVM is probed once in a process.
///
/// # Errors
/// [`Class::Missing`] without QEMU; [`Class::Unsupported`] when KVM is demanded and does not work.
pub fn choose(wanted: Accelerator, cancel: &Cancel) -> Result<Chosen> {
    let qemu = program::qemu_version()?;
    let (engine, why) = match wanted {
        Accelerator::Tcg => (Engine::Tcg, "asked for".to_owned()),
        Accelerator::Auto | Accelerator::Kvm => match known_kvm(cancel)? {
            Probed::Works => (Engine::Kvm, "a probe guest answered under KVM".to_owned()),
            Probed::Fails(why) if wanted == Accelerator::Kvm => return Err(kvm_unusable(&why)),
            Probed::Fails(why) => (Engine::Tcg, format!("KVM is unusable: {why}")),
        },
    };
    Ok(Chosen { engine, why, cpu: engine.cpu().into(), qemu })
}

/// What the probe of KVM says, or said before.
fn known_kvm(cancel: &Cancel) -> Result<Probed> {
    let mut known = KVM.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some(probed) => Ok(probed.clone()),
        None => Ok(known.insert(probe_kvm(cancel)?).clone()),
    }
}

/// Lets no later run of this process choose KVM, for the reason `why`.
pub(crate) fn distrust_kvm(why: &str) {
    let mut known = KVM.lock().unwrap_or_else(PoisonError::into_inner);
    *known = Some(Probed::Fails(why.to_owned()));
}

fn kvm_unusable(why: &str) -> Failure {
    Failure::new(Class::Unsupported, format!("KVM does not work on this machine: {why}")).with_help(
        "let nodekiln choose, or ask for tcg: emulation works everywhere, at a tenth of the speed",
    )
}

#[derive(Clone)]
enum Probed {
    Works,
    Fails(String),
}

fn probe_kvm(cancel: &Cancel) -> Result<Probed> {
    let device = Path::new("/dev/kvm");
    if let Err(error) =
        rustix::fs::access(device, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
    {
        return Ok(Probed::Fails(format!("/dev/kvm cannot be opened: {error}")));
    }
    let folder = tempfile::tempdir().or_io(|| "make a folder for the KVM probe".into())?;
    let disk = folder.path().join("probe.raw");
    fs_err::write(&disk, probe_sector()).or_io(|| "write the KVM probe's boot sector".into())?;
    run_probe(&program::QEMU.find()?, &disk, Engine::Kvm, PROBE_DEADLINE, cancel)
}

/// Boots the probe's sector and waits for QEMU to leave with the guest's exit code.
fn run_probe(
    qemu: &Path,
    disk: &Path,
    engine: Engine,
    deadline: Duration,
    cancel: &Cancel,
) -> Result<Probed> {
    let errors = disk.with_extension("stderr");
    let stderr = fs_err::File::create(&errors).or_io(|| "keep QEMU's messages".into())?;
    let mut child = program::mortal(qemu)?
        .args(["-accel", engine.argument(), "-cpu", engine.cpu(), "-m", "64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .args(["-blockdev", "driver=file,node-name=probe,filename=probe.raw"])
        .args(["-device", "ide-hd,drive=probe"])
        .current_dir(disk.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr.into_parts().0)
        .spawn()
        .or_fail(Class::Missing, || format!("start {}", qemu.display()))?;
    let started = Instant::now();
    let outcome = loop {
        if let Some(status) = child.try_wait().or_io(|| "wait for the KVM probe".into())? {
            break judge(status, &fs_err::read_to_string(&errors).unwrap_or_default());
        }
        if started.elapsed() > deadline || cancel.is_cancelled() {
            let _ = child.kill();
            let _ = child.wait();
            break Probed::Fails(format!("a probe guest hung for {} s", deadline.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    cancel.check()?;
    Ok(outcome)
}

/// `isa-debug-exit` makes QEMU leave with `value * 2 + 1`.
const EXIT_CODE: i32 = (PROBE_ANSWER as i32) * 2 + 1;

fn judge(status: ExitStatus, stderr: &str) -> Probed {
    if status.code() == Some(EXIT_CODE) {
        return Probed::Works;
    }
    let said = stderr.lines().find(|line| line.contains("error")).or(stderr.lines().last());
    Probed::Fails(match said {
        Some(line) => format!("QEMU ended with {status}: {line}"),
        None => format!("QEMU ended with {status}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(sector: &[u8], seconds: u64) -> Probed {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("probe.raw");
        fs_err::write(&disk, sector).unwrap();
        let qemu = program::QEMU.find().unwrap();
        let deadline = Duration::from_secs(seconds);
        run_probe(&qemu, &disk, Engine::Tcg, deadline, &Cancel::default()).unwrap()
    }

    #[test]
    fn the_probe_guest_reaches_64_bit_mode_and_answers() {
        assert!(matches!(probe(&probe_sector(), 30), Probed::Works));
    }

    #[test]
    fn a_guest_that_hangs_is_told_from_one_that_answers() {
        let mut sector = probe_sector();
        sector[..2].copy_from_slice(&[0xeb, 0xfe]); // jmp $
        match probe(&sector, 2) {
            Probed::Fails(why) => assert!(why.contains("hung"), "{why}"),
            Probed::Works => panic!("an endless loop cannot answer"),
        }
    }

    #[test]
    fn asking_for_emulation_never_touches_kvm() {
        let chosen = choose(Accelerator::Tcg, &Cancel::default()).unwrap();
        assert_eq!((chosen.engine, chosen.cpu.as_str()), (Engine::Tcg, Engine::Tcg.cpu()));
        assert!(chosen.qemu.starts_with(|c: char| c.is_ascii_digit()), "{}", chosen.qemu);
    }
}
