//! BTF against those who know it: the kernel, bpftool, libbpf; and against hostile bytes.

mod clang;

use std::ffi::CString;
use std::process::Command;

use proptest::prelude::*;
use weir_bpf::btf::{Btf, BtfBuilder, BtfExt, BtfType, Kind, ValueStyle};
use weir_bpf::object::ParseOptions;
use weir_bpf::{Object, btf_struct};

btf_struct! {
    /// What all have.
    pub struct Common as "sock_common" {
        /// The family.
        pub skc_family: u16,
        /// The state.
        pub skc_state: u8,
        /// An address.
        pub skc_daddr: u32,
    }

    /// One of a list.
    pub struct Sock as "sock" {
        /// Its beginning.
        pub __sk_common: Common,
        /// The next one.
        pub next: *mut Sock,
        /// A name.
        pub name: [i8; 16],
        /// A number.
        pub kind as "type": u16,
        /// A struct that is only read.
        pub other: *const Common,
        /// Anything.
        pub private: [u64; 13],
        /// Yes or no.
        pub r#final: bool,
    }
}

fn ours() -> (Btf, u32) {
    let mut builder = BtfBuilder::new();
    let id = Sock::add_to(&mut builder);
    let count = |builder: &mut BtfBuilder| Sock::add_to(builder) + Common::add_to(builder);
    let first = count(&mut builder);
    assert_eq!(count(&mut builder), first, "a type is added once");
    (builder.finish(), id)
}

#[test]
fn rust_structs_have_the_compilers_offsets() {
    let (btf, id) = ours();
    let byte = |name: &str| btf.member(id, name).map(|member| member.bit_offset as usize / 8);
    assert_eq!(byte("next"), Some(std::mem::offset_of!(Sock, next)));
    assert_eq!(byte("type"), Some(std::mem::offset_of!(Sock, kind)));
    assert_eq!(byte("final"), Some(std::mem::offset_of!(Sock, r#final)));
    assert_eq!(btf.size(id), Some(size_of::<Sock>() as u32));
    assert_eq!(btf.alignment(id), Some(align_of::<Sock>() as u32));
    assert_eq!(
        btf.define(id),
        "struct sock {\n\tstruct sock_common __sk_common;\n\tstruct sock *next;\n\tchar name[16];\n\
         \tunsigned short type;\n\tconst struct sock_common *other;\n\
         \tunsigned long long private[13];\n\t_Bool final;\n};"
    );
    let unsigned = |(_, of): &(u32, &weir_bpf::btf::Type)| btf.name(of.name) == "unsigned short";
    assert_eq!(btf.types().filter(unsigned).count(), 1, "the same type is kept once");
}

fn kernel_takes(bytes: &[u8]) -> i32 {
    // SAFETY: the bytes are there for the length given; no options.
    let fd = unsafe {
        libbpf_sys::bpf_btf_load(bytes.as_ptr().cast(), bytes.len() as u64, std::ptr::null_mut())
    };
    if fd >= 0 {
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(fd) };
    }
    fd.min(0)
}

#[test]
fn the_kernel_and_bpftool_take_what_we_write() {
    let (btf, _) = ours();
    let bytes = btf.to_bytes();
    assert_eq!(Btf::parse(&bytes).unwrap(), btf);
    assert_eq!(kernel_takes(&bytes), 0);
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("ours.btf");
    std::fs::write(&file, &bytes).unwrap();
    let said = Command::new("bpftool").args(["-j", "btf", "dump", "file"]).arg(&file).output();
    let said: serde_json::Value = serde_json::from_slice(&said.unwrap().stdout).unwrap();
    let types = said["types"].as_array().unwrap();
    assert_eq!(types.len() + 1, btf.types().len());
    for (of, (_, ours)) in types.iter().zip(btf.types().skip(1)) {
        let name = of["name"].as_str().unwrap();
        assert_eq!(if name == "(anon)" { "" } else { name }, btf.name(ours.name));
    }
    // What clang leaves open, the loader has filled in.
    let object = std::fs::read(clang::file("values.bpf.c")).unwrap();
    let object = Object::parse(&object).unwrap().btf.unwrap();
    assert_eq!(kernel_takes(&object.to_bytes()), 0);
}

#[test]
fn the_kernels_types_come_back_byte_by_byte() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return eprintln!("skipped: the kernel has no BTF");
    };
    let btf = Btf::parse(&bytes).unwrap();
    let written = btf.to_bytes();
    let other = written.iter().zip(&bytes).position(|(ours, theirs)| ours != theirs);
    if let Some(at) = other {
        panic!("{at}: {:x?} {:x?}", &bytes[at - 12..at + 24], &written[at - 12..at + 24]);
    }
    assert_eq!((written.len(), other), (bytes.len(), None), "written otherwise than read");
    let sock = btf.struct_named("tcp_sock").unwrap();
    let family = btf.member(btf.struct_named("sock").unwrap(), "__sk_common").unwrap();
    assert_eq!(family.bit_offset, 0);
    assert!(btf.member(sock, "snd_cwnd").unwrap().bit_offset > 0);
    assert_eq!(btf.alignment(sock), Some(8));
    let kfunc = |kind: &Kind| matches!(kind, Kind::Function { .. });
    let kfunc = btf.by_name("tcp_reno_undo_cwnd", kfunc).unwrap();
    assert_eq!(btf.define(kfunc), "u32 tcp_reno_undo_cwnd(struct sock *sk);");
}

