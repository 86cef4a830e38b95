//! A flood belongs into a lab: a namespace of its own, and a veth.

use std::fs;
use std::path::PathBuf;

use super::interface::Description;

/// Refuses an interface that may lead to others, with the reason.
pub(super) fn check(name: &str, interface: &Description) -> Result<(), String> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    judge(name, &interface.kind, namespace("self"), namespace("1"))
}

fn judge(
    name: &str,
    kind: &str,
    own: Option<PathBuf>,
    init: Option<PathBuf>,
) -> Result<(), String> {
    if kind != "veth" {
        let kind = if kind.is_empty() { "real interface" } else { kind };
        return Err(format!("{name} is a {kind}, not a veth: it may lead to others"));
    }
    // What cannot be read is taken for the namespace of init.
    if own.is_none() || init.is_none() || own == init {
        return Err(format!("{name} is in the network namespace of this machine's init"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_veth_in_a_namespace_of_its_own_is_flooded() {
        let namespace = |name: &str| Some(PathBuf::from(name));
        assert!(judge("peer0", "veth", namespace("a"), namespace("b")).is_ok());
        assert!(judge("peer0", "veth", namespace("a"), namespace("a")).is_err());
        assert!(judge("peer0", "veth", namespace("a"), None).is_err());
        assert!(judge("eth0", "", namespace("a"), namespace("b")).is_err());
        assert!(judge("br0", "bridge", namespace("a"), namespace("b")).is_err());
    }
}
