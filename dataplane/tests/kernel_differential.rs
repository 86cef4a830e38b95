//! The same sk_lookup object in this kernel and in Weir, the same sockets, the same datagrams:
//! the same socket receives each, or the same refusal goes back, and the programs leave the same
//! memory behind.
//!
//! Covered: v4, v6, hit, miss, drop, several programs in order, connected before steered, bound
//! before wildcard, dual stack, selections replaced, reset and refused.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::Bed as Weir;
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{LoadOptions, Object};
use weir_dataplane::mailbox::{Attached, Command, ProgramList};
use weir_dataplane::socket::SocketId;
use weir_inet::{ChecksumPolicy, Transport, parse};
use weir_lab::{Bed, BedOptions};
use weir_xsk::kernel;

/// One setting, and the datagrams sent to it.
struct Case {
    name: &'static str,
    /// Name, local address, remote address.
    sockets: &'static [(&'static str, &'static str, Option<&'static str>)],
    object: &'static [u8],
    programs: &'static [&'static str],
    /// Indices of the object's map `sockets`.
    sockmap: &'static [(u32, &'static str)],
    /// Prefix, its length, port (0: all), index into `sockets`: for the steering object.
    bindings: &'static [(&'static str, u32, u16, u32)],
    /// Source port and destination.
    datagrams: &'static [(u16, &'static str)],
    /// Maps whose entries must be the same afterwards.
    memory: &'static [&'static str],
}

const ASSIGN: &[u8] = weir_progs::LOOKUP_ASSIGN;
const TWO: &[(&str, &str, Option<&str>)] =
    &[("one", "10.77.0.1:4001", None), ("two", "10.77.0.1:4002", None)];
const SLOTS: &[(u32, &str)] = &[(0, "one"), (1, "two")];
const PLAIN: Case = Case {
    name: "",
    sockets: TWO,
    object: ASSIGN,
    programs: &[],
    sockmap: SLOTS,
    bindings: &[],
    datagrams: &[(5000, "10.77.0.1:4001"), (5001, "192.0.2.9:80"), (5002, "10.77.0.1:9")],
    memory: &[".bss"],
};

