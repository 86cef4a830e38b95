//! The log: instructions, states and reasons in the kernel's words, since people search for them.

use std::fmt::Write;

use super::program::{Line, Statistics};
use super::register::{Kind, PLUS, Register};
use super::state::{Byte, Frame, State};
use super::text;
use crate::insn::Insn;

/// The most that is kept.
const LIMIT: usize = 16 << 20;

/// What is written while a walk goes on.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) level: u8,
    text: String,
    /// The registers as they were shown last, to show what changed.
    shown: Vec<Register>,
    depth: usize,
    line: Option<u32>,
}

impl Log {
    pub(crate) fn new(level: u8) -> Log {
        Log { level, ..Log::default() }
    }

    pub(crate) fn position(&self) -> usize {
        self.text.len()
    }

    /// A new walk.
    pub(crate) fn begin(&mut self, state: &State) {
        if self.level > 0 {
            self.remember(state.frame(), state.frames.len());
            self.push(&format!("0: {}\n", whole(state.frame())));
        }
    }

    /// A line for a message, and what it is about.
    pub(crate) fn push(&mut self, text: &str) {
        if self.level > 0 && self.text.len() < LIMIT {
            self.text.push_str(text);
        }
    }

    /// The instruction that is walked next.
    pub(crate) fn insn(&mut self, at: u32, insns: &[Insn], lines: &[Line<'_>], state: &State) {
        let index = lines.partition_point(|line| line.insn <= at);
        let line = index.checked_sub(1).and_then(|index| lines.get(index));
        if let Some(line) = line.filter(|line| self.line != Some(line.insn)) {
            let text = format!("; {} @ {}:{}\n", line.text.trim(), line.file, line.number);
            self.line = Some(line.insn);
            self.push(&text);
        }
        if self.shown.is_empty() {
            self.remember(state.frame(), state.frames.len());
        }
        let text = format!("{at}: {}", text::of(insns, at as usize));
        self.push(&text);
    }

    /// What it changed.
    pub(crate) fn after(&mut self, state: &State) {
        let frame = state.frame();
        let mut changes = String::new();
        if self.depth != state.frames.len() {
            changes = whole(frame);
        } else {
            for (number, register) in frame.registers.iter().enumerate() {
                if self.shown.get(number) != Some(register) && register.kind != Kind::NotInit {
                    let _ = write!(changes, " R{number}={}", shown(register));
                }
            }
        }
        self.remember(frame, state.frames.len());
        let text = if changes.is_empty() { "\n".to_owned() } else { format!(" ;{changes}\n") };
        self.push(&text);
    }

    /// The path ends since a checkpoint stands for it.
    pub(crate) fn safe(&mut self, previous: u32, at: u32) {
        if self.level > 1 {
            self.push(&format!("from {previous} to {at}: safe\n"));
        }
    }

    /// Another branch is walked. At level 1 only the path at work is kept.
    pub(crate) fn resume(&mut self, position: usize, state: &State, previous: u32, at: u32) {
        if self.level == 0 {
            return;
        }
        if self.level == 1 {
            self.text.truncate(position);
        }
        self.line = None;
        self.push(&format!("\nfrom {previous} to {at}:{}\n", whole(state.frame())));
        self.remember(state.frame(), state.frames.len());
    }

    /// The whole log, with the reason and what it cost.
    pub(crate) fn finish(mut self, message: Option<&str>, statistics: &Statistics) -> String {
        if self.level == 0 {
            return String::new();
        }
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        if let Some(message) = message {
            self.text.push_str(message);
            self.text.push('\n');
        }
        let Statistics { instructions_processed, max_states_per_insn, .. } = statistics;
        let Statistics { total_states, peak_states, .. } = statistics;
        let _ = writeln!(
            self.text,
            "processed {instructions_processed} insns (limit 1000000) max_states_per_insn {max_states_per_insn} total_states {total_states} peak_states {peak_states} mark_read 0"
        );
        self.text
    }

    fn remember(&mut self, frame: &Frame, depth: usize) {
        self.shown.clear();
        self.shown.extend_from_slice(&frame.registers);
        self.depth = depth;
    }
}

/// A frame's registers and stack.
fn whole(frame: &Frame) -> String {
    let mut text = String::new();
    for (number, register) in frame.registers.iter().enumerate() {
        if register.kind != Kind::NotInit {
            let _ = write!(text, " R{number}={}", shown(register));
        }
    }
    for (index, slot) in frame.stack.iter().enumerate() {
        let offset = -(index as i32 + 1) * 8;
        if slot.is_spill() {
            let _ = write!(text, " fp{offset}={}", shown(&slot.spilled));
        } else if slot.bytes.iter().any(|byte| *byte != Byte::Invalid) {
            let bytes: String = slot.bytes.iter().rev().map(|byte| letter(*byte)).collect();
            let _ = write!(text, " fp{offset}={bytes}");
        }
    }
    text
}

fn letter(byte: Byte) -> char {
    match byte {
        Byte::Invalid => '?',
        Byte::Spill => 'r',
        Byte::Data => 'm',
        Byte::Zero => '0',
        Byte::Dynptr => 'd',
    }
}

/// A register as `print_reg_state` shows it.
fn shown(register: &Register) -> String {
    let bounds = &register.bounds;
    if register.is_scalar() {
        let mark = if register.precise { "P" } else { "" };
        if let Some(value) = bounds.as_constant() {
            return format!("{mark}{}", signed(value as i64));
        }
        return format!("{mark}scalar({})", ranges(register));
    }
    let mut inside = Vec::new();
    if register.id != 0 {
        inside.push(format!("id={}", register.id));
    }
    if register.reference != 0 {
        inside.push(format!("ref_obj_id={}", register.reference));
    }
    if register.offset != 0 && register.kind != Kind::Stack {
        inside.push(format!("off={}", register.offset));
    }
    if register.is_packet() {
        inside.push(format!("r={}", register.range));
    }
    if register.kind == Kind::Memory {
        inside.push(format!("sz={}", register.target));
    }
    if !register.has_fixed_offset() {
        inside.push(ranges(&Register { id: 0, ..*register }));
    }
    let place =
        if register.kind == Kind::Stack { register.offset.to_string() } else { String::new() };
    format!("{}{place}({})", register.type_name(), inside.join(","))
}

fn ranges(register: &Register) -> String {
    let bounds = &register.bounds;
    let mut parts = Vec::new();
    if register.id & !PLUS != 0 {
        parts.push(format!("id={}", register.id & !PLUS));
    }
    if register.id & PLUS != 0 {
        parts.push(format!("+{}", register.offset));
    }
    let mut add = |name: &str, is_known: bool, value: String| {
        if is_known {
            parts.push(format!("{name}={value}"));
        }
    };
    add("smin", bounds.smin != i64::MIN, signed(bounds.smin));
    add("smax", bounds.smax != i64::MAX, signed(bounds.smax));
    add("umin", bounds.umin != 0, unsigned(bounds.umin));
    add("umax", bounds.umax != u64::MAX, unsigned(bounds.umax));
    let low = bounds.smin32 != i32::MIN && i64::from(bounds.smin32) != bounds.smin;
    add("smin32", low, signed(bounds.smin32.into()));
    let high = bounds.smax32 != i32::MAX && i64::from(bounds.smax32) != bounds.smax;
    add("smax32", high, signed(bounds.smax32.into()));
    let low = bounds.umin32 != 0 && u64::from(bounds.umin32) != bounds.umin;
    add("umin32", low, unsigned(bounds.umin32.into()));
    let high = bounds.umax32 != u32::MAX && u64::from(bounds.umax32) != bounds.umax;
    add("umax32", high, unsigned(bounds.umax32.into()));
    add("var_off", !bounds.bits.is_unknown(), bounds.bits.to_string());
    parts.join(",")
}

/// Small numbers as they are, large ones in hexadecimal.
fn signed(value: i64) -> String {
    if (-0xffff..=0xffff).contains(&value) { value.to_string() } else { format!("{value:#x}") }
}

fn unsigned(value: u64) -> String {
    if value <= 0xffff { value.to_string() } else { format!("{value:#x}") }
}
