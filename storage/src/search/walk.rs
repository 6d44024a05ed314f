//! The items of a listing in its order, from a segment that is sorted by it.

use std::sync::Arc;

use super::{
    bits::Bits,
    dictionary::wide,
    listing::{Listing, Position},
    lookup::{Part, Search},
    order::{self, Kept},
};
use crate::catalog::Item;

// How long what is tried first is gone on with: about as long as what helps in any case takes. As
// measured with a million items.

/// Bits that are set in the time in which one of an item's words is looked for.
const BITS_PER_WORD: usize = 96;
/// Bits that are set in the time in which all words of an item are looked for.
const BITS_PER_ITEM: usize = 64;
/// Items that are found to be sold out in the time in which one is looked at in the state, with
/// something for the surprise.
const SOLD_OUT_PER_ITEM: usize = 256;
/// From this share of a segment's items on, the topics of all are looked at.
const COMMON: usize = 16;

/// Goes through a segment in the order of a listing.
///
/// At first it tests item by item: where many match, a page is soon full. If it is not, those that
/// match may be few, or all at the other end. What is left is then a matter of bits, one for each
/// item: it is known from the lists of the words which match, and likewise which are sold out. So a
/// walk costs at most a few times what going through those lists does, whatever there is to find.
pub(super) struct Walk<'a> {
    search: &'a Search<'a>,
    part: &'a Part<'a>,
    listing: &'a Listing,
    /// The number of the listing's topic in the segment.
    topic: Option<u32>,
    /// The ordinals still to come, in the kept order.
    rest: &'a [u32],
    /// Which items match as far as words and topic go, once that is known.
    matching: Option<Bits>,
    /// Items to be tested one by one before it is.
    tests_left: usize,
    /// Items to be found in the wrong state of stock before all are taken out; `None` afterwards.
    misses_left: Option<usize>,
}

impl<'a> Walk<'a> {
    /// The walk of a page of so many items after a place.
    pub(super) fn new(
        search: &'a Search<'a>,
        part: &'a Part<'a>,
        listing: &'a Listing,
        kept: Kept,
        after: Option<&Position>,
        limit: usize,
    ) -> Self {
        let segment = &part.layer.segment;
        let topic = listing.topic.as_deref().map(|name| segment.topic(name));
        let order = match part.ranges.is_none() || topic == Some(None) {
            true => &[],
            false => part.layer.orders().by(kept),
        };
        let live = |ordinal| live(search, part, ordinal).map(|item| &**item);
        let rest = order::rest(order, listing.sort, after, live);
        let mut walk = Self {
            search,
            part,
            listing,
            topic: topic.flatten(),
            rest,
            matching: None,
            tests_left: 0,
            misses_left: None,
        };
        (walk.tests_left, walk.misses_left) = (walk.tests(limit), walk.misses(limit));
        walk
    }

    /// How many items to test one by one: none if a page is not to be expected from them.
    fn tests(&self, limit: usize) -> usize {
        let len = self.part.layer.segment.len();
        let topic = self.listing.topic.as_deref();
        let of_topic = topic.and_then(|topic| self.search.state.topics.get(topic));
        let candidates = self.part.candidates().min(of_topic.map_or(len, |ids| ids.len()));
        let words = self.part.ranges.as_ref().map_or(0, Vec::len);
        let tests = (self.part.entries() + len) / (BITS_PER_WORD * (1 + words));
        let expected = len.saturating_mul(limit) / candidates.max(1);
        if expected > tests { 0 } else { tests }
    }

    /// How many items to find in the wrong state of stock: likewise.
    fn misses(&self, limit: usize) -> Option<usize> {
        let (state, len) = (self.search.state, self.part.layer.segment.len());
        let (items, sold_out) = (state.items.len(), state.sold_out.len());
        let (wanted, held) = match self.listing.in_stock? {
            true => (items.saturating_sub(sold_out), 0),
            false => (sold_out, state.expiries.len()),
        };
        let misses = (sold_out + len / COMMON) / SOLD_OUT_PER_ITEM + held;
        let expected = items.saturating_mul(limit) / wanted.max(1);
        Some(if expected > misses { 0 } else { misses })
    }

