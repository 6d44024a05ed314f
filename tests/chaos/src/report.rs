//! What a run did and found, as tables for people and as JSON for programs.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

use crate::{faults::FaultKind, gaps::median, run::Outcome};

/// Examples wider than this are cut.
const EXAMPLE_CHARS_MAX: usize = 400;

/// Pass, violation or void, in one word.
pub fn verdict(outcome: &Outcome) -> &'static str {
    if outcome.violations() > 0 {
        "VIOLATION"
    } else if outcome.voids.is_empty() {
        "PASS"
    } else {
        "VOID"
    }
}

/// The tables. `repeat` is the command that runs the same again.
pub fn tables(outcome: &Outcome, repeat: &str) -> String {
    let mut text = format!("\nwhat was done\n{}\n", done(outcome));
    text += &format!("\nwhat was found\n{}\n", found(outcome));
    for check in outcome.checks.iter().filter(|check| check.violations > 0) {
        text += &format!("\n{}: {} violations\n", check.name, check.violations);
        for example in &check.examples {
            let example: String = example.chars().take(EXAMPLE_CHARS_MAX).collect();
            text += &format!("  - {example}\n");
        }
    }
    for void in &outcome.voids {
        text += &format!("\nvoid: {void}\n");
    }
    if let Some(kept) = &outcome.kept {
        text += &format!("\nlogs and data: {}\n", kept.display());
    }
    text + &format!("\n{}: seed {}; again: {repeat}\n", verdict(outcome), outcome.seed)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn done(outcome: &Outcome) -> Table {
    let mut table = table();
    table.set_header(["operation", "outcome", "count"]);
    for ((kind, what), count) in &outcome.counts {
        table.add_row([kind.as_str(), what, &count.to_string()]);
    }
    let rate = format!("{:.0}/s", outcome.rate_before);
    table.add_row(["confirmed writes", "before faults", &rate]);
    let whole = format!("{} in {:.0} s", outcome.writes_confirmed, outcome.seconds);
    table.add_row(["confirmed writes", "altogether", &whole]);
    let reads = outcome.reads_confirmed.to_string();
    table.add_row(["linearizable reads", "altogether", &reads]);
    for (kind, count) in fault_counts(outcome) {
        table.add_row(["fault", &kind.to_string(), &count.to_string()]);
    }
    let elections = elections(outcome).to_string();
    table.add_row(["elections", "seen", &elections]);
    for (kind, gaps) in gaps_by_kind(outcome) {
        let listed: Vec<String> = gaps.iter().map(|gap| format!("{gap:.0}")).collect();
        let figures = format!("median {:.0} ms of {}", median(&gaps), listed.join(", "));
        table.add_row(["longest gap between writes", &kind.to_string(), &figures]);
    }
    table
}

fn found(outcome: &Outcome) -> Table {
    let mut table = table();
    table.set_header(["check", "examined", "violations"]);
    for check in &outcome.checks {
        let (examined, violations) = (check.examined.to_string(), check.violations.to_string());
        table.add_row([check.name, &examined, &violations]);
    }
    table
}

/// The same as JSON.
pub fn json(outcome: &Outcome, repeat: &str) -> Value {
    let operations: Vec<Value> = outcome
        .counts
        .iter()
        .map(|((kind, what), count)| {
            json!({"operation": kind.as_str(), "outcome": what, "count": count})
        })
        .collect();
    let checks: Vec<Value> = outcome
        .checks
        .iter()
        .map(|check| {
            json!({
                "check": check.name,
                "examined": check.examined,
                "violations": check.violations,
                "examples": check.examples,
            })
        })
        .collect();
    let events: Vec<Value> = outcome
        .faults
        .iter()
        .map(|fault| {
            json!({
                "kind": fault.kind.to_string(),
                "nodes": fault.nodes.iter().map(|node| node + 1).collect::<Vec<_>>(),
                "start_ms": fault.start.0 / 1_000_000,
                "end_ms": fault.end.0 / 1_000_000,
            })
        })
        .collect();
    let gaps: BTreeMap<String, Value> = gaps_by_kind(outcome)
        .into_iter()
        .map(|(kind, gaps)| (kind.to_string(), json!({"median_ms": median(&gaps), "ms": gaps})))
        .collect();
    json!({
        "verdict": verdict(outcome),
        "seed": outcome.seed,
        "repeat": repeat,
        "writes_per_second_before_faults": outcome.rate_before,
        "writes_confirmed": outcome.writes_confirmed,
        "reads_confirmed": outcome.reads_confirmed,
        "seconds": outcome.seconds,
        "operations": operations,
        "faults": events,
        "elections": elections(outcome),
        "gaps": gaps,
        "violations": outcome.violations(),
        "checks": checks,
        "voids": outcome.voids,
        "kept": outcome.kept,
    })
}

/// Terms with a leader after the first one.
fn elections(outcome: &Outcome) -> usize {
    outcome.terms.len().saturating_sub(1)
}

fn fault_counts(outcome: &Outcome) -> BTreeMap<FaultKind, usize> {
    let mut counts = BTreeMap::new();
    for fault in &outcome.faults {
        *counts.entry(fault.kind).or_default() += 1;
    }
    counts
}

fn gaps_by_kind(outcome: &Outcome) -> BTreeMap<FaultKind, Vec<f64>> {
    let mut gaps: BTreeMap<FaultKind, Vec<f64>> = BTreeMap::new();
    for (kind, gap) in &outcome.gaps_ms {
        gaps.entry(*kind).or_default().push(*gap);
    }
    gaps
}
