//! `BPF_PROG_TYPE_SK_LOOKUP`: which socket shall have a packet that no connected socket has.
//!
//! Context: `struct bpf_sk_lookup` in include/uapi/linux/bpf.h; access rules:
//! `sk_lookup_is_valid_access` in net/core/filter.c; the way several programs combine:
//! `BPF_PROG_SK_LOOKUP_RUN_ARRAY` in include/linux/filter.h.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use super::{AttachType, ContextField, FieldKind, Hook, ProgramType, Returns};
use crate::engine;
use crate::fault::{Fault, FaultKind};
use crate::helper::{HelperId, Host, SocketId};
use crate::inputs::Inputs;
use crate::machine::Machine;
use crate::program::Program;

/// `SK_DROP`.
const SK_DROP: u64 = 0;
/// `SK_PASS`.
const SK_PASS: u64 = 1;
/// Size of `struct bpf_sk_lookup`, bytes.
const CONTEXT_SIZE: usize = 72;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

const fn scalar(name: &'static str, offset: u16, size: u16) -> ContextField {
    ContextField { name, offset, size, widest: 4, kind: FieldKind::Scalar, writable: false }
}

/// The hook. The port is read in two bytes, or in four for programs older than the field's change.
pub static HOOK: Hook = Hook {
    program_type: ProgramType::SkLookup,
    attach_types: &[AttachType::SkLookup],
    sections: &["sk_lookup"],
    context_size: CONTEXT_SIZE,
    context: &[
        ContextField {
            name: "sk",
            offset: 0,
            size: 8,
            widest: 8,
            kind: FieldKind::SocketOrNull,
            writable: false,
        },
        scalar("family", 8, 4),
        scalar("protocol", 12, 4),
        scalar("remote_ip4", 16, 4),
        scalar("remote_ip6", 20, 16),
        scalar("remote_port", 36, 4),
        scalar("local_ip4", 40, 4),
        scalar("local_ip6", 44, 16),
        scalar("local_port", 60, 4),
        scalar("ingress_ifindex", 64, 4),
    ],
    helpers: &[
        HelperId::MAP_LOOKUP_ELEM,
        HelperId::MAP_UPDATE_ELEM,
        HelperId::MAP_DELETE_ELEM,
        HelperId::KTIME_GET_NS,
        HelperId::TRACE_PRINTK,
        HelperId::GET_PRANDOM_U32,
        HelperId::GET_SMP_PROCESSOR_ID,
        HelperId::TAIL_CALL,
        HelperId::SK_RELEASE,
        HelperId::SK_ASSIGN,
    ],
    returns: Returns { low: SK_DROP, high: SK_PASS },
};

/// `struct bpf_sk_lookup`, as programs see it. The selected socket lives in the run, not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SkLookupContext {
    /// As they lie in memory, little-endian. Made and read in whole words: a word that was written
    /// in parts a moment ago is slow to read.
    words: [u64; CONTEXT_SIZE / 8],
}

/// One side of a context: the address in its two forms, as four little-endian words of four bytes.
struct Side {
    ip4: u32,
    ip6: [u32; 4],
}

impl Side {
    fn v4(address: Ipv4Addr) -> Side {
        Side { ip4: u32::from_le_bytes(address.octets()), ip6: [0; 4] }
    }

    fn v6(address: Ipv6Addr) -> Side {
        let mut ip6 = [0; 4];
        for (word, bytes) in ip6.iter_mut().zip(address.octets().as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Side { ip4: 0, ip6 }
    }
}

impl SkLookupContext {
    /// An IPv4 packet's lookup. `protocol` is `IPPROTO_TCP` or `IPPROTO_UDP`; `ingress_ifindex` is
    /// the device that it came in on.
    #[inline]
    pub fn v4(
        protocol: u8,
        remote: SocketAddrV4,
        local: SocketAddrV4,
        ingress_ifindex: u32,
    ) -> Self {
        let sides = (Side::v4(*remote.ip()), Side::v4(*local.ip()));
        Self::new((AF_INET, protocol), sides, (remote.port(), local.port()), ingress_ifindex)
    }

    /// An IPv6 packet's lookup.
    #[inline]
    pub fn v6(
        protocol: u8,
        remote: SocketAddrV6,
        local: SocketAddrV6,
        ingress_ifindex: u32,
    ) -> Self {
        let sides = (Side::v6(*remote.ip()), Side::v6(*local.ip()));
        Self::new((AF_INET6, protocol), sides, (remote.port(), local.port()), ingress_ifindex)
    }