    /// The next item that matches as far as words and topic go.
    fn next_match(&mut self) -> Option<usize> {
        while self.matching.is_none() && self.tests_left > 0 {
            self.tests_left -= 1;
            let ordinal = self.next_where(|_| true)?;
            if self.matches(ordinal) {
                return Some(ordinal);
            }
        }
        let matching = self.take_matching();
        let next = self.next_where(|ordinal| matching.has(ordinal));
        self.matching = Some(matching);
        next
    }

    fn next_where(&mut self, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let wanted = |ordinal: &u32| wanted(wide(*ordinal));
        let rest = self.rest;
        match self.listing.sort.descending {
            true => {
                let at = rest.iter().rposition(wanted);
                self.rest = &rest[..at.unwrap_or(0)];
                at.map(|at| wide(rest[at]))
            }
            false => {
                let at = rest.iter().position(wanted);
                self.rest = &rest[at.map_or(rest.len(), |at| at + 1)..];
                at.map(|at| wide(rest[at]))
            }
        }
    }

    fn matches(&self, ordinal: usize) -> bool {
        let (part, segment) = (self.part, &self.part.layer.segment);
        !part.layer.hidden.has(ordinal)
            && self.topic.is_none_or(|topic| segment.has_topic(ordinal, topic))
            && part.has_all(ordinal)
    }

    fn take_matching(&mut self) -> Bits {
        self.matching.take().unwrap_or_else(|| {
            let matching = self.all_matching();
            if matching.is_empty() {
                self.rest = &[];
            }
            matching
        })
    }

    fn all_matching(&self) -> Bits {
        let segment = &self.part.layer.segment;
        let mut matching = self.part.layer.hidden.others(segment.len());
        let mut lists = self.part.lists();
        lists.sort_unstable_by_key(|list| list.len());
        for list in lists {
            if matching.count() < list.len() / BITS_PER_ITEM {
                matching.retain(|ordinal| self.part.has_all(ordinal));
                break;
            }
            let mut with = Bits::none(segment.len());
            list.iter().for_each(|ordinal| with.add(wide(*ordinal)));
            matching.keep(&with);
        }
        match self.topic {
            None => {}
            Some(topic) if matching.count() < segment.len() / COMMON => {
                matching.retain(|ordinal| segment.has_topic(ordinal, topic));
            }
            Some(topic) => segment.keep_topic(&mut matching, topic),
        }
        matching
    }

    /// Takes out what is certainly in the wrong state of stock.
    fn take_out_by_stock(&mut self) {
        let state = self.search.state;
        let segment = &self.part.layer.segment;
        let (mut sold_out, mut at) = (Bits::none(segment.len()), 0);
        for id in &state.sold_out {
            at = segment.seek(at, *id);
            if at == segment.len() {
                break;
            }
            if segment.id(at) == *id {
                sold_out.add(at);
            }
        }
        let wanted = match self.listing.in_stock {
            // All pieces of those that are left may be held.
            Some(true) => sold_out.others(segment.len()),
            Some(false) => {
                let held = state.held_items().filter_map(|id| segment.ordinal(id));
                held.for_each(|ordinal| sold_out.add(ordinal));
                sold_out
            }
            None => return,
        };
        let mut matching = self.take_matching();
        matching.keep(&wanted);
        self.matching = Some(matching);
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = &'a Arc<Item>;

    fn next(&mut self) -> Option<&'a Arc<Item>> {
        loop {
            if self.misses_left == Some(0) {
                self.misses_left = None;
                self.take_out_by_stock();
            }
            let ordinal = self.next_match()?;
            let Some(item) = live(self.search, self.part, ordinal) else { continue };
            if self.listing.wants_stock(item) {
                return Some(item);
            }
            self.misses_left = self.misses_left.and_then(|left| left.checked_sub(1));
        }
    }
}

/// The item at an ordinal, if what the segment says of it is still so.
fn live<'a>(search: &Search<'a>, part: &Part<'a>, ordinal: usize) -> Option<&'a Arc<Item>> {
    let id = part.layer.segment.id(ordinal);
    let is_live = !part.layer.hidden.has(ordinal) && search.covers(id);
    search.state.items.get(&id).filter(|_| is_live)
}
