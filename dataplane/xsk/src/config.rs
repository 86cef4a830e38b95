//! What a queue is asked to be, and what it got.

use std::fmt;

/// How a queue is to be opened.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// The interface's name, in the caller's network namespace.
    pub interface: String,
    /// The receive queue, from 0.
    pub queue: u32,
    /// What the kernel is asked for.
    pub mode: ModeRequest,
    /// Frames in the UMEM. More than the fill ring holds: the rest is for sending and for holding.
    pub frame_count: u32,
    /// Bytes a frame, a power of two, 2048 or 4096. 256 and `headroom` of them precede a packet.
    pub frame_size: u32,
    /// Bytes kept free ahead of a packet, beyond the kernel's own 256.
    pub headroom: u32,
    /// Entries of the fill ring, a power of two.
    pub fill_ring: u32,
    /// Entries of the completion ring, a power of two.
    pub completion_ring: u32,
    /// Entries of the receive ring, a power of two.
    pub rx_ring: u32,
    /// Entries of the transmit ring, a power of two.
    pub tx_ring: u32,
    /// Let this thread drive the device's interrupts' work (`SO_PREFER_BUSY_POLL`).
    pub busy_poll: Option<BusyPoll>,
    /// What backs the UMEM.
    pub huge_pages: HugePages,
}

impl QueueConfig {
    /// The usual: 4,096 frames of 2,048 bytes, rings of 2,048.
    pub fn new(interface: impl Into<String>, queue: u32) -> QueueConfig {
        QueueConfig {
            interface: interface.into(),
            queue,
            mode: ModeRequest::Auto,
            frame_count: 4096,
            frame_size: 2048,
            headroom: 0,
            fill_ring: 2048,
            completion_ring: 2048,
            rx_ring: 2048,
            tx_ring: 2048,
            busy_poll: None,
            huge_pages: HugePages::Auto,
        }
    }
}

/// What the kernel is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeRequest {
    /// Zero-copy if the driver has it, else copy. [`crate::Queue::mode`] says which it is.
    #[default]
    Auto,
    /// Zero-copy or an error.
    ZeroCopy,
    /// Copy, in the driver's XDP hook.
    Copy,
    /// Copy, from the generic XDP hook.
    Skb,
}

/// What the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The NIC writes into the UMEM.
    ZeroCopy,
    /// The kernel copies, in the driver's XDP hook.
    Copy,
    /// The kernel copies from an skb, in the generic XDP hook.
    Skb,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
            Mode::Skb => "skb",
        })
    }
}

/// Busy polling's two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long one system call may poll, in microseconds (`SO_BUSY_POLL`).
    pub microseconds: u32,
    /// Packets one poll may take (`SO_BUSY_POLL_BUDGET`).
    pub budget: u32,
}

/// What backs the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Huge pages if there are enough of them; [`crate::Queue::huge_pages`] says so.
    #[default]
    Auto,
    /// Huge pages or an error.
    Always,
    /// Pages of the usual size.
    Never,
}
