//! How far apart the two cores are at the moment: what one cache line costs to go across.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use super::scene::{RECEIVER_CORE, SENDER_CORE, pin};

/// Round trips of one attempt; the best of the attempts counts, since others use the cores too.
const TRIPS: u32 = 2000;
const ATTEMPTS: u32 = 7;

/// Nanoseconds that a line takes one way.
///
/// # Errors
/// When a core cannot be had.
pub fn core_to_core() -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ATTEMPTS {
        best = best.min(attempt()?);
    }
    Ok(best)
}

fn attempt() -> anyhow::Result<f64> {
    let ball = AtomicU32::new(0);
    // Each waits for its own parity: 0 is the sender's turn, 1 the receiver's.
    let play = |core: usize, turn: u32| {
        pin(core)?;
        let started = Instant::now();
        for trip in 0..TRIPS {
            let mine = 2 * trip + turn;
            while ball.load(Ordering::Acquire) != mine {
                std::hint::spin_loop();
            }
            ball.store(mine + 1, Ordering::Release);
        }
        anyhow::Ok(started.elapsed())
    };
    let elapsed = thread::scope(|scope| {
        let other = scope.spawn(|| play(RECEIVER_CORE, 1));
        let own = scope.spawn(|| play(SENDER_CORE, 0));
        let other = other.join().map_err(|_| anyhow::anyhow!("a player panicked"))??;
        own.join().map_err(|_| anyhow::anyhow!("a player panicked"))??;
        anyhow::Ok(other)
    })?;
    Ok(elapsed.as_nanos() as f64 / f64::from(2 * TRIPS))
}
