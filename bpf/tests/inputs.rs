//! What a run says of its inputs: the bytes of the context it read, and whether it would repeat.

use std::sync::Arc;

use weir_bpf::{
    Host, Inputs, LoadOptions, Loaded, Machine, Object, SkLookupContext, SocketFacts, SocketId,
    run_sk_lookup,
};

struct Nobody;

impl Host for Nobody {
    fn now_ns(&self) -> u64 {
        1
    }

    fn random(&mut self) -> u32 {
        4
    }

    fn cpu(&self) -> u32 {
        0
    }

    fn trace(&mut self, _text: &str) {}

    fn socket(&self, _socket: SocketId) -> Option<SocketFacts> {
        Some(SocketFacts { family: 2, kind: 2, protocol: 17, state: 7, ..SocketFacts::default() })
    }
}

fn load(elf: &[u8]) -> Loaded {
    let object = Object::parse(elf).unwrap();
    object.load(&LoadOptions { cpus: 1, ..LoadOptions::default() }).unwrap()
}

fn inputs(loaded: &Loaded, program: &str) -> Inputs {
    let program = loaded.programs.iter().find(|known| known.name() == program).unwrap();
    let (remote, local) = ("192.0.2.1:5000", "192.0.2.2:80");
    let mut context = SkLookupContext::v4(17, remote.parse().unwrap(), local.parse().unwrap(), 3);
    let programs = [Arc::clone(program)];
    let machine = &mut Machine::new();
    run_sk_lookup(&programs, &mut context, &mut Nobody, machine, &mut |_, _| ()).inputs
}

fn bytes(ranges: &[std::ops::Range<u32>]) -> u128 {
    ranges.iter().cloned().flatten().fold(0, |mask, byte| mask | 1 << byte)
}

#[test]
fn a_steering_program_repeats_on_what_it_read() {
    let loaded = load(weir_progs::STEER);
    let inputs = inputs(&loaded, "steer");
    assert!(inputs.repeatable);
    // Family, protocol, local address and port; not who sent it.
    assert_eq!(inputs.context_bytes, bytes(&[8..16, 40..44, 60..64]));
}

#[test]
fn a_program_that_writes_does_not_repeat_nor_one_that_reads_what_programs_write() {
    let loaded = load(weir_progs::LOOKUP_ASSIGN);
    assert!(inputs(&loaded, "pass").repeatable);
    assert!(!inputs(&loaded, "counts").repeatable, "updates a map");
    assert!(!inputs(&loaded, "reads_context").repeatable, "stores to a value");
    // `reset_port` stands in the section that `first` stores to.
    assert!(
        !inputs(&loaded, "first").repeatable || {
            // Its socket map is empty: nothing is assigned, nothing stored yet.
            let map = loaded.maps.iter().find(|map| map.spec().name == "sockets").unwrap();
            map.update_socket(&[0; 4], SocketId(1), 0).unwrap();
            !inputs(&loaded, "first").repeatable
        }
    );
    assert!(!inputs(&loaded, "reset").repeatable, "reads a value that `first` has stored beside");
}

#[test]
fn a_map_has_a_new_version_after_each_change() {
    let loaded = load(weir_progs::LOOKUP_ASSIGN);
    let map = |name: &str| loaded.maps.iter().find(|map| map.spec().name == name).unwrap();
    let mut versions = vec![map("sockets").version()];
    let mut changed = || {
        let version = map("sockets").version();
        assert!(!versions.contains(&version));
        versions.push(version);
    };
    map("sockets").update_socket(&[0; 4], SocketId(1), 0).unwrap();
    changed();
    map("sockets").delete(&[0; 4]).unwrap();
    changed();
    map("sockets").update_socket(&[0; 4], SocketId(2), 0).unwrap();
    changed();
    map("sockets").remove_socket(SocketId(2));
    changed();
    let before = map("runs").version();
    map("runs").update(&[0; 4], &[0; 8], 0).unwrap();
    assert_ne!(map("runs").version(), before);
}
