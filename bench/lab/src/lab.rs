//! The lab: owns the namespaces it made and takes them away again.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::run;
use crate::namespace::Namespace;
use crate::veth::VethOptions;
use crate::{LabError, leftover};

/// Namespaces and the veth pairs between them, removed when this is dropped.
///
/// Dropping it also kills processes that still run in its namespaces: they would keep the
/// interfaces alive.
#[derive(Debug)]
pub struct Lab {
    number: u32,
    namespaces: Vec<Namespace>,
}

impl Lab {
    /// An empty lab. First removes what runs that were killed left behind.
    ///
    /// # Errors
    /// When a leftover cannot be removed.
    pub fn new() -> Result<Lab, LabError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static OWN_PID: Once = Once::new();
        // Before the first lab of this process, names with its pid come from an earlier bearer.
        OWN_PID.call_once(leftover::remove_of_this_pid);
        leftover::remove_of_the_dead()?;
        Ok(Lab { number: NUMBER.fetch_add(1, Ordering::Relaxed), namespaces: Vec::new() })
    }

    /// Makes a namespace named `weir-lab-<pid>-<n>-<role>`; nothing in it is up yet.
    ///
    /// # Errors
    /// When `role` cannot be part of a name, is taken in this lab, or the kernel refuses.
    pub fn namespace(&mut self, role: &str) -> Result<Namespace, LabError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if role.is_empty() || role.len() > 32 || !role.chars().all(legal) {
            return Err(LabError::Role(role.to_owned()));
        }
        let name = leftover::name(std::process::id(), self.number, role);
        run("ip", &["netns", "add", &name])?;
        let namespace = Namespace::named(&name);
        self.namespaces.push(namespace.clone());
        Ok(namespace)
    }

    /// Makes a veth pair; each end is a namespace and the interface's name in it. Both are down.
    ///
    /// # Errors
    /// When a name is taken or too long, or the kernel refuses an option.
    pub fn veth(
        &mut self,
        a: (&Namespace, &str),
        b: (&Namespace, &str),
        options: &VethOptions,
    ) -> Result<(), LabError> {
        options.create(a, b)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            if let Err(error) = leftover::remove(namespace.name()) {
                eprintln!("weir-lab: left behind: {error}");
            }
        }
    }
}
