//! What each helper does.

use super::{HelperId, Host, SocketFacts, SocketId};
use crate::errno::Errno;
use crate::fault::FaultKind;
use crate::hook::sk_lookup::{Selection, SkLookupContext};
use crate::map::{Map, flags};
use crate::memory::{self, Run};

/// The longest key that a program may have elsewhere than on its stack.
const MAX_KEY: usize = 512;

/// `BPF_SK_LOOKUP_F_REPLACE`.
const REPLACE: u64 = 1;
/// `BPF_SK_LOOKUP_F_NO_REUSEPORT`.
const NO_REUSEPORT: u64 = 2;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const AF_INET: u16 = 2;

/// All but time, chance, logs and changes to maps, which a second run would not repeat.
pub(crate) const REPEATABLE: [HelperId; 3] =
    [HelperId::MAP_LOOKUP_ELEM, HelperId::SK_RELEASE, HelperId::SK_ASSIGN];

type Returned = Result<u64, FaultKind>;

/// Calls a helper; the value for r0.
#[inline]
pub(crate) fn call<H: Host>(run: &mut Run<'_, H>, id: HelperId, args: [u64; 5]) -> Returned {
    run.machine.inputs.repeatable &= REPEATABLE.contains(&id);
    if run.memory_only() {
        return run.host.call(id, args).ok_or(FaultKind::Argument(id.0, 0));
    }
    match id {
        HelperId::MAP_LOOKUP_ELEM => map_lookup(run, args),
        HelperId::MAP_UPDATE_ELEM => map_update(run, args),
        HelperId::MAP_DELETE_ELEM => map_delete(run, args),
        HelperId::KTIME_GET_NS => Ok(run.host.now_ns()),
        HelperId::TRACE_PRINTK => super::trace::trace_printk(run, args),
        HelperId::GET_PRANDOM_U32 => Ok(run.host.random().into()),
        HelperId::GET_SMP_PROCESSOR_ID => Ok(run.host.cpu().into()),
        HelperId::SK_RELEASE => sk_release(run, args),
        HelperId::SK_ASSIGN => sk_assign(run, args),
        // The loader lets no other through.
        HelperId(number) => Err(FaultKind::Argument(number, 0)),
    }
}

#[inline]
fn map_lookup<H: Host>(run: &mut Run<'_, H>, args: [u64; 5]) -> Returned {
    let fault = |argument| FaultKind::Argument(HelperId::MAP_LOOKUP_ELEM.0, argument);
    let (index, map) = run.map(args[0]).ok_or(fault(1))?;
    if map.spec().flags & flags::WRONLY_PROG != 0 {
        return Err(fault(1));
    }
    run.machine.inputs.repeatable &= !map.lookup_changes() && !run.is_stored_to(args[1]);
    let cpu = run.host.cpu() as usize;
    if !map.spec().map_type.holds_sockets() {
        let offset = with_key(run, map, args[1], |key| map.find(key, cpu)).ok_or(fault(2))?;
        return Ok(offset.map_or(0, |offset| memory::map_value(index) + offset));
    }
    let found = with_key(run, map, args[1], |key| map.lookup_socket(key)).ok_or(fault(2))?;
    match found {
        None => Ok(0),
        Some(socket) => {
            let slot = run.machine.sockets.acquire(socket).ok_or(FaultKind::Sockets)?;
            Ok(memory::socket(slot))
        }
    }
}

fn map_update<H: Host>(run: &mut Run<'_, H>, args: [u64; 5]) -> Returned {
    let fault = |argument| FaultKind::Argument(HelperId::MAP_UPDATE_ELEM.0, argument);
    let (_, map) = writable_map(run, args[0]).ok_or(fault(1))?;
    let done = if map.spec().map_type.holds_sockets() {
        let (_, socket) = run.socket(args[2]).ok_or(fault(3))?;
        let suits = is_for_sockmap(run, socket);
        with_key(run, map, args[1], |key| match suits {
            true => map.insert_socket(key, socket, args[3]),
            false => Err(Errno::EOPNOTSUPP),
        })
    } else {
        let cpu = run.host.cpu() as usize;
        let size = map.spec().value_size as usize;
        let value = run.source(args[2], size).ok_or(fault(3))?;
        with_key(run, map, args[1], |key| map.insert(key, value, args[3], cpu))
    };
    Ok(status(done.ok_or(fault(2))?))
}

