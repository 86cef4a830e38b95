//! Runs of compiled programs, and what compiled code calls.
//!
//! Compiled code is given a [`Running`] and hands it back to every function here. While it runs,
//! nobody refers to what is behind the pointers; each function makes references of its own, which
//! end with it.

use super::{Compiled, pointers};
use crate::fault::{Fault, FaultKind};
use crate::helper::{self, HelperId, Host, SocketId};
use crate::hook::sk_lookup::{Selection, SkLookupContext};
use crate::interp;
use crate::machine::{FRAME, FRAMES, Machine};
use crate::map::Map;
use crate::memory::Run;
use crate::program::Program;

/// A run, as compiled code has it.
#[repr(C)]
pub(super) struct Running {
    /// What depends on the host's type.
    pub(super) calls: *const Calls,
    /// The host's processor number.
    pub(super) cpu: u64,
    /// The call under way: the helper above, the instruction below (32 bits each).
    pub(super) site: u64,
    host: *mut (),
    pub(super) program: *const Program,
    context: *mut SkLookupContext,
    selection: *mut Selection,
    machine: *mut Machine,
    memory: *mut [u8],
    reads_sockets: bool,
    fault: Option<Fault>,
}

/// The functions that depend on the host's type.
#[repr(C)]
pub(super) struct Calls {
    pub(super) helper: extern "C" fn(&mut Running, u64, u64, u64, u64, u64) -> Returned,
    pub(super) hold: extern "C" fn(&mut Running, u64, u64) -> u64,
    pub(super) now: extern "C" fn(&mut Running) -> u64,
    pub(super) random: extern "C" fn(&mut Running) -> u64,
}

/// A value for r0, and whether (1) the run is over.
#[repr(C)]
pub(super) struct Returned {
    value: u64,
    faulted: u64,
}

/// The entry of compiled code: the run, the first frame's end, r1, r2.
type Entry = extern "C" fn(*mut Running, u64, u64, u64) -> u64;

/// Runs a compiled program to its exit; the value of r0.
#[inline]
pub(crate) fn run<H: Host>(
    code: &Compiled,
    program: &Program,
    context: &mut SkLookupContext,
    selection: &mut Selection,
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    let selected = selection.socket.and_then(|socket| {
        let slot = machine.sockets_of_a_new_run().slot(socket)?;
        Some(machine.sockets.block(slot, code.facts.reads_sockets, |socket| host.socket(socket)))
    });
    if selected.is_none() {
        machine.sockets_of_a_new_run();
    }
    context.select(selected.unwrap_or(0));
    let address = std::ptr::from_mut(context) as u64;
    let result = enter(code, program, context, selection, host, machine, &mut [], [address, 0]);
    context.select(0);
    result
}

/// The same for a program without a hook.
pub(crate) fn run_bare<H: Host>(
    code: &Compiled,
    program: &Program,
    memory: &mut [u8],
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    machine.sockets_of_a_new_run();
    let (mut context, mut selection) = (SkLookupContext::NONE, Selection::default());
    let arguments = [memory.as_mut_ptr() as u64, memory.len() as u64];
    enter(code, program, &mut context, &mut selection, host, machine, memory, arguments)
}

#[allow(clippy::too_many_arguments, reason = "all that a run has, once")]
#[inline]
fn enter<H: Host>(
    code: &Compiled,
    program: &Program,
    context: &mut SkLookupContext,
    selection: &mut Selection,
    host: &mut H,
    machine: &mut Machine,
    memory: &mut [u8],
    arguments: [u64; 2],
) -> Result<u64, Fault> {
    let inputs = &mut machine.inputs;
    inputs.context_bytes |= code.facts.context_bytes;
    inputs.repeatable &=
        code.facts.repeatable && !program.maps.iter().any(|map| map.is_stored_to());
    // Helpers may be given addresses in every frame.
    machine.depth = FRAMES - 1;
    // Frames are at most as many as functions.
    machine.dirty.iter_mut().take(code.facts.functions.len()).for_each(|dirty| *dirty = 0);
    // Values that are taken out of maps meanwhile stay as they are until this ends.
    let _pinned = code.facts.holds_values.then(crossbeam_epoch::pin);
    let frame = machine.stack.as_mut_ptr() as u64 + FRAME as u64;
    let mut running = Running {
        calls: const { &calls::<H>() },
        cpu: host.cpu().into(),
        site: 0,
        host: std::ptr::from_mut(host).cast(),
        program,
        context,
        selection,
        machine,
        memory,
        reads_sockets: code.facts.reads_sockets,
        fault: None,
    };
    let address = &code.code()[code.entry];
    // SAFETY: there is the code of a function of this type, made of a program that was proved to do
    // only what it may with what it is given here; `code` keeps its pages. Everything in `running`
    // outlives the call, and nobody else uses it meanwhile.
    let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
    let result = entry(&raw mut running, frame, arguments[0], arguments[1]);
    let fault = running.fault;
    // SAFETY: from a reference of this function's caller, who lent it for longer than this.
    let machine = unsafe { &mut *running.machine };
    match fault {
        Some(fault) => Err(fault),
        None if machine.sockets.any_held() => Err(Fault { pc: 0, kind: FaultKind::Unreleased }),
        None => Ok(result),
    }
}

const fn calls<H: Host>() -> Calls {
    Calls { helper: helper::<H>, hold: hold::<H>, now: now::<H>, random: random::<H> }
}

