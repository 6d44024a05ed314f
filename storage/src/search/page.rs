//! Pages of items that are filtered, searched and sorted: which items are looked at for one.

use std::{collections::BinaryHeap, ops::RangeInclusive, sync::Arc};

use super::{
    index::Index,
    listing::{Listing, ListingPage, Position, Ranked, SortBy, SortKey},
    lookup::Search,
    order::Kept,
    walk::Walk,
};
use crate::{
    catalog::{Item, ItemId},
    query::View,
    state::State,
};

/// Up to this many, and up to this share of all items, those that may match are sorted for a page. Of
/// more, a page is met sooner in the order that the index keeps.
const FEW: usize = 16;
const FEW_SHARE: usize = 1024;

impl View {
    /// A page of a listing, of the items after a place in it.
    ///
    /// The index must have been taken before the view, and makes no difference to the answer: without
    /// one, or with one that says nothing of this view, every item is looked at. With an index the
    /// work ends with the page in the order of numbers, titles and prices; by the last change all
    /// that matches is looked at first.
    pub fn listing(
        &self,
        index: Option<&Index>,
        listing: &Listing,
        after: Option<&Position>,
        limit: usize,
    ) -> ListingPage {
        let (state, kept) = (&self.state, Kept::of(listing.sort.by));
        let index = index.filter(|_| kept.is_some() || listing.words.is_some());
        let search = index.and_then(|index| index.search(state, listing.words.as_ref()));
        let pages = Pages { state, listing, after, limit, search: search.as_ref() };
        let (source, count) = pages.fewest();
        match (&search, kept) {
            (Some(search), Some(kept)) if count > pages.few() => pages.in_order(search, kept),
            _ if listing.sort.by == SortBy::Id => pages.by_number(source),
            _ => pages.sorted(source),
        }
    }
}

/// Where the items come from that are looked at.
#[derive(Debug, Clone, Copy)]
enum Source {
    All,
    /// Those of the topic.
    Topic,
    /// Those with the words, by the index.
    Words,
    /// Those that are sold out or held.
    Unavailable,
}

/// What a page is made from.
struct Pages<'a> {
    state: &'a State,
    listing: &'a Listing,
    after: Option<&'a Position>,
    limit: usize,
    search: Option<&'a Search<'a>>,
}

type Items<'s> = Box<dyn Iterator<Item = &'s Arc<Item>> + 's>;

impl<'a> Pages<'a> {
    fn few(&self) -> usize {
        FEW.max(self.state.items.len() / FEW_SHARE)
    }

    /// The source with the fewest items, and how many they are at most.
    fn fewest(&self) -> (Source, usize) {
        let (state, listing) = (self.state, self.listing);
        let of_topic = |topic: &String| state.topics.get(&**topic).map_or(0, |ids| ids.len());
        let of_words = self.search.filter(|_| listing.words.is_some()).map(Search::candidates);
        // They are gathered and sorted before the first is known, as no others are.
        let unavailable = Some(state.sold_out.len() + state.expiries.len())
            .filter(|n| listing.in_stock == Some(false) && *n <= self.few());
        let sources = [
            (Source::Topic, listing.topic.as_ref().map(of_topic)),
            (Source::Words, of_words),
            (Source::Unavailable, unavailable),
        ];
        let counted = sources.into_iter().filter_map(|(source, count)| Some((source, count?)));
        counted.min_by_key(|(_, count)| *count).unwrap_or((Source::All, usize::MAX))
    }

