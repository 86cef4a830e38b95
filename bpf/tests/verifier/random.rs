//! Random programs that are mostly well made: blocks of the things that programs do, joined by
//! jumps, sometimes with a bit wrong.

use weir_bpf::insn::Insn;

use crate::case::{Case, OwnedMap};

/// SplitMix64: the same programs from the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn number(&mut self) -> i32 {
        match self.below(8) {
            0 => self.next() as i32,
            1 => i32::MIN,
            2 => i32::MAX,
            3 => -(self.below(70) as i32),
            4 => 1 << self.below(31),
            _ => self.below(70) as i32,
        }
    }
}

pub const HASH: i32 = 0;
pub const ARRAY: i32 = 1;
pub const SOCKETS: i32 = 2;

/// A hash, an array and a sockmap.
pub fn maps() -> Vec<OwnedMap> {
    let map = |name: &str, map_type, key_size, value_size, max_entries| OwnedMap {
        name: name.to_owned(),
        map_type,
        key_size,
        value_size,
        max_entries,
        ..OwnedMap::default()
    };
    vec![map("hash", 1, 8, 16, 4), map("array", 2, 4, 48, 4), map("sockets", 15, 4, 8, 4)]
}

const SK_LOOKUP: u32 = 30;
const XDP: u32 = 6;

/// A program of this type from a seed.
pub fn program(seed: u64, program_type: u32) -> Case {
    let mut maker = Maker { random: Random(seed), insns: Vec::new(), program_type };
    maker.make();
    Case {
        name: format!("random {seed} type {program_type}"),
        program_type,
        gpl: true,
        maps: maps(),
        insns: maker.insns,
        ..Case::default()
    }
}

struct Maker {
    random: Random,
    insns: Vec<Insn>,
    program_type: u32,
}

/// r6 is the context, r7 to r9 are numbers that stay, r0 to r5 come and go.
const NUMBERS: [u8; 6] = [0, 2, 3, 7, 8, 9];

impl Maker {
    fn put(&mut self, opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        self.insns.push(Insn { opcode, dst, src, offset, imm });
    }

    fn set(&mut self, dst: u8, imm: i32) {
        self.put(0xb7, dst, 0, 0, imm);
    }

    fn copy(&mut self, dst: u8, src: u8) {
        self.put(0xbf, dst, src, 0, 0);
    }

    fn call(&mut self, helper: i32) {
        self.put(0x85, 0, 0, 0, helper);
    }

    fn map(&mut self, dst: u8, map: i32) {
        self.put(0x18, dst, 1, 0, map);
        self.put(0, 0, 0, 0, 0);
    }

    fn make(&mut self) {
        self.copy(6, 1);
        for number in [7, 8, 9, 0, 2, 3] {
            let imm = self.random.number();
            self.set(number, imm);
        }
        for _ in 0..self.random.below(4) {
            self.unknown();
        }
        let blocks = 2 + self.random.below(12);
        for _ in 0..blocks {
            self.block();
        }
        let result = self.random.below(3) as i32;
        let wrong = self.random.one_in(30);
        self.set(0, if wrong { result } else { result & 1 });
        self.put(0x95, 0, 0, 0, 0);
        if self.random.one_in(4) {
            self.damage();
        }
    }

    fn block(&mut self) {
        match self.random.below(20) {
            0..=3 => self.arithmetic(),
            4..=6 => self.branch(),
            7 | 8 => self.stack(),
            9 | 10 => self.lookup(),
            11 => self.context(),
            12 => self.unknown(),
            13 if self.program_type == XDP => self.packet(),
            13 if self.program_type == SK_LOOKUP => self.socket(),
            14 => self.counted_loop(),
            15 => self.variable_stack(),
            16 => self.pointer(),
            17 => self.atomic(),
            18 => self.update(),
            _ => self.arithmetic(),
        }
    }

    /// A number that nobody knows.
    fn unknown(&mut self) {
        self.call(7);
        let to = self.random.of(&[7_u8, 8, 9]);
        self.copy(to, 0);
        self.set(2, 1);
        self.set(3, 2);
        match self.random.below(4) {
            0 => self.put(0x57, to, 0, 0, 0xff >> (self.insns.len() % 8)),
            1 => {
                let by = self.random.below(64) as i32;
                self.put(self_or(self.insns.len(), 0x67, 0xc7), to, 0, 0, by);
            }
            _ => {}
        }
    }

