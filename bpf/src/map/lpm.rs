//! Longest prefix match: a path-compressed binary trie (`kernel/bpf/lpm_trie.c`).
//!
//! A change is published by one store to a link, so that readers, who take no lock, see the trie
//! before or after it. Only the reuse of a node could mislead them: it changes `sequence`. A table
//! over the first bits of a key leads past the upper levels (`jump`).

use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cell::Cells;
use super::flags;
use super::jump::{Jump, Start};
use super::values::{Source, Values};
use crate::errno::Errno;

/// How often a reader begins again when nodes are freed meanwhile.
const RETRIES: usize = 64;
/// Words of a node before its key: prefix length and kind, then two links.
const HEADER: usize = 2;
/// Words of the longest data, 256 bytes.
const MAX_WORDS: usize = 32;
/// Words of ordinary keys: an IPv6 address with ports beside it.
const SHORT: usize = 4;
/// In a node's first word: it is an entry, not only a fork.
const ENTRY: u64 = 1 << 32;
/// Nodes beyond two an entry: none, the one that replaces another, and some so that a freed one rests
/// before it is used again.
const SPARE: u64 = 66;

pub(crate) struct Lpm {
    data_size: usize,
    node_words: usize,
    max_prefix: u32,
    max_entries: u64,
    root: AtomicU32,
    jump: Jump,
    sequence: AtomicU64,
    nodes: Cells,
    writer: Mutex<Writer>,
}

/// What only writers see. Node 0 stands for none.
pub(super) struct Writer {
    entries: u64,
    untouched: u64,
    free_first: u32,
    free_last: u32,
}

/// A key: prefix length in bits, then data in network order.
#[derive(Clone, Copy)]
struct Key<'a> {
    prefix: u32,
    data: &'a [u8],
}

/// Slots of the table over the first bits that have this many bits in common.
#[derive(Clone, Copy)]
struct Region {
    first: usize,
    length: u32,
}

impl Lpm {
    /// `key_size` counts the four bytes of the prefix length.
    pub(crate) fn new(key_size: usize, max_entries: u32) -> Result<Lpm, Errno> {
        let data_size = key_size - 4;
        let node_words = HEADER + data_size.div_ceil(8);
        let count = usize::try_from(Lpm::elements(max_entries)).map_err(|_| Errno::ENOMEM)?;
        if count > u32::MAX as usize {
            return Err(Errno::ENOMEM);
        }
        Ok(Lpm {
            data_size,
            node_words,
            max_prefix: data_size as u32 * 8,
            max_entries: u64::from(max_entries),
            root: AtomicU32::new(0),
            jump: Jump::new(max_entries, data_size as u32 * 8)?,
            sequence: AtomicU64::new(0),
            nodes: Cells::zeroed(count.checked_mul(node_words).ok_or(Errno::ENOMEM)?)?,
            writer: Mutex::new(Writer { entries: 0, untouched: 1, free_first: 0, free_last: 0 }),
        })
    }

    /// How many nodes, each with room for a value, a trie has.
    pub(crate) fn elements(max_entries: u32) -> u64 {
        Lpm::elements_of(max_entries.into())
    }

    fn elements_of(max_entries: u64) -> u64 {
        max_entries * 2 + SPARE
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries as usize
    }

