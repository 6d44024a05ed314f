//! What a run found.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::mix::Kind;
use super::tally::Tally;
use super::target::Fault;

/// An open loop has kept its rate when it reached this share of it,
const RATE_KEPT: f64 = 0.98;
/// or when at its end no more waited than comes due in this part of a second.
const WAITING_PARTS: u64 = 20;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As planned.
    Complete,
    /// Somebody ended it; the figures are of the time until then.
    Interrupted,
    /// The target answered nothing any more; the figures are of the time until that was noticed.
    Gone {
        /// For how long nothing was heard of it.
        silent: Duration,
        /// The last failure, where there was one.
        last: Option<Fault>,
    },
}

/// What an open loop found beyond latencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenLoop {
    /// Operations a second that were asked for.
    pub asked: u32,
    /// Operations that were due within the measured time.
    pub due: u64,
    /// Operations that were sent more than a millisecond after they were due, because all clients
    /// were busy.
    pub late: u64,
    /// Operations that were never sent: they still waited for a client at the end.
    pub unsent: u64,
    /// The most operations that waited for a client at the same time.
    pub backlog_max: u64,
}

/// What a run found.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// How long it was measured.
    pub measured: Duration,
    /// What came of each kind of operation.
    pub kinds: BTreeMap<Kind, Tally>,
    /// What only an open loop has.
    pub open: Option<OpenLoop>,
    /// Orders that one operation of [`Kind::Batch`] places.
    pub batch: usize,
    /// Processor time that the generator itself used meanwhile.
    pub processor: Duration,
}

impl Outcome {
    /// All kinds together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.kinds.values().for_each(|tally| total.add(tally));
        total
    }

    /// Operations a second that succeeded.
    pub fn per_second(&self) -> f64 {
        self.rate(self.kinds.values().map(Tally::finished).sum())
    }

    /// Orders a second that were placed, where the run places any.
    pub fn orders_per_second(&self) -> Option<f64> {
        let of = |kind| self.kinds.get(&kind).map(Tally::finished);
        let (single, batches) = (of(Kind::Buy), of(Kind::Batch));
        (single.is_some() || batches.is_some())
            .then(|| self.rate(single.unwrap_or(0) + batches.unwrap_or(0) * self.batch as u64))
    }

    /// Processor time of the generator for each operation.
    pub fn processor_per_operation(&self) -> Option<Duration> {
        let done: u64 = self.kinds.values().map(|tally| tally.finished() + tally.failed()).sum();
        (done > 0).then(|| self.processor.div_f64(done as f64))
    }

    /// Processor time of the generator as a share of one processor.
    pub fn processor_share(&self) -> f64 {
        self.processor.as_secs_f64() / self.measured.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Whether the target could not keep the rate of an open loop.
    pub fn is_behind(&self) -> bool {
        self.open.is_some_and(|open| {
            let is_short = self.per_second() < f64::from(open.asked) * RATE_KEPT;
            is_short && open.unsent > u64::from(open.asked) / WAITING_PARTS
        })
    }

    /// The figures, as one object.
    pub fn json(&self) -> Value {
        let total = self.total();
        let figures = |tally: &Tally| {
            json!({
                "operations": tally.finished(),
                "operations_per_second": rounded(self.rate(tally.finished())),
                "errors": tally.failed(),
                "errors_by": tally.errors(),
                "error_latency_us": tally.error_latency_json(),
                "latency_us": tally.latency_json(),
            })
        };
        let mut all = figures(&total);
        let (end, silent, last) = match &self.end {
            End::Complete => ("complete", None, None),
            End::Interrupted => ("interrupted", None, None),
            End::Gone { silent, last } => ("gone", Some(silent), last.as_ref()),
        };
        let more = json!({
            "end": end,
            "silent_seconds": silent.map(|silent| rounded(silent.as_secs_f64())),
            "last_error": last.map(|fault| &fault.detail),
            "measured_seconds": (self.measured.as_secs_f64() * 1e3).round() / 1e3,
            "orders_per_second": self.orders_per_second().map(rounded),
            "by_kind": self
                .kinds
                .iter()
                .map(|(kind, tally)| (kind.name().to_owned(), figures(tally)))
                .collect::<serde_json::Map<_, _>>(),
            "open_loop": self.open.map(|open| json!({
                "asked_per_second": open.asked,
                "achieved_per_second": rounded(self.per_second()),
                "kept": !self.is_behind(),
                "due": open.due,
                "late": open.late,
                "unsent": open.unsent,
                "backlog_max": open.backlog_max,
            })),
            "generator": {
                "processor_us_per_operation": self
                    .processor_per_operation()
                    .map(|time| rounded(time.as_secs_f64() * 1e6)),
                "processor_share": (self.processor_share() * 1e3).round() / 1e3,
            },
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        all
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.measured.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// To one digit after the point.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// How a run goes: one second of it.
#[derive(Debug)]
pub struct Second<'a> {
    /// Which, from 1.
    pub number: u64,
    /// What ended in it, whenever it had begun.
    pub tally: &'a Tally,
    /// Operations that are due and wait for a client; only in an open loop.
    pub backlog: Option<u64>,
}

impl Second<'_> {
    /// The second as one object.
    pub fn json(&self) -> Value {
        json!({
            "type": "second",
            "second": self.number,
            "operations": self.tally.finished(),
            "errors": self.tally.failed(),
            "latency_us": self.tally.latency_json(),
            "backlog": self.backlog,
        })
    }
}
