//! Carries a plan out on a cluster.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    FaultKind,
    plan::{PlannedFault, minority},
};
use crate::{
    cluster::Cluster,
    history::{Clock, Moment},
};

/// For a leader to be found before a fault that takes it.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a node to be ready again, where the plan waits for it.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// A fault as it happened.
#[derive(Debug, Clone)]
pub struct FaultEvent {
    /// What was done.
    pub kind: FaultKind,
    /// To whom.
    pub nodes: Vec<usize>,
    /// When the signal was sent.
    pub start: Moment,
    /// When the nodes ran again, which is before they are ready.
    pub end: Moment,
}

/// Carries out faults and notes them.
#[derive(Debug)]
pub struct Injector {
    cluster: Rc<Cluster>,
    clock: Clock,
    /// One permit for each node that may be down.
    slots: Arc<Semaphore>,
    busy: RefCell<BTreeSet<usize>>,
    events: RefCell<Vec<FaultEvent>>,
    problems: RefCell<Vec<String>>,
}

impl Injector {
    /// An injector for this cluster.
    pub fn new(cluster: Rc<Cluster>, clock: Clock) -> Self {
        let slots = Arc::new(Semaphore::new(minority(cluster.len())));
        Self {
            cluster,
            clock,
            slots,
            busy: RefCell::default(),
            events: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// The faults so far.
    pub fn events(&self) -> Vec<FaultEvent> {
        self.events.borrow().clone()
    }

    /// Nodes that did not leave in order when they were told to.
    pub fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }

    /// Carries the plan out; ends when the last fault is healed. Must be called within a `LocalSet`.
    ///
    /// A fault that finds a minority down already waits: reality may be slower than the plan.
    pub async fn run(self: Rc<Self>, faults: Vec<PlannedFault>) -> Result<()> {
        let began = Instant::now();
        let mut running = JoinSet::new();
        for fault in faults {
            sleep_until(began + fault.at).await;
            let wanted = if fault.kind.takes_all() { minority(self.cluster.len()) } else { 1 };
            let wanted = u32::try_from(wanted).expect("a cluster has few nodes");
            let slots = Arc::clone(&self.slots).acquire_many_owned(wanted).await?;
            running.spawn_local(Rc::clone(&self).carry_out(fault, slots));
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn carry_out(
        self: Rc<Self>,
        fault: PlannedFault,
        _slots: OwnedSemaphorePermit,
    ) -> Result<()> {
        if fault.kind.takes_all() {
            return self.take_all(&fault).await;
        }
        let Some(victim) = self.victim(&fault).await else {
            // Not counted as having happened; a run that asked for it and never saw it is void.
            return Ok(());
        };
        let start = self.clock.now();
        let node = self.cluster.node(victim);
        match fault.kind {
            FaultKind::Pause | FaultKind::PauseLeader => {
                node.pause();
                sleep(fault.hold).await;
                node.resume();
            }
            FaultKind::Stop => {
                let in_order = self.is_ready(victim).await;
                node.terminate();
                self.gone(victim, in_order).await;
                sleep(fault.hold).await;
                node.start()?;
            }
            _ => {
                node.kill();
                self.gone(victim, false).await;
                sleep(fault.hold).await;
                node.start()?;
            }
        }
        if fault.kind == FaultKind::KillAgain {
            sleep(fault.again_after).await;
            node.kill();
            self.gone(victim, false).await;
            sleep(fault.again_after).await;
            node.start()?;
        }
        self.note(fault.kind, vec![victim], start);
        if fault.await_ready {
            // Whoever is not ready in time is found out at the end of the run.
            let _ = self.cluster.await_ready(victim, READY_TIMEOUT).await;
        }
        self.busy.borrow_mut().remove(&victim);
        Ok(())
    }

    async fn take_all(&self, fault: &PlannedFault) -> Result<()> {
        let mut in_order = vec![false; self.cluster.len()];
        if fault.kind == FaultKind::RestartAll {
            for (index, in_order) in in_order.iter_mut().enumerate() {
                *in_order = self.is_ready(index).await;
            }
        }
        let start = self.clock.now();
        for node in self.cluster.nodes() {
            // All signals go out in one breath: what one node alone holds in memory must not be saved by
            // another that lives a little longer.
            if fault.kind == FaultKind::KillAll { node.kill() } else { node.terminate() }
        }
        for (index, in_order) in in_order.into_iter().enumerate() {
            self.gone(index, in_order).await;
        }
        sleep(fault.hold).await;
        for index in &fault.start_order {
            self.cluster.node(*index).start()?;
            sleep(fault.stagger).await;
        }
        self.note(fault.kind, (0..self.cluster.len()).collect(), start);
        if fault.await_ready {
            let _ = self.cluster.await_leader(READY_TIMEOUT).await;
        }
        Ok(())
    }

    /// The node that the fault hits, marked as taken.
    async fn victim(&self, fault: &PlannedFault) -> Option<usize> {
        let nodes = self.cluster.len();
        let wanted = if fault.kind.takes_leader() {
            self.cluster.await_leader(LEADER_TIMEOUT).await?.0
        } else {
            fault.victim
        };
        let mut busy = self.busy.borrow_mut();
        // A leader that another fault has taken meanwhile is no leader for long; nobody else will do.
        let tries = if fault.kind.takes_leader() { 1 } else { nodes };
        let victim =
            (0..tries).map(|step| (wanted + step) % nodes).find(|node| !busy.contains(node))?;
        busy.insert(victim);
        Some(victim)
    }

    /// Whether a node serves. One that still starts may simply die of SIGTERM.
    async fn is_ready(&self, index: usize) -> bool {
        self.cluster.await_ready(index, Duration::ZERO).await.is_ok()
    }

    /// Waits for a node's end. One that is to leave in order must do so.
    async fn gone(&self, index: usize, in_order: bool) {
        let problem = match self.cluster.node(index).gone().await {
            Ok(Some(status)) if in_order && !status.success() => {
                format!("ended with {status} after SIGTERM")
            }
            Ok(_) => return,
            Err(error) => format!("{error:#}"),
        };
        self.problems.borrow_mut().push(format!("{}: {problem}", self.cluster.name(index)));
    }

    fn note(&self, kind: FaultKind, nodes: Vec<usize>, start: Moment) {
        let event = FaultEvent { kind, nodes, start, end: self.clock.now() };
        self.events.borrow_mut().push(event);
    }
}
