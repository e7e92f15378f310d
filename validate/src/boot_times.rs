//! Where the seconds of a boot went, by the account of the guest's own service manager.
//!
//! systemd keeps the moment of each step and of each unit's changes of state, in microseconds since the
//! kernel's start; `systemctl show` prints them as they are. What `systemd-analyze` makes of them is made here, so
//! that a guest needs no such program and nothing is read from text that is meant for people.

use std::collections::BTreeMap;

use nodekiln_words::{Failure, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks::answers::parts;

/// Most units of the slowest that are kept.
const MOST_UNITS: usize = 25;
/// How many of them reports for people tell.
pub(crate) const SLOWEST_TOLD: usize = 5;
/// Longest critical chain that is followed; that of a node has about twenty links.
const MOST_LINKS: usize = 100;

/// What is asked: the manager's moments, the kernel's line about the program that it starts first, the unit that a
/// boot aims at, and the moments of every unit.
pub(crate) const SCRIPT: &str = "\
    systemctl show -p FirmwareTimestampMonotonic -p LoaderTimestampMonotonic -p InitRDTimestampMonotonic \
      -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic || exit\n\
    echo --\n\
    dmesg 2>/dev/null | grep -m 1 'Run /init as init process'\n\
    echo --\n\
    systemctl show -p Id default.target\n\
    echo --\n\
    systemctl show -p Id -p After -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic \
      -p InactiveEnterTimestampMonotonic '*'";

/// How long each part of a boot took, and what took longest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BootTimes {
    /// Seconds in the firmware, where it tells: under UEFI, with a boot loader that passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<f64>,
    /// Seconds in the boot loader, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<f64>,
    /// Seconds from the kernel's start to that of the initial RAM disk's first program, or, where there is none or
    /// the kernel's log does not tell, to that of the service manager.
    pub kernel: f64,
    /// Seconds in the initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<f64>,
    /// Seconds from the start of the service manager until nothing was left to be started; nothing where it did not
    /// get there.
    pub userspace: Option<f64>,
    /// Seconds from the kernel's start until nothing was left to be started.
    pub total: Option<f64>,
    /// The units that took longest to start, the slowest first. Devices are none: they take no time, what waits for
    /// them does.
    pub slowest: Vec<UnitTime>,
    /// The unit that the boot aimed at, the one that it had to wait for last, and so on to the first.
    pub critical_chain: Vec<UnitTime>,
}

/// When a unit was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitTime {
    /// Its name.
    pub unit: String,
    /// Seconds since the kernel's start at which its start began.
    pub at: f64,
    /// Seconds until it was active, or had done its work.
    pub took: f64,
}

impl BootTimes {
    /// Reads what a guest answered to [`SCRIPT`].
    ///
    /// # Errors
    /// When it is no answer to that, as of a machine without systemd.
    pub(crate) fn read(answer: &str) -> Result<Self> {
        let [manager, kernel, target, units] = parts(answer)?;
        let manager = block(&manager);
        let moment = |key| micros(&manager, key);
        let Some(userspace) = moment("UserspaceTimestampMonotonic") else {
            return Err(Failure::io("the guest's service manager does not tell when it started"));
        };
        let finish = moment("FinishTimestampMonotonic");
        let initrd = moment("InitRDTimestampMonotonic")
            .or_else(|| first_program(&kernel))
            .filter(|at| *at <= userspace);
        let loader = moment("LoaderTimestampMonotonic");
        let firmware = moment("FirmwareTimestampMonotonic");
        let units = units.split("\n\n").filter_map(Unit::read);
        let units: BTreeMap<String, Unit> = units.map(|unit| (unit.id.clone(), unit)).collect();
        let target = block(&target).remove("Id").unwrap_or_default();
        Ok(Self {
            firmware: firmware.map(|at| span(loader.unwrap_or(0), at)),
            loader: loader.map(seconds),
            kernel: seconds(initrd.unwrap_or(userspace)),
            initrd: initrd.map(|at| span(at, userspace)),
            userspace: finish.map(|at| span(userspace, at)),
            total: finish.map(seconds),
            slowest: slowest(&units, finish),
            critical_chain: critical_chain(&units, &target, finish),
        })
    }

    /// The parts of the boot in order: what each is called, the second since the kernel's start at which it begins,
    /// and how many it took. Firmware and boot loader, which come before, are left out.
    pub(crate) fn phases(&self) -> Vec<(&'static str, f64, f64)> {
        let mut phases = vec![("kernel", 0.0, self.kernel)];
        let mut at = self.kernel;
        for (name, took) in [("initrd", self.initrd), ("userspace", self.userspace)] {
            if let Some(took) = took {
                phases.push((name, at, took));
                at += took;
            }
        }
        phases
    }

