//! What libbpf's loader knows beyond programs: templates, initial values, pinning, struct_ops,
//! records of functions and lines.

mod clang;

use std::collections::HashMap;
use std::sync::Arc;

use weir_bpf::object::{KconfigValue, MapSlot, ParseOptions, PinRegistry, SectionName};
use weir_bpf::{LoadError, LoadOptions, Map, Object};

fn conventions() -> Object {
    Object::parse(&std::fs::read(clang::file("conventions.bpf.c")).unwrap()).unwrap()
}

#[test]
fn maps_have_templates_and_initial_values() {
    let object = conventions();
    let index = |name: &str| object.maps.iter().position(|map| map.name == name).unwrap();
    let outer = &object.definitions[index("outer")];
    assert_eq!(object.maps[index("outer")].value_size, 4);
    let inner = object.maps[index("outer")].inner.as_ref().unwrap();
    assert_eq!((inner.map_type.number(), inner.key_size, inner.value_size), (2, 4, 8));
    let mut slots = outer.slots.clone();
    slots.sort_by_key(|(key, _)| *key);
    let expected = [(1, MapSlot::Map(index("second"))), (3, MapSlot::Map(index("first")))];
    assert_eq!(slots, expected);
    let calls = &object.definitions[index("calls")];
    assert_eq!(calls.slots, [(1, MapSlot::Program("leaf".to_owned()))]);
    assert!(object.maps[index("calls")].inner.is_none());
    let btf = object.btf.as_ref().unwrap();
    let first = &object.definitions[index("first")];
    assert_eq!(btf.declare(first.key_type, "key"), "__u32 key");
    assert_eq!(btf.size(first.value_type), Some(8));
}

/// libbpf's own table, by asking it. (Ours also takes older names with a suffix: `sk_lookup/x`.)
#[test]
fn section_names_stand_for_what_libbpf_says() {
    const NAMES: &str = "socket sk_reuseport sk_reuseport/migrate tc tc/ingress tc/egress \
        tcx/ingress tcx/egress classifier action raw_tp/x raw_tracepoint/x raw_tp.w/x \
        raw_tracepoint.w/x tp_btf/x fentry/x fentry.s/x fmod_ret/x fexit/x fexit.s/x freplace/x \
        iter/tcp iter.s/tcp syscall xdp xdp/devmap xdp/cpumap xdp.frags xdp.frags/devmap \
        xdp.frags/cpumap sockops sk_skb sk_skb/stream_parser sk_skb/stream_verdict sk_skb/verdict \
        sk_msg flow_dissector cgroup/sysctl cgroup/getsockopt cgroup/setsockopt \
        cgroup_skb/ingress cgroup_skb/egress cgroup/skb cgroup/bind4 cgroup/bind6 \
        cgroup/connect4 cgroup/connect6 struct_ops/x struct_ops.s/x struct_ops sk_lookup \
        ?sk_lookup nothing xdpx";
    for name in NAMES.split_whitespace() {
        let text = std::ffi::CString::new(name.trim_start_matches('?')).unwrap();
        let (mut program, mut attach) = (0, 0);
        // SAFETY: the name ends in a NUL; both numbers are written to, or nothing is.
        let known = unsafe {
            libbpf_sys::libbpf_prog_type_by_name(text.as_ptr(), &mut program, &mut attach)
        } == 0;
        let ours = SectionName::parse(name).map(|of| (of.program_type, of.attach_type));
        assert_eq!(ours, known.then_some((program, attach)), "{name}");
    }
}

#[test]
fn struct_ops_keep_their_type_their_bytes_and_their_programs() {
    let object = conventions();
    let [ops] = &object.struct_ops[..] else { panic!("{:?}", object.struct_ops) };
    assert_eq!((&ops.name[..], &ops.type_name[..]), ("algorithm", "tcp_congestion_ops"));
    assert!(ops.is_link && !ops.is_optional);
    assert_eq!(ops.data.len(), 40);
    assert_eq!((ops.data[0], &ops.data[24..33]), (3, &b"weir_test"[..]));
    let programs: Vec<_> =
        ops.programs.iter().map(|of| (of.offset, &of.member[..], &of.program[..])).collect();
    assert_eq!(programs, [(8, "ssthresh", "threshold"), (16, "cong_avoid", "avoid")]);
    let section = &object.program("threshold").unwrap().section;
    let name = SectionName::parse(section).unwrap();
    assert_eq!((name.program_type, name.target, name.is_sleepable), (27, Some("threshold"), true));
}

#[test]
fn functions_and_lines_follow_the_instructions() {
    let object = Object::parse_with(
        &std::fs::read(clang::file("externs.bpf.c")).unwrap(),
        &ParseOptions {
            target: Some(&conventions().btf.unwrap()),
            kconfig: HashMap::from([
                ("CONFIG_HZ".to_owned(), KconfigValue::Number(1)),
                ("CONFIG_BPF".to_owned(), KconfigValue::Number(1)),
                ("CONFIG_MODULE".to_owned(), KconfigValue::Tristate('n')),
                ("CONFIG_NAME".to_owned(), KconfigValue::Text("longer than it is".to_owned())),
            ]),
            ..ParseOptions::default()
        },
    );
    // The target has no kfuncs.
    let error = object.unwrap_err().to_string();
    assert!(error.contains(".ksyms") && error.contains("no such function"), "{error}");

    let object = conventions();
    let caller = object.program("caller").unwrap();
    let btf = object.btf.as_ref().unwrap();
    assert_eq!(caller.func_info.len(), 1);
    assert_eq!(btf.define(caller.func_info[0].type_id), "int caller(struct __sk_buff *ctx);");
    let line = caller.line_info.iter().find(|line| btf.text(line.text).contains("key = 1"));
    let line = line.unwrap();
    assert!(btf.name(line.file).ends_with("conventions.bpf.c"));
    assert_eq!(btf.text(line.text).trim(), "__u32 key = 1;");
    assert!(line.line > 50 && line.column > 0);
    assert!(caller.line_info.windows(2).all(|pair| pair[0].insn <= pair[1].insn));
}

