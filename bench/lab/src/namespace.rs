//! One network namespace: runs code and commands in it, and sets up its interfaces.

use std::fs::{self, File};
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

use crate::command::run;
use crate::{LabError, leftover};

/// A handle on a namespace of a [`Lab`](crate::Lab). Cheap to clone; does not keep it alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: Arc<str>,
}

impl Namespace {
    /// The name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` on a thread of its own that is in this namespace, and waits for it. Sockets made
    /// there stay in the namespace wherever they are used later; threads and processes started
    /// there are born in it. `/sys` stays that of the caller.
    ///
    /// # Panics
    /// When the lab is gone already or the process may not enter namespaces; and with `f`'s panic.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let file = File::open(leftover::path(&self.name))
                .unwrap_or_else(|error| panic!("namespace {} is gone: {error}", self.name));
            setns(&file, CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name));
            f()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// A command that will run `program` in this namespace (`ip netns exec`). The child's pid is
    /// that of `program`. `/sys` shows the namespace's interfaces.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Gives `device` an address with its prefix length (`10.77.0.1/24`, `fd77::1/64`). An IPv6
    /// address can be used at once: duplicate address detection is left out.
    ///
    /// # Errors
    /// When the interface is not there or the address is malformed or taken.
    pub fn address(&self, device: &str, cidr: &str) -> Result<(), LabError> {
        let mut arguments = vec!["address", "add", cidr, "dev", device];
        if cidr.contains(':') {
            arguments.push("nodad");
        }
        self.ip(&arguments)
    }

    /// Routes `prefix` over the neighbour `via`.
    ///
    /// # Errors
    /// When `prefix` is malformed or `via` is not reachable over an interface that is up.
    pub fn route(&self, prefix: &str, via: IpAddr) -> Result<(), LabError> {
        self.ip(&["route", "replace", prefix, "via", &via.to_string()])
    }

    /// Pins the link-layer address of neighbour `ip`, so that nothing asks for it.
    ///
    /// # Errors
    /// When the interface is not there or is down.
    pub fn neighbour(&self, device: &str, ip: IpAddr, mac: [u8; 6]) -> Result<(), LabError> {
        let (ip, mac) = (ip.to_string(), mac_text(mac));
        self.ip(&["neighbour", "replace", &ip, "lladdr", &mac, "dev", device, "nud", "permanent"])
    }

    /// Switches an offload of `device` (`tx`, `rx`, `gro`, `tso`, …; `ethtool -K`).
    ///
    /// # Errors
    /// When the feature is unknown or the driver cannot change it.
    pub fn offload(&self, device: &str, feature: &str, on: bool) -> Result<(), LabError> {
        let state = if on { "on" } else { "off" };
        run("ip", &["netns", "exec", &self.name, "ethtool", "-K", device, feature, state])
    }

    /// Sets `device` up.
    ///
    /// # Errors
    /// When the interface is not there.
    pub fn up(&self, device: &str) -> Result<(), LabError> {
        self.ip(&["link", "set", "dev", device, "up"])
    }

    /// Sets `device` down. IPv6 addresses, routes and neighbours over it are lost.
    ///
    /// # Errors
    /// When the interface is not there.
    pub fn down(&self, device: &str) -> Result<(), LabError> {
        self.ip(&["link", "set", "dev", device, "down"])
    }

    /// Writes a sysctl of this namespace, by its dotted name below `net.`.
    ///
    /// # Errors
    /// When there is none of that name or it refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        // procfs resolves /proc/sys/net by the namespace of the thread that opens it.
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.enter(|| fs::write(path, value)).map_err(|source| LabError::Sysctl {
            namespace: self.name.to_string(),
            key: key.to_owned(),
            value: value.to_owned(),
            source,
        })
    }

    /// The Ethernet address of `device`.
    ///
    /// # Errors
    /// When the interface is not there or is no Ethernet.
    pub fn mac(&self, device: &str) -> Result<[u8; 6], LabError> {
        self.enter(|| {
            getifaddrs()
                .ok()?
                .filter(|interface| interface.interface_name == device)
                .find_map(|interface| interface.address?.as_link_addr()?.addr())
        })
        .ok_or_else(|| self.no_interface(device))
    }

    /// The index of `device`, in this namespace.
    ///
    /// # Errors
    /// When the interface is not there.
    pub fn ifindex(&self, device: &str) -> Result<u32, LabError> {
        self.enter(|| if_nametoindex(device)).map_err(|_| self.no_interface(device))
    }

    pub(crate) fn named(name: &str) -> Namespace {
        Namespace { name: name.into() }
    }

    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<(), LabError> {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    fn no_interface(&self, device: &str) -> LabError {
        LabError::Interface { namespace: self.name.to_string(), device: device.to_owned() }
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_written_as_ip_reads_it() {
        assert_eq!(mac_text([2, 0, 0xab, 0xc, 0xff, 1]), "02:00:ab:0c:ff:01");
    }
}
