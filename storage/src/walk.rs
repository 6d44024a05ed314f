//! A walk over a history, from its beginning or its end, that opens only the chunks that may have
//! what is looked for.

use std::{ops::Range, sync::Arc};

use crate::{
    chunk_index::{Indexed, Summaries, Summary},
    command::LogTimeMs,
    error::{Error, Result},
    sequence::{CHUNK_ROWS, Chunk, Sequence},
};

/// Packed chunks that are opened for one page, besides those that its rows fill. A page that would
/// need more is short, and the next one goes on where it ended. At least two, or a walk over two
/// histories might not get on.
///
/// A filter is wrong in one of a thousand chunks, so for one item or one customer a page covers
/// tens of millions of rows without a match. Only what the filter cannot tell, as two keys that are
/// each in most chunks and never in one row, gives pages that are short or empty.
pub const CHUNKS_OPENED_MAX: usize = 64;

/// How many more packed chunks may be opened for a page.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    /// The budget of a page of so many rows.
    pub(crate) fn of_page(limit: usize) -> Self {
        let filled = limit as u64 / CHUNK_ROWS;
        Self(CHUNKS_OPENED_MAX.saturating_add(usize::try_from(filled).unwrap_or(usize::MAX)))
    }

    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// What a chunk's summary can tell of the rows that are looked for.
#[derive(Debug, Clone)]
pub(crate) struct Criteria {
    /// Keys that a row has, all of them.
    pub(crate) keys: Vec<u64>,
    /// From this log time on.
    pub(crate) from_ms: LogTimeMs,
    /// Before this log time; `None` for no end.
    pub(crate) to_ms: Option<LogTimeMs>,
}

impl Criteria {
    fn may_match(&self, summary: &Summary) -> bool {
        self.keys.iter().all(|key| summary.filter.may_hold(*key))
    }

    /// The rows of a history that have their time in the bounds, and up to a chunk more at each end.
    fn narrow(&self, summaries: &Summaries, rows: Range<u64>) -> Range<u64> {
        let place = |before: &dyn Fn(&Summary) -> bool| {
            summaries
                .binary_search_by(|summary| {
                    if before(summary) {
                        std::cmp::Ordering::Less
                    } else {
                        std::cmp::Ordering::Greater
                    }
                })
                .unwrap_or_else(|place| place)
        };
        let first = place(&|summary| summary.last_ms < self.from_ms) as u64 * CHUNK_ROWS;
        let end = match self.to_ms {
            Some(to_ms) => match place(&|summary| summary.first_ms < to_ms) {
                // What comes after the last full chunk has no summary.
                end if end == summaries.len() => rows.end,
                end => end as u64 * CHUNK_ROWS,
            },
            None => rows.end,
        };
        rows.start.max(first)..rows.end.min(end)
    }
}

/// Where a walk begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the oldest row.
    Oldest,
    /// With the newest row.
    Newest,
}

/// What a walk comes to.
pub(crate) enum Step<T> {
    /// A row with its number.
    Row(u64, Arc<T>),
    /// The end.
    End,
    /// A chunk that is over the budget.
    Paused,
}

/// A walk over rows of a history.
pub(crate) struct Walk<'a, T, R> {
    sequence: &'a Sequence<T>,
    summaries: Summaries,
    /// Gives a packed chunk.
    read: R,
    criteria: Criteria,
    start: Start,
    /// The rows that were not looked at yet.
    left: Range<u64>,
    /// The chunk that is being looked at; `None` in it where its rows are in memory.
    open: Option<(u64, Option<Arc<Chunk<T>>>)>,
}

impl<'a, T: Indexed, R: Fn(u64) -> Result<Arc<Chunk<T>>>> Walk<'a, T, R> {
    /// A walk over those of `rows` that exist.
    pub(crate) fn new(
        sequence: &'a Sequence<T>,
        summaries: Summaries,
        read: R,
        criteria: Criteria,
        start: Start,
        rows: Range<u64>,
    ) -> Self {
        let left = criteria.narrow(&summaries, rows.start..rows.end.min(sequence.next()));
        Self { sequence, summaries, read, criteria, start, left, open: None }
    }

