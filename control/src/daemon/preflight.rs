//! What the machine must have before Weir touches it: privileges, the interface, its queues.

use weir_xsk::{AttachError, InterfaceError, OpenError};

use crate::config::{Config, Problem, Queues, Xsk};

/// What was found.
pub struct Ready {
    /// Index of the interface.
    pub ifindex: u32,
    /// The queues to open.
    pub queues: Vec<u32>,
}

/// Names and bits (linux/capability.h) of what an AF_XDP device needs.
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_IPC_LOCK", 14), ("CAP_BPF", 39)];
/// CAP_SYS_ADMIN stands for CAP_BPF.
const SYS_ADMIN: u32 = 21;

/// Looks before anything is opened.
///
/// # Errors
/// The first thing that is missing, at the line that asks for it.
pub fn check(config: &Config, xsk: &Xsk) -> Result<Ready, Problem> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(config.problem(
            config.device.line,
            format!("an AF_XDP device needs {}, which this process has not", missing.join(", ")),
            "run as root, or grant them (deploy/weir.service does)",
        ));
    }
    let ifindex = weir_xsk::interface_index(&xsk.interface)
        .map_err(|error| interface_problem(config, xsk, &error))?;
    let there = weir_xsk::rx_queues(&xsk.interface)
        .map_err(|error| interface_problem(config, xsk, &error))?;
    let queues = match &xsk.queues.value {
        Queues::All => (0..there).collect(),
        Queues::These(queues) => queues.clone(),
    };
    if let Some(queue) = queues.iter().copied().find(|&queue| queue >= there) {
        let interface = xsk.interface.value.clone();
        let error = InterfaceError::NoQueue { interface, queue, queues: there };
        return Err(interface_problem(config, xsk, &error));
    }
    if let Some(cores) = config.cores.as_ref().filter(|cores| cores.len() != queues.len()) {
        return Err(config.problem(
            cores.line,
            format!("`cores` names {} processors for {} queues", cores.len(), queues.len()),
            "name one processor a queue, or leave the key out",
        ));
    }
    Ok(Ready { ifindex, queues })
}

/// An interface that is not there, or has not what is asked for.
pub fn interface_problem(config: &Config, xsk: &Xsk, error: &InterfaceError) -> Problem {
    match error {
        InterfaceError::Missing(name) => config.problem(
            xsk.interface.line,
            format!("there is no interface `{name}` in this network namespace"),
            "`ip link` lists them; mend `interface`",
        ),
        InterfaceError::NoQueue { interface, queue, queues } => config.problem(
            xsk.queues.line,
            format!("queue {queue} is out of range: {interface} has {queues} receive queues"),
            format!("mend `queues`, or change their number with `ethtool -L {interface}`"),
        ),
        InterfaceError::Query { .. } => {
            config.problem(xsk.interface.line, error.to_string(), "`ip link` shows its state")
        }
    }
}

/// A queue that cannot be opened.
pub fn open_problem(config: &Config, xsk: &Xsk, error: &OpenError) -> Problem {
    let (line, help) = match error {
        OpenError::Interface(error) => return interface_problem(config, xsk, error),
        OpenError::Config { .. } => (config.device.line, "mend the sizes in [device]"),
        OpenError::Umem { .. } => {
            (config.device.line, "lower `frames`, or raise the limit of locked memory (ulimit -l)")
        }
        OpenError::NotPermitted { .. } => {
            (config.device.line, "run as root, or grant the capabilities (deploy/weir.service)")
        }
        OpenError::Busy { .. } => (xsk.queues.line, "stop the other, or name other queues"),
        OpenError::NoZeroCopy { .. } => (config.device.line, "set `mode` to \"auto\" or \"copy\""),
        OpenError::Socket { .. } => (config.device.line, "`dmesg` may say more"),
    };
    config.problem(line, error.to_string(), help)
}

/// An interface that takes no XDP program.
pub fn attach_problem(config: &Config, xsk: &Xsk, error: &AttachError) -> Problem {
    let help = match error {
        AttachError::ProgramPresent { .. } => {
            "stop its owner or detach it (`ip link set dev INTERFACE xdp off`), then start again"
        }
        _ => "`dmesg` and `bpftool net` may say more",
    };
    config.problem(xsk.interface.line, error.to_string(), help)
}

fn missing_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // What cannot be read is not held against anyone: the kernel will say.
    let Some(effective) = effective else { return Vec::new() };
    missing_from(effective)
}

fn missing_from(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    CAPABILITIES
        .iter()
        .filter(|&&(name, bit)| !(has(bit) || name == "CAP_BPF" && has(SYS_ADMIN)))
        .map(|&(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_named_when_it_is_missing() {
        assert_eq!(missing_from(u64::MAX), [""; 0]);
        assert_eq!(missing_from(0).len(), 4);
        assert_eq!(missing_from(!(1 << 13)), ["CAP_NET_RAW"]);
        assert_eq!(missing_from(!(1 << 39)), [""; 0], "CAP_SYS_ADMIN stands for CAP_BPF");
    }
}
