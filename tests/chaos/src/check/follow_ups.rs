//! What was done with orders and reservations, by what those who did it were told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, answers};
use crate::history::{
    FinalOrder, FinalReservation, FollowUp, FollowUpReply, History, Key, LogIndex, Moment,
    MovementKind, Series, Standing,
};

/// A cancellation, confirmation or release, when its sendings are taken together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) key: Key,
    pub(super) of: u64,
    /// When it was first sent: it cannot have happened before.
    pub(super) start: Moment,
    /// The answer; for one that was not answered, whether it may have happened.
    pub(super) fate: Fate,
}

/// What became of a [`Step`], as far as somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It happened.
    Done { index: LogIndex, order: Option<u64> },
    /// It came too late.
    Ended { index: LogIndex, standing: Standing },
    /// It happened, but nobody was told where.
    AppliedUnseen,
    /// It had no effect.
    NotApplied,
    /// It may have happened.
    Unknown,
}

/// One step for each key, by key. Each key must have had one answer only.
pub(super) fn steps(sent: &[FollowUp], one_answer: &mut Check) -> Vec<Step> {
    let mut sorted: Vec<&FollowUp> = sent.iter().collect();
    sorted.sort_by_key(|sent| (sent.key, sent.span.start));
    let mut steps = Vec::new();
    for sendings in sorted.chunk_by(|a, b| a.key == b.key) {
        let definite = sendings.iter().filter_map(|sent| {
            let (answer, replayed) = definite(sent.reply)?;
            Some(answers::Definite { answer, replayed, span: sent.span })
        });
        answers::one_answer(one_answer, sendings[0].key, definite);
        let FollowUp { key, of, span, .. } = *sendings[0];
        steps.push(Step { key, of, start: span.start, fate: fate(sendings) });
    }
    steps
}

fn definite(reply: FollowUpReply) -> Option<(Fate, bool)> {
    match reply {
        FollowUpReply::Done { index, order, replayed } => {
            Some((Fate::Done { index, order }, replayed))
        }
        FollowUpReply::Ended { index, standing, replayed } => {
            Some((Fate::Ended { index, standing }, replayed))
        }
        // That there is no such thing is not remembered by every write.
        FollowUpReply::Missing { .. }
        | FollowUpReply::NotApplied
        | FollowUpReply::AppliedUnseen
        | FollowUpReply::Unknown => None,
    }
}

fn fate(sendings: &[&FollowUp]) -> Fate {
    if let Some((fate, _)) = sendings.iter().find_map(|sent| definite(sent.reply)) {
        return fate;
    }
    let any = |reply| sendings.iter().any(|sent| sent.reply == reply);
    match (any(FollowUpReply::AppliedUnseen), any(FollowUpReply::Unknown)) {
        (true, _) => Fate::AppliedUnseen,
        (false, true) => Fate::Unknown,
        (false, false) => Fate::NotApplied,
    }
}

/// Where the cancellations lie, by order: as the ledgers tell it.
pub(super) fn cancelled_at(history: &History) -> BTreeMap<u64, LogIndex> {
    let cancelled = history.movements.iter().filter_map(|movement| match movement.kind {
        MovementKind::Cancelled(order) => Some((order, movement.index)),
        MovementKind::Sold(_) | MovementKind::Stock => None,
    });
    cancelled.collect()
}

