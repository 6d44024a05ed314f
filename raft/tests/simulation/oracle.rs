//! What must hold of everything that nodes say and clients see.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use openraft::EntryPayload;
use pygmy_raft::{network::wire::PeerRequest, types::NodeId};
use pygmy_storage::{
    catalog::ItemId,
    codec,
    command::{Outcome, Rejection},
    orders::{Order, OrderId},
    query::{OrderFilter, View},
    verify,
};

use crate::{
    network::{SimNode, leader_in},
    runtime::{Sim, lock},
    trace::Trace,
};

/// What became of a write, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has this outcome, at this index.
    Known(u64, Outcome),
    /// Every attempt certainly had no effect.
    NotApplied,
    /// Some attempt may have had its effect, or may have it yet.
    Unknown,
}

/// A purchase, as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Purchase {
    /// Found again in the order.
    pub(crate) reference: String,
    pub(crate) item: ItemId,
    pub(crate) quantity: u64,
    pub(crate) fate: Fate,
}

/// A change of stock that certainly happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) index: u64,
    pub(crate) item: ItemId,
    pub(crate) delta: i64,
}

/// Something with a beginning and an end in real time, and a place in the log.
#[derive(Debug, Clone)]
struct Span {
    began: Duration,
    ended: Duration,
    index: u64,
    /// Whether the index is that of its own effect; a read's is that of the newest it saw.
    write: bool,
    /// Told when something is wrong.
    #[allow(dead_code, reason = "read by Debug")]
    what: String,
}

#[derive(Debug, Default)]
struct Seen {
    /// Incarnations of nodes, by the term and the node id that they lead with.
    leaders: BTreeMap<(u64, NodeId), String>,
    /// Hashes of entries, by index, term and node id of the leader.
    entries: BTreeMap<(u64, u64, NodeId), u128>,
    /// State hashes by index, with who had it first.
    states: BTreeMap<u64, (u128, String)>,
    /// The newest state that each node has shown to a reader.
    shown: BTreeMap<String, u64>,
    spans: Vec<Span>,
}

/// Sees everything, and tells the trace of what must not be.
#[derive(Debug)]
pub(crate) struct Oracle {
    trace: Arc<Trace>,
    seen: Mutex<Seen>,
}

