//! What a reply to a cancellation, a confirmation or a release means.

use pygmy::api::{Order, Problem, Reservation, WriteOutcome};

use super::{Inspector, Kind, brief};
use crate::{
    client::{Failure, Reply},
    history::{FollowUpReply, Key, Series, Standing},
};

impl Inspector {
    /// What an answer to a write about an order or a reservation means.
    pub fn follow_up(
        &mut self,
        asked: Result<&Reply, Failure>,
        key: Key,
        of: u64,
    ) -> FollowUpReply {
        let kind = Kind::from(key.series);
        let Some(reply) = self.arrived(kind, asked) else {
            return match asked.err() {
                Some(Failure::NotSent) => FollowUpReply::NotApplied,
                Some(Failure::Unknown) | None => FollowUpReply::Unknown,
            };
        };
        match reply.status {
            200 | 201 => self.done(reply, key, of),
            409 => self.ended(reply, key),
            404 => {
                self.problem_rules(kind, reply, &key);
                self.tally(kind, "missing");
                match reply.index {
                    Some(index) => FollowUpReply::Missing { index },
                    None => FollowUpReply::NotApplied,
                }
            }
            _ => match self.problem(kind, reply, &key) {
                Some(WriteOutcome::Applied) => FollowUpReply::AppliedUnseen,
                Some(WriteOutcome::NotApplied) => FollowUpReply::NotApplied,
                Some(WriteOutcome::Unknown) | None => FollowUpReply::Unknown,
            },
        }
    }

    fn done(&mut self, reply: &Reply, key: Key, of: u64) -> FollowUpReply {
        let Some((index, order)) = shown(reply, key.series, of) else {
            self.complaints.add("something else was done", || brief(&key, reply));
            return FollowUpReply::Unknown;
        };
        let outcome = if reply.replayed { "done (replayed)" } else { "done" };
        self.tally(key.series.into(), outcome);
        FollowUpReply::Done { index, order, replayed: reply.replayed }
    }

    fn ended(&mut self, reply: &Reply, key: Key) -> FollowUpReply {
        let kind = Kind::from(key.series);
        self.problem_rules(kind, reply, &key);
        let problem = reply.json::<Problem>().ok().filter(|p| p.code == "wrong_state");
        if problem.as_ref().is_some_and(|p| p.outcome != Some(WriteOutcome::NotApplied)) {
            self.complaints.add("refusal without outcome not_applied", || brief(&key, reply));
        }
        let standing = problem.and_then(|problem| Standing::parse(&problem.state?));
        let (Some(standing), Some(index)) = (standing, reply.index) else {
            self.complaints.add("refusal without its reasons", || brief(&key, reply));
            return FollowUpReply::Unknown;
        };
        let outcome = if reply.replayed { "refused (replayed)" } else { "refused" };
        self.tally(kind, outcome);
        FollowUpReply::Ended { index, standing, replayed: reply.replayed }
    }
}

/// The index and the order of a reply that shows what was asked for.
fn shown(reply: &Reply, series: Series, of: u64) -> Option<(u64, Option<u64>)> {
    match (series, reply.status) {
        (Series::Cancel, 200) => {
            let order = reply.json::<Order>().ok()?;
            let fits =
                order.id == of && order.status == "cancelled" && order.cancelled_at.is_some();
            fits.then_some((reply.index?, Some(order.id)))
        }
        (Series::Confirm, 201) => {
            let order = reply.json::<Order>().ok()?;
            let fits = order.reservation == Some(of)
                && order.status == "placed"
                && (reply.replayed || reply.index == Some(order.index));
            fits.then_some((order.index, Some(order.id)))
        }
        (Series::Release, 200) => {
            let released = reply.json::<Reservation>().ok()?;
            let fits =
                released.id == of && released.status == "released" && released.ended_at.is_some();
            fits.then_some((reply.index?, None))
        }
        _ => None,
    }
}
