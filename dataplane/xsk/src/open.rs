//! Opening a socket: the UMEM, the bind, and the mode that came of it.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use xsk_rs::config::{
    BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig, XdpFlags,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use crate::config::{BusyPoll, HugePages, Mode, ModeRequest, QueueConfig};
use crate::interface::{self, InterfaceError};

/// A closed socket leaves its queue only after a grace period of the kernel; so long it is waited.
const BUSY_WAIT: Duration = Duration::from_secs(1);
const BUSY_STEP: Duration = Duration::from_millis(5);
/// Bytes of packets that may be on their way out, in copy mode: a transmit ring's worth.
const SEND_BUFFER: libc::c_int = 8 << 20;

// linux/if_xdp.h and asm-generic/socket.h; not in the libc crate.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such interface, or no such queue.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// A number in the configuration cannot be.
    #[error("{interface} queue {queue}: {reason}")]
    Config {
        /// The interface's name.
        interface: String,
        /// The queue.
        queue: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// The UMEM could not be allocated or registered.
    #[error("cannot allocate {bytes} bytes for frames{}: {source}",
        if *.huge_pages { " on huge pages (see /proc/sys/vm/nr_hugepages)" } else { "" })]
    Umem {
        /// Its size.
        bytes: u64,
        /// Whether it was to be on huge pages.
        huge_pages: bool,
        /// The kernel's answer.
        source: io::Error,
    },
    /// CAP_NET_RAW is missing, or CAP_IPC_LOCK for the memory.
    #[error(
        "AF_XDP on {interface} is not permitted: run as root, or with CAP_NET_RAW, \
        CAP_NET_ADMIN, CAP_BPF and CAP_IPC_LOCK"
    )]
    NotPermitted {
        /// The interface's name.
        interface: String,
    },
    /// Another socket has the queue.
    #[error(
        "{interface} queue {queue} is taken by another AF_XDP socket (waited {waited:?}); \
        stop the process that has it: `ss --xdp -p` or `bpftool net` show it"
    )]
    Busy {
        /// The interface's name.
        interface: String,
        /// The queue.
        queue: u32,
        /// How long the kernel was given to release it.
        waited: Duration,
    },
    /// The driver has no zero-copy.
    #[error("{interface} has no zero-copy AF_XDP; ask for mode `auto` or `copy`")]
    NoZeroCopy {
        /// The interface's name.
        interface: String,
    },
    /// The kernel refused otherwise.
    #[error("cannot open AF_XDP on {interface} queue {queue}: {source}")]
    Socket {
        /// The interface's name.
        interface: String,
        /// The queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The parts of an open socket.
pub(crate) struct Parts {
    pub umem: Umem,
    pub descriptors: Vec<FrameDesc>,
    pub tx: TxQueue,
    pub rx: RxQueue,
    pub fill: FillQueue,
    pub completion: CompQueue,
    pub fd: RawFd,
    pub mode: Mode,
    pub huge_pages: bool,
}

pub(crate) fn open(config: &QueueConfig) -> Result<Parts, OpenError> {
    interface::interface_index(&config.interface)?;
    let queues = interface::rx_queues(&config.interface)?;
    if config.queue >= queues {
        let interface = config.interface.clone();
        return Err(InterfaceError::NoQueue { interface, queue: config.queue, queues }.into());
    }
    let umem_config = umem_config(config)?;
    let socket_config = socket_config(config)?;
    let (umem, descriptors, huge_pages) = allocate(config, umem_config)?;
    let (tx, rx, rings) = bind(config, socket_config, &umem)?;
    let (fill, completion) =
        rings.ok_or_else(|| wrong(config, "the socket came without fill and completion rings"))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(rx.fd());
    let mode = mode(fd, config.mode).map_err(|source| refused(config, source))?;
    if config.mode == ModeRequest::ZeroCopy && mode != Mode::ZeroCopy {
        return Err(OpenError::NoZeroCopy { interface: config.interface.clone() });
    }
    tune(fd, config).map_err(|source| refused(config, source))?;
    Ok(Parts { umem, descriptors, tx, rx, fill, completion, fd, mode, huge_pages })
}

fn wrong(config: &QueueConfig, reason: impl ToString) -> OpenError {
    OpenError::Config {
        interface: config.interface.clone(),
        queue: config.queue,
        reason: reason.to_string(),
    }
}

fn refused(config: &QueueConfig, source: io::Error) -> OpenError {
    let interface = config.interface.clone();
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::NotPermitted { interface },
        Some(libc::EOPNOTSUPP | libc::EINVAL) if config.mode == ModeRequest::ZeroCopy => {
            OpenError::NoZeroCopy { interface }
        }
        _ => OpenError::Socket { interface, queue: config.queue, source },
    }
}

