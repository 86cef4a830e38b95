//! The bounded queues between a worker and the control plane: commands in, events out.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::{ArrayString, ArrayVec};
use crossbeam_queue::ArrayQueue;
use weir_bpf::Program;

use crate::counters::{Counters, ProgramCounters};
use crate::device::{Balance, DeviceStatistics};
use crate::limits::{COMMAND_QUEUE, EVENT_QUEUE, PROGRAMS, TRACE_LINE};
use crate::socket::{OpenError, SocketCounters, SocketId, SocketSpec};

/// A program in its place in the order.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Identity of the attachment; counters follow it through changes of the list.
    pub link: u64,
    /// What runs.
    pub program: Arc<Program>,
}

/// The programs of the sk_lookup hook, in order.
#[derive(Clone, Debug, Default)]
pub struct ProgramList {
    links: Vec<u64>,
    programs: Vec<Arc<Program>>,
}

impl ProgramList {
    /// The programs in that order.
    ///
    /// # Panics
    /// With more than [`PROGRAMS`]: whoever attaches refuses the one too many (E2BIG).
    pub fn new(attached: impl IntoIterator<Item = Attached>) -> ProgramList {
        let (links, programs): (Vec<_>, Vec<_>) =
            attached.into_iter().map(|one| (one.link, one.program)).unzip();
        assert!(programs.len() <= PROGRAMS, "more programs than may be attached");
        ProgramList { links, programs }
    }

    /// The links, in order.
    pub fn links(&self) -> &[u64] {
        &self.links
    }

    /// The programs, in the same order.
    pub fn programs(&self) -> &[Arc<Program>] {
        &self.programs
    }
}

/// What the control plane asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// Opens a socket in the slot and generation that the id names.
    Open(SocketId, SocketSpec),
    /// Closes it; an id whose socket is gone changes nothing.
    Close(SocketId),
    /// Replaces the attached programs, at most [`PROGRAMS`]; the old list comes back as
    /// [`Event::Retired`], so that no memory is freed on the packet path.
    Attach(Arc<ProgramList>),
    /// Fills the report and sends it back.
    Report(Box<Report>),
    /// Fills the page and sends it back.
    Sockets(Box<SocketPage>),
    /// Answered by [`Event::Reached`] once everything before it has been applied.
    Barrier(u64),
    /// Ends the worker: after its device has been empty for a moment if `drain`, else at once.
    Stop {
        /// Whether to serve what has arrived already.
        drain: bool,
    },
}

/// What a worker tells the control plane.
#[derive(Debug)]
pub enum Event {
    /// A filled report.
    Report(Box<Report>),
    /// A filled page of sockets.
    Sockets(Box<SocketPage>),
    /// The barrier of that number was reached.
    Reached(u64),
    /// A list of programs that no turn will run again.
    Retired(Arc<ProgramList>),
    /// The specification of a socket that was closed, to be freed where time does not press.
    Closed(SocketSpec),
    /// A socket could not be opened: the control plane's books differ from the worker's.
    OpenFailed(SocketId, SocketSpec, OpenError),
    /// A line from `bpf_trace_printk`.
    Trace(ArrayString<TRACE_LINE>),
    /// A peer sends checksums that look unfinished, so many in a row.
    UnfinishedChecksums(IpAddr, u32),
}

/// A worker's state at the end of a turn.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Packets, bytes, drops, turns.
    pub counters: Counters,
    /// The attached programs, in order.
    pub programs: ArrayVec<ProgramCounters, PROGRAMS>,
    /// Where the device's frames are.
    pub balance: Balance,
    /// Answers that wait for the transmit ring.
    pub backlog: u64,
    /// What the kernel says of the device.
    pub device: DeviceStatistics,
    /// Open sockets.
    pub sockets: u64,
}

/// Counters of a run of socket slots. The requester gives `rows` its capacity, so that filling
/// it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct SocketPage {
    /// First slot to look at.
    pub start: u32,
    /// Open sockets from there on, up to the capacity given.
    pub rows: Vec<(SocketId, SocketCounters)>,
    /// The slot to go on from, `None` at the end.
    pub next: Option<u32>,
}

/// Both queues of one worker.
#[derive(Debug)]
pub struct Mailbox {
    /// Control plane to worker.
    pub commands: ArrayQueue<Command>,
    /// Worker to control plane.
    pub events: ArrayQueue<Event>,
}

impl Mailbox {
    /// Empty queues of the sizes in [`crate::limits`].
    pub fn new() -> Arc<Mailbox> {
        Arc::new(Mailbox {
            commands: ArrayQueue::new(COMMAND_QUEUE),
            events: ArrayQueue::new(EVENT_QUEUE),
        })
    }
}
