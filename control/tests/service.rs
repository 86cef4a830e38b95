//! `weir run` on AF_XDP over veth, with ordinary kernel sockets as clients: what is bound is
//! served, each lookup step in its turn; everything else stays with the kernel.

mod support;

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::peer::{
    DEVICE, bed, binding, carries, client, client_from, echoes, eventually, kernel_answers,
    kernel_connection, kernel_echo, output, refused, socket, xdp_program,
};
use support::{Running, privileged, weir};
use weir_lab::Bed;

/// Ports of clients that must be told apart.
const CONNECTED_PORT: u16 = 4011;

/// A binding with all its ports and one with a single port, in both families, and every kind of
/// socket.
fn config() -> String {
    let remote = format!("remote = \"10.77.0.2:{CONNECTED_PORT}\"\n");
    [
        DEVICE.into(),
        binding("192.0.2.0/24", "\"all\""),
        binding("198.51.100.1/32", "80"),
        binding("2001:db8::/64", "\"all\""),
        binding("2001:db8:0:1::/64", "80"),
        binding("10.77.0.1/32", "7"),
        binding("fd77::1/128", "7"),
        socket("bound", "192.0.2.1:7", "echo"),
        socket("bound6", "[2001:db8::1]:7", "echo"),
        socket("own", "10.77.0.1:7", "echo"),
        socket("own6", "[fd77::1]:7", "echo"),
        socket("wildcard", "0.0.0.0:9", "echo"),
        socket("dual", "[::]:10", "echo"),
        socket("plain", "192.0.2.1:11", "echo"),
        socket("connected", "192.0.2.1:11", "echo") + &remote,
        socket("web", "127.0.0.1:8080", "echo"),
        socket("web6", "[::1]:8080", "echo"),
        "[[program]]\nobject = \"builtin:steer\"\nname = \"steer\"\n".into(),
        "[[program.entry]]\nmap = \"sockets\"\nkey = 0\nsocket = \"web\"\n".into(),
        "[[program.entry]]\nmap = \"sockets\"\nkey = 1\nsocket = \"web6\"\n".into(),
        entry("198.51.100.1/32", 0),
        entry("2001:db8:0:1::/64", 1),
    ]
    .concat()
}

fn entry(prefix: &str, value: u32) -> String {
    format!(
        "[[program.entry]]\nmap = \"bindings\"\nvalue = {value}\n\
         binding = {{ prefix = \"{prefix}\", protocol = \"udp\", port = 80 }}\n"
    )
}

fn json(running: &Running, arguments: &[&str]) -> Value {
    let socket = running.client().socket().to_str().unwrap().to_owned();
    let ended = weir(&[arguments, &["--json", "--socket", &socket]].concat());
    assert!(ended.status.success(), "{arguments:?}: {ended:?}");
    serde_json::from_str(&ended.stdout.join("\n")).unwrap()
}

/// The entry of a list whose key has that value.
fn named<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|one| one[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {list}"))
}

#[test]
fn each_kind_of_socket_answers_its_datagrams() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let weir = Running::start(&bed, &config());
    let answers = [
        ("192.0.2.1:7", 0, "bound"),
        ("[2001:db8::1]:7", 0, "bound6"),
        ("192.0.2.77:9", 0, "wildcard"),
        ("192.0.2.78:10", 0, "dual"),
        ("[2001:db8::78]:10", 0, "dual"),
        ("192.0.2.1:11", 0, "plain"),
        ("192.0.2.1:11", CONNECTED_PORT, "connected"),
        ("198.51.100.1:80", 0, "web"),
        ("[2001:db8:0:1::5]:80", 0, "web6"),
    ];
    for (address, port, name) in answers {
        let before = weir.socket(name).counters;
        let client = client_from(&bed, port, address);
        for size in [0, 1, 33, 1400] {
            assert!(echoes(&client, &vec![7; size]), "{address} {size}: {}", weir.log());
        }
        let after = weir.socket(name).counters;
        let steered = if name.starts_with("web") { 4 } else { 0 };
        assert_eq!(after.received - before.received, 4, "{address} is not {name}'s");
        assert_eq!(after.sent - before.sent, 4, "{name}");
        assert_eq!(after.received_bytes - before.received_bytes, 1434, "{name}");
        assert_eq!(after.steered - before.steered, steered, "{name}");
    }
    let lookups = weir.stats().total.lookups;
    assert_eq!(
        [lookups.connected, lookups.steered, lookups.bound, lookups.wildcard, lookups.missed],
        [4, 8, 12, 12, 0]
    );
    // Inside a binding, nobody's port: an ICMP error, as of a kernel without that socket.
    assert!(refused(&client(&bed, "192.0.2.1:99"), b"anyone?"), "{}", weir.log());
    assert!(refused(&client(&bed, "[2001:db8::1]:99"), b"anyone?"), "{}", weir.log());
    assert_eq!(weir.stats().total.refused, 2);
    let ended = weir.terminate();
    assert!(ended.status.success(), "{ended:?}");
    let last = ended.stdout.last().unwrap();
    assert!(last.contains("received 38, delivered 0, answered 36, refused 2, dropped 0"), "{last}");
}

