//! The movements of an item's stock: the rows of the ledger and the sales, as one list.

use std::sync::Arc;

use crate::{
    catalog::{ItemId, LedgerRow, StockReason},
    chunk_index::{Indexed, item_key},
    command::{LogIndex, LogTimeMs},
    error::Result,
    orders::{Order, OrderId},
    query::View,
    reservations::ReservationId,
    sequence::Chunk,
    walk::{Budget, Criteria, Start, Step, Walk},
};

/// A change of an item's stock, sales among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// How many pieces more, or fewer.
    pub delta: i64,
    /// Why.
    pub reason: MovementReason,
    /// The reference of whoever changed it, or of the order.
    pub reference: Option<Arc<str>>,
    /// The order that was the sale, or that was cancelled.
    pub order: Option<OrderId>,
    /// The reservation that was sold.
    pub reservation: Option<ReservationId>,
    /// Log index of the change.
    pub index: LogIndex,
    /// Log time of the change.
    pub at_ms: LogTimeMs,
}

/// Why stock changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovementReason {
    /// By a sale: a line of an order.
    Sold,
    /// Otherwise: a row of the ledger.
    Stock(StockReason),
}

impl MovementReason {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sold => "sold",
            Self::Stock(reason) => reason.as_str(),
        }
    }
}

/// Where a page of movements ended: in the orders and in the ledger. Rows are numbered in log order
/// and for ever, so it stays valid whatever is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerCursor {
    /// Orders in rows below this one are not told yet.
    pub orders: u64,
    /// Ledger rows below this one are not told yet.
    pub ledger: u64,
}

/// A page of movements, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPage {
    /// The movements, newest first.
    pub rows: Vec<Movement>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<LedgerCursor>,
}

impl View {
    /// The movements of an item's stock, newest first, those before a cursor. Of an item that is
    /// gone they are still told.
    ///
    /// Opens a bounded number of packed chunks: see [`CHUNKS_OPENED_MAX`](crate::walk::CHUNKS_OPENED_MAX).
    pub fn ledger(
        &self,
        item: ItemId,
        before: Option<LedgerCursor>,
        limit: usize,
    ) -> Result<LedgerPage> {
        let before = before.unwrap_or(LedgerCursor { orders: u64::MAX, ledger: u64::MAX });
        let criteria = Criteria { keys: vec![item_key(item)], from_ms: 0, to_ms: None };
        let (state, history) = (&self.state, &*self.history);
        let mut sales = Head::new(Walk::new(
            &state.orders,
            history.index().orders(),
            |number| history.order_chunk(number),
            criteria.clone(),
            Start::Newest,
            0..before.orders,
        ));
        let mut changes = Head::new(Walk::new(
            &state.ledger,
            history.index().ledger(),
            |number| history.ledger_chunk(number),
            criteria,
            Start::Newest,
            0..before.ledger,
        ));
        let mut budget = Budget::of_page(limit);
        let mut rows = Vec::new();
        let more = loop {
            let sold = |order: &Order| order.lines.iter().any(|line| line.item == item);
            let there = sales.fill(&mut budget, sold)?
                && changes.fill(&mut budget, |row| row.item == item)?;
            if !there {
                break true;
            }
            // Of the same entry the sale comes first; which does not matter, but always the same.
            let sale_is_newer = match (&sales.row, &changes.row) {
                (None, None) => break false,
                (Some((_, sale)), Some((_, change))) => sale.index >= change.index,
                (sale, _) => sale.is_some(),
            };
            if rows.len() >= limit {
                break true;
            }
            let movement = match sale_is_newer {
                true => sales.row.take().and_then(|(_, order)| sale_of(&order, item)),
                false => changes.row.take().map(|(_, row)| change_of(&row)),
            };
            rows.extend(movement);
        };
        let next = LedgerCursor { orders: sales.border(), ledger: changes.border() };
        Ok(LedgerPage { rows, next: more.then_some(next) })
    }
}

/// A walk with the row that comes next.
struct Head<'a, T, R> {
    walk: Walk<'a, T, R>,
    row: Option<(u64, Arc<T>)>,
}

impl<'a, T: Indexed, R: Fn(u64) -> Result<Arc<Chunk<T>>>> Head<'a, T, R> {
    fn new(walk: Walk<'a, T, R>) -> Self {
        Self { walk, row: None }
    }

    /// Looks for the next row where there is none yet. `false` when that is over the budget.
    fn fill(&mut self, budget: &mut Budget, matches: impl Fn(&T) -> bool) -> Result<bool> {
        if self.row.is_none() {
            match self.walk.next(budget, matches)? {
                Step::Row(number, row) => self.row = Some((number, row)),
                Step::End => {}
                Step::Paused => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The row below which nothing was taken.
    fn border(&self) -> u64 {
        self.row.as_ref().map_or(self.walk.border(), |(number, _)| number + 1)
    }
}

/// The sale of an item by an order. An order has one line for an item at most.
fn sale_of(order: &Order, item: ItemId) -> Option<Movement> {
    let line = order.lines.iter().find(|line| line.item == item)?;
    Some(Movement {
        delta: i64::try_from(line.quantity).map_or(i64::MIN, |pieces| -pieces),
        reason: MovementReason::Sold,
        reference: order.reference.clone(),
        order: Some(order.id),
        reservation: order.reservation,
        index: order.index,
        at_ms: order.placed_ms,
    })
}

fn change_of(row: &LedgerRow) -> Movement {
    Movement {
        delta: row.delta,
        reason: MovementReason::Stock(row.reason),
        reference: row.reference.clone(),
        order: row.order,
        reservation: None,
        index: row.index,
        at_ms: row.at_ms,
    }
}
