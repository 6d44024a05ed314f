//! The stock-giver: receives stock at somewhat less than the rate at which it is asked for, so that sales
//! and refusals happen side by side throughout, and now and then writes some off.

use std::{cell::RefCell, rc::Rc, time::Duration};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    Shared,
    picker::{Picker, patience},
};
use crate::{
    client::Client,
    history::{Clock, Span, StockChange, StockOutcome},
    protocol::Inspector,
};

/// How much of the demand is met.
const SUPPLY_PERCENT: u64 = 70;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(15);
/// Between two sendings of the same change.
const RETRY_PAUSE: Duration = Duration::from_millis(30);
/// The most pieces received at once.
const RECEIVED_MAX: u64 = 1_000;

/// The one stock-giver.
pub(super) struct Giver {
    shared: Rc<Shared>,
    client: Client,
    picker: Picker,
    rng: ChaCha8Rng,
    number: u32,
    changes: Vec<StockChange>,
}

impl Giver {
    pub(super) fn new(shared: Rc<Shared>, client: Client, rng: ChaCha8Rng) -> Self {
        let picker = Picker::new(client.node_count());
        Self { shared, client, picker, rng, number: 0, changes: Vec::new() }
    }

    /// Gives until the load is over.
    pub(super) async fn run(mut self) -> Vec<StockChange> {
        let mut met = 0;
        while !self.shared.over() {
            tokio::time::sleep(PAUSE).await;
            let wanted = self.shared.demand.get();
            let due =
                ((wanted - met) * SUPPLY_PERCENT / 100).saturating_sub(self.shared.returned.get());
            let delta = if self.rng.random_bool(0.05) {
                -self.rng.random_range(1..=3)
            } else if due > 0 {
                met = wanted;
                self.shared.returned.set(0);
                due.min(RECEIVED_MAX).cast_signed()
            } else {
                continue;
            };
            self.change(delta).await;
        }
        self.changes
    }

    async fn change(&mut self, delta: i64) {
        let item = self.shared.items[self.rng.random_range(0..self.shared.items.len())];
        let start = self.shared.clock.now();
        self.number += 1;
        let mut change = StockChange {
            number: self.number,
            item,
            delta,
            span: Span { start, end: start },
            outcome: StockOutcome::NotApplied,
        };
        loop {
            let node = self.picker.pick(self.shared.clock.now(), &mut self.rng);
            self.client.set_timeout(patience(&mut self.rng));
            let clock = self.shared.clock;
            send(&mut change, node, &mut self.client, &self.shared.inspector, clock).await;
            self.shared.operation();
            match change.outcome {
                StockOutcome::Applied { index, .. } | StockOutcome::Refused { index } => {
                    self.picker.answered(node);
                    self.shared.confirmed(&self.shared.writes_confirmed, index);
                    break;
                }
                StockOutcome::NotApplied | StockOutcome::Unknown => {
                    self.picker.failed(node, change.span.end);
                }
            }
            if self.shared.over() {
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.changes.push(change);
    }
}

/// Sends a change once and takes over what is known of it now. A sending that certainly had no effect
/// says nothing about an earlier one of which nothing is known.
async fn send(
    change: &mut StockChange,
    node: usize,
    client: &mut Client,
    inspector: &RefCell<Inspector>,
    clock: Clock,
) {
    let path = format!("/v1/items/{}/stock", change.item);
    let key = format!("s{}", change.number);
    let reason = if change.delta < 0 { "damaged" } else { "received" };
    let body = format!("{{\"delta\":{},\"reason\":\"{reason}\"}}", change.delta);
    let reply = client.post(node, &path, &key, body).await;
    let asked = reply.as_ref().map_err(|failure| *failure);
    let outcome = inspector.borrow_mut().stock_change(asked, &key, change.item);
    change.span.end = clock.now();
    if outcome != StockOutcome::NotApplied || change.outcome != StockOutcome::Unknown {
        change.outcome = outcome;
    }
}

/// Repeats a change whose outcome is unknown, on one node after the other, until it is known.
/// Gives up after this many sendings: the outcome is then [`StockOutcome::Unknown`] still.
pub(crate) async fn repeat_until_known(
    change: &mut StockChange,
    sendings_max: usize,
    client: &mut Client,
    inspector: &RefCell<Inspector>,
    clock: Clock,
) {
    for sending in 0..sendings_max {
        if change.outcome != StockOutcome::Unknown {
            return;
        }
        if sending > 0 {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        send(change, sending % client.node_count(), client, inspector, clock).await;
    }
}
