//! What libbpf makes of an object's programs: their instructions after relocation.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::Path;

use weir_bpf::insn::Insn;

/// Relocates an object against the types of a file (the running kernel's if none), with `.kconfig`
/// as the text of a configuration. Whether the kernel takes the programs does not matter: libbpf has
/// relocated them by then. Programs by name, and libbpf's answer.
pub fn relocate(
    object: &[u8],
    types: Option<&Path>,
    kconfig: &str,
) -> (BTreeMap<String, Vec<Insn>>, i32) {
    let types = types.map(|path| CString::new(path.to_str().unwrap()).unwrap());
    let kconfig = CString::new(kconfig).unwrap();
    let mut options = libbpf_sys::bpf_object_open_opts {
        sz: size_of::<libbpf_sys::bpf_object_open_opts>() as u64,
        ..Default::default()
    };
    options.object_name = c"object".as_ptr();
    options.kconfig = kconfig.as_ptr();
    options.btf_custom_path = types.as_ref().map_or(std::ptr::null(), |path| path.as_ptr());
    let mut programs = BTreeMap::new();
    // SAFETY: no function is given; libbpf is to be silent unless asked to speak.
    unsafe {
        if std::env::var_os("WEIR_LIBBPF_SPEAKS").is_none() {
            libbpf_sys::libbpf_set_print(None);
        }
    }
    // SAFETY: the bytes and the strings of the options outlive the object, which is closed below.
    let opened = unsafe {
        libbpf_sys::bpf_object__open_mem(object.as_ptr().cast(), object.len() as u64, &options)
    };
    assert!(!opened.is_null(), "libbpf does not open the object");
    // SAFETY: the object is open.
    let answer = unsafe { libbpf_sys::bpf_object__load(opened) };
    let mut program = std::ptr::null_mut();
    loop {
        // SAFETY: the object is open, and the program is one of its.
        program = unsafe { libbpf_sys::bpf_object__next_program(opened, program) };
        if program.is_null() {
            break;
        }
        // SAFETY: a program of an open object has a name, which ends in a NUL.
        let name = unsafe { libbpf_sys::bpf_program__name(program) };
        // SAFETY: see above.
        let name = unsafe { CStr::from_ptr(name) };
        // SAFETY: a program of an open object.
        let count = unsafe { libbpf_sys::bpf_program__insn_cnt(program) } as usize;
        // SAFETY: a program of an open object.
        let insns = unsafe { libbpf_sys::bpf_program__insns(program) }.cast::<[u8; 8]>();
        // SAFETY: libbpf has `count` instructions of eight bytes there until the object is closed.
        let insns = unsafe { std::slice::from_raw_parts(insns, count) };
        let insns = insns.iter().map(|insn| Insn::from_bytes(*insn)).collect();
        programs.insert(name.to_str().unwrap().to_owned(), insns);
    }
    // SAFETY: the object is open, and nothing of it is used any more.
    unsafe { libbpf_sys::bpf_object__close(opened) };
    (programs, answer)
}
