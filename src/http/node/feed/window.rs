//! What a channel has rendered lately: whoever keeps up takes it from here.

use std::collections::VecDeque;

use bytes::Bytes;
use pygmy_storage::command::LogIndex;

/// Bytes that a window keeps. A follower that is further behind is cut off: several seconds, at the
/// rate at which a busy store changes.
pub(super) const WINDOW_BYTES_MAX: usize = 4 << 20;

/// The changes of a span of the log, rendered.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    /// It begins after this index,
    pub(super) after: LogIndex,
    /// and is complete up to this one.
    pub(super) upto: LogIndex,
    /// Where the event of each index begins.
    pub(super) events: Vec<(LogIndex, usize)>,
    pub(super) bytes: Bytes,
}

impl Round {
    /// What comes after an index. Events are whole, so that an index is never split.
    fn from(&self, after: LogIndex) -> Bytes {
        if after <= self.after {
            return self.bytes.clone();
        }
        let next = self.events.partition_point(|(index, _)| *index <= after);
        match self.events.get(next) {
            Some((_, begin)) => self.bytes.slice(begin..),
            None => Bytes::new(),
        }
    }
}

/// How a channel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The node is about to end.
    Draining,
    /// It cannot go on; these are its last words.
    Failed(Bytes),
}

/// What there is for a follower.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Bytes to send, and the index up to which they are complete.
    Bytes(Bytes, LogIndex),
    /// Nothing yet. Nothing was missed up to this index.
    Nothing(LogIndex),
    /// What comes next for it is no longer here.
    Passed,
    /// Nothing any more.
    Ended(End),
}

/// The newest rounds. What lies between two of them is of other kinds.
#[derive(Debug)]
pub(super) struct Window {
    /// It begins after this index.
    after: LogIndex,
    /// It is complete up to this one.
    upto: LogIndex,
    rounds: VecDeque<Round>,
    bytes: usize,
    end: Option<End>,
}

impl Window {
    pub(super) fn new(after: LogIndex) -> Self {
        Self { after, upto: after, rounds: VecDeque::new(), bytes: 0, end: None }
    }

    pub(super) fn push(&mut self, round: Round) {
        self.upto = round.upto;
        if round.bytes.is_empty() {
            return;
        }
        self.bytes += round.bytes.len();
        self.rounds.push_back(round);
        while self.bytes > WINDOW_BYTES_MAX && self.rounds.len() > 1 {
            let Some(oldest) = self.rounds.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
            self.after = oldest.upto;
        }
    }

    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// What comes after an index.
    pub(super) fn take(&self, after: LogIndex) -> Taken {
        if self.end == Some(End::Draining) {
            return Taken::Ended(End::Draining);
        }
        if after < self.after {
            return Taken::Passed;
        }
        let next = self.rounds.partition_point(|round| round.upto <= after);
        match (self.rounds.get(next), &self.end) {
            (Some(round), _) => Taken::Bytes(round.from(after), round.upto),
            (None, Some(end)) => Taken::Ended(end.clone()),
            (None, None) => Taken::Nothing(self.upto),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(after: LogIndex, events: &[(LogIndex, &str)], upto: LogIndex) -> Round {
        let mut round = Round { after, upto, ..Round::default() };
        let mut bytes = Vec::new();
        for (index, text) in events {
            round.events.push((*index, bytes.len()));
            bytes.extend_from_slice(text.as_bytes());
        }
        Round { bytes: bytes.into(), ..round }
    }

    fn bytes(text: &'static str, upto: LogIndex) -> Taken {
        Taken::Bytes(Bytes::from_static(text.as_bytes()), upto)
    }

    #[test]
    fn a_follower_takes_what_comes_after_its_index_wherever_that_is() {
        let mut window = Window::new(10);
        assert_eq!(window.take(10), Taken::Nothing(10));
        window.push(round(10, &[(11, "a"), (13, "bc")], 14));
        window.push(round(14, &[(20, "d")], 20));
        assert_eq!(window.take(9), Taken::Passed);
        assert_eq!(window.take(10), bytes("abc", 14));
        for inside in [11, 12] {
            assert_eq!(window.take(inside), bytes("bc", 14));
        }
        assert_eq!(window.take(13), bytes("", 14));
        assert_eq!(window.take(14), bytes("d", 20));
        // A round without an event for these followers is none, but nothing was missed.
        window.push(round(20, &[], 30));
        assert_eq!(window.take(14), bytes("d", 20));
        // Somebody who has seen more elsewhere waits.
        for ahead in [20, 99] {
            assert_eq!(window.take(ahead), Taken::Nothing(30));
        }
        window.push(round(30, &[(31, "e")], 31));
        assert_eq!(window.take(20), bytes("e", 31));
    }

    #[test]
    fn what_is_kept_is_bounded_and_who_is_too_far_behind_is_told() {
        let mut window = Window::new(0);
        let text = "x".repeat(WINDOW_BYTES_MAX / 4);
        for index in 1..=9 {
            window.push(round(index - 1, &[(index, &text)], index));
        }
        assert!(window.bytes <= WINDOW_BYTES_MAX && window.rounds.len() == 4);
        assert_eq!(window.take(4), Taken::Passed);
        assert!(matches!(window.take(5), Taken::Bytes(_, 6)));
        // One round is always there, however large.
        window.push(round(9, &[(10, &"x".repeat(2 * WINDOW_BYTES_MAX))], 10));
        assert!(matches!(window.take(9), Taken::Bytes(_, 10)));
    }

    #[test]
    fn a_failure_comes_after_what_was_there_and_a_drain_at_once() {
        let mut window = Window::new(0);
        window.push(round(0, &[(1, "a")], 1));
        let failed = End::Failed(Bytes::from_static(b"why"));
        window.end(failed.clone());
        assert_eq!(window.take(0), bytes("a", 1));
        assert_eq!(window.take(1), Taken::Ended(failed));
        window.end(End::Draining);
        assert_eq!(window.take(0), Taken::Ended(End::Draining));
    }
}
