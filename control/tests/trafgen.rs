//! A generator that nobody here wrote, trafgen of netsniff-ng, against `weir run`: every datagram
//! is counted, or its loss is.

mod support;

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::peer::{
    PATIENCE, bed, binding, client, echoes, eventually, output, socket, transmitted,
};
use support::{Folder, Running, privileged};
use weir_lab::Bed;

/// Datagrams of a run.
const COUNT: u64 = 200_000;
/// Of a paced one, before Weir has taken them.
const BATCH: u64 = 20_000;
/// Payload bytes of a datagram.
const PAYLOAD: u64 = 18;
/// How long what is on its way may take.
const QUIET: Duration = Duration::from_millis(500);

/// One generator at a time: the machine has few processors, and a run is paced.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Rings that hold a whole batch: the worker may wait for its processor as long as it must.
const ROOMY: &str = "frames = 65536\nrx_ring = 32768\nfill_ring = 32768\n";
/// And these next to nothing, so that there is a loss to report.
const NARROW: &str = "frames = 1024\nrx_ring = 64\nfill_ring = 64\n";

fn config(rings: &str) -> String {
    [
        "[device]\nkind = \"xsk\"\ninterface = \"weir0\"\nqueues = \"all\"\n",
        rings,
        &binding("192.0.2.0/24", "\"all\""),
        &socket("sink", "192.0.2.1:9", "discard"),
        &socket("echo", "192.0.2.1:7", "echo"),
    ]
    .concat()
}

/// Has trafgen send so many datagrams to the socket "sink".
fn generate(bed: &Bed, count: u64) {
    let folder = Folder::new();
    let file = folder.path("udp.cfg");
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let packet = format!(
        "{{ eth(da={}, sa={}), ipv4(ttl=64, sa={}, da=192.0.2.1), udp(sp=4242, dp=9), \
         fill(0x57, {PAYLOAD}) }}\n",
        mac(bed.weir_mac()),
        mac(bed.peer_mac()),
        Bed::PEER_V4
    );
    fs::write(&file, packet).unwrap();
    // One process, and neither the system's socket memory nor its interrupts are touched.
    let mut command = bed.peer().command("trafgen");
    command.args([
        "--dev",
        Bed::PEER_DEVICE,
        "--cpus",
        "1",
        "--no-sock-mem",
        "--notouch-irq",
        "--no-cpu-stats",
    ]);
    command.args(["--num", &count.to_string(), "--conf"]).arg(&file);
    output(&mut command);
}

/// What the socket "sink" has, once no more comes.
fn settled(weir: &Running) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut last = weir.socket("sink").counters.received;
    loop {
        thread::sleep(QUIET);
        let now = weir.socket("sink").counters.received;
        if now == last {
            return now;
        }
        assert!(Instant::now() < deadline, "it never ends");
        last = now;
    }
}

/// Every frame that Weir received left by a door.
fn assert_balanced(weir: &Running) {
    let stats = weir.stats();
    assert_eq!(stats.total.received, stats.total.left(), "{stats:?}");
    for worker in &stats.workers {
        assert_eq!(worker.frames.held, 0, "{worker:?}");
        let frames = &worker.frames;
        assert_eq!(frames.total, frames.filling + frames.transmitting + frames.free, "{worker:?}");
    }
}

#[test]
fn every_datagram_of_a_paced_run_arrives() {
    if !privileged() {
        return;
    }
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = bed(1);
    let weir = Running::start(&bed, &config(ROOMY));
    for batch in 1..=COUNT / BATCH {
        generate(&bed, BATCH);
        let taken = || {
            weir.socket("sink").counters.received
                + weir.stats().ring_drops()
                + transmitted(&bed, "dropped")
        };
        eventually("the batch is taken", || taken() >= batch * BATCH);
    }
    let received = settled(&weir);
    let stats = weir.stats();
    let drops = transmitted(&bed, "dropped");
    assert_eq!(
        (received, stats.ring_drops(), drops),
        (COUNT, 0, 0),
        "received, dropped at the ring, dropped by veth: {stats:?}"
    );
    let counters = weir.socket("sink").counters;
    assert_eq!((counters.received_bytes, counters.sent), (COUNT * PAYLOAD, 0));
    assert_eq!(stats.total.delivered, COUNT);
    assert_eq!(stats.redirect.as_ref().unwrap().redirected, COUNT);
    assert_balanced(&weir);
    assert!(weir.terminate().status.success());
}

#[test]
fn every_loss_of_an_unpaced_run_is_reported() {
    if !privileged() {
        return;
    }
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = bed(1);
    let weir = Running::start(&bed, &config(NARROW));
    let before = (transmitted(&bed, "packets"), transmitted(&bed, "dropped"));
    generate(&bed, COUNT);
    let received = settled(&weir);
    let stats = weir.stats();
    // Where veth's own ring is full the generator's side counts a drop: it never reached us.
    let (sent, drops) =
        (transmitted(&bed, "packets") - before.0, transmitted(&bed, "dropped") - before.1);
    println!("{sent} sent, {drops} dropped by veth, {} at the ring", stats.ring_drops());
    assert_eq!(received + stats.ring_drops(), COUNT - drops, "{drops} dropped by veth: {stats:?}");
    assert!(received > 0);
    assert_balanced(&weir);
    assert!(echoes(&client(&bed, "192.0.2.1:7"), b"still there"), "{}", weir.log());
    assert!(weir.terminate().status.success());
}
