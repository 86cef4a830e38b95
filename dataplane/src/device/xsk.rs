//! An AF_XDP queue as a device.

use std::time::Duration;

use weir_xsk::{Frame, Queue};

use super::{Balance, Device, DeviceStatistics, Mode};

/// One AF_XDP socket on one queue of an interface.
pub struct XskDevice {
    queue: Queue,
}

impl XskDevice {
    /// A device over an open queue, which packets reach once the redirect program knows it.
    pub fn new(queue: Queue) -> XskDevice {
        XskDevice { queue }
    }
}

impl Device for XskDevice {
    type Frame = Frame;

    #[inline]
    fn receive(&mut self, into: &mut Vec<Frame>, limit: usize) -> usize {
        self.queue.receive(into, limit)
    }

    #[inline]
    fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        self.queue.transmit(frames)
    }

    #[inline]
    fn recycle(&mut self, frames: &mut Vec<Frame>) {
        self.queue.recycle(frames);
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.queue.bytes(frame)
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.queue.bytes_mut(frame)
    }

    fn shrink(&mut self, frame: &mut Frame, start: usize, length: usize) {
        self.queue.shrink(frame, start, length);
    }

    fn replace(&mut self, frame: &mut Frame, packet: &[u8]) -> bool {
        self.queue.replace(frame, packet)
    }

    #[inline]
    fn prefetch(&self, frame: &Frame) {
        self.queue.prefetch(frame);
    }

    #[inline]
    fn balance(&self) -> Balance {
        let balance = self.queue.balance();
        Balance {
            total: balance.total,
            filling: balance.filling,
            transmitting: balance.transmitting,
            free: balance.free,
        }
    }

    fn wait(&mut self, timeout: Duration) {
        if self.queue.wait(timeout).is_err() {
            // poll(2) fails for lack of memory only: sleep all the same, not to spin.
            std::thread::sleep(timeout);
        }
    }

    fn mode(&self) -> Mode {
        match self.queue.mode() {
            weir_xsk::Mode::ZeroCopy => Mode::ZeroCopy,
            weir_xsk::Mode::Copy => Mode::Copy,
            weir_xsk::Mode::Skb => Mode::Skb,
        }
    }

    fn statistics(&mut self) -> DeviceStatistics {
        let Ok(kernel) = self.queue.statistics() else { return DeviceStatistics::default() };
        DeviceStatistics {
            rx_dropped: kernel.rx_dropped,
            rx_ring_full: kernel.rx_ring_full,
            fill_ring_empty: kernel.fill_ring_empty,
            rx_invalid_descriptors: kernel.rx_invalid_descriptors,
            tx_invalid_descriptors: kernel.tx_invalid_descriptors,
            tx_ring_empty: kernel.tx_ring_empty,
            descriptors_refused: kernel.descriptors_refused,
        }
    }
}
