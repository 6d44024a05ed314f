//! Who does the harm: crashes, power cuts, cut links, foul weather, slow disks, orderly stops.

use std::{sync::Arc, time::Duration};

use openraft_rt::AsyncRuntime;

use crate::{
    runtime::Runtime,
    world::{End, NODES, World},
};

/// Does harm until told to stop. What it breaks mends after a while, most of it before the next.
pub(crate) async fn rage(world: Arc<World>, until: Duration) {
    while world.trace.is_before(until) {
        Runtime::sleep(world.chance.millis(50, 500)).await;
        harm(&world).await;
    }
}

async fn harm(world: &Arc<World>) {
    let chance = &world.chance;
    let who = match chance.percent(40) {
        true => world.leader().unwrap_or_else(|| chance.index(NODES)),
        false => chance.index(NODES),
    };
    match chance.within(0, 100) {
        0..25 => {
            world.crash(who, end(world));
            // Away for long enough sometimes to need a snapshot when it is back.
            let away =
                if chance.percent(30) { chance.millis(1500, 3000) } else { chance.millis(20, 800) };
            later(world, away, move |world| world.start(who));
        }
        25..32 => {
            world.trace.count("crashes of all at once");
            let end = end(world);
            for who in 0..NODES {
                world.crash(who, end);
                later(world, chance.millis(20, 400), move |world| world.start(who));
            }
        }
        32..42 => world.set_fuse(who, Some(chance.within(1, 60))),
        42..62 => isolate(world, who),
        62..70 => {
            let other = (who + 1 + chance.index(NODES - 1)) % NODES;
            world.trace.event(format!("cut {who} -> {other}"));
            world.trace.count("links cut");
            world.network.cut(world.address(who), world.address(other));
            later(world, chance.millis(200, 1500), move |world| {
                world.network.mend(world.address(who), world.address(other));
            });
        }
        70..80 => {
            world.trace.event("foul weather");
            world.trace.count("foul weather");
            world.network.set_foul(chance.within(0, 30), 20, chance.within(5, 150));
            later(world, chance.millis(200, 1000), |world| world.network.set_fair());
        }
        80..88 => {
            world.trace.event(format!("slow disk {who}"));
            world.trace.count("slow disks");
            world.set_disk_ms(who, chance.within(20, 150));
            later(world, chance.millis(200, 1000), move |world| world.set_disk_ms(who, 3));
        }
        88..95 => {
            if let Some(leader) = world.leader() {
                world.trace.event(format!("hand over {leader}"));
                world.trace.count("leadership handed over");
                let _ = world.ask(leader, |node| async move { node.hand_over().await }).await;
            }
        }
        _ => {
            let stopping = world.clone();
            drop(world.scope.spawn(async move {
                stopping.stop(who).await;
                Runtime::sleep(Duration::from_millis(100)).await;
                stopping.start(who);
            }));
        }
    }
}

fn end(world: &World) -> End {
    if world.chance.percent(60) { End::PowerCut } else { End::Kill }
}

/// Cuts a node off from the others: both ways, or only what it says, or only what it hears.
fn isolate(world: &Arc<World>, who: usize) {
    let (says, hears) = match world.chance.within(0, 4) {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    world.trace.event(format!("isolate {who}: says {says}, hears {hears}"));
    world.trace.count("nodes isolated");
    let others = move || (0..NODES).filter(move |other| *other != who);
    for other in others() {
        if says {
            world.network.cut(world.address(who), world.address(other));
        }
        if hears {
            world.network.cut(world.address(other), world.address(who));
        }
    }
    later(world, world.chance.millis(200, 2000), move |world| {
        for other in others() {
            world.network.mend(world.address(who), world.address(other));
            world.network.mend(world.address(other), world.address(who));
        }
    });
}

fn later(world: &Arc<World>, after: Duration, what: impl FnOnce(&Arc<World>) + Send + 'static) {
    let later = world.clone();
    drop(world.scope.spawn(async move {
        Runtime::sleep(after).await;
        what(&later);
    }));
}

/// Finishes off nodes whose power went by itself, and starts them again after a while.
pub(crate) async fn attend(world: Arc<World>) {
    loop {
        Runtime::sleep(Duration::from_millis(5)).await;
        for who in 0..NODES {
            if world.is_dark(who) {
                world.trace.count("power cuts in the middle of something");
                world.crash(who, End::PowerCut);
                later(&world, world.chance.millis(20, 500), move |world| world.start(who));
            }
        }
    }
}
