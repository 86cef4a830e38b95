//! README and ARCHITECTURE tell the truth: targets, folders and tests they name exist.

use std::collections::BTreeSet;

use crate::assert_tidy;
use crate::tree::{Tracked, tracked};

/// `make` targets in code of README that the Makefile does not have.
fn unknown_targets(readme: &str, makefile: &str) -> Vec<String> {
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with([' ', '\t', '#', '.']))
        .filter_map(|line| line.split_once(':').map(|(target, _)| target.trim()))
        .collect();
    code(readme)
        .into_iter()
        .filter_map(|code| Some(code.split_once("make ")?.1.split_whitespace().next()?.to_owned()))
        .filter(|target| !targets.contains(target.as_str()))
        .map(|target| format!("README.md: `make {target}`: the Makefile has no such target"))
        .collect()
}

/// The lines of fenced blocks and the spans between backticks.
fn code(markdown: &str) -> Vec<&str> {
    let mut code = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push(line);
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

/// Files and folders that ARCHITECTURE names (with a `/`) and that hold nothing tracked.
fn unknown_paths(architecture: &str, files: &[Tracked]) -> Vec<String> {
    let exists = |path: &str| {
        files
            .iter()
            .any(|file| file.path == path || path.ends_with('/') && file.path.starts_with(path))
    };
    code(architecture)
        .into_iter()
        .filter(|span| span.contains('/') && !span.contains([' ', '*', '<', ':']))
        .filter(|path| !path.starts_with('/') && !exists(path))
        .map(|path| format!("ARCHITECTURE.md: {path} is not there"))
        .collect()
}

/// Tests that ARCHITECTURE names as `path::name` and that are not in that file.
fn unknown_tests(architecture: &str, files: &[Tracked]) -> Vec<String> {
    let defined = |path: &str, name: &str| {
        let definition = format!("fn {name}(");
        files.iter().any(|file| file.path == path && file.text.contains(&definition))
    };
    code(architecture)
        .into_iter()
        .filter_map(|span| span.split_once("::"))
        .filter(|(path, _)| path.contains('/'))
        .filter(|(path, name)| !defined(path, name))
        .map(|(path, name)| format!("ARCHITECTURE.md: {path} has no test {name}"))
        .collect()
}

/// Rooms that ARCHITECTURE's map leaves out: every folder with sources of its own.
fn unmapped(architecture: &str, files: &[Tracked]) -> Vec<String> {
    let mapped: BTreeSet<&str> = code(architecture).into_iter().collect();
    files
        .iter()
        .filter_map(|file| file.path.strip_suffix("Cargo.toml"))
        .filter(|folder| !folder.is_empty() && !folder.contains("/fuzz/"))
        .filter(|folder| !mapped.contains(folder))
        .map(|folder| format!("ARCHITECTURE.md: {folder} is not on the map"))
        .collect()
}

fn text<'a>(files: &'a [Tracked], path: &str) -> &'a str {
    let file = files.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("{path} is missing")).text
}

#[test]
fn readme_names_targets_that_exist() {
    let files = tracked();
    assert_tidy(&unknown_targets(text(&files, "README.md"), text(&files, "Makefile")));
}

#[test]
fn architecture_names_what_exists() {
    let files = tracked();
    let architecture = text(&files, "ARCHITECTURE.md");
    let mut complaints = unknown_paths(architecture, &files);
    complaints.extend(unknown_tests(architecture, &files));
    complaints.extend(unmapped(architecture, &files));
    assert_tidy(&complaints);
}

#[test]
fn false_claims_are_seen() {
    let makefile = ".PHONY: x\ndemo: setup ## it\n\techo absent: it\n";
    let readme = "`make demo` and `make absent`\n```sh\nsudo make lost X=1\n```\nmake no sense";
    assert_eq!(unknown_targets(readme, makefile).len(), 2);
    let files = [Tracked::new("a/b.rs", "fn held() {}"), Tracked::new("c/Cargo.toml", "")];
    assert_eq!(unknown_paths("`a/` `a/b.rs` `a/c.rs` `d/`", &files).len(), 2);
    assert_eq!(unknown_tests("`a/b.rs::held` `a/b.rs::lost` `std::mem`", &files).len(), 1);
    assert_eq!(unmapped("`a/`", &files).len(), 1);
    assert!(unmapped("`c/`", &files).is_empty());
}
