//! Every read: over a state and the history behind it, which together are one [`View`].

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    catalog::{Item, ItemId},
    changes::{Change, ChangePage, Changes},
    chunk_index::{customer_key, item_key},
    command::{LogIndex, LogTimeMs},
    error::{Error, Result},
    history::{History, Pin},
    orders::{Cancellation, Order, OrderId, OrderStatus},
    prices::Prices,
    reservations::{Reservation, ReservationId},
    sequence::CHUNK_ROWS,
    state::State,
    walk::{Budget, Criteria, Start, Step, Walk},
};

/// The most reservations that are looked at for a page of them.
const RESERVATIONS_LOOKED_AT_MAX: usize = 10_000;

/// A state at one index with the history that belongs to it. What the state machine publishes.
#[derive(Debug, Clone)]
pub struct View {
    /// The working state.
    pub state: State,
    /// What left memory.
    pub history: Arc<History>,
}

/// Where an order is.
#[derive(Debug, Clone)]
pub enum Found {
    /// Nowhere: there is no such order.
    None,
    /// In memory.
    Recent(Arc<Order>),
    /// In this row of the history: reading it may wait for the disk.
    Packed(u64),
}

impl Found {
    /// The order, from the history if it is there.
    pub fn or_history(self, history: &History) -> Result<Option<Arc<Order>>> {
        match self {
            Self::None => Ok(None),
            Self::Recent(order) => Ok(Some(order)),
            Self::Packed(row) => history.order(row).map(Some),
        }
    }
}

impl State {
    /// Where an order is, without waiting for anything.
    pub fn find_order(&self, id: OrderId) -> Found {
        match id.checked_sub(1).filter(|row| *row < self.orders.next()) {
            None => Found::None,
            Some(row) => match self.orders.get(row) {
                Some(order) => Found::Recent(order.clone()),
                None => Found::Packed(row),
            },
        }
    }

    /// Where an order stands at this index.
    pub fn status_of(&self, order: &Order) -> OrderStatus {
        match self.cancelled.contains_key(&order.id) {
            true => OrderStatus::Cancelled,
            false => OrderStatus::Placed,
        }
    }

    /// Where the order with a number stands, without waiting for anything.
    pub fn order_status(&self, id: OrderId) -> Option<OrderStatus> {
        if !(1..=self.order_count()).contains(&id) {
            return None;
        }
        Some(match self.cancelled.contains_key(&id) {
            true => OrderStatus::Cancelled,
            false => OrderStatus::Placed,
        })
    }

    /// Whether the changes after an index are in memory, so that asking for them waits for nothing.
    pub fn changes_are_recent(&self, after: LogIndex) -> bool {
        self.changes.chunk_after(after) * CHUNK_ROWS >= self.changes.rows.base()
    }

    /// The lowest index after which all changes are kept.
    pub fn changes_complete_after(&self) -> LogIndex {
        self.changes.complete_after()
    }
}

/// A page of a listing, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<Arc<T>>,
    /// The number after which the next page begins; `None` on the last one.
    pub next_after: Option<u64>,
}

impl View {
    /// The index that answers from this view reflect; 0 before the first entry.
    pub fn index(&self) -> LogIndex {
        self.state.applied().unwrap_or(0)
    }

    /// An item.
    pub fn item(&self, id: ItemId) -> Option<&Arc<Item>> {
        self.state.items.get(&id)
    }

    /// Items in the order of their numbers, those after a number, of one topic or all.
    pub fn items(&self, topic: Option<&str>, after: Option<ItemId>, limit: usize) -> Page<Item> {
        let from = match after {
            Some(ItemId::MAX) => return Page { rows: Vec::new(), next_after: None },
            Some(after) => after + 1,
            None => 0,
        };
        let rows: Vec<Arc<Item>> = match topic {
            None => {
                let range = self.state.items.range(from..);
                range.take(limit + 1).map(|(_, item)| item.clone()).collect()
            }
            Some(topic) => match self.state.topics.get(topic) {
                Some(ids) => ids
                    .range(from..)
                    .filter_map(|id| self.item(*id).cloned())
                    .take(limit + 1)
                    .collect(),
                None => Vec::new(),
            },
        };
        page(rows, limit, |item| item.id)
    }

