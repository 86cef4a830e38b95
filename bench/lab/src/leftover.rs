//! Finds and removes namespaces of labs, of this run or of one that was killed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::LabError;
use crate::command::run;

/// Where `ip netns` keeps its names (`NETNS_RUN_DIR` of iproute2).
const NAMES: &str = "/var/run/netns";
const PREFIX: &str = "weir-lab-";

/// The name of a namespace of lab `number` of process `pid`.
pub(crate) fn name(pid: u32, number: u32, role: &str) -> String {
    format!("{PREFIX}{pid}-{number}-{role}")
}

/// The file that stands for a namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

/// Removes the namespaces of labs whose process no longer lives.
pub(crate) fn remove_of_the_dead() -> Result<(), LabError> {
    names().iter().filter(|(pid, _)| !lives(*pid)).try_for_each(|(_, name)| remove(name))
}

/// Removes the namespaces that carry this process's own pid, best effort.
pub(crate) fn remove_of_this_pid() {
    for (_, name) in names().iter().filter(|(pid, _)| *pid == std::process::id()) {
        // What stays makes `ip netns add` fail with the name, which says more than we could here.
        let _ = remove(name);
    }
}

/// Kills what still runs in namespace `name`, then deletes it. One that is gone is no error:
/// another process may tidy at the same time.
pub(crate) fn remove(name: &str) -> Result<(), LabError> {
    kill_inhabitants(name);
    match run("ip", &["netns", "delete", name]) {
        Err(error) if path(name).exists() => Err(error),
        _ => Ok(()),
    }
}

/// (pid, name) of every lab namespace on the machine.
fn names() -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir(NAMES) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| pid(&name).map(|pid| (pid, name)))
        .collect()
}

fn pid(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Whether a process runs under `pid`; a zombie does not.
fn lives(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The command's name stands in parentheses and may itself hold some: the state follows the last.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

fn kill_inhabitants(name: &str) {
    let Ok(namespace) = fs::metadata(path(name)) else { return };
    let identity = (namespace.dev(), namespace.ino());
    let host = fs::metadata("/proc/self/ns/net").map(|m| (m.dev(), m.ino()));
    // A name whose mount is gone is a plain file, and stands for no namespace.
    if host.is_ok_and(|(dev, ino)| dev != identity.0 || ino == identity.1) {
        return;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let inside = fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == identity);
        if inside && pid.unsigned_abs() != std::process::id() {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_pid_back() {
        assert_eq!(pid(&name(4711, 3, "weir-two")), Some(4711));
        for foreign in ["weir-lab-", "weir-lab-x-0-peer", "weir-lab-12", "other-12-0-peer"] {
            assert_eq!(pid(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_living_live_and_zombies_do_not() {
        assert!(lives(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while lives(child.id()) {
            assert!(std::time::Instant::now() < deadline, "a zombie counts as living");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
