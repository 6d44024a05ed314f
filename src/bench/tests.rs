//! The schedule, the mixes, what is counted, and whole runs against targets that do as they are told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio::time::sleep;

use super::schedule::{Schedule, Timer};
use super::*;

const ITEMS: Items = Items { count: 100 };

fn plan(mix: Mix, rate: Option<u32>) -> Plan {
    Plan {
        mix,
        items: ITEMS,
        batch: 3,
        clients: 4,
        rate,
        warm_up: Duration::from_millis(100),
        length: Duration::from_secs(1),
        seed: 7,
    }
}

// The schedule.

#[test]
fn operations_are_due_at_equal_distances_whatever_happens() {
    let schedule = Schedule::new(1_000);
    assert_eq!(schedule.due(0), Duration::ZERO);
    assert_eq!(schedule.due(1), Duration::from_millis(1));
    assert_eq!(schedule.due(86_400_000), Duration::from_secs(86_400));
    let third = Schedule::new(3);
    assert_eq!(third.due(3), Duration::from_secs(1), "rounding does not add up");
    assert_eq!(third.due(3_000_000), Duration::from_secs(1_000_000));
}

#[test]
fn an_operation_counts_as_due_from_its_own_time_on() {
    for rate in [1, 3, 7, 1_000, 999_983] {
        let schedule = Schedule::new(rate);
        assert_eq!(schedule.count(Duration::ZERO), 1);
        for number in [1, 2, 3, 100, 12_345] {
            let due = schedule.due(number);
            let just_before = due - Duration::from_nanos(1);
            assert_eq!(schedule.count(due), number + 1, "rate {rate}");
            assert_eq!(schedule.count(just_before), number, "rate {rate}");
        }
    }
}

#[tokio::test]
async fn the_timer_never_fires_early_and_is_finer_than_a_millisecond() {
    let timer = Timer::new().unwrap();
    let mut late = Vec::new();
    for _ in 0..21 {
        let at = Instant::now() + Duration::from_micros(300);
        timer.until(at).await.unwrap();
        let now = Instant::now();
        assert!(now >= at);
        late.push(now - at);
    }
    timer.until(Instant::now()).await.unwrap();
    late.sort();
    // Not of all: other programs want the processor too.
    assert!(late[5] < Duration::from_micros(600), "{late:?}");
}

// The mixes.

#[test]
fn the_shop_has_the_shares_that_it_names() {
    let mut picker = Picker::new(Mix::Shop, ITEMS, 50, 1, 0);
    let mut counts = BTreeMap::<Kind, u32>::new();
    for _ in 0..100_000 {
        *counts.entry(picker.pick().kind).or_default() += 1;
    }
    for (kind, share) in [(Kind::GetStale, 60), (Kind::Get, 20), (Kind::Buy, 15), (Kind::Put, 5)] {
        assert!(counts[&kind].abs_diff(share * 1_000) < 600, "{counts:?}");
    }
    assert_eq!(counts.len(), Mix::Shop.kinds().len());
}

#[test]
fn every_other_mix_is_of_one_kind_and_spread_over_the_items() {
    for mix in [Mix::Buy, Mix::Put, Mix::Get, Mix::GetStale, Mix::GetSession] {
        let mut picker = Picker::new(mix, ITEMS, 50, 1, 0);
        let mut seen = BTreeMap::<u64, u32>::new();
        for number in 1..=10_000 {
            let operation = picker.pick();
            assert_eq!((vec![operation.kind], operation.number), (mix.kinds(), number));
            assert_eq!(operation.items.len(), 1);
            *seen.entry(operation.item()).or_default() += 1;
        }
        assert_eq!(seen.len(), 100, "{mix:?}");
        assert_eq!(
            (seen.keys().next(), seen.keys().last()),
            (Some(&ITEMS.id(0)), Some(&ITEMS.id(99)))
        );
    }
    let mut hot = Picker::new(Mix::Hot, ITEMS, 50, 1, 0);
    assert!((0..100).all(|_| hot.pick().item() == ITEMS.id(0)));
    let mut batch = Picker::new(Mix::Batch, ITEMS, 50, 1, 0);
    assert_eq!(batch.pick().items.len(), 50);
}

#[test]
fn a_seed_repeats_a_client_and_clients_differ() {
    let of = |seed, client| {
        let mut picker = Picker::new(Mix::Shop, ITEMS, 50, seed, client);
        (0..50).map(|_| (picker.pick().kind, picker.pick().item())).collect::<Vec<_>>()
    };
    assert_eq!(of(1, 2), of(1, 2));
    assert_ne!(of(1, 2), of(1, 3));
    assert_ne!(of(1, 2), of(2, 2));
}

