//! Calls of helpers: as code, as a direct call, or through the interpreter's helpers.

use std::mem::offset_of;
use std::sync::Arc;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Value};

use super::facts::map_of_call;
use super::function::Work;
use super::key;
use super::run::{self, Calls, Running};
use crate::code::Op;
use crate::helper::HelperId;
use crate::hook::ProgramType;
use crate::map::{ArrayLayout, Map, MapType, flags};

/// Calls a helper; its result is in r0, and r1–r5 are gone.
pub(super) fn helper(work: &mut Work<'_, '_>, op: Op, at: usize) {
    let id = HelperId(op.imm as u32);
    let result = match direct(work, id, at) {
        Some(result) => result,
        None => {
            let number = work.b.ins().iconst(I64, i64::from(id.0));
            checked(work, number, at)
        }
    };
    work.set_result(result);
}

/// Calls the helper whose number is in a register.
pub(super) fn by_register(work: &mut Work<'_, '_>, op: Op, at: usize) {
    let number = work.register(op.dst);
    let result = checked(work, number, at);
    work.set_result(result);
}

/// A call that needs no check, if the helper is known to be called so.
fn direct(work: &mut Work<'_, '_>, id: HelperId, at: usize) -> Option<Value> {
    if work.program.hook().program_type == ProgramType::Bare {
        return None;
    }
    match id {
        HelperId::MAP_LOOKUP_ELEM => {
            let index = map_of_call(work.proof, work.block_start, at)?;
            let map = Arc::clone(work.program.maps.get(index)?);
            let readable = map.spec().flags & flags::WRONLY_PROG == 0;
            if readable { lookup(work, &map, at) } else { None }
        }
        HelperId::KTIME_GET_NS => Some(of_host(work, offset_of!(Calls, now))),
        HelperId::GET_PRANDOM_U32 => Some(of_host(work, offset_of!(Calls, random))),
        HelperId::GET_SMP_PROCESSOR_ID => Some(field(work, offset_of!(Running, cpu))),
        HelperId::SK_RELEASE => {
            let socket = work.register(1);
            let arguments = [work.run, socket];
            let faulted = call(work, run::release as *const () as u64, &arguments);
            work.unless_faulted(faulted);
            Some(work.b.ins().iconst(I64, 0))
        }
        HelperId::SK_ASSIGN => {
            let arguments = [work.run, work.register(2), work.register(3)];
            Some(call(work, run::assign as *const () as u64, &arguments))
        }
        _ => None,
    }
}

/// A lookup in a map that is known.
fn lookup(work: &mut Work<'_, '_>, map: &Map, at: usize) -> Option<Value> {
    let address = std::ptr::from_ref(map) as u64;
    let key_size = map.spec().key_size as usize;
    if let Some(layout) = map.array_layout() {
        return Some(array(work, layout));
    }
    match map.spec().map_type {
        MapType::SockMap | MapType::SockHash => {
            let key = key::address(work, at, key_size);
            let map = work.b.ins().iconst(I64, address as i64);
            let socket = call(work, run::find_socket as *const () as u64, &[map, key]);
            Some(held(work, socket, at))
        }
        _ => {
            let found = map.native_lookup()? as usize as u64;
            let key = key::address(work, at, key_size);
            let cpu = field(work, offset_of!(Running, cpu));
            let map = work.b.ins().iconst(I64, address as i64);
            Some(call(work, found, &[map, key, cpu]))
        }
    }
}

/// A lookup in an array: one comparison, one multiplication.
fn array(work: &mut Work<'_, '_>, layout: ArrayLayout) -> Value {
    let index = key::index(work);
    let entries = work.b.ins().iconst(I32, i64::from(layout.entries));
    let inside = work.b.ins().icmp(IntCC::UnsignedLessThan, index, entries);
    let index = work.b.ins().uextend(I64, index);
    let stride = work.b.ins().iconst(I64, layout.stride as i64);
    let within = work.b.ins().imul(index, stride);
    let base = work.b.ins().iconst(I64, layout.base as i64);
    let mut address = work.b.ins().iadd(base, within);
    if layout.cpu_stride > 0 && layout.cpus > 1 {
        let cpu = field(work, offset_of!(Running, cpu));
        let cpus = work.b.ins().iconst(I64, layout.cpus as i64);
        let cpu = work.b.ins().urem(cpu, cpus);
        let stride = work.b.ins().iconst(I64, layout.cpu_stride as i64);
        let values = work.b.ins().imul(cpu, stride);
        address = work.b.ins().iadd(address, values);
    }
    let null = work.b.ins().iconst(I64, 0);
    work.b.ins().select(inside, address, null)
}

