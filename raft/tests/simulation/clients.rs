//! Those who use the store: buyers, readers, and who fills the shelves.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use openraft_rt::AsyncRuntime;
use pygmy_raft::{
    node::{Freshness, WriteError},
    types::Reply,
};
use pygmy_storage::{
    catalog::StockReason,
    command::{
        ChangeStock, Command, KeyClaim, Outcome, PlaceOrder, PlaceOrderLine, Precondition, PutItem,
        StockChange,
    },
};

use crate::{
    oracle::{Delivery, Fate, Purchase},
    runtime::{Chance, Runtime, lock},
    world::{NODES, NoAnswer, World},
};

pub(crate) const ITEMS: u64 = 3;
const FIRST_STOCK: u64 = 50;
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_millis(700);

/// What all clients did, for the oracle.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) bought: Mutex<Vec<(Purchase, Option<KeyClaim>, Command)>>,
    pub(crate) delivered: Mutex<Vec<Delivery>>,
    /// Changes of stock that are not known to have happened.
    pub(crate) open: Mutex<Vec<(KeyClaim, Command)>>,
}

/// Sends a write to a node, once.
pub(crate) async fn write_once(
    world: &World,
    who: usize,
    key: Option<KeyClaim>,
    command: &Command,
) -> Result<Reply, Fate> {
    let command = command.clone();
    let write = world.ask(who, |node| async move { node.write(key, command, PATIENCE).await });
    // The client's own clock runs out a little later than the node's.
    match Runtime::timeout(PATIENCE + Duration::from_millis(100), write).await {
        Ok(Ok(Ok(reply))) => Ok(reply),
        Ok(Ok(Err(error))) if error.not_applied() => Err(Fate::NotApplied),
        Ok(Ok(Err(WriteError::LeadershipLost | WriteError::Timeout))) => Err(Fate::Unknown),
        Ok(Ok(Err(error))) => {
            world.trace.violation(format!("a write error of no kind: {error}"));
            Err(Fate::Unknown)
        }
        Ok(Err(NoAnswer::Down)) => Err(Fate::NotApplied),
        Ok(Err(NoAnswer::Lost)) | Err(_) => Err(Fate::Unknown),
    }
}

/// Sends a write with a key to any nodes, so often, or until its outcome is known.
pub(crate) async fn write(
    world: &World,
    chance: &Chance,
    attempts: u64,
    key: Option<KeyClaim>,
    command: &Command,
) -> (Fate, Option<Reply>) {
    let mut fate = Fate::NotApplied;
    for _ in 0..attempts {
        match write_once(world, chance.index(NODES), key, command).await {
            Ok(reply) => {
                let applied = reply.applied.clone();
                return (Fate::Known(applied.index, applied.outcome), Some(reply));
            }
            Err(Fate::Unknown) => fate = Fate::Unknown,
            Err(_) => {}
        }
        Runtime::sleep(chance.millis(5, 60)).await;
    }
    (fate, None)
}

/// Buys until told to stop: with a key, retried on any node; some twice at once; some without a
/// key, tried once.
pub(crate) async fn buy(world: Arc<World>, name: String, ledger: Arc<Ledger>, until: Duration) {
    let chance = Chance::new(world.seed, &name);
    let mut number = 0;
    while world.trace.is_before(until) {
        number += 1;
        let reference = format!("{name}-{number}");
        let (item, quantity) = (chance.within(1, ITEMS + 1), chance.within(1, 4));
        let command = Command::PlaceOrder(PlaceOrder {
            lines: vec![PlaceOrderLine { item, quantity, expected_price_cents: None }],
            customer: Some(name.clone()),
            reference: Some(reference.clone()),
        });
        let key = (!chance.percent(10)).then(|| KeyClaim::new(&reference, &command));
        let attempts = if key.is_some() { chance.within(1, 5) } else { 1 };
        let began = world.trace.now();
        let twice = key.is_some() && chance.percent(15);
        if twice {
            let (there, command, other) = (world.clone(), command.clone(), chance.index(NODES));
            let again = async move { drop(write_once(&there, other, key, &command).await) };
            drop(world.scope.spawn(again));
        }
        let (mut fate, reply) = write(&world, &chance, attempts, key, &command).await;
        if fate == Fate::NotApplied && twice {
            fate = Fate::Unknown;
        }
        world.trace.event(format!("{reference} key {} {fate:?}", key.is_some()));
        match &fate {
            Fate::Known(index, outcome) => {
                world.oracle.see_write(began, *index, &reference);
                match outcome {
                    Outcome::Ordered(_) => world.trace.count("orders confirmed"),
                    _ => world.trace.count("orders refused"),
                }
                if reply.is_some_and(|reply| reply.applied.replayed) {
                    world.trace.count("outcomes replayed");
                }
            }
            Fate::NotApplied => world.trace.count("purchases not applied"),
            Fate::Unknown => world.trace.count("purchases unknown"),
        }
        let purchase = Purchase { reference, item, quantity, fate };
        lock(&ledger.bought).push((purchase, key, command));
        Runtime::sleep(chance.millis(1, 15)).await;
    }
}

