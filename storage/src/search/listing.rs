//! Pages of items that are filtered, searched and sorted.

use std::{cmp::Ordering, collections::BinaryHeap, ops::RangeInclusive, sync::Arc};

use super::{
    fold::{compare_title, query_words, title_key},
    index::{Index, has_words},
};
use crate::{
    catalog::{Item, ItemId},
    codec,
    query::View,
};

/// The longest text of a search, in bytes of UTF-8.
pub const QUERY_BYTES_MAX: usize = 200;
/// The most words of a search.
const QUERY_WORDS_MAX: usize = 10;
/// Tag of the hash that tells one listing from another.
const LISTING_TAG: u8 = 100;

/// What is wrong with the text of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// There is no letter and no digit in it.
    #[error("has no word")]
    NoWord,
    /// It is too long.
    #[error("is longer than {QUERY_BYTES_MAX} bytes")]
    TooLong,
    /// It has too many words.
    #[error("has more than {QUERY_WORDS_MAX} words")]
    TooManyWords,
}

/// The words of a search, folded. An item matches when each of them begins a word of its title or
/// its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// Reads the text of a search.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        let mut words = query_words(text);
        match words.len() {
            0 => return Err(QueryError::NoWord),
            1..=QUERY_WORDS_MAX => {}
            _ => return Err(QueryError::TooManyWords),
        }
        words.sort_unstable();
        // What begins with the next word begins with this one as well, where that does.
        words.dedup_by(|next, word| {
            let implied = next.starts_with(word.as_str());
            if implied {
                std::mem::swap(next, word);
            }
            implied
        });
        Ok(Self(words))
    }

    pub(super) fn prefixes(&self) -> &[String] {
        &self.0
    }

    pub(super) fn are_in(&self, item: &Item) -> bool {
        has_words(item, &self.0)
    }
}

/// What items are ordered by. Items that are equal in it are in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortBy {
    /// Their numbers.
    #[default]
    Id,
    /// Their titles, folded as for a search.
    Title,
    /// Their prices.
    Price,
    /// The log time of their last change.
    Updated,
}

/// An order of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// From the greatest on, those that are equal too.
    pub descending: bool,
}

impl Sort {
    /// The names of all orders in the interface; each with `-` before it is the reverse.
    pub const NAMES: [&'static str; 4] = ["id", "title", "price", "updated"];

    /// The order of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let (name, descending) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let by = match name {
            "id" => SortBy::Id,
            "title" => SortBy::Title,
            "price" => SortBy::Price,
            "updated" => SortBy::Updated,
            _ => return None,
        };
        Some(Self { by, descending })
    }

    fn key(self, item: &Item) -> SortKey {
        match self.by {
            SortBy::Id => SortKey::Number(item.id),
            SortBy::Title => SortKey::Text(title_key(&item.title)),
            SortBy::Price => SortKey::Number(item.price_cents),
            SortBy::Updated => SortKey::Number(item.updated_ms),
        }
    }

    /// Compares an item with a place in this order.
    fn compare(self, item: &Item, position: &Position) -> Ordering {
        let by_key = match (&position.key, self.by) {
            (SortKey::Text(key), SortBy::Title) => compare_title(&item.title, key),
            (key, _) => self.key(item).cmp(key),
        };
        self.directed(by_key.then(item.id.cmp(&position.id)))
    }

    fn directed(self, ordering: Ordering) -> Ordering {
        if self.descending { ordering.reverse() } else { ordering }
    }
}

/// What an item is ordered by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    /// A number, price or time.
    Number(u64),
    /// A folded title.
    Text(String),
}

/// A place in a listing: that of an item as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// What the item was ordered by.
    pub key: SortKey,
    /// The item.
    pub id: ItemId,
}

/// Which items, in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Those of exactly this topic.
    pub topic: Option<String>,
    /// Those with all of these words.
    pub words: Option<Words>,
    /// Those that can be bought now, or those that cannot.
    pub in_stock: Option<bool>,
    /// The order.
    pub sort: Sort,
}

/// A page of items, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingPage {
    /// The items.
    pub rows: Vec<Arc<Item>>,
    /// The place after which the next page begins; `None` on the last one.
    pub next: Option<Position>,
}

impl Listing {
    /// Tells this listing from others: the same for two that list the same items in the same order.
    pub fn fingerprint(&self) -> u128 {
        let words = self.words.as_ref().map(Words::prefixes);
        let sort = (self.sort.by as u8, self.sort.descending);
        let bytes = codec::encode(&(&self.topic, words, self.in_stock, sort));
        codec::hash128(LISTING_TAG, &bytes)
    }

    /// Whether a place can be one of this listing.
    pub fn takes(&self, position: &Position) -> bool {
        match (&position.key, self.sort.by) {
            (SortKey::Number(number), SortBy::Id) => *number == position.id,
            (SortKey::Number(_), SortBy::Price | SortBy::Updated) => true,
            (SortKey::Text(_), SortBy::Title) => true,
            (SortKey::Number(_), SortBy::Title) | (SortKey::Text(_), _) => false,
        }
    }

    /// Whether the page can take long: everything that matches is looked at before the first row is
    /// known. At a million matches that is some tenths of a second, so it is no work for a thread
    /// that serves others.
    pub fn is_long(&self) -> bool {
        self.sort.by != SortBy::Id || self.words.is_some() || self.in_stock.is_some()
    }

