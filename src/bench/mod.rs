//! The load generator: a mix of operations against anything that is a [`Target`].
//!
//! It has two loops. In the *closed* loop each client sends its next operation when it has the reply
//! to the one before: it finds the throughput. In the *open* loop operations are due at fixed times,
//! whether or not the target keeps up, and a latency counts from the time at which its operation was
//! due: a target that stands still for a second shows that second in every operation that it kept
//! waiting (no coordinated omission).
//!
//! It shares the machine with what it measures, so what it costs itself is measured too. Everything
//! runs on one thread, inside a [`tokio::task::LocalSet`].
//!
//! It never judges: what failed is counted and told, and who reads the figures decides.

mod mix;
mod outcome;
mod prepare;
mod run;
mod schedule;
mod store;
mod tally;
mod target;

pub use mix::{Items, Kind, Mix, Operation, Picker};
pub use outcome::{End, OpenLoop, Outcome, Second};
pub use prepare::{STOCK, prepare};
pub use run::{Plan, run};
pub use store::Store;
pub use tally::Tally;
pub use target::{Fault, Session, Target};

#[cfg(test)]
mod tests;
