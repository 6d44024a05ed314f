//! Listings against a plain reading of what they promise, on random catalogs, with indexes that are
//! as far as chance would have it.

use std::{collections::BTreeSet, sync::Arc};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{Index, Listing, Position, QueryError, Sort, SortBy, SortKey, Words, fold};
use crate::{
    catalog::{Item, ItemId},
    engine::MemoryEngine,
    history::History,
    query::View,
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
const TOPICS: [&str; 4] = ["Misc", "Reisen über Land", "東京", "Études"];
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

struct Store {
    state: State,
    random: ChaCha8Rng,
    index: Option<Index>,
}

impl Store {
    fn new(seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { state: State::default(), random, index: None }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.random).unwrap()
    }

    fn view(&self) -> View {
        let history = History::new(Arc::new(MemoryEngine::new()));
        View { state: self.state.clone(), history: Arc::new(history) }
    }

    fn put(&mut self, id: ItemId) {
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
        self.state.put_item(Arc::new(item));
    }

    fn remove(&mut self, id: ItemId) {
        if let Some(item) = self.state.items.remove(&id) {
            self.state.topics.get_mut(&item.topic).unwrap().remove(&id);
            self.state.retitled.push(id);
        }
    }

    fn change(&mut self, id: ItemId) {
        if self.random.random_bool(0.2) { self.remove(id) } else { self.put(id) }
    }

    fn advance(&mut self) {
        if let Some(index) = Index::advance(self.index.as_ref(), &self.state) {
            self.index = Some(index);
        }
    }

    fn listing(&mut self) -> (Listing, Option<&'static str>) {
        let by = self.pick(&[SortBy::Id, SortBy::Title, SortBy::Price, SortBy::Updated]);
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

/// What a listing is to give, by reading every item.
fn expected(state: &State, listing: &Listing, query: Option<&str>) -> Vec<ItemId> {
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
    let mut items: Vec<&Arc<Item>> = state.items.values().filter(|item| wanted(item)).collect();
    items.sort_by_key(|item| match listing.sort.by {
        SortBy::Id => (String::new(), 0, item.id),
        SortBy::Title => (fold(&item.title), 0, item.id),
        SortBy::Price => (String::new(), item.price_cents, item.id),
        SortBy::Updated => (String::new(), item.updated_ms, item.id),
    });
    if listing.sort.descending {
        items.reverse();
    }
    items.into_iter().map(|item| item.id).collect()
}

/// Goes through all pages, and does something between two.
fn walk(
    store: &mut Store,
    listing: &Listing,
    limit: usize,
    mut between: impl FnMut(&mut Store),
) -> Vec<ItemId> {
    let (mut seen, mut after): (Vec<ItemId>, Option<Position>) = (Vec::new(), None);
    loop {
        let index = store.index.clone();
        if store.random.random_bool(0.3) {
            // The view may be newer than the index.
            between(store);
        }
        let page = store.view().listing(index.as_ref(), listing, after.as_ref(), limit);
        assert!(page.rows.len() == limit || page.next.is_none(), "a page is full or the last");
        seen.extend(page.rows.iter().map(|item| item.id));
        match page.next {
            None => return seen,
            Some(next) => {
                assert!(listing.takes(&next));
                after = Some(next);
            }
        }
        between(store);
    }
}

#[test]
fn a_listing_is_what_reading_every_item_gives() {
    for seed in 0..30 {
        let mut store = Store::new(seed);
        let many = store.pick(&[0, 10, 150]);
        for id in 0..many {
            store.put(id * 3);
        }
        for _ in 0..30 {
            for _ in 0..store.pick(&[0, 1, 5, 40]) {
                let id = store.random.random_range(0..=many * 4);
                store.change(id);
            }
            if store.random.random_bool(0.5) {
                store.advance();
            }
            if store.random.random_bool(0.02) {
                // As after an install: another state, of which the index says nothing.
                store.state.retitled = super::Retitled::default();
            }
            let (listing, query) = store.listing();
            let limit = store.pick(&[1, 7, 50, 1000]);
            let seen = walk(&mut store, &listing, limit, |_| {});
            let expected = expected(&store.state, &listing, query);
            assert_eq!(seen, expected, "seed {seed}, {query:?}, {listing:?}, limit {limit}");
        }
    }
}

#[test]
fn what_does_not_change_is_listed_once_while_other_items_change() {
    for seed in 0..30 {
        let mut store = Store::new(1000 + seed);
        for id in 0..200 {
            store.put(id);
        }
        let (listing, query) = store.listing();
        let steady = |id: &ItemId| id.is_multiple_of(2);
        let mut before = expected(&store.state, &listing, query);
        before.retain(steady);
        let limit = store.pick(&[2, 5, 20]);
        let mut seen = walk(&mut store, &listing, limit, |store| {
            for _ in 0..store.pick(&[0, 3, 30]) {
                let id = store.random.random_range(0..120) * 2 + 1;
                store.change(id);
            }
            if store.random.random_bool(0.5) {
                store.advance();
            }
        });
        seen.retain(steady);
        assert_eq!(seen, before, "seed {seed}, {query:?}, {listing:?}");
    }
}

#[test]
fn an_index_keeps_few_segments_and_forgets_what_is_gone() {
    let mut store = Store::new(1);
    for id in 0..1000 {
        store.put(id);
    }
    store.advance();
    let whole = store.index.clone().unwrap();
    assert_eq!(whole.segments(), 1);
    assert!(Index::advance(Some(&whole), &store.state).is_none(), "it has it all");
    let mut most = 0;
    for round in 0..600 {
        store.change(round % 1000);
        store.change(2000 + round);
        store.advance();
        most = most.max(store.index.as_ref().unwrap().segments());
    }
    assert!((2..=10).contains(&most), "{most} segments");
    let ids: Vec<ItemId> = store.state.items.keys().copied().collect();
    for id in ids {
        store.remove(id);
    }
    store.advance();
    let index = store.index.as_ref().unwrap();
    assert_eq!(index.segments(), 1);
    assert!(index.bytes() < 100, "{} bytes for nothing", index.bytes());
}

#[test]
fn nothing_comes_after_the_last_number() {
    let mut store = Store::new(2);
    for id in [0, 7, ItemId::MAX] {
        store.put(id);
    }
    for (name, end, first) in [("id", ItemId::MAX, 0), ("-id", 0, ItemId::MAX)] {
        let listing = Listing { sort: Sort::parse(name).unwrap(), ..Listing::default() };
        let page = |id| {
            let after = Position { key: SortKey::Number(id), id };
            store.view().listing(None, &listing, Some(&after), 9)
        };
        assert!(page(end).rows.is_empty() && page(end).next.is_none(), "{name}");
        assert_eq!(page(first).rows.len(), 2, "{name}");
    }
}

#[test]
fn a_search_has_bounds() {
    assert_eq!(Words::parse(""), Err(QueryError::NoWord));
    assert_eq!(Words::parse(" -+/ \u{301}"), Err(QueryError::NoWord));
    assert!(Words::parse(&"a ".repeat(10)).is_ok());
    assert_eq!(Words::parse(&"a ".repeat(11)), Err(QueryError::TooManyWords));
    assert!(Words::parse(&"a".repeat(200)).is_ok());
    assert_eq!(Words::parse(&"a".repeat(201)), Err(QueryError::TooLong));
    let same =
        ["ober stra", "Stra  OBER", "o straße ober stra"].map(|text| Words::parse(text).unwrap());
    assert_eq!(same[0], same[1], "neither case nor order matters");
    assert_eq!(same[2], Words::parse("ober strasse").unwrap(), "what others imply is left out");
}

#[test]
fn listings_are_told_apart() {
    let words = |text| Some(Words::parse(text).unwrap());
    let by = |name: &str| Sort::parse(name).unwrap();
    let listings = [
        Listing::default(),
        Listing { sort: by("-id"), ..Listing::default() },
        Listing { sort: by("title"), ..Listing::default() },
        Listing { topic: Some("a".to_owned()), ..Listing::default() },
        Listing { words: words("a"), ..Listing::default() },
        Listing { words: words("b"), ..Listing::default() },
        Listing { in_stock: Some(true), ..Listing::default() },
        Listing { in_stock: Some(false), ..Listing::default() },
    ];
    let different: BTreeSet<u128> = listings.iter().map(Listing::fingerprint).collect();
    assert_eq!(different.len(), listings.len());
    assert_eq!(
        listings[4].fingerprint(),
        Listing { words: words("A"), ..Listing::default() }.fingerprint()
    );
    for name in Sort::NAMES {
        let (up, down) = (by(name), by(&format!("-{name}")));
        assert_eq!((up.by, up.descending, down.descending), (down.by, false, true));
    }
    assert_eq!([Sort::parse("--id"), Sort::parse("stock"), Sort::parse("")], [None; 3]);
}
