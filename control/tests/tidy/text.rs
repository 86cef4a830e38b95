//! What no tracked text holds: paths of one machine, notes to self; and the licence that each BPF
//! source states.

use crate::assert_tidy;
use crate::tree::{Tracked, tracked};

/// Top folders that exist on somebody's machine only.
const MACHINE_FOLDERS: &[&str] = &["work", "root", "home", "Users"];
/// Notes to self, in pieces so that this file passes its own rule.
const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

const BPF_LICENCE: &str = "SPDX-License-Identifier: (GPL-2.0-only OR MIT)";
const BPF_LICENCE_STRING: &str = "\"Dual MIT/GPL\"";

fn machine_paths(file: &Tracked) -> Vec<String> {
    complaints(file, |line| {
        MACHINE_FOLDERS
            .iter()
            .find(|folder| {
                stands_alone(
                    line,
                    &format!("/{folder}"),
                    |c| c.is_alphanumeric() || "./_-~*<>{}$)".contains(c),
                    |c| c.is_alphanumeric() || "_-.".contains(c),
                )
            })
            .map(|folder| format!("/{folder} is a path of one machine"))
    })
}

fn notes(file: &Tracked) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    complaints(file, |line| {
        NOTES
            .iter()
            .find(|note| stands_alone(line, note, word, word))
            .map(|note| format!("{note}: do it, or open an issue"))
    })
}

fn complaints(file: &Tracked, check: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            check(line).map(|complaint| format!("{}:{}: {complaint}", file.path, index + 1))
        })
        .collect()
}

/// Whether `needle` occurs in `line` with no `before` character before it and no `after` one behind.
fn stands_alone(
    line: &str,
    needle: &str,
    before: impl Fn(char) -> bool,
    after: impl Fn(char) -> bool,
) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let preceded = line[..at].chars().next_back().is_some_and(&before);
        let followed = line[at + needle.len()..].chars().next().is_some_and(&after);
        !preceded && !followed
    })
}

fn unlicensed(file: &Tracked) -> Vec<String> {
    let mut complaints = Vec::new();
    if !file.text.lines().next().is_some_and(|line| line.contains(BPF_LICENCE)) {
        complaints.push(format!("{}:1: the first line has to say {BPF_LICENCE}", file.path));
    }
    if file.path.ends_with(".bpf.c") && !file.text.contains(BPF_LICENCE_STRING) {
        complaints
            .push(format!("{}: the kernel wants the licence {BPF_LICENCE_STRING}", file.path));
    }
    complaints
}

/// Tracked text that people wrote; corpora are bytes that look like text by chance.
fn written() -> impl Iterator<Item = Tracked> {
    tracked().into_iter().filter(|file| !file.path.contains("/corpus/"))
}

#[test]
fn no_paths_of_one_machine() {
    assert_tidy(&written().flat_map(|file| machine_paths(&file)).collect::<Vec<_>>());
}

#[test]
fn no_notes_to_self() {
    assert_tidy(&written().flat_map(|file| notes(&file)).collect::<Vec<_>>());
}

#[test]
fn bpf_sources_state_their_licence() {
    let sources = tracked().into_iter().filter(|file| {
        file.path.starts_with("bpf/") && (file.path.ends_with(".c") || file.path.ends_with(".h"))
    });
    assert_tidy(&sources.flat_map(|file| unlicensed(&file)).collect::<Vec<_>>());
}

#[test]
fn machine_paths_are_seen() {
    let seen = |line: &str| machine_paths(&Tracked::new("a", line)).len();
    for folder in MACHINE_FOLDERS {
        for line in [format!("see /{folder}/x"), format!("`/{folder}`"), format!("a=/{folder}/b")] {
            assert_eq!(seen(&line), 1, "{line}");
        }
    }
    for line in ["dataplane/src/worker.rs", "https://example.org/work/1", "a/root/b", "/workers"] {
        assert_eq!(seen(line), 0, "{line}");
    }
}

#[test]
fn notes_are_seen() {
    let seen = |line: &str| notes(&Tracked::new("a", line)).len();
    for note in NOTES {
        assert_eq!(seen(&format!("// {note}: later")), 1, "{note}");
        assert_eq!(seen(&format!("{note}S_{note}_")), 0, "{note}");
    }
}

#[test]
fn a_missing_licence_is_seen() {
    assert_eq!(unlicensed(&Tracked::new("bpf/progs/a.bpf.c", "int x;\n")).len(), 2);
    assert_eq!(unlicensed(&Tracked::new("bpf/include/a.h", "int x;\n")).len(), 1);
    let good = format!("// {BPF_LICENCE}\nchar l[] = {BPF_LICENCE_STRING};\n");
    assert!(unlicensed(&Tracked::new("bpf/progs/a.bpf.c", &good)).is_empty());
}
