//! The walk over every path: one instruction after the other, the branches not taken yet kept for
//! later (`do_check`).

use super::cfg::{self, Graph};
use super::log::Log;
use super::program::{Access, Finding, MapFacts, Statistics, Unverified, VerifyOptions};
use super::prune::{Ids, Node};
use super::refusal::{Step, refuse};
use super::register::{Kind, Register};
use super::state::{Frame, NO_CALLER, State};
use crate::insn::{CALL, EXIT, GOTOL, Insn, JA, R10};

/// Branches kept for later (`BPF_COMPLEXITY_LIMIT_JMP_SEQ`).
const MAX_PENDING: usize = 8192;

/// One jump, or one access to the stack, that backtracking must know of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct History {
    pub(crate) insn: u32,
    pub(crate) previous: u32,
    /// The stack slot that was read or written: frame and slot.
    pub(crate) slot: Option<(u8, u8)>,
    /// A compared register is a stack pointer: destination, source.
    pub(crate) compares_stack: (bool, bool),
    /// Registers that gained bounds together, packed by [`super::precision`].
    pub(crate) linked: u64,
}

/// A branch for later.
struct Pending {
    state: State,
    insn: u32,
    previous: u32,
    log: usize,
}

/// Where a path goes on.
pub(crate) enum Next {
    /// At this instruction.
    Insn(u32),
    /// It has ended.
    End,
}

