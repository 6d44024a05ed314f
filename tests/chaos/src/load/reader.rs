//! Readers of items at each level, and readers of confirmed orders.

use std::{rc::Rc, time::Duration};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    Shared,
    picker::{Picker, patience},
};
use crate::{
    client::Client,
    history::{Level, LogIndex, NodeIndex, OrderRead, Read, Span},
    protocol::{ItemSeen, Kind},
};

/// Share of reads that are lists: they show all items at one index.
const LIST_SHARE: f64 = 0.1;
/// The bound that half of the stale reads ask for.
const STALENESS_MAX_MS: u64 = 1_000;

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Linearizably, from any node.
    Linearizable,
    /// From any node, never older than what it or a buyer has seen.
    Session,
    /// Whatever this one node has.
    Stale(usize),
}

/// A reader of items.
pub(super) struct Reader {
    id: u32,
    style: Style,
    shared: Rc<Shared>,
    client: Client,
    picker: Picker,
    rng: ChaCha8Rng,
    /// The newest index that it has seen.
    seen: LogIndex,
    reads: Vec<Read>,
}

impl Reader {
    pub(super) fn new(
        id: u32,
        style: Style,
        shared: Rc<Shared>,
        client: Client,
        rng: ChaCha8Rng,
    ) -> Self {
        let picker = Picker::new(client.node_count());
        Self { id, style, shared, client, picker, rng, seen: 0, reads: Vec::new() }
    }

    /// Reads until the load is over.
    pub(super) async fn run(mut self) -> Vec<Read> {
        while !self.shared.over() {
            self.read().await;
            think(&mut self.rng).await;
        }
        self.reads
    }

    async fn read(&mut self) {
        let now = self.shared.clock.now();
        let node = match self.style {
            Style::Stale(node) => node,
            Style::Linearizable | Style::Session => self.picker.pick(now, &mut self.rng),
        };
        let level = match self.style {
            Style::Linearizable => Level::Linearizable,
            Style::Session => {
                let newest = self.shared.newest_index.get();
                Level::Session(if self.rng.random_bool(0.5) { newest } else { self.seen })
            }
            Style::Stale(_) => Level::Stale,
        };
        self.client.set_timeout(patience(&mut self.rng));
        self.shared.operation();
        let listed = !matches!(level, Level::Session(_)) && self.rng.random_bool(LIST_SHARE);
        let index = if listed { self.list(node, level).await } else { self.one(node, level).await };
        let Some(index) = index else {
            self.picker.failed(node, self.shared.clock.now());
            return;
        };
        self.picker.answered(node);
        self.seen = self.seen.max(index);
        if level == Level::Linearizable {
            self.shared.confirmed(&self.shared.reads_confirmed, index);
        }
    }

    async fn one(&mut self, node: usize, level: Level) -> Option<LogIndex> {
        let item = self.shared.items[self.rng.random_range(0..self.shared.items.len())];
        let mut path = format!("/v1/items/{item}");
        let mut staleness_max_ms = None;
        let kind = match level {
            // The default; said in so many words by half of them.
            Level::Linearizable => {
                if self.rng.random_bool(0.5) {
                    path += "?consistency=linearizable";
                }
                Kind::ReadLinearizable
            }
            Level::Session(min_index) => {
                path += &format!("?consistency=session&min_index={min_index}");
                Kind::ReadSession
            }
            Level::Stale => {
                path += "?consistency=stale";
                if self.rng.random_bool(0.5) {
                    path += &format!("&max_staleness_ms={STALENESS_MAX_MS}");
                    staleness_max_ms = Some(STALENESS_MAX_MS);
                }
                Kind::ReadStale
            }
        };
        let start = self.shared.clock.now();
        let reply = self.client.get(node, &path).await;
        let span = Span { start, end: self.shared.clock.now() };
        let asked = reply.as_ref().map_err(|failure| *failure);
        let mut inspector = self.shared.inspector.borrow_mut();
        let seen = inspector.item_read(kind, asked, item, level, staleness_max_ms);
        drop(inspector);
        let (index, seen) = seen?;
        self.record(node, level, span, index, seen);
        Some(index)
    }

    async fn list(&mut self, node: usize, level: Level) -> Option<LogIndex> {
        let consistency = if level == Level::Stale { "stale" } else { "linearizable" };
        let path = format!("/v1/items?limit=1000&consistency={consistency}");
        let start = self.shared.clock.now();
        let reply = self.client.get(node, &path).await;
        let span = Span { start, end: self.shared.clock.now() };
        let asked = reply.as_ref().map_err(|failure| *failure);
        let shown = self.shared.inspector.borrow_mut().list(asked, level);
        let (index, rows) = shown?;
        for seen in rows {
            self.record(node, level, span, index, seen);
        }
        Some(index)
    }

    fn record(&mut self, node: usize, level: Level, span: Span, index: LogIndex, seen: ItemSeen) {
        let (client, node) = (self.id, NodeIndex::new(node));
        let ItemSeen { id: item, stock, reserved, version } = seen;
        self.reads.push(Read { client, node, level, item, span, index, stock, reserved, version });
    }
}

/// A reader of confirmed orders.
pub(super) struct OrderReader {
    shared: Rc<Shared>,
    client: Client,
    picker: Picker,
    rng: ChaCha8Rng,
    reads: Vec<OrderRead>,
}

impl OrderReader {
    pub(super) fn new(shared: Rc<Shared>, client: Client, rng: ChaCha8Rng) -> Self {
        let picker = Picker::new(client.node_count());
        Self { shared, client, picker, rng, reads: Vec::new() }
    }

    /// Reads until the load is over.
    pub(super) async fn run(mut self) -> Vec<OrderRead> {
        while !self.shared.over() {
            self.read().await;
            think(&mut self.rng).await;
        }
        self.reads
    }

    async fn read(&mut self) {
        let wanted = {
            let orders = self.shared.orders.borrow();
            if orders.is_empty() {
                return;
            }
            // The newest ones are the likeliest to be missing somewhere.
            let from = if self.rng.random_bool(0.5) { orders.len().saturating_sub(8) } else { 0 };
            orders[self.rng.random_range(from..orders.len())]
        };
        let start = self.shared.clock.now();
        let node = self.picker.pick(start, &mut self.rng);
        self.client.set_timeout(patience(&mut self.rng));
        self.shared.operation();
        let path = format!("/v1/orders/{}?consistency=linearizable", wanted.order);
        let reply = self.client.get(node, &path).await;
        let span = Span { start, end: self.shared.clock.now() };
        let asked = reply.as_ref().map_err(|failure| *failure);
        let (order, key) = (wanted.order, wanted.key);
        let found = self.shared.inspector.borrow_mut().order_read(asked, order, key, wanted.lines);
        let Some((index, found, cancelled)) = found else {
            self.picker.failed(node, span.end);
            return;
        };
        self.picker.answered(node);
        self.shared.confirmed(&self.shared.reads_confirmed, index);
        let node = NodeIndex::new(node);
        self.reads.push(OrderRead { order, key, node, span, index, found, cancelled });
    }
}

/// Readers pause between reads, so that they do not take the machine from the buyers.
async fn think(rng: &mut ChaCha8Rng) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(2..12))).await;
}
