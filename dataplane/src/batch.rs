//! The frames of one turn, and what is known of each.

use weir_inet::Packet;

use crate::limits::BATCH;
use crate::reason::Reason;

/// How a socket was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By the whole 4-tuple.
    Connected,
    /// A program chose it.
    Steered,
    /// By the bound address.
    Bound,
    /// By the wildcard address.
    Wildcard,
}

/// What is to become of a parsed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No socket has been found yet.
    Seeking,
    /// It goes to the socket in this slot.
    Socket(u32, Found),
    /// No socket has it; its sender may be told.
    Refused(Reason),
}

/// A parsed packet on its way.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Its headers.
    pub packet: Packet,
    /// Hash of the key that is sought now.
    pub hash: u32,
    /// Where it goes.
    pub fate: Fate,
}

/// What is known of one frame.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// It was dropped, without a word to its sender.
    Lost(Reason),
    /// It is on its way.
    Live(Live),
}

/// The frames of a turn, what is known of each in the same order, and those done with.
#[derive(Debug)]
pub struct Batch<F> {
    /// As received.
    pub frames: Vec<F>,
    /// One for each frame.
    pub entries: Vec<Entry>,
    /// To go back to the device.
    pub done: Vec<F>,
}

impl<F> Batch<F> {
    /// Room for [`BATCH`] frames.
    pub fn new() -> Batch<F> {
        Batch {
            frames: Vec::with_capacity(BATCH),
            entries: Vec::with_capacity(BATCH),
            done: Vec::with_capacity(BATCH),
        }
    }

    /// The packets that no socket has been found for yet.
    pub fn seeking(&mut self) -> impl Iterator<Item = &mut Live> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Live(live) if live.fate == Fate::Seeking => Some(live),
            _ => None,
        })
    }
}

impl<F> Default for Batch<F> {
    fn default() -> Batch<F> {
        Batch::new()
    }
}