    /// The border between the rows that were looked at and those that were not.
    pub(crate) fn border(&self) -> u64 {
        match self.start {
            Start::Oldest => self.left.start,
            Start::Newest => self.left.end,
        }
    }

    /// The next row that matches.
    pub(crate) fn next(
        &mut self,
        budget: &mut Budget,
        matches: impl Fn(&T) -> bool,
    ) -> Result<Step<T>> {
        while !self.left.is_empty() {
            let number = match self.start {
                Start::Oldest => self.left.start,
                Start::Newest => self.left.end - 1,
            };
            let chunk = number / CHUNK_ROWS;
            if self.open.as_ref().is_none_or(|(open, _)| *open != chunk) {
                if !self.may_match(chunk) {
                    self.pass(chunk);
                    continue;
                }
                let packed = number < self.sequence.base();
                if packed && !budget.take() {
                    return Ok(Step::Paused);
                }
                let rows = packed.then(|| (self.read)(chunk)).transpose()?;
                self.open = Some((chunk, rows));
            }
            let row = self.row(number)?;
            match self.start {
                Start::Oldest => self.left.start += 1,
                Start::Newest => self.left.end -= 1,
            }
            if matches(&row) {
                return Ok(Step::Row(number, row));
            }
        }
        Ok(Step::End)
    }

    fn may_match(&self, chunk: u64) -> bool {
        let summary = usize::try_from(chunk).ok().and_then(|chunk| self.summaries.get(chunk));
        summary.is_none_or(|summary| self.criteria.may_match(summary))
    }

    /// Leaves a chunk out.
    fn pass(&mut self, chunk: u64) {
        match self.start {
            Start::Oldest => self.left.start = (chunk + 1) * CHUNK_ROWS,
            Start::Newest => self.left.end = chunk * CHUNK_ROWS,
        }
    }

