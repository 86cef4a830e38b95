//! Where `unsafe` may stand.

use proc_macro2::{TokenStream, TokenTree};

use crate::assert_tidy;
use crate::rust::{sources, tokens};
use crate::tree::Tracked;

/// Files (or, with a `/` at the end, folders) that may hold `unsafe`, and why.
const ROOMS: &[(&str, &str)] = &[
    ("bpf/src/map/cell.rs", "values of maps are shared with running programs, as raw bytes"),
    ("bpf/src/map/native.rs", "lookups that compiled code calls, by address"),
    ("bpf/src/map/references.rs", "maps and programs in maps, freed by epoch"),
    ("bpf/src/jit/", "executable pages, and the proof that stands in for every check"),
    ("bpf/src/bin/weir-bpf-plugin.rs", "runs what another suite vouches for"),
    ("bpf/tests/", "the kernel's bpf(2) and libbpf as oracles, and programs that tests vouch for"),
    (
        "bench/src/maps",
        "the same maps through the kernel's bpf(2), and as compiled code calls them",
    ),
    ("bpf/tests/verifier/kernel.rs", "bpf(2), to ask the kernel for its verdict"),
    ("dataplane/xsk/src/", "the kernel's rings, packet memory and libbpf"),
    ("dataplane/xsk/tests/", "the same, from outside"),
    ("dataplane/src/prefetch.rs", "the prefetch instruction"),
    (
        "dataplane/src/device/pcap.rs",
        "a capture is mapped, not read: another could change the file",
    ),
    ("dataplane/tests/allocation.rs", "the allocator that counts"),
];

fn strays<'a>(files: impl Iterator<Item = &'a Tracked>) -> Vec<String> {
    files
        .filter(|file| !ROOMS.iter().any(|(room, _)| holds(room, &file.path)))
        .filter_map(|file| {
            let line = keyword(tokens(file))?;
            Some(format!("{}:{line}: `unsafe` outside of the rooms that may hold it", file.path))
        })
        .collect()
}

fn holds(room: &str, path: &str) -> bool {
    if room.ends_with(".rs") { path == room } else { path.starts_with(room) }
}

/// The line of the first keyword `unsafe`, in macros' arguments too.
fn keyword(tokens: TokenStream) -> Option<usize> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "unsafe" => Some(ident.span().start().line),
        TokenTree::Group(group) => keyword(group.stream()),
        _ => None,
    })
}

#[test]
fn unsafe_stands_only_in_its_rooms() {
    assert_tidy(&strays(sources().collect::<Vec<_>>().iter()));
}

#[test]
fn unsafe_elsewhere_is_seen() {
    let seen = |path, text| strays([Tracked::new(path, text)].iter()).len();
    assert_eq!(seen("bpf/src/interp.rs", "fn f() { unsafe { g() } }"), 1);
    assert_eq!(seen("bpf/src/interp.rs", "unsafe impl Send for X {}"), 1);
    assert_eq!(seen("bpf/src/interp.rs", "m!(a, { unsafe { g() } });"), 1);
    assert_eq!(
        seen("bpf/src/interp.rs", "#![forbid(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";"),
        0
    );
    assert_eq!(seen("dataplane/xsk/src/open.rs", "fn f() { unsafe { g() } }"), 0);
}
