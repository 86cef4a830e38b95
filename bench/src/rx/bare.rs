//! The ceiling: an AF_XDP socket whose packets nobody looks at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir_lab::Bed;
use weir_xsk::ceiling::Ceiling;
use weir_xsk::kernel::AttachMode;
use weir_xsk::{QueueConfig, interface_index};

use super::receiver::Sample;
use super::scene::{RECEIVER_CORE, Scene, pin};

/// Receives for one window; called in Weir's namespace.
pub fn sample(scene: &Scene) -> anyhow::Result<Sample> {
    let interface = interface_index(Bed::WEIR_DEVICE)?;
    let config = QueueConfig::new(Bed::WEIR_DEVICE, 0);
    let mut ceiling = Ceiling::open(&config, interface, AttachMode::Native)?;
    scene.flooded(|| {
        let ends = [AtomicBool::new(false), AtomicBool::new(false)];
        thread::scope(|scope| {
            // Started before this thread is pinned: it must not share the core.
            scope.spawn(|| ring(&ends, [scene.warm_up, scene.window]));
            pin(RECEIVER_CORE)?;
            let [warm, done] = &ends;
            ceiling.bare_receive_loop(warm);
            let started = Instant::now();
            let received = ceiling.bare_receive_loop(done);
            Ok(Sample { received, elapsed: started.elapsed(), busy: None })
        })
    })
}

fn ring(ends: &[AtomicBool; 2], after: [Duration; 2]) {
    for (end, after) in ends.iter().zip(after) {
        thread::sleep(after);
        end.store(true, Ordering::Relaxed);
    }
}
