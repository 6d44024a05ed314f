//! One who reserves, and then confirms, gives back, or lets the time run out, sometimes all at once.

use std::{collections::VecDeque, rc::Rc};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{ConfirmedOrder, Shared, buyer::Buyer, follower::Follower};
use crate::{
    client::Client,
    history::{Attempt, FollowUp, FollowUpReply, Series},
};

/// Share of reservations that are confirmed at once.
const CONFIRMED_SHARE: f64 = 0.5;
/// Share of the others that are given back at once. What is left is left alone for a time.
const RELEASED_SHARE: f64 = 0.4;
/// Share of ends that are asked for twice at once, by different requests.
const RIVALS_SHARE: f64 = 0.15;
/// Share of confirmations of reservations that do not exist.
const NO_SUCH_RESERVATION_SHARE: f64 = 0.02;
/// No run has so many reservations.
const NO_SUCH_RESERVATION: u64 = 1 << 40;
/// So many are left alone; the oldest of more is looked at again, and its time is about up.
const LEFT_ALONE: usize = 50;

/// Reserves.
pub(super) struct Holder {
    shared: Rc<Shared>,
    buyer: Buyer,
    follower: Follower,
    left_alone: VecDeque<ConfirmedOrder>,
}

impl Holder {
    pub(super) fn new(
        id: u32,
        shared: &Rc<Shared>,
        clients: [[Client; 2]; 2],
        rngs: [ChaCha8Rng; 2],
    ) -> Self {
        let [to_reserve, to_end] = clients;
        let [buying, ending] = rngs;
        Self {
            buyer: Buyer::new(Series::Hold, id, Rc::clone(shared), to_reserve, buying),
            follower: Follower::new(id, Rc::clone(shared), to_end, ending),
            shared: Rc::clone(shared),
            left_alone: VecDeque::new(),
        }
    }

    /// Reserves until the load is over.
    pub(super) async fn run(mut self) -> (Vec<Attempt>, Vec<FollowUp>) {
        while !self.shared.over() {
            if let Some(held) = self.buyer.buy().await {
                self.settle(held).await;
            }
            if self.left_alone.len() > LEFT_ALONE
                && let Some(oldest) = self.left_alone.pop_front()
            {
                self.end(oldest).await;
            }
            if self.follower.rng().random_bool(NO_SUCH_RESERVATION_SHARE) {
                let of = NO_SUCH_RESERVATION + self.follower.rng().random_range(0..1000);
                self.follower.send(Series::Confirm, of).await;
            }
        }
        (self.buyer.into_attempts(), self.follower.into_records())
    }

    async fn settle(&mut self, held: ConfirmedOrder) {
        let rng = self.follower.rng();
        if rng.random_bool(CONFIRMED_SHARE) || rng.random_bool(RELEASED_SHARE) {
            self.end(held).await;
        } else {
            self.left_alone.push_back(held);
        }
    }

    /// Confirms or releases, or tries both at once.
    async fn end(&mut self, held: ConfirmedOrder) {
        let rng = self.follower.rng();
        let kinds = [(); 2].map(|()| {
            if rng.random_bool(CONFIRMED_SHARE) { Series::Confirm } else { Series::Release }
        });
        let reply = if rng.random_bool(RIVALS_SHARE) {
            self.follower.send_rivals(kinds, held.order).await
        } else {
            self.follower.send(kinds[0], held.order).await
        };
        if let FollowUpReply::Done { order: Some(order), .. } = reply {
            self.shared.wanted(held.lines);
            // The order has the reservation's reference.
            self.shared.keep(ConfirmedOrder { order, ..held }, self.follower.rng());
        }
    }
}