    /// The items of a source with numbers in a range, in the order of the numbers or in reverse.
    fn items(&self, source: Source, range: &RangeInclusive<ItemId>) -> Items<'_> {
        let (state, descending) = (self.state, self.listing.sort.descending);
        let topic = self.listing.topic.as_deref().and_then(|topic| state.topics.get(topic));
        match (source, topic, self.search) {
            (Source::Topic, Some(ids), _) => {
                directed(ids.range(range.clone()).filter_map(|id| state.items.get(id)), descending)
            }
            (Source::Words, _, Some(search)) => {
                Box::new(search.ids(range, descending).filter_map(|id| state.items.get(&id)))
            }
            (Source::Unavailable, _, _) => {
                let held = state.held_items().filter(|id| range.contains(id));
                let mut ids: Vec<ItemId> =
                    state.sold_out.range(range.clone()).copied().chain(held).collect();
                ids.sort_unstable();
                ids.dedup();
                directed(ids.into_iter().filter_map(|id| state.items.get(&id)), descending)
            }
            (Source::Topic, None, _) => Box::new(std::iter::empty()),
            (Source::All | Source::Words, _, _) => {
                directed(state.items.range(range.clone()).map(|(_, item)| item), descending)
            }
        }
    }

    /// Whether an item of a source belongs to the listing.
    fn wants(&self, source: Source, item: &Item) -> bool {
        self.listing.wants(item)
            && match (source, &self.listing.words, self.search) {
                (Source::Words, _, _) | (_, None, _) => true,
                (_, Some(_), Some(search)) => search.matches(item),
                (_, Some(words), None) => words.are_in(item),
            }
    }

    /// The page in the order of the numbers.
    fn by_number(&self, source: Source) -> ListingPage {
        let range = match self.after.map(|position| position.id) {
            None => Some(0..=ItemId::MAX),
            Some(id) if self.listing.sort.descending => id.checked_sub(1).map(|last| 0..=last),
            Some(id) => id.checked_add(1).map(|first| first..=ItemId::MAX),
        };
        let Some(range) = range else { return ListingPage { rows: Vec::new(), next: None } };
        let wanted = self.items(source, &range).filter(|item| self.wants(source, item));
        let mut rows: Vec<Arc<Item>> = wanted.take(self.limit + 1).cloned().collect();
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let last = rows.last().filter(|_| more);
        let next = last.map(|item| Position { key: SortKey::Number(item.id), id: item.id });
        ListingPage { rows, next }
    }

    /// The page in any order, by looking at all items of a source.
    fn sorted(&self, source: Source) -> ListingPage {
        let items = self.items(source, &(0..=ItemId::MAX));
        self.page(self.least(items, |item| self.wants(source, item)))
    }

    /// The page in an order that the segments of an index keep, by going through them side by side.
    fn in_order(&self, search: &Search<'_>, kept: Kept) -> ListingPage {
        let (listing, sort) = (self.listing, self.listing.sort);
        let mut runs: Vec<Box<dyn Iterator<Item = Ranked> + '_>> = Vec::new();
        for part in &search.parts {
            let walk = Walk::new(search, part, listing, kept, self.after, self.limit);
            runs.push(Box::new(walk.map(move |item| Ranked::new(sort, item))));
        }
        let uncovered = self.least(search.uncovered(), |item| self.wants(Source::All, item));
        runs.push(Box::new(uncovered.into_iter()));
        let mut heads: Vec<Option<Ranked>> = runs.iter_mut().map(Iterator::next).collect();
        let mut ranked = Vec::new();
        while ranked.len() <= self.limit {
            let waiting = heads.iter().enumerate().filter(|(_, head)| head.is_some());
            let Some((run, _)) = waiting.min_by(|(_, a), (_, b)| a.cmp(b)) else { break };
            let next = runs[run].next();
            ranked.extend(std::mem::replace(&mut heads[run], next));
        }
        self.page(ranked)
    }

    /// The wanted items that come first of what comes in any order, one more than the page has.
    fn least<'s>(
        &self,
        items: impl Iterator<Item = &'s Arc<Item>>,
        wanted: impl Fn(&Item) -> bool,
    ) -> Vec<Ranked> {
        let (sort, limit) = (self.listing.sort, self.limit);
        let mut kept: BinaryHeap<Ranked> = BinaryHeap::with_capacity(limit.min(1024) + 1);
        for item in items {
            let is_after = |position: &Position| sort.compare(item, position).is_gt();
            let last = kept.peek().filter(|_| kept.len() > limit);
            let is_before = |last: &Ranked| sort.compare(item, &last.position).is_lt();
            // To fold a title costs more than to compare it.
            if self.after.is_none_or(is_after) && last.is_none_or(is_before) && wanted(item) {
                if kept.len() > limit {
                    kept.pop();
                }
                kept.push(Ranked::new(sort, item));
            }
        }
        kept.into_sorted_vec()
    }

    /// The page of the items that come next, where one more than it has says that it is not the last.
    fn page(&self, mut ranked: Vec<Ranked>) -> ListingPage {
        let more = ranked.len() > self.limit;
        ranked.truncate(self.limit);
        let next = ranked.last().filter(|_| more).map(|last| last.position.clone());
        ListingPage { rows: ranked.into_iter().map(|ranked| ranked.item).collect(), next }
    }
}

fn directed<'s>(
    items: impl DoubleEndedIterator<Item = &'s Arc<Item>> + 's,
    descending: bool,
) -> Items<'s> {
    if descending { Box::new(items.rev()) } else { Box::new(items) }
}
