//! Commands on items: what they say of themselves, whether they are there, how many pieces there are.

use std::sync::Arc;

use super::Effects;
use crate::{
    catalog::{Item, ItemId, LedgerRow, StockReason},
    changes::{ChangeKind, ChangeWhat},
    command::{
        ChangeStock, CreateItem, DeleteItem, ImportOutcome, ImportRefusal, ImportStock, LogIndex,
        Outcome, PatchItem, Precondition, PutItem, PutItems, Rejection, StockChange, WrongState,
    },
    state::State,
};

/// The most refused rows of an import that are told: what is remembered of it stays small.
pub const IMPORT_REFUSALS_TOLD_MAX: usize = 100;

pub(super) fn put(
    state: &mut State,
    index: LogIndex,
    put: &PutItem,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let before = state.items.get(&put.id).cloned();
    check(put.precondition, before.as_deref())?;
    let text = Text::of(&put.title, &put.topic, put.price_cents);
    let item = replace(state, index, (put.id, before), text, put.stock, effects)?;
    Ok(Outcome::Item(item))
}

/// What an item says of itself.
struct Text {
    title: Arc<str>,
    topic: Arc<str>,
    price_cents: u64,
}

impl Text {
    fn of(title: &str, topic: &str, price_cents: u64) -> Self {
        Self { title: title.into(), topic: topic.into(), price_cents }
    }

    fn is_that_of(&self, item: &Item) -> bool {
        (&self.title, &self.topic, self.price_cents) == (&item.title, &item.topic, item.price_cents)
    }
}

/// Creates an item or replaces what it says of itself, and sets its stock if that is given.
fn replace(
    state: &mut State,
    index: LogIndex,
    (id, before): (ItemId, Option<Arc<Item>>),
    text: Text,
    stock: Option<u64>,
    effects: &mut Effects,
) -> Result<Arc<Item>, Rejection> {
    let Text { title, topic, price_cents } = text;
    let now_ms = state.log_time_ms;
    let mut item = match &before {
        Some(before) => Item { title, topic, price_cents, ..Item::clone(before) },
        None => Item {
            id,
            title,
            topic,
            price_cents,
            stock: 0,
            reserved: 0,
            received: 0,
            sold: 0,
            written_off: 0,
            version: index,
            created_index: index,
            created_ms: now_ms,
            updated_ms: now_ms,
        },
    };
    let (reason, what) = match before {
        Some(_) => (StockReason::Count, ChangeWhat::Changed),
        None => (StockReason::Received, ChangeWhat::Created),
    };
    if let Some(stock) = stock {
        move_stock(state, index, &mut item, StockChange::Set(stock), reason, None)?;
    }
    // From here on nothing is refused: all of it happens.
    if let Some(before) = before.filter(|before| before.price_cents != price_cents) {
        state.push_price(&before, index, price_cents);
    }
    Ok(place(state, index, item, what, effects))
}

pub(super) fn create(
    state: &mut State,
    index: LogIndex,
    create: &CreateItem,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let mut id = state.next_item_id.max(1);
    for (taken, _) in state.items.range(id..) {
        if *taken != id {
            break;
        }
        id = id.checked_add(1).ok_or(Rejection::Overflow)?;
    }
    let next = id.checked_add(1).ok_or(Rejection::Overflow)?;
    let text = Text::of(&create.title, &create.topic, create.price_cents);
    let item = replace(state, index, (id, None), text, Some(create.stock), effects)?;
    state.next_item_id = next;
    Ok(Outcome::Item(item))
}

pub(super) fn patch(
    state: &mut State,
    index: LogIndex,
    patch: &PatchItem,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let before = existing(state, patch.id)?;
    check(patch.precondition, Some(&before))?;
    let new =
        |text: &Option<String>, old: &Arc<str>| text.as_deref().map_or(old.clone(), Arc::from);
    let text = Text {
        title: new(&patch.title, &before.title),
        topic: new(&patch.topic, &before.topic),
        price_cents: patch.price_cents.unwrap_or(before.price_cents),
    };
    match text.is_that_of(&before) {
        true => Ok(Outcome::Item(before)),
        false => {
            replace(state, index, (patch.id, Some(before)), text, None, effects).map(Outcome::Item)
        }
    }
}

pub(super) fn delete(
    state: &mut State,
    index: LogIndex,
    delete: &DeleteItem,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let before = existing(state, delete.id)?;
    check(delete.precondition, Some(&before))?;
    if before.reserved > 0 {
        let (item, reserved) = (before.id, before.reserved);
        return Err(WrongState::ItemReserved { item, reserved }.into());
    }
    let mut last = Item::clone(&before);
    // What remains leaves as a row of its own: the books are even for every life of an id.
    move_stock(state, index, &mut last, StockChange::Set(0), StockReason::Deleted, None)?;
    state.remove_item(before.id);
    state.push_change(index, ChangeKind::Item, before.id, ChangeWhat::Deleted);
    effects.items.push((index, before.id));
    Ok(Outcome::Deleted { item: before.id, version: before.version })
}

