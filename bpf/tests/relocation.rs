//! What libbpf and aya-obj relocate, we relocate alike: all instructions equal.

mod clang;
mod libbpf;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use object::{Object as _, ObjectSection as _};
use weir_bpf::btf::Btf;
use weir_bpf::insn::Insn;
use weir_bpf::object::{KconfigValue, ParseOptions};
use weir_bpf::{Object, ProgramSpec};

fn section(bytes: &[u8], name: &str) -> (usize, usize) {
    let file = object::File::parse(bytes).unwrap();
    let (at, length) = file.section_by_name(name).unwrap().file_range().unwrap();
    (at as usize, length as usize)
}

fn types_of(bytes: &[u8]) -> Btf {
    let (at, length) = section(bytes, ".BTF");
    Btf::parse(&bytes[at..at + length]).unwrap()
}

/// Maps are descriptors with libbpf; ours are named beside the instructions.
fn same(name: &str, ours: &ProgramSpec, theirs: &[Insn]) {
    assert_eq!(ours.insns.len(), theirs.len(), "{name}: another number of instructions");
    let mut expected = ours.insns.clone();
    for reference in &ours.references {
        let at = reference.insn;
        let src = if reference.offset.is_some() { 2 } else { 1 };
        expected[at].src = src;
        expected[at].imm = theirs[at].imm;
        expected[at + 1].imm = reference.offset.unwrap_or(0) as i32;
    }
    for (at, (ours, theirs)) in expected.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "{name}: instruction {at}");
    }
}

/// All programs; how many.
fn compare(bytes: &[u8], options: &ParseOptions<'_>, types: Option<&Path>, kconfig: &str) -> usize {
    let object = Object::parse_with(bytes, options).unwrap();
    let (theirs, answer) = libbpf::relocate(bytes, types, kconfig);
    assert_eq!(theirs.len(), object.programs.len());
    for program in &object.programs {
        let name = format!("{} (libbpf says {answer})", program.name);
        same(&name, program, &theirs[&program.name]);
    }
    object.programs.len()
}

#[test]
fn our_objects_as_libbpf() {
    for (name, bytes) in weir_progs::ALL {
        assert!(compare(bytes, &ParseOptions::default(), None, "") > 0, "{name}");
    }
}

#[test]
fn core_of_every_kind_as_libbpf() {
    let target_path = clang::file("core_target.bpf.c");
    let target = types_of(&std::fs::read(&target_path).unwrap());
    let options = ParseOptions { target: Some(&target), ..ParseOptions::default() };
    let bytes = std::fs::read(clang::file("core.bpf.c")).unwrap();
    let programs = compare(&bytes, &options, Some(&target_path), "");
    assert_eq!(programs, 7);
    let object = Object::parse_with(&bytes, &options).unwrap();
    let poison = |name: &str| {
        let insns = &object.program(name).unwrap().insns;
        insns.iter().filter(|insn| insn.imm == 0xbad_2310).count()
    };
    assert!(poison("missing") > 0, "members that are not there are poisoned");
    assert_eq!(poison("flavours"), 0);
    assert!(matches!(Object::parse(&bytes), Err(weir_bpf::ObjectError::CoreRelocations)));
}

/// The object itself has three flavours of `inner`, of different sizes.
#[test]
fn several_types_that_match_are_ambiguous_as_with_libbpf() {
    let path = clang::file("core.bpf.c");
    let bytes = std::fs::read(&path).unwrap();
    let target = types_of(&bytes);
    let options = ParseOptions { target: Some(&target), ..ParseOptions::default() };
    let error = Object::parse_with(&bytes, &options).unwrap_err().to_string();
    assert!(error.starts_with("section \"socket/flavours\": inner___other at offset"), "{error}");
    assert!(error.contains("ambiguous"), "{error}");
    let (_, answer) = libbpf::relocate(&bytes, Some(&path), "");
    assert_eq!(answer, -22);
}

