//! The runtime of a simulated world: the seeded one of openraft, with tasks that belong to a node's
//! incarnation and die with it at once, as they do when a process is killed.

use std::{
    any::Any,
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use pygmy_raft::types::Environment;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::trace::Trace;

thread_local! {
    /// To whom the task belongs that is being polled.
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

/// A lock that no simulated code can leave poisoned in a way that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stream of chances of a world. Streams are independent, so that a change in what one part
/// draws does not change all others.
#[derive(Debug)]
pub(crate) struct Chance(Mutex<StdRng>);

impl Chance {
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(stream.as_bytes());
        Self(Mutex::new(StdRng::from_seed(*hasher.finalize().as_bytes())))
    }

    /// A number of `[from, to)`.
    pub(crate) fn within(&self, from: u64, to: u64) -> u64 {
        lock(&self.0).random_range(from..to.max(from + 1))
    }

    pub(crate) fn index(&self, count: usize) -> usize {
        lock(&self.0).random_range(0..count)
    }

    pub(crate) fn percent(&self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }

    pub(crate) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.within(from * 1000, to * 1000))
    }

    fn bytes(&self) -> [u8; 16] {
        lock(&self.0).random()
    }
}

/// What tasks belong to: one incarnation of a node, or the world around the nodes.
pub(crate) struct Scope {
    name: String,
    alive: AtomicBool,
    tasks: Mutex<BTreeMap<u64, Arc<dyn Mortal>>>,
    next_task: AtomicU64,
    /// How far its clock is off, in milliseconds.
    skew_ms: i64,
    /// The longest that a disk operation takes, in milliseconds.
    disk_ms: AtomicU64,
    chance: Chance,
    pub(crate) trace: Arc<Trace>,
}

impl Scope {
    pub(crate) fn new(name: String, skew_ms: i64, seed: u64, trace: &Arc<Trace>) -> Arc<Self> {
        let chance = Chance::new(seed, &name);
        let alive = AtomicBool::new(true);
        let (next_task, disk_ms) = (AtomicU64::new(0), AtomicU64::new(3));
        let tasks = Mutex::default();
        let trace = trace.clone();
        Arc::new(Self { name, alive, tasks, next_task, skew_ms, disk_ms, chance, trace })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(crate) fn set_disk_ms(&self, longest: u64) {
        self.disk_ms.store(longest, Ordering::Relaxed);
    }

    /// Ends everything that runs in it, now, wherever it waits.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks.into_values() {
            task.die();
        }
    }

    /// Runs a task in it.
    pub(crate) fn spawn<F>(
        self: &Arc<Self>,
        future: F,
    ) -> <SimRuntime as AsyncRuntime>::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let body = Arc::new(Body(Mutex::new(Some(Box::pin(future)))));
        let number = self.next_task.fetch_add(1, Ordering::Relaxed);
        match self.is_alive() {
            true => drop(lock(&self.tasks).insert(number, body.clone())),
            false => body.die(),
        }
        SimRuntime::spawn(Task { scope: self.clone(), number, body })
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

trait Mortal: Send + Sync {
    fn die(&self);
}

struct Body<F>(Mutex<Option<Pin<Box<F>>>>);

impl<F: Send> Mortal for Body<F> {
    fn die(&self) {
        // A task that kills its own scope is being polled right now; it ends after that.
        let taken = self.0.try_lock().ok().and_then(|mut slot| slot.take());
        drop(taken);
    }
}

struct Task<F> {
    scope: Arc<Scope>,
    number: u64,
    body: Arc<Body<F>>,
}

impl<F: Future + Send> Future for Task<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut slot = lock(&self.body.0);
        let Some(future) = slot.as_mut().filter(|_| self.scope.is_alive()) else {
            return Poll::Pending;
        };
        let outer = CURRENT.replace(Some(self.scope.clone()));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        CURRENT.replace(outer);
        if matches!(polled, Ok(Poll::Pending)) && self.scope.is_alive() {
            return Poll::Pending;
        }
        let ended = slot.take();
        drop(slot);
        drop(ended);
        lock(&self.scope.tasks).remove(&self.number);
        match polled {
            Ok(polled) => polled,
            Err(panic) => {
                self.scope.trace.violation(format!(
                    "panic in {}: {}",
                    self.scope.name,
                    told(&*panic)
                ));
                resume_unwind(panic)
            }
        }
    }
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn current() -> Arc<Scope> {
    CURRENT.with_borrow(Clone::clone).expect("simulated code runs in a scope")
}

/// What a simulated node runs in.
#[derive(Debug)]
pub(crate) struct Sim;

impl Environment for Sim {
    type Runtime = Runtime;

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let scope = current();
        let longest = scope.disk_ms.load(Ordering::Relaxed);
        SimRuntime::sleep(Duration::from_micros(scope.chance.within(50, longest * 1000))).await;
        work()
    }

    fn spawn_writer(writer: impl Future<Output = ()> + Send + 'static) {
        drop(Runtime::spawn(writer));
    }

    async fn blocking_in_writer<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        Self::blocking(work).await
    }

    fn rests(_times: u32) -> impl FnMut() + Send + 'static {
        || {}
    }

    fn clock_ms() -> u64 {
        let scope = current();
        let now = u64::try_from(scope.trace.now().as_millis()).expect("a simulation is short");
        (1_000_000 + now).saturating_add_signed(scope.skew_ms)
    }

    fn random_bytes() -> [u8; 16] {
        current().chance.bytes()
    }
}

/// openraft's simulated runtime, whose tasks belong to the scope that spawned them.
#[derive(Debug)]
pub(crate) struct Runtime(SimRuntime);

impl Runtime {
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self(SimRuntime::with_seed(seed))
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <SimRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <SimRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <SimRuntime as AsyncRuntime>::Sleep;
    type Instant = <SimRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <SimRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <SimRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        current().spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        SimRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        SimRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        SimRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        SimRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        SimRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(SimRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
