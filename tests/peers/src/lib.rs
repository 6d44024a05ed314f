//! Measures Pygmy with the generator of `pygmy bench`, and with the same generator what others do on
//! the same machine: etcd and PostgreSQL, each with three processes and a majority's disks behind
//! every confirmed write, and a bare HTTP server as the generator's own limit.
//!
//! Only one system is under load at a time, all of them in turn within each round, so that whatever
//! else the machine does meets all of them; ratios are taken within one round.

pub mod chart;
pub mod document;
#[cfg(feature = "peers")]
mod etcd;
mod hello;
pub mod machine;
mod phase;
#[cfg(feature = "peers")]
mod postgres;
mod process;
mod pygmy_cluster;
pub mod results;
pub mod run;
mod system;

pub use phase::{PHASES, Phase, Route};
pub use system::SystemName;
