//! The load: buyers, those who reserve, those who cancel, a stock-giver and readers, each a task that sends
//! one request at a time, or two that are in each other's way.
//!
//! All tasks share one thread, so that they cost the cluster, with which they share the machine, as little
//! as possible. Each keeps its own records and hands them over when it ends.

mod buyer;
mod canceller;
mod follower;
mod giver;
mod holder;
mod picker;
mod reader;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;

pub(crate) use self::{
    buyer::{buy_body, buy_path, hold_seconds},
    follower::send_follow_up,
    giver::repeat_until_known,
};
use crate::{
    cluster::Cluster,
    history::{
        Attempt, Clock, FollowUp, InitialItem, ItemId, Key, Lines, LogIndex, OrderRead, Read,
        Series, StockChange,
    },
    protocol::Inspector,
};

/// Confirmed orders that are kept to be read again; beyond that a random one makes room.
const ORDERS_KEPT_MAX: usize = 1 << 16;

/// Buyers for each who reserves.
const BUYERS_FOR_A_HOLDER: u32 = 8;
/// Buyers for each who cancels.
const BUYERS_FOR_A_CANCELLER: u32 = 16;

/// How many there are of each.
#[derive(Debug, Clone, Copy)]
pub struct LoadSpec {
    /// Tasks that buy; for each eight of them one that reserves, and for each sixteen one that cancels.
    pub buyers: u32,
    /// Tasks that read linearizably; half as many read in sessions.
    pub readers: u32,
    /// Operations after which the load ends by itself, so that the records fit into memory.
    pub operations_max: u64,
    /// Seeds the random choices. What the store makes of them is not repeatable.
    pub seed: u64,
}

/// An order or a reservation that was confirmed, for others to look at.
#[derive(Debug, Clone, Copy)]
struct ConfirmedOrder {
    order: u64,
    key: Key,
    lines: Lines,
}

/// What the tasks share.
#[derive(Debug)]
pub struct Shared {
    /// The clock of the run.
    pub clock: Clock,
    /// Counts and complaints.
    pub inspector: RefCell<Inspector>,
    /// Writes with a definite answer: sold, refused, or a changed stock.
    pub writes_confirmed: Cell<u64>,
    /// Linearizable reads that were answered.
    pub reads_confirmed: Cell<u64>,
    stop: Cell<bool>,
    operations_left: Cell<u64>,
    items: Vec<ItemId>,
    /// Pieces that buyers asked for.
    demand: Cell<u64>,
    /// Pieces that came back by cancellations and were not taken into account yet.
    returned: Cell<u64>,
    newest_index: Cell<LogIndex>,
    orders: RefCell<Vec<ConfirmedOrder>>,
}

impl Shared {
    /// Whether the tasks are to end.
    fn over(&self) -> bool {
        self.stop.get() || self.operations_left.get() == 0
    }

    fn operation(&self) {
        self.operations_left.set(self.operations_left.get().saturating_sub(1));
    }

    fn confirmed(&self, count: &Cell<u64>, index: LogIndex) {
        count.set(count.get() + 1);
        self.newest_index.set(self.newest_index.get().max(index));
    }

    fn wanted(&self, lines: Lines) {
        self.demand.set(self.demand.get() + pieces(lines));
    }

    fn returned(&self, lines: Lines) {
        self.returned.set(self.returned.get() + pieces(lines));
    }

    fn keep(&self, order: ConfirmedOrder, rng: &mut ChaCha8Rng) {
        let mut orders = self.orders.borrow_mut();
        if orders.len() < ORDERS_KEPT_MAX {
            orders.push(order);
        } else {
            orders[rng.random_range(0..ORDERS_KEPT_MAX)] = order;
        }
    }
}

fn pieces(lines: Lines) -> u64 {
    lines.as_slice().iter().map(|line| u64::from(line.quantity)).sum()
}

/// The records of all tasks.
#[derive(Debug, Default)]
pub struct Records {
    /// By the buyers and those who reserve.
    pub attempts: Vec<Attempt>,
    /// By those who reserve and those who cancel.
    pub follow_ups: Vec<FollowUp>,
    /// By the stock-giver.
    pub stock_changes: Vec<StockChange>,
    /// By all readers of items.
    pub reads: Vec<Read>,
    /// By the readers of orders.
    pub order_reads: Vec<OrderRead>,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    /// What its tasks share.
    pub shared: Rc<Shared>,
    buyers: Vec<JoinHandle<Vec<Attempt>>>,
    holders: Vec<JoinHandle<(Vec<Attempt>, Vec<FollowUp>)>>,
    cancellers: Vec<JoinHandle<Vec<FollowUp>>>,
    giver: JoinHandle<Vec<StockChange>>,
    readers: Vec<JoinHandle<Vec<Read>>>,
    order_readers: Vec<JoinHandle<Vec<OrderRead>>>,
}

