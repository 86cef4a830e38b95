//! A changed configuration under a steady stream: what stays loses nothing, what comes is served,
//! what goes is the kernel's again, and what is wrong changes nothing.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::peer::{
    DEVICE, bed, binding, client, echoes, eventually, kernel_answers, kernel_echo, socket,
};
use support::{Ended, Running, privileged, weir};

/// Time between two datagrams of the stream.
const GAP: Duration = Duration::from_millis(1);
/// Datagrams of the stream, at most.
const STREAM_MAX: u32 = 60_000;
/// Rounds of comings and goings.
const ROUNDS: u32 = 10;

/// What stays in all of them.
fn lasting() -> String {
    [
        DEVICE.into(),
        "[control]\nsocket = \"{socket}\"\n".into(),
        binding("192.0.2.0/24", "7"),
        socket("lasting", "192.0.2.1:7", "echo"),
    ]
    .concat()
}

/// A socket that is reached by its address, one that a program steers to, and the kernel's port.
fn passing() -> String {
    [
        binding("198.51.100.0/24", "80"),
        binding("10.77.0.1/32", "9"),
        socket("passing", "10.77.0.1:9", "echo"),
        socket("web", "127.0.0.1:8080", "echo"),
        "[[program]]\nobject = \"builtin:steer\"\nname = \"steer\"\n\
         [[program.entry]]\nmap = \"sockets\"\nkey = 0\nsocket = \"web\"\n\
         [[program.entry]]\nmap = \"bindings\"\nvalue = 0\n\
         binding = { prefix = \"198.51.100.0/24\", protocol = \"udp\", port = 80 }\n"
            .into(),
    ]
    .concat()
}

/// Writes the configuration anew; the control socket stays.
fn rewrite(running: &Running, text: &str) {
    let socket = running.client().socket().display().to_string();
    fs::write(running.config(), text.replace("{socket}", &socket)).unwrap();
}

fn reload(running: &Running) -> Ended {
    weir(&["reload", "--socket", running.client().socket().to_str().unwrap()])
}

fn success_metric(running: &Running) -> String {
    let text = running.client().read_text("/metrics").unwrap();
    let line = text.lines().find(|line| line.starts_with("weir_config_last_reload_success "));
    line.expect("the metric is exported").to_owned()
}

/// Numbered datagrams, one a [`GAP`], until told to stop; gives how many went.
fn stream(socket: &UdpSocket, stop: &AtomicBool) -> u32 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) && number < STREAM_MAX {
        socket.send(&number.to_be_bytes()).unwrap();
        number += 1;
        thread::sleep(GAP);
    }
    number
}

/// The numbers that came back, until none comes for a while after the end.
fn answers(socket: &UdpSocket, stop: &AtomicBool) -> BTreeSet<u32> {
    let mut buffer = [0; 16];
    let mut numbers = BTreeSet::new();
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        match socket.recv(&mut buffer) {
            Ok(4) => {
                let number = u32::from_be_bytes(buffer[..4].try_into().unwrap());
                assert!(numbers.insert(number), "{number} was answered twice");
            }
            Ok(length) => panic!("an answer of {length} bytes"),
            Err(_) if stopped => return numbers,
            Err(_) => {}
        }
    }
}

/// Ends the stream when dropped: what fails must not leave it running.
struct EndOfStream<'a>(&'a AtomicBool);

