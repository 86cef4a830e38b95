//! One row of the table: a worker with so many sockets, with or without the program.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::ensure;
use nix::time::{ClockId, clock_gettime};
use weir_dataplane::device::Device;
use weir_dataplane::device::memory::{MemoryDevice, MemoryFrame};
use weir_dataplane::limits::{BATCH, COMMAND_QUEUE};
use weir_dataplane::mailbox::{Attached, Command, Event, Mailbox, ProgramList};
use weir_dataplane::registry::Registry;
use weir_dataplane::runner::monotonic;
use weir_dataplane::socket::{Service, SocketId, SocketSpec};
use weir_dataplane::worker::{Worker, WorkerSetup};
use weir_inet::{ChecksumPolicy, parse};

use super::frame_ring::FrameRing;
use crate::steering::{ENTRIES, Entry, Steering};

const PORT: u16 = 80;
/// Frames of a ring at least, and a whole round over all sockets.
const RING: u32 = 10_000;
/// First address of the bound sockets, and of the prefixes that the program knows.
const BOUND: u32 = u32::from_be_bytes([10, 0, 0, 0]);
const STEERED: u32 = u32::from_be_bytes([100, 64, 0, 0]);

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Open sockets.
    pub sockets: u32,
    /// How their packets are found to be theirs.
    pub finds: Finds,
}

/// How a packet's socket is found, and where the packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// By the bound address; each socket is as likely as any other.
    Address,
    /// By the program, run for each packet; random hosts in random prefixes.
    ProgramEachTime,
    /// By the program, outcomes kept for like packets; the same random hosts.
    ProgramManyHosts,
    /// By the program, outcomes kept for like packets; one host.
    ProgramOneHost,
}

impl Case {
    /// The rows for so many sockets.
    pub fn all(sockets: u32) -> [Case; 4] {
        [Finds::Address, Finds::ProgramEachTime, Finds::ProgramManyHosts, Finds::ProgramOneHost]
            .map(|finds| Case { sockets, finds })
    }
}

impl Finds {
    /// Its name in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Finds::Address => "none",
            Finds::ProgramEachTime => "each time",
            Finds::ProgramManyHosts => "kept, many hosts",
            Finds::ProgramOneHost => "kept, one host",
        }
    }
}

/// See the module.
pub struct Contestant {
    /// What it is.
    pub case: Case,
    worker: Worker<MemoryDevice<FrameRing>>,
    generator: Generator,
}

impl Contestant {
    /// Opens the sockets and makes the frames.
    pub fn new(case: Case) -> anyhow::Result<Contestant> {
        let Case { sockets, finds } = case;
        let ring = match finds {
            Finds::Address => bound_ring(sockets)?,
            Finds::ProgramEachTime | Finds::ProgramManyHosts => steered_ring(random_host)?,
            Finds::ProgramOneHost => steered_ring(|| STEERED + 1)?,
        };
        let mailbox = Mailbox::new();
        let setup = WorkerSetup {
            number: 0,
            sockets: sockets as usize,
            hash_key: [fastrand::u64(..), fastrand::u64(..)],
            ifindex: 0,
            verdict_cache: finds != Finds::ProgramEachTime,
        };
        let device = MemoryDevice::new(ring.clone());
        let mut worker = Worker::new(&setup, device, mailbox.clone());
        let ids = open_sockets(&mut worker, &mailbox, sockets)?;
        if finds != Finds::Address {
            let steering = steering(&ids)?;
            let list = ProgramList::new([Attached { link: 1, program: steering.program }]);
            submit(&mut worker, &mailbox, Command::Attach(list.into()))?;
        }
        Ok(Contestant { case, worker, generator: Generator::new(ring) })
    }

    /// Turns the worker for so many packets; nanoseconds a packet.
    ///
    /// # Errors
    /// When a packet did not go where it should have.
    pub fn gross(&mut self, packets: u64) -> anyhow::Result<f64> {
        let before = self.worker.counters().clone();
        let started = processor_time();
        let mut received = 0;
        while received < packets {
            received += self.worker.turn(monotonic()).received as u64;
        }
        let elapsed = processor_time() - started;
        let after = self.worker.counters();
        let delivered = after.delivered - before.delivered;
        ensure!(delivered == received, "{received} received, {delivered} delivered");
        let steered = after.lookup.steered - before.lookup.steered;
        let bound = after.lookup.bound - before.lookup.bound;
        let by_address = self.case.finds == Finds::Address;
        let (wanted, other) = if by_address { (bound, steered) } else { (steered, bound) };
        ensure!(
            wanted == received && other == 0,
            "{received} received, but {steered} steered and {bound} found bound"
        );
        Ok(each(elapsed, received))
    }

    /// The same packets through the device alone.
    pub fn generator(&mut self, packets: u64) -> f64 {
        self.generator.run(packets, |_| ())
    }

    /// The same packets through the device and the parser.
    ///
    /// # Errors
    /// When a packet is not a good one.
    pub fn parsed(&mut self, packets: u64) -> anyhow::Result<f64> {
        let mut refused = 0;
        let time = self.generator.run(packets, |bytes| {
            refused += u64::from(black_box(parse(bytes, ChecksumPolicy::Verify)).is_err());
        });
        ensure!(refused == 0, "{refused} packets refused by the parser");
        Ok(time)
    }

