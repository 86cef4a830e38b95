//! The fuzz targets' corpora, and mutations of real objects, through the targets' own functions.

mod hostile;

use std::path::Path;

use proptest::prelude::*;
use weir_bpf::{Object, ObjectError};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "the corpus of {target} is empty");
}

#[test]
fn corpora_are_replayed() {
    replay("elf", hostile::elf);
    replay("interp", hostile::interp);
}

#[test]
fn every_prefix_of_an_object_is_refused_or_read() {
    for length in (0..weir_progs::STEER.len()).step_by(7) {
        hostile::elf(&weir_progs::STEER[..length]);
    }
    assert!(Object::parse(weir_progs::STEER).is_ok());
}

#[test]
fn other_files_are_refused() {
    assert!(matches!(Object::parse(b"#!/bin/sh\n"), Err(ObjectError::Elf(_))));
    let mut other = weir_progs::STEER.to_vec();
    other[18] = 62;
    assert_eq!(Object::parse(&other), Err(ObjectError::Machine));
}

#[test]
fn programs_of_other_types_are_kept_and_refused_at_load() {
    let object = Object::parse(weir_progs::PASS).unwrap();
    assert!(object.programs[0].hook().is_none());
    let error = object.load(&Default::default()).unwrap_err().to_string();
    assert!(error.contains("of no known program type"), "{error}");
}

/// Objects of our own loader that have no sk_lookup programs must at least be read.
#[test]
fn all_objects_of_the_house_are_read() {
    for (name, bytes) in weir_progs::ALL {
        let object = Object::parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!object.programs.is_empty(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn changed_objects_never_panic(
        which in 0..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let from = if which == 0 { weir_progs::STEER } else { weir_progs::LOOKUP_ASSIGN };
        let mut bytes = from.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        hostile::elf(&bytes);
    }

    /// The header and the section table decide most; they are hit on purpose.
    #[test]
    fn changed_headers_never_panic(
        changes in prop::collection::vec((0..2_000_usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = weir_progs::STEER.to_vec();
        let length = bytes.len();
        for (at, byte) in changes {
            // Near the end is the section table, at the start the header.
            let at = if at < 64 { at } else { length - 1 - at % 1_600 };
            bytes[at] = byte;
        }
        hostile::elf(&bytes);
    }

    #[test]
    fn any_bytes_as_instructions(bytes in prop::collection::vec(any::<u8>(), 8..128)) {
        hostile::interp(&bytes);
    }
}
