//! Items that come, change, cost something else, and go.

use pygmy_storage::{
    apply::IMPORT_REFUSALS_TOLD_MAX,
    catalog::Item,
    command::{
        Applied, Command, CreateItem, DeleteItem, ImportOutcome, ImportRefusal, ImportStock,
        Outcome, PatchItem, Policy, Precondition, PutItems, PutItemsRow, Rejection, WrongState,
    },
    prices::LOWEST_WINDOW_MS,
};

use super::{Machine, at, cancel, keyed, order, put, reserve};

fn create(title: &str) -> Command {
    Command::CreateItem(CreateItem {
        title: title.to_owned(),
        topic: "T".to_owned(),
        price_cents: 1,
        stock: 2,
    })
}

fn delete(id: u64, precondition: Precondition) -> Command {
    Command::DeleteItem(DeleteItem { id, precondition })
}

fn item(outcome: Outcome) -> Item {
    match outcome {
        Outcome::Item(item) => Item::clone(&item),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_that_the_store_gives_are_never_given_again() {
    let mut m = Machine::memory();
    for id in [1, 2, 5] {
        m.run(put(id, 1, 1));
    }
    let made = |m: &mut Machine| item(m.run(create("new"))).id;
    assert_eq!([made(&mut m), made(&mut m), made(&mut m)], [3, 4, 6], "those that are free");
    m.run(delete(6, Precondition::None));
    m.run(delete(1, Precondition::None));
    assert_eq!(made(&mut m), 7, "not one that was given, nor one below");
    let first = item(m.run(create("another")));
    assert_eq!((first.stock, first.received, &*first.title), (2, 2, "another"));
    m.assert_sound();

    m.run(put(9, 1, 1));
    m.run(put(u64::MAX, 1, 1));
    m.checkpoint();
    let volume = m.volume.clone();
    drop(m);
    let mut m = Machine::open(volume).0;
    assert_eq!(made(&mut m), 10, "the counter survives");
    m.assert_sound();
}

#[test]
fn a_patch_changes_what_it_names_and_one_that_changes_nothing_leaves_the_version() {
    let mut m = Machine::memory();
    let before = item(m.run(put(1, 500, 3)));
    let patch = |title: Option<&str>, price_cents, precondition| {
        let title = title.map(str::to_owned);
        Command::PatchItem(PatchItem { id: 1, title, topic: None, price_cents, precondition })
    };
    let same = m.run(patch(Some("Title 1"), Some(500), Precondition::None));
    assert_eq!(item(same), before);
    let index = m.working.state().applied().unwrap();
    assert!(m.changes(index - 1).is_empty(), "and nobody hears of it");
    let renamed = item(m.run(patch(Some("New"), None, Precondition::Version(before.version))));
    assert_eq!((&*renamed.title, &renamed.topic), ("New", &before.topic));
    assert_eq!((renamed.price_cents, renamed.stock), (500, 3));
    assert!(renamed.version > before.version);
    let stale = m.run(patch(Some("Newer"), None, Precondition::Version(before.version)));
    let current = Some(renamed.version);
    assert_eq!(stale, Outcome::Rejected(Rejection::VersionMismatch { current }));
    let topic = Command::PatchItem(PatchItem {
        id: 1,
        title: None,
        topic: Some("Other".to_owned()),
        price_cents: None,
        precondition: Precondition::Exists,
    });
    m.run(topic);
    assert_eq!(m.view().topics().collect::<Vec<_>>(), [("Other", 1)]);
    let nobody = Command::PatchItem(PatchItem {
        id: 2,
        title: None,
        topic: None,
        price_cents: None,
        precondition: Precondition::None,
    });
    let unknown = Rejection::UnknownItem { line: 0, item: 2 };
    assert_eq!(m.run(nobody), Outcome::Rejected(unknown));
    m.assert_sound();
}

#[test]
fn a_deleted_item_leaves_its_orders_and_its_books_and_its_id_may_live_again() {
    let mut m = Machine::memory();
    let first = item(m.run(put(1, 500, 10)));
    m.run(order(&[(1, 4)]));
    let sold = m.view().item(1).unwrap().version;
    let stale = m.run(delete(1, Precondition::Version(first.version)));
    assert!(matches!(stale, Outcome::Rejected(Rejection::VersionMismatch { .. })));
    let gone = m.run(delete(1, Precondition::Version(sold)));
    assert_eq!(gone, Outcome::Deleted { item: 1, version: sold });
    assert_eq!(m.view().item(1), None);
    assert_eq!((m.view().topics().count(), m.working.state().has_sold_out()), (0, false));
    assert_eq!(m.view().order(1).unwrap().unwrap().lines[0].quantity, 4);
    m.assert_sound();
    let unknown = Rejection::UnknownItem { line: 0, item: 1 };
    assert_eq!(m.run(delete(1, Precondition::None)), Outcome::Rejected(unknown));

    // Its second life begins with nothing of the first, and gets nothing back of it.
    let second = item(m.run(put(1, 700, 3)));
    assert_eq!((second.received, second.sold, second.written_off), (3, 0, 0));
    m.run(order(&[(1, 1)]));
    m.assert_sound();
    m.run(cancel(&m.view(), 1, None));
    assert_eq!(m.view().item(1).unwrap().stock, 2);
    m.run(cancel(&m.view(), 2, None));
    assert_eq!(m.view().item(1).unwrap().stock, 3);
    m.assert_sound();
    // Its page is empty on disk too.
    m.checkpoint();
    m.run(delete(1, Precondition::None));
    m.checkpoint();
    let volume = m.volume.clone();
    drop(m);
    let m = Machine::open(volume).0;
    assert_eq!(m.view().item(1), None);
    m.assert_sound();
}

#[test]
fn an_item_is_not_deleted_while_pieces_of_it_are_held() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 10));
    m.run(reserve(&[(1, 4)], 1000));
    let held = Rejection::WrongState(WrongState::ItemReserved { item: 1, reserved: 4 });
    assert_eq!(m.run(delete(1, Precondition::None)), Outcome::Rejected(held));
    m.run(Command::ReleaseReservation { id: 1 });
    assert!(matches!(m.run(delete(1, Precondition::None)), Outcome::Deleted { .. }));
    m.assert_sound();
}

