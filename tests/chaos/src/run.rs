//! One chaos run: a cluster, load, faults, healing, and the verdict.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use anyhow::Result;
use pygmy::api;
use tokio::{
    task::LocalSet,
    time::{Instant, interval, sleep, sleep_until, timeout},
};

use crate::{
    check::{Check, check},
    cluster::{Cluster, ClusterSpec, Condition},
    collect,
    faults::{
        FaultKind,
        inject::{FaultEvent, Injector},
        plan::{PlannedFault, plan},
    },
    gaps,
    history::{BuyReply, Clock, History, Moment},
    load::{Load, LoadSpec, Shared},
    protocol::Kind,
};

/// Confirmed writes a second, before faults, below which a run proves nothing.
pub const RATE_MIN: f64 = 500.0;
/// Between the start of the load and the measuring of its rate.
const RAMP: Duration = Duration::from_secs(1);
/// Load without new faults at the end.
const TAIL: Duration = Duration::from_secs(1);
/// For the last faults to be healed after the time is up.
const LAST_FAULTS_TIMEOUT: Duration = Duration::from_secs(40);
/// For every node to serve again after healing.
const HEAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Between two looks at the nodes.
const WATCH: Duration = Duration::from_millis(200);
/// A gap after a leader's death is looked for in this time.
const GAP_WINDOW_NS: u64 = 10_000_000_000;
/// The most sendings that are repeated at the end; never more than a tenth of all.
const REPEATED_AT_END: usize = 1_000;

/// What to run.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// The cluster.
    pub cluster: ClusterSpec,
    /// The load.
    pub load: LoadSpec,
    /// Hot items.
    pub items: u32,
    /// Pieces of each at the start.
    pub stock: u64,
    /// How long the load lasts, the time before the faults included.
    pub length: Duration,
    /// Seeds the plan and the load's choices.
    pub seed: u64,
    /// Kinds of faults; each must happen.
    pub faults: Vec<FaultKind>,
}

impl RunSpec {
    /// The time in which the rate before faults is measured.
    fn warm_up(&self) -> Duration {
        (self.length / 6).clamp(Duration::from_secs(2), Duration::from_secs(5))
    }

    /// The faults of this run.
    pub fn plan(&self) -> Result<Vec<PlannedFault>> {
        let rest = self.length.saturating_sub(RAMP + self.warm_up() + TAIL);
        plan(self.seed, self.cluster.nodes, rest, &self.faults)
    }
}