    fn arithmetic(&mut self) {
        for _ in 0..=self.random.below(3) {
            let dst = self.random.of(&NUMBERS);
            let src = self.random.of(&NUMBERS);
            let op = self
                .random
                .of(&[0x00_u8, 0x10, 0x20, 0x40, 0x50, 0xa0, 0x60, 0x70, 0xc0, 0x30, 0x90]);
            let class = self.random.of(&[4_u8, 7, 7]);
            let shift = matches!(op, 0x60 | 0x70 | 0xc0);
            match self.random.below(8) {
                0 => self.put(0x80 | class, dst, 0, 0, 0),
                1 => {
                    let class = self.random.of(&[0xd4_u8, 0xdc]);
                    let size = self.random.of(&[16, 32, 64]);
                    self.put(class, dst, 0, 0, size);
                }
                2 => {
                    let size = self.random.of(&[8_i16, 16, 0]);
                    self.put(0xb8 | class, dst, src, size, 0);
                }
                3 | 4 if !shift => self.put(op | 8 | class, dst, src, 0, 0),
                _ if shift => {
                    let width = if class == 7 { 64 } else { 32 };
                    let by = self.random.below(width) as i32;
                    self.put(op | class, dst, 0, 0, by);
                }
                _ => {
                    let imm = self.random.number();
                    let imm = if imm == 0 && matches!(op, 0x30 | 0x90) { 3 } else { imm };
                    self.put(op | class, dst, 0, 0, imm);
                }
            }
        }
    }

    /// A jump over some arithmetic.
    fn branch(&mut self) {
        let dst = self.random.of(&NUMBERS);
        let op =
            self.random.of(&[0x10_u8, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0]);
        let class = self.random.of(&[5_u8, 5, 6]);
        let at = self.insns.len();
        if self.random.one_in(2) {
            let src = self.random.of(&NUMBERS);
            self.put(op | 8 | class, dst, src, 0, 0);
        } else {
            let imm = self.random.number();
            self.put(op | class, dst, 0, 0, imm);
        }
        match self.random.below(4) {
            0 => self.stack(),
            1 => self.branch_of_exit(),
            _ => self.arithmetic(),
        }
        self.insns[at].offset = (self.insns.len() - at - 1) as i16;
    }

    fn branch_of_exit(&mut self) {
        let result = self.random.below(2) as i32;
        self.set(0, result);
        self.put(0x95, 0, 0, 0, 0);
    }

    fn stack(&mut self) {
        let size = self.random.of(&[
            (0x7b_u8, 0x79_u8, 8),
            (0x63, 0x61, 4),
            (0x6b, 0x69, 2),
            (0x73, 0x71, 1),
        ]);
        let slot = self.random.below(6) as i16 + 1;
        let part = self.random.below(8 / size.2) as i16 * size.2 as i16;
        let offset = -8 * slot + part;
        let number = self.random.of(&NUMBERS);
        match self.random.below(4) {
            0 => self.put(0x7a, 10, 0, -8 * slot, if self.random.0 & 1 == 0 { 0 } else { 7 }),
            1 | 2 => self.put(size.0, 10, number, offset, 0),
            _ => {}
        }
        let other = self.random.of(&[(0x79_u8, 8_i16), (0x61, 4), (0x69, 2), (0x71, 1)]);
        let part = self.random.below(8 / other.1 as u64) as i16 * other.1;
        let to = self.random.of(&NUMBERS);
        if !self.random.one_in(3) {
            self.put(other.0, to, 10, -8 * slot + part, 0);
        }
    }

    fn key(&mut self, map: i32) {
        let value = self.random.below(6) as i32;
        self.put(0x7a, 10, 0, -64, 0);
        if map != HASH || self.random.one_in(2) {
            self.put(0x62, 10, 0, -64, value);
        }
        if self.random.one_in(3) {
            self.put(0x63, 10, 7, -64, 0);
        }
        self.map(1, map);
        self.copy(2, 10);
        self.put(0x07, 2, 0, 0, -64);
    }

