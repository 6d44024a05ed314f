//! A part of the index: some items with their words, both ways, never changed once made.

use std::{collections::BTreeMap, ops::Range};

use super::fold::each_word;
use crate::catalog::{Item, ItemId};

/// What some items' words are, as of when it was made. An item with no words here is gone.
///
/// Everything is in a few flat vectors: an item costs 12 bytes, each of its words 8, and each
/// different word its letters and 8 bytes.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Sorted. An item's place here is its ordinal.
    ids: Vec<ItemId>,
    words: Dictionary,
    /// The words of each item, sorted.
    by_item: Rows,
    /// The ordinals of the items with each word, sorted.
    by_word: Rows,
}

impl Segment {
    /// The words of items, given with ascending numbers; `None` for one that is gone.
    pub(super) fn of<'a>(items: impl Iterator<Item = (ItemId, Option<&'a Item>)>) -> Self {
        let mut numbers: BTreeMap<Box<str>, u32> = BTreeMap::new();
        let (mut ids, mut by_item) = (Vec::new(), Rows::default());
        for (id, item) in items {
            ids.push(id);
            if let Some(item) = item {
                for text in [&item.title, &item.topic] {
                    each_word(text, |word| {
                        let number = match numbers.get(word) {
                            Some(number) => *number,
                            None => {
                                let number = narrow(numbers.len());
                                numbers.insert(word.into(), number);
                                number
                            }
                        };
                        by_item.values.push(number);
                    });
                }
            }
            by_item.end_row();
        }
        // From the order in which they were met to their own order.
        let (mut words, mut sorted) = (Dictionary::default(), vec![0; numbers.len()]);
        for (word, number) in numbers {
            sorted[wide(number)] = words.push(&word);
        }
        Self::assemble(ids, words, by_item.mapped(&sorted))
    }

    fn assemble(ids: Vec<ItemId>, words: Dictionary, by_item: Rows) -> Self {
        let by_word = by_item.inverted(words.len());
        Self { ids, words, by_item, by_word }
    }

    /// One segment in the place of two: where both know an item, the newer one is right. `all` says
    /// that there is no older one, whose items those that are gone would have to hide.
    pub(super) fn merge(older: &Self, newer: &Self, all: bool) -> Self {
        let mut items: Vec<(ItemId, bool, u32)> = Vec::with_capacity(older.len() + newer.len());
        let (mut o, mut n) = (0, 0);
        loop {
            let (is_newer, at) = match (older.ids.get(o), newer.ids.get(n)) {
                (None, None) => break,
                (Some(_), None) => (false, o),
                (None, Some(_)) => (true, n),
                (Some(old), Some(new)) if old < new => (false, o),
                (Some(old), Some(new)) => {
                    o += usize::from(old == new);
                    (true, n)
                }
            };
            let source = if is_newer { newer } else { older };
            if !all || !source.by_item.row(at).is_empty() {
                items.push((source.ids[at], is_newer, narrow(at)));
            }
            if is_newer { n += 1 } else { o += 1 }
        }
        let source = |is_newer| if is_newer { newer } else { older };
        let mut used = [vec![false; older.words.len()], vec![false; newer.words.len()]];
        for (_, is_newer, at) in &items {
            for word in source(*is_newer).by_item.row(wide(*at)) {
                used[usize::from(*is_newer)][wide(*word)] = true;
            }
        }
        let (words, maps) = Dictionary::merge([&older.words, &newer.words], &used);
        let mut by_item = Rows::default();
        for (_, is_newer, at) in &items {
            let map = &maps[usize::from(*is_newer)];
            let row = source(*is_newer).by_item.row(wide(*at));
            by_item.values.extend(row.iter().map(|word| map[wide(*word)]));
            by_item.end_row();
        }
        by_item.values.shrink_to_fit();
        by_item.ends.shrink_to_fit();
        // By reference: collected by value, the numbers would keep the larger rows' memory.
        Self::assemble(items.iter().map(|(id, _, _)| *id).collect(), words, by_item)
    }

    /// How many items it tells of.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The item at an ordinal.
    pub(super) fn id(&self, ordinal: usize) -> ItemId {
        self.ids[ordinal]
    }

    /// Where an item is.
    pub(super) fn ordinal(&self, id: ItemId) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The ordinals of the items with numbers in a range.
    pub(super) fn ordinals(&self, range: &std::ops::RangeInclusive<ItemId>) -> Range<usize> {
        let begin = self.ids.partition_point(|id| id < range.start());
        begin..begin.max(self.ids.partition_point(|id| id <= range.end()))
    }

    /// The words that begin with each of these. `None` where one has no word: nothing matches.
    pub(super) fn prefixes(&self, prefixes: &[String]) -> Option<Vec<Range<u32>>> {
        let ranges = prefixes.iter().map(|prefix| self.words.prefix(prefix));
        ranges.map(|range| (!range.is_empty()).then_some(range)).collect()
    }

    /// Whether an item has a word of each of these ranges.
    pub(super) fn has_all(&self, ordinal: usize, ranges: &[Range<u32>]) -> bool {
        let words = self.by_item.row(ordinal);
        ranges.iter().all(|range| words.iter().any(|word| range.contains(word)))
    }

    /// The ordinals of the items with a word of a range: unsorted, and with repetitions.
    pub(super) fn with_any(&self, words: &Range<u32>) -> &[u32] {
        self.by_word.rows(words)
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<ItemId>()
            + self.words.text.capacity()
            + self.words.ends.capacity() * size_of::<u32>()
            + self.by_item.bytes()
            + self.by_word.bytes()
    }
}