    /// Frames that are served before they repeat.
    pub fn ring_length(&self) -> usize {
        self.generator.device.wire().len()
    }
}

/// The device with nobody behind it.
struct Generator {
    device: MemoryDevice<FrameRing>,
    frames: Vec<MemoryFrame>,
}

impl Generator {
    fn new(ring: FrameRing) -> Generator {
        Generator { device: MemoryDevice::new(ring), frames: Vec::with_capacity(BATCH) }
    }

    /// The worker's loop, but for what the worker does.
    fn run(&mut self, packets: u64, mut each_packet: impl FnMut(&[u8])) -> f64 {
        let started = processor_time();
        let mut received = 0;
        while received < packets {
            black_box(monotonic());
            received += self.device.receive(&mut self.frames, BATCH) as u64;
            for frame in &self.frames {
                each_packet(self.device.bytes(frame));
            }
            self.device.recycle(&mut self.frames);
        }
        each(processor_time() - started, received)
    }
}

/// What this thread has used of a core: others that want it do not count.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.expect("Linux counts each thread's time").into()
}

fn each(elapsed: Duration, packets: u64) -> f64 {
    elapsed.as_nanos() as f64 / packets as f64
}

/// Every socket as often as every other, in random order.
fn bound_ring(sockets: u32) -> anyhow::Result<FrameRing> {
    let rounds = RING.div_ceil(sockets);
    let mut order: Vec<u32> = (0..rounds).flat_map(|_| 0..sockets).collect();
    fastrand::shuffle(&mut order);
    FrameRing::new(order.into_iter().map(bound_address))
}

/// Frames for hosts in the program's prefixes.
fn steered_ring(mut host: impl FnMut() -> u32) -> anyhow::Result<FrameRing> {
    FrameRing::new((0..RING).map(|_| SocketAddrV4::new(Ipv4Addr::from(host()), PORT)))
}

/// A random host in a random prefix.
fn random_host() -> u32 {
    STEERED + (fastrand::u32(..ENTRIES) << 8) + fastrand::u32(1..255)
}

fn bound_address(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(BOUND + number), PORT)
}

/// One /24 an entry; the sockets they lead to lie all over the table.
fn steering(ids: &[SocketId]) -> anyhow::Result<Steering> {
    let entry = |number| Entry {
        prefix: Ipv4Addr::from(STEERED + (number << 8)).into(),
        length: 24,
        protocol: 17,
        port: PORT,
        index: number,
    };
    let entries: Vec<Entry> = (0..ENTRIES).map(entry).collect();
    let steering = Steering::load(&entries)?;
    for entry in entries {
        let place = entry.index as usize * ids.len() / ENTRIES as usize;
        steering.place(entry.index, ids[place])?;
    }
    Ok(steering)
}

fn open_sockets(
    worker: &mut Worker<MemoryDevice<FrameRing>>,
    mailbox: &Mailbox,
    sockets: u32,
) -> anyhow::Result<Vec<SocketId>> {
    let mut registry = Registry::new(sockets as usize);
    let name: std::sync::Arc<str> = "sink".into();
    let mut ids = Vec::with_capacity(sockets as usize);
    for number in 0..sockets {
        let spec = SocketSpec {
            name: name.clone(),
            local: bound_address(number).into(),
            v6only: false,
            remote: None,
            service: Service::Discard,
        };
        let id = registry.open(spec.clone())?;
        ids.push(id);
        if mailbox.commands.push(Command::Open(id, spec)).is_err() {
            anyhow::bail!("the command queue is full");
        }
        if mailbox.commands.len() == COMMAND_QUEUE {
            settle(worker, mailbox)?;
        }
    }
    settle(worker, mailbox)?;
    Ok(ids)
}

fn submit(
    worker: &mut Worker<MemoryDevice<FrameRing>>,
    mailbox: &Mailbox,
    command: Command,
) -> anyhow::Result<()> {
    if mailbox.commands.push(command).is_err() {
        anyhow::bail!("the command queue is full");
    }
    settle(worker, mailbox)
}

/// Turns until every command has been applied.
fn settle(worker: &mut Worker<MemoryDevice<FrameRing>>, mailbox: &Mailbox) -> anyhow::Result<()> {
    while !mailbox.commands.is_empty() {
        worker.turn(monotonic());
    }
    while let Some(event) = mailbox.events.pop() {
        if let Event::OpenFailed(_, spec, error) = event {
            anyhow::bail!("{}: {error}", spec.local);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_reach_the_sockets_that_the_row_is_about() {
        for case in [1, 300].into_iter().flat_map(Case::all) {
            let mut contestant = Contestant::new(case).unwrap();
            assert!(contestant.ring_length() >= RING as usize);
            assert!(contestant.gross(2000).unwrap() > 0.0);
            assert!(contestant.parsed(2000).unwrap() > 0.0);
            assert!(contestant.generator(2000) > 0.0);
        }
    }
}
