//! What has changed since: a number for all of a map.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Map, MapType};

/// Counts what changes a map.
#[derive(Default)]
pub(super) struct Version {
    number: AtomicU64,
    stored_to: AtomicBool,
}

impl Map {
    /// A number that grows with every change to the entries, once the change can be seen. What
    /// programs store through pointers to values counts once: see `Map::is_stored_to`.
    pub fn version(&self) -> u64 {
        self.version.number.load(Ordering::Acquire)
    }

    /// Notes that a program has stored to a value through a pointer.
    #[inline]
    pub(crate) fn stored_to(&self) {
        if !self.is_stored_to() {
            self.version.stored_to.store(true, Ordering::Release);
            self.version.number.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a program has ever stored to a value: from then on no version tells its changes.
    #[inline]
    pub(crate) fn is_stored_to(&self) -> bool {
        self.version.stored_to.load(Ordering::Acquire)
    }

    /// Whether a program's lookup changes the map: those keep a record of use.
    #[inline]
    pub(crate) fn lookup_changes(&self) -> bool {
        !matches!(
            self.spec.map_type,
            MapType::Array
                | MapType::PerCpuArray
                | MapType::Hash
                | MapType::PerCpuHash
                | MapType::LpmTrie
                | MapType::ArrayOfMaps
                | MapType::HashOfMaps
                | MapType::BloomFilter
                | MapType::SockMap
                | MapType::SockHash
        )
    }
}

/// Counts a change when it is done.
pub(super) struct Changed<'a>(pub(super) &'a Map);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.0.version.number.fetch_add(1, Ordering::Release);
    }
}