    #[inline]
    fn new(
        (family, protocol): (u16, u8),
        (remote, local): (Side, Side),
        (remote_port, local_port): (u16, u16),
        ingress_ifindex: u32,
    ) -> Self {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        SkLookupContext {
            words: [
                0,
                pair(family.into(), protocol.into()),
                pair(remote.ip4, remote.ip6[0]),
                pair(remote.ip6[1], remote.ip6[2]),
                pair(remote.ip6[3], remote_port.swap_bytes().into()),
                pair(local.ip4, local.ip6[0]),
                pair(local.ip6[1], local.ip6[2]),
                pair(local.ip6[3], local_port.into()),
                ingress_ifindex.into(),
            ],
        }
    }

    /// `AF_INET` (2) or `AF_INET6` (10).
    pub fn family(&self) -> u16 {
        self.words[1] as u16
    }

    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub fn protocol(&self) -> u8 {
        (self.words[1] >> 32) as u8
    }

    /// Where the packet came from.
    pub fn remote(&self) -> SocketAddr {
        self.address(2, ((self.words[4] >> 32) as u16).swap_bytes())
    }

    /// Where the packet goes to.
    pub fn local(&self) -> SocketAddr {
        self.address(5, (self.words[7] >> 32) as u16)
    }

    /// The whole context in words of eight bytes, as it lies in memory.
    #[inline]
    pub fn words(&self) -> [u64; CONTEXT_SIZE / 8] {
        self.words
    }

    /// `size` bytes at an offset that is a multiple of `size`.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, size: usize) -> Option<u64> {
        let word = self.words.get(offset / 8)? >> (offset % 8 * 8);
        Some(word & (u64::MAX >> (64 - size * 8)))
    }

    /// A context of nothing.
    pub(crate) const NONE: SkLookupContext = SkLookupContext { words: [0; CONTEXT_SIZE / 8] };

    /// Sets what programs read as `sk`: a compiled program reads the field itself.
    #[inline]
    pub(crate) fn select(&mut self, address: u64) {
        self.words[0] = address;
    }

    /// The address of the side that begins at this word.
    fn address(&self, word: usize, port: u16) -> SocketAddr {
        let words = &self.words[word..word + 3];
        let [ip4, first] = [words[0] as u32, (words[0] >> 32) as u32];
        if self.family() == AF_INET {
            return SocketAddr::from((Ipv4Addr::from(ip4.to_le_bytes()), port));
        }
        let parts = [first, words[1] as u32, (words[1] >> 32) as u32, words[2] as u32];
        let mut octets = [0; 16];
        for (bytes, part) in octets.chunks_mut(4).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        SocketAddr::from((Ipv6Addr::from(octets), port))
    }
}

/// `SK_PASS` or `SK_DROP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Go on with the selected socket, or with the ordinary lookup where there is none.
    Pass,
    /// Refuse the packet, as if no socket were there.
    Drop,
}

/// What one program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramResult {
    /// It returned `SK_PASS`.
    Pass,
    /// It returned `SK_DROP`.
    Drop,
    /// It misbehaved; counted as `SK_DROP`, its selection discarded.
    Fault(Fault),
}

/// What all programs together did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkLookupOutcome {
    /// What to do with the packet.
    pub verdict: Verdict,
    /// The selected socket; `None` goes on with the ordinary lookup, or is a drop.
    pub selected: Option<SocketId>,
    /// The selection asked to leave the socket's reuseport group alone.
    pub no_reuseport: bool,
    /// What all this depended on.
    pub inputs: Inputs,
}

/// The socket that a program, or all before it, selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) socket: Option<SocketId>,
    pub(crate) no_reuseport: bool,
}

/// Runs every program in order, and combines them as the kernel does: the last selection of a
/// program that passed wins; one of them beats any number of drops; else one drop drops.
///
/// `each` is told each program's index and result.
pub fn run_sk_lookup<H: Host>(
    programs: &[Arc<Program>],
    context: &mut SkLookupContext,
    host: &mut H,
    machine: &mut Machine,
    each: &mut dyn FnMut(usize, ProgramResult),
) -> SkLookupOutcome {
    machine.forget_inputs();
    let mut committed = Selection::default();
    let mut all_passed = true;
    for (index, program) in programs.iter().enumerate() {
        let mut selection = committed;
        let returned = engine::run(program, context, &mut selection, host, machine);
        let result = match returned {
            Ok(SK_PASS) => ProgramResult::Pass,
            Ok(SK_DROP) => ProgramResult::Drop,
            Ok(value) => ProgramResult::Fault(Fault { pc: 0, kind: FaultKind::Return(value) }),
            Err(fault) => ProgramResult::Fault(fault),
        };
        match result {
            ProgramResult::Pass if selection.socket.is_some() => committed = selection,
            ProgramResult::Pass => {}
            ProgramResult::Drop | ProgramResult::Fault(_) => all_passed = false,
        }
        each(index, result);
    }
    let passed = all_passed || committed.socket.is_some();
    SkLookupOutcome {
        verdict: if passed { Verdict::Pass } else { Verdict::Drop },
        selected: committed.socket,
        no_reuseport: committed.no_reuseport,
        inputs: machine.inputs,
    }
}
