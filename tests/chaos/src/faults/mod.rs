//! Faults: what is done to the cluster, planned from a seed ([`plan`]) and carried out ([`inject`]).

pub mod inject;
pub mod plan;

use std::fmt;

use clap::ValueEnum;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum FaultKind {
    /// SIGKILL of a node.
    Kill,
    /// SIGKILL of the leader.
    KillLeader,
    /// SIGKILL of a node, and again while it recovers.
    KillAgain,
    /// SIGSTOP of a node, for longer than the election timeout.
    Pause,
    /// SIGSTOP of the leader.
    PauseLeader,
    /// SIGTERM of a node: it leaves in order.
    Stop,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// SIGTERM of all nodes at once.
    RestartAll,
}

impl FaultKind {
    /// What a run does when it is not told.
    pub const DEFAULT: [Self; 7] = [
        Self::Kill,
        Self::KillLeader,
        Self::KillAgain,
        Self::Pause,
        Self::PauseLeader,
        Self::Stop,
        Self::KillAll,
    ];

    /// Whether it takes every node, and with them the quorum.
    pub fn takes_all(self) -> bool {
        matches!(self, Self::KillAll | Self::RestartAll)
    }

    /// Whether it takes the leader, whoever that is.
    pub fn takes_leader(self) -> bool {
        matches!(self, Self::KillLeader | Self::PauseLeader)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no kind is skipped");
        out.write_str(value.get_name())
    }
}
