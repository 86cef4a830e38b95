//! A worker over a wire that a test holds both ends of.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{LoadOptions, Object};
use weir_dataplane::device::memory::{MemoryDevice, Wire};
use weir_dataplane::mailbox::{Attached, Command, Event, Mailbox, ProgramList};
use weir_dataplane::registry::Registry;
use weir_dataplane::socket::{Service, SocketId, SocketSpec};
use weir_dataplane::worker::{Worker, WorkerSetup};
use weir_inet::build::Envelope;
use weir_inet::{EthernetHeader, VlanTags};

/// Queues of packets behind a lock: slow, and simple to look into.
#[derive(Clone, Debug, Default)]
pub struct TestWire {
    pub inward: Arc<Mutex<VecDeque<Vec<u8>>>>,
    pub outward: Arc<Mutex<VecDeque<Vec<u8>>>>,
    /// Packets that the far end will still take.
    pub room: Arc<Mutex<usize>>,
}

impl Wire for TestWire {
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        let Some(packet) = self.inward.lock().unwrap().pop_front() else { return 0 };
        buffer[..packet.len()].copy_from_slice(&packet);
        packet.len()
    }

    fn sent(&mut self, packet: &[u8]) -> bool {
        let mut room = self.room.lock().unwrap();
        if *room == 0 {
            return false;
        }
        *room -= 1;
        self.outward.lock().unwrap().push_back(packet.to_vec());
        true
    }

    fn wait(&mut self, _timeout: Duration) {}
}

/// A worker, its books and its wire.
pub struct Bed {
    pub worker: Worker<MemoryDevice<TestWire>>,
    pub wire: TestWire,
    pub mailbox: Arc<Mailbox>,
    pub registry: Registry,
    pub now: u64,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::with_verdict_cache(true)
    }

    pub fn with_verdict_cache(verdict_cache: bool) -> Bed {
        let wire = TestWire::default();
        *wire.room.lock().unwrap() = usize::MAX;
        let mailbox = Mailbox::new();
        let setup =
            WorkerSetup { number: 0, sockets: 64, hash_key: [1, 2], ifindex: 7, verdict_cache };
        let worker = Worker::new(&setup, MemoryDevice::new(wire.clone()), mailbox.clone());
        Bed { worker, wire, mailbox, registry: Registry::new(64), now: 0 }
    }

    /// Opens a socket; a name ending in `discard` says which service.
    pub fn open(&mut self, name: &str, local: &str, remote: Option<&str>) -> SocketId {
        let service = if name.ends_with("discard") { Service::Discard } else { Service::Echo };
        let spec = SocketSpec {
            name: name.into(),
            local: local.parse().unwrap(),
            v6only: false,
            remote: remote.map(|remote| remote.parse().unwrap()),
            service,
        };
        let id = self.registry.open(spec.clone()).unwrap();
        self.command(Command::Open(id, spec));
        self.turn();
        id
    }

    pub fn command(&self, command: Command) {
        self.mailbox.commands.push(command).unwrap();
    }

    pub fn turn(&mut self) {
        self.now += 1_000_000;
        self.worker.turn(self.now);
    }

    pub fn events(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.mailbox.events.pop()).collect()
    }

    /// Sends a datagram through one turn and returns what came out.
    pub fn exchange(&mut self, from: &str, to: &str, payload: &[u8]) -> Vec<Vec<u8>> {
        self.exchange_frame(datagram(from, to, payload))
    }

    pub fn exchange_frame(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.wire.inward.lock().unwrap().push_back(frame);
        self.turn();
        self.wire.outward.lock().unwrap().drain(..).collect()
    }

    /// Datagrams that the socket of that name has received.
    pub fn received(&mut self, id: SocketId) -> u64 {
        let page = weir_dataplane::mailbox::SocketPage {
            start: 0,
            rows: Vec::with_capacity(64),
            next: None,
        };
        self.command(Command::Sockets(Box::new(page)));
        self.turn();
        let events = self.events();
        let page = events.into_iter().find_map(|event| match event {
            Event::Sockets(page) => Some(page),
            _ => None,
        });
        let page = page.expect("a page was asked for");
        page.rows.iter().find(|(known, _)| *known == id).expect("an open socket").1.received
    }
}

/// Opens a socket that echoes at each local address, connected where there is a remote one.
pub fn open_echoes(
    mailbox: &Mailbox,
    registry: &mut Registry,
    v6only: bool,
    addresses: &[(&str, Option<&str>)],
) {
    for (local, remote) in addresses {
        let spec = SocketSpec {
            name: (*local).into(),
            local: local.parse().unwrap(),
            v6only,
            remote: remote.map(|remote| remote.parse().unwrap()),
            service: Service::Echo,
        };
        let id = registry.open(spec.clone()).unwrap();
        mailbox.commands.push(Command::Open(id, spec)).unwrap();
    }
}

/// The steering object, with a binding of 192.0.2.1, all ports, to the first of the sockets.
pub fn steer_programs(registry: &Registry, jit: bool) -> Arc<ProgramList> {
    let object = Object::parse(weir_progs::STEER).unwrap();
    let loaded = object.load(&LoadOptions { cpus: 1, ..LoadOptions::default() }).unwrap();
    if jit {
        loaded.compile(&VerifyOptions::default()).unwrap();
    }
    let map = |name: &str| loaded.maps.iter().find(|map| map.spec().name == name).unwrap();
    let (first, _) = registry.iter().next().unwrap();
    map("sockets").update_socket(&[0; 4], first, 0).unwrap();
    let mut key = [0; 24];
    key[..4].copy_from_slice(&160u32.to_le_bytes());
    key[4] = 17;
    key[18..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
    map("bindings").update(&key, &[0; 4], 0).unwrap();
    let program = loaded.programs[0].clone();
    Arc::new(ProgramList::new([Attached { link: 1, program }]))
}

/// A UDP frame.
pub fn datagram(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 2048];
    let length = weir_inet::build::udp(&mut frame, &envelope(from, to), payload).unwrap();
    frame.truncate(length);
    frame
}

/// A TCP SYN frame.
pub fn syn(from: &str, to: &str) -> Vec<u8> {
    let mut frame = vec![0; 2048];
    let length = weir_inet::build::tcp_syn(&mut frame, &envelope(from, to), 1).unwrap();
    frame.truncate(length);
    frame
}

fn envelope(from: &str, to: &str) -> Envelope {
    let endpoint = |text: &str| text.parse::<SocketAddr>().unwrap().into();
    Envelope {
        ethernet: EthernetHeader { destination: [2, 0, 0, 0, 0, 1], source: [2, 0, 0, 0, 0, 2] },
        vlan: VlanTags::default(),
        source: endpoint(from),
        destination: endpoint(to),
        traffic_class: 0,
    }
}
