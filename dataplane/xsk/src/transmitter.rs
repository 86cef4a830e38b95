//! A flood over an AF_XDP socket.

use std::time::{Duration, Instant};

use crate::frame::Frame;
use crate::queue::{BATCH, Queue};
use crate::template::Template;

/// How long the device may take nothing before the rest is given up.
const STALL: Duration = Duration::from_secs(1);

/// Sends a template's packets from a queue of its own.
pub struct Transmitter {
    queue: Queue,
    template: Template,
    batch: Vec<Frame>,
    turn: u64,
}

impl Transmitter {
    /// Takes the queue over.
    pub fn new(queue: Queue, template: Template) -> Transmitter {
        Transmitter { queue, template, batch: Vec::with_capacity(BATCH), turn: 0 }
    }

    /// Sends `count` packets, at most `rate` a second if one is given, and answers with how many
    /// the kernel has taken: fewer if it took none for a second.
    ///
    /// # Panics
    /// When the template is longer than the queue's frames can hold.
    pub fn send(&mut self, count: u64, rate: Option<u64>) -> u64 {
        let started = Instant::now();
        let mut progress = started;
        let mut sent = 0;
        while sent < count && progress.elapsed() < STALL {
            if rate.is_some_and(|rate| {
                u128::from(sent) * 1_000_000 > u128::from(rate) * started.elapsed().as_micros()
            }) {
                std::hint::spin_loop();
                progress = Instant::now();
                continue;
            }
            self.load((count - sent).min(BATCH as u64) as usize - self.batch.len());
            let taken = self.queue.transmit(&mut self.batch) as u64;
            sent += taken;
            if taken > 0 {
                progress = Instant::now();
            }
        }
        self.queue.recycle(&mut self.batch);
        sent
    }

    /// Waits until all that was sent is out, at most for `timeout`; `false` if it is not.
    pub fn flush(&mut self, timeout: Duration) -> bool {
        let started = Instant::now();
        while self.queue.balance().transmitting > 0 {
            if started.elapsed() >= timeout {
                return false;
            }
            self.queue.transmit(&mut self.batch);
        }
        true
    }

    /// The queue, for its counters.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    fn load(&mut self, packets: usize) {
        for _ in 0..packets {
            let Some(mut frame) = self.queue.take_free() else {
                return;
            };
            let fits = self.queue.replace(&mut frame, &self.template.frame);
            assert!(fits, "the template is longer than a frame");
            self.template.stamp(self.queue.bytes_mut(&mut frame), self.turn);
            self.turn += 1;
            self.batch.push(frame);
        }
    }
}