/// One of a map's values as bpftool prints it.
#[test]
fn values_are_printed_as_bpftool_does() {
    let object = std::fs::read(clang::file("values.bpf.c")).unwrap();
    let ours = Object::parse(&object).unwrap();
    let definition = &ours.definitions[0];
    let btf = ours.btf.as_ref().unwrap();
    let mut options = libbpf_sys::bpf_object_open_opts {
        sz: size_of::<libbpf_sys::bpf_object_open_opts>() as u64,
        ..Default::default()
    };
    options.object_name = c"values".as_ptr();
    // SAFETY: the bytes outlive the object, which is closed below.
    let opened = unsafe {
        libbpf_sys::bpf_object__open_mem(object.as_ptr().cast(), object.len() as u64, &options)
    };
    assert!(!opened.is_null());
    // SAFETY: the object is open.
    assert_eq!(unsafe { libbpf_sys::bpf_object__load(opened) }, 0, "the kernel refuses it");
    let name = CString::new("shown").unwrap();
    // SAFETY: the object is loaded, and has this map.
    let fd = unsafe { libbpf_sys::bpf_object__find_map_fd_by_name(opened, name.as_ptr()) };
    let mut info = libbpf_sys::bpf_map_info::default();
    let mut length = size_of_val(&info) as u32;
    // SAFETY: the descriptor is a map's, and `info` has room for `length` bytes.
    assert_eq!(unsafe { libbpf_sys::bpf_map_get_info_by_fd(fd, &mut info, &mut length) }, 0);
    let size = btf.size(definition.value_type).unwrap() as usize;
    assert_eq!(size as u32, info.value_size);
    for seed in 0..64_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut value: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        let member =
            |name: &str| btf.member(definition.value_type, name).unwrap().bit_offset as usize / 8;
        value[member("text")..][..12].copy_from_slice(b"some text\0xy");
        // Booleans are 0 or 1, and enumerators mostly known ones.
        value[member("yes")] = 1;
        value[member("no")] = 0;
        value[member("colour")..][..4].copy_from_slice(&(-1_i32).to_le_bytes());
        // SAFETY: key and value are of the map's sizes.
        let put = unsafe {
            libbpf_sys::bpf_map_update_elem(fd, (&raw const KEY).cast(), value.as_ptr().cast(), 0)
        };
        assert_eq!(put, 0);
        let id = info.id.to_string();
        let said = Command::new("bpftool").args(["-j", "map", "dump", "id", &id]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let start = "\"formatted\":{\"key\":0,\"value\":";
        let at = said.find(start).unwrap_or_else(|| panic!("{said}")) + start.len();
        let text = btf.value(definition.value_type, &value, ValueStyle::Json).unwrap();
        assert_eq!(text, said[at..].trim_end().strip_suffix("}}]").unwrap());
    }
    // SAFETY: the object is open, and nothing of it is used any more.
    unsafe { libbpf_sys::bpf_object__close(opened) };
}

static KEY: u32 = 0;

/// All that is done with types, done with hostile ones.
fn walk(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    assert!(btf.types().len() <= bytes.len() / 12 + 1);
    for (id, _) in btf.types().take(64) {
        _ = (btf.size(id), btf.alignment(id), btf.resolve(id), btf.member(id, "within"));
        let text = btf.define(id);
        assert!(text.len() < 64 << 20);
        for style in [ValueStyle::Json, ValueStyle::Text] {
            _ = btf.value(id, &bytes[..bytes.len().min(512)], style);
        }
    }
    assert!(Btf::parse(&btf.to_bytes()).is_ok());
}

fn changed(bytes: &mut [u8], changes: &[(prop::sample::Index, u8)]) {
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn changed_types_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
    ) {
        let mut bytes = BYTES.with(|bytes| bytes.0.clone());
        changed(&mut bytes, &changes);
        walk(&bytes);
    }

    #[test]
    fn any_bytes_as_records_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        words in prop::collection::vec(0..220_u32, 6),
    ) {
        let mut bytes = vec![0x9f, 0xeb, 1, 0, 32, 0, 0, 0];
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(body);
        _ = BtfExt::parse(&bytes);
    }

    /// CO-RE against types that are changed, of an object that is changed.
    #[test]
    fn changed_objects_are_relocated_or_refused(
        types in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
        object in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let (mut bytes, mut core) = BYTES.with(Clone::clone);
        changed(&mut bytes, &types);
        changed(&mut core, &object);
        if let Ok(target) = Btf::parse(&bytes) {
            let options = ParseOptions { target: Some(&target), ..ParseOptions::default() };
            _ = Object::parse_with(&core, &options);
        }
    }
}

thread_local! {
    /// The target's types and the object that CO-RE moves onto them.
    static BYTES: (Vec<u8>, Vec<u8>) = {
        let target = Object::parse(&std::fs::read(clang::file("core_target.bpf.c")).unwrap());
        let core = std::fs::read(clang::file("core.bpf.c")).unwrap();
        (target.unwrap().btf.unwrap().to_bytes(), core)
    };
}
