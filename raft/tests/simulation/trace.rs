//! What happened in a world, in order, and what of it must not have.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use openraft_rt::{AsyncRuntime, Instant};
use openraft_rt_sim::SimRuntime;

use crate::runtime::lock;

type SimInstant = <SimRuntime as AsyncRuntime>::Instant;

/// Violations that are told of one run; the first is the one that matters.
const VIOLATIONS_MAX: usize = 10;

/// A run, when it is over.
pub(crate) struct Run {
    /// What happened, in order.
    pub(crate) events: Vec<String>,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
    /// How often what happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// The record of a run that goes on. Two runs of the same seed have the same.
#[derive(Debug)]
pub(crate) struct Trace {
    began: SimInstant,
    events: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            began: SimInstant::now(),
            events: Mutex::default(),
            violations: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Virtual time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        SimInstant::now() - self.began
    }

    /// Whether a run goes on until a time: it does not once something has gone wrong.
    pub(crate) fn is_before(&self, until: Duration) -> bool {
        self.now() < until && !self.is_violated()
    }

    pub(crate) fn event(&self, text: impl AsRef<str>) {
        let event = format!("{:>10.6} {}", self.now().as_secs_f64(), text.as_ref());
        lock(&self.events).push(event);
    }

    /// Something that must never happen did.
    pub(crate) fn violation(&self, text: impl AsRef<str>) {
        self.event(format!("VIOLATION {}", text.as_ref()));
        let mut violations = lock(&self.violations);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(format!("{:.3} s: {}", self.now().as_secs_f64(), text.as_ref()));
        }
    }

    pub(crate) fn expect(&self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violation(text());
        }
    }

    pub(crate) fn count(&self, what: &'static str) {
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    pub(crate) fn is_violated(&self) -> bool {
        !lock(&self.violations).is_empty()
    }

    /// What was recorded.
    pub(crate) fn to_run(&self) -> Run {
        Run {
            events: lock(&self.events).clone(),
            violations: lock(&self.violations).clone(),
            counts: lock(&self.counts).clone(),
        }
    }
}