impl Oracle {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { trace, seen: Mutex::default() })
    }

    /// Election safety: a leader id is that of one incarnation of one node. (In openraft's votes a
    /// term can see several leaders, of rising node ids; what is unique is term and node together.)
    /// Log matching: an index and a leader id have one entry.
    pub(crate) fn see_request(&self, speaker: &str, body: &[u8]) {
        let Ok(request) = codec::unseal::<PeerRequest<Sim>>(body, "a request") else { return };
        let mut seen = lock(&self.seen);
        if let Some(leader) = leader_in(&request) {
            let first = seen.leaders.entry(leader).or_insert_with(|| {
                self.trace.count("leaders");
                speaker.to_owned()
            });
            self.trace.expect(first == speaker, || {
                format!("{first} and {speaker} both lead as {leader:?} (term, node)")
            });
        }
        let PeerRequest::Append(rpc) = request else { return };
        for entry in &rpc.entries {
            let bytes = match &entry.payload {
                EntryPayload::Normal(data) => data.0.to_vec(),
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Membership(membership) => codec::encode(membership),
            };
            let hash = codec::hash128(0, &bytes);
            let leader = entry.log_id.leader_id;
            let place = (entry.log_id.index, leader.term, leader.node_id);
            let first = *seen.entries.entry(place).or_insert(hash);
            self.trace
                .expect(first == hash, || format!("two entries at (index, term, node) {place:?}"));
        }
    }

    /// State-machine safety: at an index there is one state.
    pub(crate) fn see_state(&self, who: &str, node: &SimNode) {
        self.see_view(who, &node.view());
    }

    fn see_view(&self, who: &str, view: &View) {
        let Some(index) = view.state.applied() else { return };
        let hash = view.state.state_hash();
        let mut seen = lock(&self.seen);
        let (first, by) = seen.states.entry(index).or_insert_with(|| (hash, who.to_owned()));
        self.trace.expect(*first == hash, || {
            format!("at index {index}, {who} has another state than {by} had")
        });
    }

    /// What a node showed to a reader: never older than what it has shown before, restarts or not.
    pub(crate) fn see_shown(&self, who: &str, view: &View) {
        self.see_view(who, view);
        let index = view.index();
        let mut seen = lock(&self.seen);
        let before = seen.shown.insert(who.to_owned(), index).unwrap_or(0);
        self.trace.expect(before <= index, || {
            format!("{who} showed index {index} after it had shown {before}")
        });
    }

    /// A write whose outcome became known: its effect lies between beginning and end.
    pub(crate) fn see_write(&self, began: Duration, index: u64, what: &str) {
        self.see_span(began, index, true, what);
    }

    /// A linearizable read.
    pub(crate) fn see_read(&self, began: Duration, index: u64, what: &str) {
        self.see_span(began, index, false, what);
    }

    fn see_span(&self, began: Duration, index: u64, write: bool, what: &str) {
        let (ended, what) = (self.trace.now(), what.to_owned());
        lock(&self.seen).spans.push(Span { began, ended, index, write, what });
    }

    /// Real time and the log agree: what ended before something else began comes before it in the
    /// log; a read sees every write that ended before it began, and none that began after its end.
    pub(crate) fn check_real_time(&self) {
        let mut spans = lock(&self.seen).spans.clone();
        spans.sort_by_key(|span| span.began);
        let mut by_end = spans.clone();
        by_end.sort_by_key(|span| span.ended);
        let mut newest: Option<Span> = None;
        let mut ended = by_end.into_iter().peekable();
        for span in spans {
            while let Some(earlier) = ended.next_if(|earlier| earlier.ended < span.began) {
                if newest.as_ref().is_none_or(|newest| newest.index < earlier.index) {
                    newest = Some(earlier);
                }
            }
            let Some(newest) = &newest else { continue };
            // Two writes are two entries; a read has the index of the newest entry that it saw.
            let holds = match span.write {
                true => span.index > newest.index,
                false => span.index >= newest.index,
            };
            self.trace
                .expect(holds, || format!("real time: {span:?} began after {newest:?} ended"));
        }
    }

    /// Every replica has the same state, and it adds up.
    pub(crate) fn check_replicas(&self, views: &[(String, Arc<View>)]) {
        for (who, view) in views {
            self.see_view(who, view);
            match verify::verify(view) {
                Ok(checks) => {
                    for check in checks.iter().filter(|check| !check.wrong.is_empty()) {
                        self.trace.violation(format!("{who}: {}: {:?}", check.name, check.wrong));
                    }
                }
                Err(error) => self.trace.violation(format!("{who} cannot be verified: {error}")),
            }
        }
        let hash = |view: &View| (view.state.applied(), view.state.state_hash());
        let first = views.first().map(|(_, view)| hash(view));
        for (who, view) in views {
            self.trace
                .expect(Some(hash(view)) == first, || format!("{who} differs from the first"));
        }
    }

    /// What clients were told is what the store has.
    pub(crate) fn check_orders(&self, view: &View, bought: &[Purchase], delivered: &[Delivery]) {
        let Ok(page) = view.orders(&OrderFilter::default(), None, usize::MAX >> 1) else {
            return self.trace.violation("the orders cannot be read");
        };
        let mut found: BTreeMap<&str, Vec<&Order>> = BTreeMap::new();
        for order in &page.rows {
            found.entry(order.reference.as_deref().unwrap_or_default()).or_default().push(order);
        }
        for purchase in bought {
            let orders = found.remove(purchase.reference.as_str()).unwrap_or_default();
            let there: Vec<(u64, OrderId)> = orders.iter().map(|o| (o.index, o.id)).collect();
            let right = match &purchase.fate {
                Fate::Known(index, Outcome::Ordered(id)) => there == [(*index, *id)],
                Fate::Known(_, _) | Fate::NotApplied => there.is_empty(),
                Fate::Unknown => there.len() <= 1,
            };
            self.trace.expect(right, || format!("{purchase:?} has the orders {there:?}"));
            let same = orders.iter().all(|order| {
                matches!(&order.lines[..], [line] if (line.item, line.quantity) == (purchase.item, purchase.quantity))
            });
            self.trace.expect(same, || format!("{purchase:?} has another order: {orders:?}"));
        }
        self.trace.expect(found.is_empty(), || format!("nobody placed {:?}", found.keys()));
        self.check_stock(&page.rows, bought, delivered);
    }

    /// Stock, followed along the log: never oversold, and refused only what was not there.
    fn check_stock(&self, orders: &[Arc<Order>], bought: &[Purchase], delivered: &[Delivery]) {
        enum Event<'a> {
            Delivered(&'a Delivery),
            Sold(&'a Order),
            Refused { item: ItemId, requested: u64, available: u64 },
            Unknown(ItemId),
        }
        let mut events: Vec<(u64, Event<'_>)> = Vec::new();
        events.extend(delivered.iter().map(|d| (d.index, Event::Delivered(d))));
        events.extend(orders.iter().map(|order| (order.index, Event::Sold(order))));
        for purchase in bought {
            match &purchase.fate {
                Fate::Known(
                    index,
                    Outcome::Rejected(Rejection::OutOfStock { item, requested, available, .. }),
                ) => {
                    let (item, requested, available) = (*item, *requested, *available);
                    events.push((*index, Event::Refused { item, requested, available }));
                }
                Fate::Known(index, Outcome::Rejected(Rejection::UnknownItem { item, .. })) => {
                    events.push((*index, Event::Unknown(*item)));
                }
                Fate::Known(_, Outcome::Rejected(rejection)) => {
                    self.trace.violation(format!("{purchase:?} was refused: {rejection}"));
                }
                Fate::Known(..) | Fate::NotApplied | Fate::Unknown => {}
            }
        }
        events.sort_by_key(|(index, _)| *index);
        let mut stock: BTreeMap<ItemId, i64> = BTreeMap::new();
        for (index, event) in events {
            match event {
                Event::Delivered(delivery) => {
                    *stock.entry(delivery.item).or_default() += delivery.delta;
                }
                Event::Sold(order) => {
                    for line in &order.lines {
                        let left = stock.entry(line.item).or_default();
                        *left -= i64::try_from(line.quantity).expect("purchases are small");
                        self.trace.expect(*left >= 0, || format!("oversold at index {index}"));
                    }
                }
                Event::Unknown(item) => self.trace.expect(!stock.contains_key(&item), || {
                    format!("item {item} is unknown at index {index}, after it was put there")
                }),
                Event::Refused { item, requested, available } => {
                    let left = stock.get(&item).copied().unwrap_or_default();
                    let right = i64::try_from(available) == Ok(left) && requested > available;
                    self.trace.expect(right, || {
                        format!("refused at index {index}: {requested} of {item} wanted, {available} there, in truth {left}")
                    });
                }
            }
        }
    }
}