#[test]
fn what_is_not_bound_stays_with_the_kernel() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    bed.weir().address("lo", "198.51.100.1/32").unwrap();
    for service in ["198.51.100.1:81", "10.77.0.1:7", "[fd77::1]:7"] {
        kernel_echo(&bed, service);
    }
    let mut stream = kernel_connection(&bed, 5201);
    assert!(carries(&mut stream, b"before"));
    let weir = Running::start(&bed, &config());
    assert!(carries(&mut stream, b"while Weir runs"));
    // The bound port is Weir's, its neighbour the kernel's.
    assert!(echoes(&client(&bed, "198.51.100.1:80"), b"bound"), "{}", weir.log());
    assert!(kernel_answers(&client(&bed, "198.51.100.1:81"), b"not bound"));

    // The first fragment bears the bound port, and the others none: all of them are the kernel's.
    let passed = weir.stats().redirect.unwrap().fragments;
    for address in ["10.77.0.1:7", "[fd77::1]:7"] {
        let client = client(&bed, address);
        assert!(echoes(&client, &[1; 1000]), "{address}: {}", weir.log());
        assert!(kernel_answers(&client, &[2; 4000]), "{address}: fragments are not the kernel's");
    }
    assert_eq!(weir.stats().redirect.unwrap().fragments - passed, 6);

    resolve(&bed, "10.77.0.1");
    resolve(&bed, "fd77::1");
    assert!(carries(&mut stream, &[5; 3000]));
    assert!(weir.terminate().status.success());
    assert!(carries(&mut stream, b"after"));
    // Without Weir the kernel has the bound port, too.
    assert!(kernel_answers(&client(&bed, "10.77.0.1:7"), b"mine again"));
}

/// Forgets the address's neighbour entry, and has ARP or ND find it again.
fn resolve(bed: &Bed, address: &str) {
    let ip = |arguments: &[&str]| {
        let fixed = ["neighbour", arguments[0], address, "dev", Bed::PEER_DEVICE];
        output(bed.peer().command("ip").args(fixed).args(&arguments[1..]))
    };
    ip(&["del"]);
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.into() };
    let _ = client(bed, &format!("{bracketed}:1")).send(b"who has it?");
    let mac = bed.weir_mac().map(|byte| format!("{byte:02x}")).join(":");
    eventually("the neighbour is found", || ip(&["show"]).contains(&mac));
}

