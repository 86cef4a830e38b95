//! What AF_XDP gives: to a loop that looks at no packet, and to one that reads a byte of each.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir_lab::Bed;
use weir_xsk::ceiling::Ceiling;
use weir_xsk::kernel::AttachMode;
use weir_xsk::{BATCH, Binding, Protocol, Queue, QueueConfig, Redirect, interface_index};

use super::receiver::Sample;
use super::scene::{PORT, RECEIVER_CORE, Scene, pin};

/// Receives for one window and looks at nothing; called in Weir's namespace.
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
            Ok(Sample { received, elapsed: started.elapsed(), busy: None, recalled: 0 })
        })
    })
}

/// Receives for one window, through the redirect program and the queue that Weir has, and reads
/// one byte of each packet: the sender's core must fetch that cache line back before it can fill
/// the frame again, and that is what any receiver costs which reads its packets at all.
pub fn read_sample(scene: &Scene) -> anyhow::Result<Sample> {
    let (mut queue, redirect) = redirected(scene)?;
    let sample = scene.flooded(|| {
        pin(RECEIVER_CORE)?;
        let mut frames = Vec::with_capacity(BATCH);
        let mut receive_for = |time: Duration| {
            let started = Instant::now();
            let mut received = 0;
            while started.elapsed() < time {
                received += queue.receive(&mut frames, BATCH) as u64;
                for frame in &frames {
                    black_box(queue.bytes(frame).first().copied());
                }
                queue.recycle(&mut frames);
            }
            Sample { received, elapsed: started.elapsed(), busy: None, recalled: 0 }
        };
        receive_for(scene.warm_up);
        Ok(receive_for(scene.window))
    });
    // Nothing is redirected to a socket that is gone.
    drop(redirect);
    sample
}

/// The queue and the program as Weir has them, bound to where the flood goes.
pub fn redirected(scene: &Scene) -> anyhow::Result<(Queue, Redirect)> {
    let queue = Queue::open(&QueueConfig::new(Bed::WEIR_DEVICE, 0))?;
    let mut redirect =
        Redirect::attach(interface_index(Bed::WEIR_DEVICE)?, Some(AttachMode::Native))?;
    let length = if scene.is_ipv6() { 128 } else { 32 };
    let protocol = if scene.is_tcp() { Protocol::Tcp } else { Protocol::Udp };
    redirect.bind(&Binding::new((scene.destination(), length), protocol, Some(PORT))?)?;
    redirect.register(&queue)?;
    Ok((queue, redirect))
}

fn ring(ends: &[AtomicBool; 2], after: [Duration; 2]) {
    for (end, after) in ends.iter().zip(after) {
        thread::sleep(after);
        end.store(true, Ordering::Relaxed);
    }
}
