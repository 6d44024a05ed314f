//! The program as its users run it: real processes, real files, a facade in front.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod backups;
mod batches;
mod bench;
mod damage;
mod feeds;
mod fleet;
mod imports;
mod leaving;
mod policies;
mod reservations;
mod scenarios;
mod several_addresses;
mod single;
mod strangers;
mod while_away;
