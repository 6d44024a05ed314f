//! What an index says of a state: which items have some words.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use super::{dictionary::wide, index::Layer, listing::Words};
use crate::{
    catalog::{Item, ItemId},
    state::State,
};

/// From this share of a segment's items on, all are looked at one by one: a page is full soon.
const COMMON: usize = 32;

/// The items with some words, or all, by an index and what it does not cover yet.
pub(super) struct Search<'a> {
    pub(super) state: &'a State,
    words: Option<&'a Words>,
    pub(super) parts: Vec<Part<'a>>,
    /// Sorted.
    uncovered: Vec<ItemId>,
}

/// The items of one segment.
pub(super) struct Part<'a> {
    pub(super) layer: &'a Layer,
    /// The words that begin with each word of the search. `None` where nothing can match.
    pub(super) ranges: Option<Vec<Range<u32>>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        state: &'a State,
        words: Option<&'a Words>,
        layers: &'a [Layer],
        uncovered: Vec<ItemId>,
    ) -> Self {
        let prefixes = words.map_or(&[][..], Words::prefixes);
        let parts = layers.iter();
        let parts = parts.map(|layer| Part { layer, ranges: layer.segment.prefixes(prefixes) });
        Self { state, words, parts: parts.collect(), uncovered }
    }

    /// How many items of the segments have to be looked at, at most, for those with all the words.
    pub(super) fn candidates(&self) -> usize {
        self.parts.iter().map(Part::candidates).sum()
    }

    /// Whether an item of the state has all the words.
    pub(super) fn matches(&self, item: &Item) -> bool {
        if !self.covers(item.id) {
            return self.words.is_none_or(|words| words.are_in(item));
        }
        let found = self.parts.iter().rev().find_map(|part| {
            let ordinal = part.layer.segment.ordinal(item.id)?;
            Some(part.has_all(ordinal))
        });
        found.unwrap_or(false)
    }

    /// Whether what the segments say of an item is still so.
    pub(super) fn covers(&self, id: ItemId) -> bool {
        self.uncovered.binary_search(&id).is_err()
    }

    /// The items that the segments say nothing right of, whichever words they have.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &'a Arc<Item>> {
        self.uncovered.iter().filter_map(|id| self.state.items.get(id))
    }

    /// The items in a range of numbers that have all the words, of which there is one, in order or in
    /// reverse.
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
                directed(ids.filter(|id| self.covers(*id)), descending)
            })
            .collect();
        let begin = self.uncovered.partition_point(|id| id < range.start());
        let end = self.uncovered.partition_point(|id| id <= range.end());
        let uncovered = self.uncovered[begin..begin.max(end)]
            .iter()
            .copied()
            .filter(|id| self.state.items.get(id).is_some_and(|item| self.matches(item)));
        runs.push(directed(uncovered, descending));
        merged(runs, descending)
    }
}
impl<'a> Part<'a> {
    /// How many items have to be looked at, at most, for those with all the words.
    pub(super) fn candidates(&self) -> usize {
        let len = self.layer.segment.len();
        match &self.ranges {
            None => 0,
            Some(_) => self.rarest().map_or(len, |rarest| rarest.len().min(len)),
        }
    }

    /// For each word of the search the ordinals of the items with it: unsorted, and with repetitions.
    pub(super) fn lists(&self) -> Vec<&'a [u32]> {
        let with_any = |range| self.layer.segment.with_any(range);
        self.ranges.iter().flatten().map(with_any).collect()
    }

    /// How long these lists are together.
    pub(super) fn entries(&self) -> usize {
        self.lists().iter().map(|list| list.len()).sum()
    }

    /// The one of the word that fewest have, if there is a word.
    fn rarest(&self) -> Option<&'a [u32]> {
        self.lists().into_iter().min_by_key(|list| list.len())
    }

    /// Whether an item has all the words.
    pub(super) fn has_all(&self, ordinal: usize) -> bool {
        self.ranges.as_ref().is_some_and(|ranges| self.layer.segment.has_all(ordinal, ranges))
    }

    fn ordinals<'s>(
        &'s self,
        range: &RangeInclusive<ItemId>,
    ) -> Box<dyn DoubleEndedIterator<Item = usize> + 's> {
        let within = self.layer.segment.ordinals(range);
        let Some(rarest) = self.rarest() else { return Box::new(std::iter::empty()) };
        let wanted = |ordinal: &usize| !self.layer.hidden.has(*ordinal) && self.has_all(*ordinal);
        if rarest.len() > self.layer.segment.len() / COMMON {
            return Box::new(within.filter(wanted));
        }
        let ordinals = rarest.iter().map(|ordinal| wide(*ordinal));
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
