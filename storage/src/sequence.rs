//! A history that only grows at its end: the newest rows in memory, the rest packed in the engine.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

/// Rows in one packed chunk of the engine. A sale costs a thousandth of a record.
pub const CHUNK_ROWS: u64 = 1024;

/// Rows of one chunk, as they are packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct Chunk<T> {
    /// The number of the first row: the beginning of the chunk, or later where rows are forgotten.
    pub first: u64,
    /// The rows.
    pub rows: Vec<Arc<T>>,
}

/// Rows numbered without gaps, of which the newest are in memory.
///
/// Row `n` is in chunk `n / CHUNK_ROWS`. Rows from `base` on are here. Rows below it are in the
/// engine only, where `base` is the beginning of a chunk, or (of idempotency records) are forgotten.
/// Cloning costs nothing.
#[derive(Debug, Clone)]
pub struct Sequence<T> {
    base: u64,
    rows: imbl::Vector<Arc<T>>,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self { base: 0, rows: imbl::Vector::new() }
    }
}

impl<T> Sequence<T> {
    /// A sequence whose rows below `base` are in the engine.
    pub fn with_rows(base: u64, rows: impl IntoIterator<Item = Arc<T>>) -> Self {
        Self { base, rows: rows.into_iter().collect() }
    }

    /// The number of the oldest row in memory.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The number that the next row will get.
    pub fn next(&self) -> u64 {
        self.base + self.rows.len() as u64
    }

    /// Adds a row and gives its number.
    pub fn push(&mut self, row: Arc<T>) -> u64 {
        let number = self.next();
        self.rows.push_back(row);
        number
    }

    /// A row in memory.
    pub fn get(&self, number: u64) -> Option<&Arc<T>> {
        let offset = number.checked_sub(self.base)?;
        self.rows.get(usize::try_from(offset).ok()?)
    }

    /// Rows in memory from a number on.
    pub fn from(&self, number: u64) -> impl Iterator<Item = &Arc<T>> {
        let offset = number.saturating_sub(self.base).min(self.rows.len() as u64);
        let offset = usize::try_from(offset).expect("bounded by a length in memory");
        self.rows.focus().narrow(offset..).into_iter()
    }

    /// The number of the first row in memory for which this does not hold, where it holds for all
    /// rows before it and none after.
    pub fn partition_point(&self, holds: impl Fn(&T) -> bool) -> u64 {
        let (mut low, mut high) = (self.base, self.next());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).is_some_and(|row| holds(row)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The chunks that hold the rows from a number on.
    pub fn chunks_from(&self, number: u64) -> Range<u64> {
        number / CHUNK_ROWS..self.next().div_ceil(CHUNK_ROWS)
    }

    /// The rows of a chunk that are in memory.
    pub fn chunk(&self, number: u64) -> Chunk<T> {
        let first = (number * CHUNK_ROWS).max(self.base);
        let count = usize::try_from(((number + 1) * CHUNK_ROWS).saturating_sub(first))
            .expect("at most a chunk's rows");
        Chunk { first, rows: self.from(first).take(count).cloned().collect() }
    }

    /// Drops rows from memory: those of whole chunks below `packed`, as long as `keep` newer rows
    /// stay. The caller has packed them. Not an effect of the log: which rows are in memory is
    /// nobody's outcome.
    pub fn forget_packed(&mut self, packed: u64, keep: u64) {
        let target = packed.min(self.next().saturating_sub(keep)) / CHUNK_ROWS * CHUNK_ROWS;
        if target > self.base {
            self.drop_below(target);
        }
    }

    /// Drops rows below a number from memory.
    pub fn drop_below(&mut self, number: u64) {
        let target = number.min(self.next());
        if let Some(count) = target.checked_sub(self.base) {
            let count = usize::try_from(count).expect("bounded by a length in memory");
            self.rows = self.rows.split_off(count);
            self.base = target;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_while_old_ones_leave() {
        let mut sequence = Sequence::default();
        for n in 0..5000u64 {
            assert_eq!(sequence.push(Arc::new(n)), n);
        }
        sequence.forget_packed(4500, 1000);
        assert_eq!(sequence.base(), 3072, "whole chunks only, and a thousand rows stay");
        assert_eq!(sequence.get(3071), None);
        assert_eq!(sequence.get(3072).map(|n| **n), Some(3072));
        assert_eq!(sequence.get(5000), None);
        assert_eq!(sequence.from(4990).count(), 10);
        assert_eq!(sequence.from(0).count(), 5000 - 3072);
        assert_eq!(sequence.from(9999).count(), 0);
        assert_eq!(sequence.partition_point(|n| *n < 4321), 4321);
        assert_eq!(sequence.partition_point(|_| false), 3072);
        assert_eq!(sequence.partition_point(|_| true), 5000);
        sequence.forget_packed(0, 0);
        assert_eq!(sequence.base(), 3072, "what is not packed stays");
    }
}
