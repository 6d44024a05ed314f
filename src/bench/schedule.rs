//! When the operations of an open loop are due, and waiting for those times exactly.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Operations at equal distances, the first at once. Nothing that happens moves them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    per_second: u32,
}

impl Schedule {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1) }
    }

    /// How long after the start an operation is due; the first is number 0.
    pub(super) fn due(self, number: u64) -> Duration {
        let nanos = u128::from(number) * NANOS_PER_SECOND / u128::from(self.per_second);
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// How many operations are due once this time has passed since the start.
    pub(super) fn count(self, elapsed: Duration) -> u64 {
        let mut count = elapsed.as_nanos() * u128::from(self.per_second) / NANOS_PER_SECOND + 1;
        // `due` rounds down, so one more may be due already.
        while u64::try_from(count).is_ok_and(|next| self.due(next) <= elapsed) {
            count += 1;
        }
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// A timer that is exact to some microseconds. The runtime's own rounds up to a millisecond, which
/// would show in every latency.
#[derive(Debug)]
pub(super) struct Timer {
    timer: AsyncFd<OwnedFd>,
}

impl Timer {
    #[expect(
        deprecated,
        reason = "it is unsound for descriptors that somebody else may close; this one is owned"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)? })
    }

    /// Waits until a time has come. One waits at a time.
    pub(super) async fn until(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut guard = self.timer.readable().await?;
            let mut fired = [0; 8];
            let read = guard.try_io(|timer| {
                rustix::io::read(timer.get_ref(), &mut fired).map_err(io::Error::from)
            });
            // Otherwise it was woken without the timer having fired.
            if let Ok(read) = read {
                return read.map(|_| ());
            }
        }
    }
}
