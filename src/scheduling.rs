//! How the threads that serve take turns with other programs on the same processors.
//!
//! Linux has a thread that is woken interrupt the one that runs. On processors that a server shares with its
//! clients, a facade or other members, each request then interrupts whoever was about to send the next ones.
//! Under the policy SCHED_BATCH (sched(7)) it waits until they pause, and finds the requests together. The price:
//! a program that computes without a pause is waited for as well, some milliseconds each time, which delays a
//! request that comes alone and does not matter among many. So each thread measures how much it works and how
//! long it waits for a processor, and is not patient where it works little and waits long.

#![cfg_attr(not(target_os = "linux"), allow(dead_code))]

use std::time::Duration;

/// How often a thread looks at its clocks.
const WINDOW: Duration = Duration::from_millis(100);
/// How long it does without patience after that has cost too much, unless there is a reason earlier.
const PROMPT_FOR: Duration = Duration::from_secs(5);

/// What the system says of a thread since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Clocks {
    /// It was on a processor.
    ran: Duration,
    /// It could have run, and there was no processor for it.
    waited: Duration,
}

/// How a thread that is woken behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It waits for its turn.
    Patient {
        /// Because it had much to do, and before its time.
        early: bool,
    },
    /// It interrupts others, as threads do by default.
    Prompt {
        /// For so much longer.
        left: Duration,
        /// Whatever it has to do.
        firm: bool,
    },
}

impl Manner {
    /// The manner after a window of time.
    fn after(self, window: Duration, Clocks { ran, waited }: Clocks) -> Self {
        match self {
            // It has little to do, and waits for more than a tenth of the time to do it.
            Self::Patient { early } if ran < window / 8 && waited > (window / 10).max(ran * 2) => {
                Self::Prompt { left: PROMPT_FOR, firm: early }
            }
            Self::Patient { .. } => Self::Patient { early: false },
            Self::Prompt { firm: false, .. } if ran > window / 5 => Self::Patient { early: true },
            Self::Prompt { left, firm } if left > window => {
                Self::Prompt { left: left - window, firm }
            }
            Self::Prompt { .. } => Self::Patient { early: false },
        }
    }
}

/// A thread's manner from now on, looked after each time that it has nothing to do. Patience is tried first.
#[cfg(target_os = "linux")]
pub(crate) fn on_park() {
    linux::look();
}

