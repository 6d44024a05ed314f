//! What a channel has rendered lately: whoever keeps up takes it from here.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use pygmy_storage::command::LogIndex;

use super::gzip::Sum;

/// Bytes that a window keeps. A follower that is further behind is cut off: several seconds, at the
/// rate at which a busy store changes.
pub(super) const WINDOW_BYTES_MAX: usize = 4 << 20;

/// The changes of a span of the log, rendered.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    /// The index of its first event.
    pub(super) first: LogIndex,
    /// It is complete up to this one.
    pub(super) upto: LogIndex,
    pub(super) piece: Piece,
}

/// Bytes as followers send them.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Over what they were before they were compressed.
    pub(super) sum: Arc<Sum>,
}

/// How a channel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The node is about to end.
    Draining,
    /// It cannot go on; these are its last words.
    Failed(String),
}

/// What there is for a follower.
#[derive(Debug)]
pub(super) enum Taken {
    /// What to send, and the index up to which it is complete.
    Piece(Piece, LogIndex),
    /// It has a part of the next piece already. The rest, up to this index, it has to read for itself.
    Part(LogIndex),
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
        if round.piece.bytes.is_empty() {
            return;
        }
        self.bytes += round.piece.bytes.len();
        self.rounds.push_back(round);
        while self.bytes > WINDOW_BYTES_MAX && self.rounds.len() > 1 {
            let Some(oldest) = self.rounds.pop_front() else { break };
            self.bytes -= oldest.piece.bytes.len();
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
            (Some(round), _) if after < round.first => {
                Taken::Piece(round.piece.clone(), round.upto)
            }
            (Some(round), _) => Taken::Part(round.upto),
            (None, Some(end)) => Taken::Ended(end.clone()),
            (None, None) => Taken::Nothing(self.upto),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(first: LogIndex, upto: LogIndex, text: &str) -> Round {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Round { first, upto, piece: Piece { bytes, sum: Arc::default() } }
    }

    /// What is taken after an index, in short.
    fn take(window: &Window, after: LogIndex) -> String {
        match window.take(after) {
            Taken::Piece(piece, upto) => {
                format!("{} to {upto}", std::str::from_utf8(&piece.bytes).unwrap())
            }
            Taken::Part(upto) => format!("part to {upto}"),
            Taken::Nothing(upto) => format!("nothing to {upto}"),
            Taken::Passed => "passed".to_owned(),
            Taken::Ended(End::Draining) => "draining".to_owned(),
            Taken::Ended(End::Failed(why)) => why,
        }
    }

    #[test]
    fn a_follower_takes_what_comes_after_its_index_wherever_that_is() {
        let mut window = Window::new(10);
        assert_eq!(take(&window, 10), "nothing to 10");
        window.push(round(12, 14, "abc"));
        window.push(round(20, 20, "d"));
        assert_eq!(take(&window, 9), "passed");
        for before in [10, 11] {
            assert_eq!(take(&window, before), "abc to 14");
        }
        for inside in [12, 13] {
            assert_eq!(take(&window, inside), "part to 14");
        }
        assert_eq!(take(&window, 14), "d to 20");
        // A round without an event for these followers is none, but nothing was missed.
        window.push(round(0, 30, ""));
        assert_eq!(take(&window, 14), "d to 20");
        // Somebody who has seen more elsewhere waits.
        for ahead in [20, 99] {
            assert_eq!(take(&window, ahead), "nothing to 30");
        }
        window.push(round(31, 31, "e"));
        assert_eq!(take(&window, 20), "e to 31");
    }

    #[test]
    fn what_is_kept_is_bounded_and_who_is_too_far_behind_is_told() {
        let mut window = Window::new(0);
        let text = "x".repeat(WINDOW_BYTES_MAX / 4);
        for index in 1..=9 {
            window.push(round(index, index, &text));
        }
        assert!(window.bytes <= WINDOW_BYTES_MAX && window.rounds.len() == 4);
        assert_eq!(take(&window, 4), "passed");
        assert!(take(&window, 5).ends_with(" to 6"));
        // One round is always there, however large.
        window.push(round(10, 10, &"x".repeat(2 * WINDOW_BYTES_MAX)));
        assert!(take(&window, 9).ends_with(" to 10"));
    }

    #[test]
    fn a_failure_comes_after_what_was_there_and_a_drain_at_once() {
        let mut window = Window::new(0);
        window.push(round(1, 1, "a"));
        window.end(End::Failed("why".to_owned()));
        assert_eq!(take(&window, 0), "a to 1");
        assert_eq!(take(&window, 1), "why");
        window.end(End::Draining);
        assert_eq!(take(&window, 0), "draining");
    }
}
