//! `pygmy bench`: loads a store and shows what came of it.

use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::args::Bench;
use super::{Answer, Exit, Stop, say, show};
use crate::bench::{
    End, Fault, Items, Kind, OpenLoop, Outcome, Plan, Second, Store, Tally, prepare, run,
};

pub(super) async fn bench(args: Bench) -> Result<Answer, Stop> {
    // One thread of its own: it shares the machine with the store and is to cost little.
    let measuring = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(from_io)?;
        LocalSet::new().block_on(&runtime, measure(args))
    });
    measuring.await.map_err(|error| from_io(io::Error::other(error)))?
}

fn from_io(error: io::Error) -> Stop {
    let message = format!("the operating system does not let it measure: {error}");
    Stop { message, exit: Exit::No }
}

async fn measure(args: Bench) -> Result<Answer, Stop> {
    let plan = plan(&args);
    let timeout = Duration::from_secs(args.timeout);
    let store = if args.direct {
        let store = Store::direct(&args.url, timeout).await?;
        if args.spread_writes { store.spread_writes() } else { store }
    } else {
        Store::at(&args.url, timeout).await?
    };
    if !args.no_prepare {
        put_items(&store, &plan, &args.url).await?;
    }
    plan.check(&store).await.map_err(|(kind, fault)| refused(kind, &fault, &args))?;
    let progress = ProgressBar::new(args.seconds);
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} s  {msg}");
    progress.set_style(style.expect("the template is sound"));
    progress.set_message("warming up");
    progress.tick();
    let mut reader_gone = false;
    let each_second = |second: Second<'_>| {
        progress.set_position(second.number);
        progress.set_message(in_short(&second));
        if args.json {
            // Whoever reads may have enough; the last line will show it.
            reader_gone |= say(&second.json().to_string()).is_err();
        }
    };
    let outcome = run(&store, &plan, each_second, interrupted()).await.map_err(from_io)?;
    progress.finish_and_clear();
    let (exit, problems) = judge(&outcome, &args.url);
    let text = if args.json && reader_gone {
        String::new()
    } else if args.json {
        result_json(&args, &store, &outcome).to_string()
    } else {
        in_words(&args, &store, &outcome)
    };
    Ok(Answer { text, note: (!problems.is_empty()).then(|| problems.join("\n")), exit })
}

fn plan(args: &Bench) -> Plan {
    Plan {
        mix: args.mix,
        items: Items { count: args.items },
        batch: args.batch.into(),
        clients: args.clients,
        rate: args.rate,
        warm_up: Duration::from_secs(args.warmup),
        length: Duration::from_secs(args.seconds),
        seed: args.seed,
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // It cannot be noticed: the signal ends the process as ever.
        std::future::pending::<()>().await;
    }
}

async fn put_items(store: &Store, plan: &Plan, url: &str) -> Result<(), Stop> {
    let count = plan.items.count;
    let progress = ProgressBar::new(count.into());
    progress.set_style(
        ProgressStyle::with_template("{bar:30} {pos} of {len} items put")
            .expect("the template is sound"),
    );
    let put = prepare(store, plan.items, |done| progress.set_position(done.into())).await;
    progress.finish_and_clear();
    put.map_err(|fault| Stop {
        message: format!(
            "the {count} items could not be put: {}; see `pygmy cluster status --url {url}`, and run \
             the same command again",
            fault.detail
        ),
        exit: if fault.is_outage { Exit::Unavailable } else { Exit::No },
    })
}

/// What an operation that fails before anything is measured means.
fn refused(kind: Kind, fault: &Fault, args: &Bench) -> Stop {
    let (name, url) = (kind.name(), &args.url);
    let missing = fault.code.starts_with("404") || fault.code.starts_with("405");
    let next = if kind == Kind::Batch && missing {
        "the store does not serve POST /v1/orders/batch. Measure a newer one, or choose another --mix"
            .to_owned()
    } else if missing && args.no_prepare {
        "the items are not there; leave out --no-prepare".to_owned()
    } else {
        format!("see `pygmy cluster status --url {url}`, and run the same command again")
    };
    Stop {
        message: format!(
            "nothing was measured, because the first {name} failed: {} ({}); {next}",
            fault.detail, fault.code
        ),
        exit: if fault.is_outage { Exit::Unavailable } else { Exit::No },
    }
}

