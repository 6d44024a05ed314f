//! What changed, in log order: for feeds, and for caches that hang off the state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    command::LogIndex,
    sequence::{CHUNK_ROWS, Sequence},
    state::{Kind, record_hash},
};

/// Something that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// At which log index.
    pub index: LogIndex,
    /// What kind of thing.
    pub kind: ChangeKind,
    /// Its number; 0 for what there is only one of.
    pub id: u64,
    /// What became of it.
    pub what: ChangeWhat,
}

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeKind {
    /// An item.
    Item,
    /// An order.
    Order,
    /// A reservation.
    Reservation,
    /// The policy.
    Policy,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Item, Self::Order, Self::Reservation, Self::Policy];

    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Order => "order",
            Self::Reservation => "reservation",
            Self::Policy => "policy",
        }
    }
}

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeWhat {
    /// It is new.
    Created,
    /// It is another than before.
    Changed,
    /// It is gone.
    Deleted,
    /// An order was taken back.
    Cancelled,
    /// A reservation was sold.
    Confirmed,
    /// A reservation was given back.
    Released,
    /// A reservation's time was up.
    Expired,
}

impl ChangeWhat {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Cancelled => "cancelled",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
}

/// A span of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes, in log order.
    pub changes: Vec<Change>,
    /// What to ask for next: complete up to here.
    pub next_after: LogIndex,
}

/// What came of asking for changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// They are these.
    Page(ChangePage),
    /// Some of them are not kept any more.
    Gone {
        /// The lowest index after which all of them are kept.
        oldest: LogIndex,
    },
}

/// The changes that are kept, whole chunks of them: what is forgotten may have left memory, and how
/// far that goes must not depend on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeLog {
    /// Those in memory.
    pub(crate) rows: Sequence<Change>,
    /// The oldest chunk that is kept.
    first_chunk: u64,
    /// Complete after this index: that of the newest change that was forgotten.
    complete_after: LogIndex,
    /// Derived: the chunks that are full.
    full: imbl::Vector<FullChunk>,
    /// Derived: the sum over the rows of the one that is not.
    open_sum: u128,
}

/// What is known of a full chunk without reading it.
#[derive(Debug, Clone, Copy)]
struct FullChunk {
    sum: u128,
    last_index: LogIndex,
}

impl ChangeLog {
    /// The changes from a chunk on, none of them yet.
    pub(crate) fn beginning(first_chunk: u64, complete_after: LogIndex) -> Self {
        let rows = Sequence::with_rows(first_chunk * CHUNK_ROWS, []);
        Self { rows, first_chunk, complete_after, ..Self::default() }
    }

    pub(crate) fn first_chunk(&self) -> u64 {
        self.first_chunk
    }

    /// The number that the next change will get.
    pub(crate) fn next(&self) -> u64 {
        self.rows.next()
    }

    pub(crate) fn complete_after(&self) -> LogIndex {
        self.complete_after
    }

    /// How many are kept.
    pub(crate) fn count(&self) -> u64 {
        self.next() - self.first_chunk * CHUNK_ROWS
    }

    /// Adds a change, and gives its hash.
    pub(crate) fn push(&mut self, change: Change) -> u128 {
        let hash = record_hash(Kind::Change, &change);
        self.open_sum = self.open_sum.wrapping_add(hash);
        let number = self.rows.push(Arc::new(change));
        if (number + 1).is_multiple_of(CHUNK_ROWS) {
            let sum = std::mem::take(&mut self.open_sum);
            self.full.push_back(FullChunk { sum, last_index: change.index });
        }
        hash
    }

    /// Forgets the oldest chunk if at least `keep` changes are left, and gives the sum over it.
    pub(crate) fn pop_chunk(&mut self, keep: u64) -> Option<u128> {
        if self.count().saturating_sub(CHUNK_ROWS) < keep {
            return None;
        }
        let oldest = self.full.pop_front()?;
        self.first_chunk += 1;
        self.complete_after = oldest.last_index;
        self.rows.drop_below(self.first_chunk * CHUNK_ROWS);
        Some(oldest.sum)
    }

    /// The chunk in which the first change after an index is, or would be.
    pub(crate) fn chunk_after(&self, after: LogIndex) -> u64 {
        let (mut low, mut high) = (0, self.full.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.full.get(middle).is_some_and(|chunk| chunk.last_index <= after) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.first_chunk + low as u64
    }

    /// The newest index of which a full chunk has a change.
    pub(crate) fn last_index_of(&self, chunk: u64) -> Option<LogIndex> {
        let offset = usize::try_from(chunk.checked_sub(self.first_chunk)?).ok()?;
        self.full.get(offset).map(|full| full.last_index)
    }

    /// Whether the sums are those of the rows that `sums` were made from, chunk by chunk.
    pub(crate) fn has_sums(&self, sums: &[u128]) -> bool {
        let full = self.full.iter().map(|chunk| chunk.sum);
        let open = (!self.next().is_multiple_of(CHUNK_ROWS)).then_some(self.open_sum);
        full.chain(open).eq(sums.iter().copied())
    }
}