fn row(id: u64, price_cents: u64, stock: Option<u64>) -> PutItemsRow {
    let Command::PutItem(put) = put(id, price_cents, 0) else { unreachable!() };
    PutItemsRow { id, title: put.title, topic: put.topic, price_cents, stock }
}

fn import(m: &mut Machine, stock: ImportStock, rows: Vec<PutItemsRow>) -> ImportOutcome {
    match m.run(Command::PutItems(PutItems { rows, stock })) {
        Outcome::Imported(outcome) => ImportOutcome::clone(&outcome),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_of_an_import_stand_each_for_itself() {
    let mut m = Machine::memory();
    let same = item(m.run(put(1, 500, 10)));
    m.run(put(2, 500, 10));
    m.run(put(3, 500, 10));
    m.run(reserve(&[(3, 8)], 1000));
    let rows = || vec![row(1, 500, Some(10)), row(2, 600, Some(4)), row(3, 500, Some(5))];
    let outcome = import(&mut m, ImportStock::OnlyNew, [rows(), vec![row(4, 1, Some(7))]].concat());
    assert_eq!((outcome.created, outcome.replaced, outcome.unchanged), (1, 1, 2));
    assert_eq!((outcome.refused, outcome.refusals), (0, vec![]));
    assert_eq!(**m.view().item(1).unwrap(), same, "a row that says what is there changes nothing");
    let stocks: Vec<u64> = (1..=4).map(|id| m.view().item(id).unwrap().stock).collect();
    assert_eq!(stocks, [10, 10, 10, 7], "what was counted of those that were there stands");

    let outcome = import(&mut m, ImportStock::Set, [rows(), vec![row(4, 1, None)]].concat());
    assert_eq!((outcome.created, outcome.replaced, outcome.unchanged), (0, 1, 2));
    let why = Rejection::StockTooLow { item: 3, stock: 10, reserved: 8, requested: 5 };
    assert_eq!(outcome.refusals, [ImportRefusal { position: 2, why }]);
    assert_eq!(m.view().item(2).unwrap().stock, 4);
    m.assert_sound();

    let many = (0..200).map(|price| row(3, price, Some(5))).collect();
    let outcome = import(&mut m, ImportStock::Set, many);
    assert_eq!((outcome.refused, outcome.refusals.len()), (200, IMPORT_REFUSALS_TOLD_MAX));
    assert_eq!(m.view().prices(3).unwrap().prices.len(), 1, "nothing of a refused row happens");
    m.assert_sound();
}

#[test]
fn prices_are_told_with_their_times_and_the_lowest_is_that_of_thirty_days() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let mut m = Machine::memory();
    let lowest = |m: &Machine| m.view().prices(1).unwrap().lowest_30_days_cents;
    m.apply(&at(100 * DAY, put(1, 500, 9)));
    assert_eq!(lowest(&m), Some(500), "its creation is as far back as there is");
    m.apply(&at(101 * DAY, put(1, 300, 9)));
    m.apply(&at(102 * DAY, put(1, 300, 8)));
    m.apply(&at(103 * DAY, put(1, 700, 8)));
    let prices = m.view().prices(1).unwrap().prices;
    let told: Vec<_> = prices
        .iter()
        .map(|p| (p.price_cents, p.from_ms / DAY, p.to_ms.map(|to| to / DAY)))
        .collect();
    assert_eq!(told, [(500, 100, Some(101)), (300, 101, Some(103)), (700, 103, None)]);
    assert_eq!(lowest(&m), Some(300));
    // It is in the window for as long as any moment of it is.
    m.apply(&at(103 * DAY + LOWEST_WINDOW_MS - 1, Command::Tick));
    assert_eq!(lowest(&m), Some(300));
    m.apply(&at(103 * DAY + LOWEST_WINDOW_MS, Command::Tick));
    assert_eq!(lowest(&m), Some(700));
    m.assert_sound();

    // What is kept is bounded; where it does not reach back, nothing is said.
    m.run(Command::SetPolicy(Policy { price_history: 2, ..Policy::default() }));
    m.apply(&at(135 * DAY, put(1, 600, 8)));
    m.apply(&at(136 * DAY, put(1, 650, 8)));
    let prices = m.view().prices(1).unwrap();
    assert_eq!(prices.prices.iter().map(|p| p.price_cents).collect::<Vec<_>>(), [600, 650]);
    assert_eq!(prices.lowest_30_days_cents, None);
    m.apply(&at(165 * DAY, Command::Tick));
    assert_eq!(lowest(&m), Some(600));
    m.checkpoint();
    let volume = m.volume.clone();
    let (before, hash) = (m.view().prices(1), m.working.state().state_hash());
    drop(m);
    let mut m = Machine::open(volume).0;
    assert_eq!((m.view().prices(1), m.working.state().state_hash()), (before, hash));
    m.assert_sound();

    // A new life has prices of its own.
    m.run(delete(1, Precondition::None));
    assert_eq!(m.view().prices(1), None);
    m.run(put(1, 900, 1));
    assert_eq!(lowest(&m), Some(900));
    m.assert_sound();
}

#[test]
fn maintenance_refuses_what_clients_ask_for_and_forgets_that_it_did() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 10));
    let early = m.apply(&keyed("early", 1000, order(&[(1, 1)])));
    m.run(reserve(&[(1, 4)], 1000));
    assert_eq!(m.run(Command::SetMaintenance(true)), Outcome::MaintenanceSet(true));
    assert!(m.working.state().maintenance());
    let refused = Outcome::Rejected(Rejection::Maintenance);
    let late = keyed("late", 1000, order(&[(1, 1)]));
    assert_eq!(m.apply(&late).outcome, refused);
    assert_eq!(m.run(Command::Restock), refused);
    assert_eq!(m.run(put(1, 1, 1)), refused);
    assert_eq!(m.run(Command::ConfirmReservation { id: 1 }), refused);
    let again = m.apply(&keyed("early", 1000, order(&[(1, 1)])));
    assert_eq!(again, Applied { replayed: true, ..early }, "a replay answers");
    // What the store does by itself goes on.
    m.run(Command::SetPolicy(Policy::default()));
    assert_eq!(m.run(Command::ReserveNodeId { at_least: 4 }), Outcome::NodeId(4));
    assert_eq!(m.apply(&at(2000, Command::Tick)).outcome, Outcome::Ticked);
    assert_eq!(m.view().item(1).unwrap().reserved, 0, "time goes on in maintenance");
    m.checkpoint();
    let volume = m.volume.clone();
    drop(m);
    let mut m = Machine::open(volume).0;
    assert!(m.working.state().maintenance());
    m.run(Command::SetMaintenance(false));
    let placed = m.apply(&late);
    assert_eq!((placed.outcome, placed.replayed), (Outcome::Ordered(2), false));
    m.assert_sound();
}

#[test]
fn in_maintenance_a_batch_of_which_all_was_placed_is_replayed_and_no_other() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 10));
    let orders = |keys: &[&'static str]| {
        let orders: Vec<_> = keys.iter().map(|key| (Some(*key), 1, 1)).collect();
        Command::PlaceOrders(super::batch(&orders))
    };
    m.run(orders(&["a", "b"]));
    m.run(Command::SetMaintenance(true));
    let replayed = super::batch_outcome(m.run(orders(&["b", "a"])));
    assert_eq!(replayed.replayed, [(0, 2), (1, 1)]);
    assert_eq!(m.run(orders(&["a", "c"])), Outcome::Rejected(Rejection::Maintenance));
    assert_eq!(m.working.state().order_count(), 2);
    m.assert_sound();
}
