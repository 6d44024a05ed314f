//! A buyer: buys or reserves one thing after the other, each under a key of its own, sent up to three times.

use std::{rc::Rc, time::Duration};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    ConfirmedOrder, Shared,
    picker::{Picker, patience},
};
use crate::{
    client::{Client, Failure, Reply},
    history::{Attempt, BuyReply, Key, Line, Lines, NodeIndex, Series, Span},
};

/// Sendings of one buy.
const SENDINGS_MAX: u32 = 3;
/// Pieces that one line asks for.
const QUANTITY_MAX: u32 = 3;
/// Share of buys that are sent to two nodes at once.
const TWIN_SHARE: f64 = 0.02;
/// Share of answered buys that are sent again, on purpose.
const REPEAT_SHARE: f64 = 0.05;
/// Share of answered buys whose key is then used for something else, which must be refused.
const REUSE_SHARE: f64 = 0.005;

/// Seconds that reservations hold: some are over while it is still decided what becomes of them.
const HOLD_SECONDS: [u32; 3] = [1, 2, 4];

/// Where a buy or a reservation is sent.
pub(crate) fn buy_path(key: Key) -> &'static str {
    if key.series == Series::Hold { "/v1/reservations" } else { "/v1/orders" }
}

/// For how many seconds a reservation is made: the same whenever it is sent.
pub(crate) fn hold_seconds(key: Key) -> u32 {
    HOLD_SECONDS[key.number as usize % HOLD_SECONDS.len()]
}

/// The body of a buy or of a reservation. The reference carries the key into the books.
pub(crate) fn buy_body(key: Key, lines: Lines) -> String {
    let mut body = String::with_capacity(128);
    body.push_str("{\"lines\":[");
    for (position, line) in lines.as_slice().iter().enumerate() {
        let comma = if position == 0 { "" } else { "," };
        body += &format!("{comma}{{\"item\":{},\"quantity\":{}}}", line.item, line.quantity);
    }
    body += &format!("],\"reference\":\"{key}\"");
    if key.series == Series::Hold {
        body += &format!(",\"ttl_seconds\":{}", hold_seconds(key));
    }
    body.push('}');
    body
}

/// One buyer.
pub(super) struct Buyer {
    shared: Rc<Shared>,
    /// The second one is only for sending a buy twice at once.
    clients: [Client; 2],
    picker: Picker,
    rng: ChaCha8Rng,
    next: Key,
    attempts: Vec<Attempt>,
}

impl Buyer {
    /// One whose keys are of this series: it buys or it reserves.
    pub(super) fn new(
        series: Series,
        id: u32,
        shared: Rc<Shared>,
        clients: [Client; 2],
        rng: ChaCha8Rng,
    ) -> Self {
        let picker = Picker::new(clients[0].node_count());
        let next = Key { series, client: id, number: 1 };
        Self { shared, clients, picker, rng, next, attempts: Vec::new() }
    }

    /// Buys until the load is over.
    pub(super) async fn run(mut self) -> Vec<Attempt> {
        while !self.shared.over() {
            self.buy().await;
        }
        self.attempts
    }

    /// What was sent so far.
    pub(super) fn into_attempts(self) -> Vec<Attempt> {
        self.attempts
    }

    /// Buys or reserves once. Gives what was made, if its buyer was told of it.
    pub(super) async fn buy(&mut self) -> Option<ConfirmedOrder> {
        let (key, lines) = (self.next, self.choose());
        self.next.number += 1;
        // What is reserved is asked for when it is confirmed.
        if key.series == Series::Buy {
            self.shared.wanted(lines);
        }
        let body = buy_body(key, lines);
        if self.clients[0].node_count() > 1 && self.rng.random_bool(TWIN_SHARE) {
            self.send_twins(key, lines, &body).await;
        }
        for sending in 1..=SENDINGS_MAX {
            let reply = self.send(key, lines, &body).await;
            if matches!(reply, BuyReply::Confirmed { .. } | BuyReply::Refused { .. }) {
                self.afterwards(key, lines, &body).await;
                return match reply {
                    BuyReply::Confirmed { order, .. } => Some(ConfirmedOrder { order, key, lines }),
                    _ => None,
                };
            }
            if sending == SENDINGS_MAX || self.shared.over() {
                break;
            }
            let pause = Duration::from_millis(self.rng.random_range(5..60));
            tokio::time::sleep(pause).await;
        }
        None
    }

