//! `bpf_trace_printk`: a format and at most three arguments (kernel/trace/bpf_trace.c; the format is
//! checked as `bpf_bprintf_prepare` in kernel/bpf/helpers.c does).

use std::fmt::Write;

use super::{HelperId, Host};
use crate::errno::Errno;
use crate::fault::FaultKind;
use crate::memory::Run;

/// The longest text (`BPF_TRACE_PRINTK_SIZE`).
pub(crate) const TEXT: usize = 1024;
/// The longest format that is read.
const MAX_FORMAT: usize = 512;
/// The longest `%s`.
const MAX_STRING: usize = 512;

/// One conversion: flags and width are kept, as far as they mean something.
#[derive(Clone, Copy, Default)]
struct Conversion {
    zero: bool,
    left: bool,
    width: usize,
    long: u8,
}

pub(super) fn trace_printk<H: Host>(
    run: &mut Run<'_, H>,
    args: [u64; 5],
) -> Result<u64, FaultKind> {
    let fault = |argument| FaultKind::Argument(HelperId::TRACE_PRINTK.0, argument);
    let size = usize::try_from(args[1]).map_err(|_| fault(2))?;
    if size == 0 || size > MAX_FORMAT {
        return Ok(Errno::EINVAL.as_return());
    }
    let mut scratch = [0; MAX_FORMAT];
    let mut format = [0; MAX_FORMAT];
    let bytes = run.bytes(args[0], size, &mut scratch).ok_or(fault(1))?;
    format[..size].copy_from_slice(bytes);
    let mut text = std::mem::take(&mut run.machine.text);
    text.clear();
    let written = print(run, &format[..size], &args[2..], &mut text);
    let returned = match written {
        Some(()) => {
            run.host.trace(text.trim_end_matches('\n'));
            text.len() as u64
        }
        None => Errno::EINVAL.as_return(),
    };
    run.machine.text = text;
    Ok(returned)
}

/// `None` for a format that the kernel refuses.
fn print<H: Host>(run: &Run<'_, H>, format: &[u8], args: &[u64], text: &mut String) -> Option<()> {
    let end = format.iter().position(|byte| *byte == 0)?;
    let mut rest = format[..end].iter().copied().peekable();
    let mut args = args.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            if !(byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
                return None;
            }
            push(text, byte.into());
            continue;
        }
        if rest.next_if_eq(&b'%').is_some() {
            push(text, '%');
            continue;
        }
        let mut conversion = Conversion::default();
        while let Some(flag) = rest.next_if(|flag| b"0-+ ".contains(flag)) {
            conversion.zero |= flag == b'0';
            conversion.left |= flag == b'-';
        }
        while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
            conversion.width = (conversion.width * 10 + usize::from(digit - b'0')).min(TEXT);
        }
        while rest.next_if_eq(&b'l').is_some() {
            conversion.long += 1;
        }
        let kind = rest.next()?;
        if kind == b'p' {
            // %pK, %px, %pks and their like: the letters say how; here a pointer is a number.
            let string = rest.next_if_eq(&b'k').or(rest.next_if_eq(&b'u'));
            let is_string = string.is_some() && rest.next_if_eq(&b's').is_some();
            while rest.next_if(u8::is_ascii_alphabetic).is_some() {}
            convert(run, conversion, if is_string { b's' } else { b'p' }, args.next()?, text)?;
        } else {
            convert(run, conversion, kind, args.next()?, text)?;
        }
    }
    Some(())
}

fn convert<H: Host>(
    run: &Run<'_, H>,
    conversion: Conversion,
    kind: u8,
    value: u64,
    text: &mut String,
) -> Option<()> {
    let unsigned = if conversion.long > 0 { value } else { u64::from(value as u32) };
    let signed = if conversion.long > 0 { value as i64 } else { i64::from(value as i32) };
    let start = text.len();
    // Writing to a String cannot fail.
    let _ = match kind {
        b'd' | b'i' => write!(text, "{signed}"),
        b'u' => write!(text, "{unsigned}"),
        b'x' => write!(text, "{unsigned:x}"),
        b'X' => write!(text, "{unsigned:X}"),
        b'o' => write!(text, "{unsigned:o}"),
        b'c' if conversion.long == 0 => text.write_char(char::from(value as u8)),
        b'p' => write!(text, "{value:016x}"),
        b's' if conversion.long == 0 => {
            string(run, value, text);
            Ok(())
        }
        _ => return None,
    };
    pad(conversion, start, text);
    text.truncate(text.floor_char_boundary(TEXT - 1));
    Some(())
}

/// Fills what was written from `start` on up to the width.
fn pad(conversion: Conversion, start: usize, text: &mut String) {
    let missing = conversion.width.saturating_sub(text.len() - start);
    for _ in 0..missing {
        if conversion.left {
            text.push(' ');
        } else if conversion.zero {
            let sign = usize::from(text[start..].starts_with('-'));
            text.insert(start + sign, '0');
        } else {
            text.insert(start, ' ');
        }
    }
}

/// A string in the program's memory; what cannot be read is empty.
fn string<H: Host>(run: &Run<'_, H>, address: u64, text: &mut String) {
    let mut scratch = [0];
    for at in 0..MAX_STRING as u64 {
        match run.bytes(address.wrapping_add(at), 1, &mut scratch) {
            Some(&[byte]) if byte != 0 => push(text, byte.into()),
            _ => return,
        }
    }
}

fn push(text: &mut String, letter: char) {
    if text.len() + letter.len_utf8() < TEXT {
        text.push(letter);
    }
}
