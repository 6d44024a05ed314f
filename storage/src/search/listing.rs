//! Which items are asked for, and in which order.

use std::{cmp::Ordering, sync::Arc};

use super::fold::{compare_title, each_word, query_words, title_key};
use crate::{
    catalog::{Item, ItemId},
    codec,
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
        let mut missing: Vec<&String> = self.0.iter().collect();
        for text in [&item.title, &item.topic] {
            each_word(text, |word| missing.retain(|prefix| !word.starts_with(prefix.as_str())));
        }
        missing.is_empty()
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
    pub(super) fn compare(self, item: &Item, position: &Position) -> Ordering {
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

    /// Whether the page can take long: some milliseconds, or where there is no index yet, and by the
    /// last change always, a look at each item. At a million that is some tenths of a second, so it
    /// is no work for a thread that serves others.
    pub fn is_long(&self) -> bool {
        self.sort.by != SortBy::Id || self.words.is_some() || self.in_stock.is_some()
    }

    /// Whether an item has what is asked for besides the words.
    pub(super) fn wants(&self, item: &Item) -> bool {
        self.topic.as_deref().is_none_or(|topic| *item.topic == *topic) && self.wants_stock(item)
    }

    /// Whether an item is in stock, or is not, as is asked for.
    pub(super) fn wants_stock(&self, item: &Item) -> bool {
        self.in_stock.is_none_or(|wanted| (item.available() > 0) == wanted)
    }
}

/// An item with its place in the page.
pub(super) struct Ranked {
    sort: Sort,
    pub(super) position: Position,
    pub(super) item: Arc<Item>,
}

impl Ranked {
    pub(super) fn new(sort: Sort, item: &Arc<Item>) -> Self {
        let position = Position { key: sort.key(item), id: item.id };
        Self { sort, position, item: item.clone() }
    }
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