// What is counted.

#[test]
fn tallies_add_up() {
    let (mut one, mut other) = (Tally::default(), Tally::default());
    for micros in 1..=1_000 {
        one.latency(Duration::from_micros(micros));
        one.finish();
    }
    other.latency(Duration::from_secs(2));
    other.fail("409 out_of_stock".into(), Duration::from_millis(3));
    other.fail("409 out_of_stock".into(), Duration::from_millis(3));
    one.add(&other);
    assert_eq!((one.finished(), one.latencies(), one.failed()), (1_000, 1_001, 2));
    assert_eq!(one.quantile(0.5), Duration::from_micros(501));
    assert!(one.longest() >= Duration::from_secs(2));
    assert_eq!(one.errors()["409 out_of_stock"], 2);
    assert!(one.latency_json()["p99"].as_u64().unwrap() >= 990);
    one.clear();
    assert_eq!((one.finished(), one.failed()), (0, 0));
    assert!(one.latency_json().is_null(), "no latency is not a latency of 0");
}

// Whole runs.

/// How long an operation takes, and how it ends.
type Paced = (Duration, Result<(), Fault>);

/// A target that does as it is told.
#[derive(Clone)]
struct Puppet {
    /// What becomes of an operation that begins so long after the start.
    pace: Rc<dyn Fn(Duration) -> Paced>,
    begun: Instant,
    busy: Rc<Cell<u32>>,
    busy_max: Rc<Cell<u32>>,
    puts: Rc<RefCell<Vec<u64>>>,
}

impl Puppet {
    fn new(pace: impl Fn(Duration) -> Paced + 'static) -> Self {
        Self {
            pace: Rc::new(pace),
            begun: Instant::now(),
            busy: Rc::default(),
            busy_max: Rc::default(),
            puts: Rc::default(),
        }
    }

    fn steady(millis: u64) -> Self {
        Self::new(move |_| (Duration::from_millis(millis), Ok(())))
    }
}

impl Target for Puppet {
    type Session = Self;

    fn session(&self, _client: u32) -> Self {
        self.clone()
    }
}

impl Session for Puppet {
    async fn perform(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        self.busy.set(self.busy.get() + 1);
        self.busy_max.set(self.busy_max.get().max(self.busy.get()));
        let (time, result) = (self.pace)(self.begun.elapsed());
        sleep(time).await;
        self.busy.set(self.busy.get() - 1);
        if operation.kind == Kind::Put {
            self.puts.borrow_mut().push(operation.item());
        }
        result
    }
}

async fn go(target: &Puppet, plan: &Plan) -> (Outcome, Vec<u64>) {
    let mut seconds = Vec::new();
    let each_second = |second: Second<'_>| seconds.push(second.tally.finished());
    let outcome = LocalSet::new()
        .run_until(run(target, plan, each_second, std::future::pending()))
        .await
        .unwrap();
    (outcome, seconds)
}

#[tokio::test]
async fn a_closed_loop_has_as_many_under_way_as_there_are_clients() {
    let target = Puppet::steady(10);
    let (outcome, seconds) = go(&target, &plan(Mix::Buy, None)).await;
    assert_eq!((target.busy_max.get(), target.busy.get()), (4, 0));
    let done = outcome.total().finished();
    assert!((100..=400).contains(&done), "{done}");
    assert!(outcome.total().quantile(0.5) >= Duration::from_millis(10));
    assert_eq!(seconds, [done], "one second, and what ended in it");
    assert_eq!((&outcome.end, outcome.open), (&End::Complete, None));
    assert_eq!(outcome.measured, Duration::from_secs(1));
    assert_eq!(outcome.orders_per_second(), Some(outcome.per_second()));
    let json = outcome.json();
    assert_eq!(json["by_kind"]["buy"]["operations"], done);
    assert_eq!((json["errors"].as_u64(), &json["end"]), (Some(0), &"complete".into()));
}

#[tokio::test]
async fn an_open_loop_keeps_a_rate_that_can_be_kept() {
    let (outcome, _) = go(&Puppet::steady(2), &plan(Mix::Get, Some(200))).await;
    let open = outcome.open.unwrap();
    assert_eq!((open.asked, open.due), (200, 200), "{open:?}");
    // On a machine that has much else to do the last ones may find the time over.
    assert!(open.unsent <= 10, "{open:?}");
    assert!((190..=204).contains(&outcome.total().latencies()));
    assert!(!outcome.is_behind());
    assert_eq!(outcome.orders_per_second(), None);
}

