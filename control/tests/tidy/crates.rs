//! Which crate of the workspace may use which.

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::assert_tidy;
use crate::tree::root;

/// A crate, and the crates of ours that it may use. Nothing runs against this direction.
const DIRECTION: &[(&str, &[&str])] = &[
    ("weir-progs", &[]),
    ("weir-bpf", &[]),
    ("weir-inet", &[]),
    ("weir-lab", &[]),
    ("weir-xsk", &["weir-progs"]),
    ("weir-dataplane", &["weir-bpf", "weir-inet", "weir-xsk"]),
    (
        "weir-control",
        &["weir-bpf", "weir-dataplane", "weir-inet", "weir-lab", "weir-progs", "weir-xsk"],
    ),
    (
        "weir-bench",
        &[
            "weir-bpf",
            "weir-control",
            "weir-dataplane",
            "weir-inet",
            "weir-lab",
            "weir-progs",
            "weir-xsk",
        ],
    ),
];

/// What no crate uses, not even in tests: they stand on top.
const TOP: &[&str] = &["weir-control", "weir-bench"];

fn complaint(user: &str, used: &str, in_tests: bool) -> Option<String> {
    let Some((_, allowed)) = DIRECTION.iter().find(|(name, _)| *name == user) else {
        return Some(format!("{user}: a new crate; give it its place in DIRECTION"));
    };
    let fine = allowed.contains(&used) || in_tests && !TOP.contains(&used);
    (!fine).then(|| format!("{user} uses {used}: against the direction of the crates"))
}

#[test]
fn crates_depend_one_way_only() {
    let manifest = root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let ours = package.dependencies.iter().filter(|used| used.path.is_some());
        complaints.extend(ours.filter_map(|used| {
            complaint(&package.name, &used.name, used.kind == DependencyKind::Development)
        }));
    }
    let mut members: Vec<&str> =
        metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    members.sort_unstable();
    let mut placed: Vec<&str> = DIRECTION.iter().map(|(name, _)| *name).collect();
    placed.sort_unstable();
    assert_eq!(members, placed, "every crate has its place in DIRECTION");
    assert_tidy(&complaints);
}

#[test]
fn workspace_lints_hold_in_every_crate() {
    let manifest = root().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let strays = metadata.workspace_packages().into_iter().filter(|package| {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        !manifest.contains("[lints]\nworkspace = true")
    });
    assert_tidy(
        &strays
            .map(|package| format!("{}: [lints] workspace = true", package.name))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_step_against_the_direction_is_seen() {
    assert!(complaint("weir-bpf", "weir-inet", false).is_some());
    assert!(complaint("weir-dataplane", "weir-control", true).is_some());
    assert!(complaint("weir-new", "weir-bpf", false).is_some());
    assert_eq!(complaint("weir-dataplane", "weir-bpf", false), None);
    assert_eq!(complaint("weir-xsk", "weir-lab", true), None);
    assert!(complaint("weir-xsk", "weir-lab", false).is_some());
}
