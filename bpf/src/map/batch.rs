//! Many entries at once: `BPF_MAP_LOOKUP_BATCH` and its kin.

use super::version::Changed;
use super::{Map, MapType, Table};
use crate::errno::Errno;

/// What a batch of lookups found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys and values, as [`Map::lookup`] gives them.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the next batch begins; `None` after the last, where the kernel says `ENOENT`.
    pub next: Option<Vec<u8>>,
}

impl Map {
    /// `BPF_MAP_LOOKUP_BATCH`: up to `most` entries, from the first or from where an earlier batch
    /// ended.
    ///
    /// # Errors
    /// `EPERM` for a write-only map, `EINVAL` for flags other than `BPF_F_LOCK`, `ENOTSUPP` for types
    /// without batches, `ENOSPC` if `most` is less than what a hash has in one bucket, `ENOENT` for a
    /// beginning beyond the end.
    pub fn lookup_batch(
        &self,
        from: Option<&[u8]>,
        most: usize,
        flag: u64,
    ) -> Result<Batch, Errno> {
        self.check_read()?;
        let keyed = matches!(
            self.spec.map_type,
            MapType::Array | MapType::PerCpuArray | MapType::LpmTrie | MapType::ArrayOfMaps
        );
        if !keyed && !self.is_hash() {
            return Err(Errno::ENOTSUPP);
        }
        self.check_lock_flag(flag)?;
        if self.is_hash() {
            return self.hash_batch(from, most, flag, false);
        }
        self.keyed_batch(from, most, flag)
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`: the same, and the entries are taken out.
    ///
    /// # Errors
    /// As [`Map::lookup_batch`]; `EPERM` for a map that may not be written; `ENOTSUPP` for all but
    /// hashes.
    pub fn lookup_and_delete_batch(
        &self,
        from: Option<&[u8]>,
        most: usize,
        flag: u64,
    ) -> Result<Batch, Errno> {
        self.check_read()?;
        self.check_write()?;
        if !self.is_hash() {
            return Err(Errno::ENOTSUPP);
        }
        self.check_lock_flag(flag)?;
        let _changed = Changed(self);
        self.hash_batch(from, most, flag, true)
    }

    /// `BPF_MAP_UPDATE_BATCH`; how many entries were updated, and what stopped it.
    pub fn update_batch(
        &self,
        entries: &[(&[u8], &[u8])],
        flag: u64,
    ) -> (usize, Result<(), Errno>) {
        let batched = self.is_hash()
            || matches!(
                self.spec.map_type,
                MapType::Array | MapType::PerCpuArray | MapType::LpmTrie | MapType::ArrayOfMaps
            );
        let allowed = self
            .check_write()
            .and(if batched { Ok(()) } else { Err(Errno::ENOTSUPP) })
            .and_then(|()| self.check_lock_flag(flag));
        if allowed.is_err() {
            return (0, allowed);
        }
        until_refused(entries, |(key, value)| self.update(key, value, flag))
    }

    /// `BPF_MAP_DELETE_BATCH`; how many entries were deleted, and what stopped it.
    pub fn delete_batch(&self, keys: &[&[u8]]) -> (usize, Result<(), Errno>) {
        let batched = self.is_hash() || self.spec.map_type == MapType::LpmTrie;
        let allowed = self.check_write().and(if batched { Ok(()) } else { Err(Errno::ENOTSUPP) });
        if allowed.is_err() {
            return (0, allowed);
        }
        until_refused(keys, |key| self.delete(key))
    }

    /// `generic_map_lookup_batch`: the next batch begins after the last key of this one.
    fn keyed_batch(&self, from: Option<&[u8]>, most: usize, flag: u64) -> Result<Batch, Errno> {
        let mut batch = Batch::default();
        let mut last = from.map(<[u8]>::to_vec);
        while batch.entries.len() < most {
            let key = match self.next_key(last.as_deref()) {
                Err(Errno::ENOENT) => return Ok(batch),
                next => next?,
            };
            match self.lookup_with(&key, flag) {
                Err(Errno::ENOENT) => {}
                value => batch.entries.push((key.clone(), value?)),
            }
            last = Some(key);
        }
        batch.next = last;
        Ok(batch)
    }

    /// `__htab_map_lookup_and_delete_batch`: whole buckets; the next batch begins with a bucket.
    fn hash_batch(
        &self,
        from: Option<&[u8]>,
        most: usize,
        flag: u64,
        delete: bool,
    ) -> Result<Batch, Errno> {
        let (Table::Hash(hash) | Table::PerCpuHash(hash, _) | Table::HashOfMaps(hash, _)) =
            &self.table
        else {
            return Err(Errno::ENOTSUPP);
        };
        let mut batch = Batch::default();
        let mut bucket = match from {
            None => 0,
            Some(from) => u32::from_le_bytes(from.try_into().map_err(|_| Errno::EINVAL)?) as usize,
        };
        if most == 0 {
            return Ok(batch);
        }
        if bucket >= hash.buckets() {
            return Err(Errno::ENOENT);
        }
        while bucket < hash.buckets() {
            let mut writer = hash.lock();
            let found = hash.bucket_entries(&writer, bucket);
            if found.len() > most - batch.entries.len() {
                if batch.entries.is_empty() {
                    return Err(Errno::ENOSPC);
                }
                batch.next = Some((bucket as u32).to_le_bytes().to_vec());
                return Ok(batch);
            }
            for (key, element) in found {
                let value = self.element_value(element, flag != 0)?;
                if delete {
                    hash.remove_with(&mut writer, &key, |element| {
                        if let Table::HashOfMaps(_, slots) = &self.table {
                            slots.set(element as usize, None);
                        }
                    })?;
                }
                batch.entries.push((key, value));
            }
            bucket += 1;
        }
        Ok(batch)
    }
}

fn until_refused<T>(
    items: &[T],
    mut run: impl FnMut(&T) -> Result<(), Errno>,
) -> (usize, Result<(), Errno>) {
    for (done, item) in items.iter().enumerate() {
        if let Err(errno) = run(item) {
            return (done, Err(errno));
        }
    }
    (items.len(), Ok(()))
}
