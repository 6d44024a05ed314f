//! What came of operations, counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// A longer latency counts as this one.
const LATENCY_MAX: Duration = Duration::from_secs(600);
/// The exactness of a latency: three digits.
const DIGITS: u8 = 3;
/// What is shown of the latencies: names and quantiles.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// Operations that were measured.
#[derive(Debug, Clone)]
pub struct Tally {
    micros: Histogram<u64>,
    finished: u64,
    errors: BTreeMap<Cow<'static, str>, u64>,
    /// Of those that failed, counted from when they were sent.
    error_micros: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let most = u64::try_from(LATENCY_MAX.as_micros()).expect("ten minutes fit");
        let micros = Histogram::new_with_bounds(1, most, DIGITS).expect("the bounds are sound");
        Self { error_micros: micros.clone(), micros, finished: 0, errors: BTreeMap::new() }
    }
}

impl Tally {
    /// Counts the latency of an operation that succeeded.
    pub fn latency(&mut self, latency: Duration) {
        self.micros.saturating_record(micros(latency));
    }

    /// Counts an operation that succeeded within the measured time.
    pub fn finish(&mut self) {
        self.finished += 1;
    }

    /// Counts an operation that failed so long after it was sent.
    pub fn fail(&mut self, code: Cow<'static, str>, took: Duration) {
        *self.errors.entry(code).or_default() += 1;
        self.error_micros.saturating_record(micros(took));
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.micros.add(&other.micros).expect("all have the same bounds");
        self.error_micros.add(&other.error_micros).expect("all have the same bounds");
        self.finished += other.finished;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.micros.reset();
        self.error_micros.reset();
        self.finished = 0;
        self.errors.clear();
    }

    /// Operations that succeeded within the measured time.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    /// Operations whose latency is known: those that succeeded and began or ended within the measured
    /// time.
    pub fn latencies(&self) -> u64 {
        self.micros.len()
    }

    /// Operations that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Failures by their code.
    pub fn errors(&self) -> &BTreeMap<Cow<'static, str>, u64> {
        &self.errors
    }

    /// The latency that a share of the operations did not exceed, from 0 to 1.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(quantile))
    }

    /// How long a share of the failures, from 0 to 1, took at most before they were told.
    pub fn error_quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.error_micros.value_at_quantile(quantile))
    }

    /// The longest latency.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.micros.max())
    }

    /// The latencies as JSON, in microseconds; null where none is known.
    pub fn latency_json(&self) -> Value {
        shown(&self.micros)
    }

    /// The same of the failures, from when they were sent.
    pub fn error_latency_json(&self) -> Value {
        shown(&self.error_micros)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn shown(micros: &Histogram<u64>) -> Value {
    if micros.is_empty() {
        return Value::Null;
    }
    let mut shown: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), micros.value_at_quantile(*quantile).into()))
        .collect();
    shown.insert("max".into(), micros.max().into());
    shown.insert("mean".into(), json!((micros.mean() * 10.0).round() / 10.0));
    Value::Object(shown)
}
