//! The members as everybody in the facade uses them: the current view, whom to ask next, and the
//! newest log index that this facade has written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::replica::{Backoff, Failure, Replica};
use super::route::Role;
use super::view::{Peer, View};

/// The shared membership.
#[derive(Debug)]
pub(super) struct Members {
    view: watch::Sender<Arc<View>>,
    backoff: Backoff,
    /// Wakes the watcher: something hints at a change.
    pub(super) kick: Notify,
    turns: [AtomicUsize; 3],
    newest_write: AtomicU64,
    /// The newest index in any reply.
    newest_seen: AtomicU64,
    started: Instant,
    /// When a member last answered: milliseconds after `started`, plus one; 0 is never.
    heard: AtomicU64,
}

impl Members {
    pub(super) fn new(seeds: &[String], backoff: Backoff) -> Self {
        Self {
            view: watch::Sender::new(Arc::new(View::of_seeds(seeds))),
            backoff,
            kick: Notify::new(),
            turns: Default::default(),
            newest_write: AtomicU64::new(0),
            newest_seen: AtomicU64::new(0),
            started: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    /// The current view.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The views from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Replaces the view. Indexes of another cluster mean nothing: they are forgotten.
    pub(super) fn publish(&self, view: View) {
        let old = self.view();
        if old.cluster_id.is_some() && old.cluster_id != view.cluster_id {
            self.newest_write.store(0, Ordering::SeqCst);
            self.newest_seen.store(0, Ordering::SeqCst);
        }
        self.view.send_replace(Arc::new(view));
    }

    /// A member answered.
    pub(super) fn note_heard(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.heard.store(now + 1, Ordering::Relaxed);
    }

    /// Whether a member answered within this time.
    pub(super) fn heard_within(&self, time: Duration) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        heard != 0 && self.started.elapsed() <= time + Duration::from_millis(heard - 1)
    }

    /// A reply carried this log index.
    pub(super) fn note_seen(&self, index: u64) {
        self.newest_seen.fetch_max(index, Ordering::SeqCst);
    }

    /// A write of this facade was applied at this log index.
    pub(super) fn note_write(&self, index: u64) {
        self.newest_write.fetch_max(index, Ordering::SeqCst);
        self.note_seen(index);
    }

    /// The log index of this facade's newest write: what the seed's readers must see.
    pub(super) fn newest_write(&self) -> u64 {
        self.newest_write.load(Ordering::SeqCst)
    }

    /// The newest log index in any reply, if there was one.
    pub(super) fn newest_seen(&self) -> Option<u64> {
        Some(self.newest_seen.load(Ordering::SeqCst)).filter(|index| *index > 0)
    }

    /// A request to a replica failed through the replica's own fault.
    pub(super) fn failed(&self, replica: &Replica, failure: Failure) {
        replica.failed(failure, self.backoff);
        self.kick.notify_one();
    }

    /// A probe of a replica did not find it ready.
    pub(super) fn probe_failed(&self, replica: &Replica) {
        replica.probe_failed(self.backoff);
    }

    /// The replica to ask next, among those that have not been tried: healthy ones of the role in
    /// turn, the least busy first; then healthy ones of any role; then whatever there is, because a
    /// replica that looks bad may still answer, and nobody else will.
    pub(super) fn pick(&self, role: Option<Role>, tried: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        let view = self.view();
        let untried = |peer: &Peer| !tried.iter().any(|done| Arc::ptr_eq(done, &peer.replica));
        let of_role = |peer: &Peer| role.is_none_or(|role| peer.serves(role));
        let tiers: [&dyn Fn(&Peer) -> bool; 4] = [
            &|peer| of_role(peer) && peer.is_healthy(),
            &|peer| peer.is_healthy(),
            &|peer| !peer.replica.is_out(),
            &|_| true,
        ];
        // Counted once: requests begin and end meanwhile, and the least busy must be among these.
        let tier = tiers.into_iter().find_map(|fits| {
            let fitting = view.peers.iter().filter(|peer| untried(peer) && fits(peer));
            let counted = fitting.map(|peer| (peer.replica.outstanding(), &peer.replica));
            let tier: Vec<_> = counted.collect();
            (!tier.is_empty()).then_some(tier)
        })?;
        let idlest = tier.iter().map(|(outstanding, _)| *outstanding).min()?;
        let tier: Vec<_> = tier.into_iter().filter(|(busy, _)| *busy == idlest).collect();
        let turn = &self.turns[match role {
            Some(Role::Catalog) => 0,
            Some(Role::Order) => 1,
            None => 2,
        }];
        // A second choice within a request does not use up a turn.
        let turn = match tried.is_empty() {
            true => turn.fetch_add(1, Ordering::Relaxed),
            false => turn.load(Ordering::Relaxed),
        };
        tier.get(turn % tier.len()).map(|(_, replica)| Arc::clone(replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { min: Duration::from_secs(100), max: Duration::from_secs(100) };

    fn peer(address: &str, catalog: bool, orders: bool) -> Peer {
        Peer {
            name: Some(address.to_owned()),
            replica: Replica::new(address),
            serves_catalog: catalog,
            serves_orders: orders,
            up: true,
        }
    }

    fn members(peers: Vec<Peer>) -> Members {
        let members = Members::new(&[], BACKOFF);
        members.publish(View { peers, ..View::default() });
        members
    }

    fn picks(members: &Members, role: Option<Role>, count: usize) -> Vec<String> {
        (0..count).map(|_| members.pick(role, &[]).unwrap().address.clone()).collect()
    }

    #[tokio::test]
    async fn replicas_of_the_role_take_turns() {
        let members = members(vec![
            peer("c1", true, false),
            peer("o1", false, true),
            peer("c2", true, false),
        ]);
        assert_eq!(picks(&members, Some(Role::Catalog), 4), ["c1", "c2", "c1", "c2"]);
        assert_eq!(picks(&members, Some(Role::Order), 2), ["o1", "o1"]);
        assert_eq!(picks(&members, None, 3), ["c1", "o1", "c2"]);
    }

    #[tokio::test]
    async fn a_busy_replica_is_spared() {
        let members = members(vec![peer("c1", true, true), peer("c2", true, true)]);
        let busy = members.view().peers[0].replica.begin();
        assert_eq!(picks(&members, None, 3), ["c2", "c2", "c2"]);
        drop(busy);
        assert_ne!(picks(&members, None, 2), ["c2", "c2"]);
    }

    #[tokio::test]
    async fn other_roles_stand_in_and_bad_replicas_are_the_last_resort() {
        let mut down = peer("c2", true, false);
        down.up = false;
        let members = members(vec![peer("c1", true, false), down, peer("o1", false, true)]);
        let view = members.view();
        let replica = |n: usize| Arc::clone(&view.peers[n].replica);
        assert_eq!(picks(&members, Some(Role::Catalog), 2), ["c1", "c1"]);
        members.failed(&replica(0), Failure::Out);
        assert_eq!(picks(&members, Some(Role::Catalog), 2), ["o1", "o1"]);
        members.failed(&replica(2), Failure::Out);
        assert_eq!(picks(&members, Some(Role::Catalog), 1), ["c2"], "not out, only called down");
        let tried = [replica(1), replica(2)];
        assert_eq!(members.pick(None, &tried).unwrap().address, "c1");
        assert!(members.pick(None, &[replica(0), replica(1), replica(2)]).is_none());
    }

    #[tokio::test]
    async fn another_cluster_has_other_indexes() {
        let members = Members::new(&[], BACKOFF);
        let of = |id: &str| View { cluster_id: Some(id.into()), ..View::default() };
        members.publish(of("a"));
        members.note_write(7);
        members.note_write(5);
        assert_eq!(members.newest_write(), 7);
        members.publish(of("a"));
        assert_eq!(members.newest_write(), 7);
        members.publish(of("b"));
        assert_eq!((members.newest_write(), members.newest_seen()), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed() {
        let members = Members::new(&[], BACKOFF);
        assert!(!members.heard_within(Duration::from_secs(100)));
        members.note_heard();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(members.heard_within(Duration::from_secs(3)));
        assert!(!members.heard_within(Duration::from_secs(1)));
    }

    #[test]
    fn somebody_is_picked_while_requests_begin_and_end() {
        let members = members(vec![peer("a", true, true), peer("b", true, true)]);
        let view = members.view();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for peer in &view.peers {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        drop(peer.replica.begin());
                    }
                });
            }
            // Stops the others also when a pick panics.
            let picked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..200_000).all(|_| members.pick(None, &[]).is_some())
            }));
            done.store(true, Ordering::Relaxed);
            assert!(picked.expect("a pick does not panic"));
        });
    }
}
