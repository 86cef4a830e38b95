//! Memory that programs on several workers and the control plane read and write at once.
//!
//! Everything is an atomic access of relaxed order; what must be
//! seen together is published by the maps with release stores and fences.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::atomic::AtomicOp;
use crate::errno::Errno;

/// Bytes a cell.
const WORD: usize = 8;
/// Bytes of an allocation that is worth huge pages: two of them.
const HUGE_FROM: usize = 4 << 20;
/// Cells a cache line.
pub(crate) const LINE: usize = 8;

/// A zeroed allocation that never moves and begins with a cache line. The system commits its pages
/// as they are touched.
pub(crate) struct Cells {
    first: NonNull<AtomicU64>,
    count: usize,
    allocation: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to `Cells` alone, and all that is reached through it is atomics.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    pub(crate) fn zeroed(words: usize) -> Result<Cells, Errno> {
        let count = words.max(1);
        // Room to begin with a line: to ask for the alignment would have all of it zeroed by hand.
        let room = count.checked_add(LINE - 1).ok_or(Errno::ENOMEM)?;
        let layout = Layout::array::<AtomicU64>(room).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: the layout's size is not zero, since there is at least one word.
        let memory = unsafe { alloc_zeroed(layout) };
        let allocation = NonNull::new(memory).ok_or(Errno::ENOMEM)?;
        let skip = allocation.as_ptr().align_offset(LINE * WORD);
        assert!(skip < LINE * WORD, "memory can be aligned");
        // SAFETY: less than a line is skipped, for which there is room.
        let first = unsafe { allocation.add(skip) }.cast::<AtomicU64>();
        ask_for_huge_pages(allocation, layout.size());
        Ok(Cells { first, count, allocation, layout })
    }

    /// Where it begins: what compiled programs reach the values by.
    pub(crate) fn start(&self) -> *mut u8 {
        self.first.as_ptr().cast()
    }

    #[inline(always)]
    fn all(&self) -> &[AtomicU64] {
        // SAFETY: `count` words from `first` are inside of the allocation, live as long as `self`,
        // and zero bytes are valid atomics.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    /// The cache line with this index.
    #[inline(always)]
    pub(crate) fn line(&self, index: usize) -> &[AtomicU64; LINE] {
        &self.all().as_chunks::<LINE>().0[index]
    }

    /// The cell with this index.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        &self.all()[index]
    }

    /// Some cells in a row.
    #[inline]
    pub(crate) fn words(&self, first: usize, count: usize) -> &[AtomicU64] {
        &self.all()[first..first + count]
    }

    /// The 32-bit half with this index.
    #[inline]
    pub(crate) fn half(&self, index: usize) -> &AtomicU32 {
        self.sub_word(index * 4, 4);
        let first = self.first.as_ptr().cast::<u32>();
        // SAFETY: the four bytes are aligned, inside of the allocation (asserted above), live as
        // long as `self`, and reached through atomics only. Accesses of other sizes to the same
        // bytes are single instructions on every machine that this is built for.
        unsafe { AtomicU32::from_ptr(first.wrapping_add(index)) }
    }

    /// Reads `size` bytes at byte `at`, little-endian, in one access if aligned.
    #[inline]
    pub(crate) fn load(&self, at: usize, size: usize) -> u64 {
        let within = at % WORD;
        if at.is_multiple_of(size) {
            let word = self.all()[at / WORD].load(Relaxed) >> (within * 8);
            return word & (u64::MAX >> (64 - size * 8));
        }
        (0..size)
            .fold(0, |value, i| value | (u64::from(self.byte(at + i).load(Relaxed)) << (i * 8)))
    }

    /// Writes the low `size` bytes of `value` at byte `at`, in one access if aligned.
    #[inline]
    pub(crate) fn store(&self, at: usize, size: usize, value: u64) {
        if at.is_multiple_of(size) {
            match size {
                8 => self.all()[at / WORD].store(value, Relaxed),
                4 => self.half(at / 4).store(value as u32, Relaxed),
                2 => self.quarter(at / 2).store(value as u16, Relaxed),
                _ => self.byte(at).store(value as u8, Relaxed),
            }
            return;
        }
        for (i, byte) in value.to_le_bytes().iter().take(size).enumerate() {
            self.byte(at + i).store(*byte, Relaxed);
        }
    }

