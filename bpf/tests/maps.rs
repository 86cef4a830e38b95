//! Maps against plain models, the kernel's errors, and readers beside writers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use weir_bpf::{Errno, Map, MapSpec, MapType, SocketId, flags};

fn create(map_type: MapType, key: u32, value: u32, entries: u32, flags: u32) -> Result<Map, Errno> {
    Map::create(&MapSpec::new("m", map_type, key, value, entries).with_flags(flags), 2)
}

#[derive(Clone, Debug)]
enum Step {
    Update(Vec<u8>, u64, u64),
    Delete(Vec<u8>),
    Lookup(Vec<u8>),
}

fn steps(key: impl Strategy<Value = Vec<u8>> + Clone) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (key.clone(), any::<u64>(), 0..4_u64).prop_map(|(k, v, f)| Step::Update(k, v, f)),
        2 => key.clone().prop_map(Step::Delete),
        2 => key.prop_map(Step::Lookup),
    ];
    prop::collection::vec(step, 1..200)
}

/// All keys, by walking; fails if the walk does not end.
fn keys(map: &Map) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut key: Option<Vec<u8>> = None;
    while let Ok(next) = map.next_key(key.as_deref()) {
        keys.push(next.clone());
        assert!(keys.len() <= map.len(), "the walk goes in circles");
        key = Some(next);
    }
    keys
}

fn value(bytes: Vec<u8>) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

proptest! {
    #[test]
    fn hash_is_a_dictionary(steps in steps(prop::collection::vec(0..4_u8, 3))) {
        let map = create(MapType::Hash, 3, 8, 20, 0).unwrap();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Update(key, new, flag) => {
                    let expected = match (model.contains_key(&key), flag) {
                        (_, 3..) => Err(Errno::EINVAL),
                        (true, 1) => Err(Errno::EEXIST),
                        (false, 2) => Err(Errno::ENOENT),
                        (false, _) if model.len() == 20 => Err(Errno::E2BIG),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(map.update(&key, &new.to_le_bytes(), flag), expected);
                    if expected.is_ok() {
                        model.insert(key, new);
                    }
                }
                Step::Delete(key) => {
                    let expected = model.remove(&key).map(|_| ()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(map.delete(&key), expected);
                }
                Step::Lookup(key) => {
                    let expected = model.get(&key).copied().ok_or(Errno::ENOENT);
                    prop_assert_eq!(map.lookup(&key).map(value), expected);
                }
            }
        }
        let mut walked = keys(&map);
        walked.sort();
        prop_assert_eq!(walked, model.keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!(map.len(), model.len());
    }

    #[test]
    fn lpm_finds_the_longest_prefix(steps in steps(prefix())) {
        let map = create(MapType::LpmTrie, 7, 8, 20, flags::NO_PREALLOC).unwrap();
        let mut model: BTreeMap<(u32, u32), (u64, Vec<u8>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Update(key, new, flag) => {
                    let id = masked(&key);
                    let expected = match (model.contains_key(&id), flag) {
                        (_, 3..) => Err(Errno::EINVAL),
                        _ if id.0 > 24 => Err(Errno::EINVAL),
                        (true, 1) => Err(Errno::EEXIST),
                        (false, 2) => Err(Errno::ENOENT),
                        (false, _) if model.len() == 20 => Err(Errno::ENOSPC),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(map.update(&key, &new.to_le_bytes(), flag), expected);
                    if expected.is_ok() {
                        model.insert(id, (new, key));
                    }
                }
                Step::Delete(key) => {
                    let id = masked(&key);
                    let expected = match model.remove(&id) {
                        _ if id.0 > 24 => Err(Errno::EINVAL),
                        found => found.map(|_| ()).ok_or(Errno::ENOENT),
                    };
                    prop_assert_eq!(map.delete(&key), expected);
                }
                Step::Lookup(key) => {
                    let (length, _) = masked(&key);
                    let fits = |id: &(u32, u32)| id.0 <= length && *id == cut(&key, id.0);
                    let longest = model.iter().filter(|(id, _)| fits(id)).max_by_key(|(id, _)| id.0);
                    let expected = match longest {
                        Some((_, (new, _))) if length <= 24 => Ok(*new),
                        _ => Err(Errno::ENOENT),
                    };
                    prop_assert_eq!(map.lookup(&key).map(value), expected);
                }
            }
        }
        let mut walked = keys(&map);
        walked.sort();
        let mut expected: Vec<_> = model.values().map(|(_, key)| key.clone()).collect();
        expected.sort();
        prop_assert_eq!(walked, expected);
        prop_assert_eq!(map.len(), model.len());
    }
}

/// A prefix length of 0 to 26 bits (24 is the most that fits), and few different bytes.
fn prefix() -> impl Strategy<Value = Vec<u8>> + Clone {
    let byte = prop::sample::select(vec![0_u8, 1, 0x80, 0xff]);
    (0..27_u32, prop::collection::vec(byte, 3))
        .prop_map(|(length, data)| [length.to_le_bytes().to_vec(), data].concat())
}

fn masked(key: &[u8]) -> (u32, u32) {
    cut(key, u32::from_le_bytes(key[..4].try_into().unwrap()))
}

fn cut(key: &[u8], length: u32) -> (u32, u32) {
    let bits = u32::from_be_bytes([key[4], key[5], key[6], 0]);
    (length, bits & u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0))
}

