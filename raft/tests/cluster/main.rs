//! Clusters of ours in one process: real HTTP between the peers, cut links, crashes, lost disks.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod disks;
mod forming;
mod harness;
mod partitions;
mod restarts;
mod restoring;
mod serving;
