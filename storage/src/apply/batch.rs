//! A batch of orders in one entry: all that are new are placed, or none of them.
//!
//! First every order is planned, with what the orders before it want counted as gone; only when none
//! was refused does anything happen. Orders with keys of their own are judged key by key: one that an
//! earlier entry placed is replayed and wants nothing more, one that an earlier entry refused stays
//! refused, and the rest must all be placed. A refusal is remembered under the order's key, so that
//! a batch that was refused and arrives once more, late, is refused again. An order that was only
//! not placed because of others leaves its key free.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Effects, Plan, book, plan, remember, remembered, sell};
use crate::{
    catalog::ItemId,
    command::{
        BatchOrder, BatchOutcome, BatchRefusal, KeyHash, LogIndex, Outcome, PlaceOrders, Rejection,
    },
    orders::OrderId,
    working::Working,
};

/// The most refused orders of a batch that are told. After so many the others are not judged any
/// more: what is remembered of a batch stays small.
pub const REFUSALS_TOLD_MAX: usize = 16;

/// What is known of an order before anything happens.
enum Judged {
    New(Plan),
    Replayed(OrderId),
    /// Refused here and now.
    Refused(Rejection),
    /// Refused by what its key says.
    RefusedByKey {
        why: Rejection,
        replayed: bool,
    },
}

pub(super) fn place_orders(
    working: &mut Working,
    index: LogIndex,
    batch: &PlaceOrders,
    effects: &mut Effects,
) -> Outcome {
    let first = working.state.order_count() + 1;
    let mut count = 0;
    let (mut replayed, mut refused) = (Vec::new(), Vec::new());
    let mut plans = Vec::with_capacity(batch.orders.len());
    let mut taken: BTreeMap<ItemId, u64> = BTreeMap::new();
    let mut seen: BTreeSet<KeyHash> = BTreeSet::new();
    for (position, one) in (0u32..).zip(&batch.orders) {
        count = position + 1;
        let judged = match by_key(working, one, &mut seen) {
            Some(judged) => judged,
            None if refused.len() == REFUSALS_TOLD_MAX => continue,
            None => {
                let taken = |item| taken.get(&item).copied().unwrap_or(0);
                plan(&working.state, &one.order.lines, taken)
                    .map_or_else(Judged::Refused, Judged::New)
            }
        };
        match judged {
            Judged::New(plan) => {
                for wanted in &plan.wanted {
                    // Never more than is available, so it cannot overflow.
                    *taken.entry(wanted.item.id).or_default() += wanted.quantity;
                }
                plans.push((one, plan));
            }
            Judged::Replayed(id) => replayed.push((position, id)),
            Judged::Refused(why) => {
                if let Some(claim) = one.key {
                    remember(working, index, claim, Outcome::Rejected(why.clone()));
                }
                refused.push(BatchRefusal { position, why, replayed: false });
            }
            Judged::RefusedByKey { why, replayed } if refused.len() < REFUSALS_TOLD_MAX => {
                refused.push(BatchRefusal { position, why, replayed });
            }
            Judged::RefusedByKey { .. } => {}
        }
    }
    if refused.is_empty() {
        // From here on nothing is refused: all of it happens.
        for (item, pieces) in taken {
            let item = working.state.items.get(&item).cloned();
            let item = item.expect("the plans found the item in this state");
            sell(&mut working.state, index, &item, pieces, effects);
        }
        for (one, plan) in plans {
            let id = book(&mut working.state, index, &one.order, plan);
            if let Some(claim) = one.key {
                remember(working, index, claim, Outcome::Ordered(id));
            }
        }
    }
    Outcome::Batch(Arc::new(BatchOutcome { count, first, replayed, refused }))
}

/// Whether the keys of a batch's orders say what becomes of each, so that none is new.
pub(super) fn is_known(working: &Working, batch: &PlaceOrders) -> bool {
    let known = |one: &BatchOrder| one.key.is_some_and(|key| remembered(working, &key).is_some());
    batch.orders.iter().all(known)
}

/// What an order's key says of it, if anything.
fn by_key(working: &Working, one: &BatchOrder, seen: &mut BTreeSet<KeyHash>) -> Option<Judged> {
    let claim = one.key?;
    let reused = Judged::RefusedByKey { why: Rejection::KeyReused, replayed: false };
    // The interface refuses two orders with one key; they must not become two orders here either.
    if !seen.insert(claim.key) {
        return Some(reused);
    }
    let record = remembered(working, &claim)?;
    if record.fingerprint != claim.fingerprint {
        return Some(reused);
    }
    Some(match &record.outcome {
        Outcome::Ordered(id) => Judged::Replayed(*id),
        Outcome::Rejected(why) => Judged::RefusedByKey { why: why.clone(), replayed: true },
        // The fingerprint says that it was an order, and these are none.
        Outcome::Item(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => reused,
    })
}
