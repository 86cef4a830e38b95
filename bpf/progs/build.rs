//! Compiles every `src/*.bpf.c` with clang and writes the list of the objects.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const HINT: &str = "run `make setup` to install clang and the libbpf headers";

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let source = here.join("src");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed={}", here.join("../include").display());
    println!("cargo:rerun-if-env-changed=CLANG");

    let mut stems: Vec<String> = fs::read_dir(&source)
        .expect("the crate has a src folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".bpf.c").map(str::to_owned))
        .collect();
    stems.sort();

    let mut list = String::new();
    let mut all = String::new();
    for stem in &stems {
        let object = out.join(format!("{stem}.bpf.o"));
        compile(&here, &source.join(format!("{stem}.bpf.c")), &object);
        let constant = stem.to_uppercase();
        writeln!(list, "/// The object built from `{stem}.bpf.c`.").expect("to a string");
        writeln!(list, "pub const {constant}: &[u8] = include_bytes!({object:?});")
            .expect("to a string");
        writeln!(all, "    ({stem:?}, {constant}),").expect("to a string");
    }
    writeln!(list, "/// Every object, by its file's stem, in alphabetical order.")
        .expect("to a string");
    writeln!(list, "pub const ALL: &[(&str, &[u8])] = &[\n{all}];").expect("to a string");
    fs::write(out.join("objects.rs"), list).expect("OUT_DIR can be written");
}

fn compile(here: &Path, source: &Path, object: &Path) {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("set by cargo");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(&clang);
    command
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"])
        .args(["-Wno-unused-parameter", "-Wno-gnu-variable-sized-type-not-at-end"])
        .arg("-I")
        .arg(here.join("../include"))
        // asm/types.h is in the multiarch folder, which clang does not search for the target bpf.
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .arg(format!("-fdebug-prefix-map={}=.", here.display()))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(object);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("cannot start `{clang}`: {error}; {HINT}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} does not compile:\n{said}\n{}",
        source.display(),
        if said.contains("file not found") { HINT } else { "" }
    );
}
