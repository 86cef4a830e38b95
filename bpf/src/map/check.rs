//! What the kernel refuses to make (`*_map_alloc_check` of each type), with its errno.

use super::flags::{
    INNER_MAP, MMAPABLE, NO_COMMON_LRU, NO_PREALLOC, NUMA_NODE, PRESERVE_ELEMS, RDONLY,
    RDONLY_PROG, WRONLY, WRONLY_PROG, ZERO_SEED,
};
use super::{MapSpec, MapType};
use crate::errno::Errno;

/// The kernel's largest allocation (`KMALLOC_MAX_SIZE`), which bounds an element.
const MAX_ALLOCATION: u32 = 4 << 20;
/// What the kernel adds to a hash's key and value (`struct htab_elem`).
const HASH_ELEMENT: u64 = 48;
/// What the kernel adds to a trie's key and value (`struct lpm_trie_node`).
const LPM_NODE: u32 = 40;
/// Half of the buckets of 16 bytes that 4 GiB hold: above, the kernel's count of bytes overflows.
const MAX_BUCKETS: u32 = 1 << 27;
/// One value must fit the kernel's smallest per-CPU unit (`PCPU_MIN_UNIT_SIZE`).
const MAX_PER_CPU: u32 = 32 << 10;
const PAGE: u32 = 4096;

const USER: u32 = RDONLY | WRONLY;
const ACCESS: u32 = USER | RDONLY_PROG | WRONLY_PROG;