impl Drop for EndOfStream<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is passing comes, by command or by signal, and goes.
fn come_and_go(weir: &Running, round: u32, passing_client: &UdpSocket, web_client: &UdpSocket) {
    assert!(kernel_answers(passing_client, b"not yet"), "round {round}");
    rewrite(weir, &(lasting() + &passing()));
    if round.is_multiple_of(2) {
        assert!(reload(weir).status.success(), "{}", weir.log());
    } else {
        weir.signal(Signal::SIGHUP);
        // The file must not change again before it has been read.
        eventually("the reload by signal", || weir.stats().programs.len() == 1);
    }
    assert!(echoes(passing_client, b"now"), "round {round}: {}", weir.log());
    assert!(echoes(web_client, b"steered"), "round {round}: {}", weir.log());
    rewrite(weir, &lasting());
    let ended = reload(weir);
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn a_stream_to_what_stays_loses_nothing() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    kernel_echo(&bed, "10.77.0.1:9");
    let weir = Running::start(&bed, &lasting());
    let id = weir.socket("lasting").id;
    let steady = client(&bed, "192.0.2.1:7");
    steady.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (passing_client, web_client) =
        (client(&bed, "10.77.0.1:9"), client(&bed, "198.51.100.7:80"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| stream(&steady, &stop));
        let receiver = scope.spawn(|| answers(&steady, &stop));
        let end = EndOfStream(&stop);
        for round in 0..ROUNDS {
            come_and_go(&weir, round, &passing_client, &web_client);
        }
        drop(end);
        let (sent, answered) = (sender.join().unwrap(), receiver.join().unwrap());
        let lost: Vec<u32> = (0..sent).filter(|number| !answered.contains(number)).collect();
        assert!(sent > 100 && lost.is_empty(), "of {sent} these are lost: {lost:?}");
    });
    assert_eq!(weir.socket("lasting").id, id, "the socket has been opened anew");
    assert!(kernel_answers(&passing_client, b"the kernel's again"), "{}", weir.log());
    assert!(weir.terminate().status.success());
}

#[test]
fn a_bad_configuration_is_refused_with_its_line_and_the_old_goes_on() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let weir = Running::start(&bed, &(lasting() + &passing()));
    let clients = [client(&bed, "192.0.2.1:7"), client(&bed, "198.51.100.7:80")];
    let serves = || clients.iter().all(|client| echoes(client, b"the old goes on"));
    assert_eq!(success_metric(&weir), "weir_config_last_reload_success 1");
    let host_bits = lasting() + "[[bind]]\nprefix = \"203.0.113.1/24\"\nprotocol = \"udp\"\n";
    let unknown_key = lasting() + "[[bind]]\nprefix = \"203.0.113.0/24\"\nprotocl = \"udp\"\n";
    let other_ring = lasting().replace("kind =", "rx_ring = 4096\nkind =");
    let missing = lasting() + "[[program]]\nobject = \"none.o\"\nname = \"steer\"\n";
    let line_of =
        |text: &str, what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
    for (text, what) in [
        (&host_bits, "203.0.113.1/24"),
        (&unknown_key, "protocl"),
        (&other_ring, "[device]"),
        (&missing, "none.o"),
    ] {
        rewrite(&weir, text);
        let refusal = reload(&weir);
        let place = format!("weir.toml:{}: ", line_of(text, what));
        assert_eq!(refusal.status.code(), Some(1), "{what}: {refusal:?}");
        assert!(refusal.stderr.starts_with("error: "), "{what}: {}", refusal.stderr);
        assert!(refusal.stderr.contains(&place), "{what}: no {place}: {}", refusal.stderr);
        assert!(refusal.stderr.contains("\nhelp: "), "{what}: {}", refusal.stderr);
        assert_eq!(success_metric(&weir), "weir_config_last_reload_success 0", "{what}");
        assert!(serves(), "{what}: {}", weir.log());
    }
    let before = weir.log().len();
    rewrite(&weir, &host_bits);
    weir.signal(Signal::SIGHUP);
    let place = format!("weir.toml:{}: ", line_of(&host_bits, "203.0.113.1/24"));
    eventually("the refusal is logged", || weir.log()[before..].contains(&place));
    assert!(serves(), "{}", weir.log());

    rewrite(&weir, &lasting());
    assert!(reload(&weir).status.success());
    assert_eq!(success_metric(&weir), "weir_config_last_reload_success 1");
    assert!(echoes(&clients[0], b"the new goes on"), "{}", weir.log());
    assert!(!echoes(&clients[1], b"gone"), "a removed binding is served");
    assert_eq!(weir.stats().workers[0].sockets, 1);
}