const CASES: &[Case] = &[
    Case { name: "no program", memory: &[], ..PLAIN },
    Case { name: "pass", programs: &["pass"], ..PLAIN },
    Case { name: "drop hides a bound socket", programs: &["drop"], ..PLAIN },
    Case { name: "first", programs: &["first"], ..PLAIN },
    Case { name: "second", programs: &["second"], ..PLAIN },
    Case { name: "first, second: the second fails", programs: &["first", "second"], ..PLAIN },
    Case { name: "second, first", programs: &["second", "first"], ..PLAIN },
    Case { name: "first, replace", programs: &["first", "replace"], ..PLAIN },
    Case { name: "drop, first: selection beats drop", programs: &["drop", "first"], ..PLAIN },
    Case { name: "first, drop", programs: &["first", "drop"], ..PLAIN },
    Case { name: "pass, drop", programs: &["pass", "drop"], ..PLAIN },
    Case { name: "reset", programs: &["reset"], ..PLAIN },
    Case { name: "second, reset", programs: &["second", "reset"], ..PLAIN },
    Case { name: "twice", programs: &["twice"], ..PLAIN },
    Case { name: "no_reuseport", programs: &["no_reuseport"], ..PLAIN },
    Case { name: "reads_socket", programs: &["reads_socket"], ..PLAIN },
    Case { name: "an empty slot", programs: &["first"], sockmap: &[(1, "two")], ..PLAIN },
    Case {
        name: "what programs read and count",
        programs: &["reads_context", "counts"],
        datagrams: &[
            (5000, "10.77.0.1:4001"),
            (5001, "[fd77::1]:4009"),
            (5001, "10.77.0.1:4001"),
            (5002, "192.0.2.9:80"),
        ],
        memory: &["last", "runs_by_port"],
        ..PLAIN
    },
    Case {
        name: "connected before steered, steered before bound",
        sockets: &[
            ("connected", "10.77.0.1:4003", Some("10.77.0.2:6000")),
            ("bound", "10.77.0.1:4003", None),
            ("target", "10.77.0.1:4004", None),
        ],
        programs: &["first"],
        sockmap: &[(0, "target")],
        datagrams: &[(6000, "10.77.0.1:4003"), (6001, "10.77.0.1:4003")],
        ..PLAIN
    },
    Case {
        name: "a connected socket cannot be chosen",
        sockets: &[("connected", "10.77.0.1:4003", Some("10.77.0.2:6000"))],
        programs: &["first"],
        sockmap: &[(0, "connected")],
        datagrams: &[(6000, "10.77.0.1:4003"), (6001, "10.77.0.1:4003")],
        ..PLAIN
    },
    Case {
        name: "families",
        sockets: &[("four", "10.77.0.1:4005", None), ("six", "[fd77::1]:4005", None)],
        programs: &["first"],
        sockmap: &[(0, "four")],
        datagrams: &[(5000, "10.77.0.1:7"), (5000, "[fd77::1]:7"), (5000, "[fd77::1]:4005")],
        ..PLAIN
    },
    Case {
        name: "a dual-stack socket takes IPv4",
        sockets: &[("six", "[::]:4005", None)],
        programs: &["first"],
        sockmap: &[(0, "six")],
        datagrams: &[(5000, "10.77.0.1:7"), (5000, "[fd77::1]:7"), (5000, "192.0.2.1:4005")],
        ..PLAIN
    },
    Case {
        name: "wildcards",
        sockets: &[
            ("any", "0.0.0.0:4006", None),
            ("here", "10.77.0.1:4006", None),
            ("both", "[::]:4007", None),
        ],
        programs: &["pass"],
        sockmap: &[],
        datagrams: &[
            (5000, "10.77.0.1:4006"),
            (5000, "192.0.2.77:4006"),
            (5000, "[fd77::1]:4006"),
            (5000, "192.0.2.77:4007"),
            (5000, "[2001:db8::9]:4007"),
        ],
        ..PLAIN
    },
    Case {
        name: "the two steerings",
        sockets: &[
            ("web", "10.77.0.1:8080", None),
            ("proxy", "10.77.0.1:8081", None),
            ("web6", "[fd77::1]:8080", None),
            ("long", "10.77.0.1:8082", None),
        ],
        object: weir_progs::STEER,
        programs: &["steer"],
        sockmap: &[(0, "web"), (1, "proxy"), (2, "web6"), (3, "long")],
        bindings: &[
            ("::ffff:192.0.2.0", 24, 80, 0),
            ("::ffff:198.51.100.1", 32, 0, 1),
            ("2001:db8::", 64, 80, 2),
            ("::ffff:192.0.2.128", 25, 80, 3),
            ("::ffff:192.0.2.0", 24, 81, 9),
        ],
        datagrams: &[
            (5000, "192.0.2.1:80"),
            (5001, "192.0.2.127:80"),
            (5001, "192.0.2.128:80"),
            (5002, "192.0.2.1:81"),
            (5002, "192.0.2.1:82"),
            (5003, "198.51.100.1:1"),
            (5003, "198.51.100.1:65535"),
            (5004, "198.51.100.2:80"),
            (5005, "[2001:db8::5]:80"),
            (5006, "[2001:db8:0:1::5]:80"),
            (5007, "10.77.0.1:8080"),
        ],
        memory: &[],
    },
];

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    To(&'static str),
    Refused,
    Nothing,
}

/// An object's maps after the run, by name.
type Memory = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

#[test]
fn the_same_socket_or_the_same_refusal() {
    if let Err(reason) = weir_lab::privileged() {
        eprintln!("skipped: {reason}");
        return;
    }
    let bed = Bed::new(BedOptions::default()).unwrap();
    prepare(&bed);
    for case in CASES {
        let (of_kernel, kernel_memory) = in_kernel(&bed, case);
        for (verdict_cache, jit) in [(false, false), (true, false), (false, true), (true, true)] {
            let (of_weir, weir_memory) = in_weir(case, verdict_cache, jit);
            for (datagram, outcomes) in case.datagrams.iter().zip(of_kernel.iter().zip(&of_weir)) {
                let (expected, got) = outcomes;
                assert_eq!(got, expected, "{}: {datagram:?}, the kernel's beside ours", case.name);
            }
            assert_eq!(weir_memory, kernel_memory, "{}: maps", case.name);
        }
        assert!(of_kernel.iter().all(|outcome| *outcome != Outcome::Nothing), "{}", case.name);
    }
}

