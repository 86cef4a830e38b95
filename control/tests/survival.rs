//! SIGKILL under a flood of live frames, again and again: the kernel takes the interface back, its
//! own connection over it never breaks, and the next Weir serves as the first did.

mod support;

use std::time::{Duration, Instant};

use support::peer::{
    Background, DEVICE, PATIENCE, bed, binding, carries, client, echoes, eventually,
    kernel_connection, socket, xdp_program,
};
use support::{Running, privileged};
use weir_lab::Bed;

/// Kills.
const KILLS: u32 = 20;
/// Longest time that the flood may last, whatever becomes of the test.
const FLOOD_SECONDS: &str = "150";

fn config() -> String {
    [
        DEVICE.into(),
        binding("192.0.2.0/24", "\"all\""),
        socket("sink", "192.0.2.9:9", "discard"),
        socket("echo", "192.0.2.1:7", "echo"),
    ]
    .concat()
}

/// An unbounded rate of XDP frames into the socket "sink", from a process of its own.
fn flood(bed: &Bed) -> Background {
    let mut command = bed.peer().command(env!("CARGO_BIN_EXE_weir"));
    command.args(["flood", "--interface", Bed::PEER_DEVICE, "--destination", "192.0.2.9"]);
    Background::start(command.args(["--port", "9", "--seconds", FLOOD_SECONDS]))
}

/// Whether an echo comes back in the end: the flood may take a datagram's place in the ring.
fn serves(bed: &Bed) -> bool {
    let client = client(bed, "192.0.2.1:7");
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut tries = (0..u32::MAX).take_while(|_| Instant::now() < deadline);
    tries.any(|number| echoes(&client, &number.to_be_bytes()))
}

#[test]
fn killed_under_flood_it_leaves_nothing_and_starts_again() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let mut stream = kernel_connection(&bed, 5201);
    assert!(carries(&mut stream, b"before the first start"));
    let mut flood = flood(&bed);
    for round in 0..KILLS {
        assert!(carries(&mut stream, &round.to_be_bytes()), "round {round}: before the start");
        let weir = Running::start(&bed, &config());
        assert!(xdp_program(&bed).is_some(), "round {round}: nothing is attached");
        assert!(serves(&bed), "round {round}: no echo: {}", weir.log());
        eventually("the flood arrives", || weir.socket("sink").counters.received > 10_000);
        assert!(carries(&mut stream, &[round as u8; 4096]), "round {round}: while Weir runs");
        let stats = weir.stats();
        assert_eq!(stats.total.received, stats.total.left(), "round {round}: {stats:?}");
        assert!(flood.runs(), "round {round}: the flood has ended");
        weir.kill();
        assert_eq!(xdp_program(&bed), None, "round {round}: the XDP program is left behind");
        assert!(carries(&mut stream, &round.to_le_bytes()), "round {round}: after the kill");
    }
    drop(flood);
    // And one that is asked to go, after all those that were not.
    let weir = Running::start(&bed, &config());
    assert!(serves(&bed), "{}", weir.log());
    assert!(weir.terminate().status.success());
    assert_eq!(xdp_program(&bed), None);
}
