//! The lab as its users see it. Needs root; says so and passes when there is none.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_lab::{Bed, BedOptions, Lab, LabError, VethOptions, privileged};

/// Tells a test that runs as a child of itself what to do.
const CHILD: &str = "WEIR_LAB_TEST_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

macro_rules! need_privileges {
    () => {
        if let Err(reason) = privileged() {
            eprintln!("skipped: {reason}");
            return;
        }
    };
}

#[test]
fn datagrams_cross_both_ways() {
    need_privileges!();
    let bed = Bed::new(BedOptions::default()).unwrap();
    for (here, there) in [
        (IpAddr::V4(Bed::WEIR_V4), IpAddr::V4(Bed::PEER_V4)),
        (IpAddr::V6(Bed::WEIR_V6), IpAddr::V6(Bed::PEER_V6)),
    ] {
        let server = bed.weir().enter(|| bound(here, 4000));
        let client = bed.peer().enter(|| bound(there, 0));
        client.send_to(b"there", (here, 4000)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"there"[..], client.local_addr().unwrap()));
        server.send_to(b"and back", from).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"and back"[..], SocketAddr::new(here, 4000)));
    }
}

#[test]
fn demo_prefixes_reach_weirs_side() {
    need_privileges!();
    let bed = Bed::new(BedOptions::default()).unwrap();
    for (cidr, address) in [("192.0.2.7/32", "192.0.2.7"), ("2001:db8::7/128", "2001:db8::7")] {
        bed.weir().address("lo", cidr).unwrap();
        let address: IpAddr = address.parse().unwrap();
        let server = bed.weir().enter(|| bound(address, 80));
        let here: IpAddr =
            if address.is_ipv4() { Bed::PEER_V4.into() } else { Bed::PEER_V6.into() };
        let client = bed.peer().enter(|| bound(here, 0));
        client.send_to(b"x", (address, 80)).unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from, client.local_addr().unwrap());
    }
}

#[test]
fn as_many_queues_as_asked_for() {
    need_privileges!();
    let bed = Bed::new(BedOptions { queues: 2, mtu: 3000, gro: true }).unwrap();
    for (side, device) in [(bed.weir(), Bed::WEIR_DEVICE), (bed.peer(), Bed::PEER_DEVICE)] {
        let queues = output(side.command("ls").arg(format!("/sys/class/net/{device}/queues")));
        for queue in ["rx-0", "rx-1", "tx-0", "tx-1"] {
            assert!(queues.contains(queue), "{queues}");
        }
        let mtu = output(side.command("cat").arg(format!("/sys/class/net/{device}/mtu")));
        assert_eq!(mtu.trim(), "3000");
    }
}

#[test]
fn offloads_are_as_asked_for() {
    need_privileges!();
    for gro in [false, true] {
        let bed = Bed::new(BedOptions { gro, ..BedOptions::default() }).unwrap();
        let features = output(bed.peer().command("ethtool").args(["-k", Bed::PEER_DEVICE]));
        assert!(features.contains("\ntx-checksumming: off"), "{features}");
        assert!(features.contains("\nrx-checksumming: off"), "{features}");
        let state = if gro { "on" } else { "off" };
        assert!(features.contains(&format!("generic-receive-offload: {state}")), "{features}");
    }
}

#[test]
fn macs_and_indexes_are_the_interfaces_own() {
    need_privileges!();
    let bed = Bed::new(BedOptions::default()).unwrap();
    let (weir, device) = (bed.weir(), Bed::WEIR_DEVICE);
    let index = output(weir.command("cat").arg(format!("/sys/class/net/{device}/ifindex")));
    assert_eq!(weir.ifindex(device).unwrap().to_string(), index.trim());
    let mac = output(weir.command("cat").arg(format!("/sys/class/net/{device}/address")));
    let ours = bed.weir_mac().map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!(ours, mac.trim());
    assert_ne!(bed.weir_mac(), bed.peer_mac());
    let error = weir.mac("absent0").unwrap_err().to_string();
    assert!(error.contains("absent0") && error.contains(weir.name()), "{error}");
    assert!(matches!(weir.ifindex("absent0"), Err(LabError::Interface { .. })));
}

