//! What changed lately, for caches and feeds that hang off the state.
//!
//! Derived, bounded, and rebuilt empty whenever the state is replaced: who asks for more than is
//! kept is told so, and starts over.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pygmy_storage::{apply::Effects, command::LogIndex};

use crate::progress::Progress;

/// Changes kept.
const KEPT_MAX: usize = 65_536;

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// An item.
    Item,
    /// An order.
    Order,
}

/// Something that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// At which log index.
    pub index: LogIndex,
    /// What kind of thing.
    pub kind: ChangeKind,
    /// Its number.
    pub id: u64,
}

/// The changes of a span of the log, newest last.
#[derive(Debug)]
pub struct ChangeFeed {
    kept: Mutex<Kept>,
    /// The index up to which the feed is complete.
    upto: Progress,
}

#[derive(Debug)]
struct Kept {
    /// The feed is complete after this index.
    after: LogIndex,
    changes: VecDeque<Change>,
}

/// A span of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes, in log order.
    pub changes: Vec<Change>,
    /// What to ask for next: complete up to here.
    pub next_after: LogIndex,
}

impl ChangeFeed {
    pub(crate) fn new(after: LogIndex) -> Self {
        let kept = Mutex::new(Kept { after, changes: VecDeque::new() });
        Self { kept, upto: Progress::new(after) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // No code panics while holding the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, upto: LogIndex, effects: &Effects) {
        let mut kept = self.kept();
        let items = effects.items.iter().map(|&(index, id)| (index, ChangeKind::Item, id));
        let orders = effects.orders.iter().map(|&(index, id)| (index, ChangeKind::Order, id));
        let mut changes: Vec<Change> =
            items.chain(orders).map(|(index, kind, id)| Change { index, kind, id }).collect();
        changes.sort_by_key(|change| change.index);
        kept.changes.extend(changes);
        while kept.changes.len() > KEPT_MAX {
            // All changes of an index leave together, so that a span is never half there.
            let Some(oldest) = kept.changes.front().map(|change| change.index) else { break };
            while kept.changes.front().is_some_and(|change| change.index == oldest) {
                kept.changes.pop_front();
            }
            kept.after = oldest;
        }
        drop(kept);
        self.upto.set(upto);
    }

    /// Begins anew: the state was replaced, and what led to it is not known here.
    pub(crate) fn restart(&self, after: LogIndex) {
        *self.kept() = Kept { after, changes: VecDeque::new() };
        self.upto.set(after);
    }

    /// The changes after an index, about `limit` of them; `None` when some of those are not kept.
    pub fn after(&self, after: LogIndex, limit: usize) -> Option<ChangePage> {
        let kept = self.kept();
        let upto = self.upto.get();
        if after < kept.after {
            return None;
        }
        let from = kept.changes.partition_point(|change| change.index <= after);
        let mut changes: Vec<Change> = Vec::new();
        let mut next_after = upto.max(after);
        for change in kept.changes.range(from..) {
            let new_index = changes.last().is_none_or(|last| last.index != change.index);
            if changes.len() >= limit && new_index {
                next_after = changes.last().map_or(after, |last| last.index);
                break;
            }
            changes.push(*change);
        }
        Some(ChangePage { changes, next_after })
    }

    /// Waits until the log has gone beyond an index.
    pub async fn beyond(&self, index: LogIndex) {
        self.upto.beyond(index).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(index: u64, items: &[u64]) -> Effects {
        Effects { items: items.iter().map(|id| (index, *id)).collect(), orders: Vec::new() }
    }

    #[test]
    fn a_page_never_splits_an_index_and_pages_join_without_gap() {
        let feed = ChangeFeed::new(10);
        feed.add(11, &effects(11, &[1, 2, 3]));
        feed.add(12, &effects(12, &[1]));
        feed.add(15, &Effects::default());
        assert_eq!(feed.after(9, 10), None, "what was before the start is not known");
        let page = feed.after(10, 2).unwrap();
        assert_eq!((page.changes.len(), page.next_after), (3, 11));
        let page = feed.after(11, 2).unwrap();
        assert_eq!((page.changes.len(), page.next_after), (1, 15));
        assert!(feed.after(15, 2).unwrap().changes.is_empty());
        feed.restart(40);
        assert_eq!(feed.after(15, 2), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_gone_is_told() {
        let feed = ChangeFeed::new(0);
        for index in 1..=100_000 {
            feed.add(index, &effects(index, &[index]));
        }
        assert_eq!(feed.after(5, 10), None);
        let page = feed.after(100_000 - 65_536, 100_000).unwrap();
        assert_eq!(page.changes.len(), 65_536);
    }
}
