//! Who the members are and who leads, put together from what the members say.
//!
//! Pure: reports in, view out. It must never believe a single member about everything: one that is cut
//! off still names the leader that it last heard of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::replica::Replica;
use super::route::Role;
use crate::api::Cluster;

/// The most members that are taken over from a report. A Raft group has three to nine.
const MEMBERS_MAX: usize = 64;

/// How old a member's report may be and still count.
pub(super) const REPORT_FRESH: Duration = Duration::from_secs(2);

/// How long the cluster must have been silent before another one is taken for its successor, restored
/// from a backup or set up anew under the same addresses.
const SUCCESSION_AFTER: Duration = Duration::from_secs(3);

/// A member, as the cluster sees it, and the replica behind it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// None while only a seed address is known.
    pub(super) name: Option<String>,
    pub(super) replica: Arc<Replica>,
    pub(super) serves_catalog: bool,
    pub(super) serves_orders: bool,
    /// Whether the leader hears from it. True while nobody leads: then only our own eyes count.
    pub(super) up: bool,
}

impl Peer {
    fn seed(replica: Arc<Replica>) -> Self {
        Self { name: None, replica, serves_catalog: true, serves_orders: true, up: true }
    }

    pub(super) fn serves(&self, role: Role) -> bool {
        match role {
            Role::Catalog => self.serves_catalog,
            Role::Order => self.serves_orders,
        }
    }

    /// Whether the cluster and this facade agree that it works.
    pub(super) fn is_healthy(&self) -> bool {
        self.up && self.replica.is_fit()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.replica.address == other.replica.address
            && self.serves_catalog == other.serves_catalog
            && self.serves_orders == other.serves_orders
            && self.up == other.up
    }
}

/// The members and their leader.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct View {
    pub(super) cluster_id: Option<String>,
    /// The term in which `leader` leads.
    pub(super) term: u64,
    /// Address of the leader.
    pub(super) leader: Option<String>,
    pub(super) peers: Vec<Peer>,
}

impl View {
    /// The view before any member has answered: the seeds may be anything.
    pub(super) fn of_seeds(seeds: &[String]) -> Self {
        let mut peers: Vec<Peer> = Vec::new();
        for seed in seeds {
            if !peers.iter().any(|peer| peer.replica.address == *seed) {
                peers.push(Peer::seed(Replica::new(seed)));
            }
        }
        Self { peers, ..Self::default() }
    }

    /// The replica that leads.
    pub(super) fn leader(&self) -> Option<&Arc<Replica>> {
        let leader = self.leader.as_ref()?;
        self.replica(leader)
    }

    /// The replica at an address.
    pub(super) fn replica(&self, address: &str) -> Option<&Arc<Replica>> {
        self.peers.iter().map(|peer| &peer.replica).find(|replica| replica.address == address)
    }
}

/// What the members said last, by address.
#[derive(Debug, Default)]
pub(super) struct Reports {
    by_address: HashMap<String, (Instant, Cluster)>,
    /// When a member of the current cluster last reported.
    current_at: Option<Instant>,
}

impl Reports {
    /// Notes a member's report.
    pub(super) fn insert(&mut self, address: String, report: Cluster, current: Option<&str>) {
        // A node that belongs to no cluster yet has nothing to report: who takes its word for a
        // cluster of its own keeps the real one out until a long silence.
        if report.cluster_id.is_empty() {
            return self.remove(&address);
        }
        let now = Instant::now();
        if current.is_none_or(|id| id == report.cluster_id) {
            self.current_at = Some(now);
        }
        self.by_address.insert(address, (now, report));
    }

    /// Forgets a member's report: it did not answer.
    pub(super) fn remove(&mut self, address: &str) {
        self.by_address.remove(address);
    }

    /// The view that follows from what was said, or `None` if nothing new does.
    pub(super) fn view(&mut self, old: &View) -> Option<View> {
        self.by_address.retain(|_, (at, _)| at.elapsed() <= REPORT_FRESH);
        let cluster_id = self.cluster_id(old.cluster_id.as_deref())?;
        let reports: Vec<(&String, &Cluster)> = self
            .by_address
            .iter()
            .map(|(address, (_, report))| (address, report))
            .filter(|(_, report)| report.cluster_id == cluster_id)
            .collect();
        // A report without a leader can carry a higher term: its author stands for election, and
        // whoever leads in the lower term may well go on to lead.
        let (_, newest) = reports.iter().max_by_key(|(address, report)| {
            (report.leader.is_some(), report.term, leads(address, report), *address)
        })?;
        // The leader itself knows best who is a member and who is up.
        let (_, best) = reports
            .iter()
            .find(|(address, report)| report.term == newest.term && leads(address, report))
            .map_or((&String::new(), *newest), |(address, report)| (*address, *report));
        let view = View {
            term: newest.term,
            leader: leader_address(best).map(str::to_owned),
            peers: peers(best, old),
            cluster_id: Some(cluster_id),
        };
        (view != *old).then_some(view)
    }

    /// Which cluster counts: the one that we know, until it has been silent for long.
    fn cluster_id(&self, current: Option<&str>) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, report) in self.by_address.values() {
            *votes.entry(&report.cluster_id).or_default() += 1;
        }
        if let Some(current) = current {
            let silent = self.current_at.is_none_or(|at| at.elapsed() > SUCCESSION_AFTER);
            if votes.contains_key(current) || !silent {
                return Some(current.to_owned());
            }
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(id, _)| id.to_owned())
    }
}

