//! Which items changed what they are found or sorted by, in order, for an index to catch up with.

use std::sync::Arc;

use crate::catalog::ItemId;

/// Changes that are remembered; an index that is further behind begins again. A million numbers are
/// 8 MB, and more than an import can add while an index is built.
const RELISTED_MAX: usize = 1 << 20;

/// The items whose title, topic or price changed, that came or that went, numbered in the order in which
/// they did. Hashed nowhere and stored nowhere; begins anew whenever the state is loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Relisted {
    /// The same in all that go on from one another, and in no others: numbers mean nothing beyond it.
    lineage: Arc<()>,
    base: u64,
    items: imbl::Vector<ItemId>,
}

impl Relisted {
    /// Notes an item.
    pub(crate) fn push(&mut self, item: ItemId) {
        self.items.push_back(item);
        if self.items.len() > RELISTED_MAX {
            self.items.pop_front();
            self.base += 1;
        }
    }

    /// The place up to which everything that is noted now reaches.
    pub(super) fn mark(&self) -> Mark {
        let number = self.base + self.items.len() as u64;
        Mark { lineage: self.lineage.clone(), number }
    }

    /// The items noted since a place, sorted. `None` when that cannot be said: the place is of
    /// another lineage, too far back, or still to come.
    pub(super) fn since(&self, mark: &Mark) -> Option<Vec<ItemId>> {
        if !Arc::ptr_eq(&self.lineage, &mark.lineage) {
            return None;
        }
        let offset = usize::try_from(mark.number.checked_sub(self.base)?).ok()?;
        if offset > self.items.len() {
            return None;
        }
        let mut items: Vec<ItemId> =
            self.items.focus().narrow(offset..).into_iter().copied().collect();
        items.sort_unstable();
        items.dedup();
        Some(items)
    }
}

/// A place in what is noted.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    lineage: Arc<()>,
    number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_told_from_a_place_on_or_not_at_all() {
        let mut noted = Relisted::default();
        let start = noted.mark();
        assert_eq!(noted.since(&start), Some(vec![]));
        for item in [5, 3, 5] {
            noted.push(item);
        }
        let middle = noted.mark();
        noted.push(9);
        assert_eq!(noted.since(&start), Some(vec![3, 5, 9]));
        assert_eq!(noted.clone().since(&middle), Some(vec![9]), "a clone goes on from it");
        assert_eq!(Relisted::default().since(&start), None, "of another state");
        let before = Relisted { items: imbl::Vector::new(), ..noted.clone() };
        assert_eq!(before.since(&middle), None, "still to come");
        for item in 0..RELISTED_MAX as u64 {
            noted.push(item);
        }
        assert_eq!(noted.since(&middle), None, "too far back");
        assert_eq!(noted.since(&noted.mark()), Some(vec![]));
    }
}