impl Load {
    /// Starts all tasks. Must be called within a `LocalSet`.
    pub fn start(cluster: &Cluster, spec: LoadSpec, items: &[InitialItem], clock: Clock) -> Self {
        let shared = Rc::new(Shared {
            clock,
            inspector: RefCell::default(),
            writes_confirmed: Cell::new(0),
            reads_confirmed: Cell::new(0),
            stop: Cell::new(false),
            operations_left: Cell::new(spec.operations_max),
            items: items.iter().map(|item| item.id).collect(),
            demand: Cell::new(0),
            returned: Cell::new(0),
            newest_index: Cell::new(items.iter().map(|item| item.index).max().unwrap_or(0)),
            orders: RefCell::default(),
        });
        let client = || cluster.client(Duration::from_secs(2));
        // Each task has its own stream of choices, so that adding one does not change the others'.
        let mut streams = 0;
        let mut rng = || {
            let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
            rng.set_stream(streams);
            streams += 1;
            rng
        };
        let mut readers = Vec::new();
        let mut ids = 0..;
        let mut reader = |style, rng| {
            let id = ids.next().expect("the range has no end");
            let reader = reader::Reader::new(id, style, Rc::clone(&shared), client(), rng);
            readers.push(tokio::task::spawn_local(reader.run()));
        };
        for _ in 0..spec.readers {
            reader(reader::Style::Linearizable, rng());
        }
        for _ in 0..spec.readers.div_ceil(2) {
            reader(reader::Style::Session, rng());
        }
        for node in 0..cluster.len() {
            reader(reader::Style::Stale(node), rng());
        }
        let order_readers = (0..spec.readers.div_ceil(4))
            .map(|_| reader::OrderReader::new(Rc::clone(&shared), client(), rng()))
            .map(|reader| tokio::task::spawn_local(reader.run()))
            .collect();
        let giver = giver::Giver::new(Rc::clone(&shared), client(), rng());
        let giver = tokio::task::spawn_local(giver.run());
        let buyers = (0..spec.buyers)
            .map(|id| {
                let clients = [client(), client()];
                buyer::Buyer::new(Series::Buy, id, Rc::clone(&shared), clients, rng())
            })
            .map(|buyer| tokio::task::spawn_local(buyer.run()))
            .collect();
        let pair = || [client(), client()];
        let holders = (0..spec.buyers.div_ceil(BUYERS_FOR_A_HOLDER))
            .map(|id| holder::Holder::new(id, &shared, [pair(), pair()], [rng(), rng()]))
            .map(|holder| tokio::task::spawn_local(holder.run()))
            .collect();
        let cancellers = (0..spec.buyers.div_ceil(BUYERS_FOR_A_CANCELLER))
            .map(|id| canceller::Canceller::new(id, Rc::clone(&shared), pair(), rng()))
            .map(|canceller| tokio::task::spawn_local(canceller.run()))
            .collect();
        Self { shared, buyers, holders, cancellers, giver, readers, order_readers }
    }

    /// Whether the load came to its own end, because it had done all that it may.
    pub fn exhausted(&self) -> bool {
        self.shared.operations_left.get() == 0
    }

    /// Stops all tasks, waits for their last requests, and collects their records.
    pub async fn stop(self) -> anyhow::Result<(Records, Rc<Shared>)> {
        self.shared.stop.set(true);
        let mut records = Records::default();
        for buyer in self.buyers {
            records.attempts.append(&mut buyer.await?);
        }
        for holder in self.holders {
            let (mut attempts, mut follow_ups) = holder.await?;
            records.attempts.append(&mut attempts);
            records.follow_ups.append(&mut follow_ups);
        }
        for canceller in self.cancellers {
            records.follow_ups.append(&mut canceller.await?);
        }
        records.stock_changes = self.giver.await?;
        for reader in self.readers {
            records.reads.append(&mut reader.await?);
        }
        for reader in self.order_readers {
            records.order_reads.append(&mut reader.await?);
        }
        Ok((records, self.shared))
    }
}
