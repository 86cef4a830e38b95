//! What programs do, lookups without a lock, while others write.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Map, MapSpec, MapType, Source, flags};
use crate::errno::Errno;

/// One thread adds, replaces and deletes; others must find every key that is always there.
fn find_beside_a_writer(map: &Map, key: impl Fn(u32) -> Vec<u8> + Sync) {
    const KEPT: u32 = 16;
    for i in 0..KEPT {
        map.update(&key(i), &[0; 8], flags::ANY).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let keys: Vec<_> = (0..KEPT).map(&key).collect();
                while !done.load(Ordering::Relaxed) {
                    for key in &keys {
                        assert!(map.find(key, 0).is_some(), "a key that stays is found");
                    }
                }
            });
        }
        for round in 1..100_000_u32 {
            let i = round % 64;
            if i < KEPT {
                map.update(&key(i), &[1; 8], flags::EXIST).unwrap();
            } else if map.update(&key(i), &[1; 8], flags::NOEXIST).is_err() {
                map.delete(&key(i)).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn hash_finds_what_stays() {
    let spec = MapSpec::new("m", MapType::Hash, 8, 8, 64);
    let map = Map::create(&spec, 1).unwrap();
    find_beside_a_writer(&map, |i| u64::from(i).to_le_bytes().to_vec());
}

#[test]
fn lpm_finds_what_stays() {
    let spec = MapSpec::new("m", MapType::LpmTrie, 8, 8, 64).with_flags(flags::NO_PREALLOC);
    let map = Map::create(&spec, 1).unwrap();
    find_beside_a_writer(&map, |i| {
        let data = i.wrapping_mul(0x9e37_79b9).to_be_bytes();
        [32_u32.to_le_bytes(), data].concat()
    });
}

#[test]
fn overruns_end_in_the_gap() {
    let map = Map::create(&MapSpec::new("m", MapType::Array, 4, 8, 4), 1).unwrap();
    let values = map.values().unwrap();
    let second = map.find(&1_u32.to_le_bytes(), 0).unwrap();
    assert_eq!(values.locate(second, 8), Some(8));
    assert_eq!(values.locate(second + 4, 4), Some(12));
    for (offset, size) in [(second + 1, 8), (second + 8, 1), (second - 1, 1), (second + 15, 1)] {
        assert_eq!(values.locate(offset, size), None, "{size} at {offset}");
    }
    assert_eq!(values.locate(1 << 40, 1), None);
}

#[test]
fn an_entry_in_use_outlives_eviction() {
    let map = Map::create(&MapSpec::new("m", MapType::LruHash, 4, 8, 64), 1).unwrap();
    let key = |i: u32| i.to_le_bytes();
    map.update(&key(0), &[9; 8], 0).unwrap();
    for i in 1..10_000 {
        assert!(map.find(&key(0), 0).is_some(), "evicted at {i}, though in use");
        map.update(&key(i), &[1; 8], 0).unwrap();
        assert!(map.lookup(&key(i)).is_ok(), "the newest is there");
        assert!(map.len() <= 64);
    }
    assert_eq!((map.len(), map.lookup(&key(1))), (64, Err(Errno::ENOENT)));
}

#[test]
fn a_programs_new_entry_is_zero_on_other_cpus() {
    let map = Map::create(&MapSpec::new("m", MapType::PerCpuHash, 4, 8, 1), 3).unwrap();
    let all = |values: [u64; 3]| values.map(u64::to_le_bytes).concat();
    map.update(&[1; 4], &all([1, 2, 3]), 0).unwrap();
    map.insert(&[1; 4], Source::Bytes(&[7, 0, 0, 0, 0, 0, 0, 0]), 0, 1).unwrap();
    assert_eq!(map.lookup(&[1; 4]), Ok(all([1, 7, 3])));
    // Until the element is used again, which a full map does sooner or later.
    for i in 2..200_u8 {
        map.delete(&[i - 1; 4]).unwrap();
        map.insert(&[i; 4], Source::Bytes(&[i, 0, 0, 0, 0, 0, 0, 0]), 0, 2).unwrap();
        assert_eq!(map.lookup(&[i; 4]), Ok(all([0, 0, i.into()])));
    }
}

#[test]
fn a_locked_value_is_changed_whole() {
    for map_type in [MapType::Array, MapType::Hash] {
        let spec = MapSpec { lock_at: Some(4), ..MapSpec::new("m", map_type, 4, 24, 4) };
        let map = Map::create(&spec, 1).unwrap();
        let key = [0; 4];
        map.update(&key, &[0; 24], flags::LOCK).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let value = map.lookup_with(&key, flags::LOCK).unwrap();
                    assert_eq!(value[4..8], [0; 4], "the lock is nobody's business");
                    assert!(value[8..].iter().all(|byte| *byte == value[0]), "{value:?}");
                }
            });
            for round in 0..20_000_u32 {
                map.update(&key, &[round as u8; 24], flags::LOCK | flags::EXIST).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(map.lookup_with(&key, 8), Err(Errno::EINVAL));
        assert_eq!(map.freeze(), Err(Errno::ENOTSUPP));
    }
    let spec = MapSpec { lock_at: Some(2), ..MapSpec::new("m", MapType::Array, 4, 24, 4) };
    assert_eq!(Map::create(&spec, 1).err(), Some(Errno::EINVAL));
}
