//! Maps: readers take no lock, values never move, errors are the kernel's.

mod cell;
mod hash;
mod lpm;
mod sock;
mod spec;
#[cfg(test)]
mod tests;
mod values;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use spec::{MapSpec, MapType, flags};
pub(crate) use values::{Source, Values};

use crate::errno::Errno;
use crate::helper::SocketId;
use hash::Hash;
use lpm::Lpm;
use sock::Sock;

/// A map, shared by programs and the control plane.
pub struct Map {
    spec: MapSpec,
    cpus: usize,
    frozen: AtomicBool,
    version: AtomicU64,
    stored_to: AtomicBool,
    table: Table,
}

enum Table {
    Array(Values),
    PerCpuArray(Values),
    Hash(Hash, Values),
    Lpm(Lpm, Values),
    Sock(Sock),
}

impl Map {
    /// Makes a map. `cpus` is how many workers a per-CPU map has a value for.
    ///
    /// # Errors
    /// The kernel's errno for a definition that `BPF_MAP_CREATE` refuses; `ENOMEM`.
    pub fn create(spec: &MapSpec, cpus: usize) -> Result<Map, Errno> {
        spec.check()?;
        let (key_size, value_size) = (spec.key_size as usize, spec.value_size as usize);
        let entries = spec.max_entries;
        let cpus = cpus.max(1);
        let table = match spec.map_type {
            MapType::Array => Table::Array(Values::zeroed(value_size, entries.into())?),
            MapType::PerCpuArray => {
                let all = u64::from(entries).checked_mul(cpus as u64).ok_or(Errno::ENOMEM)?;
                Table::PerCpuArray(Values::zeroed(value_size, all)?)
            }
            MapType::Hash => {
                let seeded = spec.flags & flags::ZERO_SEED == 0;
                let values = Values::zeroed(value_size, Hash::elements(entries))?;
                Table::Hash(Hash::new(key_size, entries, seeded)?, values)
            }
            MapType::LpmTrie => {
                let values = Values::zeroed(value_size, Lpm::elements(entries))?;
                Table::Lpm(Lpm::new(key_size, entries)?, values)
            }
            MapType::SockMap => Table::Sock(Sock::map(entries)?),
            MapType::SockHash => Table::Sock(Sock::hash(key_size, entries)?),
            MapType::Unknown(_) => return Err(Errno::EINVAL),
        };
        if let (Some(initial), Table::Array(values)) = (&spec.initial, &table) {
            if initial.len() > value_size {
                return Err(Errno::EINVAL);
            }
            values.write(0, Source::Bytes(initial));
        }
        Ok(Map {
            spec: spec.clone(),
            cpus,
            frozen: AtomicBool::new(spec.read_only),
            version: AtomicU64::new(0),
            stored_to: AtomicBool::new(false),
            table,
        })
    }

    /// What it was made from.
    pub fn spec(&self) -> &MapSpec {
        &self.spec
    }

    /// How many workers a per-CPU map has a value for.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// How many entries it has. Every index of an array is one.
    pub fn len(&self) -> usize {
        match &self.table {
            Table::Array(_) | Table::PerCpuArray(_) => self.spec.max_entries as usize,
            Table::Hash(hash, _) => hash.len(),
            Table::Lpm(trie, _) => trie.len(),
            Table::Sock(sock) => sock.len(),
        }
    }