/// The walk's whole state.
pub(crate) struct Walk<'a> {
    pub(crate) program: &'a Unverified<'a>,
    pub(crate) insns: &'a [Insn],
    pub(crate) options: &'a VerifyOptions,
    /// The program's maps, then those inside of maps of maps.
    pub(crate) maps: Vec<&'a MapFacts<'a>>,
    /// Of each map, the index of the one inside of it.
    pub(crate) inner: Vec<u32>,
    pub(crate) graph: Graph,
    pub(crate) state: State,
    pub(crate) insn: u32,
    pub(crate) previous: u32,
    pub(crate) nodes: Vec<Node>,
    /// The newest checkpoint of each instruction, as its index plus one.
    pub(crate) heads: Vec<u32>,
    /// Checkpoints that may be used again.
    pub(crate) free: Vec<u32>,
    pub(crate) history: Vec<History>,
    /// The history has an entry for this instruction already.
    pub(crate) has_entry: bool,
    pub(crate) id_map: Ids,
    pub(crate) findings: Vec<Finding>,
    /// What each instruction's pointer was when it was walked last.
    kinds: Vec<Kind>,
    /// Bytes of stack of each function.
    pub(crate) stack_depths: Vec<u32>,
    /// Global functions that were called, to be verified.
    pub(crate) called: Vec<bool>,
    pub(crate) statistics: Statistics,
    pub(crate) jumps: u32,
    /// Jumps and instructions when the last checkpoint was made.
    pub(crate) at_checkpoint: (u32, u32),
    pub(crate) log: Log,
    pending: Vec<Pending>,
    spare: Vec<State>,
    last_id: u32,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        program: &'a Unverified<'a>,
        options: &'a VerifyOptions,
        graph: Graph,
        log: Log,
    ) -> Walk<'a> {
        let mut maps: Vec<&MapFacts<'_>> = program.maps.iter().collect();
        let mut inner = vec![u32::MAX; maps.len()];
        for (i, facts) in program.maps.iter().enumerate() {
            if let Some(facts) = facts.inner {
                inner[i] = maps.len() as u32;
                maps.push(facts);
            }
        }
        inner.resize(maps.len(), u32::MAX);
        let length = program.insns.len();
        Walk {
            program,
            insns: program.insns,
            options,
            maps,
            inner,
            stack_depths: vec![0; graph.subprograms.len()],
            called: vec![false; graph.subprograms.len()],
            graph,
            state: State::default(),
            insn: 0,
            previous: 0,
            nodes: Vec::new(),
            heads: vec![0; length],
            free: Vec::new(),
            history: Vec::new(),
            has_entry: false,
            id_map: Ids::default(),
            findings: vec![Finding::default(); length],
            kinds: vec![Kind::NotInit; length],
            statistics: Statistics::default(),
            jumps: 0,
            at_checkpoint: (0, 0),
            log,
            pending: Vec::new(),
            spare: Vec::new(),
            last_id: 0,
        }
    }

    /// Walks every path of one function from a state of its own.
    pub(crate) fn run(&mut self, subprogram: usize, prepare: impl FnOnce(&mut Frame)) -> Step {
        let start = self.graph.subprograms[subprogram].start;
        self.heads.fill(0);
        self.nodes.clear();
        self.free.clear();
        self.history.clear();
        self.at_checkpoint = (self.jumps, self.statistics.instructions_processed);
        let mut frame = Frame::new(NO_CALLER, 0, subprogram as u32);
        prepare(&mut frame);
        self.state = State { frames: vec![frame], first_insn: start, ..State::default() };
        (self.insn, self.previous) = (start, u32::MAX);
        self.log.begin(&self.state);
        loop {
            match self.advance()? {
                Next::Insn(insn) => self.insn = insn,
                Next::End => {
                    self.end_of_path();
                    if !self.resume() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The register of the frame at work.
    pub(crate) fn reg(&self, number: u8) -> &Register {
        &self.state.frame().registers[usize::from(number)]
    }

    pub(crate) fn reg_mut(&mut self, number: u8) -> &mut Register {
        &mut self.state.frame_mut().registers[usize::from(number)]
    }

    pub(crate) fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// A register must have been written.
    pub(crate) fn check_read(&self, number: u8) -> Step {
        if number > R10 {
            refuse!(EINVAL, "R{number} is invalid");
        }
        if self.reg(number).kind == Kind::NotInit {
            refuse!(EACCES, "R{number} !read_ok");
        }
        Ok(())
    }

    /// A register may be written.
    pub(crate) fn check_write(&self, number: u8) -> Step {
        if number > R10 {
            refuse!(EINVAL, "R{number} is invalid");
        }
        if number == R10 {
            refuse!(EACCES, "frame pointer is read only");
        }
        Ok(())
    }

    /// Notes something of this instruction for backtracking.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut History)) {
        if !self.has_entry {
            let entry = History { insn: self.insn, previous: self.previous, ..History::default() };
            self.history.truncate(self.state.history.end as usize);
            self.history.push(entry);
            self.state.history.end += 1;
            self.has_entry = true;
        }
        if let Some(entry) = self.history.last_mut() {
            change(entry);
        }
    }

    /// Keeps the present state for later, to go on at another instruction.
    pub(crate) fn branch_to(&mut self, insn: u32) -> Step<&mut State> {
        if self.pending.len() >= MAX_PENDING {
            refuse!(E2BIG, "The sequence of {} jumps is too complex.", self.pending.len() + 1);
        }
        let mut state = self.spare.pop().unwrap_or_default();
        state.clone_from(&self.state);
        if let Some(parent) = state.parent {
            self.nodes[parent as usize].branches += 1;
        }
        let log = self.log.position();
        self.pending.push(Pending { state, insn, previous: self.insn, log });
        match self.pending.last_mut() {
            Some(pending) => Ok(&mut pending.state),
            None => refuse!(EFAULT, "a branch was lost"),
        }
    }

    /// The present state, and the branch that was kept last.
    pub(crate) fn both_branches(&mut self) -> (&mut State, Option<&mut State>) {
        (&mut self.state, self.pending.last_mut().map(|pending| &mut pending.state))
    }

    /// What an instruction does with memory, the same on every path.
    pub(crate) fn note_access(&mut self, register: &Register) -> Step {
        let access = match register.kind {
            Kind::Context => Access::Context,
            Kind::MapValue | Kind::MapPointer => Access::MapValue,
            Kind::MapKey => Access::MapKey,
            Kind::Stack if register.has_fixed_offset() => Access::Stack,
            Kind::Stack => Access::StackVariable,
            Kind::Packet | Kind::PacketMeta => Access::Packet,
            Kind::Socket | Kind::SocketCommon | Kind::TcpSocket | Kind::XdpSocket => Access::Socket,
            Kind::Btf if register.is(super::register::TRUSTED) => Access::Object,
            Kind::Btf => Access::ObjectChecked,
            _ => Access::Memory,
        };
        let map = (access == Access::MapValue).then_some(register.target as u16);
        let at = self.insn as usize;
        let before = std::mem::replace(&mut self.kinds[at], register.kind);
        if before != Kind::NotInit && before != register.kind {
            let plain = |kind: Kind| {
                !matches!(
                    kind,
                    Kind::Context
                        | Kind::Socket
                        | Kind::SocketCommon
                        | Kind::TcpSocket
                        | Kind::XdpSocket
                        | Kind::Btf
                )
            };
            if !plain(before) || !plain(register.kind) {
                refuse!(EINVAL, "same insn cannot be used with different pointers");
            }
        }
        let finding = &mut self.findings[at];
        if finding.access == Access::None {
            (finding.access, finding.map) = (access, map);
        } else if finding.access != access {
            let stacks = [Access::Stack, Access::StackVariable];
            let both = stacks.contains(&access) && stacks.contains(&finding.access);
            finding.access = if both { Access::StackVariable } else { Access::Mixed };
            (finding.map, finding.map_varies) = (None, true);
        } else if finding.map != map {
            (finding.map, finding.map_varies) = (None, true);
        }
        Ok(())
    }

    /// One instruction, with what comes before it at places where paths meet.
    fn advance(&mut self) -> Step<Next> {
        let at = self.insn;
        let Some(insn) = self.insns.get(at as usize).copied() else {
            refuse!(EFAULT, "invalid insn idx {at} insn_cnt {}", self.insns.len());
        };
        self.has_entry = false;
        self.statistics.instructions_processed += 1;
        if self.statistics.instructions_processed > self.options.budget {
            let processed = self.statistics.instructions_processed;
            refuse!(E2BIG, "BPF program is too large. Processed {processed} insn");
        }
        self.state.last_insn = self.previous;
        let marks = self.graph.marks[at as usize];
        if marks & cfg::PRUNE != 0 && self.is_visited()? {
            self.log.safe(self.previous, at);
            return Ok(Next::End);
        }
        if marks & cfg::JUMP != 0 {
            self.note(|_| {});
        }
        self.findings[at as usize].reached = true;
        if self.log.level > 0 {
            self.log.insn(at, self.insns, self.program.lines, &self.state);
        }
        let next = self.execute(insn)?;
        if self.log.level > 0 {
            self.log.after(&self.state);
        }
        self.previous = at;
        Ok(next)
    }

    fn execute(&mut self, insn: Insn) -> Step<Next> {
        let following = self.insn + 1;
        match insn.opcode & 7 {
            4 | 7 => self.alu(insn)?,
            1 => self.load(insn)?,
            2 | 3 => self.store(insn)?,
            0 if insn.is_ld_imm64() => {
                self.load_immediate(insn)?;
                return Ok(Next::Insn(following + 1));
            }
            0 if cfg::is_legacy_load(insn) => return self.legacy_load(insn),
            0 => refuse!(EINVAL, "invalid BPF_LD mode"),
            _ => return self.jump(insn),
        }
        Ok(Next::Insn(following))
    }

    fn jump(&mut self, insn: Insn) -> Step<Next> {
        self.jumps += 1;
        let following = i64::from(self.insn) + 1;
        let narrow = insn.opcode & 7 == 6;
        match insn.opcode >> 4 {
            8 if insn.opcode != CALL || insn.dst != 0 => {
                refuse!(EINVAL, "BPF_CALL uses reserved fields");
            }
            8 => self.call(insn),
            0 => {
                let zero = insn.src == 0 && insn.dst == 0;
                let unused = if narrow { insn.offset == 0 } else { insn.imm == 0 };
                if !matches!(insn.opcode, JA | GOTOL) || !zero || !unused {
                    refuse!(EINVAL, "BPF_JA uses reserved fields");
                }
                let distance = cfg::jump_distance(insn).unwrap_or(0);
                Ok(Next::Insn((following + i64::from(distance)) as u32))
            }
            9 => {
                if insn.opcode != EXIT || insn.imm != 0 || insn.src != 0 || insn.dst != 0 {
                    refuse!(EINVAL, "BPF_EXIT uses reserved fields");
                }
                self.exit()
            }
            _ => self.conditional(insn),
        }
    }

    /// Counts the path as ended at every checkpoint above that has no other branch left.
    fn end_of_path(&mut self) {
        let mut above = self.state.parent;
        while let Some(node) = above {
            let node = &mut self.nodes[node as usize];
            node.branches -= 1;
            if node.branches > 0 {
                break;
            }
            above = node.state.parent;
        }
    }

    /// Goes on with the branch that was kept last; false if there is none.
    fn resume(&mut self) -> bool {
        let Some(pending) = self.pending.pop() else { return false };
        let done = std::mem::replace(&mut self.state, pending.state);
        self.spare.push(done);
        (self.insn, self.previous) = (pending.insn, pending.previous);
        self.log.resume(pending.log, &self.state, pending.previous, pending.insn);
        true
    }
}
