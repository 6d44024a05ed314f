//! Measurements as they are kept: JSON lines, the first about the run as a whole.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::Machine;

/// How it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rounds, each with all phases.
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: u64,
    /// Seconds of load before each measurement.
    pub warm_up_seconds: u64,
    /// Items that operations are spread over.
    pub items: u32,
    /// Versions of the systems, by name.
    pub versions: BTreeMap<String, String>,
    /// Where.
    pub machine: Machine,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// From 1.
    pub round: u32,
    /// The phase's name.
    pub phase: String,
    /// The system's name.
    pub system: String,
    /// Operations a second, for batches orders a second.
    pub per_second: f64,
    /// Median latency in microseconds, where something succeeded.
    pub p50_us: Option<u64>,
    /// 99th percentile of latency in microseconds.
    pub p99_us: Option<u64>,
    /// Operations that failed.
    pub errors: u64,
    /// All figures, as `pygmy bench --json` gives them.
    pub figures: Value,
}

/// A line of a file of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Settings(Settings),
    /// All others.
    Measurement(Measurement),
}

/// A file of results.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// How it was measured.
    pub settings: Settings,
    /// What was measured.
    pub measurements: Vec<Measurement>,
}

/// What the rounds of one phase and system say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Median of operations a second.
    pub per_second: f64,
    /// The lowest and the highest round.
    pub range: (f64, f64),
    /// Median of the rounds' median latencies, in microseconds.
    pub p50_us: Option<f64>,
    /// Median of the rounds' 99th percentiles, in microseconds.
    pub p99_us: Option<f64>,
    /// Failures of all rounds.
    pub errors: u64,
}

impl Results {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no file of results", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let (mut settings, mut measurements) = (None, Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            match serde_json::from_str(line).with_context(|| format!("line {number}"))? {
                Line::Settings(found) => settings = Some(found),
                Line::Measurement(found) => measurements.push(found),
            }
        }
        let settings = settings.context("it has no line of settings")?;
        Ok(Self { settings, measurements })
    }

    fn of<'a>(
        &'a self,
        phase: &'a str,
        system: &'a str,
    ) -> impl Iterator<Item = &'a Measurement> + 'a {
        self.measurements.iter().filter(move |one| one.phase == phase && one.system == system)
    }

    /// The rounds of a phase and system together, where there are any.
    pub fn summary(&self, phase: &str, system: &str) -> Option<Summary> {
        let rates: Vec<_> = self.of(phase, system).map(|one| one.per_second).collect();
        let micros = |of: fn(&Measurement) -> Option<u64>| {
            median(self.of(phase, system).filter_map(of).map(|us| us as f64).collect())
        };
        Some(Summary {
            range: (
                rates.iter().copied().fold(f64::INFINITY, f64::min),
                rates.iter().copied().fold(0.0, f64::max),
            ),
            per_second: median(rates)?,
            p50_us: micros(|one| one.p50_us),
            p99_us: micros(|one| one.p99_us),
            errors: self.of(phase, system).map(|one| one.errors).sum(),
        })
    }

    /// How many times as many operations a second one system does as another: the median of the
    /// ratios within one round.
    pub fn ratio(&self, phase: &str, system: &str, other: &str) -> Option<f64> {
        let ratios = self.of(phase, system).filter_map(|one| {
            let other = self.of(phase, other).find(|other| other.round == one.round)?;
            (other.per_second > 0.0).then(|| one.per_second / other.per_second)
        });
        median(ratios.collect())
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(numbers[middle]),
        _ => Some((numbers[middle - 1] + numbers[middle]) / 2.0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn results(rows: &[(u32, &str, &str, f64)]) -> Results {
        let machine = Machine {
            processor: "A processor".into(),
            processors: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1".into(),
            filesystem: "ext4".into(),
            sync_us: 900,
        };
        let versions = [("pygmy", "0.1.0"), ("etcd", "3.4")];
        let versions = versions.map(|(name, version)| (name.into(), version.into())).into();
        let (rounds, seconds, warm_up_seconds, items) = (5, 5, 1, 100);
        let measurements = rows
            .iter()
            .map(|(round, phase, system, per_second)| Measurement {
                round: *round,
                phase: (*phase).into(),
                system: (*system).into(),
                per_second: *per_second,
                p50_us: Some(1_000),
                p99_us: Some(4_000),
                errors: 0,
                figures: json!({}),
            })
            .collect();
        let settings = Settings { rounds, seconds, warm_up_seconds, items, versions, machine };
        Results { settings, measurements }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let results = results(&[
            (1, "put-64", "pygmy", 100.0),
            (1, "put-64", "etcd", 50.0),
            (2, "put-64", "pygmy", 10.0),
            (2, "put-64", "etcd", 4.0),
            (3, "put-64", "pygmy", 90.0),
            (3, "put-64", "etcd", 30.0),
            (4, "put-64", "pygmy", 90.0),
        ]);
        assert_eq!(results.ratio("put-64", "pygmy", "etcd"), Some(2.5));
        let summary = results.summary("put-64", "pygmy").unwrap();
        assert_eq!((summary.per_second, summary.range), (90.0, (10.0, 100.0)));
        assert_eq!(summary.p99_us, Some(4_000.0));
        assert_eq!(results.summary("put-64", "postgres"), None);
        assert_eq!(results.ratio("put-64", "pygmy", "postgres"), None);
    }

    #[test]
    fn what_was_written_is_read_again() {
        let results = results(&[(1, "put-64", "pygmy", 100.0)]);
        let first = Line::Settings(results.settings.clone());
        let second = Line::Measurement(results.measurements[0].clone());
        let line = |line: &Line| serde_json::to_string(line).unwrap();
        let text = format!("{}\n{}\n", line(&first), line(&second));
        assert!(text.starts_with("{\"type\":\"settings\""), "{text}");
        assert_eq!(Results::parse(&text).unwrap(), results);
        assert!(Results::parse(&line(&second)).is_err());
        assert!(Results::parse("{}").is_err());
    }
}
