//! What a map is made from, and what the kernel refuses to make.

use crate::errno::Errno;

/// The kernel's largest allocation (`KMALLOC_MAX_SIZE`), which bounds an element.
const MAX_ALLOCATION: u32 = 4 << 20;
/// What the kernel adds to a hash's key and value (`struct htab_elem`).
const HASH_ELEMENT: u64 = 48;
/// What the kernel adds to a trie's key and value (`struct lpm_trie_node`).
const LPM_NODE: u32 = 40;
/// Half of the buckets of 16 bytes that 4 GiB hold: above, the kernel's count of bytes overflows.
const MAX_BUCKETS: u32 = 1 << 27;

/// `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapType {
    /// `BPF_MAP_TYPE_HASH`.
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie,
    /// `BPF_MAP_TYPE_SOCKMAP`.
    SockMap,
    /// `BPF_MAP_TYPE_SOCKHASH`.
    SockHash,
    /// A number that Weir has no map for; refused at creation.
    Unknown(u32),
}

impl MapType {
    /// From the kernel's number.
    pub fn from_number(number: u32) -> MapType {
        match number {
            1 => MapType::Hash,
            2 => MapType::Array,
            6 => MapType::PerCpuArray,
            11 => MapType::LpmTrie,
            15 => MapType::SockMap,
            18 => MapType::SockHash,
            other => MapType::Unknown(other),
        }
    }

    /// The kernel's number.
    pub fn number(self) -> u32 {
        match self {
            MapType::Hash => 1,
            MapType::Array => 2,
            MapType::PerCpuArray => 6,
            MapType::LpmTrie => 11,
            MapType::SockMap => 15,
            MapType::SockHash => 18,
            MapType::Unknown(number) => number,
        }
    }

    /// bpftool's name.
    pub fn name(self) -> &'static str {
        match self {
            MapType::Hash => "hash",
            MapType::Array => "array",
            MapType::PerCpuArray => "percpu_array",
            MapType::LpmTrie => "lpm_trie",
            MapType::SockMap => "sockmap",
            MapType::SockHash => "sockhash",
            MapType::Unknown(_) => "unknown",
        }
    }

    /// Are its values sockets?
    pub fn holds_sockets(self) -> bool {
        matches!(self, MapType::SockMap | MapType::SockHash)
    }
}

/// Flags of map creation and of updates, with the kernel's values.
pub mod flags {
    /// `BPF_ANY`: create or replace.
    pub const ANY: u64 = 0;
    /// `BPF_NOEXIST`: create only.
    pub const NOEXIST: u64 = 1;
    /// `BPF_EXIST`: replace only.
    pub const EXIST: u64 = 2;

    /// `BPF_F_NO_PREALLOC`.
    pub const NO_PREALLOC: u32 = 1 << 0;
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
    /// `BPF_F_MMAPABLE`; accepted and without effect.
    pub const MMAPABLE: u32 = 1 << 10;
    /// `BPF_F_INNER_MAP`; accepted and without effect.
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

    /// The kernel's checks at creation (`*_map_alloc_check` of each type).
    ///
    /// # Errors
    /// The kernel's errno for the first check that fails.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        use flags::{INNER_MAP, MMAPABLE, NO_PREALLOC, NUMA_NODE, RDONLY, WRONLY, ZERO_SEED};
        const USER: u32 = RDONLY | WRONLY;
        const ACCESS: u32 = USER | flags::RDONLY_PROG | flags::WRONLY_PROG;
        match self.map_type {
            MapType::Array => {
                self.allow(ACCESS | NUMA_NODE | MMAPABLE | INNER_MAP)?;
                self.check_array()
            }
            MapType::PerCpuArray => {
                self.allow(ACCESS)?;
                self.check_array()?;
                // One value must fit the kernel's smallest per-CPU unit (PCPU_MIN_UNIT_SIZE).
                if self.value_size > 32 << 10 { Err(Errno::E2BIG) } else { Ok(()) }
            }
            MapType::Hash => {
                self.allow(ACCESS | NUMA_NODE | NO_PREALLOC | ZERO_SEED)?;
                self.check_hash()
            }
            MapType::LpmTrie => {
                self.allow(ACCESS | NUMA_NODE | NO_PREALLOC)?;
                let values = 1..=MAX_ALLOCATION - 4 - 256 - LPM_NODE;
                let sizes =
                    (5..=4 + 256).contains(&self.key_size) && values.contains(&self.value_size);
                let all = sizes && self.max_entries > 0 && self.flags & NO_PREALLOC != 0;
                if all { Ok(()) } else { Err(Errno::EINVAL) }
            }
            MapType::SockMap => {
                self.allow(USER | NUMA_NODE)?;
                let sizes = self.key_size == 4 && matches!(self.value_size, 4 | 8);
                if sizes && self.max_entries > 0 { Ok(()) } else { Err(Errno::EINVAL) }
            }
            MapType::SockHash => {
                self.allow(USER | NUMA_NODE)?;
                let sizes = self.key_size > 0 && matches!(self.value_size, 4 | 8);
                if !sizes || self.max_entries == 0 {
                    return Err(Errno::EINVAL);
                }
                // Keys are read from the stack of a program (MAX_BPF_STACK).
                if self.key_size > 512 {
                    return Err(Errno::E2BIG);
                }
                if self.max_entries > MAX_BUCKETS { Err(Errno::EINVAL) } else { Ok(()) }
            }
            MapType::Unknown(_) => Err(Errno::EINVAL),
        }
    }

    fn allow(&self, allowed: u32) -> Result<(), Errno> {
        let both = |a, b| self.flags & (a | b) == a | b;
        let contradicts =
            both(flags::RDONLY, flags::WRONLY) || both(flags::RDONLY_PROG, flags::WRONLY_PROG);
        if self.flags & !allowed != 0 || contradicts { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn check_array(&self) -> Result<(), Errno> {
        if self.max_entries == 0 || self.key_size != 4 || self.value_size == 0 {
            return Err(Errno::EINVAL);
        }
        if self.value_size > i32::MAX as u32 { Err(Errno::E2BIG) } else { Ok(()) }
    }

    fn check_hash(&self) -> Result<(), Errno> {
        if self.max_entries == 0 || self.key_size == 0 || self.value_size == 0 {
            return Err(Errno::EINVAL);
        }
        let element = u64::from(self.key_size) + u64::from(self.value_size) + HASH_ELEMENT;
        let too_large = element >= MAX_ALLOCATION.into() || self.max_entries > MAX_BUCKETS;
        if too_large { Err(Errno::E2BIG) } else { Ok(()) }
    }
}
