//! What a worker counts. Plain numbers of one thread; the control plane receives copies.

use crate::limits::BATCH;
use crate::reason::Reason;

/// Buckets of the batch-size histogram: 1, 2, 4, … [`BATCH`] frames.
pub const BATCH_BUCKETS: usize = BATCH.ilog2() as usize + 1;

/// How a lookup ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCounters {
    /// Found by the whole 4-tuple.
    pub connected: u64,
    /// Chosen by a program.
    pub steered: u64,
    /// Found by the bound address.
    pub bound: u64,
    /// Found by the wildcard address.
    pub wildcard: u64,
    /// Found by nothing.
    pub missed: u64,
}

/// What one worker has done since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken from the device.
    pub received: u64,
    /// Bytes of those frames.
    pub received_bytes: u64,
    /// Frames given to the device.
    pub transmitted: u64,
    /// Bytes of those frames.
    pub transmitted_bytes: u64,
    /// Datagrams that a service took and did not answer.
    pub delivered: u64,
    /// Datagrams that a service answered.
    pub answered: u64,
    /// Datagrams refused with an ICMP error.
    pub refused: u64,
    /// Frames dropped, by [`Reason::index`].
    pub dropped: [u64; Reason::COUNT],
    /// How lookups ended.
    pub lookup: LookupCounters,
    /// Turns that found work.
    pub turns_busy: u64,
    /// Turns that found none.
    pub turns_idle: u64,
    /// Nanoseconds spent in busy turns.
    pub busy_ns: u64,
    /// Nanoseconds in idle turns and waiting.
    pub idle_ns: u64,
    /// Turns by the frames they received: bucket n counts batches of at most 2^n.
    pub batches: [u64; BATCH_BUCKETS],
    /// Lines of `bpf_trace_printk` that found the event queue full.
    pub trace_lost: u64,
    /// Times the worker slept until the device had something.
    pub waits: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            received: 0,
            received_bytes: 0,
            transmitted: 0,
            transmitted_bytes: 0,
            delivered: 0,
            answered: 0,
            refused: 0,
            dropped: [0; Reason::COUNT],
            lookup: LookupCounters::default(),
            turns_busy: 0,
            turns_idle: 0,
            busy_ns: 0,
            idle_ns: 0,
            batches: [0; BATCH_BUCKETS],
            trace_lost: 0,
            waits: 0,
        }
    }
}

impl Counters {
    /// Counts one dropped frame.
    #[inline]
    pub fn drop(&mut self, reason: Reason) {
        self.dropped[reason.index()] += 1;
    }

    /// Counts a batch of `frames` (1 to [`BATCH`]).
    #[inline]
    pub fn batch(&mut self, frames: usize) {
        self.batches[frames.next_power_of_two().ilog2() as usize] += 1;
    }

    /// Drops of all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Frames whose door is known: equal to `received` at every turn's end. Of them, `answered`
    /// and `refused` are `transmitted` now or wait for the transmit ring.
    pub fn left(&self) -> u64 {
        self.delivered + self.answered + self.refused + self.dropped_total()
    }
}

/// How one attached program ended its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramCounters {
    /// Identity of the attachment (the link).
    pub link: u64,
    /// Runs.
    pub runs: u64,
    /// Runs that returned SK_PASS.
    pub passed: u64,
    /// Runs that returned SK_DROP.
    pub dropped: u64,
    /// Runs that were stopped for breaking a rule.
    pub faulted: u64,
    /// Of the runs, those whose outcome was known from a like packet.
    pub recalled: u64,
}
