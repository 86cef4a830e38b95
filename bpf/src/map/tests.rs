//! What programs do, lookups without a lock, while others write.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Map, MapSpec, MapType, flags};

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
