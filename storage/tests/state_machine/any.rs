//! Any sequence of commands: what always holds, and that it comes to the same however it is cut.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use pygmy_storage::{
    catalog::StockReason,
    changes::Changes,
    command::{
        ChangeStock, Command, CreateItem, DeleteItem, ImportStock, KeyClaim, Outcome, PatchItem,
        PlaceOrders, Policy, Precondition, Proposal, PutItems, PutItemsRow, StockChange,
    },
    store,
    volume::{DirVolume, MemoryVolume, Volume},
};

use super::{Machine, batch, cancel, fingerprint, order, put, reserve};

/// One command with what becomes of the machine after it. Numbers are small, so that all collides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) kind: u8,
    pub(super) item: u64,
    pub(super) pieces: u64,
    /// Another item, an order, a reservation, a price: whatever the command wants.
    pub(super) other: u64,
    pub(super) key: Option<u8>,
    pub(super) wait_ms: u64,
    cut: Cut,
}

/// What happens to a machine between two entries.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Nothing,
    Checkpoint,
    /// Its state is thrown away; the log goes on from the last checkpoint.
    Crash,
    /// Its state is replaced by a snapshot of itself.
    Snapshot,
}

/// Kinds of commands that [`command`] knows.
pub(super) const KINDS: u8 = 22;

/// The one that sets a policy.
pub(super) const SETS_POLICY: u8 = 19;

impl Step {
    /// A step that is not followed by a cut.
    pub(super) fn plain(kind: u8, item: u64, pieces: u64, other: u64) -> Self {
        Self { kind, item, pieces, other, key: None, wait_ms: 0, cut: Cut::Nothing }
    }
}

/// What a step proposes to a machine as it is.
pub(super) fn command(m: &Machine, step: Step) -> Command {
    let Step { item, pieces, other, .. } = step;
    let precondition = match other % 5 {
        0 => Precondition::Exists,
        1 => m.view().item(item).map_or(Precondition::Absent, |i| Precondition::Version(i.version)),
        _ => Precondition::None,
    };
    let row = |id, price_cents, stock| PutItemsRow {
        id,
        title: format!("Title {other}"),
        topic: "Topic 1".to_owned(),
        price_cents,
        stock,
    };
    let state = m.working.state();
    match step.kind {
        0 | 1 => put(item, other, pieces * 3),
        2 => Command::CreateItem(CreateItem {
            title: "Created".to_owned(),
            topic: "Topic 1".to_owned(),
            price_cents: other,
            stock: pieces,
        }),
        3 => Command::PatchItem(PatchItem {
            id: item,
            title: (pieces % 2 == 0).then(|| format!("Title {item}")),
            topic: (pieces % 3 == 0).then(|| "Topic 2".to_owned()),
            price_cents: (pieces % 4 < 3).then_some(other),
            precondition,
        }),
        4 => Command::DeleteItem(DeleteItem { id: item, precondition }),
        5 => Command::PutItems(PutItems {
            rows: vec![
                row(item, other, Some(pieces)),
                row(item + 1, 5, None),
                row(item, 7, Some(2)),
            ],
            stock: if pieces % 2 == 0 { ImportStock::OnlyNew } else { ImportStock::Set },
        }),
        6 => Command::ChangeStock(ChangeStock {
            item,
            change: match pieces % 2 {
                0 => StockChange::Set(other),
                _ => StockChange::Delta(i64::try_from(other).unwrap() - 8),
            },
            reason: StockReason::Correction,
            reference: None,
            precondition,
        }),
        7 => Command::Restock,
        8..=10 => order(&[(item, pieces), (other, 1), (item, 1)]),
        11 => Command::PlaceOrders(PlaceOrders {
            orders: batch(&[(Some("a"), item, 1), (None, other, pieces)]).orders,
        }),
        12 | 13 if state.order_count() > 0 => {
            cancel(&m.view(), other % state.order_count() + 1, Some("why"))
        }
        14 | 15 => reserve(&[(item, pieces), (other, 1)], pieces * 40),
        16 => Command::ConfirmReservation { id: some_reservation(m, other) },
        17 => Command::ReleaseReservation { id: some_reservation(m, other) },
        18 => Command::SetMaintenance(pieces % 4 == 0 && !state.maintenance()),
        SETS_POLICY => Command::SetPolicy(Policy {
            key_retention_ms: other * 50,
            key_limit: pieces * 4,
            restock_quantity: pieces,
            restock_interval_ms: None,
            change_history: other * 10,
            price_history: pieces,
            reservation_limit: other,
            reservation_history: pieces,
            reservation_ttl_max_ms: 30 * other,
        }),
        20 => Command::ReserveNodeId { at_least: other },
        _ => Command::Tick,
    }
}

/// One of the newest reservations, or one that is none.
fn some_reservation(m: &Machine, other: u64) -> u64 {
    (m.working.state().reservation_count() + 1).saturating_sub(other % 8)
}

