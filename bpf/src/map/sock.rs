//! Sockmap and sockhash: maps whose values are sockets (`net/core/sock_map.c`).
//!
//! An entry leaves with its socket: each map knows where a socket stands in it.

use std::collections::HashMap;
use std::sync::atomic::{Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cell::Cells;
use super::flags;
use super::hash::{Hash, Renewal, Shape};
use super::values::Source;
use crate::errno::Errno;
use crate::helper::SocketId;

pub(crate) enum SockTable {
    /// By index.
    Map { slots: Cells, size: u32 },
    /// By key.
    Hash(Box<Hash>),
}

pub(crate) struct Sock {
    table: SockTable,
    /// The keys that each socket stands at. Also what writers exclude each other by.
    places: Mutex<HashMap<SocketId, Vec<Box<[u8]>>>>,
}

impl Sock {
    pub(crate) fn map(max_entries: u32) -> Result<Sock, Errno> {
        let slots = Cells::zeroed(max_entries as usize)?;
        Ok(Sock::of(SockTable::Map { slots, size: max_entries }))
    }

    pub(crate) fn hash(key_size: usize, max_entries: u32) -> Result<Sock, Errno> {
        let hash = Hash::new(&Shape {
            key_size,
            value_size: 8,
            max_entries,
            seeded: true,
            evicts: false,
            lock_at: None,
        })?;
        Ok(Sock::of(SockTable::Hash(Box::new(hash))))
    }

    fn of(table: SockTable) -> Sock {
        Sock { table, places: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// The socket at a key. No lock.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<SocketId> {
        let stored = match &self.table {
            SockTable::Map { slots, size } => {
                let index = index(key);
                if index >= *size {
                    return None;
                }
                slots.word(index as usize).load(Acquire)
            }
            SockTable::Hash(hash) => {
                let element = hash.find(key)?;
                let at = hash.values().at(element.into());
                hash.values().cells().word(at / 8).load(Acquire)
            }
        };
        // Zero is an empty slot, so what is stored is one more than the socket's number.
        stored.checked_sub(1).map(SocketId)
    }

    pub(crate) fn insert(&self, key: &[u8], socket: SocketId, flag: u64) -> Result<(), Errno> {
        let stored = socket.0.checked_add(1).ok_or(Errno::EINVAL)?;
        if flag > flags::EXIST {
            return Err(Errno::EINVAL);
        }
        let mut places = self.lock();
        let old = self.find(key);
        match &self.table {
            SockTable::Map { slots, size } => {
                let index = index(key);
                match old {
                    _ if index >= *size => return Err(Errno::E2BIG),
                    Some(_) if flag == flags::NOEXIST => return Err(Errno::EEXIST),
                    None if flag == flags::EXIST => return Err(Errno::ENOENT),
                    _ => slots.word(index as usize).store(stored, Release),
                }
            }
            SockTable::Hash(hash) => {
                hash.insert(key, flag, Renewal::Replace, |element, _| {
                    let value = stored.to_le_bytes();
                    hash.values().start(element.into(), Source::Bytes(&value));
                })?;
            }
        }
        if let Some(old) = old {
            forget(&mut places, old, key);
        }
        places.entry(socket).or_default().push(key.into());
        Ok(())
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let mut places = self.lock();
        let Some(socket) = self.find(key) else {
            return Err(match self.table {
                SockTable::Map { .. } => Errno::EINVAL,
                SockTable::Hash(_) => Errno::ENOENT,
            });
        };
        self.clear(key);
        forget(&mut places, socket, key);
        Ok(())
    }

    /// Takes a socket out wherever it stands; how many entries that were.
    pub(crate) fn remove_socket(&self, socket: SocketId) -> usize {
        let mut places = self.lock();
        let keys = places.remove(&socket).unwrap_or_default();
        for key in &keys {
            self.clear(key);
        }
        keys.len()
    }

    /// A sockmap walks its indices, empty ones too; a sockhash its entries.
    pub(crate) fn next_key(&self, key: Option<&[u8]>) -> Option<Vec<u8>> {
        match &self.table {
            SockTable::Map { size, .. } => super::next_index(key, *size),
            SockTable::Hash(hash) => hash.next_key(key),
        }
    }

    fn clear(&self, key: &[u8]) {
        match &self.table {
            SockTable::Map { slots, .. } => slots.word(index(key) as usize).store(0, Release),
            SockTable::Hash(hash) => {
                let removed = hash.remove(key, |_| {});
                assert!(removed.is_ok(), "an entry that was found is there");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketId, Vec<Box<[u8]>>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(places: &mut HashMap<SocketId, Vec<Box<[u8]>>>, socket: SocketId, key: &[u8]) {
    if let Some(keys) = places.get_mut(&socket) {
        keys.retain(|other| &**other != key);
        if keys.is_empty() {
            places.remove(&socket);
        }
    }
}

#[inline]
fn index(key: &[u8]) -> u32 {
    super::index_of(key)
}
