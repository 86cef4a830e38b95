//! The control plane's side of a map: the commands of bpf(2).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hash::Renewal;
use super::version::Changed;
use super::{Map, MapType, Source, Table, Values, flags, next_index};
use crate::errno::Errno;
use crate::helper::SocketId;
use crate::map::Ring;
use crate::program::Program;

impl Map {
    /// `BPF_MAP_FREEZE`: from now on the control plane may not write.
    ///
    /// # Errors
    /// `ENOTSUPP` for values with a lock, `EPERM` for a read-only map and one that is frozen.
    pub fn freeze(&self) -> Result<(), Errno> {
        if self.spec.lock_at.is_some() {
            return Err(Errno::ENOTSUPP);
        }
        let refused =
            self.spec.flags & flags::RDONLY != 0 || self.frozen.swap(true, Ordering::AcqRel);
        if refused { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Is it frozen: is what programs may not write constant?
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    /// `BPF_MAP_LOOKUP_ELEM`. Of a per-CPU map: the values of all CPUs, each rounded up to 8 bytes.
    /// Of a sockmap with values of 8 bytes: the socket's number, where the kernel has its cookie. Of
    /// a map of maps or programs: the number. Of a queue or stack: what would leave first.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for a key of another size; `EPERM` for a write-only map; `ENOSPC` for a
    /// sockmap with values of 4 bytes; `ENOTSUPP` for rings; `EINVAL` for a Bloom filter, see
    /// [`Map::holds`].
    pub fn lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.lookup_with(key, flags::ANY)
    }

    /// `BPF_MAP_LOOKUP_ELEM` with flags: `BPF_F_LOCK`.
    ///
    /// # Errors
    /// As [`Map::lookup`]; `EINVAL` for other flags, or if the values have no lock.
    pub fn lookup_with(&self, key: &[u8], flag: u64) -> Result<Vec<u8>, Errno> {
        if flag & !flags::LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_read()?;
        self.check_lock_flag(flag)?;
        self.check_key(key)?;
        let locked = flag != 0;
        match &self.table {
            Table::Array(values) => {
                Ok(one(values, self.index(key).ok_or(Errno::ENOENT)?.into(), locked))
            }
            Table::PerCpuArray(values) => {
                Ok(self.all_cpus(values, self.index(key).ok_or(Errno::ENOENT)?))
            }
            // Off the packet path: with the writers' lock, the value is of this key and whole.
            Table::Hash(hash) | Table::PerCpuHash(hash, _) | Table::HashOfMaps(hash, _) => {
                let _writer = hash.lock();
                self.element_value(hash.find(key).ok_or(Errno::ENOENT)?, locked)
            }
            Table::Lpm(trie, values) => {
                let _writer = trie.lock();
                Ok(one(values, trie.find(key).ok_or(Errno::ENOENT)?.into(), false))
            }
            Table::Sock(_) if self.spec.value_size == 4 => Err(Errno::ENOSPC),
            Table::Sock(sock) => Ok(sock.find(key).ok_or(Errno::ENOENT)?.0.to_le_bytes().to_vec()),
            Table::Programs(slots) => {
                let guard = crossbeam_epoch::pin();
                let index = self.index(key).ok_or(Errno::ENOENT)?;
                let (_, id) = slots.load(index as usize, &guard).ok_or(Errno::ENOENT)?;
                Ok(id.to_le_bytes().to_vec())
            }
            Table::Maps(_) => {
                let guard = crossbeam_epoch::pin();
                let map = self.inner(key, &guard).ok_or(Errno::ENOENT)?;
                Ok(map.id().to_le_bytes().to_vec())
            }
            Table::Queue(queue) => {
                let mut value = vec![0; self.spec.value_size as usize];
                queue.first(&mut value, false).map(|()| value)
            }
            Table::Bloom(_) => Err(Errno::EINVAL),
            Table::Ring(_) | Table::UserRing(_) | Table::Events(_) => Err(Errno::ENOTSUPP),
        }
    }

    /// `BPF_MAP_LOOKUP_ELEM` of a Bloom filter: may the value have been pushed?
    ///
    /// # Errors
    /// `ENOENT` if it was not; `EPERM` for a write-only map; `EINVAL` for a value of another size or
    /// another type of map.
    pub fn holds(&self, value: &[u8]) -> Result<(), Errno> {
        self.check_read()?;
        match &self.table {
            Table::Bloom(bloom) if value.len() == self.spec.value_size as usize => {
                bloom.holds(value).then_some(()).ok_or(Errno::ENOENT)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`: what leaves a queue or stack; a hash's value, taken out.
    ///
    /// # Errors
    /// `ENOENT`; `EPERM` for a map that may not be read or written; `EINVAL` for a key or flags that
    /// the map does not take; `ENOTSUPP` for other types.
    pub fn lookup_and_delete(&self, key: &[u8], flag: u64) -> Result<Vec<u8>, Errno> {
        let _changed = Changed(self);
        if flag & !flags::LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_read()?;
        self.check_write()?;
        self.check_lock_flag(flag)?;
        self.check_key(key)?;
        match &self.table {
            Table::Queue(queue) => {
                let mut value = vec![0; self.spec.value_size as usize];
                queue.first(&mut value, true).map(|()| value)
            }
            Table::Hash(hash) | Table::PerCpuHash(hash, _) => {
                let mut value = Err(Errno::ENOENT);
                hash.remove(key, |element| value = self.element_value(element, flag != 0))?;
                value
            }
            _ => Err(Errno::ENOTSUPP),
        }
    }

    /// `BPF_MAP_UPDATE_ELEM`. Of a per-CPU map: the values of all CPUs, each rounded up to 8 bytes.
    /// Of a queue, stack or Bloom filter: a push.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for a key, value or flag that the map does
    /// not take; `E2BIG`, `EEXIST`, `ENOENT`, `ENOSPC` as the kernel's map of this type; `ENOTSUPP`
    /// for rings; `EOPNOTSUPP` for a map of sockets, maps, programs or events, see
    /// [`Map::update_socket`], [`Map::update_map`], [`Map::update_program`], [`Map::open_event`].
    pub fn update(&self, key: &[u8], value: &[u8], flag: u64) -> Result<(), Errno> {
        self.check_write()?;
        self.check_lock_flag(flag & flags::LOCK)?;
        self.check_key(key)?;
        if self.spec.map_type.is_per_cpu() {
            return self.update_all_cpus(key, value, flag);
        }
        if value.len() != self.spec.value_size as usize {
            return Err(Errno::EINVAL);
        }
        match &self.table {
            Table::Queue(_) | Table::Bloom(_) => self.push(Source::Bytes(value), flag),
            Table::Ring(_) | Table::UserRing(_) => Err(Errno::ENOTSUPP),
            _ => self.insert(key, Source::Bytes(value), flag, 0),
        }
    }

    /// `BPF_MAP_DELETE_ELEM`.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for a key of another size, for arrays and
    /// queues, and for an empty slot of a sockmap; `ENOENT`; `E2BIG` for an index beyond an array of
    /// maps, programs or events; `EOPNOTSUPP` for a Bloom filter; `ENOTSUPP` for rings.
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.check_write()?;
        self.check_key(key)?;
        self.remove(key)
    }

    /// `BPF_MAP_GET_NEXT_KEY`: the key after this one, or the first.
    ///
    /// # Errors
    /// `ENOENT` after the last; `EINVAL` for a key of another size and for queues; `EPERM` for a
    /// write-only map; `EOPNOTSUPP` for a Bloom filter; `ENOTSUPP` for rings.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        self.check_read()?;
        if let Some(key) = key {
            self.check_key(key)?;
        }
        let next = match &self.table {
            Table::Array(_)
            | Table::PerCpuArray(_)
            | Table::Programs(_)
            | Table::Maps(_)
            | Table::Events(_) => next_index(key, self.spec.max_entries),
            Table::Hash(hash) | Table::PerCpuHash(hash, _) | Table::HashOfMaps(hash, _) => {
                hash.next_key(key)
            }
            Table::Lpm(trie, _) => trie.next_key(key),
            Table::Sock(sock) => sock.next_key(key),
            Table::Queue(_) => return Err(Errno::EINVAL),
            Table::Bloom(_) => return Err(Errno::EOPNOTSUPP),
            Table::Ring(_) | Table::UserRing(_) => return Err(Errno::ENOTSUPP),
        };
        next.ok_or(Errno::ENOENT)
    }

    /// Puts a socket into a map of sockets. Whether its state allows that is the caller's to check.
    ///
    /// # Errors
    /// As `sock_map_update_elem`: `EINVAL` for a flag above `BPF_EXIST`, for another type of map or
    /// a key of another size; `E2BIG`, `EEXIST`, `ENOENT`; `EPERM` for a frozen or read-only map.
    pub fn update_socket(&self, key: &[u8], socket: SocketId, flag: u64) -> Result<(), Errno> {
        self.check_write()?;
        self.check_key(key)?;
        self.insert_socket(key, socket, flag)
    }

    /// Takes a socket out of a map of sockets, as its close does; how many entries that were.
    pub fn remove_socket(&self, socket: SocketId) -> usize {
        let _changed = Changed(self);
        match &self.table {
            Table::Sock(sock) => sock.remove_socket(socket),
            _ => 0,
        }
    }

    /// Puts a map into a map of maps.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for another type of map, a key of another
    /// size, a flag that the map does not take, and a map that is not like the template; `E2BIG`,
    /// `EEXIST`, `ENOENT`.
    pub fn update_map(&self, key: &[u8], map: Arc<Map>, flag: u64) -> Result<(), Errno> {
        let _changed = Changed(self);
        self.check_write()?;
        self.check_key(key)?;
        let like = self.spec.inner.as_ref().is_some_and(|inner| map.spec.is_like(inner));
        match &self.table {
            Table::Maps(slots) => {
                let index = self.slot(key, flag)?;
                if !like {
                    return Err(Errno::EINVAL);
                }
                slots.set(index, Some(map));
                Ok(())
            }
            Table::HashOfMaps(hash, slots) if like => {
                let flag = self.check_flag(flag)?;
                // One store replaces the map, so that readers see the old or the new one.
                hash.insert(key, flag, Renewal::InPlace, |element, _| {
                    slots.set(element as usize, Some(map));
                })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Puts a program into a PROG_ARRAY; `id` is what a lookup then answers. Whether the program
    /// suits those that are there is the caller's to check.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for another type of map, a key of another
    /// size, or any flag; `E2BIG`.
    pub fn update_program(
        &self,
        key: &[u8],
        program: Arc<Program>,
        id: u32,
        flag: u64,
    ) -> Result<(), Errno> {
        let _changed = Changed(self);
        self.check_write()?;
        self.check_key(key)?;
        let Table::Programs(slots) = &self.table else { return Err(Errno::EINVAL) };
        slots.set(self.slot(key, flag)?, Some((program, id)));
        Ok(())
    }

    /// Takes all programs out of a PROG_ARRAY, as the kernel does when the last handle on it is gone:
    /// programs and the array that they are in would keep each other for ever.
    pub fn clear_programs(&self) {
        let _changed = Changed(self);
        if let Table::Programs(slots) = &self.table {
            (0..self.spec.max_entries as usize).for_each(|index| _ = slots.set(index, None));
        }
    }

    /// Opens a ring of `size` bytes (a power of two of pages) at an index of a PERF_EVENT_ARRAY;
    /// programs' events land there.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for another type of map or size; `E2BIG`.
    pub fn open_event(&self, index: u32, size: u32) -> Result<Arc<Ring>, Errno> {
        let _changed = Changed(self);
        self.check_write()?;
        let Table::Events(slots) = &self.table else { return Err(Errno::EINVAL) };
        if !size.is_power_of_two() || size < 4096 {
            return Err(Errno::EINVAL);
        }
        let slot = self.slot(&index.to_le_bytes(), flags::ANY)?;
        let ring = Arc::new(Ring::new(size)?);
        slots.set(slot, Some(Arc::clone(&ring)));
        Ok(ring)
    }

    /// The values of an array in one piece, as `mmap` of one with `BPF_F_MMAPABLE` shows them: each
    /// is at a multiple of its size rounded up to 8. `None` for other maps. Programs write at the
    /// same time: reach it by atomic accesses only.
    pub fn memory(&self) -> Option<(*mut u8, usize)> {
        match &self.table {
            Table::Array(values) if self.spec.flags & flags::MMAPABLE != 0 => {
                Some((values.cells().start(), values.stride() * self.spec.max_entries as usize))
            }
            _ => None,
        }
    }

    /// What is at an element of a hash, as the control plane sees it. Writers are kept out.
    pub(super) fn element_value(&self, element: u32, locked: bool) -> Result<Vec<u8>, Errno> {
        match &self.table {
            Table::Hash(hash) => Ok(one(hash.values(), element.into(), locked)),
            Table::PerCpuHash(_, values) => Ok(self.all_cpus(values, element)),
            Table::HashOfMaps(_, slots) => {
                let guard = crossbeam_epoch::pin();
                let map = slots.load(element as usize, &guard).ok_or(Errno::ENOENT)?;
                Ok(map.id().to_le_bytes().to_vec())
            }
            _ => Err(Errno::ENOTSUPP),
        }
    }

    pub(super) fn check_read(&self) -> Result<(), Errno> {
        if self.spec.flags & flags::WRONLY != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    pub(super) fn check_write(&self) -> Result<(), Errno> {
        let refused = self.spec.flags & flags::RDONLY != 0 || self.is_frozen();
        if refused { Err(Errno::EPERM) } else { Ok(()) }
    }

    pub(super) fn check_lock_flag(&self, flag: u64) -> Result<(), Errno> {
        let refused = flag & !flags::LOCK != 0 || (flag != 0 && self.spec.lock_at.is_none());
        if refused { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        if key.len() == self.spec.key_size as usize { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The slot of an array of what is counted (`bpf_fd_array_map_update_elem`).
    fn slot(&self, key: &[u8], flag: u64) -> Result<usize, Errno> {
        if flag != flags::ANY {
            return Err(Errno::EINVAL);
        }
        self.index(key).map(|index| index as usize).ok_or(Errno::E2BIG)
    }

    fn update_all_cpus(&self, key: &[u8], value: &[u8], flag: u64) -> Result<(), Errno> {
        let _changed = Changed(self);
        let size = (self.spec.value_size as usize).next_multiple_of(8);
        if value.len() != size * self.cpus {
            return Err(Errno::EINVAL);
        }
        let flag = self.check_flag(flag)?;
        let write = |values: &Values, element: u32| {
            for (cpu, value) in value.chunks(size).enumerate() {
                let value = Source::Bytes(&value[..values.size()]);
                values.write(self.per_cpu(element, cpu), value, false);
            }
        };
        match &self.table {
            Table::PerCpuArray(values) => {
                write(values, self.array_index(key, flag)?);
                Ok(())
            }
            Table::PerCpuHash(hash, values) => {
                hash.insert(key, flag, Renewal::InPlace, |element, _| write(values, element))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn all_cpus(&self, values: &Values, element: u32) -> Vec<u8> {
        let size = values.size().next_multiple_of(8);
        let mut all = vec![0; size * self.cpus];
        for (cpu, value) in all.chunks_mut(size).enumerate() {
            values.read(self.per_cpu(element, cpu), &mut value[..values.size()], false);
        }
        all
    }

    /// Is it one of the types whose entries are in a hash?
    pub(super) fn is_hash(&self) -> bool {
        matches!(
            self.spec.map_type,
            MapType::Hash
                | MapType::PerCpuHash
                | MapType::LruHash
                | MapType::LruPerCpuHash
                | MapType::HashOfMaps
        )
    }
}

fn one(values: &Values, element: u64, locked: bool) -> Vec<u8> {
    let mut value = vec![0; values.size()];
    values.read(element, &mut value, locked);
    value
}
