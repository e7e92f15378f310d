//! How long each stage may take. Budgets belong to the accelerator, never to the test alone: one
//! measured with hardware virtualisation makes flakes under emulation, the reverse hides hangs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accelerator::Engine;

/// The stages of a run, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// From power on to the kernel's first line.
    Firmware,
    /// From the kernel's first line to the first line of the service manager.
    Kernel,
    /// Until a command runs over SSH.
    Login,
    /// Until cloud-init is through, without what the kubeadm tier adds to it.
    CloudInit,
    /// Until cloud-init is through with `kubeadm init` in it.
    KubeadmInit,
    /// Until the booted system has said what does not change any more while a cluster comes up, or another machine does.
    System,
    /// Until the node is Ready.
    NodeReady,
    /// Until the scheduled pod runs.
    PodRunning,
    /// Until every control-plane pod is ready.
    ControlPlane,
    /// Until every rule has its answer.
    Rules,
    /// Until the machine has lost its power.
    PowerCut,
    /// Until cloud-init has finished with `kubeadm join` in it.
    KubeadmJoin,
    /// Until the second machine is a node of the cluster and runs a pod.
    Joined,
    /// Until the suite has run every spec of the conformance tier.
    Conformance,
    /// Until the machine is off after it was told so.
    PowerOff,
}

impl Stage {
    /// What the stage ends with, to be read after "until".
    #[must_use]
    pub const fn goal(self) -> &'static str {
        match self {
            Self::Firmware => "the kernel's first line on the serial console",
            Self::Kernel => "the service manager's first line on the serial console",
            Self::Login => "a command answered over SSH",
            Self::CloudInit => "cloud-init finished",
            Self::KubeadmInit => "cloud-init finished with kubeadm init in it",
            Self::System => "the booted system has answered",
            Self::NodeReady => "the node is Ready",
            Self::PodRunning => "the probe pod runs",
            Self::ControlPlane => "the control-plane pods are ready",
            Self::Rules => "every rule has its answer",
            Self::PowerCut => "the machine has lost its power",
            Self::KubeadmJoin => "cloud-init finished with kubeadm join in it",
            Self::Joined => "a second node runs a pod",
            Self::Conformance => "the suite has run every spec",
            Self::PowerOff => "the machine is off",
        }
    }

    /// The name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Kernel => "kernel",
            Self::Login => "login",
            Self::CloudInit => "cloud-init",
            Self::KubeadmInit => "kubeadm-init",
            Self::System => "system",
            Self::NodeReady => "node-ready",
            Self::PodRunning => "pod-running",
            Self::ControlPlane => "control-plane",
            Self::Rules => "rules",
            Self::PowerCut => "power-cut",
            Self::KubeadmJoin => "kubeadm-join",
            Self::Joined => "joined",
            Self::Conformance => "conformance",
            Self::PowerOff => "power-off",
        }
    }
}

/// Seconds by stage: with KVM, under TCG. The TCG figures are four to five times what an idle
/// two-core host needs (multi-user 20 s, `kubeadm init` 150 s), since hosts are seldom idle.
const TABLE: [(Stage, u64, u64); 15] = [
    (Stage::Firmware, 30, 120),
    (Stage::Kernel, 30, 120),
    (Stage::Login, 90, 300),
    (Stage::CloudInit, 120, 420),
    (Stage::KubeadmInit, 300, 1200),
    (Stage::System, 120, 600),
    (Stage::NodeReady, 120, 300),
    (Stage::PodRunning, 60, 240),
    (Stage::ControlPlane, 60, 240),
    (Stage::Rules, 300, 1200),
    (Stage::PowerCut, 5, 10),
    (Stage::KubeadmJoin, 240, 900),
    (Stage::Joined, 180, 1800),
    // One start of the suite; each of its specs adds a third.
    (Stage::Conformance, 300, 1200),
    (Stage::PowerOff, 60, 180),
];

/// How much longer than with hardware a command may take under emulation, as [`Deadlines::command`] has it.
const EMULATED: u32 = 10;

/// The deadlines of one run.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    engine: Engine,
    patience: u32,
}

impl Deadlines {
    /// The deadlines for `engine`, each taken `patience` times (0 counts as 1).
    #[must_use]
    pub const fn new(engine: Engine, patience: u32) -> Self {
        Self { engine, patience: if patience == 0 { 1 } else { patience } }
    }

    /// The same for machines of which `count` share the processors.
    #[must_use]
    pub const fn shared(self, count: u32) -> Self {
        Self { patience: self.patience.saturating_mul(count), ..self }
    }

    /// How long `stage` may take.
    #[must_use]
    pub fn of(&self, stage: Stage) -> Duration {
        let row = TABLE.iter().find(|(row, ..)| *row == stage);
        let (kvm, tcg) = row.map_or((60, 300), |(_, kvm, tcg)| (*kvm, *tcg));
        let seconds = match self.engine {
            Engine::Kvm => kvm,
            Engine::Tcg => tcg,
        };
        Duration::from_secs(seconds).saturating_mul(self.patience)
    }

    /// The time that a user gives a command of theirs, which is meant for hardware.
    #[must_use]
    pub fn stretched(&self, given: Duration) -> Duration {
        given
            .saturating_mul(if self.engine == Engine::Kvm { 1 } else { EMULATED })
            .saturating_mul(self.patience)
    }

    /// How many seconds of this run one of hardware's may take.
    #[must_use]
    pub fn patience(&self) -> f64 {
        self.stretched(Duration::from_secs(1)).as_secs_f64()
    }

    /// How long one short command in the guest may take.
    #[must_use]
    pub fn command(&self) -> Duration {
        Duration::from_secs(if self.engine == Engine::Kvm { 30 } else { 300 }) * self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_is_given_more_time_than_hardware_in_every_stage() {
        for (stage, kvm, tcg) in TABLE {
            assert!(kvm < tcg, "{stage:?}");
            assert_eq!(Deadlines::new(Engine::Tcg, 2).of(stage).as_secs(), 2 * tcg);
        }
        let (kvm, tcg) = (Deadlines::new(Engine::Kvm, 1), Deadlines::new(Engine::Tcg, 2));
        assert_eq!(kvm.stretched(kvm.command()), kvm.command());
        assert_eq!(tcg.stretched(kvm.command()), tcg.command());
    }
}