#[test]
fn creation_is_refused_as_by_the_kernel() {
    use MapType::{Array, Hash, LpmTrie, PerCpuArray, SockHash, SockMap};
    // Seen on Linux 6.18.
    for (map_type, key, value, entries, flags, errno) in [
        (Hash, 4, 8, 0, 0, Errno::EINVAL),
        (Hash, 0, 8, 4, 0, Errno::EINVAL),
        (Hash, 4, 0x8000_0000, 4, 0, Errno::E2BIG),
        (Hash, 4 << 20, 8, 1, 0, Errno::E2BIG),
        (Hash, 4, 8, (1 << 27) + 1, 0, Errno::E2BIG),
        (Hash, 4, 8, 4, flags::RDONLY | flags::WRONLY, Errno::EINVAL),
        (Hash, 4, 8, 4, flags::RDONLY_PROG | flags::WRONLY_PROG, Errno::EINVAL),
        (Hash, 4, 8, 4, flags::MMAPABLE, Errno::EINVAL),
        (Array, 4, 8, 4, flags::NO_PREALLOC, Errno::EINVAL),
        (Array, 8, 8, 4, 0, Errno::EINVAL),
        (Array, 4, 0x8000_0000, 4, 0, Errno::E2BIG),
        (PerCpuArray, 4, 8, 4, flags::NUMA_NODE, Errno::EINVAL),
        (PerCpuArray, 4, 32_769, 1, 0, Errno::E2BIG),
        (LpmTrie, 4, 8, 4, flags::NO_PREALLOC, Errno::EINVAL),
        (LpmTrie, 261, 8, 4, flags::NO_PREALLOC, Errno::EINVAL),
        (LpmTrie, 8, 4 << 20, 1, flags::NO_PREALLOC, Errno::EINVAL),
        (LpmTrie, 8, 8, 4, 0, Errno::EINVAL),
        (SockMap, 4, 6, 4, 0, Errno::EINVAL),
        (SockMap, 4, 8, 4, flags::RDONLY_PROG, Errno::EINVAL),
        (SockHash, 513, 8, 4, 0, Errno::E2BIG),
        (SockHash, 4, 8, (1 << 28) + 1, 0, Errno::EINVAL),
        (MapType::Unknown(99), 4, 8, 4, 0, Errno::EINVAL),
    ] {
        let made = create(map_type, key, value, entries, flags).map(|_| ());
        assert_eq!(made, Err(errno), "{map_type:?} {key} {value} {entries} {flags:#x}");
    }
    for (map_type, key, value, flags) in [
        (Hash, 513, 8, flags::ZERO_SEED),
        (Array, 4, 40_000, flags::MMAPABLE | flags::INNER_MAP),
        (PerCpuArray, 4, 32_768, 0),
        (LpmTrie, 5, 1, flags::NO_PREALLOC),
        (LpmTrie, 260, 8, flags::NO_PREALLOC),
        (SockMap, 4, 4, 0),
        (SockHash, 512, 8, 0),
    ] {
        assert!(create(map_type, key, value, 4, flags).is_ok(), "{map_type:?} {key} {value}");
    }
}

#[test]
fn arrays_refuse_as_the_kernels() {
    let map = create(MapType::Array, 4, 8, 2, 0).unwrap();
    let key = |index: u32| index.to_le_bytes();
    assert_eq!(map.lookup(&key(1)), Ok(vec![0; 8]));
    assert_eq!(map.lookup(&key(2)), Err(Errno::ENOENT));
    assert_eq!(map.update(&key(0), &[1; 8], flags::EXIST), Ok(()));
    assert_eq!(map.update(&key(0), &[1; 8], flags::NOEXIST), Err(Errno::EEXIST));
    assert_eq!(map.update(&key(2), &[1; 8], flags::NOEXIST), Err(Errno::E2BIG));
    assert_eq!(map.update(&key(2), &[1; 8], 3), Err(Errno::EINVAL));
    assert_eq!(map.update(&key(0), &[1; 7], 0), Err(Errno::EINVAL));
    assert_eq!(map.delete(&key(0)), Err(Errno::EINVAL));
    assert_eq!(map.next_key(None), Ok(key(0).to_vec()));
    assert_eq!(map.next_key(Some(&key(0))), Ok(key(1).to_vec()));
    assert_eq!(map.next_key(Some(&key(1))), Err(Errno::ENOENT));
    assert_eq!(map.next_key(Some(&key(7))), Ok(key(0).to_vec()));
    assert_eq!(map.freeze(), Ok(()));
    assert_eq!(map.freeze(), Err(Errno::EPERM));
    assert_eq!(map.update(&key(0), &[1; 8], 0), Err(Errno::EPERM));
    let written = create(MapType::Hash, 4, 8, 2, flags::WRONLY).unwrap();
    assert_eq!(written.update(&key(0), &[1; 8], 0), Ok(()));
    assert_eq!(written.lookup(&key(0)), Err(Errno::EPERM));
    assert_eq!(written.next_key(None), Err(Errno::EPERM));
}

