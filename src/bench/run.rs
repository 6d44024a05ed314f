//! One run: the clients, the clock, and who looks after both.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::mix::{Items, Kind, Mix, Picker};
use super::outcome::{End, OpenLoop, Outcome, Second};
use super::schedule::{Schedule, Timer};
use super::tally::Tally;
use super::target::{Fault, Session, Target};

/// A target of which nothing is heard for so long is gone. Longer than an election takes.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// At the end of a run this part of its length is enough.
const GONE_AT_END: u32 = 4;
/// A client that met an outage waits so long: whoever is not there gains nothing from being asked
/// without a break.
const OUTAGE_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at how the run goes.
const LOOK: Duration = Duration::from_millis(100);
/// An operation that is sent this much after it was due is late.
const LATE: Duration = Duration::from_millis(1);
/// The least time between two looks at the schedule. A faster schedule has several operations come
/// due together, because waking up costs as much as sending one.
const STEP_MIN: Duration = Duration::from_micros(100);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which operations.
    pub mix: Mix,
    /// The items that are there.
    pub items: Items,
    /// Orders in a batch.
    pub batch: usize,
    /// Clients, each with one operation at a time.
    pub clients: u32,
    /// Operations a second of an open loop; a closed loop if there is none.
    pub rate: Option<u32>,
    /// How long it runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub length: Duration,
    /// The same seed, the same operations.
    pub seed: u64,
}

impl Plan {
    /// Does one operation of each kind that the plan has: what the target cannot do at all is known
    /// before anything is measured.
    pub async fn check<T: Target>(&self, target: &T) -> Result<(), (Kind, Fault)> {
        // A client of its own, so that no number comes twice.
        let client = self.clients;
        let mut session = target.session(client);
        let mut picker = Picker::new(self.mix, self.items, self.batch, self.seed, client);
        for kind in self.mix.kinds() {
            session.perform(&picker.pick_of(kind)).await.map_err(|fault| (kind, fault))?;
        }
        Ok(())
    }
}

/// Runs a plan. `each_second` is told how it goes; `interrupted` ends it early. Inside a `LocalSet`.
///
/// It fails only where the system gives no timer.
pub async fn run<T: Target>(
    target: &T,
    plan: &Plan,
    mut each_second: impl FnMut(Second<'_>),
    interrupted: impl Future<Output = ()>,
) -> io::Result<Outcome> {
    let board = Rc::new(Board::new(plan));
    let mut clients = JoinSet::new();
    for client in 0..plan.clients {
        let session = target.session(client);
        let picker = Picker::new(plan.mix, plan.items, plan.batch, plan.seed, client);
        match plan.rate {
            None => clients.spawn_local(closed(Rc::clone(&board), session, picker)),
            Some(_) => clients.spawn_local(open(Rc::clone(&board), session, picker)),
        };
    }
    let mut helpers = JoinSet::new();
    if plan.rate.is_some() {
        let timer = Timer::new()?;
        helpers.spawn_local(announce(Rc::clone(&board), timer));
    }

    let mut interrupted = std::pin::pin!(interrupted);
    let mut processor = Span::default();
    let mut seconds = 0;
    let mut end = loop {
        let now = Instant::now();
        if now >= board.from {
            processor.begin();
        }
        if now >= board.second_ends(seconds + 1) {
            seconds += 1;
            board.tell(seconds, &mut each_second);
        }
        if let Some(gone) = board.gone(now, GONE_AFTER) {
            break gone;
        }
        if now >= board.to.get() {
            break board
                .gone(now, GONE_AFTER.min(plan.length / GONE_AT_END))
                .unwrap_or(End::Complete);
        }
        let next = board.next_look(now, seconds + 1);
        tokio::select! {
            () = &mut interrupted => break End::Interrupted,
            () = tokio::time::sleep_until(next.into()) => {}
        }
    };
    let processor = processor.end();
    board.stop(Instant::now());
    drop(helpers);
    if end == End::Complete {
        // What is under way belongs to the figures, above all when it takes long.
        let drained = async { while clients.join_next().await.is_some() {} };
        tokio::select! {
            () = &mut interrupted => end = End::Interrupted,
            () = drained => {}
        }
    }
    drop(clients);
    Ok(board.outcome(end, processor))
}

/// A client of a closed loop.
async fn closed(board: Rc<Board>, mut session: impl Session, mut picker: Picker) {
    let mut begun = Instant::now();
    while board.is_on(begun) {
        let operation = picker.pick();
        board.begin(begun);
        let result = session.perform(&operation).await;
        let ended = Instant::now();
        begun = match board.end(operation.kind, (begun, begun), ended, result) {
            Health::Works => ended,
            Health::Outage => {
                tokio::time::sleep(OUTAGE_PAUSE).await;
                Instant::now()
            }
        };
    }
}

/// A client of an open loop.
async fn open(board: Rc<Board>, mut session: impl Session, mut picker: Picker) {
    loop {
        let now = Instant::now();
        if !board.is_on(now) {
            return;
        }
        let Some(due) = board.take(now) else {
            board.wake.notified().await;
            continue;
        };
        let operation = picker.pick();
        board.begin(now);
        let result = session.perform(&operation).await;
        if board.end(operation.kind, (due, now), Instant::now(), result) == Health::Outage {
            tokio::time::sleep(OUTAGE_PAUSE).await;
        }
    }
}

/// Makes the operations of an open loop due.
async fn announce(board: Rc<Board>, timer: Timer) {
    let Some(schedule) = board.schedule else { return };
    loop {
        let elapsed = board.began.elapsed();
        let due = schedule.count(elapsed);
        let new = due - board.due.replace(due);
        for _ in 0..new.min(board.clients.into()) {
            board.wake.notify_one();
        }
        let next = schedule.due(due).max(elapsed + STEP_MIN);
        if timer.until(board.began + next).await.is_err() {
            // Without the exact timer the runtime's must do.
            tokio::time::sleep_until((board.began + next).into()).await;
        }
    }
}

/// Whether a client may go on at once.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Works,
    Outage,
}