#[test]
fn our_objects_as_aya() {
    let all = weir_progs::ALL.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
    let nested = r#"
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        struct inner { int first; int second; } __attribute__((preserve_access_index));
        static volatile int sum;
        static __noinline int leaf(int x) { return x + sum; }
        static __noinline int middle(int x) { return leaf(x) * leaf(x + 1); }
        static __noinline int last(int x) { return x * sum; }
        SEC("socket") int nested(void *ctx)
        {
            struct inner *i = ctx;
            return middle(i->first) + last(i->second) + leaf(3) +
                   __builtin_preserve_field_info(i->second, 2);
        }
    "#;
    let nested = ("nested".to_owned(), std::fs::read(clang::text("nested", nested)).unwrap());
    let target_bytes = std::fs::read(clang::file("core_target.bpf.c")).unwrap();
    let target = types_of(&target_bytes);
    let mut programs = 0;
    for (name, bytes) in all.chain([nested]) {
        let options = ParseOptions { target: Some(&target), ..ParseOptions::default() };
        let ours = Object::parse_with(&bytes, &options).unwrap();
        let mut theirs = aya_obj::Object::parse(&bytes).unwrap();
        let (at, length) = section(&target_bytes, ".BTF");
        let types = &target_bytes[at..at + length];
        let types = aya_obj::btf::Btf::parse(types, Default::default()).unwrap();
        if name == "nested" {
            theirs.relocate_btf(&types).unwrap();
        }
        let text: HashSet<usize> = theirs.functions.keys().map(|(section, _)| *section).collect();
        let maps: Vec<_> =
            theirs.maps.iter().map(|(name, map)| (name.clone(), map.clone())).collect();
        theirs.relocate_maps(maps.iter().map(|(name, map)| (&name[..], 5, map)), &text).unwrap();
        theirs.relocate_calls(&text).unwrap();
        for program in &ours.programs {
            let found = &theirs.functions[&theirs.programs[&program.name].function_key()];
            let theirs: Vec<_> = found
                .instructions
                .iter()
                .map(|insn| Insn {
                    opcode: insn.code,
                    dst: insn.dst_reg(),
                    src: insn.src_reg(),
                    offset: insn.off,
                    imm: insn.imm,
                })
                .collect();
            same(&format!("{name}: {}", program.name), program, &theirs);
            programs += 1;
        }
    }
    assert!(programs > weir_progs::ALL.len());
}

/// clang 14 has no builtin for matching; the records' kind is changed for it.
#[test]
fn types_match_as_libbpf() {
    let target_path = clang::file("core_target.bpf.c");
    let target = types_of(&std::fs::read(&target_path).unwrap());
    let options = ParseOptions { target: Some(&target), ..ParseOptions::default() };
    let mut bytes = std::fs::read(clang::file("core.bpf.c")).unwrap();
    let (start, length) = section(&bytes, ".BTF.ext");
    let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk::<4>().unwrap()) as usize;
    let (from, end) = (start + word(start + 4) + word(start + 24) + 4, start + length);
    let mut kinds = Vec::new();
    let mut at = from;
    while at < end {
        let count = word(at + 4);
        kinds.extend((0..count).map(|i| at + 8 + 16 * i + 12).filter(|at| word(*at) == 8));
        at += 8 + 16 * count;
    }
    for at in &kinds {
        bytes[*at] = 12;
    }
    assert!(kinds.len() > 8, "{} records", kinds.len());
    compare(&bytes, &options, Some(&target_path), "");
}

#[test]
fn core_of_the_running_kernel_as_libbpf() {
    let Ok(kernel) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return eprintln!("skipped: the kernel has no BTF");
    };
    let kernel = Btf::parse(&kernel).unwrap();
    let mut options = ParseOptions { target: Some(&kernel), ..ParseOptions::default() };
    options.kconfig = HashMap::from([
        ("CONFIG_HZ".to_owned(), KconfigValue::Number(250)),
        ("CONFIG_BPF".to_owned(), KconfigValue::Tristate('y')),
        ("CONFIG_MODULE".to_owned(), KconfigValue::Tristate('m')),
        ("CONFIG_NAME".to_owned(), KconfigValue::Text("weir".to_owned())),
    ]);
    let kconfig = "CONFIG_HZ=250\nCONFIG_BPF=y\nCONFIG_MODULE=m\nCONFIG_NAME=\"weir\"\n";
    let bytes = std::fs::read(clang::file("externs.bpf.c")).unwrap();
    assert_eq!(compare(&bytes, &options, None, kconfig), 4);
}
