//! The sk_lookup hook: which socket shall have a packet that no connected socket has.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use arrayvec::{ArrayString, ArrayVec};
use weir_bpf::{
    Host, Inputs, Machine, ProgramResult, SkLookupContext, SkLookupOutcome, SocketFacts, SocketId,
    run_sk_lookup,
};
use weir_inet::FlowKey;

use crate::counters::ProgramCounters;
use crate::limits::PROGRAMS;
use crate::mailbox::{Event, Mailbox, ProgramList};
use crate::tables::Tables;
use crate::verdict_cache::{Kept, VerdictCache};
use crate::worker::WorkerSetup;

/// The attached programs and what they need to run on one worker.
pub struct Steering {
    list: Arc<ProgramList>,
    counters: ArrayVec<ProgramCounters, PROGRAMS>,
    machine: Machine,
    random: fastrand::Rng,
    worker: u8,
    ifindex: u32,
    trace_lost: u64,
    cache: Option<VerdictCache>,
}

/// How a run over all programs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    /// To this socket.
    To(SocketId),
    /// On with the ordinary lookup.
    On,
    /// Refused by a program.
    Dropped,
    /// Refused, and at least one program was stopped for breaking a rule.
    Faulted,
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Steering").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Steering {
    /// No programs.
    pub fn new(setup: &WorkerSetup, seed: u64) -> Steering {
        Steering {
            list: Arc::default(),
            counters: ArrayVec::new(),
            machine: Machine::new(),
            random: fastrand::Rng::with_seed(seed),
            worker: setup.number,
            ifindex: setup.ifindex,
            trace_lost: 0,
            cache: setup.verdict_cache.then(|| VerdictCache::new(seed)),
        }
    }

    /// Replaces the programs; counters follow their links. Returns the old list.
    pub fn attach(&mut self, list: Arc<ProgramList>) -> Arc<ProgramList> {
        if let Some(cache) = &mut self.cache {
            cache.forget();
        }
        let known = std::mem::take(&mut self.counters);
        self.counters = (list.links().iter())
            .map(|&link| {
                let kept = known.iter().find(|counters| counters.link == link).copied();
                kept.unwrap_or(ProgramCounters { link, ..ProgramCounters::default() })
            })
            .collect();
        std::mem::replace(&mut self.list, list)
    }

    /// Whether no program is attached.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.programs().is_empty()
    }

    /// What the programs have done.
    pub fn counters(&self) -> &ArrayVec<ProgramCounters, PROGRAMS> {
        &self.counters
    }

    /// Lines of `bpf_trace_printk` that found the event queue full.
    pub fn trace_lost(&self) -> u64 {
        self.trace_lost
    }

    /// Forgets outcomes that what has changed since the last batch may have changed: a program
    /// sees changes of maps and sockets from the next batch on.
    pub fn refresh(&mut self, tables: &Tables) {
        let Some(cache) = &mut self.cache else { return };
        let maps = self.list.programs().iter().flat_map(|program| program.maps());
        // Each of these only grows, and so does the sum.
        let stamp = maps.fold(tables.changes(), |sum, map| sum.wrapping_add(map.version()));
        cache.check(stamp);
    }

    /// What all programs say of one packet: by memory of a like one, or by running them.
    #[inline]
    pub fn run(&mut self, flow: &FlowKey, tables: &Tables, now: u64, mailbox: &Mailbox) -> Steered {
        let context = context(flow, self.ifindex);
        let asked = self.cache.as_mut().and_then(|cache| cache.is_worth_asking().then_some(cache));
        let Some(cache) = asked else {
            let (steered, _, inputs) = self.run_programs(context, tables, now, mailbox);
            if !inputs.repeatable {
                self.refresh(tables);
            }
            return steered;
        };
        let key = cache.key(&context);
        if let Some(kept) = cache.find(&key) {
            self.count_kept(kept);
            return kept.steered;
        }
        let (steered, passed, inputs) = self.run_programs(context, tables, now, mailbox);
        match &mut self.cache {
            Some(cache) if inputs.repeatable => {
                cache.keep(&context, inputs, Kept { steered, passed })
            }
            // It may have changed maps on which kept outcomes rest.
            _ => self.refresh(tables),
        }
        steered
    }

    fn count_kept(&mut self, kept: Kept) {
        for (index, counters) in self.counters.iter_mut().enumerate() {
            let passed = kept.passed >> index & 1;
            counters.runs += 1;
            counters.recalled += 1;
            counters.passed += passed;
            counters.dropped += 1 - passed;
        }
    }

    /// Runs them: the outcome, which of them passed, and on what that rests.
    fn run_programs(
        &mut self,
        mut context: SkLookupContext,
        tables: &Tables,
        now: u64,
        mailbox: &Mailbox,
    ) -> (Steered, u64, Inputs) {
        let Steering { list, counters, machine, random, worker, trace_lost, .. } = self;
        let mut host = WorkerHost { tables, now, random, worker: *worker, mailbox, trace_lost };
        let (mut faulted, mut all_passed) = (false, 0);
        let mut count = |index: usize, result: ProgramResult| {
            let counters = &mut counters[index];
            counters.runs += 1;
            match result {
                ProgramResult::Pass => {
                    counters.passed += 1;
                    all_passed |= 1 << index;
                }
                ProgramResult::Drop => counters.dropped += 1,
                ProgramResult::Fault(_) => {
                    counters.faulted += 1;
                    faulted = true;
                }
            }
        };
        let programs = list.programs();
        let outcome = run_sk_lookup(programs, &mut context, &mut host, machine, &mut count);
        // Faults are for the operator to see, each with its count: they are met anew.
        let mut inputs = outcome.inputs;
        inputs.repeatable &= !faulted;
        (steered(outcome, faulted), all_passed, inputs)
    }
}

