//! The index: segments, newest last, each of which hides what older ones say of its items.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use super::{fold::each_word, listing::Words, retitled::Mark, segment::Segment};
use crate::{
    catalog::{Item, ItemId},
    state::State,
};

/// Items of a segment that is made in one go: what a build needs besides the index stays small.
const SEGMENT_ITEMS: usize = 1 << 16;
/// A segment is merged with the one before unless that is so many times as large. An item is then
/// written a logarithmic number of times, and there is a logarithmic number of segments.
const GROWTH: usize = 2;
/// From this share of a segment's items on, all are looked at one by one: a page is full soon.
const COMMON: usize = 32;

/// Which items have which words, as of some state. A value: a later one shares what did not change.
#[derive(Debug, Clone)]
pub struct Index {
    /// How much of what the state notes is in it.
    covers: Mark,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    segment: Arc<Segment>,
    /// One bit for each item: whether a newer segment tells of it.
    hidden: Vec<u64>,
}

impl Layer {
    fn new(segment: Segment) -> Self {
        Self { hidden: vec![0; segment.len().div_ceil(64)], segment: Arc::new(segment) }
    }

    fn is_hidden(&self, ordinal: usize) -> bool {
        self.hidden[ordinal / 64] & (1 << (ordinal % 64)) != 0
    }
}

impl Index {
    /// An index of a state: the one before with what changed since, or a new one. `None` when the
    /// one before has it all.
    ///
    /// The first takes some seconds for a million items, a later one what the changes cost.
    pub fn advance(before: Option<&Self>, state: &State) -> Option<Self> {
        let behind = before.and_then(|index| Some((index, state.retitled.since(&index.covers)?)));
        let covers = state.retitled.mark();
        let Some((before, retitled)) = behind else {
            let mut index = Self { covers, layers: Vec::new() };
            let mut items = state.items.iter().map(|(id, item)| (*id, Some(&**item))).peekable();
            while items.peek().is_some() {
                index.add(Segment::of(items.by_ref().take(SEGMENT_ITEMS)));
            }
            index.merge_while(|_, _| true);
            return Some(index);
        };
        if retitled.is_empty() {
            return None;
        }
        let mut index = Self { covers, layers: before.layers.clone() };
        for ids in retitled.chunks(SEGMENT_ITEMS) {
            let items = ids.iter().map(|id| (*id, state.items.get(id).map(|item| &**item)));
            index.add(Segment::of(items));
        }
        Some(index)
    }

    fn add(&mut self, segment: Segment) {
        for layer in &mut self.layers {
            for ordinal in 0..segment.len() {
                if let Some(hidden) = layer.segment.ordinal(segment.id(ordinal)) {
                    layer.hidden[hidden / 64] |= 1 << (hidden % 64);
                }
            }
        }
        self.layers.push(Layer::new(segment));
        self.merge_while(|older, newer| older < newer * GROWTH);
    }

    fn merge_while(&mut self, wanted: impl Fn(usize, usize) -> bool) {
        while let [.., older, newer] = &self.layers[..]
            && wanted(older.segment.len(), newer.segment.len())
        {
            let all = self.layers.len() == 2;
            let merged = Segment::merge(&older.segment, &newer.segment, all);
            self.layers.truncate(self.layers.len() - 2);
            self.layers.push(Layer::new(merged));
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let layer = |layer: &Layer| layer.segment.bytes() + layer.hidden.capacity() * 8;
        self.layers.iter().map(layer).sum()
    }

    /// The number of segments.
    pub fn segments(&self) -> usize {
        self.layers.len()
    }

    /// What a search looks at in a state. `None` when the index says nothing of this one.
    pub(super) fn search<'a>(&'a self, state: &'a State, words: &'a Words) -> Option<Search<'a>> {
        let uncovered = state.retitled.since(&self.covers)?;
        let parts = self.layers.iter().map(|layer| {
            let ranges = layer.segment.prefixes(words.prefixes());
            Part { layer, ranges: ranges.unwrap_or_default() }
        });
        Some(Search { state, words, parts: parts.collect(), uncovered })
    }
}

/// A search over an index and what it does not cover yet.
pub(super) struct Search<'a> {
    state: &'a State,
    words: &'a Words,
    parts: Vec<Part<'a>>,
    /// Sorted.
    uncovered: Vec<ItemId>,
}

struct Part<'a> {
    layer: &'a Layer,
    /// The words that begin with each word of the search; none where nothing can match.
    ranges: Vec<Range<u32>>,
}