#[test]
fn kconfig_values_are_checked_and_placed() {
    let source = r#"
        #include <linux/bpf.h>
        #include <stdbool.h>
        #include <bpf/bpf_helpers.h>
        char LICENSE[] SEC("license") = "GPL";
        extern unsigned LINUX_KERNEL_VERSION __kconfig;
        extern unsigned char CONFIG_SMALL __kconfig;
        extern char CONFIG_NAME[4] __kconfig;
        extern unsigned long CONFIG_WEAK __kconfig __weak;
        SEC("sk_lookup") int f(struct bpf_sk_lookup *ctx)
        { return LINUX_KERNEL_VERSION + CONFIG_SMALL + CONFIG_NAME[0] + CONFIG_WEAK; }
    "#;
    let bytes = std::fs::read(clang::text("kconfig_values", source)).unwrap();
    let parse = |small: i64| {
        let kconfig = HashMap::from([
            ("LINUX_KERNEL_VERSION".to_owned(), KconfigValue::Number(0x60c00)),
            ("CONFIG_SMALL".to_owned(), KconfigValue::Number(small)),
            ("CONFIG_NAME".to_owned(), KconfigValue::Text("weir".to_owned())),
        ]);
        Object::parse_with(&bytes, &ParseOptions { kconfig, ..ParseOptions::default() })
    };
    let object = parse(255).unwrap();
    let map = object.maps.iter().find(|map| map.name == ".kconfig").unwrap();
    let mut expected = vec![0; 8];
    expected.extend(0x60c00_u32.to_le_bytes());
    expected.extend([255, b'w', b'e', b'i', 0]);
    assert_eq!(map.initial.as_ref().unwrap(), &expected);
    assert!(map.read_only);
    assert!(object.load(&LoadOptions::default()).is_ok());
    let error = parse(256).unwrap_err().to_string();
    assert!(error.contains("CONFIG_SMALL") && error.contains("does not fit"), "{error}");
}

#[test]
fn initial_values_are_there_once_loaded() {
    let source = r#"
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        #define __array(name, val) typeof(val) *name[]
        char LICENSE[] SEC("license") = "GPL";
        struct locked { int number; struct bpf_spin_lock lock; };
        struct inner {
            __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2);
            __type(key, int); __type(value, struct locked);
        } first SEC(".maps");
        struct {
            __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4);
            __uint(key_size, 4); __array(values, struct inner);
        } outer SEC(".maps") = { .values = { [2] = &first } };
        int leaf(struct bpf_sk_lookup *ctx);
        struct {
            __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2);
            __uint(key_size, 4); __array(values, int(void *));
        } calls SEC(".maps") = { .values = { [1] = (void *)&leaf } };
        SEC("sk_lookup") int leaf(struct bpf_sk_lookup *ctx)
        { int k = 1; return !bpf_map_lookup_elem(&outer, &k); }
    "#;
    let object = std::fs::read(clang::text("initial", source)).unwrap();
    let object = Object::parse(&object).unwrap();
    let find = |name: &str| object.maps.iter().position(|map| map.name == name).unwrap();
    assert_eq!(object.maps[find("first")].lock_at, Some(4));
    let loaded = object.load(&LoadOptions::default()).unwrap();
    let held = |name: &str, key: u32| loaded.maps[find(name)].lookup(&key.to_le_bytes()).is_ok();
    assert!(held("outer", 2) && !held("outer", 1));
    assert!(held("calls", 1) && !held("calls", 0));
}

#[derive(Default)]
struct Registry(HashMap<String, Arc<Map>>);

impl PinRegistry for Registry {
    fn find(&self, name: &str) -> Option<Arc<Map>> {
        self.0.get(name).cloned()
    }

    fn pin(&mut self, name: &str, map: &Arc<Map>) {
        self.0.insert(name.to_owned(), Arc::clone(map));
    }
}

#[test]
fn pinned_maps_are_shared_by_their_names() {
    let source = |entries: u32| {
        let text = format!(
            "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n\
             char LICENSE[] SEC(\"license\") = \"GPL\";\n\
             struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, {entries});\n\
             __type(key, int); __type(value, int); __uint(pinning, LIBBPF_PIN_BY_NAME); }}\n\
             kept SEC(\".maps\");\n\
             SEC(\"sk_lookup\") int f(struct bpf_sk_lookup *ctx)\n\
             {{ int k = 0; return !bpf_map_lookup_elem(&kept, &k); }}"
        );
        let path = clang::text(&format!("pinned_{entries}"), &text);
        Object::parse(&std::fs::read(path).unwrap()).unwrap()
    };
    let mut registry = Registry::default();
    let options = LoadOptions::default();
    let first = source(8).load_pinned(&options, &mut registry).unwrap();
    let second = source(8).load_pinned(&options, &mut registry).unwrap();
    assert_eq!(registry.0.len(), 1);
    assert!(Arc::ptr_eq(&first.maps[0], &second.maps[0]));
    let other = source(9).load_pinned(&options, &mut registry);
    assert_eq!(other.unwrap_err(), LoadError::Reuse { name: "kept".to_owned() });
}