#[test]
fn two_queues_share_the_work_and_the_listings_tell_it() {
    if !privileged() {
        return;
    }
    let bed = bed(2);
    let weir = Running::start(&bed, &config());
    let modes = weir.announcement().iter().filter(|line| line.contains("mode copy")).count();
    assert_eq!(modes, 2, "{:?}", weir.announcement());
    for number in 0..64u8 {
        assert!(echoes(&client(&bed, "192.0.2.1:7"), &[number; 10]), "{}", weir.log());
        assert!(echoes(&client(&bed, "198.51.100.1:80"), &[number; 10]), "{}", weir.log());
    }
    let stats = json(&weir, &["stats"]);
    assert_eq!(
        (&stats["total"]["received"], &stats["total"]["answered"]),
        (&128.into(), &128.into())
    );
    assert_eq!(stats["redirect"]["redirected"], 128);
    assert_eq!(stats["programs"][0]["runs"]["runs"], 128);
    let each: Vec<u64> = (0..2)
        .map(|worker| stats["workers"][worker]["traffic"]["received"].as_u64().unwrap())
        .collect();
    assert!(each.iter().all(|&count| count > 0) && each.iter().sum::<u64>() == 128, "{each:?}");

    let sockets = json(&weir, &["ss"]);
    let (bound, web) = (named(&sockets, "name", "bound"), named(&sockets, "name", "web"));
    assert_eq!(bound["counters"]["received"], 64);
    assert_eq!(bound["counters"]["sent_bytes"], 640);
    assert_eq!(
        (&web["counters"]["received"], &web["counters"]["steered"]),
        (&64.into(), &64.into())
    );
    assert_eq!(web["workers"].as_array().unwrap().len(), 2);

    let programs = json(&weir, &["prog", "list"]);
    let steer = named(&programs, "name", "steer");
    assert_eq!((&steer["runs"]["runs"], &steer["runs"]["faulted"]), (&128.into(), &0.into()));
    assert_eq!(steer["links"].as_array().unwrap().len(), 1);
    let maps = json(&weir, &["map", "list"]);
    assert_eq!(named(&maps, "name", "bindings")["entries"], 2);
    let dump = json(&weir, &["map", "dump", "sockets"]);
    assert!(
        dump["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|e| e["values"][0].to_string().contains("web")),
        "{dump}"
    );
    let metrics = weir.client().read_text("/metrics").unwrap();
    for queue in 0..2 {
        let line =
            format!("weir_device_info{{interface=\"weir0\",queue=\"{queue}\",mode=\"copy\"}} 1");
        assert!(metrics.contains(&line), "{line} is not exported");
    }
}

#[test]
fn a_change_of_a_map_steers_at_once() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let weir = Running::start(&bed, &config());
    let client = client(&bed, "198.51.100.1:80");
    assert!(echoes(&client, b"to web"), "{}", weir.log());
    json(&weir, &["map", "delete", "bindings", "udp,198.51.100.1/32,80"]);
    assert!(refused(&client, b"to nobody"), "{}", weir.log());
    json(&weir, &["map", "update", "bindings", "udp,198.51.100.1/32,80", "0"]);
    assert!(echoes(&client, b"to web again"), "{}", weir.log());
    let links = json(&weir, &["prog", "list"]);
    let link = named(&links, "name", "steer")["links"][0].to_string();
    json(&weir, &["prog", "detach", &link]);
    assert!(refused(&client, b"to nobody"), "{}", weir.log());
    json(&weir, &["prog", "attach", "steer"]);
    assert!(echoes(&client, b"and back"), "{}", weir.log());
    assert_eq!(weir.socket("web").counters.steered, 3);
}

#[test]
fn sigterm_under_traffic_drains_and_detaches() {
    if !privileged() {
        return;
    }
    let bed = bed(2);
    let weir = Running::start(&bed, &config());
    assert!(xdp_program(&bed).is_some());
    let path = weir.client().socket().to_owned();
    let clients: Vec<UdpSocket> = (0..8).map(|_| client(&bed, "192.0.2.1:7")).collect();
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                for number in 0..500u16 {
                    let _ = client.send(&number.to_be_bytes());
                    thread::sleep(Duration::from_micros(200));
                }
            });
        }
        thread::sleep(Duration::from_millis(50));
        weir.signal(Signal::SIGTERM);
    });
    let ended = weir.terminated();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let last = ended.stdout.last().unwrap();
    assert!(last.starts_with("weir: stopped after") && !last.contains("not accounted"), "{last}");
    let answered: u64 = number_after(last, "answered ");
    assert_eq!(answered, number_after(last, "received "), "{last}");
    // Every datagram that Weir took was answered, the last ones on its way out.
    let mut came_back = 0;
    let mut buffer = [0; 16];
    for client in &clients {
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // The kernel refuses what came after Weir: those errors come out of recv, too.
        let mut failures = 0;
        while failures < 600 {
            match client.recv(&mut buffer) {
                Ok(_) => came_back += 1,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => failures += 1,
            }
        }
    }
    assert!(answered > 0 && came_back == answered, "{came_back} of {answered} came back");
    assert_eq!(xdp_program(&bed), None);
    assert!(!path.exists(), "the control socket is left behind");
}

fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split_once(word).expect("the word is there").1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
