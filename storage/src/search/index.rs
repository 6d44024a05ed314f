//! The index: segments, newest last, each of which hides what older ones say of its items.

use std::sync::Arc;

use super::{
    bits::Bits, listing::Words, lookup::Search, order::Orders, relisted::Mark, segment::Segment,
};
use crate::state::State;

/// Items of a segment that is made in one go: what a build needs besides the index stays small.
const SEGMENT_ITEMS: usize = 1 << 16;
/// A segment is merged with the one before unless that is so many times as large. An item is then
/// written a logarithmic number of times, and there is a logarithmic number of segments.
const GROWTH: usize = 2;

/// Which items have which words, and the items in order, as of some state. A value: a later one
/// shares what did not change.
#[derive(Debug, Clone)]
pub struct Index {
    /// How much of what the state notes is in it.
    covers: Mark,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) segment: Arc<Segment>,
    /// Those of which a newer segment tells.
    pub(super) hidden: Bits,
    /// `None` only while an index is made: what is merged away in it is never sorted.
    orders: Option<Arc<Orders>>,
}

impl Layer {
    fn new(segment: Segment) -> Self {
        let hidden = Bits::none(segment.len());
        Self { segment: Arc::new(segment), hidden, orders: None }
    }

    pub(super) fn orders(&self) -> &Orders {
        self.orders.as_deref().expect("an index is not given out before it is sorted")
    }
}

impl Index {
    /// An index of a state: the one before with what changed since, or a new one. `None` when the
    /// one before has it all.
    ///
    /// The first takes some seconds for a million items, a later one what the changes cost.
    pub fn advance(before: Option<&Self>, state: &State) -> Option<Self> {
        let behind = before.and_then(|index| Some((index, state.relisted.since(&index.covers)?)));
        let covers = state.relisted.mark();
        let Some((before, relisted)) = behind else {
            let mut index = Self { covers, layers: Vec::new() };
            let mut items = state.items.iter().map(|(id, item)| (*id, Some(&**item))).peekable();
            while items.peek().is_some() {
                index.add(Segment::of(items.by_ref().take(SEGMENT_ITEMS)));
            }
            index.merge_while(|_, _| true);
            index.sort(state);
            return Some(index);
        };
        if relisted.is_empty() {
            return None;
        }
        let mut index = Self { covers, layers: before.layers.clone() };
        for ids in relisted.chunks(SEGMENT_ITEMS) {
            let items = ids.iter().map(|id| (*id, state.items.get(id).map(|item| &**item)));
            index.add(Segment::of(items));
        }
        index.sort(state);
        Some(index)
    }

    fn add(&mut self, segment: Segment) {
        for layer in &mut self.layers {
            for ordinal in 0..segment.len() {
                if let Some(hidden) = layer.segment.ordinal(segment.id(ordinal)) {
                    layer.hidden.add(hidden);
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

    /// Sorts the segments that are new. Once all that was relisted is in them: what is not hidden is
    /// then as the state has it.
    fn sort(&mut self, state: &State) {
        for layer in self.layers.iter_mut().filter(|layer| layer.orders.is_none()) {
            layer.orders = Some(Arc::new(Orders::of(&layer.segment, &layer.hidden, state)));
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let layer =
            |layer: &Layer| layer.segment.bytes() + layer.hidden.bytes() + layer.orders().bytes();
        self.layers.iter().map(layer).sum()
    }

    /// The number of segments.
    pub fn segments(&self) -> usize {
        self.layers.len()
    }

    /// What a search, or a page in order, looks at in a state. `None` when the index says nothing of
    /// this one.
    pub(super) fn search<'a>(
        &'a self,
        state: &'a State,
        words: Option<&'a Words>,
    ) -> Option<Search<'a>> {
        let uncovered = state.relisted.since(&self.covers)?;
        Some(Search::new(state, words, &self.layers, uncovered))
    }
}
