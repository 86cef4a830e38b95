//! Every type of map beside this kernel's: the same commands, the same answers.

mod kernel_map;

use std::sync::Arc;

use kernel_map::KernelMap;
use weir_bpf::{Errno, Map, MapSpec, MapType, flags};

use MapType::{
    Array, ArrayOfMaps, BloomFilter, Hash, HashOfMaps, LpmTrie, LruHash, LruPerCpuHash,
    PerCpuArray, PerCpuHash, PerfEventArray, ProgArray, Queue, RingBuf, Stack, UserRingBuf,
};

/// Types whose keys and values are bytes.
const PLAIN: &[MapType] = &[
    Array,
    Hash,
    PerCpuHash,
    PerCpuArray,
    LruHash,
    LruPerCpuHash,
    LpmTrie,
    Queue,
    Stack,
    BloomFilter,
    RingBuf,
    UserRingBuf,
];
const DESCRIPTORS: &[MapType] = &[ProgArray, PerfEventArray, ArrayOfMaps, HashOfMaps];

fn is_root() -> bool {
    // SAFETY: takes nothing.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: maps of the kernel need root");
    }
    root
}

/// A definition that is valid for the type.
fn spec(map_type: MapType, entries: u32, flags: u32) -> MapSpec {
    let (key, value, entries) = match map_type {
        Queue | Stack | BloomFilter => (0, 8, entries),
        RingBuf | UserRingBuf => (0, 0, 4096),
        LpmTrie => (8, 8, entries),
        ProgArray | PerfEventArray | ArrayOfMaps | HashOfMaps => (4, 4, entries),
        _ => (4, 8, entries),
    };
    let flags = flags | if map_type == LpmTrie { flags::NO_PREALLOC } else { 0 };
    MapSpec::new("m", map_type, key, value, entries).with_flags(flags)
}

fn inner() -> MapSpec {
    MapSpec::new("inner", Array, 4, 8, 2)
}

fn pair(spec: &MapSpec) -> (Map, KernelMap) {
    let ours = Map::create(spec, kernel_map::possible_cpus()).expect("Weir makes it");
    let template = spec.inner.as_ref().map(|inner| KernelMap::create(inner, None).unwrap());
    (ours, KernelMap::create(spec, template.as_ref()).expect("the kernel makes it"))
}

#[test]
fn creation() {
    if !is_root() {
        return;
    }
    let mut compared = 0;
    let all_flags: Vec<u32> = (0..14).map(|bit| 1 << bit).chain([0, 0x18, 0x180]).collect();
    for map_type in PLAIN.iter().chain(DESCRIPTORS) {
        let good = spec(*map_type, 4, 0);
        let mut specs = Vec::new();
        for size in [0, 1, 3, 4, 5, 8, 260, 261, 512, 513, 32_768, 32_769, 4 << 20, (4 << 20) + 1] {
            specs.push(MapSpec { key_size: size, ..good.clone() });
            specs.push(MapSpec { value_size: size, ..good.clone() });
        }
        specs.push(MapSpec { value_size: u32::MAX, ..good.clone() });
        for entries in [0, 1, 3, 4095, 4096, 4097, 8192] {
            specs.push(MapSpec { max_entries: entries, ..good.clone() });
        }
        specs.extend(all_flags.iter().map(|flags| good.clone().with_flags(good.flags | flags)));
        specs.extend([1, 15, 16].map(|extra| MapSpec { extra, ..good.clone() }));
        for spec in specs {
            // Descriptors (NUMA node, BTF), and pages of memory that cannot be mapped here.
            let outside = spec.flags & (1 << 5 | 1 << 9 | 1 << 13) != 0;
            if outside {
                continue;
            }
            let holds_maps = map_type.holds_maps();
            let spec = MapSpec { inner: holds_maps.then(|| Box::new(inner())), ..spec };
            let template = holds_maps.then(|| KernelMap::create(&inner(), None).unwrap());
            let ours = Map::create(&spec, 1).map(|_| ());
            let theirs = KernelMap::create(&spec, template.as_ref()).map(|_| ());
            assert_eq!(ours, theirs, "{spec:?}");
            compared += 1;
        }
    }
    assert!(compared > 700, "{compared}");
}

#[test]
fn inner_maps_of_each_type() {
    if !is_root() {
        return;
    }
    for outer in [ArrayOfMaps, HashOfMaps] {
        for map_type in PLAIN.iter().chain(&[ProgArray, PerfEventArray]) {
            let like = spec(*map_type, 4, 0);
            let other = MapSpec { max_entries: 8192, ..like.clone() };
            let outer = MapSpec { inner: Some(Box::new(like.clone())), ..spec(outer, 2, 0) };
            let template = KernelMap::create(&like, None).unwrap();
            let ours = Map::create(&outer, 2);
            let theirs = KernelMap::create(&outer, Some(&template));
            assert_eq!(ours.as_ref().err(), theirs.as_ref().err(), "{outer:?}");
            let (Ok(ours), Ok(theirs)) = (ours, theirs) else { continue };
            for spec in [&like, &other, &spec(Hash, 9, 0), &spec(Array, 9, 0)] {
                let inner = KernelMap::create(spec, None).unwrap();
                let key = 0_u32.to_le_bytes();
                let ours = ours.update_map(&key, Arc::new(Map::create(spec, 2).unwrap()), 0);
                assert_eq!(ours, theirs.update(&key, &inner.descriptor(), 0), "{outer:?} {spec:?}");
            }
        }
    }
}

