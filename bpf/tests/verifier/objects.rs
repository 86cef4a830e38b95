//! Our own objects: every program that has rules here is accepted.

use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{LoadOptions, Object};

#[test]
fn our_own_programs_are_accepted() {
    let objects = [weir_progs::STEER, weir_progs::LOOKUP_ASSIGN, weir_progs::LOOKUP_DROP];
    let mut programs = 0;
    for bytes in objects {
        let options = LoadOptions { cpus: 2, ..LoadOptions::default() };
        let loaded = Object::parse(bytes).unwrap().load(&options).unwrap();
        for program in &loaded.programs {
            let verified = program.verify(&VerifyOptions::default());
            let name = program.name();
            assert!(verified.is_ok(), "{name}: {}", verified.err().unwrap());
            programs += 1;
        }
    }
    assert!(programs > 3);
}