fn leader_address(report: &Cluster) -> Option<&str> {
    let leader = report.leader.as_ref()?;
    let member = report.members.iter().find(|member| member.name == *leader)?;
    Some(&member.api)
}

fn leads(address: &str, report: &Cluster) -> bool {
    leader_address(report) == Some(address)
}

/// The members of a report, with the replicas that are known already.
fn peers(report: &Cluster, old: &View) -> Vec<Peer> {
    let known = report.leader.is_some();
    report
        .members
        .iter()
        .take(MEMBERS_MAX)
        .map(|member| Peer {
            name: Some(member.name.clone()),
            replica: old.replica(&member.api).map_or_else(|| Replica::new(&member.api), Arc::clone),
            serves_catalog: member.roles.iter().any(|role| role == Role::Catalog.as_str()),
            serves_orders: member.roles.iter().any(|role| role == Role::Order.as_str()),
            up: member.up || !known,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Member;

    fn report(cluster: &str, term: u64, leader: Option<&str>, up: [bool; 3]) -> Cluster {
        let member = |n: u64, up| Member {
            name: format!("n{n}"),
            id: n,
            roles: vec!["catalog".into(), "order".into()],
            kind: "voter".into(),
            api: format!("a{n}"),
            peer: format!("p{n}"),
            up,
            last_heard_ms: None,
            applied_index: None,
            lag: None,
            version: None,
        };
        Cluster {
            cluster_id: cluster.into(),
            leader: leader.map(str::to_owned),
            term,
            maintenance: false,
            members: (1..=3).zip(up).map(|(n, up)| member(n, up)).collect(),
        }
    }

    const ALL_UP: [bool; 3] = [true; 3];

    fn start() -> (Reports, View) {
        (Reports::default(), View::of_seeds(&["a1".into(), "a1".into()]))
    }

    fn tell(reports: &mut Reports, view: &mut View, from: &str, report: Cluster) {
        reports.insert(from.into(), report, view.cluster_id.as_deref());
        if let Some(new) = reports.view(view) {
            *view = new;
        }
    }

    fn up(view: &View) -> Vec<bool> {
        view.peers.iter().map(|peer| peer.up).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn members_are_learned_and_replicas_kept() {
        let (mut reports, mut view) = start();
        assert_eq!(view.peers.len(), 1);
        let seed = Arc::clone(&view.peers[0].replica);
        tell(&mut reports, &mut view, "a1", report("c", 1, Some("n2"), ALL_UP));
        assert_eq!(view.leader.as_deref(), Some("a2"));
        assert_eq!(view.peers.len(), 3);
        assert!(Arc::ptr_eq(&seed, &view.peers[0].replica));
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_leader_counts_whatever_the_cut_off_say() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a2", report("c", 2, Some("n2"), ALL_UP));
        tell(&mut reports, &mut view, "a1", report("c", 1, Some("n1"), [true, false, false]));
        assert_eq!((view.leader.as_deref(), view.term), (Some("a2"), 2));
        assert_eq!(up(&view), ALL_UP);
        tell(&mut reports, &mut view, "a3", report("c", 9, None, [false; 3]));
        assert_eq!((view.leader.as_deref(), view.term), (Some("a2"), 2));
        assert_eq!(up(&view), ALL_UP);
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_itself_says_who_is_up() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a2", report("c", 2, Some("n2"), [true, true, false]));
        tell(&mut reports, &mut view, "a3", report("c", 2, Some("n2"), ALL_UP));
        assert_eq!(up(&view), [true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_nobody_is_held_to_be_down() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a1", report("c", 2, None, [false; 3]));
        assert_eq!(view.leader, None);
        assert_eq!(up(&view), ALL_UP);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_nobody_names_any_more_is_forgotten() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a1", report("c", 1, Some("n1"), ALL_UP));
        tell(&mut reports, &mut view, "a2", report("c", 1, Some("n1"), ALL_UP));
        reports.remove("a1");
        tell(&mut reports, &mut view, "a2", report("c", 1, None, ALL_UP));
        assert_eq!(view.leader, None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_cluster_counts_only_after_a_long_silence() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a1", report("c", 5, Some("n1"), ALL_UP));
        reports.remove("a1");
        tell(&mut reports, &mut view, "a2", report("other", 9, Some("n2"), ALL_UP));
        assert_eq!(view.cluster_id.as_deref(), Some("c"));
        tokio::time::advance(SUCCESSION_AFTER * 2).await;
        tell(&mut reports, &mut view, "a2", report("other", 1, Some("n2"), ALL_UP));
        assert_eq!(view.cluster_id.as_deref(), Some("other"));
        assert_eq!((view.leader.as_deref(), view.term), (Some("a2"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_a_cluster_does_not_keep_the_real_one_out() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a1", report("", 0, None, [false; 3]));
        assert_eq!(view.cluster_id, None);
        tell(&mut reports, &mut view, "a1", report("c", 1, Some("n2"), ALL_UP));
        assert_eq!((view.cluster_id.as_deref(), view.leader.as_deref()), (Some("c"), Some("a2")));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_new_is_no_new_view() {
        let (mut reports, mut view) = start();
        tell(&mut reports, &mut view, "a1", report("c", 5, Some("n1"), ALL_UP));
        reports.insert("a1".into(), report("c", 5, Some("n1"), ALL_UP), Some("c"));
        assert_eq!(reports.view(&view), None);
    }
}