/// The operations, and what the two maps answer.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Lookup,
    LookupWith(u64),
    LookupAndDelete(u64),
    Update(u64),
    Delete,
    Next,
    First,
    Freeze,
}

/// Runs it on both; both must say the same.
fn both(ours: &Map, theirs: &KernelMap, operation: Operation, key: &[u8], value: u64) {
    let spec = ours.spec();
    let context = || format!("{:?} {operation:?} {key:?} {value} {spec:?}", spec.map_type);
    let size = theirs.value_size();
    let value: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(size).collect();
    match operation {
        Operation::Lookup | Operation::LookupWith(_) if spec.map_type == BloomFilter => {
            if let Operation::Lookup = operation {
                let theirs = theirs.lookup_in(key, &value, 0).map(|_| ());
                // Both may take for pushed what was not, not for the same values.
                let ours = ours.holds(&value);
                let is_same = ours == theirs || (ours.is_ok() != theirs.is_ok());
                assert!(is_same, "{ours:?} {theirs:?} {}", context());
            }
        }
        Operation::Lookup => assert_eq!(ours.lookup(key), theirs.lookup(key, 0), "{}", context()),
        Operation::LookupWith(flag) => {
            assert_eq!(ours.lookup_with(key, flag), theirs.lookup(key, flag), "{}", context());
        }
        Operation::LookupAndDelete(flag) => {
            let (ours, theirs) =
                (ours.lookup_and_delete(key, flag), theirs.lookup_and_delete(key, flag));
            assert_eq!(ours, theirs, "{}", context());
        }
        Operation::Update(flag) => {
            let (ours, theirs) = (ours.update(key, &value, flag), theirs.update(key, &value, flag));
            assert_eq!(ours, theirs, "{}", context());
        }
        Operation::Delete => assert_eq!(ours.delete(key), theirs.delete(key), "{}", context()),
        Operation::Next | Operation::First => {
            let key = matches!(operation, Operation::Next).then_some(key);
            let (ours_next, theirs_next) = (ours.next_key(key), theirs.next_key(key));
            // Hashes and tries of both have orders of their own.
            let ordered =
                !matches!(spec.map_type, Hash | PerCpuHash | LruHash | LruPerCpuHash | HashOfMaps);
            if ordered {
                assert_eq!(ours_next, theirs_next, "{}", context());
            } else if key.is_none() {
                assert_eq!(ours_next.err(), theirs_next.err(), "{}", context());
            }
        }
        Operation::Freeze => assert_eq!(ours.freeze(), theirs.freeze(), "{}", context()),
    }
}

fn key(spec: &MapSpec, random: &mut fastrand::Rng) -> Vec<u8> {
    match spec.map_type {
        _ if spec.key_size == 0 => Vec::new(),
        LpmTrie => {
            let data = [0, 0x80, 0xff].map(|_| [0, 0x80, 0xff][random.usize(..3)]);
            [random.u32(..34).to_le_bytes().to_vec(), data.to_vec(), vec![0]].concat()
        }
        _ => random.u32(..8).to_le_bytes().to_vec(),
    }
}

fn operation(random: &mut fastrand::Rng) -> Operation {
    let flag = [0, 0, 0, 1, 2, 3, 4, 5, 8, 1 << 40][random.usize(..10)];
    match random.u32(..14) {
        0..=5 => Operation::Update(flag),
        6 | 7 => Operation::Lookup,
        8 => Operation::LookupWith(flag),
        9 => Operation::LookupAndDelete(if random.bool() { 0 } else { flag }),
        10 | 11 => Operation::Delete,
        12 => Operation::Next,
        _ => Operation::First,
    }
}