fn map_delete<H: Host>(run: &mut Run<'_, H>, args: [u64; 5]) -> Returned {
    let fault = |argument| FaultKind::Argument(HelperId::MAP_DELETE_ELEM.0, argument);
    let (_, map) = writable_map(run, args[0]).ok_or(fault(1))?;
    let done = with_key(run, map, args[1], |key| map.remove(key));
    Ok(status(done.ok_or(fault(2))?))
}

fn sk_release<H: Host>(run: &mut Run<'_, H>, args: [u64; 5]) -> Returned {
    let fault = FaultKind::Argument(HelperId::SK_RELEASE.0, 1);
    let (slot, _) = run.socket(args[0]).ok_or(fault)?;
    if run.machine.sockets.release(slot) { Ok(0) } else { Err(FaultKind::Release) }
}

/// `bpf_sk_lookup_assign` in net/core/filter.c, its checks in its order.
fn sk_assign<H: Host>(run: &mut Run<'_, H>, args: [u64; 5]) -> Returned {
    let fault = |argument| FaultKind::Argument(HelperId::SK_ASSIGN.0, argument);
    if !run.is_context(args[0]) {
        return Err(fault(1));
    }
    let socket = match args[1] {
        0 => None,
        pointer => Some(run.socket(pointer).ok_or(fault(2))?.1),
    };
    let socket =
        socket.map(|socket| (socket, run.host.socket(socket).as_ref().map(Suitability::of)));
    Ok(status(assign(run.context, run.selection, socket, args[2])))
}

/// What of a socket's facts says whether it may be selected.
#[derive(Clone, Copy)]
pub(crate) struct Suitability {
    family: u16,
    protocol: u8,
    state: u8,
    v6only: bool,
    refcounted: bool,
}

impl Suitability {
    #[inline]
    pub(crate) fn of(facts: &SocketFacts) -> Suitability {
        let SocketFacts { family, protocol, state, v6only, refcounted, .. } = *facts;
        Suitability { family, protocol, state, v6only, refcounted }
    }
}

/// Selects a socket with these facts (none once it is gone), or takes the selection back.
pub(crate) fn assign(
    context: &SkLookupContext,
    selection: &mut Selection,
    socket: Option<(SocketId, Option<Suitability>)>,
    flag: u64,
) -> Result<(), Errno> {
    if flag & !(REPLACE | NO_REUSEPORT) != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some((_, facts)) = socket {
        let facts = facts.ok_or(Errno::ESOCKTNOSUPPORT)?;
        let state_suits = match facts.protocol {
            TCP => facts.state == LISTEN,
            UDP => facts.state == CLOSE,
            _ => true,
        };
        if facts.refcounted || !state_suits {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        if facts.protocol != context.protocol() {
            return Err(Errno::EPROTOTYPE);
        }
        let is_narrow = facts.family == AF_INET || facts.v6only;
        if facts.family != context.family() && is_narrow {
            return Err(Errno::EAFNOSUPPORT);
        }
    }
    if selection.socket.is_some() && flag & REPLACE == 0 {
        return Err(Errno::EEXIST);
    }
    let no_reuseport = flag & NO_REUSEPORT != 0;
    *selection = Selection { socket: socket.map(|(socket, _)| socket), no_reuseport };
    Ok(())
}

/// `sock_map_sk_state_allowed` for the sockets that there are.
fn is_for_sockmap<H: Host>(run: &Run<'_, H>, socket: SocketId) -> bool {
    run.host.socket(socket).is_some_and(|facts| match facts.protocol {
        TCP => matches!(facts.state, ESTABLISHED | LISTEN),
        UDP => true,
        _ => false,
    })
}

fn writable_map<'a, H: Host>(run: &Run<'a, H>, handle: u64) -> Option<(usize, &'a Map)> {
    run.map(handle).filter(|(_, map)| map.spec().flags & flags::RDONLY_PROG == 0)
}

/// Calls `with` on the map's key at an address; `None` if the program may not read it.
#[inline]
fn with_key<H: Host, T>(
    run: &Run<'_, H>,
    map: &Map,
    address: u64,
    with: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    let size = map.spec().key_size as usize;
    if let Some(key) = run.on_stack(address, size) {
        return Some(with(key));
    }
    // Two sizes, since clearing room for the longest key would cost more than an ordinary lookup.
    let mut short = [0; 16];
    if size <= short.len() {
        return run.bytes(address, size, &mut short).map(with);
    }
    let mut long = [0; MAX_KEY];
    run.bytes(address, size, &mut long).map(with)
}

pub(crate) fn status(done: Result<(), Errno>) -> u64 {
    done.map_or_else(Errno::as_return, |()| 0)
}
