//! A capture replayed through a worker, and what it sent recorded in another.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use support::{datagram, open_echoes};
use weir_dataplane::device::memory::MemoryDevice;
use weir_dataplane::device::pcap::{PcapFailure, PcapWire};
use weir_dataplane::device::{Device, Mode};
use weir_dataplane::mailbox::Mailbox;
use weir_dataplane::registry::Registry;
use weir_dataplane::worker::{Worker, WorkerSetup};

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("weir-pcap-{}-{name}", std::process::id()))
}

fn write_capture(path: &PathBuf, packets: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for packet in packets {
        let packet = PcapPacket::new(Duration::ZERO, packet.len() as u32, packet);
        writer.write_packet(&packet).unwrap();
    }
}

#[test]
fn replays_and_records() {
    let (replay, record) = (place("replay"), place("record"));
    let mut packets: Vec<_> = (0..100u8)
        .map(|number| datagram("198.51.100.1:4000", "192.0.2.1:7", &[number; 9]))
        .collect();
    packets.push(vec![0; 3000]);
    write_capture(&replay, &packets);

    let device = MemoryDevice::new(PcapWire::open(&replay, Some(&record)).unwrap());
    assert_eq!(device.mode(), Mode::Pcap);
    let mailbox = Mailbox::new();
    let setup =
        WorkerSetup { number: 0, sockets: 4, hash_key: [1, 2], ifindex: 0, verdict_cache: true };
    let mut worker = Worker::new(&setup, device, mailbox.clone());
    open_echoes(&mailbox, &mut Registry::new(4), false, &[("192.0.2.1:7", None)]);
    for turn in 1..10 {
        worker.turn(turn);
    }
    assert_eq!(worker.counters().answered, 100);
    assert_eq!(worker.device_mut().wire().skipped(), 1, "longer than a frame");
    assert!(worker.device_mut().wire().is_finished());
    drop(worker);

    let mut reader = PcapReader::new(File::open(&record).unwrap()).unwrap();
    let mut number = 0;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        let parsed = weir_inet::parse(&packet.data, weir_inet::ChecksumPolicy::Verify).unwrap();
        assert_eq!(parsed.payload(&packet.data), [number; 9]);
        number += 1;
    }
    assert_eq!(number, 100);
    std::fs::remove_file(replay).unwrap();
    std::fs::remove_file(record).unwrap();
}

#[test]
fn refuses_what_is_no_capture() {
    let path = place("other");
    File::create(&path).unwrap().write_all(b"not a capture, but long enough to be one").unwrap();
    assert!(matches!(PcapWire::open(&path, None), Err(PcapFailure::Format(_))));
    assert!(matches!(PcapWire::open(&place("absent"), None), Err(PcapFailure::Io(_))));
    std::fs::remove_file(path).unwrap();
}