pub(super) fn put_many(
    state: &mut State,
    index: LogIndex,
    import: &PutItems,
    effects: &mut Effects,
) -> Outcome {
    let mut outcome = ImportOutcome::default();
    for (position, row) in (0u32..).zip(&import.rows) {
        let before = state.items.get(&row.id).cloned();
        let text = Text::of(&row.title, &row.topic, row.price_cents);
        let stock = match (import.stock, &before) {
            (ImportStock::OnlyNew, Some(_)) => None,
            (ImportStock::OnlyNew, None) | (ImportStock::Set, _) => row.stock,
        };
        if let Some(before) = &before
            && text.is_that_of(before)
            && stock.is_none_or(|stock| stock == before.stock)
        {
            outcome.unchanged += 1;
            continue;
        }
        let is_new = before.is_none();
        match replace(state, index, (row.id, before), text, stock, effects) {
            Ok(_) if is_new => outcome.created += 1,
            Ok(_) => outcome.replaced += 1,
            Err(why) => {
                outcome.refused += 1;
                if outcome.refusals.len() < IMPORT_REFUSALS_TOLD_MAX {
                    outcome.refusals.push(ImportRefusal { position, why });
                }
            }
        }
    }
    Outcome::Imported(Arc::new(outcome))
}

/// The item with a number.
fn existing(state: &State, id: ItemId) -> Result<Arc<Item>, Rejection> {
    let item = state.items.get(&id).cloned();
    item.ok_or(Rejection::UnknownItem { line: 0, item: id })
}

pub(super) fn change_stock(
    state: &mut State,
    index: LogIndex,
    change: &ChangeStock,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let before = existing(state, change.item)?;
    check(change.precondition, Some(&before))?;
    let mut item = Item::clone(&before);
    let reference = change.reference.as_deref().map(Arc::from);
    move_stock(state, index, &mut item, change.change, change.reason, reference)?;
    Ok(Outcome::Item(touch(state, index, item, effects)))
}

pub(super) fn restock(state: &mut State, index: LogIndex, effects: &mut Effects) -> Outcome {
    let quantity = state.policy.restock_quantity;
    let sold_out: Vec<ItemId> = state.sold_out.iter().copied().collect();
    let mut restocked = 0;
    for id in sold_out {
        let Some(before) = state.items.get(&id).cloned() else { continue };
        let mut item = Item::clone(&before);
        let change = StockChange::Set(quantity);
        // Only an item that has counted to the end of its range is passed over.
        if move_stock(state, index, &mut item, change, StockReason::Restock, None).is_ok() {
            touch(state, index, item, effects);
            restocked += 1;
        }
    }
    Outcome::Restocked(restocked)
}

/// Changes the stock of an item (not in place yet) and leaves a ledger row. Either both or neither.
fn move_stock(
    state: &mut State,
    index: LogIndex,
    item: &mut Item,
    change: StockChange,
    reason: StockReason,
    reference: Option<Arc<str>>,
) -> Result<(), Rejection> {
    let delta = match change {
        StockChange::Delta(delta) => delta,
        StockChange::Set(stock) => {
            let wide = i128::from(stock) - i128::from(item.stock);
            i64::try_from(wide).map_err(|_| Rejection::Overflow)?
        }
    };
    let pieces = delta.unsigned_abs();
    if delta >= 0 {
        item.receive(pieces).ok_or(Rejection::Overflow)?;
    } else {
        item.write_off(pieces).ok_or(Rejection::StockTooLow {
            item: item.id,
            stock: item.stock,
            reserved: item.reserved,
            requested: pieces,
        })?;
    }
    if delta != 0 {
        let at_ms = state.log_time_ms;
        let order = None;
        state.push_ledger(LedgerRow {
            item: item.id,
            delta,
            reason,
            reference,
            index,
            at_ms,
            order,
        });
    }
    Ok(())
}

/// Puts an item that was there before in place, with its new version.
pub(super) fn touch(
    state: &mut State,
    index: LogIndex,
    item: Item,
    effects: &mut Effects,
) -> Arc<Item> {
    place(state, index, item, ChangeWhat::Changed, effects)
}

fn place(
    state: &mut State,
    index: LogIndex,
    mut item: Item,
    what: ChangeWhat,
    effects: &mut Effects,
) -> Arc<Item> {
    debug_assert!(item.is_consistent(), "{item:?}");
    item.version = index;
    item.updated_ms = state.log_time_ms;
    effects.items.push((index, item.id));
    state.push_change(index, ChangeKind::Item, item.id, what);
    let item = Arc::new(item);
    state.put_item(item.clone());
    item
}

fn check(precondition: Precondition, item: Option<&Item>) -> Result<(), Rejection> {
    let current = item.map(|item| item.version);
    let holds = match precondition {
        Precondition::None => true,
        Precondition::Version(version) => current == Some(version),
        Precondition::Exists => current.is_some(),
        Precondition::Absent => current.is_none(),
    };
    match holds {
        true => Ok(()),
        false => Err(Rejection::VersionMismatch { current }),
    }
}
