//! Small objects that clang builds here: what the loader links, and what it refuses.

mod host;

use std::path::Path;
use std::process::Command;

use host::{World, run, v4};
use weir_bpf::{LoadOptions, Object, ObjectError, ProgramResult};

const HEAD: &str = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n\
                    char LICENSE[] SEC(\"license\") = \"GPL\";\n";

/// Compiles C after the usual includes.
fn object(name: &str, head: &str, source: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (c, o) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.o")));
    std::fs::write(&c, format!("{head}{source}")).unwrap();
    let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(clang);
    command.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", &include, "-c"]).arg(&c);
    assert!(command.arg("-o").arg(&o).status().unwrap().success(), "{name} does not compile");
    std::fs::read(&o).unwrap()
}

fn results(bytes: &[u8]) -> Vec<ProgramResult> {
    let loaded = Object::parse(bytes).unwrap().load(&LoadOptions::default()).unwrap();
    run(&loaded.programs, &v4("192.0.2.1:80"), &mut World::default()).1
}

#[test]
fn functions_of_every_kind_are_linked() {
    let bytes = object(
        "functions",
        HEAD,
        r#"
        static volatile int third = 3, zero;
        static const volatile int table[4] = { 1, 10, 100, 1000 };
        static __noinline int leaf(int x) { return x * 2 + table[x & 3]; }
        __noinline int global(int x) { return leaf(x) + leaf(x + 1); }
        SEC("sk_lookup/other") int other(struct bpf_sk_lookup *ctx) { return 1; }
        SEC("sk_lookup") int called(struct bpf_sk_lookup *ctx) { zero++; return zero == 2; }
        SEC("sk_lookup") int caller(struct bpf_sk_lookup *ctx)
        {
            // leaf(3) = 6 + 1000, leaf(4) = 8 + 1; the call of another program of this section.
            return global(third) == 1015 && called(ctx);
        }
        "#,
    );
    let object = Object::parse(&bytes).unwrap();
    assert_eq!(object.program("other").unwrap().section, "sk_lookup/other");
    let programs: Vec<_> = object.programs.iter().map(|program| &program.name[..]).collect();
    assert_eq!(programs.len(), 3, "{programs:?}");
    let results = results(&bytes);
    let result = |name: &str| results[programs.iter().position(|p| *p == name).unwrap()];
    assert_eq!(result("other"), ProgramResult::Pass);
    assert_eq!(result("called"), ProgramResult::Drop, "the first to count");
    assert_eq!(result("caller"), ProgramResult::Pass, "the second to count, through a call");
}

#[test]
fn what_is_not_supported_is_refused_with_its_name() {
    let program = "SEC(\"sk_lookup\") int f(struct bpf_sk_lookup *ctx)";
    let legacy = format!("struct {{ int a[5]; }} old SEC(\"maps\"); {program} {{ return 1; }}");
    let parsed = Object::parse(&object("legacy", HEAD, &legacy));
    assert_eq!(parsed, Err(ObjectError::LegacyMaps("maps".to_owned())));

    let kconfig = format!("extern int CONFIG_HZ __kconfig; {program} {{ return CONFIG_HZ; }}");
    let error = Object::parse(&object("kconfig", HEAD, &kconfig)).unwrap_err().to_string();
    assert_eq!(error, "section \".kconfig\": CONFIG_HZ at offset 0x0: no value is given for it");

    let core = format!(
        "struct sock {{ int mark; }} __attribute__((preserve_access_index));\n\
         {program} {{ return ((struct sock *)ctx->sk)->mark; }}"
    );
    let parsed = Object::parse(&object("core", HEAD, &core));
    assert_eq!(parsed, Err(ObjectError::CoreRelocations));

    let inner = format!(
        "struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(size, 3); }} m SEC(\".maps\");\n\
         {program} {{ return !bpf_map_lookup_elem(&m, ctx); }}"
    );
    let error = Object::parse(&object("field", HEAD, &inner)).unwrap_err().to_string();
    assert_eq!(error, "section .maps: map m: unknown field in the definition");
}

#[test]
fn licences_and_maps_are_checked_at_load() {
    let head = HEAD.replace("\"GPL\"", "\"Proprietary\"");
    let source = "SEC(\"sk_lookup\") int f(struct bpf_sk_lookup *ctx)\n\
                  { char text[] = \"x\"; bpf_trace_printk(text, sizeof(text)); return 1; }";
    let object_of = |head: &str, name| Object::parse(&object(name, head, source)).unwrap();
    assert!(object_of(HEAD, "gpl").load(&LoadOptions::default()).is_ok());
    let error = object_of(&head, "closed").load(&LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("cannot call GPL-restricted function bpf_trace_printk"), "{error}");

    let source = "struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, int); }\n\
                  empty SEC(\".maps\");\n\
                  SEC(\"sk_lookup\") int f(struct bpf_sk_lookup *ctx)\n\
                  { int k = 0; return !bpf_map_lookup_elem(&empty, &k); }";
    let object = Object::parse(&object("empty", HEAD, source)).unwrap();
    let error = object.load(&LoadOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "map empty: EINVAL (22)");
}
