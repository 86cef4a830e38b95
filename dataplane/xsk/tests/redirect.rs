//! What is redirected and what is passed: to the kernel's own sockets behind it, and by the
//! program run on packets written by hand.

mod support;

use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{Port, assert_balance, bed, binding, payload};
use weir_lab::{Bed, BedOptions};
use weir_xsk::kernel::{AttachMode, AttachedXdp, attached_xdp};
use weir_xsk::{
    AttachError, Binding, BindingError, Protocol, Queue, Redirect, RedirectCounters,
    interface_index,
};

const LIMIT: Duration = Duration::from_secs(5);

/// The payloads of the next packets, until one is `last`.
fn payloads(queue: &mut Queue, last: &[u8]) -> Vec<Vec<u8>> {
    let started = Instant::now();
    let mut batch = Vec::with_capacity(64);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    while seen.last().map(Vec::as_slice) != Some(last) {
        assert!(started.elapsed() < LIMIT, "only {} packets came", seen.len());
        queue.wait(Duration::from_millis(50)).unwrap();
        queue.receive(&mut batch, 64);
        seen.extend(batch.iter().map(|frame| payload(queue.bytes(frame)).to_vec()));
        queue.recycle(&mut batch);
        assert_balance(queue, &batch);
    }
    seen
}

/// Sends to each address its own text, and answers which of them came to the queue.
fn redirected(bed: &Bed, queue: &mut Queue, to: &[&str]) -> Vec<String> {
    let send = |to: &str| {
        let local = if to.starts_with('[') { "[fd77::2]:0" } else { "10.77.0.2:0" };
        let socket = bed.peer().enter(|| UdpSocket::bind(local)).unwrap();
        // Refused by the kernel is as good as sent: ICMP comes back for an earlier one.
        socket.send_to(to.as_bytes(), to).unwrap();
    };
    to.iter().for_each(|to| send(to));
    send("192.0.2.255:9999");
    let mut seen = payloads(queue, b"192.0.2.255:9999");
    seen.pop();
    seen.into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
}

#[test]
fn redirects_what_is_bound_and_nothing_else() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let last = binding("192.0.2.255/32", Protocol::Any, Some(9999));
    let Port { mut redirect, mut queue } = Port::open(&bed, &[last]);
    type Case<'a> = (Vec<Binding>, &'a [(&'a str, bool)]);
    let cases: [Case<'_>; 6] = [
        (vec![], &[("192.0.2.1:80", false), ("[2001:db8::1]:80", false)]),
        (
            // The longer prefix is bound for another port: the shorter still counts.
            vec![
                binding("192.0.2.0/24", Protocol::Udp, Some(53)),
                binding("192.0.2.128/25", Protocol::Udp, Some(80)),
            ],
            &[
                ("192.0.2.129:53", true),
                ("192.0.2.129:80", true),
                ("192.0.2.1:53", true),
                ("192.0.2.1:80", false),
                ("192.0.2.129:81", false),
                ("198.51.100.1:53", false),
            ],
        ),
        (
            vec![binding("198.51.100.1/32", Protocol::Udp, None)],
            &[("198.51.100.1:1", true), ("198.51.100.1:65535", true), ("198.51.100.2:1", false)],
        ),
        (
            vec![
                binding("192.0.2.0/24", Protocol::Tcp, None),
                binding("192.0.2.0/25", Protocol::Any, Some(99)),
            ],
            &[("192.0.2.1:80", false), ("192.0.2.1:99", true), ("192.0.2.200:99", false)],
        ),
        (
            vec![
                binding("2001:db8::/64", Protocol::Udp, Some(7)),
                binding("2001:db8:1::1/128", Protocol::Any, None),
            ],
            &[
                ("[2001:db8::1]:7", true),
                ("[2001:db8::1]:8", false),
                ("[2001:db8:1::1]:8", true),
                ("[2001:db8:1::2]:8", false),
                ("192.0.2.1:7", false),
            ],
        ),
        (
            // All of IPv6 is nothing of IPv4.
            vec![binding("::/0", Protocol::Udp, None)],
            &[("[2001:db8::1]:7", true), ("192.0.2.1:7", false)],
        ),
    ];
    // With so many more that the program asks its trie, and without them it walks its rules; twice,
    // to go from each to the other.
    let mut many: Vec<Binding> =
        (1..20).map(|port| binding("203.0.113.0/24", Protocol::Udp, Some(port))).collect();
    many.extend((1..20).map(|port| binding("2001:db9::/64", Protocol::Udp, Some(port))));
    for (bindings, expected, more) in cases.iter().flat_map(|(bindings, expected)| {
        [&[][..], &many, &[], &many[..10], &[]].map(|more| (bindings, expected, more))
    }) {
        redirect.set_bindings(&[&[last], &bindings[..], more].concat()).unwrap();
        assert_eq!(redirect.bindings().count(), bindings.len() + 1 + more.len());
        let to: Vec<&str> = expected.iter().map(|(to, _)| *to).collect();
        let bound: Vec<&str> = expected.iter().filter(|(_, yes)| *yes).map(|(to, _)| *to).collect();
        assert_eq!(redirected(&bed, &mut queue, &to), bound, "{bindings:?} {}", more.len());
    }
}

#[test]
fn binds_and_unbinds_once() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let Port { mut redirect, queue } = Port::open(&bed, &[]);
    let one = binding("192.0.2.0/24", Protocol::Udp, Some(53));
    assert!(redirect.bind(&one).unwrap());
    assert!(!redirect.bind(&one).unwrap());
    assert!(redirect.unbind(&one).unwrap());
    assert!(!redirect.unbind(&one).unwrap());
    redirect.unregister(queue.index()).unwrap();
    redirect.unregister(queue.index()).unwrap();
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(matches!(
        Binding::new((address, 24), Protocol::Udp, None),
        Err(BindingError::HostBits(..))
    ));
}