/// Addresses of the steered prefixes are local; ICMP errors are not held back.
fn prepare(bed: &Bed) {
    for (family, prefix) in
        [("-4", "192.0.2.0/24"), ("-4", "198.51.100.0/24"), ("-6", "2001:db8::/32")]
    {
        let arguments = [family, "route", "add", "local", prefix, "dev", "lo"];
        let status = bed.weir().command("ip").args(arguments).status().unwrap();
        assert!(status.success());
    }
    bed.weir().sysctl("net.ipv4.icmp_ratelimit", "0").unwrap();
    bed.weir().sysctl("net.ipv6.icmp.ratelimit", "0").unwrap();
}

fn in_kernel(bed: &Bed, case: &Case) -> (Vec<Outcome>, Memory) {
    let sockets: Vec<(&'static str, UdpSocket)> = bed.weir().enter(|| {
        let open = |(name, local, remote): &(&'static str, &str, Option<&str>)| {
            (*name, kernel_socket(local, *remote))
        };
        case.sockets.iter().map(open).collect()
    });
    let object = kernel::Object::load("differential", case.object).unwrap();
    for (index, name) in case.sockmap {
        let (_, socket) = sockets.iter().find(|(known, _)| known == name).unwrap();
        let fd = (socket.as_raw_fd() as u64).to_le_bytes();
        object.map("sockets").unwrap().update(&index.to_le_bytes(), &fd, 0).unwrap();
    }
    for binding in case.bindings {
        let (key, value) = binding_entry(binding);
        object.map("bindings").unwrap().update(&key, &value, 0).unwrap();
    }
    let namespace = File::open(format!("/run/netns/{}", bed.weir().name())).unwrap();
    let links: Vec<_> = (case.programs.iter())
        .map(|name| object.program(name).unwrap().attach_netns(namespace.as_fd()).unwrap())
        .collect();
    let outcomes = bed.peer().enter(|| {
        case.datagrams.iter().map(|(port, to)| send_to_kernel(*port, to, &sockets)).collect()
    });
    drop(links);
    let dump = |name: &&'static str| {
        let map = object.map(name).unwrap();
        let mut entries = BTreeMap::new();
        let mut key = None;
        while let Ok(next) = map.next_key(key.as_deref()) {
            entries.insert(next.clone(), map.lookup(&next).unwrap());
            key = Some(next);
        }
        (*name, without_interface(name, entries))
    };
    (outcomes, case.memory.iter().map(dump).collect())
}

/// The interface's index is the one thing in which the two beds differ.
fn without_interface(
    name: &str,
    mut entries: BTreeMap<Vec<u8>, Vec<u8>>,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    const IFINDEX_OF_SEEN: std::ops::Range<usize> = 56..60;
    if name == "last" {
        entries.values_mut().for_each(|value| value[IFINDEX_OF_SEEN].fill(0));
    }
    entries
}

