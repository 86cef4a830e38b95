//! Rings in memory, fed by a generator, a benchmark or a test. No privileges.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::{Balance, Device, DeviceStatistics, Mode};
use crate::prefetch;

/// Bytes of one frame.
pub const FRAME_SIZE: usize = 2048;
/// Frames of one device.
pub const FRAMES: usize = 1024;

/// Where packets come from and go to.
pub trait Wire {
    /// Writes the next packet into `buffer` and returns its length; 0 when there is none now.
    fn next(&mut self, buffer: &mut [u8]) -> usize;
    /// Takes a packet that was sent; `false` when there is no room for it now.
    fn sent(&mut self, packet: &[u8]) -> bool;
    /// Sleeps until there may be something.
    fn wait(&mut self, timeout: Duration);
    /// What the device over this wire calls itself.
    fn mode(&self) -> Mode {
        Mode::Memory
    }
}

/// One buffer.
#[derive(Debug)]
pub struct MemoryFrame {
    number: u32,
    start: u16,
    length: u16,
}

/// A device over a [`Wire`].
#[derive(Debug)]
pub struct MemoryDevice<W> {
    wire: W,
    buffers: Box<[u8]>,
    free: Vec<MemoryFrame>,
}

impl<W: Wire> MemoryDevice<W> {
    /// A device of [`FRAMES`] frames.
    pub fn new(wire: W) -> MemoryDevice<W> {
        let frame = |number| MemoryFrame { number, start: 0, length: 0 };
        MemoryDevice {
            wire,
            buffers: vec![0; FRAMES * FRAME_SIZE].into_boxed_slice(),
            free: (0..FRAMES as u32).map(frame).collect(),
        }
    }

    /// The wire, to look at what a test's generator has done.
    pub fn wire(&self) -> &W {
        &self.wire
    }
}

impl MemoryFrame {
    fn whole(&self) -> std::ops::Range<usize> {
        let start = self.number as usize * FRAME_SIZE;
        start..start + FRAME_SIZE
    }

    fn packet(&self) -> std::ops::Range<usize> {
        let start = self.whole().start + usize::from(self.start);
        start..start + usize::from(self.length)
    }
}

impl<W: Wire> Device for MemoryDevice<W> {
    type Frame = MemoryFrame;

    fn receive(&mut self, into: &mut Vec<MemoryFrame>, limit: usize) -> usize {
        let room = limit.min(into.capacity() - into.len());
        for received in 0..room {
            let Some(frame) = self.free.last_mut() else { return received };
            let length = self.wire.next(&mut self.buffers[frame.whole()]);
            if length == 0 {
                return received;
            }
            assert!(length <= FRAME_SIZE, "a wire wrote beyond the frame");
            frame.start = 0;
            frame.length = length as u16;
            into.extend(self.free.pop());
        }
        room
    }

    fn transmit(&mut self, frames: &mut Vec<MemoryFrame>) -> usize {
        let mut accepted = 0;
        for frame in &*frames {
            if !self.wire.sent(&self.buffers[frame.packet()]) {
                break;
            }
            accepted += 1;
        }
        self.free.extend(frames.drain(..accepted));
        accepted
    }

    fn recycle(&mut self, frames: &mut Vec<MemoryFrame>) {
        self.free.append(frames);
    }

    fn bytes<'a>(&'a self, frame: &'a MemoryFrame) -> &'a [u8] {
        &self.buffers[frame.packet()]
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut MemoryFrame) -> &'a mut [u8] {
        &mut self.buffers[frame.packet()]
    }

    fn shrink(&mut self, frame: &mut MemoryFrame, start: usize, length: usize) {
        assert!(start + length <= usize::from(frame.length), "a part outside of the packet");
        frame.start += start as u16;
        frame.length = length as u16;
    }

    fn replace(&mut self, frame: &mut MemoryFrame, packet: &[u8]) -> bool {
        if packet.len() > FRAME_SIZE {
            return false;
        }
        let start = frame.whole().start;
        self.buffers[start..start + packet.len()].copy_from_slice(packet);
        frame.start = 0;
        frame.length = packet.len() as u16;
        true
    }

    fn prefetch(&self, frame: &MemoryFrame) {
        prefetch::read(&self.buffers[frame.packet().start]);
    }

    fn balance(&self) -> Balance {
        Balance { total: FRAMES as u64, free: self.free.len() as u64, ..Balance::default() }
    }

    fn wait(&mut self, timeout: Duration) {
        self.wire.wait(timeout);
    }

    fn mode(&self) -> Mode {
        self.wire.mode()
    }

    fn statistics(&mut self) -> DeviceStatistics {
        DeviceStatistics::default()
    }
}

/// Packets that one direction of a [`PortWire`] holds.
const PORT_PACKETS: usize = 1024;

/// One direction: filled buffers one way, empty ones back, so that neither end allocates.
#[derive(Debug)]
struct Lane {
    filled: ArrayQueue<Vec<u8>>,
    empty: ArrayQueue<Vec<u8>>,
}

impl Lane {
    fn new() -> Arc<Lane> {
        let lane =
            Lane { filled: ArrayQueue::new(PORT_PACKETS), empty: ArrayQueue::new(PORT_PACKETS) };
        for _ in 0..PORT_PACKETS {
            lane.give_back(Vec::with_capacity(FRAME_SIZE));
        }
        Arc::new(lane)
    }

    fn give_back(&self, buffer: Vec<u8>) {
        assert!(self.empty.push(buffer).is_ok(), "as many places as buffers");
    }

    fn send(&self, packet: &[u8]) -> bool {
        if packet.is_empty() || packet.len() > FRAME_SIZE {
            return false;
        }
        let Some(mut buffer) = self.empty.pop() else { return false };
        buffer.clear();
        buffer.extend_from_slice(packet);
        assert!(self.filled.push(buffer).is_ok(), "as many places as buffers");
        true
    }

    /// Copies the next packet to `into`; its length, or 0 when there is none.
    fn receive(&self, into: &mut [u8]) -> usize {
        let Some(buffer) = self.filled.pop() else { return 0 };
        let length = buffer.len();
        into[..length].copy_from_slice(&buffer);
        self.give_back(buffer);
        length
    }
}

/// The device's end of an in-memory wire whose other end is a [`MemoryPort`].
#[derive(Debug)]
pub struct PortWire {
    inward: Arc<Lane>,
    outward: Arc<Lane>,
}

/// The far end of the wire: sends to the device, receives what it sent.
#[derive(Clone, Debug)]
pub struct MemoryPort {
    inward: Arc<Lane>,
    outward: Arc<Lane>,
}

impl MemoryPort {
    /// A wire: its far end and the device's.
    pub fn pair() -> (MemoryPort, PortWire) {
        let (inward, outward) = (Lane::new(), Lane::new());
        let port = MemoryPort { inward: inward.clone(), outward: outward.clone() };
        (port, PortWire { inward, outward })
    }

    /// Sends a packet to the device; `false` when the wire is full or the packet too long.
    pub fn send(&self, packet: &[u8]) -> bool {
        self.inward.send(packet)
    }

    /// The next packet that the device sent.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; FRAME_SIZE];
        let length = self.outward.receive(&mut packet);
        packet.truncate(length);
        (length > 0).then_some(packet)
    }
}

impl Wire for PortWire {
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        self.inward.receive(buffer)
    }

    fn sent(&mut self, packet: &[u8]) -> bool {
        self.outward.send(packet)
    }

    fn wait(&mut self, timeout: Duration) {
        if self.inward.filled.is_empty() {
            std::thread::sleep(timeout.min(Duration::from_micros(200)));
        }
    }
}
