//! One worker: a device, its sockets, its programs, and the turn that moves packets through them.
//!
//! It reads no clock and calls no system but through its device. The runner gives it the time.

use std::sync::Arc;

use crate::batch::Batch;
use crate::counters::Counters;
use crate::device::Device;
use crate::egress::Egress;
use crate::ingress;
use crate::limits::{BATCH, COMMANDS_PER_TURN};
use crate::mailbox::{Command, Event, Mailbox, Report, SocketPage};
use crate::steer::Steering;
use crate::tables::Tables;
use crate::unfinished::UnfinishedChecksums;

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerSetup {
    /// Its number, from 0; what programs see as the CPU.
    pub number: u8,
    /// Sockets that it can hold.
    pub sockets: usize,
    /// Key of the hash that flows are found by: random, so that senders cannot aim.
    pub hash_key: [u64; 2],
    /// Index of the interface, as programs see it; 0 without one.
    pub ifindex: u32,
    /// Whether outcomes of programs are kept for like packets (see `verdict_cache`).
    pub verdict_cache: bool,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames received.
    pub received: usize,
    /// Frames sent.
    pub sent: usize,
    /// Commands applied.
    pub commands: usize,
    /// Frames that wait for the transmit ring.
    pub backlog: usize,
}

impl Work {
    /// Whether there was nothing to do.
    pub fn is_idle(&self) -> bool {
        self.received == 0 && self.sent == 0 && self.commands == 0
    }
}

/// Whether the control plane wants the worker to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It goes on.
    No,
    /// As soon as nothing arrives any more.
    Drain,
    /// Now.
    Now,
}

/// See the module.
#[derive(Debug)]
pub struct Worker<D: Device> {
    device: D,
    tables: Tables,
    steering: Steering,
    unfinished: UnfinishedChecksums,
    batch: Batch<D::Frame>,
    egress: Egress<D::Frame>,
    counters: Counters,
    mailbox: Arc<Mailbox>,
    ending: Ending,
}

impl<D: Device> Worker<D> {
    /// A worker with no sockets and no programs; all its memory is allocated here.
    pub fn new(setup: &WorkerSetup, device: D, mailbox: Arc<Mailbox>) -> Worker<D> {
        let seed = setup.hash_key[0] ^ setup.hash_key[1].rotate_left(u32::from(setup.number));
        Worker {
            device,
            tables: Tables::new(setup.sockets, setup.hash_key),
            steering: Steering::new(setup, seed),
            unfinished: UnfinishedChecksums::default(),
            batch: Batch::new(),
            egress: Egress::new(),
            counters: Counters::default(),
            mailbox,
            ending: Ending::No,
        }
    }

    /// One turn at time `now`, nanoseconds of the monotonic clock: eight steps, each one loop
    /// over the batch.
    ///
    /// # Panics
    /// When a frame has been lost or is in two places: our own broken invariant.
    pub fn turn(&mut self, now: u64) -> Work {
        let commands = self.apply_commands();
        let Worker { device, tables, steering, unfinished, batch, egress, counters, .. } = self;
        let mailbox = &*self.mailbox;
        let received = device.receive(&mut batch.frames, BATCH);
        if received > 0 {
            counters.received += received as u64;
            counters.batch(received);
            counters.received_bytes += ingress::parse_batch(device, batch, unfinished, mailbox);
            ingress::find(tables, batch);
            ingress::steer(tables, steering, batch, now, mailbox);
            egress.deliver(device, tables, batch, counters);
        }
        egress.expire(now);
        let sent = egress.emit(device, counters);
        device.recycle(&mut batch.done);
        self.assert_balanced();
        Work { received, sent, commands, backlog: self.egress.backlog() }
    }

    /// Every frame is in one place, and has left by one door.
    fn assert_balanced(&self) {
        let (balance, backlog) = (self.device.balance(), self.egress.backlog() as u64);
        assert!(balance.held() == backlog, "frames out of balance: {balance:?}, {backlog} held");
        let (counters, left) = (&self.counters, self.counters.left());
        assert!(counters.received == left, "received {}, left {left}", counters.received);
        let answers = counters.answered + counters.refused;
        assert!(answers == counters.transmitted + backlog, "{answers} answers, {backlog} wait");
    }

    fn apply_commands(&mut self) -> usize {
        for applied in 0..COMMANDS_PER_TURN {
            let Some(command) = self.mailbox.commands.pop() else { return applied };
            if let Some(event) = self.apply(command) {
                // The control plane asks for less than the queue holds; should it stop reading,
                // what does not fit is lost to it and freed here.
                let _ = self.mailbox.events.push(event);
            }
        }
        COMMANDS_PER_TURN
    }

    fn apply(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Open(id, spec) => match self.tables.open(id, spec) {
                Ok(()) => None,
                Err((spec, error)) => Some(Event::OpenFailed(id, spec, error)),
            },
            Command::Close(id) => self.tables.close(id).map(Event::Closed),
            Command::Attach(list) => Some(Event::Retired(self.steering.attach(list))),
            Command::Report(mut report) => {
                self.report(&mut report);
                Some(Event::Report(report))
            }
            Command::Sockets(mut page) => {
                self.fill(&mut page);
                Some(Event::Sockets(page))
            }
            Command::Barrier(number) => Some(Event::Reached(number)),
            Command::Stop { drain } => {
                self.ending = if drain { Ending::Drain } else { Ending::Now };
                None
            }
        }
    }

    /// Fills a report with the state as it is.
    pub fn report(&mut self, report: &mut Report) {
        report.counters.clone_from(&self.counters);
        report.counters.trace_lost = self.steering.trace_lost();
        report.programs.clone_from(self.steering.counters());
        report.balance = self.device.balance();
        report.backlog = self.egress.backlog() as u64;
        report.device = self.device.statistics();
        report.sockets = self.tables.len() as u64;
    }

    fn fill(&self, page: &mut SocketPage) {
        page.rows.clear();
        page.next = None;
        for (id, counters) in self.tables.iter_from(page.start) {
            if page.rows.len() == page.rows.capacity() {
                page.next = Some(crate::socket::SocketKey::from(id).index);
                break;
            }
            page.rows.push((id, *counters));
        }
    }

    /// Whether the control plane wants it to end.
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// The device, to wait on.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The counters, for whoever keeps the time.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