#[test]
fn fragments_and_unbound_queues_are_the_kernel_s() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let all = [
        binding("10.77.0.1/32", Protocol::Udp, Some(5000)),
        binding("fd77::1/128", Protocol::Udp, Some(5000)),
    ];
    let Port { mut redirect, queue } = Port::open(&bed, &all);
    for (server, local) in [("10.77.0.1:5000", "10.77.0.2:0"), ("[fd77::1]:5000", "[fd77::2]:0")] {
        let sink = bed.weir().enter(|| UdpSocket::bind(server)).unwrap();
        sink.set_read_timeout(Some(LIMIT)).unwrap();
        let client = bed.peer().enter(|| UdpSocket::bind(local)).unwrap();
        client.send_to(&[7; 4000], server).unwrap();
        let mut received = [0; 5000];
        assert_eq!(sink.recv(&mut received).unwrap(), 4000, "reassembled by the kernel");
    }
    let counters = redirect.counters().unwrap();
    assert_eq!((counters.redirected, counters.fragments), (0, 6));
    // A queue without a socket leaves what is bound to the kernel.
    redirect.unregister(queue.index()).unwrap();
    let sink = bed.weir().enter(|| UdpSocket::bind("10.77.0.1:5000")).unwrap();
    sink.set_read_timeout(Some(LIMIT)).unwrap();
    let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    client.send_to(b"small", "10.77.0.1:5000").unwrap();
    assert_eq!(sink.recv(&mut [0; 16]).unwrap(), 5);
    assert_eq!(redirect.counters().unwrap().no_socket, 1);
}

/// The header of UDP or TCP as far as the program reads it: to port 53.
const PORTS: [u8; 8] = [0, 9, 0, 53, 0, 8, 0, 0];

/// A packet of IPv4 with so many bytes of options.
fn ipv4(options: usize, fragment: u16, protocol: u8) -> Vec<u8> {
    let mut packet = vec![0; 20 + options];
    packet[0] = 0x45 + (options / 4) as u8;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet.extend(PORTS);
    packet
}

/// A packet of IPv6 with a chain of extension headers: the kind of each, and its eights of bytes.
fn ipv6(chain: &[(u8, usize)], last: u8) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    let kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).chain([last]).collect();
    packet[6] = kinds[0];
    for (index, (_, units)) in chain.iter().enumerate() {
        let mut header = vec![0; 8 * units];
        header[0] = kinds[index + 1];
        header[1] = (units - 1) as u8;
        packet.extend(header);
    }
    packet.extend(PORTS);
    packet
}

fn ethernet(tags: &[u16], kind: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 5]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(rest);
    frame
}

/// One packet, counted there.
fn counted(name: &str) -> RedirectCounters {
    match name {
        "bound" => RedirectCounters { no_socket: 1, ..Default::default() },
        "passed" => RedirectCounters { passed: 1, ..Default::default() },
        "fragment" => RedirectCounters { fragments: 1, ..Default::default() },
        _ => RedirectCounters { unparsable: 1, ..Default::default() },
    }
}

