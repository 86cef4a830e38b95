//! One frame of a UMEM.

use xsk_rs::FrameDesc;

/// One frame, owned: neither `Clone` nor `Copy`, so it is in one place. Its bytes are reached
/// through the queue it belongs to. A frame that is dropped is lost to its queue, and
/// [`crate::Balance::held`] shows it.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its queue"]
pub struct Frame {
    pub(crate) descriptor: FrameDesc,
    /// The queue that the frame belongs to: every access is checked against it, so that no two
    /// frames can ever mean the same memory.
    pub(crate) owner: u32,
}

impl Frame {
    /// The packet's length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.descriptor.lengths().data()
    }

    /// Whether there is no packet in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
