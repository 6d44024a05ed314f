//! The judge: a [`History`] goes in, violations come out.
//!
//! Linearizability is decided by the log index that every reply carries: the log *is* the order of all
//! writes, so it is enough to show that every answer fits the state at its index, and that the indexes
//! agree with real time. Everything is sorting and binary search: O(n log n).
//!
//! What the state was at an index comes from the loaded items, the changes of stock and the books of orders
//! and reservations at the end. A book is trusted only as far as the checks on it go: each confirmed order
//! is in it once, as confirmed; each refused one is not; and its numbers have no gap. Where a cancellation
//! or the end of a reservation lies, the ledgers and the change history tell.

mod answers;
mod books;
mod buys;
mod follow_ups;
mod ledger;
mod model;
mod monotonic;
mod orders;
mod reads;
mod real_time;
mod replicas;
mod reservations;
#[cfg(test)]
mod tests;

use crate::history::History;

/// Examples kept of each check's violations; the rest is only counted.
const EXAMPLES_MAX: usize = 5;

/// What one check looked at and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must hold, in words.
    pub name: &'static str,
    /// How many things were looked at. A check that looked at nothing shows nothing.
    pub examined: u64,
    /// How many of them were wrong.
    pub violations: u64,
    /// The first few of them.
    pub examples: Vec<String>,
}

impl Check {
    /// A check that has seen nothing yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, examined: 0, violations: 0, examples: Vec::new() }
    }

    /// Counts one thing looked at.
    pub fn examine(&mut self) {
        self.examined += 1;
    }

    /// Notes that one of them is wrong.
    pub fn violation(&mut self, example: impl FnOnce() -> String) {
        self.violations += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }

    /// Counts one thing looked at, and notes it if it is wrong.
    pub fn expect(&mut self, holds: bool, example: impl FnOnce() -> String) {
        self.examine();
        if !holds {
            self.violation(example);
        }
    }
}

/// Judges a run. The checks are always the same, in the same order.
pub fn check(history: &History) -> Vec<Check> {
    let mut one_answer = answers::new();
    let verdicts = buys::verdicts(&history.attempts, &mut one_answer);
    let steps = follow_ups::steps(&history.follow_ups, &mut one_answer);
    let first = history.replicas.first();
    let book = first.map_or(&[][..], |replica| &replica.orders);
    let held = first.map_or(&[][..], |replica| &replica.reservations);
    let cancelled_at = follow_ups::cancelled_at(history);
    let (ended_at, ends_told) = reservations::ended_at(history, held);
    let (model, never_negative) = model::Model::new(history, book, held);
    let (once, contents) = orders::check(&verdicts, book, held, &history.items);
    vec![
        orders::confirmed_exist(&verdicts, book, held),
        once,
        contents,
        orders::dense(book, held),
        one_answer,
        follow_ups::cancellations(&steps, book, &cancelled_at),
        follow_ups::ends(&steps, held, &ended_at),
        follow_ups::missing(&history.follow_ups, book, held),
        reservations::sold(held, book),
        reservations::in_time(held),
        ends_told,
        never_negative,
        books::check(history, book, held),
        ledger::check(history, book),
        replicas::same_contents(&history.replicas),
        replicas::same_hash(&history.replicas),
        reads::shown_states_were(history, &model),
        reads::refusals_had_reason(history, &model),
        reads::confirmed_orders_found(&history.order_reads, &cancelled_at),
        real_time::check(history, &verdicts, &steps),
        monotonic::check(&history.reads),
        interface(history),
    ]
}

fn interface(history: &History) -> Check {
    let mut check = Check::new("every reply keeps the interface's rules");
    check.examined = history.complaints.examined;
    for (what, (count, examples)) in &history.complaints.kinds {
        for example in examples {
            check.violation(|| format!("{what}: {example}"));
        }
        check.violations += count - examples.len() as u64;
    }
    check
}
