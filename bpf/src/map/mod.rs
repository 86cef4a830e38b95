//! Maps: readers take no lock, values never move, errors are the kernel's.
//!
//! Here is what programs do; `control` has the control plane's side.

mod batch;
mod bloom;
mod bucket;
mod cell;
mod check;
mod control;
mod grace;
mod hash;
mod jump;
mod key;
mod lpm;
mod native;
mod pool;
mod queue;
mod references;
mod ring;
mod sock;
mod spec;
#[cfg(test)]
mod tests;
mod values;
mod version;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_epoch::Guard;

pub use batch::Batch;
pub use native::{ArrayLayout, Lookup};
pub use ring::{FORCE_WAKEUP, NO_WAKEUP, Record, Ring};
pub use spec::{MapSpec, MapType, flags};
pub(crate) use values::{Source, Values};

use crate::errno::Errno;
use crate::helper::SocketId;
use crate::program::Program;
use bloom::Bloom;
use hash::{Hash, Renewal, Shape};
use lpm::Lpm;
use queue::{Order, Queue};
use references::References;
use sock::Sock;
use version::{Changed, Version};

/// Values up to this size are copied to the stack where they must be in one piece.
const SHORT_VALUE: usize = 512;

/// The number that the next map gets.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// A map, shared by programs and the control plane.
pub struct Map {
    id: u32,
    spec: MapSpec,
    cpus: usize,
    frozen: AtomicBool,
    version: Version,
    table: Table,
}

enum Table {
    Array(Values),
    PerCpuArray(Values),
    Hash(Hash),
    /// Values by CPU, then by the hash's element.
    PerCpuHash(Hash, Values),
    Lpm(Lpm, Values),
    Sock(Sock),
    Programs(References<(Arc<Program>, u32)>),
    Maps(References<Arc<Map>>),
    /// Maps by the hash's element.
    HashOfMaps(Hash, References<Arc<Map>>),
    Queue(Queue),
    Bloom(Bloom),
    Ring(Ring),
    UserRing(Ring),
    Events(References<Arc<Ring>>),
}

