//! Three nodes of ours with their disks, in one network: started, crashed, asked.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pygmy_raft::{
    node::{Node, Settings, Timing},
    state_machine::CheckpointPolicy,
    types::{Member, NodeId, Role},
};
use pygmy_storage::{
    command::Policy,
    volume::{self, MemoryVolume},
};
use tokio::sync::oneshot;

use crate::{
    Fault,
    disk::Disk,
    network::{Listener, Network, SimNode, SimTransport},
    oracle::Oracle,
    runtime::{Chance, Scope, Sim, lock},
    trace::Trace,
};

pub(crate) const NODES: usize = 3;
/// How far the nodes' clocks are off.
const SKEW_MS: [i64; NODES] = [0, -40, 3_600_000];

/// The world that a scenario plays in.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) trace: Arc<Trace>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) network: Arc<Network>,
    /// For what is no node: clients, faults, messages under way.
    pub(crate) scope: Arc<Scope>,
    pub(crate) chance: Chance,
    members: Vec<(NodeId, Member)>,
    slots: [Slot; NODES],
    /// The deliberate fault that the oracle has to notice.
    fault: Fault,
}

#[derive(Default)]
struct Slot {
    volume: Mutex<MemoryVolume>,
    running: Mutex<Option<Incarnation>>,
    births: AtomicU64,
}

/// A node from its start to its end.
#[derive(Clone)]
struct Incarnation {
    scope: Arc<Scope>,
    disk: Disk,
    /// Once it has started.
    node: Option<Arc<SimNode>>,
    /// Whether it is meant to end.
    stopping: Arc<AtomicBool>,
}

/// Why a node gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It does not run: nothing happened.
    Down,
    /// It died meanwhile: anything may have happened.
    Lost,
}

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process is killed; what it has written stays.
    Kill,
    /// The power goes; of what was not synced, a random beginning stays.
    PowerCut,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Fault) -> Arc<Self> {
        let trace = Arc::new(Trace::new());
        let oracle = Oracle::new(trace.clone());
        let scope = Scope::new("world".to_owned(), 0, seed, &trace);
        let network = Network::new(seed, scope.clone(), oracle.clone());
        let members = (1..=NODES as u64).map(|id| (id, member(id))).collect();
        let chance = Chance::new(seed, "faults");
        let slots = Default::default();
        Arc::new(Self { seed, trace, oracle, network, scope, chance, members, slots, fault })
    }

    pub(crate) fn address(&self, who: usize) -> &str {
        &self.members[who].1.peer
    }

    /// Starts a node on its disk, unless it runs.
    pub(crate) fn start(self: &Arc<Self>, who: usize) {
        let slot = &self.slots[who];
        let mut running = lock(&slot.running);
        if running.is_some() {
            return;
        }
        let birth = slot.births.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{birth}", self.address(who));
        self.trace.event(format!("start {name}"));
        let scope = Scope::new(name, SKEW_MS[who], self.seed, &self.trace);
        let disk = Disk::new(lock(&slot.volume).clone(), self.fault == Fault::LyingDisk);
        let stopping = Arc::new(AtomicBool::new(false));
        let incarnation = Incarnation { scope, disk, node: None, stopping };
        *running = Some(incarnation.clone());
        drop(running);
        drop(incarnation.scope.clone().spawn(live(self.clone(), who, incarnation)));
    }

    /// Ends a node at once, if it runs.
    pub(crate) fn crash(&self, who: usize, end: End) {
        let slot = &self.slots[who];
        let Some(incarnation) = lock(&slot.running).take() else { return };
        self.trace.event(format!("{end:?} {}", self.address(who)));
        self.trace.count("crashes");
        self.network.stop_listening(self.address(who));
        incarnation.disk.switch_off();
        incarnation.scope.kill();
        let mut volume = lock(&slot.volume);
        if end == End::PowerCut {
            let kept = |unsynced: usize| match self.fault {
                Fault::LyingDisk => 0,
                Fault::None | Fault::ForgottenDisk => self.chance.index(unsynced + 1),
            };
            volume.power_cut(kept);
        }
        if self.fault == Fault::ForgottenDisk
            && let Ok(Some(identity)) = volume::read_file(&*volume, "identity")
        {
            *volume = MemoryVolume::new();
            volume::write_file(&*volume, "identity", &identity).expect("memory takes it");
        }
    }

    /// Stops a node in order, as an operator does.
    pub(crate) async fn stop(&self, who: usize) {
        let Some(incarnation) = self.incarnation(who) else { return };
        self.trace.event(format!("stop {}", self.address(who)));
        incarnation.stopping.store(true, Ordering::Relaxed);
        let stopped = self.ask(who, |node| async move {
            node.hand_over().await;
            node.stop().await;
        });
        if stopped.await.is_ok() {
            self.trace.count("orderly stops");
            self.crash(who, End::PowerCut);
        }
    }

    fn incarnation(&self, who: usize) -> Option<Incarnation> {
        lock(&self.slots[who].running).clone()
    }

    /// The node, if it has started.
    pub(crate) fn node(&self, who: usize) -> Option<Arc<SimNode>> {
        self.incarnation(who)?.node
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        (0..NODES).find(|who| self.node(*who).is_some_and(|node| node.is_leader()))
    }

    /// The longest that a disk operation takes.
    pub(crate) fn set_disk_ms(&self, who: usize, longest: u64) {
        if let Some(incarnation) = self.incarnation(who) {
            incarnation.scope.set_disk_ms(longest);
        }
    }

    /// Lets the power of a node go after so many disk operations; `None` for never.
    pub(crate) fn set_fuse(&self, who: usize, operations: Option<u64>) {
        if let Some(incarnation) = self.incarnation(who) {
            incarnation.disk.set_fuse(operations);
        }
    }

    /// Whether the power of a node went by itself.
    pub(crate) fn is_dark(&self, who: usize) -> bool {
        self.incarnation(who).is_some_and(|incarnation| incarnation.disk.is_off())
    }

    /// Has a node do something, as a request to it: dies with it.
    pub(crate) async fn ask<T, F>(
        &self,
        who: usize,
        request: impl FnOnce(Arc<SimNode>) -> F + Send,
    ) -> Result<T, NoAnswer>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Some(Incarnation { scope, node: Some(node), .. }) = self.incarnation(who) else {
            return Err(NoAnswer::Down);
        };
        let (done, answered) = oneshot::channel();
        let work = request(node);
        drop(scope.spawn(async move {
            let _ = done.send(work.await);
        }));
        answered.await.map_err(|_| NoAnswer::Lost)
    }

    /// Ends everything.
    pub(crate) fn end(&self) {
        for slot in &self.slots {
            if let Some(incarnation) = lock(&slot.running).take() {
                incarnation.scope.kill();
            }
        }
        for (_, member) in &self.members {
            self.network.stop_listening(&member.peer);
        }
        self.scope.kill();
    }

    fn settings(&self, who: usize) -> Settings {
        Settings {
            member: self.members[who].1.clone(),
            bootstrap: self.members.clone(),
            join: false,
            cluster_name: "simulated".to_owned(),
            secret: "a secret of the simulation".to_owned(),
            timing: Timing {
                heartbeat: Duration::from_millis(40),
                election_min: Duration::from_millis(150),
                election_max: Duration::from_millis(300),
            },
            checkpoint: CheckpointPolicy { entries: 20, interval: Duration::from_millis(400) },
            snapshot_entries: 60,
            keep_log_entries: 10,
            log_cache_bytes: 4 << 10,
            policy: Policy { key_limit: 100_000 + who as u64, ..Policy::default() },
            failure_window: Duration::from_millis(500),
            waiting_max: 256,
            version: "simulated".to_owned(),
        }
    }
}

