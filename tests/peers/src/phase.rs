//! What is measured.

use pygmy::bench::Mix;

use crate::system::SystemName;

/// How operations reach Pygmy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Straight to the nodes: reads to each, writes to the leader.
    Direct,
    /// To each node, writes too.
    AnyNode,
    /// Through the facade.
    Facade,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// Its name in results and on the command line.
    pub name: &'static str,
    /// What it is, in the table.
    pub title: &'static str,
    /// The operations.
    pub mix: Mix,
    /// Clients, each with one operation at a time.
    pub clients: u32,
    /// The way to Pygmy.
    pub route: Route,
    /// Who is measured.
    pub systems: &'static [SystemName],
}

/// Orders in a batch.
pub(crate) const BATCH: usize = 50;

const STORES: &[SystemName] = &[SystemName::Pygmy, SystemName::Etcd, SystemName::Postgres];
const PYGMY: &[SystemName] = &[SystemName::Pygmy];

/// The table, from top to bottom.
pub const PHASES: [Phase; 12] = [
    phase("put-64", "put an item, 64 clients", Mix::Put, 64, Route::Direct, STORES),
    phase("get-64", "linearizable read, 64 clients", Mix::Get, 64, Route::Direct, STORES),
    phase("get-stale-64", "stale read, 64 clients", Mix::GetStale, 64, Route::Direct, STORES),
    phase("buy-1", "buy a random item, 1 client", Mix::Buy, 1, Route::Direct, STORES),
    phase("buy-64", "buy a random item, 64 clients", Mix::Buy, 64, Route::Direct, STORES),
    phase("buy-256", "buy a random item, 256 clients", Mix::Buy, 256, Route::Direct, STORES),
    phase("hot-64", "all buy the same item, 64 clients", Mix::Hot, 64, Route::Direct, STORES),
    phase(
        "any-node-buy-64",
        "buy at whichever node, 64 clients",
        Mix::Buy,
        64,
        Route::AnyNode,
        PYGMY,
    ),
    phase(
        "facade-get-64",
        "linearizable read through the facade, 64 clients",
        Mix::Get,
        64,
        Route::Facade,
        PYGMY,
    ),
    phase(
        "facade-buy-64",
        "buy through the facade, 64 clients",
        Mix::Buy,
        64,
        Route::Facade,
        PYGMY,
    ),
    phase(
        "batch-16",
        "atomic batches of 50 orders, 16 clients (orders/s)",
        Mix::Batch,
        16,
        Route::Direct,
        PYGMY,
    ),
    phase(
        "hello-64",
        "a bare HTTP server on one thread, 64 clients",
        Mix::Get,
        64,
        Route::Direct,
        &[SystemName::Hello],
    ),
];

const fn phase(
    name: &'static str,
    title: &'static str,
    mix: Mix,
    clients: u32,
    route: Route,
    systems: &'static [SystemName],
) -> Phase {
    Phase { name, title, mix, clients, route, systems }
}
