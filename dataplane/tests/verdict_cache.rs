//! What programs said is kept for like packets, and never longer than it holds.

mod support;

use std::sync::Arc;

use support::Bed;
use weir_bpf::{LoadOptions, Loaded, Object};
use weir_dataplane::counters::ProgramCounters;
use weir_dataplane::mailbox::{Attached, Command, Event, ProgramList};

fn load(elf: &[u8]) -> Loaded {
    let object = Object::parse(elf).unwrap();
    object.load(&LoadOptions { cpus: 1, ..LoadOptions::default() }).unwrap()
}

fn attach(bed: &mut Bed, loaded: &Loaded, names: &[&str]) {
    let attached = names.iter().enumerate().map(|(link, name)| Attached {
        link: link as u64,
        program: loaded.programs.iter().find(|program| program.name() == *name).unwrap().clone(),
    });
    bed.command(Command::Attach(Arc::new(ProgramList::new(attached))));
    bed.turn();
}

fn programs(bed: &mut Bed) -> Vec<ProgramCounters> {
    bed.command(Command::Report(Box::default()));
    bed.turn();
    let report = bed.events().into_iter().find_map(|event| match event {
        Event::Report(report) => Some(report),
        _ => None,
    });
    report.expect("a report was asked for").programs.to_vec()
}

/// Who sent the datagram does not matter to the steering program; where it goes does.
fn send(bed: &mut Bed, source: u16, to: &str) -> usize {
    bed.exchange(&format!("198.51.100.9:{source}"), to, b"Weir").len()
}

#[test]
fn like_packets_are_decided_once_until_the_map_changes() {
    let mut bed = Bed::new();
    let one = bed.open("one", "10.0.0.1:1", None);
    let two = bed.open("two", "10.0.0.1:2", None);
    let loaded = load(weir_progs::LOOKUP_ASSIGN);
    let map = |name: &str| loaded.maps.iter().find(|map| map.spec().name == name).unwrap();
    map("by_port").update_socket(&80u32.to_le_bytes(), one, 0).unwrap();
    attach(&mut bed, &loaded, &["by_local_port"]);
    for source in 1000..1100 {
        assert_eq!(send(&mut bed, source, "192.0.2.1:80"), 1);
    }
    assert_eq!(bed.received(one), 100);
    let [counters] = programs(&mut bed)[..] else { panic!("one program") };
    assert_eq!((counters.runs, counters.passed, counters.recalled), (100, 100, 99));

    map("by_port").update_socket(&80u32.to_le_bytes(), two, 0).unwrap();
    send(&mut bed, 1000, "192.0.2.1:80");
    assert_eq!((bed.received(one), bed.received(two)), (100, 1));
    map("by_port").delete(&80u32.to_le_bytes()).unwrap();
    send(&mut bed, 1000, "192.0.2.1:80");
    assert_eq!(bed.received(two), 1);
    assert_eq!(bed.worker.counters().lookup.missed, 1);
}

#[test]
fn a_closed_socket_and_another_program_end_what_was_kept() {
    let mut bed = Bed::new();
    let one = bed.open("one", "10.0.0.1:1", None);
    let loaded = load(weir_progs::LOOKUP_ASSIGN);
    let map = |name: &str| loaded.maps.iter().find(|map| map.spec().name == name).unwrap();
    map("by_port").update_socket(&80u32.to_le_bytes(), one, 0).unwrap();
    attach(&mut bed, &loaded, &["by_local_port"]);
    send(&mut bed, 1, "192.0.2.1:80");
    send(&mut bed, 2, "192.0.2.1:80");
    assert_eq!(bed.worker.counters().lookup.steered, 2);
    attach(&mut bed, &loaded, &["drop"]);
    send(&mut bed, 3, "192.0.2.1:80");
    assert_eq!(bed.worker.counters().lookup.steered, 2);
    attach(&mut bed, &loaded, &["by_local_port"]);
    send(&mut bed, 4, "192.0.2.1:80");
    assert_eq!(bed.worker.counters().lookup.steered, 3);
    bed.command(Command::Close(one));
    send(&mut bed, 5, "192.0.2.1:80");
    assert_eq!(bed.worker.counters().lookup.steered, 3);
    assert_eq!(bed.worker.counters().left(), 5);
}

#[test]
fn what_a_program_counts_it_counts_each_time() {
    let mut bed = Bed::new();
    let one = bed.open("one", "10.0.0.1:80", None);
    let loaded = load(weir_progs::LOOKUP_ASSIGN);
    attach(&mut bed, &loaded, &["pass", "counts"]);
    for source in 0..100 {
        send(&mut bed, 1 + source, "10.0.0.1:80");
    }
    assert_eq!(bed.received(one), 100);
    let map = loaded.maps.iter().find(|map| map.spec().name == "runs_by_port").unwrap();
    assert_eq!(map.lookup(&80u32.to_le_bytes()).unwrap(), 100u64.to_le_bytes());
    assert!(programs(&mut bed).iter().all(|counters| counters.recalled == 0));
}

#[test]
fn without_it_every_packet_is_a_run() {
    let mut bed = Bed::with_verdict_cache(false);
    bed.open("one", "10.0.0.1:80", None);
    attach(&mut bed, &load(weir_progs::LOOKUP_ASSIGN), &["pass"]);
    for source in 0..10 {
        send(&mut bed, 1 + source, "10.0.0.1:80");
    }
    let [counters] = programs(&mut bed)[..] else { panic!("one program") };
    assert_eq!((counters.runs, counters.recalled), (10, 0));
}