/// What coordinated omission would hide: a closed loop would show four slow operations.
#[tokio::test]
async fn a_pause_of_the_target_shows_in_every_operation_that_was_due_meanwhile() {
    let target = Puppet::new(|elapsed| {
        let left = Duration::from_millis(600).saturating_sub(elapsed);
        let pause = if elapsed > Duration::from_millis(200) { left } else { Duration::ZERO };
        (pause + Duration::from_millis(1), Ok(()))
    });
    let (outcome, _) = go(&target, &plan(Mix::Get, Some(500))).await;
    let total = outcome.total();
    assert!(total.quantile(0.9) >= Duration::from_millis(250), "{:?}", total.latency_json());
    assert!(outcome.open.unwrap().late >= 100, "{:?}", outcome.open);
    assert!(outcome.open.unwrap().backlog_max >= 100, "{:?}", outcome.open);
}

#[tokio::test]
async fn a_rate_that_cannot_be_kept_is_said() {
    let (outcome, _) = go(&Puppet::steady(20), &plan(Mix::Get, Some(1_000))).await;
    let open = outcome.open.unwrap();
    assert!(outcome.is_behind() && open.unsent > 500, "{open:?}");
    assert_eq!(open.due, 1_000);
    assert!(open.unsent + outcome.total().latencies() >= 1_000, "{open:?}");
    assert!(outcome.total().longest() >= Duration::from_millis(500), "waiting counts");
    assert_eq!(outcome.json()["open_loop"]["kept"], false);
}

#[tokio::test]
async fn what_is_refused_is_counted_and_is_no_outage() {
    let target = Puppet::new(|_| {
        (Duration::from_millis(1), Err(Fault::refusal("409 out_of_stock", "none left")))
    });
    let (outcome, _) = go(&target, &plan(Mix::Hot, None)).await;
    let total = outcome.total();
    assert_eq!((total.finished(), total.latencies()), (0, 0));
    assert_eq!(total.errors().len(), 1);
    assert!(total.errors()["409 out_of_stock"] > 100);
    assert_eq!(outcome.end, End::Complete);
    let took = outcome.json()["error_latency_us"]["p50"].as_u64();
    assert!(took.is_some_and(|micros| micros >= 900), "each is told after a millisecond: {took:?}");
}

#[tokio::test]
async fn a_target_that_goes_away_is_noticed_and_what_was_measured_stays() {
    for hangs in [false, true] {
        let target = Puppet::new(move |elapsed| match elapsed < Duration::from_millis(600) {
            true => (Duration::from_millis(1), Ok(())),
            false if hangs => (Duration::from_millis(700), Err(Fault::outage("timeout", "none"))),
            false => (Duration::from_millis(1), Err(Fault::outage("no connection", "refused"))),
        });
        let (outcome, _) = go(&target, &plan(Mix::Buy, None)).await;
        assert!(outcome.total().finished() > 100);
        let End::Gone { silent, last } = &outcome.end else { panic!("{:?}", outcome.end) };
        assert!(*silent >= Duration::from_millis(250));
        assert_eq!(last.as_ref().map(|fault| fault.detail.as_str()), (!hangs).then_some("refused"));
        assert_eq!(outcome.json()["end"], "gone");
    }
}

#[tokio::test]
async fn an_interrupted_run_keeps_its_figures() {
    let stop = sleep(Duration::from_millis(400));
    let (target, plan) = (Puppet::steady(1), plan(Mix::Buy, None));
    let outcome = LocalSet::new().run_until(run(&target, &plan, |_| {}, stop)).await.unwrap();
    assert_eq!(outcome.end, End::Interrupted);
    assert!(outcome.measured < Duration::from_millis(600), "{:?}", outcome.measured);
    assert!(outcome.total().finished() > 50);
}

#[tokio::test]
async fn items_are_put_once_each_and_a_refusal_ends_it() {
    let target = Puppet::steady(1);
    LocalSet::new().run_until(prepare(&target, ITEMS, |_| {})).await.unwrap();
    let mut puts = target.puts.take();
    puts.sort_unstable();
    assert_eq!(puts, (0..100).map(|place| ITEMS.id(place)).collect::<Vec<_>>());

    let fault = Fault::refusal("422 invalid", "no");
    let told = fault.clone();
    let target = Puppet::new(move |_| (Duration::ZERO, Err(told.clone())));
    let refused = LocalSet::new().run_until(prepare(&target, ITEMS, |_| {})).await;
    assert_eq!(refused, Err(fault));
}