/// What all clients share.
struct Board {
    began: Instant,
    from: Instant,
    to: Cell<Instant>,
    batch: usize,
    clients: u32,
    kinds: RefCell<BTreeMap<Kind, Tally>>,
    interval: RefCell<Tally>,
    // Whether the target is still there.
    in_flight: Cell<u32>,
    busy_since: Cell<Instant>,
    answered: Cell<Instant>,
    outage: RefCell<Option<(Instant, Fault)>>,
    // The open loop: `due` operations have come due, `sent` of them were taken.
    asked: Option<u32>,
    schedule: Option<Schedule>,
    due: Cell<u64>,
    sent: Cell<u64>,
    late: Cell<u64>,
    backlog_max: Cell<u64>,
    wake: Notify,
}

impl Board {
    fn new(plan: &Plan) -> Self {
        let began = Instant::now();
        let from = began + plan.warm_up;
        Self {
            began,
            from,
            to: Cell::new(from + plan.length),
            batch: plan.batch,
            clients: plan.clients,
            kinds: RefCell::new(
                plan.mix.kinds().into_iter().map(|kind| (kind, Tally::default())).collect(),
            ),
            interval: RefCell::default(),
            in_flight: Cell::new(0),
            busy_since: Cell::new(began),
            answered: Cell::new(began),
            outage: RefCell::default(),
            asked: plan.rate,
            schedule: plan.rate.map(Schedule::new),
            due: Cell::new(0),
            sent: Cell::new(0),
            late: Cell::new(0),
            backlog_max: Cell::new(0),
            wake: Notify::new(),
        }
    }

    fn is_on(&self, now: Instant) -> bool {
        now < self.to.get()
    }

    fn is_measured(&self, at: Instant) -> bool {
        (self.from..self.to.get()).contains(&at)
    }

    /// An operation begins.
    fn begin(&self, now: Instant) {
        if self.in_flight.replace(self.in_flight.get() + 1) == 0 {
            self.busy_since.set(now);
        }
    }