#[test]
fn every_header_is_parsed_or_passed() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let all =
        [binding("0.0.0.0/0", Protocol::Any, Some(53)), binding("::/0", Protocol::Any, Some(53))];
    // Without a socket: "no socket" is "bound".
    let Port { mut redirect, queue } = Port::open(&bed, &all);
    redirect.unregister(queue.index()).unwrap();
    let (ip4, ip6, vlan, qinq) = (0x0800, 0x86dd, 0x8100, 0x88a8);
    let cases = [
        ("bound", ethernet(&[], ip4, &ipv4(0, 0, 17))),
        ("bound", ethernet(&[], ip4, &ipv4(0, 0x4000, 6))),
        ("bound", ethernet(&[], ip4, &ipv4(40, 0, 17))),
        ("bound", ethernet(&[vlan], ip4, &ipv4(0, 0, 17))),
        ("bound", ethernet(&[qinq, vlan], ip4, &ipv4(0, 0, 17))),
        ("passed", ethernet(&[qinq, vlan, vlan], ip4, &ipv4(0, 0, 17))),
        ("passed", ethernet(&[], ip4, &ipv4(0, 0, 1))),
        ("passed", ethernet(&[], 0x0806, &[0; 28])),
        ("fragment", ethernet(&[], ip4, &ipv4(0, 0x2000, 17))),
        ("fragment", ethernet(&[], ip4, &ipv4(0, 0x0001, 17))),
        ("unparsable", ethernet(&[], ip4, &ipv4(0, 0, 17)[..23])),
        ("unparsable", ethernet(&[], ip4, &[0x44; 40])),
        ("unparsable", ethernet(&[], ip4, &[0x65; 40])),
        ("unparsable", ethernet(&[vlan], ip4, &[])),
        ("bound", ethernet(&[], ip6, &ipv6(&[], 17))),
        ("bound", ethernet(&[vlan], ip6, &ipv6(&[(0, 1)], 6))),
        (
            "bound",
            ethernet(&[], ip6, &ipv6(&[(0, 1), (60, 3), (43, 2), (60, 1), (60, 1), (60, 1)], 17)),
        ),
        ("unparsable", ethernet(&[], ip6, &ipv6(&[(60, 1); 7], 17))),
        ("fragment", ethernet(&[], ip6, &ipv6(&[(0, 1), (44, 1)], 17))),
        ("passed", ethernet(&[], ip6, &ipv6(&[], 58))),
        ("unparsable", ethernet(&[], ip6, &ipv6(&[(0, 1)], 17)[..45])),
        ("unparsable", ethernet(&[], ip6, &ipv6(&[], 17)[..42])),
    ];
    for (index, (name, frame)) in cases.iter().enumerate() {
        let before = redirect.counters().unwrap();
        redirect.test_run(frame).unwrap();
        let after = redirect.counters().unwrap();
        let difference = RedirectCounters {
            redirected: after.redirected - before.redirected,
            passed: after.passed - before.passed,
            fragments: after.fragments - before.fragments,
            unparsable: after.unparsable - before.unparsable,
            no_socket: after.no_socket - before.no_socket,
        };
        assert_eq!(difference, counted(name), "case {index}: {name}");
    }
}

#[test]
fn changes_under_traffic_lose_nothing_of_what_stays() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let stays = binding("192.0.2.1/32", Protocol::Udp, Some(1000));
    let changes: Vec<Binding> =
        (0..50).map(|port| binding("192.0.2.1/32", Protocol::Udp, Some(2000 + port))).collect();
    let Port { mut redirect, mut queue } = Port::open(&bed, &[stays]);
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let mut received = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..10 {
                    client.send_to(b"counted", "192.0.2.1:1000").unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let mut batch = Vec::with_capacity(64);
        let mut take = |queue: &mut Queue| {
            let count = queue.receive(&mut batch, 64);
            queue.recycle(&mut batch);
            count as u64
        };
        for round in 0..200 {
            let half = if round % 2 == 0 { &changes[..30] } else { &changes[20..] };
            redirect.set_bindings(&[&[stays], half].concat()).unwrap();
            received += take(&mut queue);
        }
        stop.store(true, Ordering::Relaxed);
        let quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(100) {
            received += take(&mut queue);
        }
    });
    assert!(sent.load(Ordering::Relaxed) > 100);
    assert_eq!(received, sent.load(Ordering::Relaxed));
    // What is unbound goes to the kernel at once.
    redirect.set_bindings(&[]).unwrap();
    let before = redirect.counters().unwrap();
    let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    client.send_to(b"not ours", "192.0.2.1:1000").unwrap();
    let after = redirect.counters().unwrap();
    assert_eq!(after.redirected, before.redirected);
    assert!(after.passed > before.passed);
}

