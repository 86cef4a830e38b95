//! From the configured device to running workers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread::available_parallelism;

use weir_dataplane::device::memory::{MemoryDevice, MemoryPort};
use weir_dataplane::device::pcap::PcapWire;
use weir_dataplane::device::xsk::XskDevice;
use weir_dataplane::runner::{self, IdlePolicy, WorkerHandle, WorkerOptions};
use weir_dataplane::worker::WorkerSetup;
use weir_xsk::kernel::AttachMode;
use weir_xsk::{BusyPoll, HugePages, ModeRequest, Queue, QueueConfig, Redirect};

use super::preflight::{self, Ready};
use crate::config::{At, Config, Device, Idle, Mode, Problem, Xsk};
use crate::fleet::Fleet;

/// Packets of one busy poll, as the kernel's documentation of AF_XDP has it.
const BUSY_POLL_BUDGET: u32 = 64;

/// What stands between the workers and the world.
#[derive(Default)]
pub struct Ground {
    /// The XDP program, on an AF_XDP device.
    pub redirect: Option<Redirect>,
    /// Name of the interface.
    pub interface: Option<String>,
    /// Far ends of the wires of a memory device.
    pub ports: Vec<MemoryPort>,
}

/// Opens the device and starts a worker on each of its queues.
///
/// # Errors
/// What the machine lacks or refuses, at the line that asks for it.
pub fn open(config: &Config, fleet: &mut Fleet) -> Result<Ground, Problem> {
    match &config.device.value {
        Device::Xsk(xsk) => open_xsk(config, xsk, fleet),
        Device::Memory { queues } => {
            let mut ground = Ground::default();
            for queue in 0..*queues {
                let (port, wire) = MemoryPort::pair();
                ground.ports.push(port);
                let options = options(config, queue, *queues, 0);
                let handle = runner::spawn(options, MemoryDevice::new(wire));
                fleet.enlist(started(config, handle)?, queue as u32);
            }
            Ok(ground)
        }
        Device::Pcap { replay, record } => {
            let wire = PcapWire::open(replay, record.as_ref().map(|record| &*record.value))
                .map_err(|error| {
                    let reason = format!("{}: {error}", replay.display());
                    config.problem(replay.line, reason, "give a pcap file of Ethernet frames")
                })?;
            let handle = runner::spawn(options(config, 0, 1, 0), MemoryDevice::new(wire));
            fleet.enlist(started(config, handle)?, 0);
            Ok(Ground::default())
        }
    }
}

fn open_xsk(config: &Config, xsk: &Xsk, fleet: &mut Fleet) -> Result<Ground, Problem> {
    let Ready { ifindex, queues } = preflight::check(config, xsk)?;
    let hook = match xsk.mode {
        Mode::Auto => None,
        Mode::ZeroCopy | Mode::Copy => Some(AttachMode::Native),
        Mode::Skb => Some(AttachMode::Skb),
    };
    let mut redirect = Redirect::attach(ifindex, hook)
        .map_err(|error| preflight::attach_problem(config, xsk, &error))?;
    // A queue cannot tell by itself that the hook is the generic one.
    let mode = match redirect.mode() {
        AttachMode::Native => request(xsk.mode),
        AttachMode::Skb => ModeRequest::Skb,
    };
    for (place, &number) in queues.iter().enumerate() {
        let queue = Queue::open(&queue_config(xsk, number, mode))
            .map_err(|error| preflight::open_problem(config, xsk, &error))?;
        redirect.register(&queue).map_err(|error| {
            let reason = format!("queue {number} cannot be registered: {error}");
            config.problem(xsk.queues.line, reason, "see the kernel's log")
        })?;
        let options = options(config, place, queues.len(), ifindex);
        let handle = runner::spawn(options, XskDevice::new(queue));
        fleet.enlist(started(config, handle)?, number);
    }
    Ok(Ground {
        redirect: Some(redirect),
        interface: Some(xsk.interface.value.clone()),
        ports: Vec::new(),
    })
}

fn started(
    config: &Config,
    handle: std::io::Result<WorkerHandle>,
) -> Result<WorkerHandle, Problem> {
    handle.map_err(|error| {
        let reason = format!("a worker thread cannot be started: {error}");
        config.problem(config.device.line, reason, "raise the limit of threads (ulimit -u)")
    })
}

fn options(config: &Config, place: usize, workers: usize, ifindex: u32) -> WorkerOptions {
    let setup = WorkerSetup {
        number: place as u8,
        sockets: config.sockets_max,
        hash_key: [random(), random()],
        ifindex,
        verdict_cache: config.verdict_cache,
    };
    let idle = match config.idle {
        Idle::Poll => IdlePolicy::Poll,
        Idle::Adaptive => IdlePolicy::Adaptive,
        Idle::Interrupt => IdlePolicy::Interrupt,
    };
    WorkerOptions { setup, core: core(config.cores.as_ref(), place, workers), idle }
}

/// The configured core, or else one from the last downwards, so that core 0 with its interrupts
/// comes last; none where workers outnumber cores.
fn core(cores: Option<&At<Vec<usize>>>, place: usize, workers: usize) -> Option<usize> {
    if let Some(cores) = cores {
        return cores.get(place).copied();
    }
    let available = available_parallelism().map_or(1, usize::from);
    (available > 1 && workers <= available).then(|| available - 1 - place)
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn request(mode: Mode) -> ModeRequest {
    match mode {
        Mode::Auto => ModeRequest::Auto,
        Mode::ZeroCopy => ModeRequest::ZeroCopy,
        Mode::Copy => ModeRequest::Copy,
        Mode::Skb => ModeRequest::Skb,
    }
}

fn queue_config(xsk: &Xsk, queue: u32, mode: ModeRequest) -> QueueConfig {
    let default = QueueConfig::new(&*xsk.interface, queue);
    QueueConfig {
        mode,
        frame_count: xsk.frames.unwrap_or(default.frame_count),
        frame_size: xsk.frame_size.unwrap_or(default.frame_size),
        fill_ring: xsk.fill_ring.unwrap_or(default.fill_ring),
        completion_ring: xsk.completion_ring.unwrap_or(default.completion_ring),
        rx_ring: xsk.rx_ring.unwrap_or(default.rx_ring),
        tx_ring: xsk.tx_ring.unwrap_or(default.tx_ring),
        busy_poll: xsk
            .busy_poll
            .map(|microseconds| BusyPoll { microseconds, budget: BUSY_POLL_BUDGET }),
        huge_pages: match xsk.huge_pages {
            None => HugePages::Auto,
            Some(true) => HugePages::Always,
            Some(false) => HugePages::Never,
        },
        ..default
    }
}