    /// An operation has ended that counts from `since`, and was sent at `sent`.
    fn end(
        &self,
        kind: Kind,
        (since, sent): (Instant, Instant),
        ended: Instant,
        result: Result<(), Fault>,
    ) -> Health {
        self.in_flight.set(self.in_flight.get() - 1);
        let (counts, within) = (self.is_measured(since), self.is_measured(ended));
        let mut kinds = self.kinds.borrow_mut();
        let tally = kinds.entry(kind).or_default();
        let fault = match result {
            Ok(()) => {
                self.answered.set(ended);
                let latency = ended.saturating_duration_since(since);
                if counts || within {
                    tally.latency(latency);
                }
                if within {
                    tally.finish();
                    let mut interval = self.interval.borrow_mut();
                    interval.latency(latency);
                    interval.finish();
                }
                return Health::Works;
            }
            Err(fault) => fault,
        };
        let took = ended.saturating_duration_since(sent);
        if counts || within {
            tally.fail(fault.code.clone(), took);
        }
        if within {
            self.interval.borrow_mut().fail(fault.code.clone(), took);
        }
        if fault.is_outage {
            *self.outage.borrow_mut() = Some((ended, fault));
            Health::Outage
        } else {
            self.answered.set(ended);
            Health::Works
        }
    }

    /// Takes the next operation that is due, and gives when it was.
    fn take(&self, now: Instant) -> Option<Instant> {
        let (number, due) = (self.sent.get(), self.due.get());
        if number >= due {
            return None;
        }
        self.sent.set(number + 1);
        let at = self.began + self.schedule?.due(number);
        if self.is_measured(at) {
            if now.saturating_duration_since(at) > LATE {
                self.late.set(self.late.get() + 1);
            }
            self.backlog_max.set(self.backlog_max.get().max(due - number - 1));
        }
        Some(at)
    }

    fn backlog(&self) -> Option<u64> {
        self.schedule.map(|_| self.due.get() - self.sent.get())
    }

    fn second_ends(&self, number: u64) -> Instant {
        (self.from + Duration::from_secs(number)).min(self.to.get())
    }

    fn next_look(&self, now: Instant, second: u64) -> Instant {
        let known = [self.from, self.second_ends(second)];
        known.into_iter().filter(|at| *at > now).fold(now + LOOK, Instant::min)
    }

    fn tell(&self, number: u64, each_second: &mut impl FnMut(Second<'_>)) {
        let mut tally = self.interval.borrow_mut();
        each_second(Second { number, tally: &tally, backlog: self.backlog() });
        tally.clear();
    }

    /// Whether the target has been silent for so long though something was asked of it.
    fn gone(&self, now: Instant, after: Duration) -> Option<End> {
        let answered = self.answered.get();
        let outage = self.outage.borrow();
        let failed = outage.as_ref().filter(|(at, _)| *at > answered);
        let since = match failed {
            Some(_) => answered,
            None if self.in_flight.get() > 0 => answered.max(self.busy_since.get()),
            None => return None,
        };
        let silent = now.saturating_duration_since(since);
        (silent >= after)
            .then(|| End::Gone { silent, last: failed.map(|(_, fault)| fault.clone()) })
    }

    /// Nothing begins any more.
    fn stop(&self, now: Instant) {
        self.to.set(self.to.get().min(now));
        self.wake.notify_waiters();
    }

    fn outcome(&self, end: End, processor: Duration) -> Outcome {
        let (from, to) = (self.from, self.to.get());
        let open = self.schedule.zip(self.asked).map(|(schedule, asked)| {
            // Those that are due before a time.
            let before = |at: Instant| {
                let elapsed = at.saturating_duration_since(self.began);
                elapsed.checked_sub(Duration::from_nanos(1)).map_or(0, |last| schedule.count(last))
            };
            let (first, last) = (before(from), before(to.max(from)));
            let unsent = last.saturating_sub(self.sent.get().max(first));
            let backlog_max = self.backlog_max.get().max(unsent);
            OpenLoop { asked, due: last - first, late: self.late.get(), unsent, backlog_max }
        });
        Outcome {
            end,
            measured: to.saturating_duration_since(from),
            kinds: self.kinds.take(),
            open,
            batch: self.batch,
            processor,
        }
    }
}

/// Processor time of this thread between two moments.
#[derive(Debug, Default)]
struct Span {
    from: Option<Duration>,
}

impl Span {
    /// Sets the first moment, once.
    fn begin(&mut self) {
        self.from.get_or_insert_with(thread_time);
    }

    fn end(self) -> Duration {
        self.from.map_or(Duration::ZERO, |from| thread_time().saturating_sub(from))
    }
}

fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