/// The exit code, and what is to be said aside from the figures.
fn judge(outcome: &Outcome, url: &str) -> (Exit, Vec<String>) {
    let (mut exit, mut problems) = (Exit::Ok, Vec::new());
    let failed = outcome.total().failed();
    if failed > 0 {
        exit = Exit::No;
        problems.push(format!(
            "pygmy: {failed} operations failed; their codes are among the figures, and the nodes' logs \
             may say more"
        ));
    }
    if let Some(open) = outcome.open.filter(|_| outcome.is_behind()) {
        exit = Exit::No;
        problems.push(format!(
            "pygmy: the rate was not kept: {:.0} of {} operations a second, {} waited for a client at \
             the end and were never sent. Ask for less, or give more --clients if the store has time \
             to spare",
            outcome.per_second(),
            open.asked,
            open.unsent,
        ));
    }
    match &outcome.end {
        End::Complete => {}
        End::Interrupted => {
            exit = Exit::No;
            problems.push("pygmy: interrupted; the figures are of the time until then".into());
        }
        End::Gone { silent, last } => {
            exit = Exit::Unavailable;
            let last = last.as_ref().map_or("no reply", |fault| &fault.detail);
            problems.push(format!(
                "pygmy: the store went away: for the last {:.1} s it answered nothing ({last}). The \
                 figures are of the {:.1} s until this was noticed; see `pygmy cluster status --url \
                 {url}`",
                silent.as_secs_f64(),
                outcome.measured.as_secs_f64(),
            ));
        }
    }
    (exit, problems)
}

fn result_json(args: &Bench, store: &Store, outcome: &Outcome) -> Value {
    let mut line = json!({
        "type": "result",
        "version": env!("CARGO_PKG_VERSION"),
        "url": args.url,
        "direct": args.direct,
        "spread_writes": args.spread_writes,
        "nodes": store.node_count(),
        "mix": args.mix.name(),
        "clients": args.clients,
        "items": args.items,
        "batch": (args.mix == crate::bench::Mix::Batch).then_some(args.batch),
        "loop": if args.rate.is_some() { "open" } else { "closed" },
    });
    if let (Value::Object(line), Value::Object(figures)) = (&mut line, outcome.json()) {
        line.extend(figures);
    }
    line
}

fn in_short(second: &Second<'_>) -> String {
    let tally = second.tally;
    let mut text = format!(
        "{} operations/s, p50 {} ms, p99 {} ms",
        tally.finished(),
        millis(tally.quantile(0.5)),
        millis(tally.quantile(0.99)),
    );
    if tally.failed() > 0 {
        text += &format!(", {} failed", tally.failed());
    }
    if let Some(backlog) = second.backlog.filter(|backlog| *backlog > 0) {
        text += &format!(", {backlog} waiting");
    }
    text
}

fn in_words(args: &Bench, store: &Store, outcome: &Outcome) -> String {
    let place = match (args.direct, store.node_count()) {
        (false, _) => args.url.clone(),
        (true, nodes) => format!("{nodes} nodes directly"),
    };
    let mut text = format!(
        "{}, {} clients, {:.1} s, {}, {} items, {place}\n",
        args.mix.name(),
        args.clients,
        outcome.measured.as_secs_f64(),
        match args.rate {
            None => "closed loop".into(),
            Some(rate) => format!("open loop with {rate} operations/s"),
        },
        args.items,
    );
    let headings =
        ["", "#per second", "#p50 ms", "#p90 ms", "#p99 ms", "#p99.9 ms", "#max ms", "#failed"];
    let mut rows: Vec<_> =
        outcome.kinds.iter().map(|(kind, tally)| row(kind.name(), tally, outcome)).collect();
    if rows.len() > 1 {
        rows.push(row("all", &outcome.total(), outcome));
    }
    text += &show::table(&headings, rows);
    if let Some(orders) = outcome.orders_per_second() {
        text += &format!("\n{orders:.0} orders a second");
    }
    let errors = outcome.total();
    for (code, count) in errors.errors() {
        text += &format!("\n{count} failed: {code}");
    }
    if errors.failed() > 0 {
        let took = |quantile| millis(errors.error_quantile(quantile));
        text += &format!("\nfailures were told after p50 {} ms, p99 {} ms", took(0.5), took(0.99));
    }
    if let Some(OpenLoop { asked, due, late, unsent, backlog_max }) = outcome.open {
        text += &format!(
            "\nasked for {asked} operations/s, achieved {:.0}: {due} due, {late} sent more than 1 ms \
             late, {unsent} never sent, at most {backlog_max} waiting for a client",
            outcome.per_second(),
        );
    }
    if let Some(each) = outcome.processor_per_operation() {
        text += &format!(
            "\nthe generator itself: {:.1} us of processor time for an operation, {:.0} % of one \
             processor",
            each.as_secs_f64() * 1e6,
            outcome.processor_share() * 100.0,
        );
    }
    text
}

fn row(name: &str, tally: &Tally, outcome: &Outcome) -> Vec<String> {
    let seconds = outcome.measured.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut row = vec![name.to_owned(), format!("{:.0}", tally.finished() as f64 / seconds)];
    let latencies = [0.5, 0.9, 0.99, 0.999].map(|quantile| tally.quantile(quantile));
    let known = tally.latencies() > 0;
    row.extend(
        latencies
            .into_iter()
            .chain([tally.longest()])
            .map(|latency| if known { millis(latency) } else { "-".into() }),
    );
    row.push(tally.failed().to_string());
    row
}

fn millis(latency: Duration) -> String {
    format!("{:.2}", latency.as_secs_f64() * 1e3)
}
