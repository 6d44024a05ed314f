//! What a page of a million items costs, and what the index does:
//! `cargo bench -p pygmy-storage --bench search`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::Criterion;
use pygmy_storage::{
    apply::{Effects, apply},
    command::{Command, Precondition, Proposal, PutItem},
    engine::MemoryEngine,
    history::History,
    query::View,
    search::{Index, Listing, Position, Sort, Words},
    working::Working,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ITEMS: u64 = 1_000_000;
const PAGE: usize = 20;
/// Words of titles besides the usual ones, by falling frequency.
const VOCABULARY: usize = 60_000;
/// The words of every other title, the most frequent first.
const USUAL: [&str; 32] = [
    "The",
    "of",
    "and",
    "a",
    "in",
    "to",
    "for",
    "Guide",
    "New",
    "History",
    "with",
    "World",
    "Life",
    "Book",
    "Introduction",
    "on",
    "Art",
    "Science",
    "from",
    "Love",
    "Handbook",
    "Great",
    "Stories",
    "House",
    "Modern",
    "Night",
    "Complete",
    "Theory",
    "Café",
    "Straße",
    "Élégance",
    "Über",
];
const SYLLABLES: [&str; 40] = [
    "ba", "ber", "cal", "cor", "dan", "del", "dor", "el", "fen", "gal", "ger", "hau", "in", "jor",
    "ka", "kel", "lan", "lin", "lo", "mar", "men", "mo", "na", "nor", "ol", "pan", "per", "qui",
    "ra", "ren", "ro", "sen", "sol", "stra", "ta", "tor", "ul", "ver", "win", "zen",
];

/// A word of this rank: the same for every run, and of its own.
fn word(rank: usize) -> String {
    let (mut rest, mut word) = (rank + SYLLABLES.len(), String::new());
    while rest > 0 {
        word.push_str(SYLLABLES[rest % SYLLABLES.len()]);
        rest /= SYLLABLES.len();
    }
    word
}

/// A rank below `most`, low ones more often, in the way of words of natural languages.
// Cutting off what comes after the point is what is meant.
#[allow(clippy::cast_possible_truncation)]
fn rank(random: &mut ChaCha8Rng, most: usize) -> usize {
    (f64::powf(most as f64, random.random::<f64>()) - 1.0) as usize
}

fn title(random: &mut ChaCha8Rng) -> String {
    let words = (0..random.random_range(3..9)).map(|_| match random.random_bool(0.45) {
        true => USUAL[rank(random, USUAL.len())].to_owned(),
        false => word(rank(random, VOCABULARY)),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn catalog() -> (Working, View) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut working, mut effects) = (Working::default(), Effects::default());
    for id in 1..=ITEMS {
        let mut put = PutItem {
            id,
            title: title(&mut random),
            topic: format!(
                "{} {}",
                USUAL[7 + random.random_range(0..20)],
                random.random_range(0..10)
            ),
            price_cents: random.random_range(100..10_000),
            stock: Some(random.random_range(0..5)),
            precondition: Precondition::None,
        };
        // What is not spread evenly: words at one end of an order only, and never sold out.
        match put.price_cents {
            ..1_000 => put.title.push_str(" Pocket"),
            9_500.. => {
                put.title.push_str(" Deluxe");
                put.stock = put.stock.max(Some(1));
            }
            _ => {}
        }
        let proposal = Proposal { stamp_ms: id, key: None, command: Command::PutItem(put) };
        black_box(apply(&mut working, id, &proposal, &mut effects));
        effects.items.clear();
    }
    let view = view(&working);
    (working, view)
}

fn view(working: &Working) -> View {
    let history = Arc::new(History::new(Arc::new(MemoryEngine::new())));
    View { state: working.state().clone(), history }
}

/// Runs something once and says how long it took.
// A bench may look at the clock.
#[allow(clippy::disallowed_methods)]
fn once<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = run();
    println!("{what}: {:.0?}", begun.elapsed());
    value
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let (mut working, old) = catalog();
    let index = once("index of a million items", || Index::advance(None, &old.state));
    let index = index.expect("there was none before");
    println!("the index has {:.1} MB", index.bytes() as f64 / 1e6);

    let rare = word(VOCABULARY - 7);
    let medium = word(200);
    let both = format!("{medium} {rare}");
    let mixed = format!("{medium} the of");
    let letters = "a b c d e f g h i l";
    let mut group = criterion.benchmark_group("page of 20");
    for (name, query, filter, sort) in [
        ("rare", rare.as_str(), "", "id"),
        ("medium", &medium, "", "id"),
        ("common prefix", "a", "", "id"),
        ("common word", "the", "", "id"),
        ("two common words", "the of", "", "id"),
        ("five common words", "the of and a in", "", "-id"),
        ("medium and common", &mixed, "", "id"),
        ("medium and rare", &both, "", "id"),
        ("common, of a topic", "the", "Guide 3", "id"),
        ("rare, by title", &rare, "", "title"),
        ("rare, by price", &rare, "", "-price"),
        ("medium, by price", &medium, "", "price"),
        ("medium, by title", &medium, "", "title"),
        ("common, by price", "the", "", "price"),
        ("common, by title", "the", "", "title"),
        ("common, by title, reverse", "the", "", "-title"),
        ("common prefix, by price", "a", "", "-price"),
        ("two common, by title", "the of", "", "title"),
        ("five common, by price", "the of and a in", "", "price"),
        ("medium and common, by title", &mixed, "", "title"),
        ("no words, by price", "", "", "price"),
        ("no words, by title", "", "", "title"),
        ("no words, by title, reverse", "", "", "-title"),
        ("topic, by price", "", "Guide 3", "price"),
        ("topic, by title", "", "Guide 3", "-title"),
        ("common of a topic, by price", "the", "Guide 3", "price"),
        ("in stock, by price", "", "in", "price"),
        ("out of stock, by title", "", "out", "title"),
        ("common in stock, by title", "the", "in", "title"),
        ("common out of stock, by price", "the", "out", "-price"),
        ("at the other end, by price", "deluxe", "", "price"),
        ("at the other end, out of stock", "deluxe", "out", "price"),
        ("common words that never meet", "deluxe pocket", "", "price"),
        ("common words that seldom meet", letters, "", "title"),
        ("no words, by change", "", "", "updated"),
    ] {
        let listing = Listing {
            topic: filter.contains(' ').then(|| filter.to_owned()),
            words: (!query.is_empty()).then(|| Words::parse(query).expect("it has words")),
            in_stock: match filter {
                "in" => Some(true),
                "out" => Some(false),
                _ => None,
            },
            sort: Sort::parse(sort).expect("the name of an order"),
        };
        let page =
            |after: Option<&Position>, limit| old.listing(Some(&index), &listing, after, limit);
        let all = page(None, usize::MAX / 2).rows.len();
        group.bench_function(format!("{name} ({all} match)"), |bench| {
            bench.iter(|| page(None, PAGE));
        });
        let deep = page(None, all / 2).next.filter(|_| !matches!(sort, "id" | "-id" | "updated"));
        if let Some(deep) = deep.filter(|_| all > 100 * PAGE) {
            group.bench_function(format!("{name}, halfway"), |bench| {
                bench.iter(|| page(Some(&deep), PAGE));
            });
        }
    }
    group.finish();

    let words = Some(Words::parse(&rare).expect("it has words"));
    let scanned = Listing { words, ..Listing::default() };
    let by_price = Listing {
        words: Some(Words::parse("the").expect("it has words")),
        sort: Sort::parse("price").expect("the name of an order"),
        ..Listing::default()
    };
    once("rare, without an index", || old.listing(None, &scanned, None, PAGE));
    once("common, by price, without an index", || old.listing(None, &by_price, None, PAGE));
    // What an import leaves to searches and to the index between two looks of it.
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for n in 1..=10_000 {
        let put = PutItem {
            id: random.random_range(1..=2 * ITEMS),
            title: title(&mut random),
            topic: "Guide 3".to_owned(),
            price_cents: 100,
            stock: None,
            precondition: Precondition::None,
        };
        let proposal = Proposal { stamp_ms: ITEMS, key: None, command: Command::PutItem(put) };
        black_box(apply(&mut working, ITEMS + n, &proposal, &mut Effects::default()));
    }
    let new = view(&working);
    once("rare, 10000 changes behind", || new.listing(Some(&index), &scanned, None, PAGE));
    once("common, by price, 10000 changes behind", || {
        new.listing(Some(&index), &by_price, None, PAGE)
    });
    let advanced =
        once("10000 changes into the index", || Index::advance(Some(&index), &new.state));
    let advanced = advanced.expect("there was something new");
    once("rare, with them", || new.listing(Some(&advanced), &scanned, None, PAGE));
    once("common, by price, with them", || new.listing(Some(&advanced), &by_price, None, PAGE));
    criterion.final_summary();
}