impl Map {
    /// Makes a map. `cpus` is how many workers a per-CPU map has a value for.
    ///
    /// # Errors
    /// The kernel's errno for a definition that `BPF_MAP_CREATE` refuses; `ENOMEM`.
    pub fn create(spec: &MapSpec, cpus: usize) -> Result<Map, Errno> {
        spec.check()?;
        let cpus = cpus.max(1);
        let table = table(spec, cpus)?;
        if let (Some(initial), Table::Array(values)) = (&spec.initial, &table) {
            let mut value = vec![0; values.size()];
            value.get_mut(..initial.len()).ok_or(Errno::EINVAL)?.copy_from_slice(initial);
            values.write(0, Source::Bytes(&value), false);
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let frozen = AtomicBool::new(spec.read_only);
        Ok(Map { id, spec: spec.clone(), cpus, frozen, version: Version::default(), table })
    }

    /// Its number, which no other map of this process has had.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it was made from.
    pub fn spec(&self) -> &MapSpec {
        &self.spec
    }

    /// How many workers a per-CPU map has a value for.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// How many entries it has. Every index of an array is one; of a ring it is the bytes that are to
    /// be consumed; of a Bloom filter nobody knows (0).
    pub fn len(&self) -> usize {
        match &self.table {
            Table::Array(_) | Table::PerCpuArray(_) => self.spec.max_entries as usize,
            Table::Hash(hash) | Table::PerCpuHash(hash, _) | Table::HashOfMaps(hash, _) => {
                hash.len()
            }
            Table::Lpm(trie, _) => trie.len(),
            Table::Sock(sock) => sock.len(),
            Table::Programs(slots) => slots.len(),
            Table::Maps(slots) => slots.len(),
            Table::Events(slots) => slots.len(),
            Table::Queue(queue) => queue.len(),
            Table::Ring(ring) | Table::UserRing(ring) => ring.query(0) as usize,
            Table::Bloom(_) => 0,
        }
    }

    /// Has it no entry?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ring of a RINGBUF (programs produce) or USER_RINGBUF (programs consume).
    pub fn ring(&self) -> Option<&Ring> {
        match &self.table {
            Table::Ring(ring) | Table::UserRing(ring) => Some(ring),
            _ => None,
        }
    }

    /// The socket at a key of a map of sockets.
    pub fn lookup_socket(&self, key: &[u8]) -> Option<SocketId> {
        match &self.table {
            Table::Sock(sock) if key.len() == self.spec.key_size as usize => sock.find(key),
            _ => None,
        }
    }

    /// The program in a slot of a PROG_ARRAY, for as long as the caller is pinned.
    #[inline]
    pub fn program<'g>(&self, index: u32, guard: &'g Guard) -> Option<&'g Arc<Program>> {
        match &self.table {
            Table::Programs(slots) => slots.load(index as usize, guard).map(|(program, _)| program),
            _ => None,
        }
    }

    /// The map at a key of a map of maps, for as long as the caller is pinned.
    #[inline]
    pub fn inner<'g>(&self, key: &[u8], guard: &'g Guard) -> Option<&'g Arc<Map>> {
        match &self.table {
            Table::Maps(slots) => slots.load(index_of(key) as usize, guard),
            Table::HashOfMaps(hash, slots) => slots.load(hash.find(key)? as usize, guard),
            _ => None,
        }
    }

    /// `bpf_perf_event_output` to a ring of a PERF_EVENT_ARRAY.
    ///
    /// # Errors
    /// `EINVAL` for another type of map, `E2BIG` for an index beyond the array, `ENOENT` where there
    /// is no ring, `ENOSPC` where it is full.
    pub fn output_event(&self, index: u32, bytes: &[u8]) -> Result<(), Errno> {
        let Table::Events(slots) = &self.table else { return Err(Errno::EINVAL) };
        if index >= self.spec.max_entries {
            return Err(Errno::E2BIG);
        }
        let guard = crossbeam_epoch::pin();
        let ring = slots.load(index as usize, &guard).ok_or(Errno::ENOENT)?;
        ring.output(bytes, 0).map_err(|_| Errno::ENOSPC)
    }

    /// What programs reach by pointers; `None` for what has no such values.
    #[inline]
    pub(crate) fn values(&self) -> Option<&Values> {
        match &self.table {
            Table::Array(values)
            | Table::PerCpuArray(values)
            | Table::PerCpuHash(_, values)
            | Table::Lpm(_, values) => Some(values),
            Table::Hash(hash) => Some(hash.values()),
            _ => None,
        }
    }

    /// The offset of the value at a key, as a program on this CPU sees it.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], cpu: usize) -> Option<u64> {
        match &self.table {
            Table::Array(values) => Some(values.offset(self.index(key)?.into())),
            Table::PerCpuArray(values) => {
                Some(values.offset(self.per_cpu(self.index(key)?, cpu % self.cpus)))
            }
            Table::Hash(hash) => Some(hash.values().offset(hash.use_bytes(key)?.into())),
            Table::PerCpuHash(hash, values) => {
                Some(values.offset(self.per_cpu(hash.use_bytes(key)?, cpu % self.cpus)))
            }
            Table::Lpm(trie, values) => Some(values.offset(trie.find(key)?.into())),
            _ => None,
        }
    }

    /// An update by a program on this CPU.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        value: Source<'_>,
        flag: u64,
        cpu: usize,
    ) -> Result<(), Errno> {
        let _changed = Changed(self);
        let flag = self.check_flag(flag)?;
        let locked = flag & flags::LOCK != 0;
        let only = flag & !flags::LOCK;
        match &self.table {
            Table::Array(values) => {
                values.write(self.array_index(key, only)?.into(), value, locked);
                Ok(())
            }
            Table::PerCpuArray(values) => {
                let index = self.array_index(key, only)?;
                values.write(self.per_cpu(index, cpu % self.cpus), value, false);
                Ok(())
            }
            Table::Hash(hash) => {
                let renewal = if locked { Renewal::InPlace } else { Renewal::Replace };
                hash.insert(key, only, renewal, |element, new| match new {
                    true => hash.values().start(element.into(), value),
                    false => hash.values().write(element.into(), value, locked),
                })
            }
            Table::PerCpuHash(hash, values) => {
                let cpu = cpu % self.cpus;
                hash.insert(key, only, Renewal::InPlace, |element, new| {
                    let others = (0..self.cpus).filter(|other| new && *other != cpu);
                    others.for_each(|other| values.clear(self.per_cpu(element, other)));
                    values.write(self.per_cpu(element, cpu), value, false);
                })
            }
            Table::Lpm(trie, values) => trie.insert(key, value, only, values),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// A deletion by a program.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let _changed = Changed(self);
        match &self.table {
            Table::Array(_) | Table::PerCpuArray(_) | Table::Queue(_) => Err(Errno::EINVAL),
            Table::Hash(hash) | Table::PerCpuHash(hash, _) => hash.remove(key, |_| {}),
            Table::HashOfMaps(hash, slots) => {
                hash.remove(key, |element| _ = slots.set(element as usize, None))
            }
            Table::Lpm(trie, _) => trie.remove(key),
            Table::Sock(sock) => sock.remove(key),
            Table::Programs(slots) => self.empty(slots, key),
            Table::Maps(slots) => self.empty(slots, key),
            Table::Events(slots) => self.empty(slots, key),
            Table::Bloom(_) => Err(Errno::EOPNOTSUPP),
            Table::Ring(_) | Table::UserRing(_) => Err(Errno::ENOTSUPP),
        }
    }

    pub(crate) fn insert_socket(
        &self,
        key: &[u8],
        socket: SocketId,
        flag: u64,
    ) -> Result<(), Errno> {
        let _changed = Changed(self);
        match &self.table {
            Table::Sock(sock) => sock.insert(key, socket, flag),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `bpf_map_push_elem`.
    pub(crate) fn push(&self, value: Source<'_>, flag: u64) -> Result<(), Errno> {
        let _changed = Changed(self);
        match &self.table {
            Table::Queue(queue) => queue.push(value, flag),
            Table::Bloom(bloom) => self.with_bytes(value, |bytes| bloom.push(bytes, flag)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `bpf_map_pop_elem`, by a program: what leaves a queue or stack, of the size of its values.
    ///
    /// # Errors
    /// `ENOENT` if there is nothing; `EINVAL`, `EOPNOTSUPP` for other types.
    pub fn pop(&self, out: &mut [u8]) -> Result<(), Errno> {
        let _changed = Changed(self);
        match &self.table {
            Table::Queue(queue) => queue.first(out, true),
            Table::Bloom(_) => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `bpf_map_peek_elem`, by a program: what would leave a queue or stack; whether a Bloom filter
    /// may have the value.
    ///
    /// # Errors
    /// `ENOENT` if there is nothing, or it was not pushed; `EINVAL` for other types.
    pub fn peek(&self, value: &mut [u8]) -> Result<(), Errno> {
        match &self.table {
            Table::Queue(queue) => queue.first(value, false),
            Table::Bloom(bloom) => bloom.holds(value).then_some(()).ok_or(Errno::ENOENT),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes out what is at an index of an array of what is counted.
    fn empty<T: Send + 'static>(&self, slots: &References<T>, key: &[u8]) -> Result<(), Errno> {
        let index = self.index(key).ok_or(Errno::E2BIG)?;
        if slots.set(index as usize, None) { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn with_bytes<T>(&self, value: Source<'_>, with: impl FnOnce(&[u8]) -> T) -> T {
        match value {
            Source::Bytes(bytes) => with(bytes),
            Source::Cells(cells, at) => {
                let size = self.spec.value_size as usize;
                let mut short = [0; SHORT_VALUE];
                if let Some(short) = short.get_mut(..size) {
                    cells.read(at, short);
                    return with(short);
                }
                let mut long = vec![0; size];
                cells.read(at, &mut long);
                with(&long)
            }
        }
    }

    /// `BPF_F_LOCK` is for values that have a lock; beside it are `BPF_ANY`, `_NOEXIST`, `_EXIST`.
    fn check_flag(&self, flag: u64) -> Result<u64, Errno> {
        let locked = flag & flags::LOCK != 0;
        let refused = flag & !flags::LOCK > flags::EXIST || (locked && self.spec.lock_at.is_none());
        if refused { Err(Errno::EINVAL) } else { Ok(flag) }
    }

    #[inline]
    fn index(&self, key: &[u8]) -> Option<u32> {
        Some(index_of(key)).filter(|index| *index < self.spec.max_entries)
    }

    /// The index for an update; `array_map_update_elem`'s checks in its order.
    fn array_index(&self, key: &[u8], flag: u64) -> Result<u32, Errno> {
        let index = self.index(key).ok_or(Errno::E2BIG)?;
        if flag == flags::NOEXIST { Err(Errno::EEXIST) } else { Ok(index) }
    }

    /// The element of a CPU's value.
    #[inline]
    fn per_cpu(&self, element: u32, cpu: usize) -> u64 {
        cpu as u64 * per_cpu_elements(&self.spec) + u64::from(element)
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("spec", &self.spec).field("cpus", &self.cpus).finish()
    }
}

fn table(spec: &MapSpec, cpus: usize) -> Result<Table, Errno> {
    let (key_size, value_size) = (spec.key_size as usize, spec.value_size as usize);
    let entries = spec.max_entries;
    let seeded = spec.flags & flags::ZERO_SEED == 0;
    let per_cpu = || {
        let all = per_cpu_elements(spec).checked_mul(cpus as u64).ok_or(Errno::ENOMEM)?;
        Values::zeroed(value_size, all)
    };
    let hash = |value_size, evicts| {
        let lock_at = spec.lock_at;
        Hash::new(&Shape { key_size, value_size, max_entries: entries, seeded, evicts, lock_at })
    };
    Ok(match spec.map_type {
        MapType::Array => {
            Table::Array(Values::zeroed(value_size, entries.into())?.with_lock(spec.lock_at))
        }
        MapType::PerCpuArray => Table::PerCpuArray(per_cpu()?),
        MapType::Hash => Table::Hash(hash(value_size, false)?),
        MapType::LruHash => Table::Hash(hash(value_size, true)?),
        MapType::PerCpuHash => Table::PerCpuHash(hash(0, false)?, per_cpu()?),
        MapType::LruPerCpuHash => Table::PerCpuHash(hash(0, true)?, per_cpu()?),
        MapType::LpmTrie => {
            let values = Values::zeroed(value_size, Lpm::elements(entries))?;
            Table::Lpm(Lpm::new(key_size, entries)?, values)
        }
        MapType::SockMap => Table::Sock(Sock::map(entries)?),
        MapType::SockHash => Table::Sock(Sock::hash(key_size, entries)?),
        MapType::ProgArray => Table::Programs(References::new(entries.into())?),
        MapType::ArrayOfMaps => Table::Maps(References::new(entries.into())?),
        MapType::HashOfMaps => {
            let slots = References::new(Hash::elements(entries))?;
            Table::HashOfMaps(hash(0, false)?, slots)
        }
        MapType::PerfEventArray => Table::Events(References::new(entries.into())?),
        MapType::Queue => Table::Queue(Queue::new(Order::Queue, value_size, entries)?),
        MapType::Stack => Table::Queue(Queue::new(Order::Stack, value_size, entries)?),
        MapType::BloomFilter => Table::Bloom(Bloom::new(entries, spec.extra as u32, seeded)?),
        MapType::RingBuf => Table::Ring(Ring::new(entries)?),
        MapType::UserRingBuf => Table::UserRing(Ring::new(entries)?),
        MapType::Unknown(_) => return Err(Errno::EINVAL),
    })
}

/// How many elements a per-CPU map has for each CPU.
fn per_cpu_elements(spec: &MapSpec) -> u64 {
    match spec.map_type {
        MapType::PerCpuArray => spec.max_entries.into(),
        _ => Hash::elements(spec.max_entries),
    }
}

/// The index that an array's key of four bytes is.
#[inline]
fn index_of(key: &[u8]) -> u32 {
    key.first_chunk::<4>().map_or(u32::MAX, |key| u32::from_le_bytes(*key))
}

/// `array_map_get_next_key`.
fn next_index(key: Option<&[u8]>, size: u32) -> Option<Vec<u8>> {
    let next = match key.map(index_of) {
        None => 0,
        Some(index) if index >= size => 0,
        Some(index) => index + 1,
    };
    (next < size).then(|| next.to_le_bytes().to_vec())
}
