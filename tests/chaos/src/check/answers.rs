//! One key, one answer: all definite replies to it are the same; at most one of them is not a replay; and
//! what was sent after a definite reply had come is a replay.

use std::fmt::Debug;

use super::Check;
use crate::history::{Key, Moment, Span};

/// A reply that settles what became of a write.
#[derive(Debug)]
pub(super) struct Definite<A> {
    /// All that must be the same whenever it is given.
    pub(super) answer: A,
    /// Whether it says that it repeats an earlier one.
    pub(super) replayed: bool,
    /// When it was asked for and came.
    pub(super) span: Span,
}

/// An empty check, for all keys of all writes.
pub(super) fn new() -> Check {
    Check::new("one key, one answer, however often it is sent")
}

/// Checks the definite replies to one key, by when they were asked for.
pub(super) fn one_answer<A: PartialEq + Debug>(
    check: &mut Check,
    key: Key,
    definite: impl Iterator<Item = Definite<A>>,
) {
    let replies: Vec<Definite<A>> = definite.collect();
    check.expect(agree(&replies), || format!("{key}: {replies:?}"));
}

fn agree<A: PartialEq>(replies: &[Definite<A>]) -> bool {
    let mut fresh = 0;
    let mut definite_since = Moment::NEVER;
    for reply in replies {
        fresh += u32::from(!reply.replayed);
        let late = !reply.replayed && reply.span.start > definite_since;
        if fresh > 1 || late || reply.answer != replies[0].answer {
            return false;
        }
        definite_since = definite_since.min(reply.span.end);
    }
    true
}
