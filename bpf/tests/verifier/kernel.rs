//! This kernel's verdict: maps and raw programs over bpf(2). Nothing is attached; descriptors are
//! closed when dropped.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use weir_bpf::insn::Insn;

use crate::case::{Case, OwnedMap};

const MAP_CREATE: i32 = 0;
const PROG_LOAD: i32 = 5;
const ATTRIBUTES: usize = 128;
/// `BPF_SK_LOOKUP`, for programs of type 30.
const SK_LOOKUP_ATTACH: u32 = 36;

struct Attributes([u64; ATTRIBUTES / 8]);

impl Attributes {
    fn new() -> Attributes {
        Attributes([0; ATTRIBUTES / 8])
    }

    fn word(mut self, offset: usize, value: u32) -> Attributes {
        let shift = offset % 8 * 8;
        self.0[offset / 8] |= u64::from(value) << shift;
        self
    }

    fn address<T>(mut self, offset: usize, of: &[T]) -> Attributes {
        self.0[offset / 8] = of.as_ptr() as u64;
        self
    }

    fn call(&self, command: i32) -> io::Result<OwnedFd> {
        // SAFETY: the attributes are as large as said, and whatever they point to outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), ATTRIBUTES) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
}

/// May bpf(2) be asked at all? Prints why not.
pub fn is_there() -> bool {
    let exit = [Insn { opcode: 0xb7, ..Insn::default() }, Insn { opcode: 0x95, ..Insn::default() }];
    match load(1, &exit, 0, false) {
        Ok(_) => true,
        Err((error, _)) => {
            println!("skipped: this kernel does not let us load programs: errno {error}");
            false
        }
    }
}

pub fn create(map: &OwnedMap) -> io::Result<OwnedFd> {
    Attributes::new()
        .word(0, map.map_type)
        .word(4, map.key_size)
        .word(8, map.value_size)
        .word(12, map.max_entries)
        .word(16, map.flags)
        .call(MAP_CREATE)
}

/// Loads a program whose maps are descriptors already; errno and log where it is refused.
fn load(
    program_type: u32,
    insns: &[Insn],
    flags: u32,
    log: bool,
) -> Result<OwnedFd, (i32, String)> {
    let bytes: Vec<[u8; 8]> = insns.iter().map(|insn| insn.to_bytes()).collect();
    let mut text = vec![0_u8; if log { 1 << 20 } else { 0 }];
    let attach = if program_type == 30 { SK_LOOKUP_ATTACH } else { 0 };
    let mut attributes = Attributes::new()
        .word(0, program_type)
        .word(4, insns.len() as u32)
        .address(8, &bytes)
        .address(16, b"GPL\0")
        .word(44, flags)
        .word(68, attach);
    if log {
        attributes = attributes.word(24, 1).word(28, text.len() as u32).address(32, &text);
    }
    attributes.call(PROG_LOAD).map_err(|error| {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(0);
        text.truncate(end);
        (error.raw_os_error().unwrap_or(0), String::from_utf8_lossy(&text).into_owned())
    })
}

/// The kernel's maps for cases that have the same ones.
pub struct Maps(Vec<OwnedFd>);

impl Maps {
    pub fn new(maps: &[OwnedMap]) -> io::Result<Maps> {
        maps.iter().map(create).collect::<io::Result<Vec<_>>>().map(Maps)
    }

    /// Errno and log where the kernel refuses the case.
    pub fn verdict(&self, case: &Case, log: bool) -> Result<(), (i32, String)> {
        let mut insns = case.insns.clone();
        let mut at = 0;
        while at < insns.len() {
            if insns[at].is_ld_imm64() {
                if matches!(insns[at].src, 1 | 2) {
                    let fd = self.0.get(insns[at].imm as usize).map_or(-1, |fd| fd.as_raw_fd());
                    insns[at].imm = fd;
                }
                at += 1;
            }
            at += 1;
        }
        load(case.program_type, &insns, case.flags, log).map(drop)
    }
}