fn steered(outcome: SkLookupOutcome, faulted: bool) -> Steered {
    match (outcome.verdict, outcome.selected) {
        (weir_bpf::Verdict::Pass, Some(socket)) => Steered::To(socket),
        (weir_bpf::Verdict::Pass, None) => Steered::On,
        (weir_bpf::Verdict::Drop, _) if faulted => Steered::Faulted,
        (weir_bpf::Verdict::Drop, _) => Steered::Dropped,
    }
}

fn context(flow: &FlowKey, ifindex: u32) -> SkLookupContext {
    let protocol = flow.protocol.number();
    let (remote, local) = (flow.remote, flow.local);
    match (remote.address.ip(), local.address.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => SkLookupContext::v4(
            protocol,
            SocketAddrV4::new(from, remote.port),
            SocketAddrV4::new(to, local.port),
            ifindex,
        ),
        (from, to) => {
            let six = |address| match address {
                IpAddr::V6(v6) => v6,
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            };
            SkLookupContext::v6(
                protocol,
                SocketAddrV6::new(six(from), remote.port, 0, 0),
                SocketAddrV6::new(six(to), local.port, 0, 0),
                ifindex,
            )
        }
    }
}

/// What a program can ask of this worker.
struct WorkerHost<'a> {
    tables: &'a Tables,
    now: u64,
    random: &'a mut fastrand::Rng,
    worker: u8,
    mailbox: &'a Mailbox,
    trace_lost: &'a mut u64,
}

impl Host for WorkerHost<'_> {
    fn now_ns(&self) -> u64 {
        self.now
    }

    fn random(&mut self) -> u32 {
        self.random.u32(..)
    }

    fn cpu(&self) -> u32 {
        u32::from(self.worker)
    }

    fn trace(&mut self, text: &str) {
        let mut line = ArrayString::new();
        for character in text.chars() {
            if line.try_push(character).is_err() {
                break;
            }
        }
        if self.mailbox.events.push(Event::Trace(line)).is_err() {
            *self.trace_lost += 1;
        }
    }

    fn socket(&self, socket: SocketId) -> Option<SocketFacts> {
        self.tables.facts(socket).copied()
    }
}