    fn lookup(&mut self) {
        let map = self.random.of(&[HASH, ARRAY]);
        let size = if map == HASH { 16 } else { 48 };
        self.key(map);
        self.call(1);
        let check = self.insns.len();
        if !self.random.one_in(12) {
            self.put(0x15, 0, 0, 0, 0);
        }
        if self.random.one_in(2) {
            // A bounded index, or one that is not.
            let index = self.random.of(&[7_u8, 8, 9]);
            self.copy(1, index);
            match self.random.below(4) {
                0 => self.put(0x57, 1, 0, 0, self_or(check, 7, 15)),
                1 => {
                    self.put(0x25, 1, 0, 1, size - 8);
                    self.put(0x0f, 0, 1, 0, 0);
                    self.set(1, 0);
                }
                2 => {
                    self.put(0x54, 1, 0, 0, 31);
                    self.put(0x77, 1, 0, 0, 1);
                }
                _ => self.put(0x57, 1, 0, 0, 0x3f),
            }
            self.put(0x0f, 0, 1, 0, 0);
        }
        let offset = self.random.below(size as u64 + 4) as i16 - 2;
        let opcode = self.random.of(&[0x71_u8, 0x69, 0x61, 0x79, 0x91, 0x81]);
        self.put(opcode, 3, 0, offset.max(0), 0);
        if self.random.one_in(2) {
            let store = self.random.of(&[0x73_u8, 0x7b, 0x63]);
            self.put(store, 0, 7, offset.clamp(0, size as i16 - 8), 0);
        }
        if self.insns[check].opcode == 0x15 {
            self.insns[check].offset = (self.insns.len() - check - 1) as i16;
        }
        self.set(0, 0);
        self.set(2, 4);
        self.set(3, 5);
    }

    fn update(&mut self) {
        let map = self.random.of(&[HASH, ARRAY]);
        for slot in 9..=14 {
            if !self.random.one_in(20) {
                self.put(0x7b, 10, 8, -8 * slot, 0);
            }
        }
        self.key(map);
        self.copy(3, 10);
        self.put(0x07, 3, 0, 0, -112);
        self.set(4, 0);
        self.call(2);
        self.set(2, 9);
        self.set(3, 9);
    }

    fn context(&mut self) {
        let offset = self.random.below(76) as i16;
        let opcode = self.random.of(&[0x61_u8, 0x61, 0x61, 0x69, 0x71]);
        let size = match opcode {
            0x61 => 4,
            0x69 => 2,
            _ => 1,
        };
        let wild = self.random.one_in(4);
        let offset = if wild { offset } else { (offset / size * size).clamp(8, 64) };
        if self.program_type == XDP && !wild {
            self.put(0x61, 7, 6, 12, 0);
            return;
        }
        self.put(opcode, 7, 6, offset, 0);
    }

    fn packet(&mut self) {
        self.put(0x61, 1, 6, 0, 0);
        self.put(0x61, 4, 6, 4, 0);
        let proven = 1 + self.random.below(40) as i32;
        if self.random.one_in(3) {
            self.copy(5, 7);
            self.put(0x57, 5, 0, 0, 0x3f);
            self.put(0x0f, 1, 5, 0, 0);
        }
        self.copy(2, 1);
        self.put(0x07, 2, 0, 0, proven);
        let at = self.insns.len();
        let op = self.random.of(&[0x2d_u8, 0x3d, 0xbd, 0xad]);
        match op {
            0x2d | 0x3d => self.put(op, 2, 4, 0, 0),
            _ => self.put(op, 4, 2, 0, 0),
        }
        let opcode = self.random.of(&[(0x71_u8, 1), (0x69, 2), (0x61, 4), (0x79, 8)]);
        let offset = self.random.below(proven as u64 + 1) as i32 - opcode.1 + 1;
        let offset = if self.random.one_in(8) { offset + 1 } else { offset.max(0) };
        self.put(opcode.0, 3, 1, offset as i16, 0);
        self.insns[at].offset = (self.insns.len() - at - 1) as i16;
        self.set(2, 1);
        self.set(3, 1);
    }