#[test]
fn a_program_that_is_there_is_left_alone() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    bed.weir().enter(|| {
        let index = interface_index(Bed::WEIR_DEVICE).unwrap();
        assert_eq!(attached_xdp(index).unwrap(), None);
        let first = Redirect::attach(index, Some(AttachMode::Native)).unwrap();
        let present = attached_xdp(index).unwrap().unwrap();
        assert_eq!(present.mode, Some(AttachMode::Native));
        match Redirect::attach(index, None) {
            Err(AttachError::ProgramPresent { id, .. }) => assert_eq!(id, present.id),
            other => panic!("{other:?}"),
        }
        // Another holder of the descriptor, such as a child just forked, does not keep it there.
        let copies = links();
        assert!(!copies.is_empty());
        drop(first);
        assert_eq!(attached_xdp(index).unwrap(), None);
        let skb = Redirect::attach(index, Some(AttachMode::Skb)).unwrap();
        assert_eq!(attached_xdp(index).unwrap().unwrap().mode, Some(AttachMode::Skb));
        drop(skb);
    });
}

#[test]
fn the_attachment_dies_with_the_process() {
    const CHILD: &str = "WEIR_TEST_ATTACHES";
    if let Ok(device) = std::env::var(CHILD) {
        // The child: it attaches, says so, and waits to be killed.
        let mut redirect = Redirect::attach(interface_index(&device).unwrap(), None).unwrap();
        let queue = Queue::open(&weir_xsk::QueueConfig::new(device, 0)).unwrap();
        redirect.register(&queue).unwrap();
        redirect.bind(&binding("192.0.2.0/24", Protocol::Udp, None)).unwrap();
        eprintln!("attached");
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let Some(bed) = bed(BedOptions::default()) else { return };
    let index = bed.weir().ifindex(Bed::WEIR_DEVICE).unwrap();
    // The kernel's own connection over the same interface lives through it all.
    let listener = bed.weir().enter(|| TcpListener::bind("10.77.0.1:6000")).unwrap();
    let mut client = bed.peer().enter(|| TcpStream::connect("10.77.0.1:6000")).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let mut talk = |what: u8| {
        use std::io::{Read, Write};
        client.write_all(&[what]).unwrap();
        let mut heard = [0];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [what]);
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood_until(&bed, &stop));
        for round in 0..20 {
            let (attached, after) = kill_one(&bed, index, CHILD, || talk(round));
            assert!(attached.is_some());
            assert_eq!(after, None, "round {round}");
            talk(round + 100);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // And the queue can be had at once.
    drop(Port::open(&bed, &[]));
}

/// This process' own open bpf_links, opened once more.
fn links() -> Vec<std::os::fd::OwnedFd> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = entries.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let number: i32 = entry.file_name().to_str()?.parse().ok()?;
        target.to_str()?.contains("bpf_link").then_some(number)
    });
    numbers
        .filter_map(|number| {
            // SAFETY: the copy fails if the descriptor has been closed meanwhile.
            let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
            // SAFETY: a descriptor just made, owned by nobody else.
            (copy >= 0).then(|| unsafe { std::os::fd::FromRawFd::from_raw_fd(copy) })
        })
        .collect()
}

/// Sends datagrams from a kernel socket until it is told to stop, for ten seconds at most.
fn flood_until(bed: &Bed, stop: &AtomicBool) {
    let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) && started.elapsed() < 2 * LIMIT {
        for _ in 0..64 {
            // The kernel's ICMP for an earlier one is an error of this one.
            let _ = client.send_to(b"flood", "192.0.2.1:7");
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Starts the child, kills it once it has attached, and answers with what was attached before and
/// after.
fn kill_one(
    bed: &Bed,
    index: u32,
    variable: &str,
    meanwhile: impl FnOnce(),
) -> (Option<AttachedXdp>, Option<AttachedXdp>) {
    let attached = || bed.weir().enter(|| attached_xdp(index)).unwrap();
    let mut child = bed
        .weir()
        .command(std::env::current_exe().unwrap().to_str().unwrap())
        .args(["--exact", "the_attachment_dies_with_the_process", "--nocapture"])
        .env(variable, Bed::WEIR_DEVICE)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    let before = attached();
    if line == "attached\n" {
        meanwhile();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "attached\n");
    (before, attached())
}