    /// The topics, sorted, with the number of their items.
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.state.topics.iter().map(|(topic, ids)| (&**topic, ids.len()))
    }

    /// An order. Reads the engine for one that left memory.
    pub fn order(&self, id: OrderId) -> Result<Option<Arc<Order>>> {
        self.state.find_order(id).or_history(&self.history)
    }

    /// How an order was taken back, if it was. Reads the engine for one that left memory.
    pub fn cancellation(&self, order: OrderId) -> Result<Option<Arc<Cancellation>>> {
        let Some(&row) = self.state.cancelled.get(&order) else { return Ok(None) };
        if let Some(cancellation) = self.state.cancellations.get(row) {
            return Ok(Some(cancellation.clone()));
        }
        let chunk = self.history.cancellation_chunk(row / CHUNK_ROWS)?;
        let offset = usize::try_from(row % CHUNK_ROWS).expect("less than a chunk's rows");
        match chunk.rows.get(offset) {
            Some(cancellation) => Ok(Some(cancellation.clone())),
            None => Err(Error::corrupt(format!("the cancellation in row {row}"), "it is missing")),
        }
    }

    /// How each of these orders was taken back, if it was. Reads the engine for those that left
    /// memory, each chunk once: those of neighbouring orders mostly stand together.
    pub fn cancellations_of(
        &self,
        orders: &[Arc<Order>],
    ) -> Result<Vec<Option<Arc<Cancellation>>>> {
        let mut found = vec![None; orders.len()];
        let mut packed: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
        for (position, order) in orders.iter().enumerate() {
            let Some(&row) = self.state.cancelled.get(&order.id) else { continue };
            match self.state.cancellations.get(row) {
                Some(cancellation) => found[position] = Some(cancellation.clone()),
                None => {
                    let offset = usize::try_from(row % CHUNK_ROWS);
                    let offset = offset.expect("less than a chunk's rows");
                    packed.entry(row / CHUNK_ROWS).or_default().push((offset, position));
                }
            }
        }
        for (number, wanted) in packed {
            let chunk = self.history.cancellation_chunk(number)?;
            for (offset, position) in wanted {
                let cancellation = chunk.rows.get(offset).cloned();
                found[position] = Some(cancellation.ok_or_else(|| {
                    let what = format!("row {offset} of the cancellations in chunk {number}");
                    Error::corrupt(what, "it is missing")
                })?);
            }
        }
        Ok(found)
    }

    /// A reservation, unless it ended so long ago that it is forgotten.
    pub fn reservation(&self, id: ReservationId) -> Option<&Arc<Reservation>> {
        self.state.reservations.get(&id)
    }

    /// Reservations by number, those after a number, that stand so as a name says or all.
    ///
    /// Looks at a bounded number of them: a page that is over the bound is short, and still says
    /// where the next one begins.
    pub fn reservations(
        &self,
        status: Option<&str>,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Page<Reservation> {
        let from = after.unwrap_or(0).saturating_add(1);
        let mut rows: Vec<Arc<Reservation>> = Vec::new();
        for (looked_at, (id, reservation)) in self.state.reservations.range(from..).enumerate() {
            if rows.len() == limit || looked_at == RESERVATIONS_LOOKED_AT_MAX {
                // All before this one were looked at.
                return Page { rows, next_after: Some(id - 1) };
            }
            if status.is_none_or(|name| reservation.status.as_str() == name) {
                rows.push(reservation.clone());
            }
        }
        Page { rows, next_after: None }
    }

    /// What an item cost when.
    pub fn prices(&self, id: ItemId) -> Option<Prices> {
        let item = self.item(id)?;
        let history = self.state.prices.get(&id);
        Some(Prices::of(item, history.map(|history| &**history), self.state.log_time_ms))
    }

    /// The changes after an index, about `limit` of them: those of one index are never split. Reads
    /// the engine for what left memory.
    pub fn changes(&self, after: LogIndex, limit: usize) -> Result<Changes> {
        let log = &self.state.changes;
        if after < log.complete_after() {
            return Ok(Changes::Gone { oldest: log.complete_after() });
        }
        let mut page = PageOfChanges { after, limit, changes: Vec::new() };
        for chunk in log.chunk_after(after)..log.rows.base() / CHUNK_ROWS {
            let Some(packed) = self.history.change_chunk(chunk)? else {
                // This view is old, and what it kept is given up meanwhile.
                let oldest = log.last_index_of(chunk).unwrap_or_else(|| self.index());
                return Ok(Changes::Gone { oldest });
            };
            if !packed.rows.iter().all(|change| page.take(change)) {
                return Ok(page.cut());
            }
        }
        let from = log.rows.partition_point(|change| change.index <= after);
        match log.rows.from(from).all(|change| page.take(change)) {
            true => {
                let next_after = self.index().max(after);
                Ok(Changes::Page(ChangePage { changes: page.changes, next_after }))
            }
            false => Ok(page.cut()),
        }
    }

    /// Keeps all that this view's history has in the engine as long as the pin lives.
    ///
    /// Errors: [`Error::Gone`] when some of it was given up already. The newest view has all.
    pub fn pin(&self) -> Result<Pin> {
        let pinned = self.history.pin_changes(self.state.changes.first_chunk());
        pinned.ok_or(Error::Gone { what: "the change history" })
    }

    /// Orders by number, those after a number and of a filter.
    ///
    /// Opens a bounded number of packed chunks: see [`CHUNKS_OPENED_MAX`](crate::walk::CHUNKS_OPENED_MAX).
    /// A page that is over the bound is short, and still says where the next one begins.
    pub fn orders(
        &self,
        filter: &OrderFilter,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Page<Order>> {
        let mut rows = Vec::new();
        let mut budget = Budget::of_page(limit);
        // Row `n` is order `n + 1`, so the row after an order has the order's number.
        let mut walk = Walk::new(
            &self.state.orders,
            self.history.index().orders(),
            |number| self.history.order_chunk(number),
            filter.criteria(),
            Start::Oldest,
            after.unwrap_or(0)..u64::MAX,
        );
        let matches = |order: &Order| filter.matches(&self.state, order);
        let next_after = loop {
            match walk.next(&mut budget, matches)? {
                Step::Row(_, order) if rows.len() < limit => rows.push(order),
                Step::Row(..) => break rows.last().map(|order: &Arc<Order>| order.id),
                Step::End => break None,
                Step::Paused => break Some(walk.border()),
            }
        };
        Ok(Page { rows, next_after })
    }
}

/// Which orders are asked for: those for which all holds that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// A line of it is of this item.
    pub item: Option<ItemId>,
    /// This customer ordered.
    pub customer: Option<String>,
    /// It stands so.
    pub status: Option<OrderStatus>,
    /// Placed at this log time or after.
    pub from_ms: Option<LogTimeMs>,
    /// Placed before this log time.
    pub to_ms: Option<LogTimeMs>,
}