fn propose(m: &Machine, step: Step) -> Proposal {
    let command = command(m, step);
    let key = step.key.map(|key| KeyClaim::new(&format!("key {key}"), &command));
    Proposal { stamp_ms: m.working.state().log_time_ms() + step.wait_ms, key, command }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cut = prop_oneof![
        12 => Just(Cut::Nothing),
        1 => Just(Cut::Checkpoint),
        1 => Just(Cut::Crash),
        1 => Just(Cut::Snapshot),
    ];
    let wait_ms = prop_oneof![4 => 0..30u64, 1 => 30..1000u64];
    let key = prop::option::weighted(0.4, 0..12u8);
    let step = (0..KINDS, 1..6u64, 1..6u64, 0..20u64, key, wait_ms, cut).prop_map(
        |(kind, item, pieces, other, key, wait_ms, cut)| Step {
            kind,
            item,
            pieces,
            other,
            key,
            wait_ms,
            cut,
        },
    );
    prop::collection::vec(step, 1..120)
}

/// What anybody may rely on, told by what readers see and not by what is derived.
fn assert_promises(m: &Machine) {
    let view = m.view();
    let mut held: BTreeMap<u64, u64> = BTreeMap::new();
    for id in 1..=m.working.state().reservation_count() {
        let Some(reservation) = view.reservation(id) else { continue };
        if reservation.ended.is_none() {
            assert!(reservation.expires_ms > view.state.log_time_ms(), "{reservation:?}");
            for line in &reservation.lines {
                *held.entry(line.item).or_default() += line.quantity;
            }
        }
    }
    for item in &view.items(None, None, 1000).rows {
        assert!(item.is_consistent(), "{item:?}");
        assert_eq!(item.reserved, held.remove(&item.id).unwrap_or(0), "{item:?}");
        let prices = view.prices(item.id).unwrap();
        assert_eq!(prices.prices.last().unwrap().price_cents, item.price_cents);
        assert!(prices.lowest_30_days_cents.is_none_or(|lowest| lowest <= item.price_cents));
    }
    assert!(held.is_empty(), "{held:?}");
    for id in 1..=view.state.order_count() {
        let order = view.order(id).unwrap().unwrap();
        let total: u64 = order.lines.iter().map(|line| line.quantity * line.unit_price_cents).sum();
        assert_eq!((order.id, order.total_cents), (id, total));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_proposed_the_promises_hold_and_every_way_to_the_state_is_the_same(
        steps in steps()
    ) {
        // Straight on, and what it answers.
        let mut plain = Machine::memory();
        let mut entries = Vec::new();
        for step in &steps {
            let proposal = propose(&plain, *step);
            let applied = plain.apply(&proposal);
            let known = plain.working.state().maintenance()
                || applied.outcome != Outcome::Rejected(pygmy_storage::command::Rejection::Maintenance);
            prop_assert!(known, "refused for maintenance that is not on");
            entries.push((proposal, applied));
            assert_promises(&plain);
        }
        plain.assert_sound();

        // Again, on either engine, with cuts anywhere.
        let dir = tempfile::tempdir().unwrap();
        let volumes: [Arc<dyn Volume>; 2] = [
            Arc::new(MemoryVolume::new()),
            Arc::new(DirVolume::open(dir.path(), 8 << 20).unwrap()),
        ];
        for volume in volumes {
            let mut m = Machine::open(volume).0;
            let mut cuts: Vec<Cut> = steps.iter().map(|step| step.cut).collect();
            let mut next = 0;
            while let Some((proposal, applied)) = entries.get(next) {
                prop_assert_eq!(&m.apply(proposal), applied);
                let cut = std::mem::replace(&mut cuts[next], Cut::Nothing);
                next += 1;
                match cut {
                    Cut::Nothing => continue,
                    Cut::Checkpoint => m.checkpoint(),
                    Cut::Crash => {
                        let volume = m.volume.clone();
                        drop(m);
                        m = Machine::open(volume).0;
                        let applied = m.working.state().applied();
                        next = applied.map_or(0, |index| usize::try_from(index).unwrap() + 1);
                    }
                    Cut::Snapshot => {
                        let (file, _) = store::build_snapshot(&*m.volume, &m.view(), &mut || {}).unwrap();
                        m.install(&file);
                    }
                }
                m.assert_sound();
            }
            prop_assert_eq!(fingerprint(&m), fingerprint(&plain));
            assert_same_answers(&m, &plain);
        }
    }
}

/// That two machines answer the same, whatever is in memory and whatever is not.
fn assert_same_answers(one: &Machine, other: &Machine) {
    let (one, other) = (one.view(), other.view());
    assert_eq!(one.items(None, None, 1000), other.items(None, None, 1000));
    assert!(one.topics().eq(other.topics()));
    for id in 1..=one.state.order_count() {
        assert_eq!(one.order(id).unwrap(), other.order(id).unwrap());
        assert_eq!(one.state.order_status(id), other.state.order_status(id));
        assert_eq!(one.cancellation(id).unwrap(), other.cancellation(id).unwrap());
    }
    for id in 1..=one.state.reservation_count() {
        assert_eq!(one.reservation(id), other.reservation(id));
    }
    let after = match one.changes(0, 10).unwrap() {
        Changes::Page(_) => 0,
        Changes::Gone { oldest } => oldest,
    };
    assert_eq!(one.changes(after, 10_000).unwrap(), other.changes(after, 10_000).unwrap());
}