    fn is_wanted(&self, item: &Item) -> bool {
        self.in_stock.is_none_or(|wanted| (item.available() > 0) == wanted)
    }
}

impl View {
    /// A page of a listing, of the items after a place in it.
    ///
    /// The index must have been taken before the view, and makes no difference to the answer: without
    /// one, or with one that says nothing of this view, every item is looked at. In the order of
    /// numbers the work ends with the page; in any other all that matches is ordered first.
    pub fn listing(
        &self,
        index: Option<&Index>,
        listing: &Listing,
        after: Option<&Position>,
        limit: usize,
    ) -> ListingPage {
        let (by, descending) = (listing.sort.by, listing.sort.descending);
        let empty = ListingPage { rows: Vec::new(), next: None };
        let range = match (by, after.map(|position| position.id)) {
            (SortBy::Id, Some(id)) if descending => id.checked_sub(1).map(|last| 0..=last),
            (SortBy::Id, Some(id)) => id.checked_add(1).map(|first| first..=ItemId::MAX),
            _ => Some(0..=ItemId::MAX),
        };
        let Some(range) = range else { return empty };
        let search = match (&listing.words, index) {
            (Some(words), Some(index)) => index.search(&self.state, words),
            (Some(_), None) | (None, _) => None,
        };
        let topic = listing.topic.as_deref();
        let of_topic = |item: &&Arc<Item>| topic.is_none_or(|topic| *item.topic == *topic);
        let topic_count =
            topic.map(|topic| self.state.topics.get(topic).map_or(0, |ids| ids.len()));
        let select = |items: &mut dyn Iterator<Item = &Arc<Item>>| {
            let mut wanted = items.filter(|item| listing.is_wanted(item));
            match by {
                SortBy::Id => first(&mut wanted, limit),
                SortBy::Title | SortBy::Price | SortBy::Updated => {
                    least(&mut wanted, listing.sort, after, limit)
                }
            }
        };
        match (&listing.words, &search) {
            (None, _) => select(&mut *self.walk(topic, &range, descending)),
            (Some(words), None) => {
                let walk = self.walk(topic, &range, descending);
                select(&mut walk.filter(|item| words.are_in(item)))
            }
            // Few items have the topic: they are looked up, not those with the words.
            (Some(_), Some(search)) if topic_count.is_some_and(|n| n < search.candidates()) => {
                let walk = self.walk(topic, &range, descending);
                select(&mut walk.filter(|item| search.matches(item)))
            }
            (Some(_), Some(search)) => {
                let found = search.ids(&range, descending);
                select(&mut found.filter_map(|id| self.item(id)).filter(of_topic))
            }
        }
    }

    /// The items of a topic or all, with numbers in a range, in order or in reverse.
    fn walk(
        &self,
        topic: Option<&str>,
        range: &RangeInclusive<ItemId>,
        descending: bool,
    ) -> Box<dyn Iterator<Item = &Arc<Item>> + '_> {
        let Some(topic) = topic else {
            let items = self.state.items.range(range.clone()).map(|(_, item)| item);
            return if descending { Box::new(items.rev()) } else { Box::new(items) };
        };
        let Some(ids) = self.state.topics.get(topic) else { return Box::new(std::iter::empty()) };
        let items = ids.range(range.clone()).filter_map(|id| self.item(*id));
        if descending { Box::new(items.rev()) } else { Box::new(items) }
    }
}

/// The first items of what comes in the order of the page.
fn first(items: &mut dyn Iterator<Item = &Arc<Item>>, limit: usize) -> ListingPage {
    let mut rows: Vec<Arc<Item>> = items.take(limit + 1).cloned().collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more);
    let next = last.map(|item| Position { key: SortKey::Number(item.id), id: item.id });
    ListingPage { rows, next }
}

/// The items that come first in an order, after a place in it, of what comes in any.
fn least(
    items: &mut dyn Iterator<Item = &Arc<Item>>,
    sort: Sort,
    after: Option<&Position>,
    limit: usize,
) -> ListingPage {
    // One more than the page, so that it is known whether there is a next one.
    let mut kept: BinaryHeap<Ranked> = BinaryHeap::with_capacity(limit.min(1024) + 1);
    for item in items {
        let is_after = after.is_none_or(|position| sort.compare(item, position).is_gt());
        let last = kept.peek().filter(|_| kept.len() > limit);
        if is_after && last.is_none_or(|last| sort.compare(item, &last.position).is_lt()) {
            if kept.len() > limit {
                kept.pop();
            }
            let position = Position { key: sort.key(item), id: item.id };
            kept.push(Ranked { sort, position, item: item.clone() });
        }
    }
    let more = kept.len() > limit;
    let mut ranked = kept.into_sorted_vec();
    ranked.truncate(limit);
    let next = ranked.last().filter(|_| more).map(|last| last.position.clone());
    ListingPage { rows: ranked.into_iter().map(|ranked| ranked.item).collect(), next }
}

/// An item with its place in the page.
struct Ranked {
    sort: Sort,
    position: Position,
    item: Arc<Item>,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort.directed(self.position.cmp(&other.position))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