fn umem_config(config: &QueueConfig) -> Result<UmemConfig, OpenError> {
    let page = 4096;
    if !(2048..=page).contains(&config.frame_size) {
        let size = config.frame_size;
        return Err(wrong(config, format!("frame_size {size}: 2048 or 4096 is possible")));
    }
    let size = FrameSize::new(config.frame_size).map_err(|e| wrong(config, e))?;
    let fill = QueueSize::new(config.fill_ring).map_err(|e| wrong(config, e))?;
    let completion = QueueSize::new(config.completion_ring).map_err(|e| wrong(config, e))?;
    UmemConfig::builder()
        .frame_size(size)
        .frame_headroom(config.headroom)
        .fill_queue_size(fill)
        .comp_queue_size(completion)
        .build()
        .map_err(|e| wrong(config, e))
}

fn socket_config(config: &QueueConfig) -> Result<SocketConfig, OpenError> {
    let rx = QueueSize::new(config.rx_ring).map_err(|e| wrong(config, e))?;
    let tx = QueueSize::new(config.tx_ring).map_err(|e| wrong(config, e))?;
    let bind = BindFlags::XDP_USE_NEED_WAKEUP
        | match config.mode {
            ModeRequest::Auto => BindFlags::empty(),
            ModeRequest::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            ModeRequest::Copy | ModeRequest::Skb => BindFlags::XDP_COPY,
        };
    Ok(SocketConfig::builder()
        .rx_queue_size(rx)
        .tx_queue_size(tx)
        // The XDP program is ours to attach, by a link that dies with the process.
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .xdp_flags(XdpFlags::empty())
        .bind_flags(bind)
        .build())
}

fn allocate(
    config: &QueueConfig,
    umem_config: UmemConfig,
) -> Result<(Umem, Vec<FrameDesc>, bool), OpenError> {
    let frames = NonZeroU32::new(config.frame_count)
        .filter(|count| count.get() >= 64 && count.get() <= 1 << 22)
        .ok_or_else(|| wrong(config, "frame_count: 64 to 4194304 is possible"))?;
    if config.huge_pages != HugePages::Never {
        match Umem::new(umem_config, frames, true) {
            Ok((umem, descriptors)) => return Ok((umem, descriptors, true)),
            Err(error) if config.huge_pages == HugePages::Always => {
                return Err(no_memory(config, true, os_error(&error)));
            }
            Err(_) => tracing::debug!(interface = config.interface, "no huge pages for the UMEM"),
        }
    }
    Umem::new(umem_config, frames, false)
        .map(|(umem, descriptors)| (umem, descriptors, false))
        .map_err(|error| no_memory(config, false, os_error(&error)))
}

fn no_memory(config: &QueueConfig, huge_pages: bool, source: io::Error) -> OpenError {
    if source.raw_os_error() == Some(libc::EPERM) {
        return OpenError::NotPermitted { interface: config.interface.clone() };
    }
    let bytes = u64::from(config.frame_count) * u64::from(config.frame_size);
    OpenError::Umem { bytes, huge_pages, source }
}

/// What the kernel said, out of an error of xsk-rs.
fn os_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

type Bound = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Binds, and waits out EBUSY: the kernel unbinds a closed socket after a grace period.
fn bind(
    config: &QueueConfig,
    socket_config: SocketConfig,
    umem: &Umem,
) -> Result<Bound, OpenError> {
    let interface = config.interface.parse().map_err(|e| wrong(config, e))?;
    let started = Instant::now();
    loop {
        // SAFETY: the UMEM is used by this one socket, so its rings have no other user.
        let bound = unsafe { Socket::new(socket_config, umem, &interface, config.queue) };
        let error = match bound {
            Ok(bound) => return Ok(bound),
            Err(error) => os_error(&error),
        };
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(refused(config, error));
        }
        if started.elapsed() >= BUSY_WAIT {
            return Err(OpenError::Busy {
                interface: config.interface.clone(),
                queue: config.queue,
                waited: BUSY_WAIT,
            });
        }
        std::thread::sleep(BUSY_STEP);
    }
}

/// The mode that the socket got, by `XDP_OPTIONS`.
fn mode(fd: RawFd, request: ModeRequest) -> io::Result<Mode> {
    let mut options: u32 = 0;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and the length is that of the first.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_XDP,
            libc::XDP_OPTIONS,
            (&raw mut options).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match request {
        _ if options & libc::XDP_OPTIONS_ZEROCOPY != 0 => Mode::ZeroCopy,
        ModeRequest::Skb => Mode::Skb,
        _ => Mode::Copy,
    })
}

fn tune(fd: RawFd, config: &QueueConfig) -> io::Result<()> {
    if let Some(BusyPoll { microseconds, budget }) = config.busy_poll {
        set_option(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
        set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, clamp(microseconds))?;
        set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, clamp(budget))?;
    }
    // Both only help copy mode to send more a system call; the first is as new as Linux 6.17.
    let budget = clamp(config.tx_ring.min(1024));
    if let Err(error) = set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, budget) {
        tracing::debug!(%error, "no XDP_MAX_TX_SKB_BUDGET: 32 packets a system call");
    }
    if let Err(error) = set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER) {
        tracing::debug!(%error, "the send buffer stays as it is");
    }
    Ok(())
}

fn clamp(value: u32) -> libc::c_int {
    libc::c_int::try_from(value).unwrap_or(libc::c_int::MAX)
}

fn set_option(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a live value of the length that is given.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