/// What a run did and found.
#[derive(Debug)]
pub struct Outcome {
    /// Repeats the run.
    pub seed: u64,
    /// Confirmed writes a second before the faults.
    pub rate_before: f64,
    /// Confirmed writes altogether.
    pub writes_confirmed: u64,
    /// Answered linearizable reads altogether.
    pub reads_confirmed: u64,
    /// Length of the load in seconds.
    pub seconds: f64,
    /// Operations by kind and by what came of them.
    pub counts: BTreeMap<(Kind, &'static str), u64>,
    /// The faults as they happened.
    pub faults: Vec<FaultEvent>,
    /// Terms in which a leader was seen.
    pub terms: BTreeSet<u64>,
    /// For each fault that took the leader, and each that took all: the longest time without a confirmed
    /// write, in milliseconds.
    pub gaps_ms: Vec<(FaultKind, f64)>,
    /// What was checked and found.
    pub checks: Vec<Check>,
    /// Why the run proves nothing, if it proves nothing.
    pub voids: Vec<String>,
    /// Where logs and data are, if there was something wrong.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    /// All violations of all checks.
    pub fn violations(&self) -> u64 {
        self.checks.iter().map(|check| check.violations).sum()
    }
}

/// Starts a cluster, runs everything, and stops it again. Progress goes to standard output.
pub async fn run(spec: &RunSpec) -> Result<Outcome> {
    let faults = spec.plan()?;
    let cluster = Rc::new(Cluster::start(&spec.cluster).await?);
    println!("cluster of {} in {}", cluster.len(), cluster.directory().display());
    let outcome = LocalSet::new().run_until(run_on(spec, &cluster, faults)).await;
    let good = outcome.as_ref().is_ok_and(|one| one.violations() == 0 && one.voids.is_empty());
    if !good {
        cluster.keep();
    }
    cluster.stop().await?;
    outcome
        .map(|one| Outcome { kept: (!good).then(|| cluster.directory().to_owned()), ..one })
        .map_err(|error| error.context(format!("logs: {}", cluster.directory().display())))
}

async fn run_on(
    spec: &RunSpec,
    cluster: &Rc<Cluster>,
    faults: Vec<PlannedFault>,
) -> Result<Outcome> {
    let clock = Clock::start();
    let items = collect::load_items(cluster, spec.items, spec.stock).await?;
    collect::await_level(cluster).await?;

    let load = Load::start(cluster, spec.load, &items, clock);
    let injector = Rc::new(Injector::new(Rc::clone(cluster), clock));
    let watch = Rc::new(Watch::default());
    let watcher = tokio::task::spawn_local(watch_nodes(
        Rc::clone(cluster),
        Rc::clone(&injector),
        Rc::clone(&load.shared),
        Rc::clone(&watch),
    ));
    let began = Instant::now();
    sleep(RAMP).await;
    let (before, since) = (load.shared.writes_confirmed.get(), Instant::now());
    sleep(spec.warm_up()).await;
    let rate_before =
        (load.shared.writes_confirmed.get() - before) as f64 / since.elapsed().as_secs_f64();
    println!("{rate_before:.0} confirmed writes a second before faults");

    let injecting = tokio::task::spawn_local(Rc::clone(&injector).run(faults));
    let end = began + spec.length;
    while Instant::now() < end && !load.exhausted() {
        sleep_until(end.min(Instant::now() + WATCH)).await;
    }
    let mut problems = Vec::new();
    match timeout(LAST_FAULTS_TIMEOUT, injecting).await {
        Ok(ended) => ended??,
        Err(_) => problems.push("the last faults were not over in time".to_owned()),
    }
    let seconds = began.elapsed().as_secs_f64();
    let load_end = clock.now();
    let exhausted = load.exhausted();
    let (records, shared) = load.stop().await?;
    watcher.abort();
    println!("load over after {seconds:.1} s; healing and reading out");

    let mut history = History {
        items,
        attempts: records.attempts,
        follow_ups: records.follow_ups,
        stock_changes: records.stock_changes,
        reads: records.reads,
        order_reads: records.order_reads,
        ..History::default()
    };
    problems.extend(finish(spec, cluster, &shared, &mut history).await?);

    let faults = injector.events();
    let mut inspector = shared.inspector.take();
    history.complaints = std::mem::take(&mut inspector.complaints);
    println!(
        "checking {} attempts, {} follow-ups, {} reads",
        history.attempts.len(),
        history.follow_ups.len(),
        history.reads.len(),
    );
    let mut checks = check(&history);
    checks.push(from_list("the cluster heals: every node serves, is level, is readable", problems));
    checks.push(from_list("no node ends by itself", watch.exits.take()));
    checks.push(from_list("a node that is told to stop leaves in order", injector.problems()));
    Ok(Outcome {
        seed: spec.seed,
        rate_before,
        writes_confirmed: shared.writes_confirmed.get(),
        reads_confirmed: shared.reads_confirmed.get(),
        seconds,
        voids: voids(spec, rate_before, &faults, exhausted, &inspector.counts),
        counts: inspector.counts,
        gaps_ms: gaps_ms(&history, &faults, load_end),
        faults,
        terms: watch.terms.take(),
        checks,
        kept: None,
    })
}

/// Heals, finds out what is unknown, and reads the replicas out. Gives what did not work.
async fn finish(
    spec: &RunSpec,
    cluster: &Cluster,
    shared: &Shared,
    history: &mut History,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    cluster.heal()?;
    if let Err(error) = cluster.await_serving(HEAL_TIMEOUT).await {
        problems.push(format!("{error:#}"));
    } else {
        collect::settle(cluster, &mut history.stock_changes, shared).await;
        let (attempts, follow_ups) = (&mut history.attempts, &mut history.follow_ups);
        let (most, seed) = (REPEATED_AT_END, spec.seed);
        collect::repeat_some(cluster, attempts, follow_ups, most, seed, shared).await;
        if let Err(error) = collect::await_unheld(cluster).await {
            problems.push(format!("{error:#}"));
        }
    }
    if let Err(error) = collect::await_level(cluster).await {
        problems.push(format!("{error:#}"));
    }
    problems.extend(collect::read_out(cluster, history).await);
    Ok(problems)
}

fn from_list(name: &'static str, problems: Vec<String>) -> Check {
    let mut check = Check::new(name);
    check.examine();
    for problem in problems {
        check.violation(|| problem);
    }
    check
}

fn voids(
    spec: &RunSpec,
    rate_before: f64,
    faults: &[FaultEvent],
    exhausted: bool,
    counts: &BTreeMap<(Kind, &'static str), u64>,
) -> Vec<String> {
    let mut voids = Vec::new();
    if rate_before < RATE_MIN {
        voids.push(format!(
            "too little traffic: {rate_before:.0} confirmed writes a second before faults, at \
             least {RATE_MIN:.0} are needed",
        ));
    }
    for kind in &spec.faults {
        if !faults.iter().any(|fault| fault.kind == *kind) {
            voids.push(format!("the fault {kind} was asked for and never happened"));
        }
    }
    for (kind, outcome) in [
        (Kind::Buy, "sold"),
        (Kind::Buy, "refused"),
        (Kind::Hold, "held"),
        (Kind::Confirm, "done"),
        (Kind::Release, "done"),
        (Kind::Cancel, "done"),
    ] {
        if !counts.contains_key(&(kind, outcome)) {
            voids.push(format!("not one {} was {outcome}", kind.as_str()));
        }
    }
    if exhausted {
        voids.push("the most operations were done before the time was up: raise --ops-max".into());
    }
    voids
}

fn gaps_ms(history: &History, faults: &[FaultEvent], load_end: Moment) -> Vec<(FaultKind, f64)> {
    let written =
        |reply: &BuyReply| matches!(reply, BuyReply::Confirmed { .. } | BuyReply::Refused { .. });
    let mut confirmed: Vec<Moment> = history
        .attempts
        .iter()
        .filter(|attempt| written(&attempt.reply) && attempt.span.end <= load_end)
        .map(|attempt| attempt.span.end)
        .collect();
    confirmed.sort_unstable();
    let mut starts: Vec<Moment> = faults.iter().map(|fault| fault.start).collect();
    starts.sort_unstable();
    let of = |fault: &FaultEvent| {
        let next = starts.iter().find(|start| **start > fault.start);
        let longest = load_end.min(Moment(fault.start.0 + GAP_WINDOW_NS));
        let until = next.map_or(longest, |next| longest.min(*next));
        (fault.kind, gaps::longest_ms(&confirmed, fault.start, until))
    };
    faults
        .iter()
        .filter(|fault| fault.kind.takes_leader() || fault.kind.takes_all())
        .map(of)
        .collect()
}

/// What is noticed on the way.
#[derive(Debug, Default)]
struct Watch {
    terms: RefCell<BTreeSet<u64>>,
    exits: RefCell<Vec<String>>,
}

/// Looks at the nodes all the time: notes terms, restarts what ended by itself, prints progress.
async fn watch_nodes(
    cluster: Rc<Cluster>,
    injector: Rc<Injector>,
    shared: Rc<Shared>,
    watch: Rc<Watch>,
) {
    let mut client = cluster.client(Duration::from_millis(300));
    let mut ticks = interval(WATCH);
    let mut turn = 0;
    let mut printed = (Instant::now(), shared.writes_confirmed.get(), 0);
    loop {
        ticks.tick().await;
        for index in 0..cluster.len() {
            if let Some(status) = cluster.node(index).unexpected_exit() {
                let exit = format!("{} ended by itself: {status}", cluster.name(index));
                println!("{exit}\n{}", cluster.node(index).log_tail());
                watch.exits.borrow_mut().push(exit);
                if let Err(error) = cluster.node(index).start() {
                    watch.exits.borrow_mut().push(format!("{error:#}"));
                }
            }
        }
        turn = (turn + 1) % cluster.len();
        if cluster.node(turn).condition() == Condition::Up
            && let Ok(reply) = client.get(turn, "/v1/cluster").await
            && let Ok(told) = reply.json::<api::Cluster>()
            && told.leader.is_some()
        {
            watch.terms.borrow_mut().insert(told.term);
        }
        let events = injector.events();
        for fault in &events[printed.2..] {
            let nodes: Vec<&str> = fault.nodes.iter().map(|node| cluster.name(*node)).collect();
            println!(
                "{:>8.1} s  {} {}, for {:.1} s",
                fault.end.0 as f64 / 1e9,
                fault.kind,
                nodes.join(" "),
                fault.end.millis_since(fault.start) / 1e3,
            );
        }
        printed.2 = events.len();
        if printed.0.elapsed() >= PROGRESS {
            let confirmed = shared.writes_confirmed.get();
            let rate = (confirmed - printed.1) as f64 / printed.0.elapsed().as_secs_f64();
            let sold = shared.inspector.borrow().count(Kind::Buy, "sold");
            println!(
                "{:>8.1} s  {confirmed} writes confirmed, {rate:.0}/s, {sold} sold, {} faults",
                shared.clock.now().0 as f64 / 1e9,
                events.len(),
            );
            printed = (Instant::now(), confirmed, printed.2);
        }
    }
}
