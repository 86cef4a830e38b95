//! Map values at addresses that never move.

use super::cell::Cells;
use crate::errno::Errno;

/// Offsets stay below this, so that they fit a pointer beside its region.
const OFFSET_LIMIT: u128 = 1 << 47;

/// The values of a map, one an element.
///
/// Programs address them by *offset*: the element's index above, the byte within its value below,
/// with a gap behind each value so that running over its end does not reach the next one.
pub(crate) struct Values {
    cells: Cells,
    size: usize,
    stride: usize,
    shift: u32,
    elements: u64,
}

impl Values {
    pub(crate) fn zeroed(size: usize, elements: u64) -> Result<Values, Errno> {
        let stride = size.next_multiple_of(8);
        let shift = (size * 2).next_power_of_two().trailing_zeros();
        if u128::from(elements) << shift > OFFSET_LIMIT {
            return Err(Errno::ENOMEM);
        }
        let count = usize::try_from(elements).map_err(|_| Errno::ENOMEM)?;
        let words = count.checked_mul(stride / 8).ok_or(Errno::ENOMEM)?;
        Ok(Values { cells: Cells::zeroed(words)?, size, stride, shift, elements })
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes from an element to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The byte that an element's value begins with.
    #[inline]
    pub(crate) fn at(&self, element: u64) -> usize {
        element as usize * self.stride
    }

    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The offset of an element's first byte.
    #[inline]
    pub(crate) fn offset(&self, element: u64) -> u64 {
        element << self.shift
    }

    /// The address of the byte at an offset.
    pub(crate) fn address_of(&self, offset: u64) -> Option<u64> {
        Some(self.cells.base() as u64 + self.locate(offset, 1)? as u64)
    }

    /// The offset of the byte at an address, if it is within one of the values.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        let byte = address.checked_sub(self.cells.base() as u64)?;
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
        Some(element as usize * self.stride + within)
    }

    pub(crate) fn read(&self, element: u64, out: &mut [u8]) {
        assert!(element < self.elements && out.len() <= self.stride, "value out of range");
        self.cells.read(element as usize * self.stride, out);
    }

    pub(crate) fn write(&self, element: u64, value: Source<'_>) {
        assert!(element < self.elements, "value out of range");
        let to = element as usize * self.stride;
        match value {
            Source::Bytes(bytes) => {
                assert!(bytes.len() <= self.stride, "value out of range");
                self.cells.write(to, bytes);
            }
            Source::Cells(cells, from) => {
                for at in (0..self.size).step_by(8) {
                    let size = (self.size - at).min(8);
                    let mut chunk = [0; 8];
                    cells.read(from + at, &mut chunk[..size]);
                    self.cells.write(to + at, &chunk[..size]);
                }
            }
        }
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