    /// A row of the open chunk.
    fn row(&self, number: u64) -> Result<Arc<T>> {
        let row = match &self.open {
            Some((_, Some(chunk))) => number
                .checked_sub(chunk.first)
                .and_then(|offset| chunk.rows.get(usize::try_from(offset).ok()?)),
            Some((_, None)) | None => self.sequence.get(number),
        };
        row.cloned().ok_or_else(|| {
            let chunk = T::chunk(number / CHUNK_ROWS);
            Error::corrupt(format!("{chunk:?}"), format!("row {number} is not in it"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::{
        catalog::{LedgerRow, StockReason},
        chunk_index::item_key,
    };

    /// Rows in the test's history: 100 packed chunks, and some in memory.
    const PACKED: u64 = 100 * CHUNK_ROWS;
    const ROWS: u64 = PACKED + 500;

    /// Row `n` was at `n` and is of item `n % 1000`, but for a row or two of item 5000.
    fn row(number: u64) -> Arc<LedgerRow> {
        let item = if number % 50_000 == 20_000 { 5000 } else { number % 1000 };
        let reason = StockReason::Count;
        Arc::new(LedgerRow {
            item,
            delta: 1,
            reason,
            reference: None,
            index: number,
            at_ms: number,
            order: None,
        })
    }

    fn chunk(number: u64) -> Arc<Chunk<LedgerRow>> {
        let first = number * CHUNK_ROWS;
        Arc::new(Chunk { first, rows: (first..first + CHUNK_ROWS).map(row).collect() })
    }

    /// Walks in pages of at most three rows until the end: the rows, and the chunks that each page
    /// opened.
    fn walk(
        criteria: &Criteria,
        start: Start,
        matches: impl Fn(&LedgerRow) -> bool,
    ) -> (Vec<u64>, Vec<Vec<u64>>) {
        let sequence = Sequence::with_rows(PACKED, (PACKED..ROWS).map(row));
        let summaries: Summaries =
            (0..PACKED / CHUNK_ROWS).map(|n| Arc::new(Summary::of(&chunk(n)))).collect();
        let (mut rows, mut pages) = (Vec::new(), Vec::new());
        let mut left = 0..u64::MAX;
        loop {
            let opened = RefCell::new(Vec::new());
            let read = |number| {
                opened.borrow_mut().push(number);
                Ok(chunk(number))
            };
            let mut walk = Walk::new(
                &sequence,
                summaries.clone(),
                read,
                criteria.clone(),
                start,
                left.clone(),
            );
            let mut budget = Budget::of_page(3);
            let mut ended = false;
            for _ in 0..3 {
                match walk.next(&mut budget, &matches).unwrap() {
                    Step::Row(number, row) => {
                        assert_eq!(row.index, number);
                        rows.push(number);
                    }
                    Step::End => ended = true,
                    Step::Paused => break,
                }
            }
            match start {
                Start::Oldest => left.start = walk.border(),
                Start::Newest => left.end = walk.border(),
            }
            drop(walk);
            pages.push(opened.into_inner());
            if ended {
                return (rows, pages);
            }
        }
    }

    fn of_keys(keys: &[u64]) -> Criteria {
        Criteria { keys: keys.to_vec(), from_ms: 0, to_ms: None }
    }

    #[test]
    fn only_chunks_that_may_match_are_opened() {
        let criteria = of_keys(&[item_key(5000)]);
        let (rows, pages) = walk(&criteria, Start::Oldest, |row| row.item == 5000);
        assert_eq!(rows, [20_000, 70_000]);
        let opened = pages.concat();
        assert!(opened.contains(&19) && opened.contains(&68) && opened.len() <= 4, "{opened:?}");

        let (rows, _) = walk(&criteria, Start::Newest, |row| row.item == 5000);
        assert_eq!(rows, [70_000, 20_000]);

        let (rows, pages) = walk(&of_keys(&[item_key(777)]), Start::Newest, |row| row.item == 777);
        assert!(rows.iter().copied().eq((0..ROWS).filter(|n| row(*n).item == 777).rev()));
        assert!(pages.iter().all(|opened| opened.len() <= 4), "{pages:?}");
    }

    #[test]
    fn times_are_found_without_opening_what_lies_outside() {
        for (from_ms, to_ms) in
            [(50_000, Some(50_010)), (0, Some(7)), (PACKED - 3, None), (PACKED + 9, Some(u64::MAX))]
        {
            let criteria = Criteria { keys: Vec::new(), from_ms, to_ms };
            let inside = |ms| (from_ms..to_ms.unwrap_or(u64::MAX)).contains(&ms);
            let (rows, pages) = walk(&criteria, Start::Oldest, |row| inside(row.at_ms));
            assert!(rows.iter().copied().eq((0..ROWS).filter(|ms| inside(*ms))), "{rows:?}");
            let opened: std::collections::BTreeSet<_> = pages.concat().into_iter().collect();
            assert!(opened.len() <= 1, "{opened:?}");
        }
        for (from_ms, to_ms) in [(ROWS, None), (0, Some(0)), (9_000, Some(9_000)), (9_000, Some(1))]
        {
            let criteria = Criteria { keys: Vec::new(), from_ms, to_ms };
            let inside = |row: &LedgerRow| row.at_ms >= from_ms && Some(row.at_ms) < to_ms;
            assert_eq!(walk(&criteria, Start::Newest, inside).0, []);
        }
    }

    #[test]
    fn a_page_that_finds_nothing_ends_and_the_next_one_gets_on() {
        // Two items that are in every chunk, and never in one row.
        let criteria = of_keys(&[item_key(1), item_key(2)]);
        for start in [Start::Oldest, Start::Newest] {
            let (rows, pages) = walk(&criteria, start, |row| row.item == 1 && row.item == 2);
            assert_eq!(rows, []);
            let opened: Vec<_> = pages.iter().map(Vec::len).collect();
            assert_eq!(opened, [CHUNKS_OPENED_MAX, 100 - CHUNKS_OPENED_MAX]);
        }
    }

    #[test]
    fn chunks_that_have_no_summary_are_opened() {
        let sequence = Sequence::with_rows(PACKED, []);
        let criteria = of_keys(&[item_key(5000)]);
        let read = |number| Ok(chunk(number));
        let mut walk =
            Walk::new(&sequence, Summaries::new(), read, criteria, Start::Oldest, 0..u64::MAX);
        let step = walk.next(&mut Budget::of_page(1), |row| row.item == 5000).unwrap();
        assert!(matches!(step, Step::Row(20_000, _)));
    }
}
