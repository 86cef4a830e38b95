//! The port to whatever moves frames, and the devices that fill it.

use std::time::Duration;

pub mod memory;
pub mod pcap;
pub mod xsk;

/// Where a device's frames are; nothing else exists. `total` never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// All frames of the device.
    pub total: u64,
    /// Given to the device to receive into, or received and not yet taken.
    pub filling: u64,
    /// Given to the device to send, and not yet back.
    pub transmitting: u64,
    /// In the device's own hand.
    pub free: u64,
}

impl Balance {
    /// Frames that the worker must be holding.
    pub fn held(&self) -> u64 {
        self.total - self.filling - self.transmitting - self.free
    }
}

/// How the device moves frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// AF_XDP, the NIC writes into our memory.
    ZeroCopy,
    /// AF_XDP, the driver's XDP hook, the kernel copies.
    Copy,
    /// AF_XDP, the generic XDP hook, the kernel copies from an skb.
    Skb,
    /// Rings in memory.
    Memory,
    /// A capture file.
    Pcap,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 5] = [Mode::ZeroCopy, Mode::Copy, Mode::Skb, Mode::Memory, Mode::Pcap];

    /// The label in metrics and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
            Mode::Skb => "skb",
            Mode::Memory => "memory",
            Mode::Pcap => "pcap",
        }
    }
}

/// What the kernel says of an AF_XDP socket (`struct xdp_statistics`), and what we saw ourselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// Dropped for other reasons.
    pub rx_dropped: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times that no frame was in the fill ring.
    pub fill_ring_empty: u64,
    /// Bad descriptors in the fill ring.
    pub rx_invalid_descriptors: u64,
    /// Bad descriptors in the transmit ring.
    pub tx_invalid_descriptors: u64,
    /// Times that the transmit ring was empty.
    pub tx_ring_empty: u64,
    /// Descriptors from the kernel that pointed outside of a frame, refused by us.
    pub descriptors_refused: u64,
}

/// Receives, transmits and recycles frames in batches. Monomorphised into the worker: no call of
/// these is virtual, none makes a system call a packet, none allocates.
pub trait Device {
    /// One buffer that holds a packet. Neither `Clone` nor `Copy`: it is in one place.
    type Frame;

    /// Appends up to `limit` received frames, never beyond the vector's capacity.
    fn receive(&mut self, into: &mut Vec<Self::Frame>, limit: usize) -> usize;
    /// Takes frames from the front of `frames` as far as the device accepts them.
    fn transmit(&mut self, frames: &mut Vec<Self::Frame>) -> usize;
    /// Takes all of `frames` back.
    fn recycle(&mut self, frames: &mut Vec<Self::Frame>);
    /// The packet.
    fn bytes<'a>(&'a self, frame: &'a Self::Frame) -> &'a [u8];
    /// The packet, to be changed in place.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Self::Frame) -> &'a mut [u8];
    /// Makes the part `start..start + length` of the packet the whole of it.
    ///
    /// # Panics
    /// When the part is not inside the packet.
    fn shrink(&mut self, frame: &mut Self::Frame, start: usize, length: usize);
    /// Replaces the packet; `false`, and nothing changed, if it does not fit the frame.
    fn replace(&mut self, frame: &mut Self::Frame, packet: &[u8]) -> bool;
    /// Asks the processor for the packet's headers.
    fn prefetch(&self, frame: &Self::Frame);
    /// Where the frames are.
    fn balance(&self) -> Balance;
    /// Sleeps until there may be something to receive, or for the time-out.
    fn wait(&mut self, timeout: Duration);
    /// How frames move.
    fn mode(&self) -> Mode;
    /// What the kernel says; zeroes where there is no kernel.
    fn statistics(&mut self) -> DeviceStatistics;
}