    /// Few items and small numbers, so that the buyers are in each other's way.
    fn choose(&mut self) -> Lines {
        let items = &self.shared.items;
        let count = match self.rng.random_range(0..100) {
            0..85 => 1,
            85..95 => 2,
            _ => Lines::MAX,
        };
        let mut places =
            rand::seq::index::sample(&mut self.rng, items.len(), count.min(items.len())).into_vec();
        places.sort_unstable();
        let lines: Vec<Line> = places
            .into_iter()
            .map(|place| Line {
                item: items[place],
                quantity: self.rng.random_range(1..=QUANTITY_MAX),
            })
            .collect();
        Lines::from_slice(&lines).expect("at most MAX lines were chosen")
    }

    async fn send(&mut self, key: Key, lines: Lines, body: &str) -> BuyReply {
        let start = self.shared.clock.now();
        let node = self.picker.pick(start, &mut self.rng);
        let client = &mut self.clients[0];
        client.set_timeout(patience(&mut self.rng));
        let reply = client.post(node, buy_path(key), &key.to_string(), body.to_owned()).await;
        let span = Span { start, end: self.shared.clock.now() };
        self.record(node, key, lines, span, reply)
    }

    /// Sends the same buy to two nodes at the same time.
    async fn send_twins(&mut self, key: Key, lines: Lines, body: &str) {
        let clock = self.shared.clock;
        let start = clock.now();
        let nodes = self.clients[0].node_count();
        let one = self.picker.pick(start, &mut self.rng);
        let other = (one + self.rng.random_range(1..nodes)) % nodes;
        let text = key.to_string();
        let [first, second] = &mut self.clients;
        first.set_timeout(patience(&mut self.rng));
        second.set_timeout(patience(&mut self.rng));
        let timed = async |client: &mut Client, node| {
            let reply = client.post(node, buy_path(key), &text, body.to_owned()).await;
            (reply, Span { start, end: clock.now() })
        };
        let (to_one, to_other) = tokio::join!(timed(first, one), timed(second, other));
        self.record(one, key, lines, to_one.1, to_one.0);
        self.record(other, key, lines, to_other.1, to_other.0);
    }

    /// Sometimes sends an answered buy again, or something else under its key.
    async fn afterwards(&mut self, key: Key, lines: Lines, body: &str) {
        if self.rng.random_bool(REPEAT_SHARE) {
            self.send(key, lines, body).await;
        }
        if self.rng.random_bool(REUSE_SHARE) {
            let mut other = lines.as_slice().to_vec();
            other[0].quantity += 1;
            let other = Lines::from_slice(&other).expect("as many lines as before");
            let node = self.picker.pick(self.shared.clock.now(), &mut self.rng);
            let body = buy_body(key, other);
            let reply = self.clients[0].post(node, buy_path(key), &key.to_string(), body).await;
            let mut inspector = self.shared.inspector.borrow_mut();
            inspector.key_reuse(reply.as_ref().map_err(|failure| *failure), key);
        }
    }

    fn record(
        &mut self,
        node: usize,
        key: Key,
        lines: Lines,
        span: Span,
        reply: Result<Reply, Failure>,
    ) -> BuyReply {
        self.shared.operation();
        let asked = reply.as_ref().map_err(|failure| *failure);
        let reply = self.shared.inspector.borrow_mut().buy(asked, key, lines);
        match reply {
            BuyReply::Confirmed { order, index, .. } => {
                self.picker.answered(node);
                self.shared.confirmed(&self.shared.writes_confirmed, index);
                if key.series == Series::Buy {
                    self.shared.keep(ConfirmedOrder { order, key, lines }, &mut self.rng);
                }
            }
            BuyReply::Refused { index, .. } => {
                self.picker.answered(node);
                self.shared.confirmed(&self.shared.writes_confirmed, index);
            }
            BuyReply::NotApplied | BuyReply::AppliedUnseen | BuyReply::Unknown => {
                self.picker.failed(node, span.end);
            }
        }
        self.attempts.push(Attempt { key, lines, node: NodeIndex::new(node), span, reply });
        reply
    }
}
