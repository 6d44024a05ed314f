//! One case of the instruction counts, run under valgrind by `scripts/instructions.sh`:
//! `instructions CASE ROUNDS`.
//!
//! Counts, not times: they do not depend on what else the machine does. The set-up of a case is the
//! same for any number of rounds, so that the difference of two lengths is the rounds alone. The
//! engine is memory, nothing is random, and the allocator is the program's own.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod inline;

use std::{hint::black_box, process::ExitCode, sync::Arc};

use inline::{Log, purchase, runtime};
use pygmy_storage::{
    apply::{Effects, apply},
    command::{BatchOrder, Command, PlaceOrders, Policy, Precondition, Proposal, PutItem},
    engine::MemoryEngine,
    history::History,
    query::View,
    working::Working,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ITEMS: u64 = 1_000;
/// Idempotency records kept; reached before anything is counted.
const KEYS: u64 = 1_000;
/// The most rounds, which the set-up prepares in any case.
const ROUNDS_MAX: u64 = 4_096;
const BATCH: u64 = 50;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = args.get(1).and_then(|text| text.parse().ok()).filter(|n| *n <= ROUNDS_MAX);
    match (args.first().map(String::as_str), rounds) {
        (Some("buy"), Some(rounds)) => buy(rounds),
        (Some("batch"), Some(rounds)) => batch(rounds),
        (Some("append"), Some(rounds)) => append(rounds),
        (Some("lookup"), Some(rounds)) => lookup(rounds),
        // What `cargo bench` gives to everything that it runs.
        (Some("--bench"), _) => println!("instructions: counted by scripts/instructions.sh"),
        _ => {
            eprintln!("usage: instructions buy|batch|append|lookup ROUNDS (at most {ROUNDS_MAX})");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// A state that entries are applied to as the state machine does it.
struct Store {
    working: Working,
    effects: Effects,
}

impl Store {
    /// One that has sold before.
    fn new() -> Self {
        let mut store = Self { working: Working::default(), effects: Effects::default() };
        let policy = Policy { key_limit: KEYS, ..Policy::default() };
        store.apply(&encode(Command::SetPolicy(policy)));
        for id in 1..=ITEMS {
            let put = PutItem {
                id,
                title: format!("The title of item {id}"),
                topic: format!("Topic {}", id % 20),
                price_cents: 1_999,
                stock: Some(1_000_000_000),
                precondition: Precondition::None,
            };
            store.apply(&encode(Command::PutItem(put)));
        }
        for number in 0..2 * KEYS {
            store.apply(&purchase(number, ITEMS).encode());
        }
        store
    }

    /// Decodes an entry and applies it.
    fn apply(&mut self, entry: &[u8]) {
        let proposal = Proposal::decode(entry).unwrap();
        let index = self.working.state().applied().map_or(0, |index| index + 1);
        black_box(apply(&mut self.working, index, &proposal, &mut self.effects));
        self.effects.items.clear();
        self.effects.reservations.clear();
    }

    fn apply_all(&mut self, entries: &[Vec<u8>], rounds: u64) {
        entries.iter().zip(0..rounds).for_each(|(entry, _)| self.apply(entry));
    }
}

fn encode(command: Command) -> Vec<u8> {
    Proposal { stamp_ms: 1_700_000_000_000, key: None, command }.encode()
}

/// A keyed purchase in apply.
fn buy(rounds: u64) {
    let mut store = Store::new();
    let entries: Vec<_> =
        (0..ROUNDS_MAX).map(|number| purchase(10_000 + number, ITEMS).encode()).collect();
    store.apply_all(&entries, rounds);
    // What was made is not taken apart again: that would grow with the rounds and be counted.
    std::mem::forget(store);
}

/// A batch of orders with keys of their own in apply.
fn batch(rounds: u64) {
    let mut store = Store::new();
    let order = |number| match purchase(number, ITEMS) {
        Proposal { key, command: Command::PlaceOrder(order), .. } => BatchOrder { key, order },
        other => panic!("a purchase is an order, and not {other:?}"),
    };
    let entries: Vec<_> = (0..ROUNDS_MAX / 8)
        .map(|number| {
            let first = 10_000 + number * BATCH;
            let orders = (first..first + BATCH).map(order).collect();
            encode(Command::PlaceOrders(PlaceOrders { orders }))
        })
        .collect();
    store.apply_all(&entries, rounds);
    std::mem::forget(store);
}

/// An append of 32 entries to the log, up to where it is durable.
fn append(rounds: u64) {
    runtime().block_on(async {
        let mut log = Log::open();
        let appends: Vec<_> = (0..ROUNDS_MAX / 8).map(|_| log.entries()).collect();
        let mut appends = appends.into_iter();
        for _ in 0..rounds {
            log.append(appends.next().unwrap()).await;
        }
        std::mem::forget((appends, log));
    });
}

/// A lookup of an item.
fn lookup(rounds: u64) {
    let state = Store::new().working.state().clone();
    let view = View { state, history: Arc::new(History::new(Arc::new(MemoryEngine::new()))) };
    for number in 0..rounds {
        black_box(view.item(black_box(number.wrapping_mul(7_919) % ITEMS + 1)));
    }
}
