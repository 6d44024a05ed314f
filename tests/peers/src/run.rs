//! All phases, again and again, the systems in turn.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use pygmy::bench::{End, Items, Mix, Outcome, Plan};

use crate::{
    machine::Machine,
    phase::{BATCH, PHASES, Phase},
    results::{Line, Measurement, Results, Settings},
    system::{Place, System, SystemName},
};

/// How long one operation may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two measurements, for what the last one left to do.
const PAUSE: Duration = Duration::from_millis(500);

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// The `pygmy` program.
    pub program: PathBuf,
    /// Who is measured beside Pygmy.
    pub peers: Vec<SystemName>,
    /// Names of phases; all if empty.
    pub phases: Vec<String>,
    /// Rounds, each with all phases.
    pub rounds: u32,
    /// How long each measurement is.
    pub length: Duration,
    /// How long the load runs before each.
    pub warm_up: Duration,
    /// Items that operations are spread over.
    pub items: u32,
    /// Where data goes; the system's place for temporary files if none is given.
    pub parent: Option<PathBuf>,
    /// The file of results.
    pub out: PathBuf,
}

/// Starts everything, measures, ends everything. Inside a `LocalSet`.
pub async fn measure(spec: &RunSpec) -> Result<Results> {
    let directory = directory(spec.parent.as_deref())?;
    let machine = Machine::look(directory.path())?;
    let place = Place {
        program: spec.program.clone(),
        directory: directory.path().to_owned(),
        timeout: TIMEOUT,
    };
    let mut systems = Systems::start(spec, &place).await?;
    let measured = systems.measure_all(spec, machine).await;
    let stopped = systems.stop().await;
    let results = measured?;
    stopped?;
    Ok(results)
}

/// A directory that other accounts may enter: PostgreSQL does not run as root.
fn directory(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("pygmy-bench-").permissions(fs::Permissions::from_mode(0o755));
    match parent {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    }
    .context("cannot make a directory for the data")
}

/// What runs.
struct Systems {
    running: BTreeMap<SystemName, System>,
}

impl Systems {
    /// Starts Pygmy, and each of the others that can be started here.
    async fn start(spec: &RunSpec, place: &Place) -> Result<Self> {
        let items = Items { count: spec.items };
        let mut running = BTreeMap::new();
        let wanted = [SystemName::Hello, SystemName::Pygmy].into_iter().chain(spec.peers.clone());
        for name in wanted {
            let started = async {
                let system = System::start(name, place).await?;
                system.prepare(items).await?;
                anyhow::Ok(system)
            };
            match started.await {
                Ok(system) => {
                    eprintln!("{} {} runs, {} items", name.title(), system.version(), spec.items);
                    running.insert(name, system);
                }
                Err(error) if name == SystemName::Pygmy => return Err(error.context("Pygmy")),
                Err(error) => eprintln!("{} is left out: {error:#}", name.title()),
            }
        }
        Ok(Self { running })
    }

    async fn measure_all(&mut self, spec: &RunSpec, machine: Machine) -> Result<Results> {
        let phases: Vec<_> = PHASES
            .iter()
            .filter(|phase| {
                spec.phases.is_empty() || spec.phases.iter().any(|name| name == phase.name)
            })
            .collect();
        let settings = Settings {
            rounds: spec.rounds,
            seconds: spec.length.as_secs(),
            warm_up_seconds: spec.warm_up.as_secs(),
            items: spec.items,
            versions: self
                .running
                .iter()
                .map(|(name, system)| (name.name().to_owned(), system.version()))
                .collect(),
            machine,
        };
        if let Some(parent) = spec.out.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let out = File::create(&spec.out);
        let mut out = out.with_context(|| format!("cannot make {}", spec.out.display()))?;
        write_line(&mut out, &Line::Settings(settings.clone()))?;
        let mut results = Results { settings, measurements: Vec::new() };
        let mut impossible = Vec::new();
        for round in 1..=spec.rounds {
            for phase in &phases {
                for name in self.in_turn(round, phase) {
                    if impossible.contains(&(phase.name, name)) {
                        continue;
                    }
                    let Some(system) = self.running.get(&name) else { continue };
                    let outcome = system.measure(phase.route, &plan(spec, phase, round)).await;
                    match outcome {
                        Ok(outcome) => {
                            let one = measurement(round, phase, name, &outcome)?;
                            eprintln!("{}", in_words(spec, &one, &outcome));
                            write_line(&mut out, &Line::Measurement(one.clone()))?;
                            results.measurements.push(one);
                        }
                        Err(error) => {
                            eprintln!("{} {}: left out: {error:#}", phase.name, name.title());
                            impossible.push((phase.name, name));
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(results)
    }

    /// Who is measured in a phase, each round with another one first.
    fn in_turn(&self, round: u32, phase: &Phase) -> Vec<SystemName> {
        let mut names: Vec<_> =
            phase.systems.iter().copied().filter(|name| self.running.contains_key(name)).collect();
        if !names.is_empty() {
            let first = round as usize % names.len();
            names.rotate_left(first);
        }
        names
    }

    async fn stop(self) -> Result<()> {
        let mut result = Ok(());
        for (name, system) in self.running {
            let stopped = system.stop().await;
            result = result.and(stopped.with_context(|| format!("{} does not end", name.title())));
        }
        result
    }
}

fn plan(spec: &RunSpec, phase: &Phase, round: u32) -> Plan {
    Plan {
        mix: phase.mix,
        items: Items { count: spec.items },
        batch: BATCH,
        clients: phase.clients,
        rate: None,
        warm_up: spec.warm_up,
        length: spec.length,
        seed: round.into(),
    }
}

fn measurement(
    round: u32,
    phase: &Phase,
    system: SystemName,
    outcome: &Outcome,
) -> Result<Measurement> {
    if let End::Gone { silent, last } = &outcome.end {
        let last = last.as_ref().map_or("no reply", |fault| &fault.detail);
        bail!(
            "{} went away while {} was measured: nothing for {:.1} s ({last})",
            system.title(),
            phase.name,
            silent.as_secs_f64()
        );
    }
    let total = outcome.total();
    let micros = |quantile| {
        let micros = total.quantile(quantile).as_micros();
        (total.latencies() > 0).then(|| u64::try_from(micros).unwrap_or(u64::MAX))
    };
    let orders = outcome.orders_per_second().filter(|_| phase.mix == Mix::Batch);
    Ok(Measurement {
        round,
        phase: phase.name.to_owned(),
        system: system.name().to_owned(),
        per_second: orders.unwrap_or_else(|| outcome.per_second()),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        errors: total.failed(),
        figures: outcome.json(),
    })
}

fn in_words(spec: &RunSpec, one: &Measurement, outcome: &Outcome) -> String {
    let millis = |micros: Option<u64>| micros.unwrap_or(0) as f64 / 1e3;
    let each = outcome.processor_per_operation().unwrap_or_default();
    let mut text = format!(
        "{} of {}  {:14} {:9} {:8.0}/s  p50 {:7.2} ms  p99 {:8.2} ms  generator {:4.1} us each",
        one.round,
        spec.rounds,
        one.phase,
        one.system,
        one.per_second,
        millis(one.p50_us),
        millis(one.p99_us),
        each.as_secs_f64() * 1e6,
    );
    for (code, count) in outcome.total().errors() {
        text += &format!("  {count} failed: {code}");
    }
    text
}

fn write_line(out: &mut File, line: &Line) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(line)?).context("cannot write the results")
}
