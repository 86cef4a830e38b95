//! `weir flood`: bounded traffic from real XDP frames, an AF_XDP socket, or memory.

mod guard;
mod interface;
mod memory;
mod pace;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Serialize;
use weir_xsk::{
    FloodPattern, FloodTraffic, LiveFrames, ModeRequest, Queue, QueueConfig, Template, Transmitter,
};

pub use pace::{Bound, Progress};

/// Source ports of the flood of seed 004, and where they begin.
const PORTS: u16 = 10_000;
const FIRST_PORT: u16 = 10_000;
/// Bits of the source address that are random, if any are.
const RANDOM_BITS: u8 = 16;

/// What makes the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An XDP program run with `BPF_F_TEST_XDP_LIVE_FRAMES`: no skb.
    LiveFrames,
    /// An AF_XDP socket on queue 0.
    Xsk,
    /// A worker on a memory device within this process; no interface, no privileges.
    Memory,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Flood {
    /// What makes the packets.
    pub source: Source,
    /// What kind.
    pub pattern: FloodPattern,
    /// Out of which interface; not for [`Source::Memory`].
    pub interface: Option<String>,
    /// To whom; an address of the documentation prefixes if absent.
    pub destination: Option<IpAddr>,
    /// To which port.
    pub port: u16,
    /// Whether source addresses are random in their last 16 bits.
    pub random_sources: bool,
    /// When to end, and how fast to go.
    pub bound: Bound,
    /// Whether the operator owns what the interface leads to.
    pub own_network: bool,
}

/// Why there is no flood.
#[derive(Debug, thiserror::Error)]
pub enum FloodRefusal {
    /// The interface may lead to others.
    #[error("{0}")]
    NotOurs(String),
    /// The traffic cannot be made.
    #[error(transparent)]
    Template(#[from] weir_xsk::TemplateError),
    /// No interface was named.
    #[error("this source needs an interface")]
    NoInterface,
    /// The interface is not there.
    #[error(transparent)]
    Interface(#[from] weir_xsk::InterfaceError),
    /// The kernel would not send live frames.
    #[error(transparent)]
    LiveFrames(#[from] weir_xsk::FloodError),
    /// No AF_XDP socket.
    #[error(transparent)]
    Open(#[from] weir_xsk::OpenError),
    /// A thread or a worker failed.
    #[error("the worker in memory: {0}")]
    Worker(String),
}

impl FloodRefusal {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            FloodRefusal::NotOurs(_) => {
                "run it in a namespace of a lab (`ip netns exec`), or add --i-own-this-network"
            }
            FloodRefusal::Template(_) => "give an address of the pattern's family",
            FloodRefusal::NoInterface => "add --interface NAME, or --source memory",
            FloodRefusal::Interface(_) => "`ip link` lists the interfaces of this namespace",
            FloodRefusal::LiveFrames(_) | FloodRefusal::Open(_) => "run as root; see `dmesg`",
            FloodRefusal::Worker(_) => "see the log",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// "live-frames", "xsk" or "memory".
    pub source: &'static str,
    /// The pattern's name.
    pub pattern: &'static str,
    /// Packets that went out.
    pub sent: u64,
    /// How long it took.
    pub seconds: f64,
    /// `sent` a second.
    pub packets_per_second: f64,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Source::LiveFrames => "live-frames",
            Source::Xsk => "xsk",
            Source::Memory => "memory",
        }
    }
}

impl Flood {
    /// Sends, until a bound is reached. `progress` is called once a second.
    ///
    /// # Errors
    /// Before anything is sent, if it may not be or cannot be; or when the kernel stops it.
    pub fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<Outcome, FloodRefusal> {
        let done = match self.source {
            Source::Memory => memory::run(&self.traffic(None), &self.bound, progress)?,
            Source::LiveFrames | Source::Xsk => self.send(progress)?,
        };
        let seconds = done.elapsed.as_secs_f64();
        Ok(Outcome {
            source: self.source.as_str(),
            pattern: self.pattern.as_str(),
            sent: done.sent,
            seconds,
            packets_per_second: done.sent as f64 / seconds.max(f64::EPSILON),
        })
    }

    fn send(&self, progress: &mut dyn FnMut(Progress)) -> Result<Progress, FloodRefusal> {
        let name = self.interface.as_deref().ok_or(FloodRefusal::NoInterface)?;
        let ifindex = weir_xsk::interface_index(name)?;
        let interface = interface::describe(name);
        if !self.own_network {
            guard::check(name, &interface).map_err(FloodRefusal::NotOurs)?;
        }
        let template = Template::new(&self.traffic(Some(&interface)))?;
        match self.source {
            Source::Xsk => {
                let mode = ModeRequest::Copy;
                let queue = Queue::open(&QueueConfig { mode, ..QueueConfig::new(name, 0) })?;
                let mut transmitter = Transmitter::new(queue, template);
                let done = self.bound.pace(progress, |count| Ok(transmitter.send(count, None)))?;
                transmitter.flush(Duration::from_secs(1));
                Ok(done)
            }
            _ => {
                let mut frames = LiveFrames::new(ifindex, &template)?;
                self.bound.pace(progress, |count| Ok(frames.send(count)?))
            }
        }
    }

    /// Who sends what to whom: one source address, 10,000 ports, no payload.
    fn traffic(&self, interface: Option<&interface::Description>) -> FloodTraffic {
        let ipv6 = matches!(self.pattern, FloodPattern::Udp6 | FloodPattern::Tcp6Syn);
        let (source, destination): (IpAddr, IpAddr) = match ipv6 {
            true => (
                Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            ),
            false => (Ipv4Addr::new(198, 18, 0, 1).into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        };
        let own = interface.and_then(|interface| interface.address(ipv6));
        FloodTraffic {
            pattern: self.pattern,
            source_mac: interface.map_or([2, 0, 0, 0, 0, 1], |interface| interface.mac),
            destination_mac: interface.map_or([2, 0, 0, 0, 0, 2], |interface| interface.next_hop),
            source: own.unwrap_or(source),
            destination: self.destination.unwrap_or(destination),
            destination_port: self.port,
            first_port: FIRST_PORT,
            ports: PORTS,
            random_bits: if self.random_sources { RANDOM_BITS } else { 0 },
            payload: 0,
        }
    }
}
