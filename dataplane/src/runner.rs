//! A worker on a thread of its own: pinned, given the time, put to rest when there is nothing.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::device::{Device, Mode};
use crate::mailbox::{Mailbox, Report};
use crate::worker::{Ending, Work, Worker, WorkerSetup};

/// What a worker does while nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Looks again at once: the least latency, a core always busy.
    Poll,
    /// Looks again for a while, then sleeps until the device wakes it.
    Adaptive,
    /// Sleeps at once.
    Interrupt,
}

/// Idle turns before [`IdlePolicy::Adaptive`] sleeps: some tens of microseconds.
const PATIENCE: u32 = 1000;
/// The longest sleep: commands are looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(5);
/// How long nothing must arrive before a draining worker ends.
const DRAINED_AFTER: u64 = 20_000_000;
/// The longest that a worker drains.
const DRAIN_AT_MOST: u64 = 1_000_000_000;

/// How a worker's thread is set up.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The worker itself.
    pub setup: WorkerSetup,
    /// The core to stay on; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// What to do while nothing arrives.
    pub idle: IdlePolicy,
}

/// A running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Its number.
    pub number: u8,
    /// How its device moves frames.
    pub mode: Mode,
    /// Its queues.
    pub mailbox: Arc<Mailbox>,
    thread: JoinHandle<Report>,
}

impl WorkerHandle {
    /// Whether the thread has ended, by command or by a broken invariant.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end and returns the last report.
    ///
    /// # Errors
    /// The panic of a worker that found an invariant of its own broken.
    pub fn join(self) -> thread::Result<Report> {
        self.thread.join()
    }
}

/// Starts a worker.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn<D>(options: WorkerOptions, device: D) -> io::Result<WorkerHandle>
where
    D: Device + Send + 'static,
    D::Frame: Send,
{
    let (number, mode) = (options.setup.number, device.mode());
    let mailbox = Mailbox::new();
    let of_worker = mailbox.clone();
    let thread = thread::Builder::new().name(format!("weir-worker-{number}")).spawn(move || {
        if let Some(core) = options.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
        {
            tracing::warn!(worker = number, core, "cannot be pinned: the core is not ours");
        }
        run(Worker::new(&options.setup, device, of_worker), options.idle)
    })?;
    Ok(WorkerHandle { number, mode, mailbox, thread })
}

/// Nanoseconds of the monotonic clock.
///
/// # Panics
/// Never on Linux: CLOCK_MONOTONIC is always there.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC is always there");
    Duration::from(now).as_nanos() as u64
}

/// Turns the worker until it is told to end.
fn run<D: Device>(mut worker: Worker<D>, idle: IdlePolicy) -> Report {
    let mut rest = Rest { idle_turns: 0, policy: idle };
    let mut now = monotonic();
    let mut drain: Option<Drain> = None;
    loop {
        let work = worker.turn(now);
        let slept = drain.is_none() && rest.after(&work, &mut worker);
        let later = monotonic();
        count_time(&mut worker, &work, slept, later - now);
        now = later;
        match worker.ending() {
            Ending::No => {}
            Ending::Now => break,
            Ending::Drain => {
                let drain = drain.get_or_insert(Drain { since: now, quiet_since: now });
                if drain.is_done(&work, now) {
                    break;
                }
            }
        }
    }
    let mut report = Report::default();
    worker.report(&mut report);
    report
}

fn count_time<D: Device>(worker: &mut Worker<D>, work: &Work, slept: bool, elapsed: u64) {
    let counters = worker.counters_mut();
    counters.waits += u64::from(slept);
    if work.is_idle() {
        counters.turns_idle += 1;
        counters.idle_ns += elapsed;
    } else {
        counters.turns_busy += 1;
        counters.busy_ns += elapsed;
    }
}

/// When to sleep.
struct Rest {
    idle_turns: u32,
    policy: IdlePolicy,
}

impl Rest {
    /// Sleeps if the policy says so; whether it did.
    fn after<D: Device>(&mut self, work: &Work, worker: &mut Worker<D>) -> bool {
        if !work.is_idle() || work.backlog > 0 {
            self.idle_turns = 0;
            return false;
        }
        self.idle_turns = self.idle_turns.saturating_add(1);
        let patience = match self.policy {
            IdlePolicy::Poll => u32::MAX,
            IdlePolicy::Adaptive => PATIENCE,
            IdlePolicy::Interrupt => 1,
        };
        if self.idle_turns < patience {
            std::hint::spin_loop();
            return false;
        }
        worker.device_mut().wait(LONGEST_SLEEP);
        true
    }
}

/// How far a draining worker is.
struct Drain {
    since: u64,
    quiet_since: u64,
}

impl Drain {
    fn is_done(&mut self, work: &Work, now: u64) -> bool {
        if work.received > 0 || work.backlog > 0 {
            self.quiet_since = now;
        }
        now - self.quiet_since > DRAINED_AFTER || now - self.since > DRAIN_AT_MOST
    }
}