fn member(id: NodeId) -> Member {
    Member {
        name: format!("node{id}"),
        api: format!("api{id}"),
        peer: format!("node{id}"),
        roles: [Role::Catalog, Role::Order].into(),
    }
}

/// The life of an incarnation, in its own scope.
async fn live(world: Arc<World>, who: usize, incarnation: Incarnation) {
    let Incarnation { scope, disk, stopping, .. } = incarnation;
    let address = world.address(who).to_owned();
    let transport = SimTransport {
        from: address.clone(),
        speaker: format!("{scope:?}"),
        network: world.network.clone(),
    };
    let started = Node::<Sim, _>::start(Arc::new(disk.clone()), world.settings(who), transport);
    let node = match started.await {
        Ok(node) => node,
        Err(error) => {
            let expected = disk.is_off();
            world.trace.expect(expected, || format!("{address} does not start: {error}"));
            return;
        }
    };
    if let Some(incarnation) = &mut *lock(&world.slots[who].running) {
        incarnation.node = Some(node.clone());
    }
    world.network.listen(&address, Listener { node: node.clone(), scope: scope.clone() });
    let establishing = {
        let (node, world, disk, address) =
            (node.clone(), world.clone(), disk.clone(), address.clone());
        async move {
            if let Err(error) = node.establish().await {
                let expected = disk.is_off();
                world.trace.expect(expected, || format!("{address} must not take part: {error}"));
            }
        }
    };
    drop(scope.spawn(establishing));
    let why = node.stopped().await;
    let expected = disk.is_off() || stopping.load(Ordering::Relaxed);
    world.trace.expect(expected, || format!("the core of {address} stopped: {why}"));
}
