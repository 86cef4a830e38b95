//! `weir run` on AF_XDP, in a lab: it serves, it says what is wrong, it goes without a trace.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::{Running, privileged};
use weir_lab::{Bed, BedOptions};

const DEVICE: &str = "[device]\nkind = \"xsk\"\ninterface = \"weir0\"\n";
const ECHO: &str = "[[bind]]\nprefix = \"192.0.2.0/24\"\nprotocol = \"udp\"\nport = 7\n\
    [[socket]]\nname = \"echo\"\naddress = \"0.0.0.0:7\"\nservice = \"echo\"\n";

fn bed(queues: u32) -> Bed {
    Bed::new(BedOptions { queues, ..BedOptions::default() }).unwrap()
}

/// A kernel socket in the peer's namespace that is connected to the address.
fn client(bed: &Bed, address: &str) -> UdpSocket {
    let socket = bed.peer().enter(|| {
        let socket = UdpSocket::bind("10.77.0.2:0").unwrap();
        socket.connect(address).unwrap();
        socket
    });
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Whether a datagram comes back as it was sent.
fn echoes(socket: &UdpSocket, payload: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    // An ICMP error of an earlier datagram may come out of either call.
    let _ = socket.send(payload);
    matches!(socket.recv(&mut buffer), Ok(length) if buffer[..length] == *payload)
}

fn refused(config: &str, bed: &Bed) -> String {
    match Running::start_in(Some(bed.weir()), config) {
        Ok(_) => panic!("weir took a configuration that it should have refused"),
        Err(ended) => {
            assert_eq!(ended.status.code(), Some(1), "{ended:?}");
            ended.stderr
        }
    }
}

#[test]
fn datagrams_are_answered_and_counted_to_the_last() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let weir = Running::start(&bed, &format!("{DEVICE}{ECHO}"));
    assert!(weir.announcement()[0].contains("weir0 queue 0, mode copy"));
    let socket = client(&bed, "192.0.2.9:7");
    for number in 0..100u8 {
        assert!(echoes(&socket, &[number; 33]), "datagram {number}: {}", weir.log());
    }
    let stats = weir.stats();
    assert_eq!((stats.total.received, stats.total.answered), (100, 100), "{stats:?}");
    assert_eq!(stats.redirect.as_ref().unwrap().redirected, 100);
    assert_eq!(weir.socket("echo").counters.received_bytes, 3300);
    let ended = weir.terminate();
    assert!(ended.status.success(), "{ended:?}");
    let last = ended.stdout.last().unwrap();
    assert!(last.contains("received 100, delivered 0, answered 100"), "{last}");
    let link = bed.weir().command("ip").args(["link", "show", "weir0"]).output().unwrap();
    let link = String::from_utf8(link.stdout).unwrap();
    assert!(!link.contains("xdp"), "the XDP program is still there: {link}");
}

#[test]
fn a_reload_loses_nothing_of_what_stays() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let weir = Running::start(&bed, &format!("{DEVICE}{ECHO}"));
    let (stays, comes) = (client(&bed, "192.0.2.9:7"), client(&bed, "198.51.100.1:9"));
    assert!(!echoes(&comes, b"too early"));
    let text = fs::read_to_string(weir.config()).unwrap();
    let more = "[[bind]]\nprefix = \"198.51.100.1\"\nprotocol = \"udp\"\nport = 9\n\
        [[socket]]\nname = \"more\"\naddress = \"198.51.100.1:9\"\nservice = \"echo\"\n";
    let mut reloads = 0;
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let next = if reloads % 2 == 0 { format!("{text}{more}") } else { text.clone() };
        fs::write(weir.config(), next).unwrap();
        weir.signal(Signal::SIGHUP);
        for number in 0..50u8 {
            assert!(echoes(&stays, &[number]), "lost after {reloads} reloads: {}", weir.log());
        }
        reloads += 1;
    }
    fs::write(weir.config(), format!("{text}{more}")).unwrap();
    let reload = support::weir(&["reload", "--socket", weir.client().socket().to_str().unwrap()]);
    assert!(reload.status.success(), "{reload:?}");
    assert!(echoes(&comes, b"now"), "{}", weir.log());

    fs::write(weir.config(), format!("{text}[[bind]]\nprefix = \"192.0.2.1/24\"\n")).unwrap();
    let reload = support::weir(&["reload", "--socket", weir.client().socket().to_str().unwrap()]);
    assert_eq!(reload.status.code(), Some(1));
    assert!(reload.stderr.starts_with("error: ") && reload.stderr.contains("\nhelp: "));
    assert!(echoes(&stays, b"the old goes on") && echoes(&comes, b"all of it"));
    assert!(weir.terminate().status.success());
}

#[test]
fn what_the_machine_lacks_is_said_with_its_line() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let missing = refused("[device]\nkind = \"xsk\"\ninterface = \"none0\"\n", &bed);
    assert!(missing.contains("weir.toml:3: there is no interface `none0`"), "{missing}");
    let queue = refused(&format!("{DEVICE}queues = [3]\n"), &bed);
    assert!(queue.contains("weir.toml:4: queue 3 is out of range"), "{queue}");
    let zero_copy = refused(&format!("{DEVICE}mode = \"zero-copy\"\n"), &bed);
    assert!(zero_copy.contains("zero-copy"), "{zero_copy}");

    let first = Running::start(&bed, &format!("{DEVICE}{ECHO}"));
    let second = refused(&format!("{DEVICE}{ECHO}"), &bed);
    assert!(second.contains("weir.toml:3: an XDP program (id "), "{second}");
    assert!(echoes(&client(&bed, "192.0.2.1:7"), b"the first goes on"), "{}", first.log());
    first.kill();
    let again = Running::start(&bed, &format!("{DEVICE}{ECHO}"));
    assert!(echoes(&client(&bed, "192.0.2.1:7"), b"and so does the next"), "{}", again.log());
}

#[test]
fn a_process_without_privileges_is_told_which() {
    if !privileged() {
        return;
    }
    let folder = support::Folder::new();
    let config = folder.path("weir.toml");
    let socket = folder.path("weir.sock");
    fs::write(&config, format!("[control]\nsocket = \"{}\"\n{DEVICE}", socket.display())).unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"])
        .args([env!("CARGO_BIN_EXE_weir"), "run", "-c"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("weir.toml:3: an AF_XDP device needs CAP_NET_ADMIN"), "{said}");
}

#[test]
fn every_queue_has_its_worker() {
    if !privileged() {
        return;
    }
    let bed = bed(2);
    let weir = Running::start(&bed, &format!("{DEVICE}queues = \"all\"\n{ECHO}"));
    for port in 0..16 {
        assert!(echoes(&client(&bed, "192.0.2.1:7"), &[port]), "{}", weir.log());
    }
    let stats = weir.stats();
    assert_eq!(stats.workers.len(), 2);
    assert_eq!(stats.total.answered, 16);
    assert_eq!(weir.socket("echo").workers.len(), 2);
}