/// The pointer to a socket that a map has (one more than its number), held; null for none.
fn held(work: &mut Work<'_, '_>, stored: Value, at: usize) -> Value {
    let (found, done) = (work.b.create_block(), work.b.create_block());
    let result = work.b.append_block_param(done, I64);
    let null = work.b.ins().iconst(I64, 0);
    work.b.ins().brif(stored, found, &[], done, &[null.into()]);
    work.b.switch_to_block(found);
    let site = work.b.ins().iconst(I64, at as i64);
    let hold = function(work, offset_of!(Calls, hold));
    let arguments = [work.run, stored, site];
    let block = call_address(work, hold, &arguments, 1)[0];
    let faulted = work.b.ins().icmp(IntCC::Equal, block, null);
    work.unless_faulted(faulted);
    work.b.ins().jump(done, &[block.into()]);
    work.b.switch_to_block(done);
    result
}

/// Through the interpreter's helper, which checks its arguments.
fn checked(work: &mut Work<'_, '_>, number: Value, at: usize) -> Value {
    let distance = work.b.ins().iconst(I64, 32);
    let above = work.b.ins().ishl(number, distance);
    let below = work.b.ins().iconst(I64, at as i64);
    let site = work.b.ins().bor(above, below);
    let trusted = MemFlagsData::trusted();
    work.b.ins().store(trusted, site, work.run, offset_of!(Running, site) as i32);
    let helper = function(work, offset_of!(Calls, helper));
    let mut arguments = vec![work.run];
    arguments.extend((1..=5).map(|number| work.register(number)));
    let results = call_address(work, helper, &arguments, 2);
    work.unless_faulted(results[1]);
    results[0]
}

/// The code of the program that a tail call goes to, or 0.
pub(super) fn next_program(work: &mut Work<'_, '_>, map: Value, index: Value) -> Value {
    let arguments = [work.run, map, index];
    call(work, run::next_program as *const () as u64, &arguments)
}

/// Says that this program runs again: a function of its own has gone on in another.
pub(super) fn this_program_again(work: &mut Work<'_, '_>) {
    let address = std::ptr::from_ref(work.program) as u64;
    let program = work.b.ins().iconst(I64, address as i64);
    let trusted = MemFlagsData::trusted();
    work.b.ins().store(trusted, program, work.run, offset_of!(Running, program) as i32);
}

/// What a host says of itself.
fn of_host(work: &mut Work<'_, '_>, offset: usize) -> Value {
    let function = function(work, offset);
    let run = work.run;
    call_address(work, function, &[run], 1)[0]
}

/// A function that depends on the host's type.
fn function(work: &mut Work<'_, '_>, offset: usize) -> Value {
    let calls = field(work, offset_of!(Running, calls));
    work.b.ins().load(I64, MemFlagsData::trusted(), calls, offset as i32)
}

fn field(work: &mut Work<'_, '_>, offset: usize) -> Value {
    work.b.ins().load(I64, MemFlagsData::trusted(), work.run, offset as i32)
}

fn call(work: &mut Work<'_, '_>, function: u64, arguments: &[Value]) -> Value {
    let function = work.b.ins().iconst(I64, function as i64);
    call_address(work, function, arguments, 1)[0]
}

/// Calls a C function.
fn call_address(
    work: &mut Work<'_, '_>,
    function: Value,
    arguments: &[Value],
    results: usize,
) -> Vec<Value> {
    let mut signature = Signature::new(work.isa.default_call_conv());
    signature.params.resize(arguments.len(), AbiParam::new(I64));
    signature.returns.resize(results, AbiParam::new(I64));
    let signature = work.b.import_signature(signature);
    let called = work.b.ins().call_indirect(signature, function, arguments);
    work.b.inst_results(called).to_vec()
}