impl Running {
    /// The run as the interpreter's helpers have it.
    fn with<H: Host, T>(&mut self, work: impl FnOnce(&mut Run<'_, H>) -> T) -> T {
        // SAFETY: each pointer is from a reference that `enter` was lent for longer than the run;
        // they are to different things, of which nobody else has a reference while compiled code
        // waits for this call; `calls` made sure that the host is an `H`.
        #[allow(clippy::multiple_unsafe_ops_per_block, reason = "one reason for all")]
        let mut run = unsafe {
            Run {
                program: &*self.program,
                context: &*self.context,
                selection: &mut *self.selection,
                host: &mut *self.host.cast::<H>(),
                machine: &mut *self.machine,
                memory: &mut *self.memory,
                native: true,
            }
        };
        work(&mut run)
    }

    fn fault(&mut self, pc: u64, kind: FaultKind) {
        self.fault = Some(Fault { pc: pc as u32, kind });
    }
}

/// A helper by way of the interpreter's.
extern "C" fn helper<H: Host>(
    running: &mut Running,
    r1: u64,
    r2: u64,
    r3: u64,
    r4: u64,
    r5: u64,
) -> Returned {
    let (id, pc) = (HelperId((running.site >> 32) as u32), running.site & 0xffff_ffff);
    let called = running.with::<H, _>(|run| {
        let value = helper::call(run, id, [r1, r2, r3, r4, r5])?;
        let is_pointer = id == HelperId::MAP_LOOKUP_ELEM && !run.memory_only();
        Ok(if is_pointer { pointers::address(run, value) } else { value })
    });
    match called {
        Ok(value) => Returned { value, faulted: 0 },
        Err(kind) => {
            running.fault(pc, kind);
            Returned { value: 0, faulted: 1 }
        }
    }
}

/// Holds a socket that was found in a map; the address of its block, or 0 when the run is over.
extern "C" fn hold<H: Host>(running: &mut Running, stored: u64, pc: u64) -> u64 {
    let with_fields = running.reads_sockets;
    let held = running.with::<H, _>(|run| {
        let slot = run.machine.sockets.acquire(SocketId(stored.wrapping_sub(1)))?;
        let host = &*run.host;
        Some(run.machine.sockets.block(slot, with_fields, |socket| host.socket(socket)))
    });
    held.unwrap_or_else(|| {
        running.fault(pc, FaultKind::Sockets);
        0
    })
}

/// `bpf_ktime_get_ns`.
extern "C" fn now<H: Host>(running: &mut Running) -> u64 {
    running.with::<H, _>(|run| run.host.now_ns())
}

/// `bpf_get_prandom_u32`.
extern "C" fn random<H: Host>(running: &mut Running) -> u64 {
    running.with::<H, _>(|run| run.host.random().into())
}

/// One more than the number of the socket at a key, or 0.
pub(super) extern "C" fn find_socket(map: &Map, key: *const u8) -> u64 {
    map.lookup_socket(key_of(map, &key)).map_or(0, |socket| socket.0.wrapping_add(1))
}

/// The key at an address, for as long as the address is kept.
#[inline]
fn key_of<'a>(map: &Map, key: &'a *const u8) -> &'a [u8] {
    // SAFETY: only compiled code calls the functions above, with the address of a key of this map
    // in memory that only this run has (its stack, or a copy), which lives as long as the call.
    unsafe { std::slice::from_raw_parts(*key, map.spec().key_size as usize) }
}

/// `bpf_tail_call`: the code of the program at an index, which runs from now on, or 0.
pub(super) extern "C" fn next_program(running: &mut Running, map: &Map, index: u64) -> u64 {
    // SAFETY: as in `Running::with`.
    let machine = unsafe { &mut *running.machine };
    // SAFETY: as above.
    let program = unsafe { &*running.program };
    // The run is pinned already, since the program has a map that is no array of values.
    let guard = crossbeam_epoch::pin();
    let calls = machine.tail_calls;
    let next = interp::next_program(program, map, index, machine, &guard);
    let Some((next, code)) = next.and_then(|next| Some((next, next.compiled.get()?))) else {
        // A program that is not compiled cannot be jumped to.
        machine.tail_calls = calls;
        return 0;
    };
    machine.inputs.context_bytes |= code.facts.context_bytes;
    machine.dirty.fill(0);
    running.program = next;
    running.reads_sockets |= code.facts.reads_sockets;
    // The program itself comes first in its code.
    code.code().as_ptr() as u64
}

/// `bpf_sk_release`; 1 when the run is over.
pub(super) extern "C" fn release(running: &mut Running, socket: u64) -> u64 {
    // SAFETY: as in `Running::with`.
    let machine = unsafe { &mut *running.machine };
    let released =
        machine.sockets.slot_at(socket).is_some_and(|slot| machine.sockets.release(slot));
    if !released {
        running.fault(0, FaultKind::Release);
    }
    u64::from(!released)
}

/// `bpf_sk_assign` of a socket's block, or of null.
pub(super) extern "C" fn assign(running: &mut Running, socket: u64, flag: u64) -> u64 {
    // SAFETY: as in `Running::with`.
    let machine = unsafe { &mut *running.machine };
    // SAFETY: as above.
    let context = unsafe { &mut *running.context };
    // SAFETY: as above.
    let selection = unsafe { &mut *running.selection };
    let slot = machine.sockets.slot_at(socket);
    if slot.is_none() && socket != 0 {
        running.fault(0, FaultKind::Argument(HelperId::SK_ASSIGN.0, 2));
        return 0;
    }
    let chosen = slot.map(|slot| (machine.sockets.id(slot), machine.sockets.suitability(slot)));
    let assigned = helper::assign(context, selection, chosen, flag);
    if assigned.is_ok() {
        context.select(socket);
    }
    helper::status(assigned)
}