#[test]
fn a_value_for_each_cpu() {
    let map = create(MapType::PerCpuArray, 4, 5, 2, 0).unwrap();
    let all: Vec<u8> = (0..16).collect();
    assert_eq!(map.update(&[1, 0, 0, 0], &all[..8], 0), Err(Errno::EINVAL));
    map.update(&[1, 0, 0, 0], &all, 0).unwrap();
    let read = map.lookup(&[1, 0, 0, 0]).unwrap();
    assert_eq!(read, [0, 1, 2, 3, 4, 0, 0, 0, 8, 9, 10, 11, 12, 0, 0, 0]);
    assert_eq!(map.lookup(&[0; 4]).unwrap(), [0; 16]);
}

#[test]
fn sockets_enter_and_leave() {
    let key = |index: u32| index.to_le_bytes();
    for (map_type, absent, full) in [
        (MapType::SockMap, Errno::EINVAL, Errno::E2BIG),
        (MapType::SockHash, Errno::ENOENT, Errno::E2BIG),
    ] {
        let map = create(map_type, 4, 8, 2, 0).unwrap();
        let (a, b) = (SocketId(0), SocketId(u64::MAX - 1));
        assert_eq!(map.lookup(&key(0)), Err(Errno::ENOENT));
        assert_eq!(map.delete(&key(0)), Err(absent));
        assert_eq!(map.update_socket(&key(0), a, flags::EXIST), Err(Errno::ENOENT));
        assert_eq!(map.update_socket(&key(9), a, 3), Err(Errno::EINVAL));
        assert_eq!(map.update_socket(&key(0), SocketId(u64::MAX), 0), Err(Errno::EINVAL));
        assert_eq!(map.update_socket(&key(0), a, flags::NOEXIST), Ok(()));
        assert_eq!(map.update_socket(&key(0), b, flags::NOEXIST), Err(Errno::EEXIST));
        assert_eq!(map.update_socket(&key(1), a, 0), Ok(()));
        assert_eq!(map.update_socket(&key(2), a, 0), Err(full));
        assert_eq!(map.update(&key(0), &[0; 8], 0), Err(Errno::EOPNOTSUPP));
        assert_eq!((map.len(), map.lookup_socket(&key(1))), (2, Some(a)));
        assert_eq!(map.update_socket(&key(1), b, 0), Ok(()));
        assert_eq!(map.lookup(&key(1)), Ok(b.0.to_le_bytes().to_vec()));
        assert_eq!((map.remove_socket(a), map.remove_socket(a)), (1, 0));
        assert_eq!((map.lookup_socket(&key(0)), map.lookup_socket(&key(1))), (None, Some(b)));
        assert_eq!((map.delete(&key(1)), map.len()), (Ok(()), 0));
    }
    let narrow = create(MapType::SockMap, 4, 4, 2, 0).unwrap();
    assert_eq!(narrow.update_socket(&key(0), SocketId(1), 0), Ok(()));
    assert_eq!(narrow.lookup(&key(0)), Err(Errno::ENOSPC));
}

/// One thread adds, replaces and deletes; others must find every key that always stays, with a
/// value that belongs to it.
fn readers_beside_a_writer(map: &Map, key: impl Fn(u32) -> Vec<u8> + Sync) {
    const KEPT: u32 = 16;
    let value = |i: u32, round: u64| (u64::from(i) << 32 | round).to_le_bytes();
    for i in 0..KEPT {
        map.update(&key(i), &value(i, 0), 0).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reads = 0_u64;
                while !done.load(Ordering::Relaxed) || reads < 1_000 {
                    let i = (reads % u64::from(KEPT)) as u32;
                    let found = map.lookup(&key(i)).expect("a key that stays is found");
                    let found = u64::from_le_bytes(found.try_into().unwrap());
                    assert_eq!(found >> 32, u64::from(i), "a value of another key");
                    reads += 1;
                }
            });
        }
        for round in 1..40_000_u64 {
            let i = (round % 64) as u32;
            if i < KEPT {
                map.update(&key(i), &value(i, round), flags::EXIST).unwrap();
            } else if map.update(&key(i), &value(i, round), flags::NOEXIST).is_err() {
                map.delete(&key(i)).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn hash_readers_beside_a_writer() {
    let map = create(MapType::Hash, 8, 8, 64, 0).unwrap();
    readers_beside_a_writer(&map, |i| u64::from(i).to_le_bytes().to_vec());
}

#[test]
fn lpm_readers_beside_a_writer() {
    let map = create(MapType::LpmTrie, 8, 8, 64, flags::NO_PREALLOC).unwrap();
    readers_beside_a_writer(&map, |i| {
        [32_u32.to_le_bytes().to_vec(), i.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec()].concat()
    });
}
