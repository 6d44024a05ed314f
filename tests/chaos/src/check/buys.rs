//! From the sendings of each buy and each reservation to one verdict on it.

use super::{Check, answers};
use crate::history::{Attempt, BuyReply, Key, Lines, LogIndex, Moment};

/// A buy or a reservation, when its sendings are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) key: Key,
    pub(super) lines: Lines,
    /// When it was first sent: it cannot have happened before.
    pub(super) start: Moment,
    pub(super) fate: Fate,
}

/// What became of it, as far as its buyer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It exists; for a reservation `order` is its number.
    Confirmed { order: u64, index: LogIndex, total_cents: u64 },
    /// It exists, but nobody was told which one it is.
    AppliedUnseen,
    /// It was refused for good: the refusal is bound to the key.
    Refused { index: LogIndex },
    /// No sending had an effect.
    NotApplied,
    /// It may exist.
    Unknown,
}

/// One verdict for each key, by key. Each key must have had one answer only.
pub(super) fn verdicts(attempts: &[Attempt], one_answer: &mut Check) -> Vec<Verdict> {
    let mut sorted: Vec<&Attempt> = attempts.iter().collect();
    sorted.sort_by_key(|attempt| (attempt.key, attempt.span.start));
    let mut verdicts = Vec::new();
    for sendings in sorted.chunk_by(|a, b| a.key == b.key) {
        let definite = sendings.iter().filter_map(|attempt| answer(attempt));
        answers::one_answer(one_answer, sendings[0].key, definite);
        verdicts.push(Verdict {
            key: sendings[0].key,
            lines: sendings[0].lines,
            start: sendings[0].span.start,
            fate: fate(sendings),
        });
    }
    verdicts
}

fn fate(sendings: &[&Attempt]) -> Fate {
    let find = |wanted: fn(&BuyReply) -> Option<Fate>| {
        sendings.iter().find_map(|attempt| wanted(&attempt.reply))
    };
    find(|reply| match *reply {
        BuyReply::Confirmed { order, index, total_cents, .. } => {
            Some(Fate::Confirmed { order, index, total_cents })
        }
        _ => None,
    })
    .or_else(|| find(|reply| (*reply == BuyReply::AppliedUnseen).then_some(Fate::AppliedUnseen)))
    .or_else(|| {
        find(|reply| match *reply {
            BuyReply::Refused { index, .. } => Some(Fate::Refused { index }),
            _ => None,
        })
    })
    .or_else(|| find(|reply| (*reply == BuyReply::Unknown).then_some(Fate::Unknown)))
    .unwrap_or(Fate::NotApplied)
}

/// What all definite replies to a key must agree on.
#[derive(PartialEq, Eq, Debug)]
enum Answer {
    Sold { order: u64, index: LogIndex, total_cents: u64 },
    Refused { index: LogIndex, item: u32, available: u64 },
}

fn answer(attempt: &Attempt) -> Option<answers::Definite<Answer>> {
    let (answer, replayed) = match attempt.reply {
        BuyReply::Confirmed { order, index, total_cents, replayed } => {
            (Answer::Sold { order, index, total_cents }, replayed)
        }
        BuyReply::Refused { index, item, available, replayed, .. } => {
            (Answer::Refused { index, item, available }, replayed)
        }
        BuyReply::NotApplied | BuyReply::AppliedUnseen | BuyReply::Unknown => return None,
    };
    Some(answers::Definite { answer, replayed, span: attempt.span })
}

/// The verdict on a key, among verdicts as [`verdicts`] gives them.
pub(super) fn find(verdicts: &[Verdict], key: Key) -> Option<&Verdict> {
    let place = verdicts.binary_search_by_key(&key, |verdict| verdict.key).ok()?;
    Some(&verdicts[place])
}
