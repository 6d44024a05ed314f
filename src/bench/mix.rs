//! What is done: operations, and how often each comes.

use clap::ValueEnum;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The first number of the items that are used. Far from those of any catalog, whose items a
/// benchmark must not touch.
const FIRST_ITEM: u64 = 1_000_000_001;

/// Of a hundred operations of [`Mix::Shop`], how many are of each kind.
const SHOP: [(Kind, u32); 4] =
    [(Kind::GetStale, 60), (Kind::Get, 20), (Kind::Buy, 15), (Kind::Put, 5)];

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An order of one piece of one item, with an idempotency key.
    Buy,
    /// An item is put anew, with plenty of stock.
    Put,
    /// A linearizable read of an item.
    Get,
    /// A stale read of an item.
    GetStale,
    /// A read of an item that sees what its client has seen or written before.
    GetSession,
    /// Many orders as one atomic request, each of one piece of one item and with a key.
    Batch,
}

impl Kind {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Put => "put",
            Self::Get => "get",
            Self::GetStale => "get-stale",
            Self::GetSession => "get-session",
            Self::Batch => "batch",
        }
    }

    /// Whether it changes anything.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Buy | Self::Put | Self::Batch)
    }
}

/// What a run consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Orders, each of one piece of a random item
    Buy,
    /// Orders, all of one and the same item
    Hot,
    /// Random items put anew
    Put,
    /// Linearizable reads of random items
    Get,
    /// Stale reads of random items
    GetStale,
    /// Session reads of random items
    GetSession,
    /// 60 % stale reads, 20 % linearizable reads, 15 % orders, 5 % puts
    Shop,
    /// Atomic batches of orders
    Batch,
}

impl Mix {
    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Hot => "hot",
            Self::Put => "put",
            Self::Get => "get",
            Self::GetStale => "get-stale",
            Self::GetSession => "get-session",
            Self::Shop => "shop",
            Self::Batch => "batch",
        }
    }

    /// The kinds of operation that come in it.
    pub fn kinds(self) -> Vec<Kind> {
        match self {
            Self::Buy | Self::Hot => vec![Kind::Buy],
            Self::Put => vec![Kind::Put],
            Self::Get => vec![Kind::Get],
            Self::GetStale => vec![Kind::GetStale],
            Self::GetSession => vec![Kind::GetSession],
            Self::Shop => SHOP.iter().map(|(kind, _)| *kind).collect(),
            Self::Batch => vec![Kind::Batch],
        }
    }

    /// The kind that comes at a place from 0 to 99.
    fn kind_at(self, place: u32) -> Kind {
        let mut end = 0;
        if self == Self::Shop {
            for (kind, share) in SHOP {
                end += share;
                if place < end {
                    return kind;
                }
            }
        }
        self.kinds()[0]
    }
}

/// The items of a run, numbered without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items {
    /// How many.
    pub count: u32,
}

impl Items {
    /// The number of the item at a place.
    pub fn id(self, place: u32) -> u64 {
        FIRST_ITEM + u64::from(place)
    }
}

/// One operation to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<'a> {
    /// What.
    pub kind: Kind,
    /// On which items: one, or for a batch one for each order.
    pub items: &'a [u64],
    /// Unlike that of any other operation of the same session. What needs a key makes it from this.
    pub number: u64,
}

impl Operation<'_> {
    /// The only or first item.
    pub fn item(&self) -> u64 {
        self.items[0]
    }
}

/// Chooses one client's operations: the same ones for the same seed.
#[derive(Debug)]
pub struct Picker {
    mix: Mix,
    items: Items,
    batch: usize,
    random: ChaCha8Rng,
    number: u64,
    chosen: Vec<u64>,
}

impl Picker {
    /// A client's picker.
    pub fn new(mix: Mix, items: Items, batch: usize, seed: u64, client: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(client.into());
        Self { mix, items, batch, random, number: 0, chosen: Vec::new() }
    }

    /// The next operation.
    pub fn pick(&mut self) -> Operation<'_> {
        let kind = match self.mix {
            Mix::Shop => self.mix.kind_at(self.random.random_range(0..100)),
            one => one.kind_at(0),
        };
        self.pick_of(kind)
    }

    /// The next operation, of a given kind.
    pub fn pick_of(&mut self, kind: Kind) -> Operation<'_> {
        let count = if kind == Kind::Batch { self.batch } else { 1 };
        self.chosen.clear();
        for _ in 0..count {
            let place = match self.mix {
                Mix::Hot => 0,
                _ => self.random.random_range(0..self.items.count),
            };
            self.chosen.push(self.items.id(place));
        }
        self.number += 1;
        Operation { kind, items: &self.chosen, number: self.number }
    }
}
