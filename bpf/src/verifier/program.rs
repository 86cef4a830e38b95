//! What is verified, as data, and what comes of it.

use super::rules::Rules;
use crate::errno::Errno;
use crate::insn::Insn;

/// A program that nobody has checked. Maps are named by their index in `maps`: 64-bit immediate
/// loads with source 1 (a map) or 2 (the address of its first value plus the second slot's `imm`).
#[derive(Clone, Copy, Debug)]
pub struct Unverified<'a> {
    /// The program, then the functions that it calls.
    pub insns: &'a [Insn],
    /// What the program may know of its maps.
    pub maps: &'a [MapFacts<'a>],
    /// The program type.
    pub rules: &'static Rules,
    /// Is its licence GPL-compatible?
    pub gpl: bool,
    /// The functions' types (BTF `func_info`), by their first instruction; empty without BTF.
    pub functions: &'a [Function],
    /// Source lines by instruction, ascending, for the log.
    pub lines: &'a [Line<'a>],
}

/// A source line (BTF `line_info`).
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The first instruction of the line.
    pub insn: u32,
    /// File name.
    pub file: &'a str,
    /// The line's text.
    pub text: &'a str,
    /// The line's number.
    pub number: u32,
}

/// What the verifier asks about a map.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// The kernel's number of its type.
    pub map_type: u32,
    /// Bytes a key.
    pub key_size: u32,
    /// Bytes a value.
    pub value_size: u32,
    /// Entries.
    pub max_entries: u32,
    /// Flags of creation.
    pub flags: u32,
    /// The first value, where neither programs nor the control plane can change it any more.
    pub constant: Option<&'a [u8]>,
    /// Has it types of key and value?
    pub has_btf: bool,
    /// Where in a value its `struct bpf_spin_lock` is.
    pub spin_lock: Option<u32>,
    /// Where in a value its `struct bpf_timer` is.
    pub timer: Option<u32>,
    /// What a map of maps has inside.
    pub inner: Option<&'a MapFacts<'a>>,
}

#[allow(missing_docs, reason = "the kernel's names and numbers")]
impl MapFacts<'_> {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERF_EVENT_ARRAY: u32 = 4;
    pub const PERCPU_HASH: u32 = 5;
    pub const PERCPU_ARRAY: u32 = 6;
    pub const STACK_TRACE: u32 = 7;
    pub const LRU_HASH: u32 = 9;
    pub const LRU_PERCPU_HASH: u32 = 10;
    pub const LPM_TRIE: u32 = 11;
    pub const ARRAY_OF_MAPS: u32 = 12;
    pub const HASH_OF_MAPS: u32 = 13;
    pub const DEVMAP: u32 = 14;
    pub const SOCKMAP: u32 = 15;
    pub const CPUMAP: u32 = 16;
    pub const XSKMAP: u32 = 17;
    pub const SOCKHASH: u32 = 18;
    pub const CGROUP_STORAGE: u32 = 19;
    pub const REUSEPORT_SOCKARRAY: u32 = 20;
    pub const PERCPU_CGROUP_STORAGE: u32 = 21;
    pub const QUEUE: u32 = 22;
    pub const STACK: u32 = 23;
    pub const SK_STORAGE: u32 = 24;
    pub const DEVMAP_HASH: u32 = 25;
    pub const STRUCT_OPS: u32 = 26;
    pub const RINGBUF: u32 = 27;
    pub const BLOOM_FILTER: u32 = 30;
    pub const USER_RINGBUF: u32 = 31;
}

/// A function's type, as far as the verifier asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its first instruction.
    pub start: u32,
    /// Its name.
    pub name: String,
    /// Verified once, by its types alone, not with each caller.
    pub global: bool,
    /// Its arguments; more than five are refused.
    pub arguments: Vec<FunctionArgument>,
    /// Does it return nothing?
    pub returns_void: bool,
}

/// What a global function may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionArgument {
    /// An integer or an enum.
    Scalar,
    /// The program's context.
    Context,
    /// A pointer to this many bytes.
    Memory {
        /// Bytes.
        size: u32,
        /// May be null (no `__arg_nonnull`).
        nullable: bool,
    },
    /// Something else; the kernel refuses the function.
    Unsupported,
}

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// 0 for none, 1 for the path that failed, 2 for every path and state.
    pub log_level: u8,
    /// Instructions over all paths (`BPF_COMPLEXITY_LIMIT_INSNS`).
    pub budget: u32,
    /// Are unaligned accesses refused (`BPF_F_STRICT_ALIGNMENT`)?
    pub strict_alignment: bool,
    /// Is a checkpoint made wherever states may be compared (`BPF_F_TEST_STATE_FREQ`)?
    pub checkpoint_often: bool,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions {
            log_level: 0,
            budget: 1_000_000,
            strict_alignment: false,
            checkpoint_often: false,
        }
    }
}

/// A program is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("insn {instruction}: {message} ({errno})")]
pub struct Rejected {
    /// What the kernel's system call would say.
    pub errno: Errno,
    /// The last line of the log: why.
    pub message: String,
    /// Where the walk was, counted in slots.
    pub instruction: usize,
    /// The log, at the level that was asked for.
    pub log: String,
}

/// What an instruction does with memory; the same on every path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// None.
    #[default]
    None,
    /// The program's stack, at a constant distance from a frame pointer.
    Stack,
    /// The program's stack, at a distance that is known only when it runs.
    StackVariable,
    /// The program's context.
    Context,
    /// A map's value.
    MapValue,
    /// A key that a callback was given.
    MapKey,
    /// The packet, checked against its end before.
    Packet,
    /// A socket's fields.
    Socket,
    /// Memory of a known size (ring buffer records, slices, arguments).
    Memory,
    /// A kernel object.
    Object,
    /// A kernel object that nobody vouches for: to be read with a check.
    ObjectChecked,
    /// Different kinds of plain memory on different paths.
    Mixed,
}

/// What the walk found of one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Was it on any path? What was not is dead.
    pub reached: bool,
    /// The memory that it works on.
    pub access: Access,
    /// The map that a helper call works on, or whose value is accessed; the same on every path.
    pub map: Option<u16>,
    /// For a call with a map argument: a constant key, if it is known and the same on every path.
    pub key: Option<u32>,
    /// Different paths have different maps or keys.
    pub map_varies: bool,
    /// Different paths have different keys.
    pub key_varies: bool,
}

/// What the walk cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Instructions over all paths.
    pub instructions_processed: u32,
    /// Checkpoints made.
    pub total_states: u32,
    /// Checkpoints kept at once.
    pub peak_states: u32,
    /// Checkpoints at one instruction.
    pub max_states_per_insn: u32,
    /// Time of the whole, nanoseconds.
    pub time_ns: u64,
}

/// One function of a verified program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionFacts {
    /// Its first instruction.
    pub start: u32,
    /// Behind its last instruction.
    pub end: u32,
    /// Bytes of stack that it uses.
    pub stack_depth: u32,
    /// Has it tail calls?
    pub has_tail_call: bool,
}

/// A program is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// By instruction.
    pub findings: Vec<Finding>,
    /// The functions, the program first.
    pub functions: Vec<FunctionFacts>,
    /// Bytes of stack over the deepest chain of calls.
    pub stack_depth: u32,
    /// What it cost.
    pub statistics: Statistics,
    /// The log, at the level that was asked for.
    pub log: String,
}
