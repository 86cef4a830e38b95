//! Receives a flood of live frames over veth, in turns by the bare loop and by a `Queue`, and says
//! what each took: `cargo run --release -p weir-xsk --example receive_rate [ROUNDS] [FRAMES]`.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use weir_lab::{Bed, BedOptions};
use weir_xsk::ceiling::Ceiling;
use weir_xsk::kernel::AttachMode;
use weir_xsk::{
    Binding, FloodPattern, FloodTraffic, LiveFrames, Protocol, Queue, QueueConfig, Redirect,
    Template, interface_index,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let rounds = arguments.next().unwrap_or(Ok(5))?;
    let frames = arguments.next().unwrap_or(Ok(4_000_000))?;
    let bed = Bed::new(BedOptions::default())?;
    for round in 0..rounds {
        let bare = run(&bed, frames, |bed, stop| {
            let mut ceiling = bed
                .weir()
                .enter(|| Ceiling::open(&config(), index(), AttachMode::Native))
                .expect("a bare socket");
            move || ceiling.bare_receive_loop(stop)
        });
        let queue = run(&bed, frames, |bed, stop| {
            let (redirect, mut queue) = bed.weir().enter(open);
            move || {
                let _redirect = redirect;
                receive(&mut queue, stop)
            }
        });
        println!("round {round}: bare {bare}   queue {queue}");
    }
    Ok(())
}

fn config() -> QueueConfig {
    QueueConfig::new(Bed::WEIR_DEVICE, 0)
}

fn index() -> u32 {
    interface_index(Bed::WEIR_DEVICE).expect("the bed's interface")
}

fn open() -> (Redirect, Queue) {
    let mut redirect = Redirect::attach(index(), Some(AttachMode::Native)).expect("a redirect");
    let queue = Queue::open(&config()).expect("a queue");
    redirect.register(&queue).expect("a registered queue");
    let prefix = ("192.0.2.0".parse().expect("an address"), 24);
    let binding = Binding::new(prefix, Protocol::Udp, Some(7)).expect("a binding");
    redirect.bind(&binding).expect("a bound prefix");
    (redirect, queue)
}

fn receive(queue: &mut Queue, stop: &AtomicBool) -> u64 {
    let mut batch = Vec::with_capacity(64);
    let mut received = 0;
    while !stop.load(Ordering::Relaxed) {
        received += queue.receive(&mut batch, 64) as u64;
        queue.recycle(&mut batch);
    }
    received
}

/// Floods what `receiver` opens; sender and receiver have a core each.
fn run<'a, R: FnOnce() -> u64 + Send>(
    bed: &Bed,
    frames: u64,
    receiver: impl FnOnce(&Bed, &'a AtomicBool) -> R,
) -> String {
    let stop: &AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let receive = receiver(bed, stop);
    let cores = core_affinity::get_core_ids().expect("a list of cores");
    let template = Template::new(&FloodTraffic {
        pattern: FloodPattern::Udp4,
        source_mac: bed.peer_mac(),
        destination_mac: bed.weir_mac(),
        source: Bed::PEER_V4.into(),
        destination: "192.0.2.1".parse().expect("an address"),
        destination_port: 7,
        first_port: 1024,
        ports: 10_000,
        random_bits: 0,
        payload: 0,
    })
    .expect("a template");
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            bed.peer().enter(|| {
                core_affinity::set_for_current(cores[0]);
                let index = interface_index(Bed::PEER_DEVICE).expect("the bed's interface");
                let mut flood = LiveFrames::new(index, &template).expect("a flood");
                let started = Instant::now();
                let sent = flood.send(frames).expect("frames sent");
                let took = started.elapsed().as_secs_f64();
                stop.store(true, Ordering::Relaxed);
                (sent, took)
            })
        });
        let last = *cores.last().expect("a core");
        let receiver = scope.spawn(move || {
            core_affinity::set_for_current(last);
            receive()
        });
        let (sent, took) = sender.join().expect("the sender");
        let received = receiver.join().expect("the receiver");
        let rate = |count: u64| count as f64 / took / 1e6;
        format!("{:.2} of {:.2} Mpps", rate(received), rate(sent))
    })
}
