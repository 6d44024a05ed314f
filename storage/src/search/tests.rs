//! Listings against a plain reading of what they promise, on random catalogs, with indexes that are
//! as far as chance would have it.

mod catalog;

use std::{collections::BTreeSet, sync::Arc};

use rand::Rng;

use self::catalog::{Store, expected, places};
use super::{Index, Listing, Position, QueryError, Sort, SortKey, Words};
use crate::catalog::{Item, ItemId};

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
                store.state.relisted = super::Relisted::default();
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
fn a_page_after_any_place_is_what_comes_next() {
    for seed in 0..10 {
        let mut store = Store::new(2000 + seed);
        // So many that a walk meets all ways in which it tests an item.
        let many = store.pick(&[300, 1500]);
        (0..many).for_each(|id| store.put(id));
        store.advance();
        // Places of items as they were: since then some changed, went, or came again.
        let mut places_before: Vec<(Listing, Option<&'static str>, Position)> = Vec::new();
        for round in 0..40 {
            let (listing, query) = match round % 4 {
                0 => store.listing(),
                _ => store.listing_in_kept_order(),
            };
            let found = places(&store.state, &listing, query);
            if !found.is_empty() {
                let place = found[store.random.random_range(0..found.len())].clone();
                places_before.push((listing, query, place));
            }
            for _ in 0..store.pick(&[0, 1, 30]) {
                let id = store.random.random_range(0..many + 10);
                store.change(id);
            }
            if store.random.random_bool(0.5) {
                store.advance();
            }
            let index = store.index.clone().filter(|_| store.random.random_bool(0.9));
            let at = store.random.random_range(0..places_before.len().max(1));
            let Some((listing, query, after)) = places_before.get(at).cloned() else { continue };
            let limit = store.pick(&[1, 20]);
            let page = store.view().listing(index.as_ref(), &listing, Some(&after), limit);
            let mut expected = places(&store.state, &listing, query);
            expected.retain(
                |place| if listing.sort.descending { *place < after } else { *place > after },
            );
            let more = expected.len() > limit;
            expected.truncate(limit);
            let next = expected.last().filter(|_| more);
            assert_eq!(page.next.as_ref(), next, "seed {seed}, {query:?}, {listing:?}");
            let seen: Vec<ItemId> = page.rows.iter().map(|item| item.id).collect();
            let expected: Vec<ItemId> = expected.iter().map(|place| place.id).collect();
            assert_eq!(seen, expected, "seed {seed}, {query:?}, {listing:?}, after {after:?}");
        }
    }
}

#[test]
fn an_index_need_not_follow_sales() {
    let mut store = Store::new(3);
    (0..50).for_each(|id| store.put(id));
    store.advance();
    for id in 0..50 {
        store.sell(id);
    }
    assert!(Index::advance(store.index.as_ref(), &store.state).is_none());
    let mut dearer = Item::clone(&store.state.items[&7]);
    dearer.price_cents += 1;
    store.state.put_item(Arc::new(dearer));
    assert!(Index::advance(store.index.as_ref(), &store.state).is_some());
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