    /// An atomic operation on four or eight bytes; the old value, or `None` if not aligned.
    pub(crate) fn update(&self, at: usize, size: usize, op: AtomicOp, operand: u64) -> Option<u64> {
        if !at.is_multiple_of(size) {
            return None;
        }
        Some(match size {
            4 => u64::from(op.on_u32(self.half(at / 4), operand as u32)),
            _ => op.on_u64(&self.all()[at / WORD], operand),
        })
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) {
        let mut at = at;
        for chunk in out.chunks_mut(WORD) {
            if chunk.len() == WORD && at.is_multiple_of(WORD) {
                chunk.copy_from_slice(&self.load(at, WORD).to_le_bytes());
            } else {
                for (i, byte) in chunk.iter_mut().enumerate() {
                    *byte = self.byte(at + i).load(Relaxed);
                }
            }
            at += chunk.len();
        }
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        let mut at = at;
        for chunk in bytes.chunks(WORD) {
            match <[u8; WORD]>::try_from(chunk) {
                Ok(word) => self.store(at, WORD, u64::from_le_bytes(word)),
                Err(_) => {
                    for (i, byte) in chunk.iter().enumerate() {
                        self.byte(at + i).store(*byte, Relaxed);
                    }
                }
            }
            at += chunk.len();
        }
    }

    #[inline]
    fn quarter(&self, index: usize) -> &AtomicU16 {
        self.sub_word(index * 2, 2);
        let first = self.first.as_ptr().cast::<u16>();
        // SAFETY: as in `half`, with two bytes.
        unsafe { AtomicU16::from_ptr(first.wrapping_add(index)) }
    }

    #[inline]
    fn byte(&self, at: usize) -> &AtomicU8 {
        self.sub_word(at, 1);
        let first = self.first.as_ptr().cast::<u8>();
        // SAFETY: as in `half`, with one byte.
        unsafe { AtomicU8::from_ptr(first.wrapping_add(at)) }
    }

    #[inline]
    fn sub_word(&self, at: usize, size: usize) {
        assert!(at / WORD < self.count && at % WORD + size <= WORD, "cell out of range");
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and owned.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
    }
}

/// Entries are met at random, so that most of the time of a large map would go into finding pages.
fn ask_for_huge_pages(memory: NonNull<u8>, size: usize) {
    const PAGE: usize = 4096;
    if size < HUGE_FROM {
        return;
    }
    let skip = memory.as_ptr().align_offset(PAGE);
    let whole = (size - skip) & !(PAGE - 1);
    // SAFETY: whole pages inside of the allocation; the advice changes nothing that is in them. Its
    // answer does not matter: small pages do as well.
    unsafe { libc::madvise(memory.as_ptr().wrapping_add(skip).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::Cells;

    #[test]
    fn every_size_and_alignment_reads_what_was_written() {
        let cells = Cells::zeroed(4).unwrap();
        for size in [1, 2, 4, 8] {
            for at in 0..=(32 - size) {
                let value = 0x1122_3344_5566_7788 & (u64::MAX >> (64 - size * 8));
                cells.write(0, &[0xee; 32]);
                cells.store(at, size, value);
                assert_eq!(cells.load(at, size), value, "{size} at {at}");
                let mut out = [0; 32];
                cells.read(0, &mut out);
                let others = out.iter().enumerate().filter(|(i, _)| *i < at || *i >= at + size);
                assert!(others.into_iter().all(|(_, byte)| *byte == 0xee));
            }
        }
    }

    #[test]
    #[should_panic(expected = "cell out of range")]
    fn beyond_the_end_is_our_own_error() {
        Cells::zeroed(1).unwrap().half(2);
    }
}