#[test]
fn a_sysctl_changes_its_namespace_alone() {
    need_privileges!();
    let mut lab = Lab::new().unwrap();
    let a = lab.namespace("a").unwrap();
    let b = lab.namespace("b").unwrap();
    let path = "/proc/sys/net/ipv4/ip_default_ttl";
    a.sysctl("net.ipv4.ip_default_ttl", "33").unwrap();
    assert_eq!(a.enter(|| std::fs::read_to_string(path)).unwrap().trim(), "33");
    assert_eq!(b.enter(|| std::fs::read_to_string(path)).unwrap().trim(), "64");
    let error = a.sysctl("net.ipv4.no_such", "1").unwrap_err().to_string();
    assert!(error.contains("net.ipv4.no_such"), "{error}");
}

#[test]
fn errors_carry_the_command() {
    need_privileges!();
    let mut lab = Lab::new().unwrap();
    let namespace = lab.namespace("errors").unwrap();
    let error = namespace.up("absent0").unwrap_err().to_string();
    let command = format!("`ip -n {} link set dev absent0 up`", namespace.name());
    assert!(error.contains(&command) && error.contains("Cannot find device"), "{error}");
    let twice = lab.namespace("errors").unwrap_err().to_string();
    assert!(twice.contains("File exists"), "{twice}");
    let long = "a-name-of-more-than-15";
    let veth = lab.veth((&namespace, long), (&namespace, "b"), &VethOptions::default());
    assert!(veth.unwrap_err().to_string().contains(long));
    for role in ["", "Peer", "a/b", "..", &"x".repeat(33)] {
        assert!(matches!(lab.namespace(role), Err(LabError::Role(_))), "{role}");
    }
}

#[test]
fn a_panic_in_the_namespace_comes_out() {
    need_privileges!();
    let mut lab = Lab::new().unwrap();
    let namespace = lab.namespace("panic").unwrap();
    let panic = std::panic::catch_unwind(|| namespace.enter(|| panic!("from inside")));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"from inside"));
}

#[test]
fn dropped_with_what_runs_in_it() {
    need_privileges!();
    let mut lab = Lab::new().unwrap();
    let namespace = lab.namespace("drop").unwrap();
    let mut sleeper = namespace.command("sleep").arg("60").spawn().unwrap();
    wait_until(|| runs_in(&sleeper, namespace.name()));
    drop(lab);
    assert!(!exists(namespace.name()));
    let status = sleeper.wait().unwrap();
    assert!(!status.success());
}

#[test]
fn removed_by_a_panic() {
    need_privileges!();
    if std::env::var_os(CHILD).is_some() {
        let bed = Bed::new(BedOptions::default()).unwrap();
        println!("\nnamespace {}", bed.weir().name());
        panic!("as planned");
    }
    let mut child = again("removed_by_a_panic");
    let name = announced(&mut child);
    assert!(!child.wait().unwrap().success());
    assert!(!exists(&name), "{name} outlived the panic");
}

#[test]
fn removed_after_sigkill_by_the_next_lab() {
    need_privileges!();
    if std::env::var_os(CHILD).is_some() {
        let bed = Bed::new(BedOptions::default()).unwrap();
        println!("\nnamespace {}", bed.weir().name());
        std::thread::sleep(PATIENCE);
        panic!("nobody killed this process");
    }
    let mut child = again("removed_after_sigkill_by_the_next_lab");
    let name = announced(&mut child);
    let _living = Lab::new().unwrap();
    assert!(exists(&name), "{name} was removed while its process lived");
    child.kill().unwrap();
    child.wait().unwrap();
    let _lab = Lab::new().unwrap();
    assert!(!exists(&name), "{name} outlived its process and the next lab");
}

fn bound(address: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs test `name` of this binary again as a child process.
fn again(name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The namespace that a child says it made.
fn announced(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("namespace ").map(str::to_owned))
        .expect("the child ended before it had made its namespace")
}

fn exists(name: &str) -> bool {
    Path::new("/var/run/netns").join(name).exists()
}

fn runs_in(child: &Child, name: &str) -> bool {
    let inode = |path: String| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map(|metadata| metadata.ino()).ok()
    };
    inode(format!("/proc/{}/ns/net", child.id())) == inode(format!("/var/run/netns/{name}"))
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
