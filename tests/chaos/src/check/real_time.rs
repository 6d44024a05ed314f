//! Real time: what starts after something ended comes after it in the log.
//!
//! Once any reply has shown an index, the log up to there is decided and applied somewhere. A
//! linearizable read that starts later must show at least that index, a write that starts later must
//! get a higher one. One sweep over the ends and one over the starts, both sorted.

use std::fmt;

use super::{
    Check,
    buys::{Fate, Verdict, find},
    follow_ups::{self, Step},
};
use crate::history::{
    BuyReply, FollowUp, FollowUpReply, History, Key, Level, LogIndex, Moment, OrderRead, Read,
    StockChange, StockOutcome,
};

/// Who showed an index, or has to keep up with one.
#[derive(Clone, Copy)]
enum Who<'a> {
    Read(&'a Read),
    OrderRead(&'a OrderRead),
    Buy(Key),
    Refusal(Key),
    StockChange(&'a StockChange),
    FollowUp(&'a FollowUp),
    Step(&'a Step),
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(read) => write!(out, "{read:?}"),
            Self::OrderRead(read) => write!(out, "{read:?}"),
            Self::Buy(key) => write!(out, "the sale of {key}"),
            Self::Refusal(key) => write!(out, "the refusal of {key}"),
            Self::StockChange(change) => write!(out, "{change:?}"),
            Self::FollowUp(sent) => write!(out, "{sent:?}"),
            Self::Step(step) => write!(out, "{step:?}"),
        }
    }
}

/// An index that had been shown by a moment.
struct Shown<'a> {
    end: Moment,
    index: LogIndex,
    by: Who<'a>,
}

/// An operation that may not fall behind what was shown before it started.
struct Bound<'a> {
    start: Moment,
    index: LogIndex,
    /// A write must lie above, a read may lie at the index.
    above: bool,
    who: Who<'a>,
}

/// Checks every linearizable read and every write.
pub(super) fn check(history: &History, verdicts: &[Verdict], steps: &[Step]) -> Check {
    let mut check = Check::new("linearizable: no reply is older than what was known before");
    let mut shown = shown(history);
    let mut bound = bound(history, verdicts, steps);
    shown.sort_by_key(|shown| shown.end);
    bound.sort_by_key(|bound| bound.start);
    let mut ended = shown.iter().peekable();
    let mut newest: Option<&Shown<'_>> = None;
    for bound in &bound {
        while let Some(shown) = ended.next_if(|shown| shown.end < bound.start) {
            if newest.is_none_or(|newest| newest.index < shown.index) {
                newest = Some(shown);
            }
        }
        let Some(newest) = newest else { continue };
        let holds = bound.index > newest.index || (!bound.above && bound.index == newest.index);
        check.expect(holds, || {
            format!(
                "index {} by {}, though index {} was known {:.3} ms before it started, by {}",
                bound.index,
                bound.who,
                newest.index,
                bound.start.millis_since(newest.end),
                newest.by,
            )
        });
    }
    check
}

fn shown(history: &History) -> Vec<Shown<'_>> {
    let reads = history.reads.iter().map(|read| (read.span.end, read.index, Who::Read(read)));
    let order_reads =
        history.order_reads.iter().map(|read| (read.span.end, read.index, Who::OrderRead(read)));
    let buys = history.attempts.iter().filter_map(|attempt| match attempt.reply {
        BuyReply::Confirmed { index, .. } => Some((attempt.span.end, index, Who::Buy(attempt.key))),
        BuyReply::Refused { index, .. } => {
            Some((attempt.span.end, index, Who::Refusal(attempt.key)))
        }
        BuyReply::NotApplied | BuyReply::AppliedUnseen | BuyReply::Unknown => None,
    });
    let stock = history.stock_changes.iter().filter_map(|change| {
        stock_index(change).map(|index| (change.span.end, index, Who::StockChange(change)))
    });
    let follow_ups = history.follow_ups.iter().filter_map(|sent| match sent.reply {
        FollowUpReply::Done { index, .. }
        | FollowUpReply::Ended { index, .. }
        | FollowUpReply::Missing { index } => Some((sent.span.end, index, Who::FollowUp(sent))),
        FollowUpReply::NotApplied | FollowUpReply::AppliedUnseen | FollowUpReply::Unknown => None,
    });
    reads
        .chain(order_reads)
        .chain(buys)
        .chain(stock)
        .chain(follow_ups)
        .map(|(end, index, by)| Shown { end, index, by })
        .collect()
}

fn bound<'a>(history: &'a History, verdicts: &'a [Verdict], steps: &'a [Step]) -> Vec<Bound<'a>> {
    let reads = history.reads.iter().filter(|read| read.level == Level::Linearizable);
    let reads = reads.map(|read| (read.span.start, read.index, false, Who::Read(read)));
    let order_reads = history
        .order_reads
        .iter()
        .map(|read| (read.span.start, read.index, false, Who::OrderRead(read)));
    // Taken from the books, so that sales whose buyers never learned of them are in it.
    let sales = history.replicas.first().into_iter().flat_map(move |replica| {
        let sold = replica.orders.iter().map(|order| (order.key, order.index));
        let held = replica.reservations.iter().map(|held| (held.key, held.index));
        sold.chain(held).filter_map(move |(key, index)| {
            let verdict = find(verdicts, key?)?;
            Some((verdict.start, index, true, Who::Buy(verdict.key)))
        })
    });
    let refusals = verdicts.iter().filter_map(|verdict| match verdict.fate {
        Fate::Refused { index } => Some((verdict.start, index, false, Who::Refusal(verdict.key))),
        Fate::Confirmed { .. } | Fate::AppliedUnseen | Fate::NotApplied | Fate::Unknown => None,
    });
    let stock = history.stock_changes.iter().filter_map(|change| {
        let applied = matches!(change.outcome, StockOutcome::Applied { .. });
        Some((change.span.start, stock_index(change)?, applied, Who::StockChange(change)))
    });
    let steps = steps.iter().filter_map(|step| match step.fate {
        follow_ups::Fate::Done { index, .. } => Some((step.start, index, true, Who::Step(step))),
        follow_ups::Fate::Ended { index, .. } => Some((step.start, index, false, Who::Step(step))),
        follow_ups::Fate::AppliedUnseen
        | follow_ups::Fate::NotApplied
        | follow_ups::Fate::Unknown => None,
    });
    reads
        .chain(order_reads)
        .chain(sales)
        .chain(refusals)
        .chain(stock)
        .chain(steps)
        .map(|(start, index, above, who)| Bound { start, index, above, who })
        .collect()
}

fn stock_index(change: &StockChange) -> Option<LogIndex> {
    match change.outcome {
        StockOutcome::Applied { index, .. } | StockOutcome::Refused { index } => Some(index),
        StockOutcome::NotApplied | StockOutcome::Unknown => None,
    }
}