impl<'a> Search<'a> {
    /// How many items have to be looked at, at most.
    pub(super) fn candidates(&self) -> usize {
        let parts = self.parts.iter().filter_map(|part| Some(part.rarest()?.len()));
        parts.sum::<usize>() + self.uncovered.len()
    }

    /// Whether an item of the state has all the words.
    pub(super) fn matches(&self, item: &Item) -> bool {
        if self.uncovered.binary_search(&item.id).is_ok() {
            return self.words.are_in(item);
        }
        let found = self.parts.iter().rev().find_map(|part| {
            let ordinal = part.layer.segment.ordinal(item.id)?;
            Some(part.has_all(ordinal))
        });
        found.unwrap_or(false)
    }

    /// The items in a range of numbers that have all the words, in order or in reverse.
    pub(super) fn ids<'s>(
        &'s self,
        range: &RangeInclusive<ItemId>,
        descending: bool,
    ) -> impl Iterator<Item = ItemId> + use<'s, 'a> {
        let mut runs: Vec<Run<'s>> = self
            .parts
            .iter()
            .map(|part| {
                let ids = part.ordinals(range).map(|ordinal| part.layer.segment.id(ordinal));
                let covered = ids.filter(|id| self.uncovered.binary_search(id).is_err());
                directed(covered, descending)
            })
            .collect();
        let begin = self.uncovered.partition_point(|id| id < range.start());
        let end = self.uncovered.partition_point(|id| id <= range.end());
        let uncovered = self.uncovered[begin..begin.max(end)]
            .iter()
            .copied()
            .filter(|id| self.state.items.get(id).is_some_and(|item| self.words.are_in(item)));
        runs.push(directed(uncovered, descending));
        merged(runs, descending)
    }
}

impl<'a> Part<'a> {
    /// The ordinals with the word that fewest have: unsorted, and with repetitions.
    fn rarest(&self) -> Option<&'a [u32]> {
        let with_any = |range| self.layer.segment.with_any(range);
        self.ranges.iter().map(with_any).min_by_key(|ordinals| ordinals.len())
    }

    fn has_all(&self, ordinal: usize) -> bool {
        !self.ranges.is_empty() && self.layer.segment.has_all(ordinal, &self.ranges)
    }

    fn ordinals<'s>(
        &'s self,
        range: &RangeInclusive<ItemId>,
    ) -> Box<dyn DoubleEndedIterator<Item = usize> + 's> {
        let within = self.layer.segment.ordinals(range);
        let Some(rarest) = self.rarest() else { return Box::new(std::iter::empty()) };
        let wanted = |ordinal: &usize| !self.layer.is_hidden(*ordinal) && self.has_all(*ordinal);
        if rarest.len() > self.layer.segment.len() / COMMON {
            return Box::new(within.filter(wanted));
        }
        let ordinals = rarest.iter().filter_map(|ordinal| usize::try_from(*ordinal).ok());
        let mut ordinals: Vec<usize> =
            ordinals.filter(|ordinal| within.contains(ordinal)).collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        Box::new(ordinals.into_iter().filter(wanted))
    }
}

type Run<'a> = Box<dyn Iterator<Item = ItemId> + 'a>;

fn directed<'a>(ids: impl DoubleEndedIterator<Item = ItemId> + 'a, descending: bool) -> Run<'a> {
    if descending { Box::new(ids.rev()) } else { Box::new(ids) }
}

/// One row of several that are sorted and have nothing in common. They are few: the next number is
/// looked for in all of them.
fn merged(mut runs: Vec<Run<'_>>, descending: bool) -> impl Iterator<Item = ItemId> {
    let mut heads: Vec<Option<ItemId>> = runs.iter_mut().map(Iterator::next).collect();
    std::iter::from_fn(move || {
        let waiting = heads.iter().enumerate().filter_map(|(run, head)| Some(((*head)?, run)));
        let (id, run) = if descending { waiting.max() } else { waiting.min() }?;
        heads[run] = runs[run].next();
        Some(id)
    })
}

/// Whether each of the prefixes begins a word of the item.
pub(super) fn has_words(item: &Item, prefixes: &[String]) -> bool {
    let mut missing: Vec<&String> = prefixes.iter().collect();
    for text in [&item.title, &item.topic] {
        each_word(text, |word| missing.retain(|prefix| !word.starts_with(prefix.as_str())));
    }
    missing.is_empty()
}