#[test]
fn random_operations() {
    if !is_root() {
        return;
    }
    for map_type in PLAIN {
        for flags in [0, flags::RDONLY, flags::WRONLY] {
            if flags != 0 && matches!(map_type, RingBuf | UserRingBuf) {
                continue;
            }
            let mut random = fastrand::Rng::with_seed(u64::from(map_type.number()) << 8);
            for round in 0..20 {
                let evicts = matches!(map_type, LruHash | LruPerCpuHash);
                // What is evicted is for each to choose: have room for all keys.
                let entries = if evicts { 4_096 } else { 5 };
                let spec = spec(*map_type, entries, flags);
                let (ours, theirs) = pair(&spec);
                for step in 0..200 {
                    let key = key(&spec, &mut random);
                    both(&ours, &theirs, operation(&mut random), &key, random.u64(..));
                    if round % 5 == 4 && step == 150 {
                        both(&ours, &theirs, Operation::Freeze, &key, 0);
                        both(&ours, &theirs, Operation::Freeze, &key, 0);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_counted() {
    if !is_root() {
        return;
    }
    for outer in [ArrayOfMaps, HashOfMaps] {
        let spec = MapSpec { inner: Some(Box::new(inner())), ..spec(outer, 3, 0) };
        let (ours, theirs) = pair(&spec);
        let mut random = fastrand::Rng::with_seed(7);
        let mut ids = std::collections::HashMap::new();
        for _ in 0..2_000 {
            let key = random.u32(..5).to_le_bytes();
            match random.u32(..4) {
                0 | 1 => {
                    let flag = [0, 0, 0, 1, 2, 3, 4][random.usize(..7)];
                    let template = inner();
                    let wrong = MapSpec { max_entries: 3, ..template.clone() };
                    let spec = if random.u32(..9) == 0 { wrong } else { template };
                    let ours_inner = Arc::new(Map::create(&spec, 2).unwrap());
                    let theirs_inner = KernelMap::create(&spec, None).unwrap();
                    ids.insert(theirs_inner.id(), ours_inner.id());
                    let ours = ours.update_map(&key, ours_inner, flag);
                    assert_eq!(ours, theirs.update(&key, &theirs_inner.descriptor(), flag));
                }
                2 => {
                    let theirs = theirs.lookup(&key, 0).map(|id| {
                        let id = u32::from_le_bytes(id.try_into().unwrap());
                        ids[&id].to_le_bytes().to_vec()
                    });
                    assert_eq!(ours.lookup(&key), theirs, "{outer:?}");
                }
                _ => assert_eq!(ours.delete(&key), theirs.delete(&key), "{outer:?}"),
            }
        }
        assert_eq!(ours.lookup_and_delete(&[0; 4], 0), theirs.lookup_and_delete(&[0; 4], 0));
    }
    for map_type in [ProgArray, PerfEventArray] {
        let (ours, theirs) = pair(&spec(map_type, 2, 0));
        for operation in [
            Operation::Lookup,
            Operation::LookupAndDelete(0),
            Operation::Delete,
            Operation::First,
            Operation::Next,
            Operation::Freeze,
        ] {
            for index in [0_u32, 1, 2, 9] {
                both(&ours, &theirs, operation, &index.to_le_bytes(), 0);
            }
        }
    }
}

#[test]
fn batches() {
    if !is_root() {
        return;
    }
    for map_type in PLAIN.iter().chain(DESCRIPTORS) {
        let holds_maps = map_type.holds_maps();
        let entries = 40;
        let inner = holds_maps.then(|| Box::new(inner()));
        let spec = MapSpec { inner, ..spec(*map_type, entries, 0) };
        let (ours, theirs) = pair(&spec);
        let size = theirs.value_size();
        if !holds_maps && spec.key_size > 0 && !DESCRIPTORS.contains(map_type) {
            for i in 0..entries {
                let (key, value) = batch_entry(&spec, i, size);
                ours.update(&key, &value, 0).unwrap();
                theirs.update(&key, &value, 0).unwrap();
            }
        }
        for and_delete in [false, true] {
            for most in [64, 17] {
                let ours = all_batches(|from| match and_delete {
                    false => ours.lookup_batch(from, most, 0).map(|b| (b.entries, b.next)),
                    true => {
                        ours.lookup_and_delete_batch(from, most, 0).map(|b| (b.entries, b.next))
                    }
                });
                let theirs = all_batches(|from| theirs.lookup_batch(from, most, and_delete));
                assert_eq!(ours, theirs, "{map_type:?} {and_delete} {most}");
            }
        }
        if holds_maps || DESCRIPTORS.contains(map_type) {
            continue;
        }
        let made: Vec<_> = (0..entries + 2).map(|i| batch_entry(&spec, i, size)).collect();
        let pairs: Vec<_> = made.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let keys: Vec<_> = made.iter().map(|(key, _)| &key[..]).collect();
        if matches!(map_type, LruHash | LruPerCpuHash) {
            continue;
        }
        assert_eq!(ours.update_batch(&pairs, 0), theirs.update_batch(&pairs), "{map_type:?}");
        assert_eq!(ours.delete_batch(&keys), theirs.delete_batch(&keys), "{map_type:?}");
    }
}

fn batch_entry(spec: &MapSpec, i: u32, size: usize) -> (Vec<u8>, Vec<u8>) {
    let value: Vec<u8> = (u64::from(i) << 8).to_le_bytes().into_iter().cycle().take(size).collect();
    let key = match spec.map_type {
        LpmTrie => [32_u32.to_le_bytes(), i.to_be_bytes()].concat(),
        _ => i.to_le_bytes()[..spec.key_size.min(4) as usize].to_vec(),
    };
    (key, value)
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;
type Found = (Entries, Option<Vec<u8>>);

/// All entries, in order of their keys.
fn all_batches(
    mut lookup: impl FnMut(Option<&[u8]>) -> Result<Found, Errno>,
) -> Result<Entries, Errno> {
    let mut all = Vec::new();
    let mut from: Option<Vec<u8>> = None;
    for _ in 0..100 {
        let (entries, next) = lookup(from.as_deref())?;
        all.extend(entries);
        from = next;
        if from.is_none() {
            break;
        }
    }
    all.sort();
    Ok(all)
}
