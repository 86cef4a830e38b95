//! A program type is data: context, helpers, legal returns. Loader, interpreter and (later)
//! verifier and compiler read the same tables.

pub mod bare;
pub mod sk_lookup;

use crate::helper::HelperId;

/// `enum bpf_prog_type`, those that have a hook here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramType {
    /// `BPF_PROG_TYPE_SK_LOOKUP`.
    SkLookup,
    /// None of the kernel's: see [`bare`].
    Bare,
}

/// `enum bpf_attach_type`, those that have a hook here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachType {
    /// `BPF_SK_LOOKUP`.
    SkLookup,
}

/// What a context field's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A number; aligned reads of `size` bytes or fewer.
    Scalar,
    /// `PTR_TO_SOCKET_OR_NULL`; reads of eight bytes only.
    SocketOrNull,
}

/// One field of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextField {
    /// The name in `include/uapi/linux/bpf.h`.
    pub name: &'static str,
    /// First byte.
    pub offset: u16,
    /// Size in bytes; arrays are one field.
    pub size: u16,
    /// Largest read in bytes.
    pub widest: u8,
    /// What is read.
    pub kind: FieldKind,
    /// May programs write it?
    pub writable: bool,
}

/// The legal return values of a program, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returns {
    /// The smallest.
    pub low: u64,
    /// The largest.
    pub high: u64,
}

/// A program type.
#[derive(Debug)]
pub struct Hook {
    /// The kernel's program type.
    pub program_type: ProgramType,
    /// Where such programs attach.
    pub attach_types: &'static [AttachType],
    /// The first part of the SEC() names, before a slash.
    pub sections: &'static [&'static str],
    /// The context's size in bytes.
    pub context_size: usize,
    /// The context's fields, by offset.
    pub context: &'static [ContextField],
    /// The helpers that programs may call.
    pub helpers: &'static [HelperId],
    /// What they may return.
    pub returns: Returns,
}

/// Every hook.
pub static HOOKS: &[&Hook] = &[&sk_lookup::HOOK];

impl Hook {
    /// The hook that an ELF section's name stands for: `sk_lookup` or `sk_lookup/name`.
    pub fn of_section(section: &str) -> Option<&'static Hook> {
        let kind = section.split('/').next().unwrap_or(section);
        HOOKS.iter().copied().find(|hook| hook.sections.contains(&kind))
    }
}
