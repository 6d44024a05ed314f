//! What the log costs: `cargo bench -p pygmy-raft --bench append`.

#![allow(clippy::unwrap_used)]

mod inline;

use std::{cell::RefCell, hint::black_box};

use criterion::{BatchSize, Criterion, Throughput};
use inline::{ENTRIES, Log, runtime};
use pygmy_storage::codec;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = runtime();
    let _within = runtime.enter();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(ENTRIES));
    let entries = Log::open().entries();
    group.bench_function("encode a record of 32", |bench| {
        bench.iter(|| codec::encode(black_box(&entries)));
    });
    let log = RefCell::new(Log::open());
    group.bench_function("append 32 in memory", |bench| {
        bench.iter_batched(
            || log.borrow_mut().entries(),
            |entries| runtime.block_on(log.borrow_mut().append(entries)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
}
