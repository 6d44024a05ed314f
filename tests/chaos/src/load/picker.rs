//! Which node to ask, and how long to wait for it.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::history::Moment;

/// For this long a node that failed is mostly passed over.
const AVOID_NS: u64 = 500_000_000;

/// Picks nodes at random, but not too often those that have just failed: otherwise every client would
/// soon wait on the one node that is paused, and no load would be left.
#[derive(Debug)]
pub(super) struct Picker {
    avoid_until: Vec<Moment>,
}

impl Picker {
    pub(super) fn new(nodes: usize) -> Self {
        Self { avoid_until: vec![Moment::default(); nodes] }
    }

    /// A node to ask.
    pub(super) fn pick(&self, now: Moment, rng: &mut ChaCha8Rng) -> usize {
        let nodes = self.avoid_until.len();
        let node = rng.random_range(0..nodes);
        // Now and then a bad node is asked all the same: its errors are to be seen too.
        if self.avoid_until[node] <= now || rng.random_bool(0.1) {
            return node;
        }
        let next = rng.random_range(0..nodes);
        (0..nodes)
            .map(|step| (next + step) % nodes)
            .find(|node| self.avoid_until[*node] <= now)
            .unwrap_or(node)
    }

    /// Notes that a node gave no useful answer.
    pub(super) fn failed(&mut self, node: usize, now: Moment) {
        self.avoid_until[node] = Moment(now.0 + AVOID_NS);
    }

    /// Notes that a node answered.
    pub(super) fn answered(&mut self, node: usize) {
        self.avoid_until[node] = Moment::default();
    }
}

/// How long to wait for a reply: mostly long enough for an election, sometimes not, because a client that
/// gives up early is what makes outcomes unknown.
pub(super) fn patience(rng: &mut ChaCha8Rng) -> Duration {
    let millis = if rng.random_bool(0.8) {
        rng.random_range(1_500..3_000)
    } else {
        rng.random_range(150..600)
    };
    Duration::from_millis(millis)
}
