//! What a worker needs to run programs, made once and used for every run.

use crate::engine::Engine;
use crate::inputs::Inputs;
use crate::sockets::Sockets;

/// Bytes of stack a frame (`MAX_BPF_STACK`).
pub(crate) const FRAME: usize = 512;
/// Frames (`MAX_CALL_FRAMES`).
pub(crate) const FRAMES: usize = 8;
/// Tail calls a run (`MAX_TAIL_CALL_CNT`).
pub(crate) const TAIL_CALLS: u32 = 33;
/// Instructions a run, as the verifier bounds them (`BPF_COMPLEXITY_LIMIT_INSNS`).
const BUDGET: u64 = 1_000_000;

/// Stack, call frames and held sockets of one run at a time; owned by one worker.
pub struct Machine {
    pub(crate) stack: Box<[[u8; FRAME]; FRAMES]>,
    /// For each frame: the lowest byte written since it was zero.
    pub(crate) dirty: [usize; FRAMES],
    pub(crate) depth: usize,
    pub(crate) saved: [Saved; FRAMES],
    pub(crate) sockets: Sockets,
    pub(crate) text: String,
    pub(crate) budget: u64,
    pub(crate) engine: Engine,
    /// Tail calls of the run so far.
    pub(crate) tail_calls: u32,
    /// What the runs have depended on since [`Machine::forget_inputs`].
    pub(crate) inputs: Inputs,
}

/// What a call leaves behind in its caller.
#[derive(Clone, Copy, Default)]
pub(crate) struct Saved {
    pub(crate) pc: usize,
    /// r6–r10.
    pub(crate) registers: [u64; 5],
}

impl Machine {
    /// A machine that runs at most a million instructions a run.
    pub fn new() -> Machine {
        Machine::with_budget(BUDGET)
    }

    /// A machine with another bound on the instructions of a run.
    pub fn with_budget(instructions: u64) -> Machine {
        Machine {
            stack: Box::new([[0; FRAME]; FRAMES]),
            dirty: [FRAME; FRAMES],
            depth: 0,
            saved: [Saved::default(); FRAMES],
            sockets: Sockets::default(),
            text: String::with_capacity(crate::helper::TEXT),
            budget: instructions,
            engine: Engine::default(),
            tail_calls: 0,
            inputs: Inputs::NONE,
        }
    }

    /// Chooses what runs programs.
    pub fn with_engine(self, engine: Engine) -> Machine {
        Machine { engine, ..self }
    }

    /// What runs programs.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Begins a new account of what runs depend on.
    pub(crate) fn forget_inputs(&mut self) {
        self.inputs = Inputs::NONE;
    }

    /// Makes the first frame ready.
    pub(crate) fn begin(&mut self) {
        self.sockets.clear();
        self.tail_calls = 0;
        self.depth = 0;
        self.clear_frame();
    }

    /// Makes the table of sockets ready for a run of compiled code.
    #[inline]
    pub(crate) fn sockets_of_a_new_run(&mut self) -> &mut Sockets {
        self.tail_calls = 0;
        self.sockets.clear();
        &mut self.sockets
    }

    /// Zeroes what an earlier run wrote to this frame.
    pub(crate) fn clear_frame(&mut self) {
        let from = self.dirty[self.depth];
        self.stack[self.depth][from..].fill(0);
        self.dirty[self.depth] = FRAME;
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}
