//! What the outcome of a run depended on, so that whoever runs a program on like packets can know
//! when to run it again.

/// What programs took in, beyond themselves and their maps.
///
/// If a run was repeatable, every run of the same programs ends alike on a context that has the
/// same bytes where `context_bytes` has ones, as long as the sockets and [`crate::Map::version`]
/// of each of their maps stay what they were before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The bytes of the context that were read: bit n for byte n.
    pub context_bytes: u128,
    /// Nothing else was read (time, chance, a value that programs write to), and nothing was
    /// changed (a map, the log).
    pub repeatable: bool,
}

impl Inputs {
    /// Nothing was read yet.
    pub(crate) const NONE: Inputs = Inputs { context_bytes: 0, repeatable: true };

    /// Notes a read of `size` bytes of the context.
    #[inline(always)]
    pub(crate) fn read_context(&mut self, offset: u64, size: usize) {
        self.context_bytes |= ((1u128 << size) - 1) << (offset & 127);
    }
}
