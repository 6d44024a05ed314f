//! Every read: over a state and the history behind it, which together are one [`View`].

use std::sync::Arc;

use crate::{
    catalog::{Item, ItemId},
    command::LogIndex,
    error::Result,
    history::History,
    orders::{Order, OrderId},
    state::State,
};

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

    /// Orders by number, those after a number.
    pub fn orders(&self, after: Option<OrderId>, limit: usize) -> Result<Page<Order>> {
        let mut rows = Vec::with_capacity(limit.min(1024) + 1);
        let mut id = after.unwrap_or(0);
        while rows.len() <= limit {
            let Some(next) = id.checked_add(1) else { break };
            let Some(order) = self.order(next)? else { break };
            rows.push(order);
            id = next;
        }
        Ok(page(rows, limit, |order| order.id))
    }
}

/// Cuts a row more than asked for, which says that there is a next page.
fn page<T>(mut rows: Vec<Arc<T>>, limit: usize, number: impl Fn(&T) -> u64) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_after = rows.last().filter(|_| more).map(|row| number(row));
    Page { rows, next_after }
}
