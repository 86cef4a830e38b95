//! Arithmetic and comparisons as Cranelift's. What each does is said by the interpreter.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use cranelift_frontend::FunctionBuilder;

use crate::insn::Code;

/// An operation of two operands. `constant` is the second one where it is known.
pub(super) fn operation(
    b: &mut FunctionBuilder<'_>,
    code: Code,
    left: Value,
    right: Value,
    constant: Option<u64>,
) -> Value {
    use Code::*;
    let wide = code <= Movsx64From32;
    match code {
        Mov64 => return right,
        Movsx64From8 => return extended(b, right, I8, I64),
        Movsx64From16 => return extended(b, right, I16, I64),
        Movsx64From32 => return extended(b, right, I32, I64),
        Le16 | Le32 | Le64 | Be16 | Be32 | Be64 => return byte_order(b, code, left),
        _ => {}
    }
    if wide {
        return arithmetic(b, code, I64, left, right, constant.map(|value| value as i64));
    }
    let (left, right) = (b.ins().ireduce(I32, left), b.ins().ireduce(I32, right));
    let constant = constant.map(|value| i64::from(value as i32));
    let result = match code {
        Mov32 => right,
        Movsx32From8 => extended(b, right, I8, I32),
        Movsx32From16 => extended(b, right, I16, I32),
        _ => arithmetic(b, code, I32, left, right, constant),
    };
    b.ins().uextend(I64, result)
}

/// Is a jump taken?
pub(super) fn condition(
    b: &mut FunctionBuilder<'_>,
    code: Code,
    left: Value,
    right: Value,
) -> Value {
    use Code::*;
    let (left, right) = if code >= Jeq32 {
        (b.ins().ireduce(I32, left), b.ins().ireduce(I32, right))
    } else {
        (left, right)
    };
    let order = match code {
        Jeq64 | Jeq32 => IntCC::Equal,
        Jne64 | Jne32 => IntCC::NotEqual,
        Jgt64 | Jgt32 => IntCC::UnsignedGreaterThan,
        Jge64 | Jge32 => IntCC::UnsignedGreaterThanOrEqual,
        Jlt64 | Jlt32 => IntCC::UnsignedLessThan,
        Jle64 | Jle32 => IntCC::UnsignedLessThanOrEqual,
        Jsgt64 | Jsgt32 => IntCC::SignedGreaterThan,
        Jsge64 | Jsge32 => IntCC::SignedGreaterThanOrEqual,
        Jslt64 | Jslt32 => IntCC::SignedLessThan,
        Jsle64 | Jsle32 => IntCC::SignedLessThanOrEqual,
        // What is left is Jset, in both widths.
        _ => return b.ins().band(left, right),
    };
    b.ins().icmp(order, left, right)
}

fn arithmetic(
    b: &mut FunctionBuilder<'_>,
    code: Code,
    width: Type,
    left: Value,
    right: Value,
    constant: Option<i64>,
) -> Value {
    use Code::*;
    match code {
        Add64 | Add32 => b.ins().iadd(left, right),
        Sub64 | Sub32 => b.ins().isub(left, right),
        Mul64 | Mul32 => b.ins().imul(left, right),
        Or64 | Or32 => b.ins().bor(left, right),
        And64 | And32 => b.ins().band(left, right),
        Xor64 | Xor32 => b.ins().bxor(left, right),
        // Cranelift masks the distance of shifts as BPF does.
        Lsh64 | Lsh32 => b.ins().ishl(left, right),
        Rsh64 | Rsh32 => b.ins().ushr(left, right),
        Arsh64 | Arsh32 => b.ins().sshr(left, right),
        Neg64 | Neg32 => b.ins().ineg(left),
        _ => division(b, code, width, left, right, constant),
    }
}

/// Division by zero gives 0, modulo zero the dividend; the smallest number by -1 is itself, or 0.
fn division(
    b: &mut FunctionBuilder<'_>,
    code: Code,
    width: Type,
    left: Value,
    right: Value,
    constant: Option<i64>,
) -> Value {
    use Code::*;
    let signed = matches!(code, Sdiv64 | Sdiv32 | Smod64 | Smod32);
    let modulo = matches!(code, Mod64 | Mod32 | Smod64 | Smod32);
    let divide = |b: &mut FunctionBuilder<'_>, divisor| match (signed, modulo) {
        (false, false) => b.ins().udiv(left, divisor),
        (false, true) => b.ins().urem(left, divisor),
        (true, false) => b.ins().sdiv(left, divisor),
        (true, true) => b.ins().srem(left, divisor),
    };
    if constant.is_some_and(|constant| constant != 0 && constant != -1) {
        return divide(b, right);
    }
    let (zero, one) = (b.ins().iconst(width, 0), b.ins().iconst(width, 1));
    let by_zero = b.ins().icmp(IntCC::Equal, right, zero);
    let all_ones = match width {
        I64 => b.ins().iconst(I64, -1),
        _ => b.ins().iconst(I32, i64::from(u32::MAX)),
    };
    let by_minus_one = b.ins().icmp(IntCC::Equal, right, all_ones);
    // No division that the machine refuses is ever executed.
    let refused = if signed { b.ins().bor(by_zero, by_minus_one) } else { by_zero };
    let divisor = b.ins().select(refused, one, right);
    let quotient = divide(b, divisor);
    let quotient = if signed {
        let negated = if modulo { zero } else { b.ins().ineg(left) };
        b.ins().select(by_minus_one, negated, quotient)
    } else {
        quotient
    };
    let without = if modulo { left } else { zero };
    b.ins().select(by_zero, without, quotient)
}

fn byte_order(b: &mut FunctionBuilder<'_>, code: Code, value: Value) -> Value {
    let (width, swaps) = match code {
        Code::Le64 => return value,
        Code::Be64 => return b.ins().bswap(value),
        Code::Le16 => (I16, false),
        Code::Le32 => (I32, false),
        Code::Be16 => (I16, true),
        // What is left is Be32.
        _ => (I32, true),
    };
    let part = b.ins().ireduce(width, value);
    let part = if swaps { b.ins().bswap(part) } else { part };
    b.ins().uextend(I64, part)
}

fn extended(b: &mut FunctionBuilder<'_>, value: Value, from: Type, to: Type) -> Value {
    let part = b.ins().ireduce(from, value);
    b.ins().sextend(to, part)
}
