//! Whole clusters of ours in a simulated world: runtime, clock, network and disks from one seed.
//!
//! The same seed gives the same run, event by event. `PYGMY_SIM_SEED=17` runs one seed and prints
//! what happened, `PYGMY_SIM_SEEDS=1000` runs so many instead of the few that every build runs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod clients;
mod disk;
mod nemesis;
mod network;
mod oracle;
mod runtime;
mod trace;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft_rt::AsyncRuntime;
use pygmy_raft::node::Freshness;
use pygmy_storage::query::View;

use crate::{
    clients::Ledger,
    oracle::{Fate, Purchase},
    runtime::{Chance, Runtime, lock},
    trace::Run,
    world::{NODES, World},
};

const SEEDS: u64 = 20;
/// How long harm is done, in virtual time.
const HARM: Duration = Duration::from_secs(5);
/// How long a healed cluster may take until everything works again.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// Virtual time in which any run must have ended.
const RUN_MAX: Duration = Duration::from_secs(90);

/// A deliberate fault of the world, which the oracle has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None: everything keeps its contract.
    None,
    /// Disks say that they synced and did not.
    LyingDisk,
    /// A node comes back under its old id with an empty log.
    ForgottenDisk,
}

fn run(seed: u64, fault: Fault) -> Run {
    let mut runtime = Runtime::with_seed(seed);
    runtime.block_on(async move {
        let world = World::new(seed, fault);
        let played = world.scope.spawn(play(world.clone()));
        if Runtime::timeout(RUN_MAX, played).await.is_err() {
            world.trace.violation("the run does not end");
        }
        world.end();
        world.trace.to_run()
    })
}

/// The scenario: harm under load, then healing, then everything is looked at.
async fn play(world: Arc<World>) {
    for who in 0..NODES {
        world.start(who);
    }
    // Some worlds are harmed while the cluster is still being formed.
    if !world.seed.is_multiple_of(3) {
        recover(&world).await;
    }
    let until = world.trace.now() + HARM;
    let ledger = Arc::new(Ledger::default());
    drop(world.scope.spawn(nemesis::attend(world.clone())));
    let raging = world.scope.spawn(nemesis::rage(world.clone(), until));
    let mut clients =
        vec![world.scope.spawn(clients::supply(world.clone(), ledger.clone(), until))];
    for n in 1..=5 {
        let buying = clients::buy(world.clone(), format!("buyer{n}"), ledger.clone(), until);
        clients.push(world.scope.spawn(buying));
    }
    for n in 1..=2 {
        clients.push(world.scope.spawn(clients::read(world.clone(), format!("reader{n}"), until)));
    }
    // A client that panicked has told the trace.
    for client in clients {
        let _ = client.await;
    }
    let _ = raging.await;
    if world.trace.is_violated() {
        return;
    }
    heal(&world).await;
    if !recover(&world).await {
        return;
    }
    resolve(&world, &ledger).await;
    if let Some(views) = settle(&world).await {
        world.oracle.check_replicas(&views);
        let bought: Vec<Purchase> = lock(&ledger.bought).iter().map(|(p, ..)| p.clone()).collect();
        world.oracle.check_orders(&views[0].1, &bought, &lock(&ledger.delivered));
    }
    world.oracle.check_real_time();
}

/// Everything works again, and every node is back.
async fn heal(world: &Arc<World>) {
    // What was to mend later has mended by then.
    Runtime::sleep(Duration::from_secs(3)).await;
    world.trace.event("heal");
    world.network.mend_all();
    for who in 0..NODES {
        world.set_disk_ms(who, 3);
        world.set_fuse(who, None);
        world.start(who);
    }
}

/// Waits until every node answers a linearizable read. Bounded: a healed cluster is live.
async fn recover(world: &Arc<World>) -> bool {
    let until = world.trace.now() + RECOVERY_MAX;
    for who in 0..NODES {
        loop {
            let wait = Duration::from_millis(500);
            let read = world.ask(who, |node| async move {
                node.read(Freshness::Linearizable, wait).await.map(|view| view.index())
            });
            match read.await {
                Ok(Ok(index)) => {
                    world.trace.event(format!("{who} is back at {index}"));
                    break;
                }
                Ok(Err(error)) if world.trace.now() >= until => {
                    let status = world.node(who).map(|node| node.status());
                    world.trace.violation(format!("{who} is not back: {error}; {status:?}"));
                    return false;
                }
                Err(error) if world.trace.now() >= until => {
                    world.trace.violation(format!("{who} is not back: {error:?}"));
                    return false;
                }
                Ok(Err(_)) | Err(_) => Runtime::sleep(Duration::from_millis(20)).await,
            }
        }
    }
    true
}

/// Asks again, with their keys, for what is unknown and for some of what is known: the former is
/// found out, the latter must come out the same.
async fn resolve(world: &Arc<World>, ledger: &Ledger) {
    let chance = Chance::new(world.seed, "resolve");
    let open = std::mem::take(&mut *lock(&ledger.open));
    for (key, command) in open {
        let (fate, _) = clients::write(world, &chance, 5, Some(key), &command).await;
        match fate {
            Fate::Known(index, outcome) => {
                clients::note_change(ledger, &command, index, &outcome);
            }
            Fate::NotApplied | Fate::Unknown => {
                world.trace.violation("a change of stock cannot be found out");
            }
        }
    }
    let bought = lock(&ledger.bought).clone();
    for (number, (purchase, key, command)) in bought.into_iter().enumerate() {
        let unknown = purchase.fate == Fate::Unknown;
        let (Some(key), true) = (key, unknown || chance.percent(15)) else { continue };
        if purchase.fate == Fate::NotApplied {
            continue;
        }
        let (fate, reply) = clients::write(world, &chance, 5, Some(key), &command).await;
        world.trace.expect(matches!(fate, Fate::Known(..)), || {
            format!("{purchase:?} cannot be found out: {fate:?}")
        });
        if unknown {
            lock(&ledger.bought)[number].0.fate = fate;
            continue;
        }
        let replayed = reply.is_some_and(|reply| reply.applied.replayed);
        let same = replayed && fate == purchase.fate;
        world.trace.expect(same, || format!("{purchase:?} asked again: {fate:?}"));
        world.trace.count("outcomes replayed");
    }
}

