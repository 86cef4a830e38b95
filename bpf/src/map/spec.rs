//! What a map is made from.

/// `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapType {
    /// `BPF_MAP_TYPE_HASH`.
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    ProgArray,
    /// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`.
    PerfEventArray,
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    PerCpuHash,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash,
    /// `BPF_MAP_TYPE_LRU_PERCPU_HASH`.
    LruPerCpuHash,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie,
    /// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
    ArrayOfMaps,
    /// `BPF_MAP_TYPE_HASH_OF_MAPS`.
    HashOfMaps,
    /// `BPF_MAP_TYPE_SOCKMAP`.
    SockMap,
    /// `BPF_MAP_TYPE_SOCKHASH`.
    SockHash,
    /// `BPF_MAP_TYPE_QUEUE`.
    Queue,
    /// `BPF_MAP_TYPE_STACK`.
    Stack,
    /// `BPF_MAP_TYPE_RINGBUF`.
    RingBuf,
    /// `BPF_MAP_TYPE_BLOOM_FILTER`.
    BloomFilter,
    /// `BPF_MAP_TYPE_USER_RINGBUF`.
    UserRingBuf,
    /// A number that Weir has no map for; refused at creation.
    Unknown(u32),
}

impl MapType {
    /// From the kernel's number.
    pub fn from_number(number: u32) -> MapType {
        let known = KNOWN.iter().find(|(_, known, _)| *known == number);
        known.map_or(MapType::Unknown(number), |(map_type, _, _)| *map_type)
    }

    /// The kernel's number.
    pub fn number(self) -> u32 {
        match self {
            MapType::Unknown(number) => number,
            _ => self.known().map_or(0, |(_, number, _)| *number),
        }
    }

    /// bpftool's name.
    pub fn name(self) -> &'static str {
        self.known().map_or("unknown", |(_, _, name)| name)
    }

    fn known(self) -> Option<&'static (MapType, u32, &'static str)> {
        KNOWN.iter().find(|(known, _, _)| *known == self)
    }

    /// Has it a value for each CPU?
    pub fn is_per_cpu(self) -> bool {
        matches!(self, MapType::PerCpuArray | MapType::PerCpuHash | MapType::LruPerCpuHash)
    }

    /// Are its values maps?
    pub fn holds_maps(self) -> bool {
        matches!(self, MapType::ArrayOfMaps | MapType::HashOfMaps)
    }

    /// Are its values sockets?
    pub fn holds_sockets(self) -> bool {
        matches!(self, MapType::SockMap | MapType::SockHash)
    }
}

/// Every type that there is a map for, its number, and its name.
#[rustfmt::skip]
static KNOWN: &[(MapType, u32, &str)] = &[
    (MapType::Hash, 1, "hash"),
    (MapType::Array, 2, "array"),
    (MapType::ProgArray, 3, "prog_array"),
    (MapType::PerfEventArray, 4, "perf_event_array"),
    (MapType::PerCpuHash, 5, "percpu_hash"),
    (MapType::PerCpuArray, 6, "percpu_array"),
    (MapType::LruHash, 9, "lru_hash"),
    (MapType::LruPerCpuHash, 10, "lru_percpu_hash"),
    (MapType::LpmTrie, 11, "lpm_trie"),
    (MapType::ArrayOfMaps, 12, "array_of_maps"),
    (MapType::HashOfMaps, 13, "hash_of_maps"),
    (MapType::SockMap, 15, "sockmap"),
    (MapType::SockHash, 18, "sockhash"),
    (MapType::Queue, 22, "queue"),
    (MapType::Stack, 23, "stack"),
    (MapType::RingBuf, 27, "ringbuf"),
    (MapType::BloomFilter, 30, "bloom_filter"),
    (MapType::UserRingBuf, 31, "user_ringbuf"),
];

/// Flags of map creation and of updates, with the kernel's values.
pub mod flags {
    /// `BPF_ANY`: create or replace.
    pub const ANY: u64 = 0;
    /// `BPF_NOEXIST`: create only.
    pub const NOEXIST: u64 = 1;
    /// `BPF_EXIST`: replace only.
    pub const EXIST: u64 = 2;
    /// `BPF_F_LOCK`: under the value's spin lock, in place.
    pub const LOCK: u64 = 4;