/// Reads linearizably from any node, and sometimes whatever a node has.
pub(crate) async fn read(world: Arc<World>, name: String, until: Duration) {
    let chance = Chance::new(world.seed, &name);
    while world.trace.is_before(until) {
        let who = chance.index(NODES);
        let linearizable = chance.percent(70);
        let freshness = if linearizable { Freshness::Linearizable } else { Freshness::Stale(None) };
        let began = world.trace.now();
        let (oracle, address) = (world.oracle.clone(), world.address(who).to_owned());
        let read = world.ask(who, |node| async move {
            let view = node.read(freshness, PATIENCE).await?;
            oracle.see_shown(&address, &view);
            if linearizable {
                oracle.see_read(began, view.index(), &address);
            }
            Ok::<u64, pygmy_raft::node::ReadError>(view.index())
        });
        match read.await {
            Ok(Ok(index)) => {
                world.trace.event(format!("{name} read {freshness:?} {index} of {who}"));
                world.trace.count(if linearizable { "linearizable reads" } else { "stale reads" });
            }
            Ok(Err(error)) => world.trace.event(format!("{name} read nothing of {who}: {error}")),
            Err(_) => {}
        }
        Runtime::sleep(chance.millis(2, 30)).await;
    }
}

/// Fills the shelves: some pieces in, sometimes some out.
pub(crate) async fn supply(world: Arc<World>, ledger: Arc<Ledger>, until: Duration) {
    let chance = Chance::new(world.seed, "supplier");
    for item in 1..=ITEMS {
        let command = Command::PutItem(PutItem {
            id: item,
            title: format!("item {item}"),
            topic: "simulated".to_owned(),
            price_cents: 100 * item,
            stock: Some(FIRST_STOCK),
            precondition: Precondition::Absent,
        });
        change(&world, &chance, &ledger, 100, &format!("item-{item}"), command).await;
    }
    let mut number = 0;
    while world.trace.is_before(until) {
        Runtime::sleep(chance.millis(100, 300)).await;
        number += 1;
        let item = chance.within(1, ITEMS + 1);
        let out = chance.percent(20);
        let pieces =
            i64::try_from(chance.within(1, if out { 3 } else { 30 })).expect("it is small");
        let command = Command::ChangeStock(ChangeStock {
            item,
            change: StockChange::Delta(if out { -pieces } else { pieces }),
            reason: if out { StockReason::Damaged } else { StockReason::Received },
            reference: None,
            precondition: Precondition::None,
        });
        change(&world, &chance, &ledger, 3, &format!("supply-{number}"), command).await;
    }
}

async fn change(
    world: &World,
    chance: &Chance,
    ledger: &Ledger,
    attempts: u64,
    name: &str,
    command: Command,
) {
    let key = KeyClaim::new(name, &command);
    let began = world.trace.now();
    let (fate, _) = write(world, chance, attempts, Some(key), &command).await;
    world.trace.event(format!("{name} {fate:?}"));
    match fate {
        Fate::Known(index, outcome) => {
            world.oracle.see_write(began, index, name);
            note_change(ledger, &command, index, &outcome);
        }
        Fate::NotApplied => {}
        Fate::Unknown => lock(&ledger.open).push((key, command)),
    }
}

/// Notes a change of stock whose outcome is known.
pub(crate) fn note_change(ledger: &Ledger, command: &Command, index: u64, outcome: &Outcome) {
    let Outcome::Item(item) = outcome else { return };
    let delta = match command {
        Command::ChangeStock(ChangeStock { change: StockChange::Delta(delta), .. }) => *delta,
        Command::PutItem(put) => i64::try_from(put.stock.unwrap_or(0)).expect("it is small"),
        _ => 0,
    };
    lock(&ledger.delivered).push(Delivery { index, item: item.id, delta });
}
