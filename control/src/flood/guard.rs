//! A flood belongs into a lab: a namespace of its own, and a veth.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::interface::Description;

/// Where `ip netns` keeps the namespaces that people have made.
const NAMED: &str = "/run/netns";
/// Number of the first network namespace since Linux 6.18 (`PROC_NET_INIT_INO`).
const INITIAL: u64 = 0xefff_fff9;

/// What is known of the caller's network namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Surroundings {
    /// Its number.
    own: Option<u64>,
    /// That of the machine's init; privileges beyond root's may be needed to see it.
    init: Option<u64>,
    /// Whether it is one that `ip netns` lists.
    named: bool,
}

/// Refuses an interface that may lead to others, with the reason.
pub(super) fn check(name: &str, interface: &Description) -> Result<(), String> {
    judge(name, &interface.kind, look())
}

fn look() -> Surroundings {
    let number = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.ino());
    let own = number(Path::new("/proc/thread-self/ns/net"));
    let init = number(Path::new("/proc/1/ns/net"));
    let names = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let named = own.is_some() && names.map(|entry| number(&entry.path())).any(|one| one == own);
    Surroundings { own, init, named }
}

fn judge(name: &str, kind: &str, around: Surroundings) -> Result<(), String> {
    if kind != "veth" {
        let kind = if kind.is_empty() { "real interface" } else { kind };
        return Err(format!("{name} is a {kind}, not a veth: it may lead to others"));
    }
    // What cannot be seen is taken for the namespace of init.
    let apart = match (around.own, around.init) {
        (Some(own), Some(init)) => own != init,
        (Some(own), None) => around.named && own != INITIAL,
        (None, _) => false,
    };
    match apart {
        true => Ok(()),
        false => Err(format!("{name} is in the network namespace of this machine's init")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_veth_in_a_namespace_of_its_own_is_flooded() {
        let lab = Surroundings { own: Some(5), init: Some(1), named: false };
        assert!(judge("peer0", "veth", lab).is_ok());
        assert!(judge("eth0", "", lab).is_err());
        assert!(judge("br0", "bridge", lab).is_err());
        assert!(judge("peer0", "veth", Surroundings { own: Some(1), ..lab }).is_err());
        assert!(judge("peer0", "veth", Surroundings { own: None, ..lab }).is_err());
    }

    #[test]
    fn where_init_is_out_of_sight_the_namespace_must_have_a_name() {
        let unseen = Surroundings { own: Some(5), init: None, named: false };
        assert!(judge("peer0", "veth", unseen).is_err());
        assert!(judge("peer0", "veth", Surroundings { named: true, ..unseen }).is_ok());
        let initial = Surroundings { own: Some(INITIAL), named: true, ..unseen };
        assert!(judge("peer0", "veth", initial).is_err());
    }
}