    /// `BPF_F_NO_PREALLOC`.
    pub const NO_PREALLOC: u32 = 1 << 0;
    /// `BPF_F_NO_COMMON_LRU`; accepted and without effect.
    pub const NO_COMMON_LRU: u32 = 1 << 1;
    /// `BPF_F_NUMA_NODE`; accepted and without effect.
    pub const NUMA_NODE: u32 = 1 << 2;
    /// `BPF_F_RDONLY`: the control plane may not write.
    pub const RDONLY: u32 = 1 << 3;
    /// `BPF_F_WRONLY`: the control plane may not read.
    pub const WRONLY: u32 = 1 << 4;
    /// `BPF_F_ZERO_SEED`.
    pub const ZERO_SEED: u32 = 1 << 6;
    /// `BPF_F_RDONLY_PROG`: programs may not write.
    pub const RDONLY_PROG: u32 = 1 << 7;
    /// `BPF_F_WRONLY_PROG`: programs may not read.
    pub const WRONLY_PROG: u32 = 1 << 8;
    /// `BPF_F_MMAPABLE`: the values are in one piece, see [`Map::memory`](super::super::Map::memory), as
    /// those of any array are.
    pub const MMAPABLE: u32 = 1 << 10;
    /// `BPF_F_PRESERVE_ELEMS`; accepted and without effect.
    pub const PRESERVE_ELEMS: u32 = 1 << 11;
    /// `BPF_F_INNER_MAP`: an inner array may have another number of entries.
    pub const INNER_MAP: u32 = 1 << 12;
}

/// A map's definition, from an object's `.maps` section, its global data, or by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub map_type: MapType,
    /// Bytes a key.
    pub key_size: u32,
    /// Bytes a value.
    pub value_size: u32,
    /// The most entries that it may have.
    pub max_entries: u32,
    /// [`flags`] of creation.
    pub flags: u32,
    /// What entry 0 of an array starts with (global data).
    pub initial: Option<Vec<u8>>,
    /// Frozen once it has its initial value, as libbpf does with `.rodata`.
    pub read_only: bool,
    /// `LIBBPF_PIN_BY_NAME` (1), or none (0).
    pub pinning: u32,
    /// `map_extra`: of a Bloom filter, how many bits a value sets (0 for five).
    pub extra: u64,
    /// The byte of a value at which its `struct bpf_spin_lock` is.
    pub lock_at: Option<u32>,
    /// Of a map of maps: what the inner maps are like.
    pub inner: Option<Box<MapSpec>>,
}

impl MapSpec {
    /// A definition without flags, initial value or pinning.
    pub fn new(
        name: &str,
        map_type: MapType,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> MapSpec {
        MapSpec {
            name: name.to_owned(),
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            initial: None,
            read_only: false,
            pinning: 0,
            extra: 0,
            lock_at: None,
            inner: None,
        }
    }

    /// The same with flags.
    pub fn with_flags(self, flags: u32) -> MapSpec {
        MapSpec { flags, ..self }
    }

    /// Can a map that was made from `other` stand for this one (reuse by name)?
    pub fn is_compatible(&self, other: &MapSpec) -> bool {
        let shape = |spec: &MapSpec| {
            (spec.map_type, spec.key_size, spec.value_size, spec.max_entries, spec.flags)
        };
        shape(self) == shape(other)
    }

    /// Can a map of this definition be in a map of maps whose template is `template`
    /// (`bpf_map_meta_equal`)?
    pub fn is_like(&self, template: &MapSpec) -> bool {
        let shape = |spec: &MapSpec| {
            (spec.map_type, spec.key_size, spec.value_size, spec.flags, spec.lock_at)
        };
        let sized = self.map_type == MapType::Array && template.flags & flags::INNER_MAP == 0;
        shape(self) == shape(template) && (!sized || self.max_entries == template.max_entries)
    }
}
