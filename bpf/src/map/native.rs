//! Lookups for compiled programs: plain pointers in and out.

use std::ptr::null_mut;

use super::key::{Key, Long, Pair, Word};
use super::{Map, Table, Values};

/// Finds the value of a key for a program on a CPU; null if there is none.
///
/// # Safety
/// `map` is the map that the function was asked for, and is live; `key` points to as many bytes as
/// its keys have. The value is live as long as the map, and of this key as long as the caller is
/// pinned (`crossbeam_epoch`).
pub type Lookup = unsafe extern "C" fn(map: *const Map, key: *const u8, cpu: u64) -> *mut u8;

/// Where an array's values are: `base + index × stride + cpu × cpu_stride`.
#[derive(Clone, Copy, Debug)]
pub struct ArrayLayout {
    /// Where they begin.
    pub base: *mut u8,
    /// Indices from here on have none.
    pub entries: u32,
    /// Bytes from an index to the next.
    pub stride: usize,
    /// Bytes from a CPU's values to the next one's; 0 unless there is a value for each CPU.
    pub cpu_stride: usize,
    /// CPUs above are taken modulo this.
    pub cpus: usize,
}

impl Map {
    /// The lookup of this type of map and size of key; `None` where values are not memory.
    pub fn native_lookup(&self) -> Option<Lookup> {
        Some(match (&self.table, self.spec.key_size) {
            (Table::Hash(_) | Table::PerCpuHash(..), 4) => lookup_hash_4,
            (Table::Hash(_) | Table::PerCpuHash(..), 8) => lookup_hash_8,
            (Table::Hash(_) | Table::PerCpuHash(..), 16) => lookup_hash_16,
            (Table::Hash(_) | Table::PerCpuHash(..), _) => lookup_hash,
            (Table::Lpm(..), _) => lookup_trie,
            (Table::Array(_) | Table::PerCpuArray(_), _) => lookup_array,
            _ => return None,
        })
    }

    /// How to reach an array's values without a call.
    pub fn array_layout(&self) -> Option<ArrayLayout> {
        let (values, per_cpu) = match &self.table {
            Table::Array(values) => (values, false),
            Table::PerCpuArray(values) => (values, true),
            _ => return None,
        };
        let entries = self.spec.max_entries;
        let cpu_stride = if per_cpu { values.stride() * entries as usize } else { 0 };
        let (base, stride) = (values.cells().start(), values.stride());
        Some(ArrayLayout { base, entries, stride, cpu_stride, cpus: self.cpus })
    }

    #[inline(always)]
    fn hash_value<K: Key>(&self, key: K, cpu: u64) -> *mut u8 {
        let (values, element) = match &self.table {
            Table::Hash(hash) => (hash.values(), hash.use_key(key).map(u64::from)),
            Table::PerCpuHash(hash, values) => {
                let element = hash.use_key(key);
                (values, element.map(|element| self.per_cpu(element, self.cpu(cpu))))
            }
            _ => return null_mut(),
        };
        element.map_or(null_mut(), |element| address(values, element))
    }

    /// Workers are fewer than values, except where a map was made for fewer.
    #[inline(always)]
    fn cpu(&self, cpu: u64) -> usize {
        let cpu = cpu as usize;
        if cpu < self.cpus { cpu } else { cpu % self.cpus }
    }
}

#[inline(always)]
fn address(values: &Values, element: u64) -> *mut u8 {
    values.cells().start().wrapping_add(values.at(element))
}

/// The map and the key of a call.
///
/// # Safety
/// As [`Lookup`].
#[inline(always)]
unsafe fn arguments<'a>(map: *const Map, key: *const u8) -> (&'a Map, &'a [u8]) {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: so many bytes are there, as the caller promises.
    let key = unsafe { std::slice::from_raw_parts(key, map.spec.key_size as usize) };
    (map, key)
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_array(map: *const Map, key: *const u8, cpu: u64) -> *mut u8 {
    // SAFETY: the caller's promise.
    let (map, key) = unsafe { arguments(map, key) };
    let Some(index) = map.index(key) else { return null_mut() };
    match &map.table {
        Table::Array(values) => address(values, index.into()),
        Table::PerCpuArray(values) => address(values, map.per_cpu(index, map.cpu(cpu))),
        _ => null_mut(),
    }
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_trie(map: *const Map, key: *const u8, _cpu: u64) -> *mut u8 {
    // SAFETY: the caller's promise.
    let (map, key) = unsafe { arguments(map, key) };
    let Table::Lpm(trie, values) = &map.table else { return null_mut() };
    trie.find(key).map_or(null_mut(), |element| address(values, element.into()))
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash(map: *const Map, key: *const u8, cpu: u64) -> *mut u8 {
    // SAFETY: the caller's promise.
    let (map, key) = unsafe { arguments(map, key) };
    map.hash_value(Long(key), cpu)
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash_4(map: *const Map, key: *const u8, cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: four bytes are there, as the caller promises.
    let key = unsafe { key.cast::<u32>().read_unaligned() };
    map.hash_value(Word(key.into()), cpu)
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash_8(map: *const Map, key: *const u8, cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: eight bytes are there, as the caller promises.
    let key = unsafe { key.cast::<u64>().read_unaligned() };
    map.hash_value(Word(key), cpu)
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash_16(map: *const Map, key: *const u8, cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: sixteen bytes are there, as the caller promises.
    let key = unsafe { key.cast::<[u64; 2]>().read_unaligned() };
    map.hash_value(Pair(key), cpu)
}

#[cfg(test)]
mod tests {
    use super::super::{Map, MapSpec, MapType, flags};

    /// Compiled programs and the interpreter find the same value, on each CPU.
    #[test]
    fn native_lookups_find_what_the_interpreter_finds() {
        use MapType::{Array, Hash, LpmTrie, LruHash, LruPerCpuHash, PerCpuArray, PerCpuHash};
        let mut compared = 0;
        for map_type in [Array, Hash, LpmTrie, LruHash, LruPerCpuHash, PerCpuArray, PerCpuHash] {
            for size in [4_usize, 5, 8, 12, 16, 32] {
                let flags = if map_type == LpmTrie { flags::NO_PREALLOC } else { 0 };
                let spec = MapSpec::new("m", map_type, size as u32, 12, 64).with_flags(flags);
                let Ok(map) = Map::create(&spec, 3) else { continue };
                let key = |i: u8| {
                    let mut key = vec![i; size];
                    key[1..4].fill(0);
                    key
                };
                let value = vec![7; if map_type.is_per_cpu() { 48 } else { 12 }];
                (0..32).for_each(|i| _ = map.update(&key(i), &value, 0));
                let lookup = map.native_lookup().unwrap();
                for (i, cpu) in (0..80).flat_map(|i| [(i, 0_u64), (i, 2), (i, 4)]) {
                    let values = map.values().unwrap();
                    let expected = map.find(&key(i), cpu as usize).map(|offset| {
                        values.cells().start().wrapping_add(values.locate(offset, 12).unwrap())
                    });
                    let key = key(i);
                    // SAFETY: the map is live, and the key as long as its keys.
                    let found = unsafe { lookup(&raw const map, key.as_ptr(), cpu) };
                    assert_eq!(found, expected.unwrap_or(std::ptr::null_mut()), "{spec:?} {i}");
                    compared += u32::from(!found.is_null());
                }
            }
        }
        assert!(compared > 1_000, "{compared}");
    }
}