    /// The node with the longest prefix of the key. No lock.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        let key = self.key(key)?;
        // Two sizes, since clearing room for the longest key would cost more than a short walk.
        if self.node_words - HEADER <= SHORT {
            self.find_by_words(key, [0; SHORT])
        } else {
            self.find_by_words(key, [0; MAX_WORDS])
        }
    }

    #[inline]
    fn find_by_words<const N: usize>(&self, key: Key<'_>, mut room: [u64; N]) -> Option<u32> {
        let words = &mut room[..self.node_words - HEADER];
        for (i, word) in words.iter_mut().enumerate() {
            *word = key.word(i);
        }
        let mut found = None;
        if words.is_empty() {
            return None;
        }
        for _ in 0..RETRIES {
            let sequence = self.sequence.load(Acquire);
            let start = match self.jump.start(key.prefix, words[0]) {
                Some(start) => start,
                None => Start { node: self.root.load(Acquire), best: 0 },
            };
            found = self.walk(key, words, start);
            fence(Acquire);
            if self.sequence.load(Relaxed) == sequence {
                break;
            }
        }
        found
    }

    pub(crate) fn insert(
        &self,
        key: &[u8],
        value: Source<'_>,
        flag: u64,
        values: &Values,
    ) -> Result<(), Errno> {
        if flag > flags::EXIST {
            return Err(Errno::EINVAL);
        }
        let key = self.key(key).ok_or(Errno::EINVAL)?;
        let mut writer = self.lock();
        let (slot, node, matched) = self.descend(key);
        let replaces = node != 0 && self.prefix(node) == matched && matched == key.prefix;
        if replaces && self.is_entry(node) {
            if flag == flags::NOEXIST {
                return Err(Errno::EEXIST);
            }
        } else if flag == flags::EXIST {
            return Err(Errno::ENOENT);
        } else if writer.entries == self.max_entries {
            return Err(Errno::ENOSPC);
        } else {
            writer.entries += 1;
        }
        let new = self.take(&mut writer);
        self.write_node(new, ENTRY | u64::from(key.prefix), key);
        values.write(u64::from(new), value, false);
        if replaces {
            for side in 0..2 {
                self.child(new, side).store(self.child(node, side).load(Relaxed), Relaxed);
            }
            slot.store(new, Release);
        } else if node == 0 {
            slot.store(new, Release);
        } else if matched == key.prefix {
            self.child(new, self.node_bit(node, matched)).store(node, Relaxed);
            slot.store(new, Release);
        } else {
            let fork = self.take(&mut writer);
            self.write_node(fork, u64::from(matched), key);
            let side = key.bit(matched);
            self.child(fork, side).store(new, Relaxed);
            self.child(fork, 1 - side).store(node, Relaxed);
            slot.store(fork, Release);
        }
        self.refill(key);
        if replaces {
            self.free(node, &mut writer);
        }
        Ok(())
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let key = self.key(key).ok_or(Errno::EINVAL)?;
        let mut writer = self.lock();
        let mut above = &self.root;
        let mut slot = &self.root;
        let mut parent = 0;
        let mut node = slot.load(Relaxed);
        while node != 0 {
            let matched = self.matched(node, key);
            if matched != self.prefix(node) || matched == key.prefix {
                break;
            }
            above = slot;
            parent = node;
            slot = self.child(node, key.bit(matched));
            node = slot.load(Relaxed);
        }
        let found = node != 0 && self.is_entry(node) && self.prefix(node) == key.prefix;
        if !found || self.matched(node, key) != key.prefix {
            return Err(Errno::ENOENT);
        }
        writer.entries -= 1;
        let mut unlinked = [0, 0];
        let children = [0, 1].map(|side| self.child(node, side).load(Relaxed));
        match children {
            [0, 0] => {
                // A fork that would be left with one child goes too.
                if parent != 0 && !self.is_entry(parent) {
                    let left = self.child(parent, 0).load(Relaxed);
                    let right = self.child(parent, 1).load(Relaxed);
                    above.store(if left == node { right } else { left }, Release);
                    unlinked[1] = parent;
                } else {
                    slot.store(0, Release);
                }
                unlinked[0] = node;
            }
            [only, 0] | [0, only] => {
                slot.store(only, Release);
                unlinked[0] = node;
            }
            _ => self.header(node).store(u64::from(key.prefix), Release),
        }
        // No reader may begin at a node that is free.
        self.refill(key);
        for node in unlinked.into_iter().filter(|node| *node != 0) {
            self.free(node, &mut writer);
        }
        Ok(())
    }

    /// The key after this one, children before their parents; the first where this one is not in
    /// the trie.
    pub(crate) fn next_key(&self, key: Option<&[u8]>) -> Option<Vec<u8>> {
        let _writer = self.lock();
        let mut path = Vec::new();
        let mut node = self.root.load(Relaxed);
        let exact = key.and_then(|key| self.key(key)).is_some_and(|key| {
            while node != 0 {
                path.push(node);
                let matched = self.matched(node, key);
                if matched == key.prefix && self.prefix(node) == matched {
                    return self.is_entry(node);
                }
                if matched != self.prefix(node) {
                    return false;
                }
                node = self.child(node, key.bit(matched)).load(Relaxed);
            }
            false
        });
        if !exact {
            return self.first_below(self.root.load(Relaxed));
        }
        let mut from = path.pop()?;
        while let Some(parent) = path.pop() {
            let right = self.child(parent, 1).load(Relaxed);
            if self.child(parent, 0).load(Relaxed) == from
                && let Some(found) = self.first_below(right)
            {
                return Some(found);
            }
            if self.is_entry(parent) {
                return Some(self.key_of(parent));
            }
            from = parent;
        }
        None
    }

    /// The first entry of a sub-trie, children before their parents.
    fn first_below(&self, node: u32) -> Option<Vec<u8>> {
        let mut node = node;
        while node != 0 {
            let [left, right] = [0, 1].map(|side| self.child(node, side).load(Relaxed));
            match (left, right) {
                (0, 0) => return Some(self.key_of(node)),
                (0, below) | (below, _) => node = below,
            }
        }
        None
    }

    #[inline]
    fn walk(&self, key: Key<'_>, data: &[u64], start: Start) -> Option<u32> {
        let mut found = (start.best != 0).then_some(start.best);
        let mut at = start.node;
        // Below a node all keys share its prefix, so that comparing goes on where it stopped.
        let mut shared = 0;
        // Prefixes grow on the way down; the bound is for a trie that changes underfoot.
        for _ in 0..=self.max_prefix {
            if at == 0 {
                break;
            }
            let node = self.nodes.words(at as usize * self.node_words, self.node_words);
            let header = node[0].load(Relaxed);
            let prefix = header as u32;
            let limit = prefix.min(key.prefix);
            let mut i = shared as usize / 64;
            while i < data.len() && i < node.len() - HEADER {
                let difference = node[HEADER + i].load(Relaxed) ^ data[i];
                i += 1;
                if difference != 0 {
                    shared = limit.min(i as u32 * 64 - 64 + difference.leading_zeros());
                    break;
                }
                shared = limit.min(i as u32 * 64);
                if shared == limit {
                    break;
                }
            }
            if shared < prefix {
                break;
            }
            if header & ENTRY != 0 {
                found = Some(at);
            }
            if prefix >= key.prefix {
                break;
            }
            let word = data.get(prefix as usize / 64).copied().unwrap_or(0);
            let side = word >> (63 - prefix % 64) & 1;
            at = (node[1].load(Acquire) >> (32 * side)) as u32;
        }
        found
    }

    /// Where a key belongs: the link, what it holds, and how many bits they share.
    fn descend(&self, key: Key<'_>) -> (&AtomicU32, u32, u32) {
        let mut slot = &self.root;
        loop {
            let node = slot.load(Relaxed);
            if node == 0 {
                return (slot, 0, 0);
            }
            let matched = self.matched(node, key);
            if self.prefix(node) != matched || matched == key.prefix {
                return (slot, node, matched);
            }
            slot = self.child(node, key.bit(matched));
        }
    }

    fn matched(&self, node: u32, key: Key<'_>) -> u32 {
        self.matched_up_to(node, key, self.prefix(node))
    }

    /// Brings the table over the first bits up to date where this key's prefix reaches.
    fn refill(&self, key: Key<'_>) {
        let length = key.prefix.min(self.jump.bits());
        let (mut node, mut best) = (self.root.load(Relaxed), 0);
        while node != 0 && self.prefix(node) < length {
            let prefix = self.prefix(node);
            if self.matched(node, key) < prefix {
                node = 0;
                break;
            }
            best = if self.is_entry(node) { node } else { best };
            node = self.child(node, key.bit(prefix)).load(Relaxed);
        }
        let inside = Key { prefix: length, data: key.data };
        if node != 0 && self.matched(node, inside) < length {
            node = 0;
        }
        let first = self.jump.slot(key.word(0), length);
        self.fill(Region { first, length }, node, best);
    }

    /// Writes each slot of a region once; `node` is what hangs there. At most as deep as the table
    /// has bits.
    fn fill(&self, region: Region, node: u32, best: u32) {
        let prefix = if node == 0 { u32::MAX } else { self.prefix(node) };
        let bits = self.jump.bits();
        let slots = region.first..region.first + (1 << (bits - region.length));
        if prefix >= bits {
            let only = if node == 0 { usize::MAX } else { self.jump.slot(self.word(node), bits) };
            for slot in slots {
                self.jump.set(slot, Start { node: if slot == only { node } else { 0 }, best });
            }
            return;
        }
        let first = self.jump.slot(self.word(node), prefix);
        let half = 1 << (bits - prefix - 1);
        for slot in slots.filter(|slot| !(first..first + half * 2).contains(slot)) {
            self.jump.set(slot, Start { node: 0, best });
        }
        let best = if self.is_entry(node) { node } else { best };
        for side in 0..2 {
            let below = Region { first: first + side * half, length: prefix + 1 };
            self.fill(below, self.child(node, side).load(Relaxed), best);
        }
    }

    /// The first word of a node's key.
    fn word(&self, node: u32) -> u64 {
        self.nodes.word(node as usize * self.node_words + HEADER).load(Relaxed)
    }

    /// How many bits a node and a key share, up to the shorter prefix.
    #[inline]
    fn matched_up_to(&self, node: u32, key: Key<'_>, prefix: u32) -> u32 {
        let limit = prefix.min(key.prefix);
        let first = node as usize * self.node_words + HEADER;
        for i in 0..self.node_words - HEADER {
            let difference = self.nodes.word(first + i).load(Relaxed) ^ key.word(i);
            let here = i as u32 * 64;
            if difference != 0 {
                return limit.min(here + difference.leading_zeros());
            }
            if here + 64 >= limit {
                break;
            }
        }
        limit
    }

    fn node_bit(&self, node: u32, bit: u32) -> usize {
        let at = node as usize * self.node_words + HEADER + bit as usize / 64;
        (self.nodes.word(at).load(Relaxed) >> (63 - bit % 64)) as usize & 1
    }

    fn key_of(&self, node: u32) -> Vec<u8> {
        let mut key = self.prefix(node).to_le_bytes().to_vec();
        let first = node as usize * self.node_words + HEADER;
        for i in 0..self.node_words - HEADER {
            key.extend(self.nodes.word(first + i).load(Relaxed).to_be_bytes());
        }
        key.truncate(4 + self.data_size);
        key
    }

    fn write_node(&self, node: u32, header: u64, key: Key<'_>) {
        let first = node as usize * self.node_words;
        self.nodes.word(first).store(header, Relaxed);
        self.nodes.word(first + 1).store(0, Relaxed);
        for i in 0..self.node_words - HEADER {
            self.nodes.word(first + HEADER + i).store(key.word(i), Relaxed);
        }
    }

    /// A node to write to: one never used, else the longest free. Readers that came upon it before
    /// have the change of `sequence` before them (the fence) ere they can see what is written.
    fn take(&self, writer: &mut Writer) -> u32 {
        if writer.untouched < Lpm::elements_of(self.max_entries) {
            writer.untouched += 1;
            return (writer.untouched - 1) as u32;
        }
        let node = writer.free_first;
        assert!(node != 0, "two nodes an entry suffice");
        writer.free_first = self.child(node, 0).load(Relaxed);
        if writer.free_first == 0 {
            writer.free_last = 0;
        }
        self.change();
        node
    }

    /// The node's links become the free list's; readers on their way through it begin again.
    fn free(&self, node: u32, writer: &mut Writer) {
        self.change();
        self.child(node, 0).store(0, Relaxed);
        self.child(node, 1).store(0, Relaxed);
        match writer.free_last {
            0 => writer.free_first = node,
            last => self.child(last, 0).store(node, Relaxed),
        }
        writer.free_last = node;
    }

    fn change(&self) {
        self.sequence.store(self.sequence.load(Relaxed) + 1, Release);
        fence(Release);
    }

    #[inline]
    fn key<'a>(&self, key: &'a [u8]) -> Option<Key<'a>> {
        assert_eq!(key.len(), 4 + self.data_size, "key size");
        let (prefix, data) = key.split_first_chunk::<4>()?;
        let prefix = u32::from_le_bytes(*prefix);
        (prefix <= self.max_prefix).then_some(Key { prefix, data })
    }

    #[inline]
    fn header(&self, node: u32) -> &AtomicU64 {
        self.nodes.word(node as usize * self.node_words)
    }

    fn prefix(&self, node: u32) -> u32 {
        self.header(node).load(Relaxed) as u32
    }

    fn is_entry(&self, node: u32) -> bool {
        self.header(node).load(Relaxed) & ENTRY != 0
    }

    #[inline]
    fn child(&self, node: u32, side: usize) -> &AtomicU32 {
        self.nodes.half((node as usize * self.node_words + 1) * 2 + side)
    }

    /// Keeps writers out.
    pub(super) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key<'_> {
    /// Eight bytes in network order; the last ones are padded with zeros.
    #[inline]
    fn word(self, index: usize) -> u64 {
        let rest = self.data.get(index * 8..).unwrap_or(&[]);
        match rest.first_chunk::<8>() {
            Some(word) => u64::from_be_bytes(*word),
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(word)
            }
        }
    }

    #[inline]
    fn bit(self, index: u32) -> usize {
        usize::from(self.data[index as usize / 8] >> (7 - index % 8)) & 1
    }
}