/// Waits until all nodes have applied the same, and gives what they have.
async fn settle(world: &Arc<World>) -> Option<Vec<(String, Arc<View>)>> {
    let until = world.trace.now() + RECOVERY_MAX;
    loop {
        let views: Vec<_> = (0..NODES)
            .filter_map(|who| Some((world.address(who).to_owned(), world.node(who)?.view())))
            .collect();
        let index = views.first().map_or(0, |(_, view)| view.index());
        if views.len() == NODES && views.iter().all(|(_, view)| view.index() == index) {
            return Some(views);
        }
        if world.trace.now() >= until {
            world.trace.violation("the replicas do not come to the same index");
            return None;
        }
        Runtime::sleep(Duration::from_millis(20)).await;
    }
}

fn number_in_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a seed is a number"))
}

/// Runs seeds on all processors, gives the runs that went wrong and what was counted in all.
fn run_all(seeds: &[u64], fault: Fault) -> (Vec<(u64, Run)>, BTreeMap<&'static str, u64>) {
    let next = AtomicU64::new(0);
    let results = Mutex::new((Vec::new(), BTreeMap::<&'static str, u64>::new()));
    let work = || {
        loop {
            let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few seeds");
            let Some(seed) = seeds.get(at) else { return };
            let run = run(*seed, fault);
            let mut results = lock(&results);
            for (what, count) in &run.counts {
                *results.1.entry(what).or_default() += count;
            }
            if !run.violations.is_empty() {
                results.0.push((*seed, run));
            }
        }
    };
    std::thread::scope(|threads| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers.min(seeds.len()) {
            threads.spawn(work);
        }
    });
    let mut results = results.into_inner().expect("no worker panics");
    results.0.sort_by_key(|(seed, _)| *seed);
    results
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number_in_env("PYGMY_SIM_SEED") {
        let run = run(seed, Fault::None);
        run.events.iter().for_each(|event| println!("{event}"));
        println!("{:#?}", run.counts);
        assert!(run.violations.is_empty(), "seed {seed}: {:#?}", run.violations);
        return;
    }
    let count = number_in_env("PYGMY_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number_in_env("PYGMY_SIM_FIRST").unwrap_or(1);
    let seeds: Vec<u64> = (first..first + count).collect();
    let (failed, counts) = run_all(&seeds, Fault::None);
    println!("{count} seeds: {counts:#?}");
    let told: Vec<String> = failed
        .iter()
        .map(|(seed, run)| format!("PYGMY_SIM_SEED={seed}: {}", run.violations.join("\n    ")))
        .collect();
    assert!(failed.is_empty(), "{} of {count} seeds failed:\n{}", told.len(), told.join("\n"));
    // A quiet run shows nothing.
    for what in [
        "crashes",
        "crashes of all at once",
        "power cuts in the middle of something",
        "orderly stops",
        "nodes isolated",
        "links cut",
        "foul weather",
        "slow disks",
        "leadership handed over",
        "messages repeated",
        "snapshots installed",
        "orders confirmed",
        "orders refused",
        "outcomes replayed",
        "purchases unknown",
        "linearizable reads",
        "stale reads",
    ] {
        let least = count / 2;
        let counted = counts.get(what).copied().unwrap_or(0);
        assert!(counted >= least, "{what}: only {counted} in {count} seeds");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 1001] {
        let (first, second) = (run(seed, Fault::None), run(seed, Fault::None));
        let pairs = first.events.iter().zip(&second.events).enumerate();
        for (number, (one, other)) in pairs {
            assert_eq!(one, other, "seed {seed}: event {number} differs");
        }
        assert_eq!(first.events.len(), second.events.len(), "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
    }
}

#[test]
fn disks_that_lie_about_their_syncs_are_noticed() {
    let (failed, counts) = run_all(&[1, 2, 3, 4, 5, 6], Fault::LyingDisk);
    assert!(!failed.is_empty(), "nobody noticed: {counts:#?}");
}

#[test]
fn a_node_that_comes_back_with_an_empty_log_is_noticed() {
    let (failed, counts) = run_all(&[1, 2, 3, 4, 5, 6], Fault::ForgottenDisk);
    assert!(!failed.is_empty(), "nobody noticed: {counts:#?}");
}

/// With the feature `sabotage`, and `PYGMY_SABOTAGE` naming a known bug that is put back.
#[cfg(feature = "sabotage")]
#[test]
fn the_known_bug_that_is_put_back_is_noticed() {
    let bug = std::env::var("PYGMY_SABOTAGE").expect("PYGMY_SABOTAGE names a known bug");
    assert!(pygmy_raft::sabotage::ALL.contains(&bug.as_str()), "{bug} is no known bug");
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    let (failed, counts) = run_all(&seeds, Fault::None);
    println!("{bug}: noticed in {} of {SEEDS} seeds", failed.len());
    if let Some((seed, run)) = failed.first() {
        println!("seed {seed}: {}", run.violations[0]);
    }
    assert!(!failed.is_empty(), "nobody noticed {bug}: {counts:#?}");
}
