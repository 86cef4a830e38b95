//! Lookups for compiled programs: plain pointers in and out.

use super::key::{Key, Pair, Word};
use super::{Map, Table};

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
            (Table::Hash(_), 4) => lookup_hash_4,
            (Table::Hash(_), 8) => lookup_hash_8,
            (Table::Hash(_), 16) => lookup_hash_16,
            (
                Table::Array(_)
                | Table::PerCpuArray(_)
                | Table::Hash(_)
                | Table::PerCpuHash(..)
                | Table::Lpm(..),
                _,
            ) => lookup_any,
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
        let (base, stride) = (values.cells().base(), values.stride());
        Some(ArrayLayout { base, entries, stride, cpu_stride, cpus: self.cpus })
    }

    /// The address of the value at an offset that [`Map::find`] gave.
    fn address(&self, offset: u64) -> *mut u8 {
        let at = self.values().and_then(|values| Some((values, values.locate(offset, 1)?)));
        at.map_or(std::ptr::null_mut(), |(values, at)| values.cells().base().wrapping_add(at))
    }

    #[inline(always)]
    fn hash_value<K: Key>(&self, key: K) -> *mut u8 {
        let Table::Hash(hash) = &self.table else { return std::ptr::null_mut() };
        match hash.use_key(key) {
            Some(element) => {
                let values = hash.values();
                values.cells().base().wrapping_add(values.at(element.into()))
            }
            None => std::ptr::null_mut(),
        }
    }
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_any(map: *const Map, key: *const u8, cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: so many bytes are there, as the caller promises.
    let key = unsafe { std::slice::from_raw_parts(key, map.spec.key_size as usize) };
    map.find(key, cpu as usize).map_or(std::ptr::null_mut(), |offset| map.address(offset))
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash_4(map: *const Map, key: *const u8, _cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: four bytes are there, as the caller promises.
    let key = unsafe { key.cast::<u32>().read_unaligned() };
    map.hash_value(Word(key.into()))
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash_8(map: *const Map, key: *const u8, _cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: eight bytes are there, as the caller promises.
    let key = unsafe { key.cast::<u64>().read_unaligned() };
    map.hash_value(Word(key))
}

/// # Safety
/// As [`Lookup`].
unsafe extern "C" fn lookup_hash_16(map: *const Map, key: *const u8, _cpu: u64) -> *mut u8 {
    // SAFETY: the map is live, as the caller promises.
    let map = unsafe { &*map };
    // SAFETY: sixteen bytes are there, as the caller promises.
    let key = unsafe { key.cast::<[u64; 2]>().read_unaligned() };
    map.hash_value(Pair(key))
}
