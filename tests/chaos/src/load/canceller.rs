//! One who takes orders back: anybody's, some that are taken back already, and some that do not exist.

use std::{rc::Rc, time::Duration};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{ConfirmedOrder, Shared, follower::Follower};
use crate::{
    client::Client,
    history::{FollowUp, FollowUpReply, Series},
};

/// Share of cancellations of orders that do not exist.
const NO_SUCH_ORDER_SHARE: f64 = 0.03;
/// Share of cancellations that are sent twice at once.
const RIVALS_SHARE: f64 = 0.1;
/// No run has so many orders.
const NO_SUCH_ORDER: u64 = 1 << 40;

/// Takes orders back.
pub(super) struct Canceller {
    shared: Rc<Shared>,
    follower: Follower,
}

impl Canceller {
    pub(super) fn new(id: u32, shared: Rc<Shared>, clients: [Client; 2], rng: ChaCha8Rng) -> Self {
        Self { follower: Follower::new(id, Rc::clone(&shared), clients, rng), shared }
    }

    /// Cancels until the load is over.
    pub(super) async fn run(mut self) -> Vec<FollowUp> {
        while !self.shared.over() {
            self.cancel().await;
            // Most orders stay what they are.
            let pause = self.follower.rng().random_range(5..30);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.follower.into_records()
    }

    async fn cancel(&mut self) {
        if self.follower.rng().random_bool(NO_SUCH_ORDER_SHARE) {
            let of = NO_SUCH_ORDER + self.follower.rng().random_range(0..1000);
            self.follower.send(Series::Cancel, of).await;
            return;
        }
        let Some(ConfirmedOrder { order, lines, .. }) = self.choose() else { return };
        let reply = if self.follower.rng().random_bool(RIVALS_SHARE) {
            self.follower.send_rivals([Series::Cancel; 2], order).await
        } else {
            self.follower.send(Series::Cancel, order).await
        };
        if matches!(reply, FollowUpReply::Done { .. }) {
            self.shared.returned(lines);
        }
    }

    /// Any order, or one that was placed just now: it may be missing somewhere.
    fn choose(&mut self) -> Option<ConfirmedOrder> {
        let orders = self.shared.orders.borrow();
        let rng = self.follower.rng();
        let from = if rng.random_bool(0.5) { orders.len().saturating_sub(8) } else { 0 };
        (!orders.is_empty()).then(|| orders[rng.random_range(from..orders.len())])
    }
}
