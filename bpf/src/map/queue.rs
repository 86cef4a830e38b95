//! Queues and stacks (`kernel/bpf/queue_stack_maps.c`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::flags;
use super::values::{Source, Values};
use crate::errno::Errno;

/// What leaves first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The oldest.
    Queue,
    /// The newest.
    Stack,
}

pub(crate) struct Queue {
    order: Order,
    values: Values,
    size: u64,
    ends: Mutex<Ends>,
}

/// Where the oldest is, and how many there are.
struct Ends {
    oldest: u64,
    count: u64,
}

impl Queue {
    pub(crate) fn new(order: Order, value_size: usize, entries: u32) -> Result<Queue, Errno> {
        let values = Values::zeroed(value_size, entries.into())?;
        let ends = Mutex::new(Ends { oldest: 0, count: 0 });
        Ok(Queue { order, values, size: entries.into(), ends })
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().count as usize
    }

    /// `BPF_EXIST` pushes the oldest out of a full one.
    pub(crate) fn push(&self, value: Source<'_>, flag: u64) -> Result<(), Errno> {
        if flag & flags::NOEXIST != 0 || flag > flags::EXIST {
            return Err(Errno::EINVAL);
        }
        let mut ends = self.lock();
        if ends.count == self.size {
            if flag != flags::EXIST {
                return Err(Errno::E2BIG);
            }
            ends.oldest = (ends.oldest + 1) % self.size;
            ends.count -= 1;
        }
        self.values.write((ends.oldest + ends.count) % self.size, value, false);
        ends.count += 1;
        Ok(())
    }

    /// What would leave first; taken out if `remove`.
    pub(crate) fn first(&self, out: &mut [u8], remove: bool) -> Result<(), Errno> {
        let mut ends = self.lock();
        if ends.count == 0 {
            out.fill(0);
            return Err(Errno::ENOENT);
        }
        let at = match self.order {
            Order::Queue => ends.oldest,
            Order::Stack => (ends.oldest + ends.count - 1) % self.size,
        };
        self.values.read(at, out, false);
        if remove {
            ends.count -= 1;
            if self.order == Order::Queue {
                ends.oldest = (ends.oldest + 1) % self.size;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
