//! Random catalogs, and what a listing of one is, by reading every item.

use std::sync::Arc;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::super::{Index, Listing, Position, Sort, SortBy, SortKey, Words, fold};
use crate::{
    catalog::{Item, ItemId},
    engine::MemoryEngine,
    history::History,
    orders::OrderLine,
    query::View,
    reservations::{Reservation, ReservationStatus},
    state::State,
};

const WORDS: [&str; 24] = [
    "Straße",
    "strasse",
    "STRAND",
    "Oberhausen",
    "über",
    "Uber",
    "the",
    "The",
    "théâtre",
    "of",
    "Ol",
    "Łódź",
    "lodge",
    "Crème",
    "Cre\u{300}me",
    "ﬁnal",
    "finale",
    "C++",
    "O'Reilly",
    "42",
    "4²",
    "東京大学",
    "大学院",
    "-",
];
/// The last one has no word.
const TOPICS: [&str; 5] = ["Misc", "Reisen über Land", "東京", "Études", "-"];
const QUERIES: [&str; 22] = [
    "s",
    "str",
    "ober stra",
    "STRASSE",
    "uber",
    "the of",
    "t",
    "theatre the",
    "o",
    "o o",
    "lod",
    "łódź misc",
    "creme",
    "fina 4",
    "c",
    "reilly",
    "42",
    "大学",
    "学",
    "東京 s",
    "e e e",
    "zz",
];

pub(super) struct Store {
    pub(super) state: State,
    pub(super) random: ChaCha8Rng,
    pub(super) index: Option<Index>,
}

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { state: State::default(), random, index: None }
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.random).unwrap()
    }

    pub(super) fn view(&self) -> View {
        let history = History::new(Arc::new(MemoryEngine::new()));
        View { state: self.state.clone(), history: Arc::new(history) }
    }

    pub(super) fn put(&mut self, id: ItemId) {
        let title: Vec<&str> =
            (0..self.random.random_range(1..5)).map(|_| self.pick(&WORDS)).collect();
        let stock = self.random.random_range(0..3);
        let mut item = Item {
            id,
            title: title.join(" ").into(),
            topic: self.pick(&TOPICS).into(),
            price_cents: self.random.random_range(0..5),
            stock,
            reserved: self.random.random_range(0..=stock),
            received: stock,
            sold: 0,
            written_off: 0,
            version: 1,
            created_index: 1,
            created_ms: 0,
            updated_ms: self.random.random_range(0..5),
        };
        if let Some(before) = self.state.items.get(&id)
            && self.random.random_bool(0.3)
        {
            // The words stay.
            (item.title, item.topic) = (before.title.clone(), before.topic.clone());
        }
        self.place(item);
    }

    /// Puts an item in place, and a reservation that holds what is reserved of it.
    fn place(&mut self, item: Item) {
        self.state.remove_reservation(item.id);
        if item.reserved > 0 {
            let line = OrderLine {
                item: item.id,
                title: item.title.clone(),
                quantity: item.reserved,
                unit_price_cents: item.price_cents,
            };
            self.state.put_reservation(Arc::new(Reservation {
                id: item.id,
                lines: vec![line],
                total_cents: 0,
                status: ReservationStatus::Held,
                customer: None,
                reference: None,
                index: 1,
                created_ms: 0,
                expires_ms: item.id % 7,
                ended: None,
            }));
        }
        self.state.put_item(Arc::new(item));
    }

    /// Changes how many pieces there are, and nothing else that an index knows.
    pub(super) fn sell(&mut self, id: ItemId) {
        if let Some(item) = self.state.items.get(&id) {
            let mut item = Item::clone(item);
            item.stock = self.random.random_range(0..3);
            item.reserved = self.random.random_range(0..=item.stock);
            item.updated_ms = self.random.random_range(0..5);
            self.place(item);
        }
    }

    pub(super) fn remove(&mut self, id: ItemId) {
        self.state.remove_reservation(id);
        self.state.remove_item(id);
    }

    pub(super) fn change(&mut self, id: ItemId) {
        match self.random.random_range(0..10) {
            0..2 => self.remove(id),
            2..4 => self.sell(id),
            _ => self.put(id),
        }
    }

    pub(super) fn advance(&mut self) {
        if let Some(index) = Index::advance(self.index.as_ref(), &self.state) {
            self.index = Some(index);
        }
    }

    pub(super) fn listing(&mut self) -> (Listing, Option<&'static str>) {
        self.listing_by(&[SortBy::Id, SortBy::Title, SortBy::Price, SortBy::Updated])
    }

    /// One in an order that an index keeps.
    pub(super) fn listing_in_kept_order(&mut self) -> (Listing, Option<&'static str>) {
        self.listing_by(&[SortBy::Title, SortBy::Price])
    }

    fn listing_by(&mut self, by: &[SortBy]) -> (Listing, Option<&'static str>) {
        let by = self.pick(by);
        let sort = Sort { by, descending: self.random.random() };
        let query = self.random.random_bool(0.8).then(|| self.pick(&QUERIES));
        let listing = Listing {
            topic: self.random.random_bool(0.3).then(|| self.pick(&TOPICS).to_owned()),
            words: query.map(|text| Words::parse(text).unwrap()),
            in_stock: self.random.random_bool(0.3).then(|| self.random.random()),
            sort,
        };
        (listing, query)
    }
}

/// The places of the items that a listing is to give, by reading every item.
pub(super) fn places(state: &State, listing: &Listing, query: Option<&str>) -> Vec<Position> {
    let matches = |item: &Item| {
        let text = fold(&format!("{} {}", item.title, item.topic));
        let runs: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        let query = fold(query.unwrap_or_default());
        let mut words = query.split(' ').filter(|word| !word.is_empty());
        words.all(|word| {
            runs.iter().any(|run| run.starts_with(word) || (!word.is_ascii() && run.contains(word)))
        })
    };
    let wanted = |item: &Item| {
        listing.topic.as_deref().is_none_or(|topic| topic == &*item.topic)
            && listing.in_stock.is_none_or(|wanted| wanted == (item.stock > item.reserved))
            && matches(item)
    };
    let key = |item: &Item| match listing.sort.by {
        SortBy::Id => SortKey::Number(item.id),
        SortBy::Title => SortKey::Text(fold(&item.title)),
        SortBy::Price => SortKey::Number(item.price_cents),
        SortBy::Updated => SortKey::Number(item.updated_ms),
    };
    let items = state.items.values().filter(|item| wanted(item));
    let mut places: Vec<Position> =
        items.map(|item| Position { key: key(item), id: item.id }).collect();
    places.sort();
    if listing.sort.descending {
        places.reverse();
    }
    places
}

/// The items that a listing is to give.
pub(super) fn expected(state: &State, listing: &Listing, query: Option<&str>) -> Vec<ItemId> {
    places(state, listing, query).into_iter().map(|place| place.id).collect()
}
