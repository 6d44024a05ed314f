//! Sends what is done with orders and reservations afterwards: up to three times under one key, now and
//! then twice on purpose.

use std::{cell::RefCell, rc::Rc, time::Duration};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    Shared,
    picker::{Picker, patience},
};
use crate::{
    client::Client,
    history::{Clock, FollowUp, FollowUpReply, Key, NodeIndex, Series, Span},
    protocol::Inspector,
};

/// Sendings of one write.
const SENDINGS_MAX: u32 = 3;
/// Share of answered writes that are sent again, on purpose.
const REPEAT_SHARE: f64 = 0.05;

/// Sends follow-ups and keeps the records of them.
pub(super) struct Follower {
    id: u32,
    shared: Rc<Shared>,
    /// The second one is only for two writes at once.
    clients: [Client; 2],
    picker: Picker,
    rng: ChaCha8Rng,
    number: u32,
    sent: Vec<FollowUp>,
}

impl Follower {
    pub(super) fn new(id: u32, shared: Rc<Shared>, clients: [Client; 2], rng: ChaCha8Rng) -> Self {
        let picker = Picker::new(clients[0].node_count());
        Self { id, shared, clients, picker, rng, number: 0, sent: Vec::new() }
    }

    /// The choices of whoever sends.
    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    pub(super) fn into_records(self) -> Vec<FollowUp> {
        self.sent
    }

    /// Sends a write until it is answered, at most three times.
    pub(super) async fn send(&mut self, series: Series, of: u64) -> FollowUpReply {
        let key = self.next_key(series);
        for sending in 1..=SENDINGS_MAX {
            let reply = self.send_once(key, of).await;
            if is_answer(reply) {
                if self.rng.random_bool(REPEAT_SHARE) {
                    self.send_once(key, of).await;
                }
                return reply;
            }
            if sending == SENDINGS_MAX || self.shared.over() {
                break;
            }
            let pause = Duration::from_millis(self.rng.random_range(5..60));
            tokio::time::sleep(pause).await;
        }
        FollowUpReply::Unknown
    }

    /// Sends two writes about the same thing at the same time, each under its own key: at most one of them
    /// can be the one that ends it. Gives the better answer.
    pub(super) async fn send_rivals(&mut self, series: [Series; 2], of: u64) -> FollowUpReply {
        let keys = series.map(|series| self.next_key(series));
        let clock = self.shared.clock;
        let nodes = [(); 2].map(|()| self.picker.pick(clock.now(), &mut self.rng));
        let [one, other] = &mut self.clients;
        one.set_timeout(patience(&mut self.rng));
        other.set_timeout(patience(&mut self.rng));
        let inspector = &self.shared.inspector;
        let sent = tokio::join!(
            send_follow_up(keys[0], of, nodes[0], one, inspector, clock),
            send_follow_up(keys[1], of, nodes[1], other, inspector, clock),
        );
        let replies = [self.record(nodes[0], sent.0), self.record(nodes[1], sent.1)];
        let done = replies.into_iter().find(|reply| matches!(reply, FollowUpReply::Done { .. }));
        done.unwrap_or(replies[0])
    }

    fn next_key(&mut self, series: Series) -> Key {
        self.number += 1;
        Key { series, client: self.id, number: self.number }
    }

    async fn send_once(&mut self, key: Key, of: u64) -> FollowUpReply {
        let clock = self.shared.clock;
        let node = self.picker.pick(clock.now(), &mut self.rng);
        let client = &mut self.clients[0];
        client.set_timeout(patience(&mut self.rng));
        let inspector = &self.shared.inspector;
        let sent = send_follow_up(key, of, node, client, inspector, clock).await;
        self.record(node, sent)
    }

    fn record(&mut self, node: usize, sent: FollowUp) -> FollowUpReply {
        self.shared.operation();
        match sent.reply {
            FollowUpReply::Done { index, .. } | FollowUpReply::Ended { index, .. } => {
                self.picker.answered(node);
                self.shared.confirmed(&self.shared.writes_confirmed, index);
            }
            FollowUpReply::Missing { .. } => self.picker.answered(node),
            FollowUpReply::NotApplied | FollowUpReply::AppliedUnseen | FollowUpReply::Unknown => {
                self.picker.failed(node, sent.span.end);
            }
        }
        self.sent.push(sent);
        sent.reply
    }
}

/// Whether sending it again can say nothing else.
fn is_answer(reply: FollowUpReply) -> bool {
    match reply {
        FollowUpReply::Done { .. }
        | FollowUpReply::Ended { .. }
        | FollowUpReply::Missing { .. } => true,
        FollowUpReply::NotApplied | FollowUpReply::AppliedUnseen | FollowUpReply::Unknown => false,
    }
}

/// Sends a write about an order or a reservation once.
pub(crate) async fn send_follow_up(
    key: Key,
    of: u64,
    node: usize,
    client: &mut Client,
    inspector: &RefCell<Inspector>,
    clock: Clock,
) -> FollowUp {
    let start = clock.now();
    let text = key.to_string();
    let reply = match key.series {
        Series::Cancel => {
            let body = format!("{{\"reason\":\"{key}\"}}");
            client.post(node, &format!("/v1/orders/{of}/cancel"), &text, body).await
        }
        Series::Confirm => {
            client.post(node, &format!("/v1/reservations/{of}/confirm"), &text, "").await
        }
        Series::Release => client.delete(node, &format!("/v1/reservations/{of}"), &text).await,
        Series::Buy | Series::Hold => unreachable!("{key} is no follow-up"),
    };
    let span = Span { start, end: clock.now() };
    let asked = reply.as_ref().map_err(|failure| *failure);
    let reply = inspector.borrow_mut().follow_up(asked, key, of);
    FollowUp { key, of, node: NodeIndex::new(node), span, reply }
}
