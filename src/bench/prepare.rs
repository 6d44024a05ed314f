//! The items that a run needs, put before it begins.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::mix::{Items, Kind, Operation};
use super::target::{Fault, Session, Target};

/// Pieces of each item: more than any run sells.
pub const STOCK: u64 = 1_000_000_000;
/// Clients that put them.
const CLIENTS: u32 = 64;
/// How often one put is tried: a cluster may elect a leader meanwhile.
const TRIES: u32 = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Puts all items, and tells from time to time how many are there. Inside a `LocalSet`.
pub async fn prepare<T: Target>(
    target: &T,
    items: Items,
    progress: impl Fn(u32),
) -> Result<(), Fault> {
    let next = Rc::new(Cell::new(0));
    let failed = Rc::new(RefCell::new(None));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS.min(items.count) {
        let mut session = target.session(client);
        let (next, failed) = (Rc::clone(&next), Rc::clone(&failed));
        clients.spawn_local(async move {
            while next.get() < items.count && failed.borrow().is_none() {
                let place = next.replace(next.get() + 1);
                if let Err(fault) = put(&mut session, items.id(place), place).await {
                    *failed.borrow_mut() = Some(fault);
                }
            }
        });
    }
    loop {
        tokio::select! {
            ended = clients.join_next() => if ended.is_none() { break },
            () = sleep(PAUSE) => progress(next.get().min(items.count)),
        }
    }
    match failed.take() {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

async fn put(session: &mut impl Session, item: u64, place: u32) -> Result<(), Fault> {
    let operation = Operation { kind: Kind::Put, items: &[item], number: place.into() };
    let mut tries = 1;
    loop {
        match session.perform(&operation).await {
            Err(fault) if fault.is_outage && tries < TRIES => {
                tries += 1;
                sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}
