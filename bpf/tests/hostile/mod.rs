//! What is done with hostile bytes, by the fuzz targets and by plain tests alike.
#![allow(dead_code, reason = "each user takes a part")]

use weir_bpf::insn::Insn;
use weir_bpf::{
    Host, LoadOptions, Machine, Object, ProgramSpec, SkLookupContext, SocketFacts, SocketId,
    run_sk_lookup,
};

/// Instructions that a hostile program may run.
const BUDGET: u64 = 20_000;
/// Entries of maps that are made from hostile definitions.
const MAX_ENTRIES: u32 = 1 << 16;

struct Nobody;

impl Host for Nobody {
    fn now_ns(&self) -> u64 {
        0
    }

    fn random(&mut self) -> u32 {
        0
    }

    fn cpu(&self) -> u32 {
        0
    }

    fn trace(&mut self, _text: &str) {}

    fn socket(&self, _socket: SocketId) -> Option<SocketFacts> {
        Some(SocketFacts { family: 2, protocol: 17, state: 7, ..SocketFacts::default() })
    }
}

/// Parses bytes as an object; loads and runs what comes out.
pub fn elf(bytes: &[u8]) {
    let Ok(object) = Object::parse(bytes) else { return };
    let of_maps = object.maps.iter().map(|map| map.initial.as_ref().map_or(0, Vec::len));
    assert!(of_maps.sum::<usize>() <= bytes.len(), "more global data than file");
    if object.maps.iter().all(|map| map.max_entries <= MAX_ENTRIES && map.value_size <= 1 << 16) {
        run(&object);
    }
}

/// Takes bytes as the instructions of a program without maps; loads and runs it.
pub fn interp(bytes: &[u8]) {
    let slots = bytes.chunks_exact(8).filter_map(|slot| slot.first_chunk::<8>());
    let program = ProgramSpec {
        name: "hostile".to_owned(),
        section: "sk_lookup".to_owned(),
        insns: slots.map(|slot| Insn::from_bytes(*slot)).collect(),
        ..ProgramSpec::default()
    };
    run(&Object { license: "GPL".to_owned(), programs: vec![program], ..Object::default() });
}

fn run(object: &Object) {
    let Ok(loaded) = object.load(&LoadOptions::default()) else { return };
    for map in &loaded.maps {
        // Into the maps of sockets; the others refuse it.
        let _ = map.update_socket(&[0; 4], SocketId(5), 0);
    }
    let remote = "192.0.2.9:4321".parse().expect("an address");
    let local = "198.51.100.1:80".parse().expect("an address");
    let mut context = SkLookupContext::v4(17, remote, local, 1);
    let mut machine = Machine::with_budget(BUDGET);
    run_sk_lookup(&loaded.programs, &mut context, &mut Nobody, &mut machine, &mut |_, _| {});
}
