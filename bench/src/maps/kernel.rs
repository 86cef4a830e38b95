//! The kernel's maps, used by programs that loop inside of one run.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use weir_xsk::kernel::{Map, MapSpec};

use super::{Kind, Operation};

/// Operations a run; the verifier walks every one of them.
pub const PER_RUN: u64 = 1_000;

const PROG_LOAD: u32 = 5;
const PROG_RUN: u32 = 10;
const SOCKET_FILTER: u32 = 1;

/// `union bpf_attr`, as words of four bytes.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn pointer(&mut self, at: usize, address: *const u8) {
        self.0[at] = address as u64 as u32;
        self.0[at + 1] = (address as u64 >> 32) as u32;
    }
}

/// A map of the kernel, as full as it is to be.
pub fn map(kind: Kind, entries: u32) -> io::Result<Map> {
    let spec = kind.spec(entries);
    Map::create(&MapSpec {
        map_type: spec.map_type.number(),
        name: "weir_bench".to_owned(),
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        flags: spec.flags,
    })
}

/// A loaded program that does one operation [`PER_RUN`] times.
pub struct Loop(OwnedFd);

impl Loop {
    pub fn load(kind: Kind, operation: Operation, entries: u32, map: &Map) -> io::Result<Loop> {
        use std::os::fd::AsFd;
        let code = code(kind, operation, entries, map.as_fd().as_raw_fd());
        let mut attributes = Attributes([0; 32]);
        attributes.0[0] = SOCKET_FILTER;
        attributes.0[1] = code.len() as u32;
        attributes.pointer(2, code.as_ptr().cast());
        attributes.pointer(4, c"GPL".as_ptr().cast());
        let fd = call(PROG_LOAD, &mut attributes)?;
        // SAFETY: the descriptor has just been made for us.
        Ok(Loop(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Nanoseconds an operation, over so many runs.
    pub fn run(&self, runs: u32) -> io::Result<f64> {
        let packet = [0_u8; 64];
        let mut attributes = Attributes([0; 32]);
        attributes.0[0] = self.0.as_raw_fd() as u32;
        attributes.0[2] = packet.len() as u32;
        attributes.pointer(4, packet.as_ptr());
        attributes.0[8] = runs;
        call(PROG_RUN, &mut attributes)?;
        Ok(f64::from(attributes.0[9]) / PER_RUN as f64)
    }
}

fn call(command: u32, attributes: &mut Attributes) -> io::Result<i32> {
    let size = size_of::<Attributes>();
    // SAFETY: the attributes are that large, and what they point to outlives the call.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_bpf, command, attributes.0.as_mut_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// r6 the random state, r7 how often, r8 the multiplier, r9 the sum of what was found.
fn code(kind: Kind, operation: Operation, entries: u32, map: i32) -> Vec<u64> {
    let mut code = vec![insn(0x85, 0, 0, 0, 7), insn(0xbf, 6, 0, 0, 0)];
    code.extend([insn(0xb7, 7, 0, 0, 0), insn(0xb7, 9, 0, 0, 0)]);
    code.extend([insn(0x18, 8, 0, 0, super::MULTIPLIER as i32), super::MULTIPLIER >> 32 << 32]);
    code.push(insn(0x7a, 10, 0, -64, 1));
    let begin = code.len();
    code.extend([insn(0x2f, 6, 8, 0, 0), insn(0x07, 6, 0, 0, super::INCREMENT as i32)]);
    code.extend([insn(0xbf, 2, 6, 0, 0), insn(0x77, 2, 0, 0, 32)]);
    code.extend([insn(0x27, 2, 0, 0, entries as i32), insn(0x77, 2, 0, 0, 32)]);
    match kind {
        Kind::Lpm => {
            code.push(insn(0x62, 10, 0, -32, 32));
            code.extend([insn(0x24, 2, 0, 0, super::SPREAD as i32), insn(0xdc, 2, 0, 0, 32)]);
            code.push(insn(0x63, 10, 2, -28, 0));
        }
        _ => match kind.spec(entries).key_size.max(kind.bloom_size()) {
            4 => code.push(insn(0x63, 10, 2, -32, 0)),
            size => {
                (0..size as i16 / 8).for_each(|i| code.push(insn(0x7b, 10, 2, -32 + i * 8, 0)));
            }
        },
    }
    let helpers: &[i32] = match (operation, kind) {
        (Operation::Empty, _) => &[],
        (Operation::Lookup, Kind::Bloom) => &[89],
        (Operation::Update, Kind::Bloom) => &[87],
        (Operation::Lookup, _) => &[1],
        (Operation::Update, _) => &[2],
        (Operation::Delete, _) => &[3, 2],
    };
    for helper in helpers {
        code.extend([insn(0x18, 1, 1, 0, map), 0]);
        code.extend([insn(0xbf, 2, 10, 0, 0), insn(0x07, 2, 0, 0, -32)]);
        match helper {
            // The value, or the flags of a push.
            2 => code.extend([insn(0xbf, 3, 10, 0, 0), insn(0x07, 3, 0, 0, -64)]),
            _ => code.push(insn(0xb7, 3, 0, 0, 0)),
        }
        code.extend([insn(0xb7, 4, 0, 0, 0), insn(0x85, 0, 0, 0, *helper)]);
        match helper {
            1 => code.extend([
                insn(0x15, 0, 0, 2, 0),
                insn(0x79, 1, 0, 0, 0),
                insn(0x0f, 9, 1, 0, 0),
            ]),
            _ => code.push(insn(0x0f, 9, 0, 0, 0)),
        }
    }
    if helpers.is_empty() {
        code.push(insn(0x0f, 9, 2, 0, 0));
    }
    code.push(insn(0x07, 7, 0, 0, 1));
    let back = begin as i16 - code.len() as i16 - 1;
    code.push(insn(0x55, 7, 0, back, PER_RUN as i32));
    code.extend([insn(0xbf, 0, 9, 0, 0), insn(0x95, 0, 0, 0, 0)]);
    code
}

fn insn(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(opcode)
        | u64::from(to | from << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}