    /// The total and its parts, in a line.
    pub(crate) fn line(&self) -> String {
        let before = [("firmware", self.firmware), ("loader", self.loader)];
        let before = before.into_iter().filter_map(|(name, took)| Some((name, took?)));
        let inside = self.phases().into_iter().map(|(name, _, took)| (name, took));
        let parts: Vec<String> =
            before.chain(inside).map(|(name, took)| format!("{name} {took:.1} s")).collect();
        let total = match self.total {
            Some(total) => format!("{total:.1} s from the kernel's start"),
            None => "not through".to_owned(),
        };
        format!("{total}: {}", parts.join(", "))
    }
}

/// A unit's moments, in microseconds since the kernel's start; 0 is never.
#[derive(Debug)]
struct Unit {
    id: String,
    after: Vec<String>,
    /// When its start began.
    began: u64,
    /// When it was active.
    active: u64,
    /// When it was inactive again: what does its work and ends may never be active.
    ended: u64,
}

impl Unit {
    /// Reads a unit's lines; nothing where they name none.
    fn read(text: &str) -> Option<Self> {
        let mut block = block(text);
        let moment = |key| micros(&block, key).unwrap_or(0);
        let began = moment("InactiveExitTimestampMonotonic");
        let active = moment("ActiveEnterTimestampMonotonic");
        let ended = moment("InactiveEnterTimestampMonotonic");
        let after = block.remove("After").unwrap_or_default();
        let after = after.split_whitespace().map(str::to_owned).collect();
        Some(Self { id: block.remove("Id")?, after, began, active, ended })
    }

    fn took(&self) -> u64 {
        let done = if self.active >= self.began { self.active } else { self.ended };
        done.saturating_sub(self.began)
    }

    fn time(&self) -> UnitTime {
        UnitTime { unit: self.id.clone(), at: seconds(self.began), took: seconds(self.took()) }
    }
}

/// The units that took longest; what was started once the boot was through is no part of it.
fn slowest(units: &BTreeMap<String, Unit>, finish: Option<u64>) -> Vec<UnitTime> {
    let in_time = |unit: &&Unit| finish.is_none_or(|finish| unit.began <= finish);
    let mut units: Vec<&Unit> = units
        .values()
        .filter(|unit| unit.began > 0 && unit.took() > 0 && !unit.id.ends_with(".device"))
        .filter(in_time)
        .collect();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.took())); // stable: names decide
    units.into_iter().take(MOST_UNITS).map(Unit::time).collect()
}

/// From `target` to the unit among those that it comes after which was active last, and so on; none where the boot
/// was not through, since the last one is not known then.
fn critical_chain(
    units: &BTreeMap<String, Unit>,
    target: &str,
    finish: Option<u64>,
) -> Vec<UnitTime> {
    let Some(finish) = finish else { return Vec::new() };
    let mut chain: Vec<&Unit> = units.get(target).into_iter().collect();
    while let Some(unit) = chain.last().filter(|_| chain.len() < MOST_LINKS) {
        let in_time = |unit: &&Unit| unit.active > 0 && unit.active <= finish;
        let new = |unit: &&Unit| chain.iter().all(|link| link.id != unit.id);
        let before = unit.after.iter().filter_map(|id| units.get(id)).filter(in_time).filter(new);
        let Some(last) = before.max_by_key(|unit| unit.active) else { break };
        chain.push(last);
    }
    chain.into_iter().map(Unit::time).collect()
}

/// The pairs of `Key=Value` in a block of lines.
fn block(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A moment in microseconds; nothing where it is 0, which stands for never.
fn micros(block: &BTreeMap<String, String>, key: &str) -> Option<u64> {
    block.get(key)?.parse().ok().filter(|at| *at > 0)
}

/// The moment in front of the kernel's line about the initial RAM disk's first program: `[    1.234567] Run /init …`.
fn first_program(log: &str) -> Option<u64> {
    let (seconds, micros) =
        log.lines().next()?.split_once('[')?.1.split_once(']')?.0.trim().split_once('.')?;
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

fn span(from: u64, to: u64) -> f64 {
    seconds(to.saturating_sub(from))
}

/// Microseconds as seconds. What is read from the guest may be any number: precision beyond 2^53 is nothing lost.
fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests;
