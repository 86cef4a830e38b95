//! The state of a program at one instruction of one path: frames, stacks, references, locks.

use super::register::{Kind, Register};
use crate::insn::R10;

/// Frames (`MAX_CALL_FRAMES`).
pub(crate) const MAX_FRAMES: usize = 8;
/// Bytes of stack a frame, and of all frames together (`MAX_BPF_STACK`).
pub(crate) const MAX_STACK: i32 = 512;
/// No instruction calls the first frame.
pub(crate) const NO_CALLER: u32 = u32::MAX;

/// What one byte of the stack holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum Byte {
    /// Nothing was written.
    #[default]
    Invalid,
    /// Part of the slot's spilled register.
    Spill,
    /// Some data.
    Data,
    /// Zero.
    Zero,
    /// Part of a dynptr.
    Dynptr,
}

/// Eight bytes of stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// `bytes[0]` is at the lowest address.
    pub(crate) bytes: [Byte; 8],
    /// Of a spill: the register. Of a dynptr: `target` is its type, `origin` is 1 in its first slot.
    pub(crate) spilled: Register,
}

impl Slot {
    pub(crate) const EMPTY: Slot = Slot { bytes: [Byte::Invalid; 8], spilled: Register::NOT_INIT };

    /// Does it hold a spilled register, whole or in part?
    pub(crate) fn is_spill(&self) -> bool {
        self.bytes[0] == Byte::Spill
    }

    /// A spilled scalar?
    pub(crate) fn is_scalar_spill(&self) -> bool {
        self.is_spill() && self.spilled.is_scalar()
    }

    /// A whole register?
    pub(crate) fn is_whole_spill(&self) -> bool {
        self.is_spill() && self.bytes[7] == Byte::Spill
    }

    pub(crate) fn is_dynptr(&self) -> bool {
        self.bytes[0] == Byte::Dynptr
    }

    /// The spill is no more; what was part of it is data.
    pub(crate) fn scrub(&mut self) {
        for byte in &mut self.bytes {
            if *byte == Byte::Spill {
                *byte = Byte::Data;
            }
        }
    }
}

/// How a frame was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Entry {
    /// By a call, or as the program's start.
    #[default]
    Call,
    /// By a helper that calls back, now; the callback may return this range.
    Callback(i32, i32),
    /// By a timer, some time.
    AsyncCallback,
}

/// One function's registers and stack.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) registers: [Register; 11],
    /// The call that entered it.
    pub(crate) call: u32,
    pub(crate) subprogram: u32,
    pub(crate) entry: Entry,
    /// Which entry into an asynchronous callback this is.
    pub(crate) async_entry: u32,
    /// How many calls of the callback that this frame asked for were walked.
    pub(crate) callback_depth: u32,
    /// Slot 0 is the one at r10 - 8.
    pub(crate) stack: Vec<Slot>,
}

impl Frame {
    pub(crate) fn new(call: u32, index: usize, subprogram: u32) -> Frame {
        let mut registers = [Register::NOT_INIT; 11];
        registers[usize::from(R10)] =
            Register { frame: index as u8, ..Register::pointer(Kind::Stack) };
        Frame {
            registers,
            call,
            subprogram,
            entry: Entry::Call,
            async_entry: 0,
            callback_depth: 0,
            stack: Vec::new(),
        }
    }

    /// Makes the stack reach down to `bytes` below r10.
    pub(crate) fn grow(&mut self, bytes: usize) {
        let slots = bytes.div_ceil(8);
        if self.stack.len() < slots {
            self.stack.resize(slots, Slot::EMPTY);
        }
    }

    pub(crate) fn is_callback(&self) -> bool {
        self.entry != Entry::Call
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        Frame { stack: self.stack.clone(), ..*self }
    }

    fn clone_from(&mut self, from: &Frame) {
        let mut stack = std::mem::take(&mut self.stack);
        stack.clear();
        stack.extend_from_slice(&from.stack);
        *self = Frame { stack, ..*from };
    }
}

/// Something that must be released on every path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reference {
    pub(crate) id: u32,
    /// Where it was acquired.
    pub(crate) insn: u32,
    /// In which frame; a callback must release what it acquired.
    pub(crate) frame: u32,
}

/// The spin lock that is held: of which map, by which lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lock {
    pub(crate) map: u32,
    pub(crate) id: u32,
}

/// Everything known at one point of one path.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The last is the one at work.
    pub(crate) frames: Vec<Frame>,
    pub(crate) references: Vec<Reference>,
    pub(crate) lock: Option<Lock>,
    /// The checkpoint that the path passed last.
    pub(crate) parent: Option<u32>,
    /// Where this state began: the checkpoint's instruction.
    pub(crate) first_insn: u32,
    pub(crate) last_insn: u32,
    /// Its part of the history.
    pub(crate) history: std::ops::Range<u32>,
    /// Stack slots that were wholly written since the checkpoint, a word a frame.
    pub(crate) writes: [u64; MAX_FRAMES],
    pub(crate) may_goto_depth: u32,
    pub(crate) callback_unroll_depth: u32,
    /// Checkpoints above.
    pub(crate) depth: u32,
    /// The checkpoint that the loop which this state is in was entered by.
    pub(crate) loop_entry: Option<u32>,
}

impl Clone for State {
    fn clone(&self) -> State {
        let mut copy = State::default();
        copy.clone_from(self);
        copy
    }

    fn clone_from(&mut self, from: &State) {
        self.frames.truncate(from.frames.len());
        for (i, frame) in from.frames.iter().enumerate() {
            match self.frames.get_mut(i) {
                Some(mine) => mine.clone_from(frame),
                None => self.frames.push(frame.clone()),
            }
        }
        self.references.clear();
        self.references.extend_from_slice(&from.references);
        self.lock = from.lock;
        self.parent = from.parent;
        self.first_insn = from.first_insn;
        self.last_insn = from.last_insn;
        self.history = from.history.clone();
        self.writes = from.writes;
        self.may_goto_depth = from.may_goto_depth;
        self.callback_unroll_depth = from.callback_unroll_depth;
        self.depth = from.depth;
        self.loop_entry = from.loop_entry;
    }
}

impl State {
    /// The frame at work.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frames[self.frames.len() - 1]
    }

    /// The frame at work.
    pub(crate) fn frame_mut(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Its index.
    pub(crate) fn depth_of_calls(&self) -> usize {
        self.frames.len() - 1
    }

    /// Calls `visit` on every register, spilled ones too.
    pub(crate) fn each_register(&mut self, mut visit: impl FnMut(&mut Register)) {
        for frame in &mut self.frames {
            for register in &mut frame.registers {
                visit(register);
            }
            for slot in frame.stack.iter_mut().filter(|slot| slot.is_spill()) {
                visit(&mut slot.spilled);
            }
        }
    }

    /// The instruction that a frame is at, `here` being that of the last one.
    pub(crate) fn insn_of_frame(&self, frame: usize, here: u32) -> u32 {
        self.frames.get(frame + 1).map_or(here, |next| next.call)
    }

    /// Forgets that bounds mattered; a new checkpoint's descendants find out anew.
    pub(crate) fn forget_precision(&mut self) {
        for frame in &mut self.frames {
            for register in &mut frame.registers {
                register.precise = false;
            }
            for slot in frame.stack.iter_mut().filter(|slot| slot.is_scalar_spill()) {
                slot.spilled.precise = false;
            }
        }
    }
}