/// Sorted words, in one piece of text.
#[derive(Debug, Default)]
struct Dictionary {
    text: String,
    ends: Vec<u32>,
}

impl Dictionary {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn word(&self, number: usize) -> &str {
        let begin = number.checked_sub(1).map_or(0, |before| wide(self.ends[before]));
        &self.text[begin..wide(self.ends[number])]
    }

    fn push(&mut self, word: &str) -> u32 {
        self.text.push_str(word);
        self.ends.push(narrow(self.text.len()));
        narrow(self.ends.len() - 1)
    }

    /// The first word for which something, which holds for all after it, holds.
    fn first(&self, holds: impl Fn(&str) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if holds(self.word(middle)) { high = middle } else { low = middle + 1 }
        }
        narrow(low)
    }

    fn prefix(&self, prefix: &str) -> Range<u32> {
        let begin = self.first(|word| word >= prefix);
        begin..self.first(|word| word >= prefix && !word.starts_with(prefix))
    }

    /// The words of both that are used, and where those of each went.
    fn merge(both: [&Self; 2], used: &[Vec<bool>; 2]) -> (Self, [Vec<u32>; 2]) {
        let mut merged = Self::default();
        let mut maps = [vec![0; both[0].len()], vec![0; both[1].len()]];
        let next = |which: usize, from: usize| (from..both[which].len()).find(|n| used[which][*n]);
        let mut heads = [next(0, 0), next(1, 0)];
        loop {
            let words = [0, 1].map(|which| heads[which].map(|n| both[which].word(n)));
            let Some(word) = words.into_iter().flatten().min() else { break };
            let number = merged.push(word);
            for which in [0, 1] {
                if let (Some(n), true) = (heads[which], words[which] == Some(word)) {
                    maps[which][n] = number;
                    heads[which] = next(which, n + 1);
                }
            }
        }
        merged.text.shrink_to_fit();
        merged.ends.shrink_to_fit();
        (merged, maps)
    }
}

/// Rows of numbers, in one piece.
#[derive(Debug, Default)]
struct Rows {
    values: Vec<u32>,
    ends: Vec<u32>,
}

impl Rows {
    fn end_row(&mut self) {
        self.ends.push(narrow(self.values.len()));
    }

    fn begin(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| wide(self.ends[before]))
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.values[self.begin(row)..wide(self.ends[row])]
    }

    fn rows(&self, rows: &Range<u32>) -> &[u32] {
        &self.values[self.begin(wide(rows.start))..self.begin(wide(rows.end))]
    }

    /// The same rows with other names for the values, sorted and without repetitions.
    fn mapped(&self, map: &[u32]) -> Self {
        let (mut mapped, mut row) = (Self::default(), Vec::new());
        for number in 0..self.ends.len() {
            row.clear();
            row.extend(self.row(number).iter().map(|value| map[wide(*value)]));
            row.sort_unstable();
            row.dedup();
            mapped.values.extend_from_slice(&row);
            mapped.end_row();
        }
        mapped
    }

    /// For each of so many values the rows that it is in, ascending.
    fn inverted(&self, values: usize) -> Self {
        let mut ends = vec![0_u32; values];
        for value in &self.values {
            ends[wide(*value)] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            // First where each row begins; filling it moves that to where it ends.
            total += std::mem::replace(end, total);
        }
        let mut inverted = Self { values: vec![0; self.values.len()], ends };
        for row in 0..self.ends.len() {
            for value in self.row(row) {
                let place = &mut inverted.ends[wide(*value)];
                inverted.values[wide(*place)] = narrow(row);
                *place += 1;
            }
        }
        inverted
    }

    fn bytes(&self) -> usize {
        (self.values.capacity() + self.ends.capacity()) * size_of::<u32>()
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("the words of a catalog in memory are fewer than 2^32")
}

fn wide(number: u32) -> usize {
    usize::try_from(number).expect("an address has at least 32 bits")
}
