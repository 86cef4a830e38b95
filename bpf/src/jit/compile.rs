//! A program's functions through Cranelift, and put together into one piece of code.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    AbiParam, ExternalName, Function, Signature, UserFuncName, types::I64,
};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable, Flags, SetError};
use cranelift_codegen::{Context, FinalizedRelocTarget};
use cranelift_frontend::FunctionBuilderContext;

use super::facts::Facts;
use super::proof::Proof;
use super::{JitError, function};

/// Functions begin at multiples of this many bytes.
const ALIGNMENT: usize = 16;

/// Which processor code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one, with what it can.
    Host,
    /// Any arm64, where the code generator was built with it.
    Arm64,
}

/// Machine code for a processor, not to be run: for tests and listings.
///
/// # Errors
/// [`JitError`].
pub fn compile_for(proof: &Proof<'_>, target: Target) -> Result<Vec<u8>, JitError> {
    Ok(compile(proof, &Facts::of(proof), target)?.code)
}

/// Code that runs wherever it is put.
pub(super) struct Image {
    pub(super) code: Vec<u8>,
    /// Where its C function is that enters the program.
    pub(super) entry: usize,
}

/// A call to be aimed once all functions have their places.
struct Call {
    at: usize,
    kind: Reloc,
    addend: i64,
    function: usize,
}

pub(super) fn compile(proof: &Proof<'_>, facts: &Facts, target: Target) -> Result<Image, JitError> {
    let isa = processor(target, facts.tail_calls)?;
    let mut code = Vec::new();
    let mut starts = Vec::new();
    let mut calls = Vec::new();
    let mut context = Context::new();
    let mut builder = FunctionBuilderContext::new();
    for index in 0..=facts.functions.len() {
        context.clear();
        let span = facts.functions.get(index).copied();
        match span {
            Some(_) => {
                context.func = named(index, inner_signature(index));
                function::build(&mut context.func, &mut builder, &*isa, proof, facts, index);
            }
            None => {
                context.func = named(index, entry_signature(&*isa));
                function::build_entry(&mut context.func, &mut builder, &*isa);
            }
        }
        code.resize(code.len().next_multiple_of(ALIGNMENT), 0);
        starts.push(code.len());
        let (start, end) = span.map_or((0, 0), |span| (span.start, span.end));
        append(&mut context, &*isa, &mut code, &mut calls).map_err(|reason| JitError::Code {
            start,
            end,
            reason,
        })?;
    }
    for call in &calls {
        aim(&mut code, call, starts[call.function]);
    }
    let entry = starts[facts.functions.len()];
    Ok(Image { code, entry })
}

/// How functions of a program call each other: the run, the frame pointer, then r1–r5 (of the
/// program itself r1 and r2). They return r0, and whether the run has ended in a fault.
pub(super) fn inner_signature(index: usize) -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    let arguments = if index == 0 { 2 } else { 5 };
    signature.params.resize(2 + arguments, AbiParam::new(I64));
    signature.returns.resize(2, AbiParam::new(I64));
    signature
}

/// How the program is entered: the run, the frame pointer, r1, r2.
fn entry_signature(isa: &dyn isa::TargetIsa) -> Signature {
    let mut signature = Signature::new(isa.default_call_conv());
    signature.params.resize(4, AbiParam::new(I64));
    signature.returns.push(AbiParam::new(I64));
    signature
}

fn named(index: usize, signature: Signature) -> Function {
    Function::with_name_signature(UserFuncName::user(0, index as u32), signature)
}

fn processor(target: Target, tail_calls: bool) -> Result<OwnedTargetIsa, JitError> {
    let failed = |error: &dyn std::fmt::Display| JitError::Processor(error.to_string());
    let builder = match target {
        Target::Host => cranelift_native::builder().map_err(|error| failed(&error))?,
        Target::Arm64 => {
            isa::lookup_by_name("aarch64-unknown-linux-gnu").map_err(|error| failed(&error))?
        }
    };
    let flags = flags(tail_calls).map_err(|error| failed(&error))?;
    builder.finish(flags).map_err(|error| failed(&error))
}

fn flags(tail_calls: bool) -> Result<Flags, SetError> {
    let mut flags = settings::builder();
    flags.set("opt_level", "speed")?;
    // What Cranelift's tail calls are made with.
    flags.set("preserve_frame_pointers", if tail_calls { "true" } else { "false" })?;
    flags.set("unwind_info", "false")?;
    // Other workers change values of maps: each load of a program is one load.
    flags.set("enable_alias_analysis", "false")?;
    flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    Ok(Flags::new(flags))
}

/// Compiles the context's function and appends its code.
fn append(
    context: &mut Context,
    isa: &dyn isa::TargetIsa,
    code: &mut Vec<u8>,
    calls: &mut Vec<Call>,
) -> Result<(), String> {
    let start = code.len();
    let mut control = ControlPlane::default();
    let compiled = context.compile(isa, &mut control).map_err(|error| error.inner.to_string())?;
    assert!(ALIGNMENT.is_multiple_of(compiled.buffer.alignment as usize), "functions are aligned");
    code.extend_from_slice(compiled.buffer.data());
    let relocations = compiled.buffer.relocs().to_vec();
    for relocation in relocations {
        let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = relocation.target else {
            return Err(format!("a call of {:?}", relocation.target));
        };
        let function = context.func.params.user_named_funcs()[name].index as usize;
        let at = start + relocation.offset as usize;
        calls.push(Call { at, kind: relocation.kind, addend: relocation.addend, function });
    }
    Ok(())
}

/// Writes the distance to a function into a call.
fn aim(code: &mut [u8], call: &Call, to: usize) {
    let field = &mut code[call.at..call.at + 4];
    let mut word = [0; 4];
    word.copy_from_slice(field);
    let distance = to as i64 + call.addend - call.at as i64;
    let word = match call.kind {
        Reloc::X86CallPCRel4 => i32::try_from(distance).ok().map(|distance| distance as u32),
        Reloc::Arm64Call => Some(u32::from_le_bytes(word) | (distance >> 2) as u32 & 0x03ff_ffff),
        _ => None,
    };
    let word = word.expect("calls within the code are of these kinds and distances");
    field.copy_from_slice(&word.to_le_bytes());
}
