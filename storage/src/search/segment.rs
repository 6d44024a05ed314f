//! A part of the index: some items with their words and topics, both ways, never changed once made.

use std::ops::{Range, RangeInclusive};

use super::{
    bits::Bits,
    dictionary::{Dictionary, Numbering, Rows, narrow, wide},
    fold::each_word,
};
use crate::catalog::{Item, ItemId};

/// In place of its topic, that an item is gone.
const GONE: u32 = u32::MAX;
/// Items that are gone through one by one before a search halves what is left.
const NEAR: usize = 32;

/// What some items' words and topics are, as of when it was made.
///
/// Everything is in a few flat vectors: an item costs 16 bytes, each of its words 8, and each
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
    topics: Dictionary,
    /// The topic of each item, or [`GONE`].
    topic_of: Vec<u32>,
}

impl Segment {
    /// The words and topics of items, given with ascending numbers; `None` for one that is gone.
    pub(super) fn of<'a>(items: impl Iterator<Item = (ItemId, Option<&'a Item>)>) -> Self {
        let (mut words, mut topics) = (Numbering::default(), Numbering::default());
        let (mut ids, mut by_item, mut topic_of) = (Vec::new(), Rows::default(), Vec::new());
        for (id, item) in items {
            ids.push(id);
            for text in item.iter().flat_map(|item| [&item.title, &item.topic]) {
                each_word(text, |word| by_item.values.push(words.number(word)));
            }
            by_item.end_row();
            topic_of.push(item.map_or(GONE, |item| topics.number(&item.topic)));
        }
        // From the order in which they were met to their own order.
        let ((words, word_map), (topics, topic_map)) = (words.sorted(), topics.sorted());
        let by_item = by_item.mapped(&word_map);
        let topic_of = topic_of.into_iter().map(|topic| moved(topic, &topic_map)).collect();
        Self { by_word: by_item.inverted(words.len()), ids, words, by_item, topics, topic_of }
    }

    /// One segment in the place of two: where both know an item, the newer one is right. `all` says
    /// that there is no older one, whose items those that are gone would have to hide.
    pub(super) fn merge(older: &Self, newer: &Self, all: bool) -> Self {
        let mut items: Vec<(ItemId, usize, u32)> = Vec::with_capacity(older.len() + newer.len());
        let both = [older, newer];
        let (mut o, mut n) = (0, 0);
        loop {
            let (which, at) = match (older.ids.get(o), newer.ids.get(n)) {
                (None, None) => break,
                (Some(_), None) => (0, o),
                (None, Some(_)) => (1, n),
                (Some(old), Some(new)) if old < new => (0, o),
                (Some(old), Some(new)) => {
                    o += usize::from(old == new);
                    (1, n)
                }
            };
            if !all || !both[which].is_gone(at) {
                items.push((both[which].ids[at], which, narrow(at)));
            }
            if which == 0 { o += 1 } else { n += 1 }
        }
        let mut used_words = both.map(|segment| vec![false; segment.words.len()]);
        let mut used_topics = both.map(|segment| vec![false; segment.topics.len()]);
        for (_, which, at) in &items {
            for word in both[*which].by_item.row(wide(*at)) {
                used_words[*which][wide(*word)] = true;
            }
            if !both[*which].is_gone(wide(*at)) {
                used_topics[*which][wide(both[*which].topic_of[wide(*at)])] = true;
            }
        }
        let (words, word_maps) = Dictionary::merge(both.map(|segment| &segment.words), &used_words);
        let (topics, topic_maps) =
            Dictionary::merge(both.map(|segment| &segment.topics), &used_topics);
        let (mut by_item, mut topic_of) = (Rows::default(), Vec::with_capacity(items.len()));
        for (_, which, at) in &items {
            let row = both[*which].by_item.row(wide(*at));
            by_item.values.extend(row.iter().map(|word| word_maps[*which][wide(*word)]));
            by_item.end_row();
            topic_of.push(moved(both[*which].topic_of[wide(*at)], &topic_maps[*which]));
        }
        by_item.shrink_to_fit();
        // By reference: collected by value, the numbers would keep the larger rows' memory.
        let ids = items.iter().map(|(id, _, _)| *id).collect();
        Self { by_word: by_item.inverted(words.len()), ids, words, by_item, topics, topic_of }
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

    /// The first ordinal, from one on, of an item with this number or a greater one. Fast where that
    /// is near.
    pub(super) fn seek(&self, from: usize, id: ItemId) -> usize {
        let rest = &self.ids[from..];
        let near = rest.iter().take(NEAR).position(|other| *other >= id);
        from + near.unwrap_or_else(|| rest.partition_point(|other| *other < id))
    }

    /// The ordinals of the items with numbers in a range.
    pub(super) fn ordinals(&self, range: &RangeInclusive<ItemId>) -> Range<usize> {
        let begin = self.ids.partition_point(|id| id < range.start());
        begin..begin.max(self.ids.partition_point(|id| id <= range.end()))
    }

    /// Whether an item is gone: there is no other word of it.
    pub(super) fn is_gone(&self, ordinal: usize) -> bool {
        self.topic_of[ordinal] == GONE
    }

    /// The number of a topic, if an item has it.
    pub(super) fn topic(&self, name: &str) -> Option<u32> {
        self.topics.find(name)
    }

    /// Whether an item has the topic of this number.
    pub(super) fn has_topic(&self, ordinal: usize, topic: u32) -> bool {
        self.topic_of[ordinal] == topic
    }

    /// Takes out the items that have not the topic of this number.
    pub(super) fn keep_topic(&self, ordinals: &mut Bits, topic: u32) {
        ordinals.keep_where(&self.topic_of, |other| *other == topic);
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
            + self.words.bytes()
            + self.by_item.bytes()
            + self.by_word.bytes()
            + self.topics.bytes()
            + self.topic_of.capacity() * size_of::<u32>()
    }
}

/// The number that a topic has after a merge.
fn moved(topic: u32, map: &[u32]) -> u32 {
    if topic == GONE { GONE } else { map[wide(topic)] }
}
