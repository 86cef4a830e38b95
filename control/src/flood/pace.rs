//! When a flood ends, and how fast it goes.

use std::time::{Duration, Instant};

use super::FloodRefusal;

/// Packets between two looks at the clock, where nothing is known of how fast it goes.
const STRIDE: u64 = 1 << 16;
/// Time between two looks at the clock, where no rate is kept: each call of live frames costs the
/// kernel some 20 ms in which nothing is sent.
const LOOK: Duration = Duration::from_millis(250);
/// Strides a second of a flood that has a rate.
const STRIDES_PER_SECOND: u64 = 200;
/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// When to end: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Packets.
    pub count: Option<u64>,
    /// Time.
    pub time: Duration,
    /// Packets a second; as fast as it goes if absent.
    pub rate: Option<u64>,
}

/// How far a flood is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Packets so far.
    pub sent: u64,
    /// Packets a second since the last word.
    pub rate: f64,
}

impl Bound {
    /// How many packets may go now, so long after the start; `None` at the end.
    pub(super) fn allowance(&self, elapsed: Duration, sent: u64) -> Option<u64> {
        let left = self.count.unwrap_or(u64::MAX).saturating_sub(sent);
        if left == 0 || elapsed >= self.time {
            return None;
        }
        let Some(rate) = self.rate else {
            let time = LOOK.min(self.time - elapsed).as_micros();
            let goes = u128::from(sent) * time / elapsed.as_micros().max(1);
            return Some(left.min((goes as u64).max(STRIDE)));
        };
        let due = (u128::from(rate) * elapsed.as_micros() / 1_000_000) as u64;
        let stride = (rate / STRIDES_PER_SECOND).clamp(1, STRIDE);
        Some((due + stride).saturating_sub(sent).min(left).min(STRIDE))
    }

    /// Calls `send` with how many may go, until the end.
    pub(super) fn pace(
        &self,
        tell: &mut dyn FnMut(Progress),
        mut send: impl FnMut(u64) -> Result<u64, FloodRefusal>,
    ) -> Result<Progress, FloodRefusal> {
        let mut telling = Telling::new();
        let mut sent = 0;
        while let Some(allowance) = self.allowance(telling.started.elapsed(), sent) {
            match allowance {
                0 => std::thread::sleep(Duration::from_millis(1)),
                _ => sent += send(allowance)?,
            }
            telling.tell(sent, tell);
        }
        Ok(telling.progress(sent))
    }
}

/// Tells progress once a second.
pub(super) struct Telling {
    pub started: Instant,
    last: Instant,
    last_sent: u64,
}

impl Telling {
    pub(super) fn new() -> Telling {
        let now = Instant::now();
        Telling { started: now, last: now, last_sent: 0 }
    }

    pub(super) fn tell(&mut self, sent: u64, tell: &mut dyn FnMut(Progress)) {
        if self.last.elapsed() >= TELL {
            tell(self.progress(sent));
            self.last = Instant::now();
            self.last_sent = sent;
        }
    }

    pub(super) fn progress(&self, sent: u64) -> Progress {
        let since = self.last.elapsed().as_secs_f64().max(1e-9);
        let rate = (sent - self.last_sent) as f64 / since;
        Progress { elapsed: self.started.elapsed(), sent, rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_flood_ends_by_count_or_by_time() {
        let bound = Bound { count: Some(100), time: SECOND, rate: None };
        assert_eq!(bound.allowance(Duration::ZERO, 0), Some(100));
        assert_eq!(bound.allowance(Duration::ZERO, 100), None);
        assert_eq!(bound.allowance(SECOND, 0), None);
        let endless = Bound { count: None, ..bound };
        assert_eq!(endless.allowance(Duration::ZERO, u64::MAX - 1), Some(1));
    }

    #[test]
    fn the_clock_is_looked_at_four_times_a_second_and_at_the_end() {
        let bound = Bound { count: None, time: 10 * SECOND, rate: None };
        assert_eq!(bound.allowance(Duration::ZERO, 0), Some(STRIDE));
        assert_eq!(bound.allowance(SECOND, 4_000_000), Some(1_000_000));
        assert_eq!(bound.allowance(9_900 * SECOND / 1000, 9_900_000), Some(100_000));
    }

    #[test]
    fn a_rate_is_kept() {
        let bound = Bound { count: None, time: 10 * SECOND, rate: Some(1000) };
        assert_eq!(bound.allowance(Duration::ZERO, 0), Some(5));
        assert_eq!(bound.allowance(SECOND, 1005), Some(0));
        assert_eq!(bound.allowance(2 * SECOND, 1000), Some(1005));
        let done = bound_for(Duration::from_millis(200), 1000).pace(&mut |_| {}, Ok).unwrap();
        // At most what is due and one stride; less where the machine is slow.
        assert!((50..=206).contains(&done.sent), "{done:?}");
    }

    fn bound_for(time: Duration, rate: u64) -> Bound {
        Bound { count: None, time, rate: Some(rate) }
    }
}
