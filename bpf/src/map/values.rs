//! Map values at addresses that never move.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::cell::Cells;
use crate::errno::Errno;

/// Offsets stay below this, so that they fit a pointer beside its region.
const OFFSET_LIMIT: u128 = 1 << 47;
/// Elements up to this size do not straddle cache lines.
const LINE_BYTES: usize = 64;

/// The values of a map, one an element.
///
/// Programs address them by *offset*: the element's index above, the byte within its value below,
/// with a gap behind each value so that running over its end does not reach the next one. Before
/// a value there may be a header (its key), which programs do not reach.
pub(crate) struct Values {
    cells: Cells,
    size: usize,
    header: usize,
    stride: usize,
    shift: u32,
    elements: u64,
    lock_at: Option<usize>,
}

impl Values {
    pub(crate) fn zeroed(size: usize, elements: u64) -> Result<Values, Errno> {
        Values::with_header(0, size, elements)
    }

    /// `header` words stand before each value.
    pub(crate) fn with_header(header: usize, size: usize, elements: u64) -> Result<Values, Errno> {
        let header = header * 8;
        let bytes = header + size.next_multiple_of(8);
        let stride = match header {
            0 => bytes,
            _ if bytes <= LINE_BYTES => bytes.next_power_of_two(),
            _ => bytes,
        };
        let shift = (size.max(1) * 2).next_power_of_two().trailing_zeros();
        if u128::from(elements) << shift > OFFSET_LIMIT {
            return Err(Errno::ENOMEM);
        }
        let count = usize::try_from(elements).map_err(|_| Errno::ENOMEM)?;
        let words = count.checked_mul(stride / 8).ok_or(Errno::ENOMEM)?;
        let cells = Cells::zeroed(words)?;
        Ok(Values { cells, size, header, stride, shift, elements, lock_at: None })
    }

    /// The same with a `struct bpf_spin_lock` at this byte of each value.
    pub(crate) fn with_lock(self, at: Option<u32>) -> Values {
        Values { lock_at: at.map(|at| at as usize), ..self }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes from an element to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The index of the first word of an element's header.
    #[inline(always)]
    pub(crate) fn header(&self, element: u32) -> usize {
        element as usize * (self.stride / 8)
    }

    /// The words of an element's header but the first `skip`, and of its value.
    #[inline(always)]
    pub(crate) fn header_words(&self, element: u32, skip: usize) -> &[AtomicU64] {
        self.cells.words(self.header(element) + skip, self.stride / 8 - skip)
    }

    /// The byte that an element's value begins with.
    #[inline]
    pub(crate) fn at(&self, element: u64) -> usize {
        element as usize * self.stride + self.header
    }

    /// The offset of an element's first byte.
    #[inline]
    pub(crate) fn offset(&self, element: u64) -> u64 {
        element << self.shift
    }

    /// The address of the byte at an offset.
    pub(crate) fn address_of(&self, offset: u64) -> Option<u64> {
        Some(self.cells.start() as u64 + self.locate(offset, 1)? as u64)
    }

    /// The offset of the byte at an address, if it is within one of the values.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        let byte = address.checked_sub(self.cells.start() as u64)?;
        let element = byte / self.stride as u64;
        if element >= self.elements {
            return None;
        }
        let within = byte.checked_sub(self.at(element) as u64)?;
        (within < self.size as u64).then(|| self.offset(element) + within)
    }

    /// Where `size` bytes at an offset are, if they are within one value.
    #[inline]
    pub(crate) fn locate(&self, offset: u64, size: usize) -> Option<usize> {
        let element = offset >> self.shift;
        let within = (offset & ((1 << self.shift) - 1)) as usize;
        if element >= self.elements || within + size > self.size {
            return None;
        }
        Some(element as usize * self.stride + self.header + within)
    }

    /// Copies a value out, its spin lock as zero. Under the lock if `locked`.
    pub(crate) fn read(&self, element: u64, out: &mut [u8], locked: bool) {
        assert!(element < self.elements && out.len() <= self.size, "value out of range");
        self.held(element, locked, || self.cells.read(self.at(element), out));
        if let Some(lock) = self.lock_at {
            out[lock..lock + 4].fill(0);
        }
    }

    /// Copies a value in, except its spin lock. Under the lock if `locked`.
    pub(crate) fn write(&self, element: u64, value: Source<'_>, locked: bool) {
        assert!(element < self.elements, "value out of range");
        self.held(element, locked, || match self.lock_at {
            None => self.copy(element, value, 0, self.size),
            Some(lock) => {
                self.copy(element, value, 0, lock);
                self.copy(element, value, lock + 4, self.size);
            }
        });
    }

    /// Copies a value into an element that is new: its spin lock is free.
    pub(crate) fn start(&self, element: u64, value: Source<'_>) {
        self.write(element, value, false);
        if let Some(lock) = self.lock_at {
            self.cells.store(self.at(element) + lock, 4, 0);
        }
    }

    /// Zeroes a value.
    pub(crate) fn clear(&self, element: u64) {
        assert!(element < self.elements, "value out of range");
        let at = self.at(element);
        (0..self.size.div_ceil(8)).for_each(|i| self.cells.store(at + i * 8, 8, 0));
    }

    fn copy(&self, element: u64, value: Source<'_>, from: usize, to: usize) {
        let at = self.at(element);
        match value {
            Source::Bytes(bytes) => self.cells.write(at + from, &bytes[from..to]),
            Source::Cells(cells, source) => {
                for byte in (from..to).step_by(8) {
                    let size = (to - byte).min(8);
                    let mut chunk = [0; 8];
                    cells.read(source + byte, &mut chunk[..size]);
                    self.cells.write(at + byte, &chunk[..size]);
                }
            }
        }
    }

    /// Runs with the element's spin lock held, as programs hold it (1 in its four bytes).
    fn held(&self, element: u64, locked: bool, run: impl FnOnce()) {
        let Some(lock) = self.lock_at.filter(|_| locked) else { return run() };
        let lock = self.cells.half((self.at(element) + lock) / 4);
        let mut tries = 0_u32;
        while lock.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
            // A program holds it for some instructions; its thread may have been put aside.
            tries += 1;
            if tries.is_multiple_of(64) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        run();
        lock.store(0, Release);
    }
}

/// Where a new value comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Ordinary memory: the control plane's, or a program's stack.
    Bytes(&'a [u8]),
    /// A map's memory, from this byte on.
    Cells(&'a Cells, usize),
}