/// Every cancellation that was confirmed shows, once; and nothing else does.
pub(super) fn cancellations(
    steps: &[Step],
    book: &[FinalOrder],
    at: &BTreeMap<u64, LogIndex>,
) -> Check {
    let mut check = Check::new("an order is cancelled once, and only when somebody asked for it");
    let standing: BTreeMap<u64, bool> = book.iter().map(|o| (o.id, o.cancelled)).collect();
    let mut asked_for = BTreeSet::new();
    let mut done = BTreeSet::new();
    for step in steps.iter().filter(|step| step.key.series == Series::Cancel) {
        let is_cancelled = standing.get(&step.of).copied();
        let index = at.get(&step.of).copied();
        let holds = match step.fate {
            Fate::Done { index: told, .. } => {
                is_cancelled == Some(true) && index == Some(told) && done.insert(step.of)
            }
            Fate::Ended { index: told, standing } => {
                standing == Standing::Cancelled && index.is_some_and(|index| index < told)
            }
            Fate::AppliedUnseen => is_cancelled == Some(true),
            Fate::NotApplied | Fate::Unknown => true,
        };
        check.expect(holds, || format!("{step:?}: cancelled {is_cancelled:?} at {index:?}"));
        if matches!(step.fate, Fate::Done { .. } | Fate::AppliedUnseen | Fate::Unknown) {
            asked_for.insert(step.of);
        }
    }
    for order in book.iter().filter(|order| order.cancelled) {
        check.expect(asked_for.contains(&order.id), || format!("by nobody: {order:?}"));
    }
    check
}

/// Every end of a reservation that was confirmed is the one that it had.
pub(super) fn ends(
    steps: &[Step],
    reservations: &[FinalReservation],
    at: &BTreeMap<u64, LogIndex>,
) -> Check {
    let mut check = Check::new("a reservation ends once, as those who ended it were told");
    let known: BTreeMap<u64, &FinalReservation> =
        reservations.iter().map(|reservation| (reservation.id, reservation)).collect();
    let mut asked_for = BTreeSet::new();
    for step in steps {
        let end = match step.key.series {
            Series::Confirm => Standing::Confirmed,
            Series::Release => Standing::Released,
            Series::Cancel | Series::Buy | Series::Hold => continue,
        };
        let reservation = known.get(&step.of);
        let stands = reservation.and_then(|reservation| reservation.standing);
        let index = at.get(&step.of).copied();
        let holds = match step.fate {
            Fate::Done { index: told, order } => {
                let became = reservation.and_then(|reservation| reservation.order);
                stands == Some(end) && index == Some(told) && became == order
            }
            Fate::Ended { index: told, standing } => {
                // It may have run out with the very entry that wanted to end it.
                stands == Some(standing) && index.is_some_and(|index| index <= told)
            }
            Fate::AppliedUnseen => stands == Some(end),
            Fate::NotApplied | Fate::Unknown => true,
        };
        check.expect(holds, || format!("{step:?}: it ended at {index:?}: {reservation:?}"));
        if matches!(step.fate, Fate::Done { .. } | Fate::AppliedUnseen | Fate::Unknown) {
            asked_for.insert((step.of, step.key.series));
        }
    }
    for reservation in reservations {
        let series = match reservation.standing {
            Some(Standing::Confirmed) => Series::Confirm,
            Some(Standing::Released) => Series::Release,
            Some(Standing::Held | Standing::Expired | Standing::Cancelled) | None => continue,
        };
        let asked = asked_for.contains(&(reservation.id, series));
        check.expect(asked, || format!("ended by nobody: {reservation:?}"));
    }
    check
}

/// Who was told that there is no such order or reservation was told so before it came to be.
pub(super) fn missing(
    sent: &[FollowUp],
    book: &[FinalOrder],
    reservations: &[FinalReservation],
) -> Check {
    let mut check = Check::new("what is said not to exist does not exist");
    let orders: BTreeMap<u64, LogIndex> = book.iter().map(|o| (o.id, o.index)).collect();
    let held: BTreeMap<u64, LogIndex> = reservations.iter().map(|r| (r.id, r.index)).collect();
    for sent in sent {
        let FollowUpReply::Missing { index } = sent.reply else { continue };
        let kind = if sent.key.series == Series::Cancel { &orders } else { &held };
        let made = kind.get(&sent.of).copied();
        check.expect(made.is_none_or(|made| made > index), || {
            format!("{sent:?}, and it is there since {made:?}")
        });
    }
    check
}
