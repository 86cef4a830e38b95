//! Objects that clang builds for a test.
#![allow(dead_code, reason = "each user takes a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a file of `tests/progs`; the object's path.
pub fn file(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/progs").join(name);
    compile(&source)
}

/// Compiles C; the object's path.
pub fn text(name: &str, source: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.bpf.c"));
    std::fs::write(&path, source).unwrap();
    compile(&path)
}

fn compile(source: &Path) -> PathBuf {
    let name = source.file_name().unwrap().to_str().unwrap();
    let object =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{}.o", std::process::id()));
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut command = Command::new(clang);
    command
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wno-unused-value"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object);
    assert!(command.status().unwrap().success(), "{name} does not compile");
    object
}