impl MapSpec {
    /// # Errors
    /// The kernel's errno for the first check that fails.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        if self.extra != 0 && self.map_type != MapType::BloomFilter {
            return Err(Errno::EINVAL);
        }
        match self.map_type {
            MapType::Array => self.check_array(ACCESS | NUMA_NODE | MMAPABLE | INNER_MAP),
            MapType::PerCpuArray => self.check_array(ACCESS),
            MapType::ProgArray => self.check_descriptors(0),
            MapType::PerfEventArray => self.check_descriptors(PRESERVE_ELEMS),
            MapType::ArrayOfMaps => {
                self.check_descriptors(0)?;
                self.check_inner()
            }
            MapType::HashOfMaps => {
                refuse(self.value_size != 4, Errno::EINVAL)?;
                self.check_hash()?;
                self.check_inner()
            }
            MapType::Hash | MapType::PerCpuHash | MapType::LruHash | MapType::LruPerCpuHash => {
                self.check_hash()
            }
            MapType::LpmTrie => self.check_trie(),
            MapType::SockMap | MapType::SockHash => self.check_sockets(),
            MapType::Queue | MapType::Stack => self.check_queue(),
            MapType::BloomFilter => self.check_bloom(),
            MapType::RingBuf | MapType::UserRingBuf => self.check_ring(),
            MapType::Unknown(_) => Err(Errno::EINVAL),
        }?;
        self.check_lock()
    }

    fn allow(&self, allowed: u32) -> Result<(), Errno> {
        let both = |a, b| self.flags & (a | b) == a | b;
        let contradicts = both(RDONLY, WRONLY) || both(RDONLY_PROG, WRONLY_PROG);
        refuse(self.flags & !allowed != 0 || contradicts, Errno::EINVAL)
    }

    fn check_array(&self, allowed: u32) -> Result<(), Errno> {
        self.allow(allowed)?;
        let empty = self.max_entries == 0 || self.value_size == 0;
        refuse(empty || self.key_size != 4, Errno::EINVAL)?;
        refuse(self.value_size > i32::MAX as u32, Errno::E2BIG)?;
        let per_cpu = self.map_type == MapType::PerCpuArray;
        refuse(per_cpu && self.value_size > MAX_PER_CPU, Errno::E2BIG)
    }

    /// Arrays whose values are file descriptors.
    fn check_descriptors(&self, more: u32) -> Result<(), Errno> {
        refuse(self.value_size != 4, Errno::EINVAL)?;
        self.check_array(USER | NUMA_NODE | more)
    }

    fn check_hash(&self) -> Result<(), Errno> {
        self.allow(ACCESS | NUMA_NODE | NO_PREALLOC | NO_COMMON_LRU | ZERO_SEED)?;
        let evicts = matches!(self.map_type, MapType::LruHash | MapType::LruPerCpuHash);
        let lists_per_cpu = self.flags & NO_COMMON_LRU != 0;
        refuse(!evicts && lists_per_cpu, Errno::EINVAL)?;
        refuse(evicts && self.flags & NO_PREALLOC != 0, Errno::ENOTSUPP)?;
        let per_cpu = self.map_type.is_per_cpu();
        let on_node = self.flags & NUMA_NODE != 0;
        refuse(on_node && (per_cpu || lists_per_cpu), Errno::EINVAL)?;
        let empty = self.max_entries == 0 || self.key_size == 0 || self.value_size == 0;
        refuse(empty, Errno::EINVAL)?;
        let element = u64::from(self.key_size) + u64::from(self.value_size) + HASH_ELEMENT;
        refuse(element >= MAX_ALLOCATION.into(), Errno::E2BIG)?;
        refuse(per_cpu && self.value_size > MAX_PER_CPU, Errno::E2BIG)?;
        refuse(self.max_entries > MAX_BUCKETS, Errno::E2BIG)
    }

    fn check_trie(&self) -> Result<(), Errno> {
        self.allow(ACCESS | NUMA_NODE | NO_PREALLOC)?;
        let keys = (5..=4 + 256).contains(&self.key_size);
        let values = (1..=MAX_ALLOCATION - 4 - 256 - LPM_NODE).contains(&self.value_size);
        let all = keys && values && self.max_entries > 0 && self.flags & NO_PREALLOC != 0;
        refuse(!all, Errno::EINVAL)
    }

    fn check_sockets(&self) -> Result<(), Errno> {
        self.allow(USER | NUMA_NODE)?;
        let is_map = self.map_type == MapType::SockMap;
        let keys = if is_map { self.key_size == 4 } else { self.key_size > 0 };
        let sizes = keys && matches!(self.value_size, 4 | 8);
        refuse(!sizes || self.max_entries == 0, Errno::EINVAL)?;
        // Keys are read from the stack of a program (MAX_BPF_STACK).
        refuse(self.key_size > 512, Errno::E2BIG)?;
        refuse(!is_map && self.max_entries > MAX_BUCKETS, Errno::EINVAL)
    }

    fn check_queue(&self) -> Result<(), Errno> {
        self.allow(ACCESS | NUMA_NODE)?;
        let empty = self.max_entries == 0 || self.value_size == 0;
        refuse(empty || self.key_size != 0, Errno::EINVAL)?;
        refuse(self.value_size > MAX_ALLOCATION, Errno::E2BIG)?;
        refuse(self.max_entries >= u32::MAX / self.value_size, Errno::E2BIG)
    }

    fn check_bloom(&self) -> Result<(), Errno> {
        refuse(self.value_size > MAX_ALLOCATION, Errno::E2BIG)?;
        self.allow(ACCESS | NUMA_NODE | ZERO_SEED)?;
        let empty = self.max_entries == 0 || self.value_size == 0;
        refuse(empty || self.key_size != 0 || self.extra > 15, Errno::EINVAL)
    }

    fn check_ring(&self) -> Result<(), Errno> {
        self.allow(NUMA_NODE)?;
        let pages = self.max_entries.is_power_of_two() && self.max_entries.is_multiple_of(PAGE);
        refuse(self.key_size != 0 || self.value_size != 0 || !pages, Errno::EINVAL)
    }

    /// `bpf_map_meta_alloc`.
    fn check_inner(&self) -> Result<(), Errno> {
        let inner = self.inner.as_deref().ok_or(Errno::EINVAL)?;
        refuse(inner.map_type.holds_maps(), Errno::EINVAL)?;
        refuse(inner.map_type == MapType::ProgArray, Errno::ENOTSUPP)?;
        inner.check()
    }

    /// `map_check_btf`.
    fn check_lock(&self) -> Result<(), Errno> {
        let Some(at) = self.lock_at else { return Ok(()) };
        let fits =
            at.is_multiple_of(4) && at.checked_add(4).is_some_and(|end| end <= self.value_size);
        refuse(!fits, Errno::EINVAL)?;
        refuse(self.flags & (RDONLY_PROG | WRONLY_PROG) != 0, Errno::EACCES)?;
        let allowed = matches!(self.map_type, MapType::Hash | MapType::Array);
        refuse(!allowed, Errno::EOPNOTSUPP)
    }
}

fn refuse(condition: bool, errno: Errno) -> Result<(), Errno> {
    if condition { Err(errno) } else { Ok(()) }
}
