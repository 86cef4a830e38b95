//! The files under version control, and the shape of the top level.

use std::path::PathBuf;
use std::process::Command;

use crate::assert_tidy;

/// The rooms of the house, and nothing beside them.
const TOP_FOLDERS: &[&str] = &[".ci", "bench", "bpf", "configs", "control", "dataplane", "deploy"];
const TOP_FILES: &[&str] = &[
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "deny.toml",
    "rustfmt.toml",
];

/// A file under version control.
pub struct Tracked {
    /// From the repository's root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl Tracked {
    pub fn new(path: &str, text: &str) -> Tracked {
        Tracked { path: path.to_owned(), text: text.to_owned() }
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    let control = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    PathBuf::from(control).parent().expect("control lies in the root").to_owned()
}

/// Every tracked file that is text, without those deleted but not committed yet.
pub fn tracked() -> Vec<Tracked> {
    paths()
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).ok()?;
            Some(Tracked { path, text })
        })
        .collect()
}

fn paths() -> Vec<String> {
    // A checkout may belong to another user than the one who tests (containers, CI).
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let paths: Vec<String> =
        list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    assert!(paths.iter().any(|path| path == "Cargo.toml"), "this is no checkout of the repository");
    paths
}

fn strangers<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    paths
        .filter(|path| match path.split_once('/') {
            Some((folder, _)) => !TOP_FOLDERS.contains(&folder),
            None => !TOP_FILES.contains(path),
        })
        .map(|path| format!("{path}: the top level is fixed; put it into one of {TOP_FOLDERS:?}"))
        .collect()
}

#[test]
fn top_level_is_fixed() {
    assert_tidy(&strangers(paths().iter().map(String::as_str)));
}

#[test]
fn a_new_top_folder_is_seen() {
    assert_eq!(
        strangers(["scripts/x.sh", "NOTES", "bpf/src/lib.rs", "Makefile"].into_iter()).len(),
        2
    );
}
