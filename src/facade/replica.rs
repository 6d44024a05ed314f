//! One member as this facade has found it to be.
//!
//! Passive health: what requests to it came to. What the cluster says of a member is elsewhere; a
//! replica is used when both agree.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::link::Slot;

/// How long a replica must have been well for its earlier failures to be forgotten.
const FORGIVE_AFTER: Duration = Duration::from_secs(10);

/// How a request to a replica failed, where the replica itself is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer in time, or an internal error. That may be the request's fault: the replica is passed
    /// over until it has been asked whether it is ready.
    Doubtful,
    /// It cannot be reached, broke off, or said itself that it cannot work.
    Out,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// As far as we know, well; since when.
    Fit(Instant),
    /// Passed over until it has said that it is ready.
    Suspect,
    /// Passed over until a probe at this time or later finds it ready.
    Out(Instant),
}

#[derive(Debug)]
struct Record {
    health: Health,
    /// Failures since it was last well for long.
    failures: u32,
    probing: bool,
}

/// A member's REST interface.
#[derive(Debug)]
pub(super) struct Replica {
    /// `host:port`.
    pub(super) address: String,
    /// The connection for frames.
    pub(super) link: Slot,
    outstanding: AtomicUsize,
    record: Mutex<Record>,
}

impl Replica {
    pub(super) fn new(address: &str) -> Arc<Self> {
        Arc::new(Self {
            address: address.to_owned(),
            link: Slot::default(),
            outstanding: AtomicUsize::new(0),
            record: Mutex::new(Record {
                health: Health::Fit(Instant::now()),
                failures: 0,
                probing: false,
            }),
        })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // No code panics while it holds the lock, and the record is valid at every step.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests may be sent to it without second thoughts.
    pub(super) fn is_fit(&self) -> bool {
        matches!(self.record().health, Health::Fit(_))
    }

    /// Whether it is known to fail, rather than only suspected.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.record().health, Health::Out(_))
    }

    /// Requests under way.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Counts a request as under way until the value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(Arc::clone(self))
    }

    /// A request was answered. Ends a suspicion; a replica that is out has to show that it is ready,
    /// because the answer may be to a request from before it failed.
    pub(super) fn answered(&self) {
        let mut record = self.record();
        if record.health == Health::Suspect {
            record.health = Health::Fit(Instant::now());
        }
    }

    /// A probe found it ready.
    pub(super) fn ready(&self) {
        let mut record = self.record();
        record.probing = false;
        if !matches!(record.health, Health::Fit(_)) {
            record.health = Health::Fit(Instant::now());
            tracing::info!(address = self.address, "replica is used again");
        }
    }

    /// A request failed through the replica's own fault.
    pub(super) fn failed(&self, failure: Failure, backoff: Backoff) {
        let mut record = self.record();
        match (failure, record.health) {
            (Failure::Doubtful, Health::Fit(_)) => record.health = Health::Suspect,
            (Failure::Doubtful, Health::Suspect | Health::Out(_)) => {}
            // Many requests fail together: only the first counts, or one fault would look like many.
            (Failure::Out, Health::Out(_)) => {}
            (Failure::Out, Health::Fit(_) | Health::Suspect) => self.take_out(&mut record, backoff),
        }
    }

    /// Whether a probe is due; the caller sends it, and reports how it went.
    pub(super) fn start_probe(&self) -> bool {
        let mut record = self.record();
        let due = match record.health {
            Health::Fit(_) => false,
            Health::Suspect => true,
            Health::Out(at) => at <= Instant::now(),
        };
        let start = due && !record.probing;
        record.probing |= start;
        start
    }

    /// When the next probe is due, if one is.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let record = self.record();
        match record.health {
            Health::Fit(_) => None,
            _ if record.probing => None,
            Health::Suspect => Some(Instant::now()),
            Health::Out(at) => Some(at),
        }
    }

    /// A probe was not answered with "ready".
    pub(super) fn probe_failed(&self, backoff: Backoff) {
        let mut record = self.record();
        record.probing = false;
        self.take_out(&mut record, backoff);
    }

    fn take_out(&self, record: &mut Record, backoff: Backoff) {
        if let Health::Fit(since) = record.health
            && since.elapsed() > FORGIVE_AFTER
        {
            record.failures = 0;
        }
        if !matches!(record.health, Health::Out(_)) {
            tracing::warn!(address = self.address, "replica is passed over");
        }
        record.failures = record.failures.saturating_add(1);
        record.health = Health::Out(Instant::now() + backoff.pause(record.failures));
    }
}

/// Counts a request as under way.
#[derive(Debug)]
pub(super) struct Outstanding(Arc<Replica>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Pauses that double, with jitter, so that many who wait do not all come back at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    /// The pause before try number `tries`, from 1: between half and all of `min * 2^(tries-1)`.
    pub(super) fn pause(self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(16);
        let full = self.min.saturating_mul(2_u32.pow(doublings)).min(self.max);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };

    #[tokio::test(start_paused = true)]
    async fn a_failed_replica_is_probed_with_growing_pauses_and_comes_back() {
        let replica = Replica::new("a:1");
        assert!(!replica.start_probe());
        replica.failed(Failure::Out, BACKOFF);
        assert!(replica.is_out() && !replica.start_probe());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let at = replica.probe_at().unwrap();
            pauses.push(at - Instant::now());
            tokio::time::advance(at - Instant::now()).await;
            assert!(replica.start_probe());
            assert!(!replica.start_probe(), "one probe at a time");
            replica.probe_failed(BACKOFF);
        }
        assert!(pauses[3] > 2 * pauses[0], "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF.max), "{pauses:?}");
        replica.ready();
        assert!(replica.is_fit() && replica.probe_at().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_only_raises_suspicion_until_a_probe_fails() {
        let replica = Replica::new("a:1");
        replica.failed(Failure::Doubtful, BACKOFF);
        assert!(!replica.is_fit() && !replica.is_out());
        assert!(replica.start_probe());
        replica.probe_failed(BACKOFF);
        assert!(replica.is_out());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_one_moment_count_once_and_old_ones_are_forgiven() {
        let replica = Replica::new("a:1");
        for _ in 0..50 {
            replica.failed(Failure::Out, BACKOFF);
        }
        assert!(replica.probe_at().unwrap() - Instant::now() <= BACKOFF.min);
        replica.ready();
        replica.failed(Failure::Out, BACKOFF);
        assert_eq!(replica.record().failures, 2);
        replica.ready();
        tokio::time::advance(FORGIVE_AFTER * 2).await;
        replica.failed(Failure::Out, BACKOFF);
        assert_eq!(replica.record().failures, 1);
    }

    #[test]
    fn requests_under_way_are_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let replica = Replica::new("a:1");
        let (one, two) = (replica.begin(), replica.begin());
        assert_eq!(replica.outstanding(), 2);
        drop((one, two));
        assert_eq!(replica.outstanding(), 0);
    }
}