impl OrderFilter {
    /// What of it the summary of a chunk can tell.
    fn criteria(&self) -> Criteria {
        let item = self.item.map(item_key);
        let customer = self.customer.as_deref().map(customer_key);
        Criteria {
            keys: item.into_iter().chain(customer).collect(),
            from_ms: self.from_ms.unwrap_or(0),
            to_ms: self.to_ms,
        }
    }

    fn matches(&self, state: &State, order: &Order) -> bool {
        self.item.is_none_or(|item| order.lines.iter().any(|line| line.item == item))
            && self.customer.as_deref().is_none_or(|who| order.customer.as_deref() == Some(who))
            && self.status.is_none_or(|status| state.status_of(order) == status)
            && self.from_ms.is_none_or(|from_ms| order.placed_ms >= from_ms)
            && self.to_ms.is_none_or(|to_ms| order.placed_ms < to_ms)
    }
}

/// A page of changes in the making.
struct PageOfChanges {
    after: LogIndex,
    limit: usize,
    changes: Vec<Change>,
}

impl PageOfChanges {
    /// Takes the next change; `false` when it belongs on the next page.
    fn take(&mut self, change: &Change) -> bool {
        if change.index <= self.after {
            return true;
        }
        let new_index = self.changes.last().is_none_or(|last| last.index != change.index);
        if self.changes.len() >= self.limit && new_index {
            return false;
        }
        self.changes.push(*change);
        true
    }

    /// The page, with more behind it.
    fn cut(self) -> Changes {
        let next_after = self.changes.last().map_or(self.after, |last| last.index);
        Changes::Page(ChangePage { changes: self.changes, next_after })
    }
}

/// Cuts a row more than asked for, which says that there is a next page.
fn page<T>(mut rows: Vec<Arc<T>>, limit: usize, number: impl Fn(&T) -> u64) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_after = rows.last().filter(|_| more).map(|row| number(row));
    Page { rows, next_after }
}
