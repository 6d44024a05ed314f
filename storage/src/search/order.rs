//! The items of a segment by price and by title.

use super::{
    bits::Bits,
    dictionary::{narrow, wide},
    fold::title_key,
    listing::{Position, Sort, SortBy},
    segment::Segment,
};
use crate::{catalog::Item, state::State};

/// What an order is by that segments keep. Not the last change: every sale is one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    Price,
    Title,
}

impl Kept {
    /// `None` where no order by this is kept.
    pub(super) fn of(by: SortBy) -> Option<Self> {
        match by {
            SortBy::Price => Some(Self::Price),
            SortBy::Title => Some(Self::Title),
            SortBy::Id | SortBy::Updated => None,
        }
    }
}

/// The ordinals of a segment's items in each of the orders that are kept, equal ones ascending.
///
/// What the items were sorted by is not kept: of those that were not relisted since, the state says
/// it as well, and of the others neither would be right. So an order is 4 bytes an item, where a copy
/// of the titles would be 40.
#[derive(Debug)]
pub(super) struct Orders {
    by_price: Vec<u32>,
    by_title: Vec<u32>,
}

/// A title's place in the text of all, with its first letters at hand: mostly they decide.
struct TitleKey {
    first: u64,
    begin: usize,
    end: usize,
    ordinal: u32,
}

impl Orders {
    /// Sorts the items of a segment as they are in a state, without those that are gone or hidden.
    pub(super) fn of(segment: &Segment, hidden: &Bits, state: &State) -> Self {
        let ordinals = (0..segment.len()).filter(|at| !segment.is_gone(*at) && !hidden.has(*at));
        let items: Vec<(u32, &Item)> = ordinals
            .filter_map(|at| Some((narrow(at), &**state.items.get(&segment.id(at))?)))
            .collect();
        Self { by_price: by_price(&items), by_title: by_title(&items) }
    }

    pub(super) fn by(&self, kept: Kept) -> &[u32] {
        match kept {
            Kept::Price => &self.by_price,
            Kept::Title => &self.by_title,
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        (self.by_price.capacity() + self.by_title.capacity()) * size_of::<u32>()
    }
}

fn by_price(items: &[(u32, &Item)]) -> Vec<u32> {
    let mut keys: Vec<(u64, u32)> =
        items.iter().map(|(ordinal, item)| (item.price_cents, *ordinal)).collect();
    keys.sort_unstable();
    // By reference: collected by value, the numbers would keep the larger rows' memory.
    keys.iter().map(|(_, ordinal)| *ordinal).collect()
}

fn by_title(items: &[(u32, &Item)]) -> Vec<u32> {
    let (mut text, mut keys) = (String::new(), Vec::with_capacity(items.len()));
    for (ordinal, item) in items {
        let begin = text.len();
        text.push_str(&title_key(&item.title));
        let mut first = [0; 8];
        let letters = text.as_bytes()[begin..].iter().zip(&mut first);
        letters.for_each(|(letter, place)| *place = *letter);
        let first = u64::from_be_bytes(first);
        keys.push(TitleKey { first, begin, end: text.len(), ordinal: *ordinal });
    }
    keys.sort_unstable_by(|a, b| {
        let in_full = || text[a.begin..a.end].cmp(&text[b.begin..b.end]);
        a.first.cmp(&b.first).then_with(in_full).then(a.ordinal.cmp(&b.ordinal))
    });
    keys.iter().map(|key| key.ordinal).collect()
}

/// What of an order comes after a place. `live` gives the item at an ordinal as it is now, and none
/// for those that do not stand where they belong any more.
pub(super) fn rest<'o, 'a>(
    order: &'o [u32],
    sort: Sort,
    after: Option<&Position>,
    live: impl Fn(usize) -> Option<&'a Item>,
) -> &'o [u32] {
    let Some(position) = after else { return order };
    let (mut low, mut high) = (0, order.len());
    while low < high {
        let middle = low.midpoint(high);
        let mut from_there = order[middle..high].iter().zip(middle..);
        match from_there.find_map(|(ordinal, at)| Some((at, live(wide(*ordinal))?))) {
            Some((at, item)) if sort.compare(item, position).is_gt() == sort.descending => {
                low = at + 1;
            }
            Some(_) | None => high = middle,
        }
    }
    if sort.descending { &order[..low] } else { &order[low..] }
}
