//! Holds what `deny.toml` says about dependencies, for those who have no cargo-deny: licences,
//! bans, several versions, sources. The same file serves `cargo deny check`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use cargo_metadata::MetadataCommand;
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

#[test]
fn dependencies_are_as_deny_toml_wants_them() {
    let policy = Policy::read();
    let packages = packages();
    assert!(packages.len() > 20, "only {} packages: the graph was not read", packages.len());
    let complaints = complaints(&policy, &packages);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn our_own_crates_carry_our_licence() {
    let metadata = MetadataCommand::new().manifest_path(manifest()).no_deps().exec().unwrap();
    for package in metadata.workspace_packages() {
        assert_eq!(package.license.as_deref(), Some("Apache-2.0 OR MIT"), "{}", package.name);
        assert_eq!(package.publish.as_deref(), Some(&[][..]), "{}: publish = false", package.name);
    }
}

#[test]
fn every_kind_of_breach_is_named() {
    let policy = Policy::read();
    let fine = Package::new("fine", "1.0.0", "MIT/Apache-2.0");
    assert!(complaints(&policy, &[fine]).is_empty());
    for (package, word) in [
        (Package::new("copyleft", "1.0.0", "GPL-3.0-only"), "GPL-3.0-only"),
        (Package::new("both", "1.0.0", "MIT AND AGPL-3.0-only"), "AGPL-3.0-only"),
        (Package { licence: None, ..Package::new("silent", "1.0.0", "MIT") }, "no licence"),
        (Package::new("nonsense", "1.0.0", "do what you like"), "do what you like"),
        (Package::new("openssl-sys", "1.0.0", "MIT"), "banned"),
        (Package { source: "git+https://x".into(), ..Package::new("g", "1.0.0", "MIT") }, "git+"),
        (
            Package { source: "registry+https://x".into(), ..Package::new("r", "1.0.0", "MIT") },
            "registry+",
        ),
    ] {
        let complaints = complaints(&policy, std::slice::from_ref(&package));
        assert_eq!(complaints.len(), 1, "{package:?}");
        assert!(complaints[0].contains(&package.name), "{complaints:?}");
        assert!(complaints[0].contains(word), "{complaints:?}");
    }
    let twice = ["0.1.0", "0.2.0"].map(|version| Package::new("metrics", version, "MIT"));
    assert!(complaints(&policy, &twice)[0].contains("metrics"));
    let harmless = ["0.1.0", "0.2.0"].map(|version| Package::new("shlex", version, "MIT"));
    assert!(complaints(&policy, &harmless).is_empty());
}

/// What of `deny.toml` is held here; the advisories need a database that cargo-deny fetches.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Only the second version of it is banned.
    #[serde(default)]
    deny_multiple_versions: bool,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    allow_registry: Vec<String>,
}

impl Policy {
    fn read() -> Policy {
        let path = manifest().with_file_name("deny.toml");
        let policy: Policy = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(policy.sources.unknown_registry, "deny");
        assert_eq!(policy.sources.unknown_git, "deny");
        assert_eq!(policy.bans.multiple_versions, "warn", "this test holds it crate by crate");
        policy
    }
}

#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: String,
}

impl Package {
    fn new(name: &str, version: &str, licence: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            licence: Some(licence.into()),
            source: "registry+https://github.com/rust-lang/crates.io-index".into(),
        }
    }
}

fn complaints(policy: &Policy, packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let breaches = [licence(policy, package), ban(policy, package), source(policy, package)];
        let name = format!("{} {}", package.name, package.version);
        complaints.extend(breaches.into_iter().flatten().map(|breach| format!("{name}: {breach}")));
    }
    complaints.extend(several_versions(policy, packages));
    complaints
}

fn licence(policy: &Policy, package: &Package) -> Option<String> {
    let Some(licence) = &package.licence else { return Some("states no licence".into()) };
    let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else {
        return Some(format!("{licence:?} is no SPDX expression"));
    };
    let allowed: Vec<Licensee> =
        policy.licenses.allow.iter().map(|name| Licensee::parse(name).unwrap()).collect();
    let fine = expression.evaluate(|wanted| allowed.iter().any(|one| one.satisfies(wanted)));
    (!fine).then(|| format!("licence {licence} is not allowed by deny.toml"))
}

fn ban(policy: &Policy, package: &Package) -> Option<String> {
    let mut bans = policy.bans.deny.iter().filter(|ban| !ban.deny_multiple_versions);
    bans.find(|ban| ban.name == package.name).map(|ban| format!("is banned: {}", ban.reason))
}

fn source(policy: &Policy, package: &Package) -> Option<String> {
    let registry = package.source.strip_prefix("registry+");
    let fine = registry.is_some_and(|url| policy.sources.allow_registry.iter().any(|a| a == url));
    (!fine).then(|| format!("comes from {}, which deny.toml does not allow", package.source))
}

fn several_versions(policy: &Policy, packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let single = policy.bans.deny.iter().filter(|ban| ban.deny_multiple_versions);
    single
        .filter_map(|ban| Some((ban, versions.get(ban.name.as_str())?)))
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(ban, versions)| format!("{}: versions {versions:?}: {}", ban.name, ban.reason))
        .collect()
}

/// Every package of others that is built for this platform, for builds and tests too.
fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(manifest())
        .other_options(["--locked".into(), "--filter-platform".into(), host()])
        .exec()
        .unwrap();
    let graph = metadata.resolve.as_ref().expect("cargo resolves the graph");
    let built: BTreeSet<_> = graph.nodes.iter().map(|node| &node.id).collect();
    metadata
        .packages
        .iter()
        .filter(|package| built.contains(&package.id))
        .filter_map(|package| {
            Some(Package {
                name: package.name.to_string(),
                version: package.version.to_string(),
                licence: package.license.clone(),
                source: package.source.as_ref()?.repr.clone(),
            })
        })
        .collect()
}

/// The platform of this compiler, as `rustc -vV` tells it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc tells its host").to_owned()
}

fn manifest() -> PathBuf {
    let control = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    PathBuf::from(control).with_file_name("Cargo.toml")
}
