//! From the sendings of each buy to one verdict on it.

use super::Check;
use crate::history::{Attempt, BuyReply, Key, Lines, LogIndex, Moment};

/// A buy, when its sendings are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) key: Key,
    pub(super) lines: Lines,
    /// When it was first sent: it cannot have happened before.
    pub(super) start: Moment,
    pub(super) fate: Fate,
}

/// What became of a buy, as far as its buyer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The order exists.
    Confirmed { order: u64, index: LogIndex, total_cents: u64 },
    /// The order exists, but nobody was told which one it is.
    AppliedUnseen,
    /// It was refused for good: the refusal is bound to the key.
    Refused { index: LogIndex },
    /// No sending had an effect.
    NotApplied,
    /// The order may exist.
    Unknown,
}

/// One verdict for each key, by key, and whether each key had one answer only.
///
/// One answer means: all definite replies are the same; at most one of them is not a replay; and what was
/// sent after a definite reply had come is a replay.
pub(super) fn verdicts(attempts: &[Attempt]) -> (Vec<Verdict>, Check) {
    let mut check = Check::new("one key, one answer, however often it is sent");
    let mut sorted: Vec<&Attempt> = attempts.iter().collect();
    sorted.sort_by_key(|attempt| (attempt.key, attempt.span.start));
    let mut verdicts = Vec::new();
    for sendings in sorted.chunk_by(|a, b| a.key == b.key) {
        check.examine();
        if let Err(reason) = one_answer(sendings) {
            check.violation(|| format!("{}: {reason}", sendings[0].key));
        }
        verdicts.push(Verdict {
            key: sendings[0].key,
            lines: sendings[0].lines,
            start: sendings[0].span.start,
            fate: fate(sendings),
        });
    }
    (verdicts, check)
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

fn one_answer(sendings: &[&Attempt]) -> Result<(), String> {
    let mut first: Option<Answer> = None;
    let mut fresh = 0;
    let mut definite_since = Moment::NEVER;
    for attempt in sendings {
        let (answer, replayed) = match attempt.reply {
            BuyReply::Confirmed { order, index, total_cents, replayed } => {
                (Answer::Sold { order, index, total_cents }, replayed)
            }
            BuyReply::Refused { index, item, available, replayed, .. } => {
                (Answer::Refused { index, item, available }, replayed)
            }
            BuyReply::NotApplied | BuyReply::AppliedUnseen | BuyReply::Unknown => continue,
        };
        fresh += u32::from(!replayed);
        if fresh > 1 {
            return Err(format!("carried out twice: {:?}", replies(sendings)));
        }
        if !replayed && attempt.span.start > definite_since {
            return Err(format!("not a replay though it was answered: {:?}", replies(sendings)));
        }
        match &first {
            None => first = Some(answer),
            Some(before) if *before != answer => {
                return Err(format!("two answers: {before:?} and {answer:?}"));
            }
            Some(_) => {}
        }
        definite_since = definite_since.min(attempt.span.end);
    }
    Ok(())
}

fn replies(sendings: &[&Attempt]) -> Vec<BuyReply> {
    sendings.iter().map(|attempt| attempt.reply).collect()
}

/// The verdict on a key, among verdicts as [`verdicts`] gives them.
pub(super) fn find(verdicts: &[Verdict], key: Key) -> Option<&Verdict> {
    let place = verdicts.binary_search_by_key(&key, |verdict| verdict.key).ok()?;
    Some(&verdicts[place])
}
