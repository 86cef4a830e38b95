//! What can go wrong while a lab is built.

use std::io;
use std::process::ExitStatus;

/// Why a lab could not be built or changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A command ran and refused.
    #[error("`{command}` failed ({status}): {stderr}")]
    Refused {
        /// The command as it could be typed again.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// A command could not be started at all.
    #[error("cannot start `{command}`: {source}; `make setup` installs what the lab needs")]
    Start {
        /// The command as it could be typed again.
        command: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// A role that cannot be part of a namespace's name.
    #[error("role {0:?} cannot name a namespace: use 1 to 32 of a-z, 0-9 and '-'")]
    Role(String),
    /// An interface that is not there, or has no Ethernet address.
    #[error("no interface {device} with an Ethernet address in namespace {namespace}")]
    Interface {
        /// The namespace that was searched.
        namespace: String,
        /// The interface's name.
        device: String,
    },
    /// A sysctl that could not be written.
    #[error("cannot write {value:?} to sysctl {key} in namespace {namespace}: {source}")]
    Sysctl {
        /// The namespace.
        namespace: String,
        /// The sysctl's dotted name.
        key: String,
        /// The value.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
}
