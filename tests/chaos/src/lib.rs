//! Chaos for Pygmy: a cluster of its own, load on it, faults in it, and a checker of what it said.
//!
//! - [`cluster`]: real processes of the real binary, started, killed, paused and healed.
//! - [`client`]: keep-alive HTTP connections to the nodes; [`protocol`]: what a reply means.
//! - [`load`]: buyers, those who reserve or cancel, the stock-giver and readers, which record all they saw
//!   in [`history`].
//! - [`faults`]: a plan made from a seed, and its execution.
//! - [`check`]: the judge: a history goes in, violations come out. It starts nothing and asks nobody.
//! - [`run`], [`failover`], [`mod@bench`]: the three things the program does; [`report`]: how it says so.
//! - [`collect`] reads out what the replicas hold; [`gaps`] finds how long nothing was confirmed.
//!
//! The cluster is judged by its HTTP interface only: nothing here reads a node's files.

pub mod bench;
pub mod check;
pub mod client;
pub mod cluster;
pub mod collect;
pub mod failover;
pub mod faults;
pub mod gaps;
pub mod history;
pub mod load;
pub mod protocol;
pub mod report;
pub mod run;