    fn socket(&mut self) {
        self.key(SOCKETS);
        self.call(1);
        let at = self.insns.len();
        self.put(0x15, 0, 0, 0, 0);
        let field = self.random.of(&[0_i16, 4, 8, 12, 16, 20, 24, 44, 48, 52, 72, 76, 80]);
        if self.random.one_in(2) {
            self.put(0x61, 7, 0, field, 0);
        }
        let keeps = self.random.one_in(3);
        if keeps {
            self.copy(9, 0);
        }
        if self.random.one_in(2) {
            self.copy(1, 6);
            self.copy(2, 0);
            self.copy(8, 0);
            self.set(3, 0);
            self.call(124);
            self.copy(0, 8);
        }
        if !self.random.one_in(15) {
            self.copy(1, 0);
            self.call(86);
        }
        self.set(8, 3);
        if keeps {
            if self.random.one_in(3) {
                self.put(0x61, 7, 9, 4, 0);
            }
            self.set(9, 1);
        }
        self.insns[at].offset = (self.insns.len() - at - 1) as i16;
        for number in [0, 2, 3] {
            self.set(number, 0);
        }
    }

    fn counted_loop(&mut self) {
        let counter = self.random.of(&[7_u8, 8]);
        self.set(counter, 0);
        let start = self.insns.len();
        let body = self.random.of(&[2_u8, 3]);
        self.put(0x07, body, 0, 0, 3);
        if self.random.one_in(2) {
            self.put(0x0f, 9, body, 0, 0);
        }
        if self.random.one_in(3) {
            self.arithmetic();
        }
        self.put(0x07, counter, 0, 0, 1);
        let times = 1 + self.random.below(12) as i32;
        let back = start as i32 - self.insns.len() as i32 - 1;
        let op = self.random.of(&[0xa5_u8, 0xc5, 0x55, 0xa6]);
        self.put(op, counter, 0, back as i16, times);
    }

    /// The stack at an offset that is known only when it runs.
    fn variable_stack(&mut self) {
        for slot in 1..=4 {
            self.put(0x7a, 10, 0, -8 * slot, slot.into());
        }
        self.copy(1, 7);
        let mask = self.random.of(&[0x18, 0x07, 0x1f, 0x08]);
        self.put(0x57, 1, 0, 0, mask);
        self.copy(2, 10);
        let start = if self.random.one_in(6) { -20 } else { -32 };
        self.put(0x07, 2, 0, 0, start);
        self.put(0x0f, 2, 1, 0, 0);
        if self.random.one_in(2) {
            self.put(0x73, 2, 8, 0, 0);
        }
        self.put(0x71, 3, 2, 0, 0);
        let slot = -8 * (1 + self.random.below(4) as i16);
        self.put(0x79, 9, 10, slot, 0);
        self.set(2, 0);
    }

    /// A pointer that goes to the stack and comes back.
    fn pointer(&mut self) {
        self.copy(2, 10);
        let by = -(self.random.below(48) as i32);
        self.put(0x07, 2, 0, 0, by);
        self.put(0x7b, 10, 2, -8, 0);
        if self.random.one_in(6) {
            self.put(0x73, 10, 7, -5, 0);
        }
        self.put(0x79, 3, 10, -8, 0);
        if self.random.one_in(2) {
            self.put(0x1f, 3, 2, 0, 0);
        } else {
            let offset = self.random.of(&[0_i16, -8, 8]);
            self.put(0x7b, 3, 7, offset, 0);
        }
        self.set(2, 0);
        self.set(3, 0);
    }

    fn atomic(&mut self) {
        let op = self.random.of(&[0x00, 0x01, 0x40, 0x41, 0x50, 0xa1, 0xe1, 0xf1]);
        let size = self.random.of(&[0xc3_u8, 0xdb]);
        let offset = -8 * (1 + self.random.below(6) as i16);
        if !self.random.one_in(4) {
            self.put(0x7b, 10, 8, offset, 0);
        }
        self.put(size, 10, 7, offset, op);
    }

    /// One instruction gets another field.
    fn damage(&mut self) {
        let at = self.random.below(self.insns.len() as u64) as usize;
        let other = self.random.next();
        let insn = &mut self.insns[at];
        match other % 6 {
            0 => insn.dst = (other >> 8) as u8 % 11,
            1 => insn.src = (other >> 8) as u8 % 11,
            2 => insn.offset = insn.offset.wrapping_add((other >> 8) as i16 % 4),
            3 => insn.imm = insn.imm.wrapping_add((other >> 8) as i32 % 9),
            4 => insn.opcode ^= 1 << ((other >> 8) % 8),
            _ => insn.imm = (other >> 16) as i32,
        }
    }
}

fn self_or<T>(choose: usize, a: T, b: T) -> T {
    if choose.is_multiple_of(2) { a } else { b }
}
