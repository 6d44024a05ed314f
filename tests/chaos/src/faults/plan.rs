//! The plan: which faults, when, and for how long. The same seed always gives the same plan.
//!
//! - Never more than a minority of the nodes is down or paused at once, except by a fault that takes all.
//! - Every kind that was asked for comes at least once.

use std::time::Duration;

use anyhow::{Result, bail};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::FaultKind;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFault {
    /// What is done.
    pub kind: FaultKind,
    /// When, since the faults began.
    pub at: Duration,
    /// For how long the node is down or paused.
    pub hold: Duration,
    /// To which node, unless it is the leader or all. Should that one be taken, to the next free one.
    pub victim: usize,
    /// `KillAgain`: how long after its start the node is killed again.
    pub again_after: Duration,
    /// Faults that take all: the order in which the nodes start again.
    pub start_order: Vec<usize>,
    /// Between these starts.
    pub stagger: Duration,
    /// Whether the next fault waits until the node is ready again; otherwise it may hit the cluster while
    /// the node still catches up.
    pub await_ready: bool,
}

/// The most nodes that may be down at once while the cluster still has a quorum.
pub fn minority(nodes: usize) -> usize {
    nodes.saturating_sub(1) / 2
}

/// Plans the faults of a run of this length.
pub fn plan(
    seed: u64,
    nodes: usize,
    length: Duration,
    kinds: &[FaultKind],
) -> Result<Vec<PlannedFault>> {
    let slots = minority(nodes);
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    if slots == 0 {
        bail!("{nodes} nodes have no minority to fail: use 3 or 5");
    }
    let mut planner = Planner {
        rng: ChaCha8Rng::seed_from_u64(seed),
        nodes,
        // Short runs have short faults, so that every kind finds its place: one takes 3 s at full length
        // on average, and one of them may take 8 s.
        scale: (length.as_secs_f64() / (kinds.len() as f64 * 3.0 + 5.0)).min(1.0),
        free_at: vec![Duration::ZERO; slots],
    };
    let mut first_round = kinds.to_vec();
    first_round.shuffle(&mut planner.rng);
    let mut faults: Vec<PlannedFault> =
        first_round.into_iter().map(|kind| planner.place(kind)).collect();
    if let Some(last) = faults.iter().map(|fault| fault.at + fault.hold).max()
        && last > length
    {
        bail!(
            "{:.0} s of faults are too short for {} kinds of them: run for {:.0} s longer",
            length.as_secs_f64(),
            kinds.len(),
            (last - length).as_secs_f64().ceil(),
        );
    }
    loop {
        let kind = kinds[planner.rng.random_range(0..kinds.len())];
        // The cluster as a whole goes down seldom: a run is mostly about going on.
        if kind.takes_all() && kinds.len() > 1 && planner.rng.random_bool(0.7) {
            continue;
        }
        let fault = planner.place(kind);
        if fault.at + fault.hold > length {
            break;
        }
        faults.push(fault);
    }
    faults.sort_by_key(|fault| fault.at);
    Ok(faults)
}

struct Planner {
    rng: ChaCha8Rng,
    nodes: usize,
    scale: f64,
    /// When each of the nodes that may be down at once is up again.
    free_at: Vec<Duration>,
}

impl Planner {
    fn place(&mut self, kind: FaultKind) -> PlannedFault {
        let gap = self.between(0.3, 1.5);
        let hold = self.hold(kind);
        let again_after = self.between(0.05, 0.6);
        let stagger = self.between(0.0, 0.4);
        let taken = hold
            + match kind {
                FaultKind::KillAgain => again_after * 2,
                FaultKind::KillAll | FaultKind::RestartAll => stagger.mul_f64(self.nodes as f64),
                _ => Duration::ZERO,
            };
        let at = if kind.takes_all() {
            let at = self.free_at.iter().max().copied().unwrap_or_default() + gap;
            self.free_at.fill(at + taken);
            at
        } else {
            let slot = self.free_at.iter_mut().min().expect("there is at least one slot");
            let at = *slot + gap;
            *slot = at + taken;
            at
        };
        let mut start_order: Vec<usize> = (0..self.nodes).collect();
        start_order.shuffle(&mut self.rng);
        PlannedFault {
            kind,
            at,
            hold,
            victim: self.rng.random_range(0..self.nodes),
            again_after,
            start_order,
            stagger,
            await_ready: self.rng.random_bool(0.6),
        }
    }

    fn hold(&mut self, kind: FaultKind) -> Duration {
        match kind {
            FaultKind::Kill | FaultKind::KillLeader => {
                // Long enough, now and then, for the log to be purged meanwhile.
                let long = self.rng.random_bool(0.3);
                if long { self.between(2.5, 6.0) } else { self.between(0.2, 1.5) }
            }
            FaultKind::KillAgain | FaultKind::Stop => self.between(0.1, 1.0),
            // Not below the longest election timeout.
            FaultKind::Pause | FaultKind::PauseLeader => {
                self.between(0.5, 4.0).max(Duration::from_millis(650))
            }
            FaultKind::KillAll | FaultKind::RestartAll => self.between(0.1, 1.0),
        }
    }

    fn between(&mut self, least_s: f64, most_s: f64) -> Duration {
        Duration::from_secs_f64(self.rng.random_range(least_s..most_s) * self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn same_seed_gives_the_same_plan_and_another_seed_another() {
        let of = |seed| plan(seed, 3, MINUTE, &FaultKind::DEFAULT).unwrap();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_kind_comes_and_never_more_than_a_minority_is_down() {
        for seed in 0..50 {
            for nodes in [3, 5] {
                let faults = plan(seed, nodes, MINUTE, &FaultKind::DEFAULT).unwrap();
                for kind in FaultKind::DEFAULT {
                    assert!(faults.iter().any(|fault| fault.kind == kind), "{kind}, seed {seed}");
                }
                for fault in &faults {
                    assert!(fault.at + fault.hold <= MINUTE);
                    let others_down = faults.iter().filter(|other| {
                        other.at <= fault.at && fault.at < other.at + other.hold && *other != fault
                    });
                    let most = if fault.kind.takes_all() { 0 } else { minority(nodes) - 1 };
                    assert!(others_down.count() <= most, "seed {seed}, {fault:?}");
                }
            }
        }
    }

    #[test]
    fn five_nodes_have_overlapping_faults() {
        let faults = plan(1, 5, MINUTE, &FaultKind::DEFAULT).unwrap();
        let overlap = faults.windows(2).any(|pair| pair[1].at < pair[0].at + pair[0].hold);
        assert!(overlap, "{faults:?}");
    }

    #[test]
    fn pauses_are_longer_than_the_election_timeout() {
        for seed in 0..20 {
            let faults = plan(seed, 3, Duration::from_secs(12), &[FaultKind::Pause]).unwrap();
            assert!(faults.iter().all(|fault| fault.hold > Duration::from_millis(600)));
        }
    }

    #[test]
    fn too_short_a_run_is_refused() {
        let planned = plan(1, 3, Duration::from_secs(2), &FaultKind::DEFAULT);
        assert!(planned.unwrap_err().to_string().contains("too short"));
        assert!(plan(1, 1, MINUTE, &FaultKind::DEFAULT).is_err());
    }
}