/// The usual manner, for a thread that begins: it has that of the thread by which it was begun.
#[cfg(target_os = "linux")]
pub(crate) fn on_start() {
    linux::begin();
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn on_park() {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn on_start() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        cell::RefCell,
        fs::File,
        io,
        os::unix::fs::FileExt as _,
        time::{Duration, Instant},
    };

    use rustix::process::getpriority_process;
    use thread_priority::{
        NormalThreadSchedulePolicy as Policy, ThreadPriority, ThreadPriorityValue,
        ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
        thread_schedule_policy,
    };

    use super::{Clocks, Manner, WINDOW};

    /// What the library calls the nice level 0, which it sets along with a policy.
    const NICE_0: u8 = 48;

    thread_local! {
        static TURNS: RefCell<State> = const { RefCell::new(State::New) };
    }

    enum State {
        New,
        On(Turns),
        /// The system does not tell, or does not allow.
        Off,
    }

    struct Turns {
        file: File,
        manner: Manner,
        since: Instant,
        clocks: Clocks,
    }

    pub(super) fn begin() {
        // A system that does not allow it has not allowed the other one either.
        let _ = set(Policy::Other);
    }

    pub(super) fn look() {
        TURNS.with_borrow_mut(|state| {
            let looked = match state {
                State::New => Turns::begin().map(|turns| *state = State::On(turns)),
                State::On(turns) => turns.look(),
                State::Off => Ok(()),
            };
            if let Err(error) = looked {
                tracing::debug!(%error, "the scheduling of a thread stays as it is");
                *state = State::Off;
                begin();
            }
        });
    }

    impl Turns {
        fn begin() -> io::Result<Self> {
            let file = File::open("/proc/thread-self/schedstat")?;
            let clocks = read(&file)?;
            set(Policy::Batch)?;
            Ok(Self {
                file,
                manner: Manner::Patient { early: false },
                since: Instant::now(),
                clocks,
            })
        }

        fn look(&mut self) -> io::Result<()> {
            let now = Instant::now();
            let window = now - self.since;
            if window < WINDOW {
                return Ok(());
            }
            let clocks = read(&self.file)?;
            let gone = Clocks {
                ran: clocks.ran.saturating_sub(self.clocks.ran),
                waited: clocks.waited.saturating_sub(self.clocks.waited),
            };
            let manner = self.manner.after(window, gone);
            match (self.manner, manner) {
                (Manner::Patient { .. }, Manner::Prompt { .. }) => set(Policy::Other)?,
                (Manner::Prompt { .. }, Manner::Patient { .. }) => set(Policy::Batch)?,
                _ => {}
            }
            (self.manner, self.since, self.clocks) = (manner, now, clocks);
            Ok(())
        }
    }

    /// Refuses where the program was given another nice level or policy: who did that has decided about its
    /// turns.
    fn set(policy: Policy) -> io::Result<()> {
        let now = thread_schedule_policy().map_err(|error| io::Error::other(error.to_string()))?;
        if !matches!(now, ThreadSchedulePolicy::Normal(Policy::Other | Policy::Batch)) {
            return Err(io::Error::other(format!("its policy is {now:?}")));
        }
        let nice = getpriority_process(None)?;
        if nice != 0 {
            return Err(io::Error::other(format!("its nice level is {nice}")));
        }
        let priority = ThreadPriorityValue::try_from(NICE_0).map_err(io::Error::other)?;
        set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Crossplatform(priority),
            ThreadSchedulePolicy::Normal(policy),
        )
        .map_err(|error| io::Error::other(error.to_string()))
    }

    /// Nanoseconds on a processor, nanoseconds of waiting for one, turns: proc_pid_schedstat(5).
    fn read(file: &File) -> io::Result<Clocks> {
        let mut text = [0; 128];
        let length = file.read_at(&mut text, 0)?;
        clocks(&text[..length]).ok_or_else(|| io::Error::other("schedstat has another form"))
    }

    fn clocks(text: &[u8]) -> Option<Clocks> {
        let mut numbers = str::from_utf8(text).ok()?.split_ascii_whitespace();
        let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
        Some(Clocks { ran: next()?, waited: next()? })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn policy() -> ThreadSchedulePolicy {
            thread_schedule_policy().unwrap()
        }

        #[test]
        fn a_thread_that_parks_is_patient_and_what_it_begins_is_not() {
            let (nice, usual) = (getpriority_process(None).unwrap(), policy());
            // Whoever runs the tests at another level, or under another policy, has decided.
            let is_ours = nice == 0
                && matches!(usual, ThreadSchedulePolicy::Normal(Policy::Other | Policy::Batch));
            let expected = |ours| if is_ours { ThreadSchedulePolicy::Normal(ours) } else { usual };
            let (patient, prompt) = (expected(Policy::Batch), expected(Policy::Other));
            let serves = std::thread::spawn(move || {
                look();
                assert_eq!(policy(), patient);
                assert_eq!(getpriority_process(None).unwrap(), nice);
                let began = std::thread::spawn(|| {
                    begin();
                    policy()
                });
                began.join().unwrap()
            });
            assert_eq!(serves.join().unwrap(), prompt);
        }

        #[test]
        fn the_clocks_of_a_thread_are_read() {
            let file = File::open("/proc/thread-self/schedstat").unwrap();
            let before = read(&file).unwrap();
            while read(&file).unwrap().ran == before.ran {
                std::hint::spin_loop();
            }
            let text = b"1500000000 2000 7\n";
            let told =
                Clocks { ran: Duration::from_millis(1500), waited: Duration::from_micros(2) };
            assert_eq!(clocks(text), Some(told));
            assert_eq!([clocks(b"1\n"), clocks(b"a b c\n"), clocks(b"")], [None; 3]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(manner: Manner, ran: u64, waited: u64) -> Manner {
        let (ran, waited) = (Duration::from_millis(ran), Duration::from_millis(waited));
        manner.after(WINDOW, Clocks { ran, waited })
    }

    const PATIENT: Manner = Manner::Patient { early: false };
    const PROMPT: Manner = Manner::Prompt { left: PROMPT_FOR, firm: false };

    #[test]
    fn patience_lasts_while_it_is_worth_the_wait() {
        // Nothing to do; a few requests on a quiet machine; much to do where everybody has.
        for (ran, waited) in [(0, 0), (2, 1), (1, 9), (35, 5), (46, 40), (66, 22), (17, 60)] {
            assert_eq!(after(PATIENT, ran, waited), PATIENT, "{ran} {waited}");
        }
        // Somebody else computes, and each wake-up waits for him.
        for (ran, waited) in [(9, 25), (3, 57), (1, 24)] {
            assert_eq!(after(PATIENT, ran, waited), PROMPT, "{ran} {waited}");
        }
    }

    /// Windows until it is patient again.
    fn patient_after(mut manner: Manner, ran: u64, waited: u64) -> Option<usize> {
        (1..100).find(|_| {
            manner = after(manner, ran, waited);
            matches!(manner, Manner::Patient { .. })
        })
    }

    #[test]
    fn patience_is_tried_again_after_a_while_and_at_once_where_there_is_much_to_do() {
        assert_eq!(patient_after(PROMPT, 15, 28), Some(50));
        assert_eq!(patient_after(PROMPT, 44, 37), Some(1));
    }

    #[test]
    fn what_was_tried_early_and_in_vain_is_not_tried_early_again() {
        let early = after(PROMPT, 24, 28);
        let firm = after(early, 9, 25);
        assert_eq!(patient_after(firm, 24, 28), Some(50));
        // It was worth it for a window: the next time is a first time.
        let kept = after(early, 40, 30);
        assert_eq!(after(kept, 9, 25), PROMPT);
    }
}
