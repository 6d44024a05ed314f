//! The change history: what is told, what left memory, what is gone.

use pygmy_storage::{
    Error,
    changes::{Change, ChangeKind, ChangeWhat, Changes},
    command::{Command, DeleteItem, Policy, Precondition},
    store,
};

use super::{Machine, cancel, order, put, reserve};

/// All changes after an index, page by page.
fn follow(m: &Machine, mut after: u64, limit: usize) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    loop {
        let Changes::Page(page) = m.view().changes(after, limit).unwrap() else { panic!("gone") };
        let told: Vec<u64> = page.changes.iter().map(|change| change.index).collect();
        assert!(told.iter().all(|index| (after + 1..=page.next_after).contains(index)));
        all.extend(page.changes);
        if page.next_after == m.view().index() {
            return all;
        }
        after = page.next_after;
    }
}

fn keep(changes: u64) -> Command {
    Command::SetPolicy(Policy { change_history: changes, ..Policy::default() })
}

#[test]
fn everything_that_changes_is_told_at_its_index() {
    let mut m = Machine::memory();
    m.run(keep(1000));
    m.run(put(1, 1, 10));
    m.run(put(2, 1, 10));
    m.run(order(&[(1, 1), (2, 1)]));
    m.run(put(1, 2, 10));
    m.run(cancel(&m.view(), 1, None));
    m.run(reserve(&[(1, 1)], 1_000));
    m.run(Command::ConfirmReservation { id: 1 });
    m.run(reserve(&[(1, 1)], 1_000));
    m.run(Command::ReleaseReservation { id: 2 });
    m.run(reserve(&[(2, 1)], 1_000));
    m.apply(&super::at(5_000, Command::Tick));
    m.run(Command::DeleteItem(DeleteItem { id: 2, precondition: Precondition::None }));
    m.run(keep(1000));
    m.run(order(&[(2, 1)]));
    use {ChangeKind::*, ChangeWhat::*};
    let expected = [
        (1, Item, 1, Created),
        (2, Item, 2, Created),
        (3, Item, 1, Changed),
        (3, Item, 2, Changed),
        (3, Order, 1, Created),
        (4, Item, 1, Changed),
        (5, Item, 1, Changed),
        (5, Item, 2, Changed),
        (5, Order, 1, ChangeWhat::Cancelled),
        (6, Item, 1, Changed),
        (6, Reservation, 1, Created),
        (7, Item, 1, Changed),
        (7, Order, 2, Created),
        (7, Reservation, 1, Confirmed),
        (8, Item, 1, Changed),
        (8, Reservation, 2, Created),
        (9, Item, 1, Changed),
        (9, Reservation, 2, Released),
        (10, Item, 2, Changed),
        (10, Reservation, 3, Created),
        (11, Item, 2, Changed),
        (11, Reservation, 3, Expired),
        (12, Item, 2, Deleted),
        (13, Policy, 0, Changed),
    ];
    let expected = expected.map(|(index, kind, id, what)| Change { index, kind, id, what });
    for limit in [1, 2, 5, 100] {
        assert_eq!(follow(&m, 0, limit), expected, "limit {limit}");
    }
    m.assert_sound();
}

#[test]
fn changes_that_left_memory_join_those_that_did_not_and_survive_a_restart() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1_000_000));
    for _ in 0..6000 {
        m.run(order(&[(1, 1)]));
    }
    let all = follow(&m, 0, 1000);
    assert_eq!(all.len(), 12_000);
    m.checkpoint();
    assert!(!m.working.state().changes_are_recent(0));
    assert!(m.working.state().changes_are_recent(m.view().index()));
    assert_eq!(follow(&m, 0, 777), all);
    assert_eq!(follow(&m, 4321, 1), all[2 * 4321..]);
    let volume = m.volume.clone();
    drop(m);
    let mut m = Machine::open(volume).0;
    assert_eq!(follow(&m, 0, 1000), all);
    let (file, _) = store::build_snapshot(&*m.volume, &m.view(), &mut || {}).unwrap();
    m.install(&file);
    assert_eq!(follow(&m, 0, 1000), all, "a snapshot brings them along");
    m.assert_sound();
}

#[test]
fn what_is_forgotten_is_told_with_where_to_go_on() {
    let mut m = Machine::memory();
    m.run(keep(8000));
    m.run(put(1, 1, 1_000_000));
    let buy = |m: &mut Machine, orders| (0..orders).for_each(|_| drop(m.run(order(&[(1, 1)]))));
    buy(&mut m, 4000);
    m.checkpoint();
    let old = m.view();
    buy(&mut m, 4000);
    let Changes::Gone { oldest } = m.view().changes(0, 10).unwrap() else { panic!("kept") };
    assert_eq!(m.view().changes(oldest - 1, 10).unwrap(), Changes::Gone { oldest });
    let kept = follow(&m, oldest, 100).len();
    assert!((8000..8000 + 1024).contains(&kept), "{kept}");
    m.assert_sound();

    // A view from before has what it had until a checkpoint deletes it, or for as long as it is
    // pinned.
    let told = old.changes(1, 10).unwrap();
    assert!(matches!(&told, Changes::Page(page) if page.changes.len() == 10), "{told:?}");
    let pin = old.pin().unwrap();
    m.checkpoint();
    assert_eq!(old.changes(1, 10).unwrap(), told);
    let mut bytes = Vec::new();
    pygmy_storage::snapshot::export(&old, &mut bytes).unwrap();
    drop(pin);
    m.checkpoint();
    let Changes::Gone { oldest } = old.changes(1, 10).unwrap() else { panic!("kept") };
    assert!(matches!(old.changes(oldest, 10).unwrap(), Changes::Page(_) | Changes::Gone { .. }));
    assert!(matches!(old.pin(), Err(Error::Gone { .. })));
    let export = pygmy_storage::snapshot::export(&old, &mut bytes);
    assert!(matches!(export, Err(Error::Gone { .. })), "{export:?}");
    m.assert_sound();

    // A bound that is lowered takes effect a chunk at a time.
    m.run(keep(0));
    let gone = |m: &Machine| match m.view().changes(0, 1).unwrap() {
        Changes::Gone { oldest } => oldest,
        Changes::Page(page) => panic!("{page:?}"),
    };
    let first = gone(&m);
    m.run(Command::Tick);
    let second = gone(&m);
    assert!(first < second);
    for _ in 0..8 {
        m.run(Command::Tick);
    }
    let kept = follow(&m, gone(&m), 1000).len();
    assert!(kept < 1024, "{kept}");
    m.checkpoint();
    let volume = m.volume.clone();
    drop(m);
    let m = Machine::open(volume).0;
    assert_eq!(follow(&m, gone(&m), 1000).len(), kept);
    m.assert_sound();
}