    /// Has it no entry?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `BPF_MAP_FREEZE`: from now on the control plane may not write.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    /// `BPF_MAP_LOOKUP_ELEM`. Of a per-CPU map: the values of all CPUs, each rounded up to 8 bytes.
    /// Of a sockmap with values of 8 bytes: the socket's number, where the kernel has its cookie.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for a key of another size; `EPERM` for a write-only map; `ENOSPC` for a
    /// sockmap with values of 4 bytes.
    pub fn lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.check_key(key)?;
        if self.spec.flags & flags::WRONLY != 0 {
            return Err(Errno::EPERM);
        }
        let one = |values: &Values, element: u64| {
            let mut value = vec![0; values.size()];
            values.read(element, &mut value);
            value
        };
        match &self.table {
            Table::Array(values) => {
                let index = self.index(key).ok_or(Errno::ENOENT)?;
                Ok(one(values, index.into()))
            }
            Table::PerCpuArray(values) => {
                let index = self.index(key).ok_or(Errno::ENOENT)?;
                let mut all = Vec::with_capacity(self.cpus * values.size().next_multiple_of(8));
                for cpu in 0..self.cpus {
                    all.extend(one(values, self.per_cpu(index, cpu)));
                    all.resize(all.len().next_multiple_of(8), 0);
                }
                Ok(all)
            }
            // Off the packet path: with the writers' lock, the value is of this key and whole.
            Table::Hash(hash, values) => {
                let _writer = hash.lock();
                Ok(one(values, hash.find(key).ok_or(Errno::ENOENT)?.into()))
            }
            Table::Lpm(trie, values) => {
                let _writer = trie.lock();
                Ok(one(values, trie.find(key).ok_or(Errno::ENOENT)?.into()))
            }
            Table::Sock(_) if self.spec.value_size == 4 => Err(Errno::ENOSPC),
            Table::Sock(sock) => Ok(sock.find(key).ok_or(Errno::ENOENT)?.0.to_le_bytes().to_vec()),
        }
    }

    /// `BPF_MAP_UPDATE_ELEM`. Of a per-CPU map: the values of all CPUs, each rounded up to 8 bytes.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for a key, value or flag that the map does
    /// not take; `E2BIG`, `EEXIST`, `ENOENT`, `ENOSPC` as the kernel's map of this type;
    /// `EOPNOTSUPP` for a map of sockets, see [`Map::update_socket`].
    pub fn update(&self, key: &[u8], value: &[u8], flag: u64) -> Result<(), Errno> {
        let _changed = Changed(self);
        self.check_key(key)?;
        self.check_write()?;
        let Table::PerCpuArray(values) = &self.table else {
            if value.len() != self.spec.value_size as usize {
                return Err(Errno::EINVAL);
            }
            return self.insert(key, Source::Bytes(value), flag, 0);
        };
        let size = values.size().next_multiple_of(8);
        if value.len() != size * self.cpus {
            return Err(Errno::EINVAL);
        }
        let index = self.array_index(key, flag)?;
        for (cpu, value) in value.chunks(size).enumerate() {
            values.write(self.per_cpu(index, cpu), Source::Bytes(&value[..values.size()]));
        }
        Ok(())
    }

    /// `BPF_MAP_DELETE_ELEM`.
    ///
    /// # Errors
    /// `EPERM` for a frozen or read-only map; `EINVAL` for a key of another size, for arrays, and
    /// for an empty slot of a sockmap; `ENOENT`.
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.check_key(key)?;
        self.check_write()?;
        self.remove(key)
    }

    /// `BPF_MAP_GET_NEXT_KEY`: the key after this one, or the first.
    ///
    /// # Errors
    /// `ENOENT` after the last; `EINVAL` for a key of another size; `EPERM` for a write-only map.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        if let Some(key) = key {
            self.check_key(key)?;
        }
        if self.spec.flags & flags::WRONLY != 0 {
            return Err(Errno::EPERM);
        }
        let next = match &self.table {
            Table::Array(_) | Table::PerCpuArray(_) => next_index(key, self.spec.max_entries),
            Table::Hash(hash, _) => hash.next_key(key),
            Table::Lpm(trie, _) => trie.next_key(key),
            Table::Sock(sock) => sock.next_key(key),
        };
        next.ok_or(Errno::ENOENT)
    }

    /// Puts a socket into a map of sockets. Whether its state allows that is the caller's to check.
    ///
    /// # Errors
    /// As `sock_map_update_elem`: `EINVAL` for a flag above `BPF_EXIST`, for another type of map or
    /// a key of another size; `E2BIG`, `EEXIST`, `ENOENT`; `EPERM` for a frozen or read-only map.
    pub fn update_socket(&self, key: &[u8], socket: SocketId, flag: u64) -> Result<(), Errno> {
        self.check_key(key)?;
        self.check_write()?;
        self.insert_socket(key, socket, flag)
    }

    /// The socket at a key of a map of sockets.
    pub fn lookup_socket(&self, key: &[u8]) -> Option<SocketId> {
        match &self.table {
            Table::Sock(sock) if self.check_key(key).is_ok() => sock.find(key),
            _ => None,
        }
    }

    /// Takes a socket out of a map of sockets, as its close does; how many entries that were.
    pub fn remove_socket(&self, socket: SocketId) -> usize {
        let _changed = Changed(self);
        match &self.table {
            Table::Sock(sock) => sock.remove_socket(socket),
            _ => 0,
        }
    }

    /// A number that grows with every change to the entries, once the change can be seen. What
    /// programs store through pointers to values counts once: see `Map::is_stored_to`.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Notes that a program has stored to a value through a pointer.
    #[inline]
    pub(crate) fn stored_to(&self) {
        if !self.is_stored_to() {
            self.stored_to.store(true, Ordering::Release);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a program has ever stored to a value: from then on no version tells its changes.
    #[inline]
    pub(crate) fn is_stored_to(&self) -> bool {
        self.stored_to.load(Ordering::Acquire)
    }

    /// Whether a program's lookup changes the map: those keep a record of use.
    #[inline]
    pub(crate) fn lookup_changes(&self) -> bool {
        !matches!(
            self.spec.map_type,
            MapType::Array
                | MapType::PerCpuArray
                | MapType::Hash
                | MapType::LpmTrie
                | MapType::SockMap
                | MapType::SockHash
        )
    }

    /// What programs reach by pointers; maps of sockets have none.
    #[inline]
    pub(crate) fn values(&self) -> Option<&Values> {
        match &self.table {
            Table::Array(values)
            | Table::PerCpuArray(values)
            | Table::Hash(_, values)
            | Table::Lpm(_, values) => Some(values),
            Table::Sock(_) => None,
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
            Table::Hash(hash, values) => Some(values.offset(hash.find(key)?.into())),
            Table::Lpm(trie, values) => Some(values.offset(trie.find(key)?.into())),
            Table::Sock(_) => None,
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
        match &self.table {
            Table::Array(values) => {
                values.write(self.array_index(key, flag)?.into(), value);
                Ok(())
            }
            Table::PerCpuArray(values) => {
                let index = self.array_index(key, flag)?;
                values.write(self.per_cpu(index, cpu % self.cpus), value);
                Ok(())
            }
            Table::Hash(hash, values) => hash.insert(key, value, flag, values),
            Table::Lpm(trie, values) => trie.insert(key, value, flag, values),
            Table::Sock(_) => Err(Errno::EOPNOTSUPP),
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

    /// A deletion by a program.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let _changed = Changed(self);
        match &self.table {
            Table::Array(_) | Table::PerCpuArray(_) => Err(Errno::EINVAL),
            Table::Hash(hash, _) => hash.remove(key),
            Table::Lpm(trie, _) => trie.remove(key),
            Table::Sock(sock) => sock.remove(key),
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        if key.len() == self.spec.key_size as usize { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn check_write(&self) -> Result<(), Errno> {
        let refused = self.spec.flags & flags::RDONLY != 0 || self.frozen.load(Ordering::Acquire);
        if refused { Err(Errno::EPERM) } else { Ok(()) }
    }

    #[inline]
    fn index(&self, key: &[u8]) -> Option<u32> {
        Some(index_of(key)).filter(|index| *index < self.spec.max_entries)
    }

    /// The index for an update; `array_map_update_elem`'s checks in its order.
    fn array_index(&self, key: &[u8], flag: u64) -> Result<u32, Errno> {
        if flag > flags::EXIST {
            return Err(Errno::EINVAL);
        }
        let index = self.index(key).ok_or(Errno::E2BIG)?;
        if flag == flags::NOEXIST { Err(Errno::EEXIST) } else { Ok(index) }
    }

    fn per_cpu(&self, index: u32, cpu: usize) -> u64 {
        cpu as u64 * u64::from(self.spec.max_entries) + u64::from(index)
    }
}

/// Counts a change when it is done.
struct Changed<'a>(&'a Map);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.0.version.fetch_add(1, Ordering::Release);
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("spec", &self.spec).field("cpus", &self.cpus).finish()
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
