//! The kernel: a UDP socket whose filter drops all, or a TCP listener that nobody serves.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Instant;

use anyhow::{Context, ensure};
use socket2::{Domain, SockFilter, Socket, Type};
use weir_xsk::kernel::{Link, Object};

use super::receiver::Sample;
use super::scene::{ELSEWHERE, PORT, Scene};

/// `BPF_RET | BPF_K`: a classic filter of this one instruction returns its operand.
const RETURN: u16 = 0x06;

/// Receives for one window; called in Weir's namespace.
pub fn sample(scene: &Scene, program: bool) -> anyhow::Result<Sample> {
    let port = if program { ELSEWHERE } else { PORT };
    let socket = open(scene, port)?;
    let link = if program { Some(attach(scene, &socket)?) } else { None };
    let sample = scene.flooded(|| {
        thread::sleep(scene.warm_up);
        let (before, started) = (Counts::read(scene, port)?, Instant::now());
        thread::sleep(scene.window);
        let (after, elapsed) = (Counts::read(scene, port)?, started.elapsed());
        let received = after.since(&before)?;
        Ok(Sample { received, elapsed, busy: None, recalled: 0 })
    });
    drop(link);
    sample
}

fn open(scene: &Scene, port: u16) -> anyhow::Result<Socket> {
    let address = SocketAddr::new(scene.destination(), port);
    let kind = if scene.is_tcp() { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if !scene.is_tcp() {
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
    }
    socket.bind(&address.into()).with_context(|| address.to_string())?;
    if scene.is_tcp() {
        socket.listen(4096)?;
    }
    Ok(socket)
}

/// Attaches the object to the namespace that this thread is in.
fn attach(scene: &Scene, socket: &Socket) -> anyhow::Result<Link> {
    let object = Object::load("steer", weir_progs::STEER)?;
    let bindings = object.map("bindings")?;
    for entry in scene.entries() {
        bindings.update(&entry.key(), &entry.value(), 0)?;
    }
    let descriptor = u64::try_from(socket.as_raw_fd())?;
    object.map("sockets")?.update(&0u32.to_ne_bytes(), &descriptor.to_ne_bytes(), 0)?;
    let namespace = File::open("/proc/thread-self/ns/net")?;
    Ok(object.program("steer")?.attach_netns(namespace.as_fd())?)
}

/// What the kernel has counted at one moment.
#[derive(Debug)]
struct Counts {
    /// Datagrams that the socket dropped, or segments that came in.
    received: u64,
    /// Datagrams for no socket, or resets sent: none in a good run.
    refused: u64,
}

impl Counts {
    fn read(scene: &Scene, port: u16) -> anyhow::Result<Counts> {
        // Not `/proc/net`, which shows the namespace of the process' first thread.
        let table = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            fs::read_to_string(&path).context(path)
        };
        if scene.is_tcp() {
            let snmp = table("snmp")?;
            return Ok(Counts {
                received: column(&snmp, "Tcp:", "InSegs")?,
                refused: column(&snmp, "Tcp:", "OutRsts")?,
            });
        }
        let (sockets, refused) = if scene.is_ipv6() {
            (table("udp6")?, row(&table("snmp6")?, "Udp6NoPorts")?)
        } else {
            (table("udp")?, column(&table("snmp")?, "Udp:", "NoPorts")?)
        };
        Ok(Counts { received: drops(&sockets, port)?, refused })
    }

    fn since(&self, before: &Counts) -> anyhow::Result<u64> {
        let refused = self.refused - before.refused;
        ensure!(refused == 0, "the kernel found no socket for {refused} packets");
        let received = self.received.checked_sub(before.received).context("a counter ran over")?;
        ensure!(received > 0, "nothing was received");
        Ok(received)
    }
}

/// The drops, in the last column of the one socket that is bound to this port.
fn drops(table: &str, port: u16) -> anyhow::Result<u64> {
    let ending = format!(":{port:04X}");
    let mut bound = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|local| local.ends_with(&ending)).then(|| fields.last().copied())
    });
    let drops = bound.next().flatten().with_context(|| format!("no socket on port {port}"))?;
    ensure!(bound.next().is_none(), "several sockets on port {port}");
    Ok(drops.parse()?)
}

/// A value of `snmp`: names and values stand in two lines of the same label.
fn column(table: &str, label: &str, name: &str) -> anyhow::Result<u64> {
    let mut lines = table.lines().filter(|line| line.split_whitespace().next() == Some(label));
    let (names, values) = lines.next().zip(lines.next()).with_context(|| label.to_owned())?;
    let found = names.split_whitespace().zip(values.split_whitespace());
    let value = found.into_iter().find(|(known, _)| *known == name);
    Ok(value.with_context(|| format!("no {label} {name}"))?.1.parse()?)
}

/// A value of `snmp6`: one a line.
fn row(table: &str, name: &str) -> anyhow::Result<u64> {
    let found = table
        .lines()
        .find_map(|line| line.split_once(char::is_whitespace).filter(|(known, _)| *known == name));
    Ok(found.with_context(|| format!("no {name}"))?.1.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_tables_of_the_kernel() {
        let snmp =
            "Udp: InDatagrams NoPorts InErrors\nUdp: 1 2 3\nUdpLite: InDatagrams\nUdpLite: 9\n";
        assert_eq!(column(snmp, "Udp:", "NoPorts").unwrap(), 2);
        assert!(column(snmp, "Udp:", "Nothing").is_err());
        assert_eq!(row("Ip6InReceives \t 5\nUdp6NoPorts   \t7\n", "Udp6NoPorts").unwrap(), 7);
        let udp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            352: 01004D0A:0050 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0000000000000000 1234\n";
        assert_eq!(drops(udp, 80).unwrap(), 1234);
        assert!(drops(udp, 8080).is_err());
        assert!(drops(&format!("{udp}{udp}"), 80).is_err());
    }
}