fn kernel_socket(local: &str, remote: Option<&str>) -> UdpSocket {
    let local: SocketAddr = local.parse().unwrap();
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if local.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.bind(&local.into()).unwrap();
    if let Some(remote) = remote {
        socket.connect(&remote.parse::<SocketAddr>().unwrap().into()).unwrap();
    }
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn send_to_kernel(port: u16, to: &str, sockets: &[(&'static str, UdpSocket)]) -> Outcome {
    let to: SocketAddr = to.parse().unwrap();
    let from = SocketAddr::new(peer_address(&to), port);
    let client = UdpSocket::bind(from).unwrap();
    client.connect(to).unwrap();
    client.set_nonblocking(true).unwrap();
    client.send(b"Weir").unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    let mut buffer = [0; 64];
    while Instant::now() < until {
        for (name, socket) in sockets {
            if socket.recv(&mut buffer).is_ok() {
                return Outcome::To(name);
            }
        }
        match client.recv(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Outcome::Refused;
            }
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    Outcome::Nothing
}

fn peer_address(to: &SocketAddr) -> std::net::IpAddr {
    if to.is_ipv4() { "10.77.0.2".parse().unwrap() } else { "fd77::2".parse().unwrap() }
}

fn in_weir(case: &Case, verdict_cache: bool, jit: bool) -> (Vec<Outcome>, Memory) {
    let mut weir = Weir::with_verdict_cache(verdict_cache);
    let sockets: Vec<(&'static str, SocketId)> = (case.sockets.iter())
        .map(|(name, local, remote)| (*name, weir.open(name, local, *remote)))
        .collect();
    let object = Object::parse(case.object).unwrap();
    let loaded = object.load(&LoadOptions { cpus: 1, ..LoadOptions::default() }).unwrap();
    if jit {
        loaded.compile(&VerifyOptions::default()).unwrap();
    }
    let map = |name: &str| loaded.maps.iter().find(|map| map.spec().name == name).unwrap();
    for (index, name) in case.sockmap {
        let (_, id) = sockets.iter().find(|(known, _)| known == name).unwrap();
        map("sockets").update_socket(&index.to_le_bytes(), *id, 0).unwrap();
    }
    for binding in case.bindings {
        let (key, value) = binding_entry(binding);
        map("bindings").update(&key, &value, 0).unwrap();
    }
    let attached = case.programs.iter().enumerate().map(|(link, name)| Attached {
        link: link as u64,
        program: loaded.programs.iter().find(|program| program.name() == *name).unwrap().clone(),
    });
    weir.command(Command::Attach(Arc::new(ProgramList::new(attached))));
    weir.turn();
    let outcomes: Vec<_> = (case.datagrams.iter())
        .map(|(port, to)| send_to_weir(&mut weir, &sockets, *port, to))
        .collect();
    if verdict_cache && case.memory.is_empty() {
        // Once more, with what is kept.
        for ((port, to), first) in case.datagrams.iter().zip(&outcomes) {
            assert_eq!(send_to_weir(&mut weir, &sockets, *port, to), *first, "{}", case.name);
        }
    }
    let dump = |name: &&'static str| {
        let mut entries = BTreeMap::new();
        let mut key = None;
        while let Ok(next) = map(name).next_key(key.as_deref()) {
            entries.insert(next.clone(), map(name).lookup(&next).unwrap());
            key = Some(next);
        }
        (*name, without_interface(name, entries))
    };
    (outcomes, case.memory.iter().map(dump).collect())
}

fn send_to_weir(
    weir: &mut Weir,
    sockets: &[(&'static str, SocketId)],
    port: u16,
    to: &str,
) -> Outcome {
    let before: Vec<u64> = sockets.iter().map(|(_, id)| weir.received(*id)).collect();
    let from = SocketAddr::new(peer_address(&to.parse().unwrap()), port).to_string();
    let answers = weir.exchange(&from, to, b"Weir");
    for ((name, id), before) in sockets.iter().zip(before) {
        if weir.received(*id) > before {
            return Outcome::To(name);
        }
    }
    let refused = answers.iter().any(|answer| {
        let packet = parse(answer, ChecksumPolicy::Verify).unwrap();
        matches!(packet.transport, Transport::Icmp(_) | Transport::Icmpv6(_))
    });
    if refused { Outcome::Refused } else { Outcome::Nothing }
}

fn binding_entry((prefix, length, port, value): &(&str, u32, u16, u32)) -> ([u8; 24], [u8; 4]) {
    let address: std::net::Ipv6Addr = prefix.parse().unwrap();
    let inside = if address.to_ipv4_mapped().is_some() { 96 + length } else { *length };
    let mut key = [0; 24];
    key[..4].copy_from_slice(&(32 + inside).to_le_bytes());
    key[4..6].copy_from_slice(&17u16.to_le_bytes());
    key[6..8].copy_from_slice(&port.to_be_bytes());
    key[8..].copy_from_slice(&address.octets());
    (key, value.to_le_bytes())
}
