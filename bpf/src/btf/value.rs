//! Values as text by their types, as bpftool prints them (tools/bpf/bpftool/btf_dumper.c).

use std::fmt::Write as _;

use super::types::{Array, Composite, Enumeration, Int, Kind};
use super::{Btf, MAX_DEPTH};

/// The most values in a value. Types without a size could otherwise ask for any number.
const MAX_VALUES: usize = 1 << 20;

/// How values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueStyle {
    /// JSON in one line, as `bpftool -j`.
    #[default]
    Json,
    /// JSON over several lines, pointers and bitfields in base 16 without quotes, as `bpftool`.
    Text,
}

/// Why a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The type is not there, has no values, or is nested too deeply.
    #[error("type {0} has no values that can be written")]
    Type(u32),
    /// Fewer bytes than the type has.
    #[error("the value ends before its type {0} does")]
    Short(u32),
    /// Too many values in it.
    #[error("more than a million values in one")]
    Large,
}

impl Btf {
    /// A value of a type as text.
    ///
    /// # Errors
    /// The first part of the type that has no values, or the first byte that is missing.
    pub fn value(&self, id: u32, data: &[u8], style: ValueStyle) -> Result<String, ValueError> {
        let mut writer =
            Writer { btf: self, style, text: String::new(), indent: 0, left: MAX_VALUES };
        writer.value(id, data, 0)?;
        Ok(writer.text)
    }
}

struct Writer<'a> {
    btf: &'a Btf,
    style: ValueStyle,
    text: String,
    indent: usize,
    left: usize,
}

impl Writer<'_> {
    fn value(&mut self, id: u32, data: &[u8], depth: usize) -> Result<(), ValueError> {
        self.left = self.left.checked_sub(1).ok_or(ValueError::Large)?;
        let unknown = ValueError::Type(id);
        if depth > MAX_DEPTH {
            return Err(unknown);
        }
        let btf = self.btf;
        let id = btf.resolve_id(id).ok_or(unknown)?;
        match btf.kind(id).ok_or(unknown)? {
            Kind::Int(Int { size: 0, .. }) => return Err(unknown),
            Kind::Int(int) => self.int(*int, 0, int.bits, bytes(data, int.size, id)?),
            Kind::Enum(of) => self.enumerator(of, bytes(data, of.size, id)?),
            Kind::Pointer(_) => {
                let value = number(bytes(data, super::POINTER, id)?);
                _ = match self.style {
                    ValueStyle::Json => write!(self.text, "{value}"),
                    ValueStyle::Text if value == 0 => write!(self.text, "(nil)"),
                    ValueStyle::Text => write!(self.text, "{value:#x}"),
                };
            }
            Kind::Float(size) => self.float(bytes(data, *size, id)?).ok_or(unknown)?,
            Kind::Struct(of) | Kind::Union(of) => self.composite(id, of, data, depth)?,
            Kind::Array(of) => self.array(id, *of, data, depth)?,
            Kind::Variable { type_id, .. } => {
                self.open('{');
                self.key(btf.type_name(id), true);
                self.value(*type_id, data, depth + 1)?;
                self.close('}', false);
            }
            Kind::Section(of) => {
                self.open('{');
                self.key(btf.type_name(id), true);
                self.open('[');
                for (i, variable) in of.variables.iter().enumerate() {
                    self.item(i == 0);
                    let data = data.get(variable.offset as usize..).ok_or(ValueError::Short(id))?;
                    self.value(variable.type_id, data, depth + 1)?;
                }
                self.close(']', of.variables.is_empty());
                self.close('}', false);
            }
            _ => return Err(unknown),
        }
        Ok(())
    }

    fn int(&mut self, int: Int, bit_offset: u32, bits: u8, data: &[u8]) {
        let from = bit_offset + u32::from(int.offset);
        let wide = number(data);
        if from != 0 || !bits.is_multiple_of(8) || data.len() > 8 {
            return self.bits(data, from, bits);
        }
        let text = &mut self.text;
        let shift = 64_u32.saturating_sub(8 * data.len() as u32);
        let signed = (wide << shift) as i64 >> shift;
        _ = match int.encoding {
            Int::SIGNED => write!(text, "{signed}"),
            Int::BOOL => write!(text, "{}", wide & 0xff != 0),
            Int::CHAR => match (wide as u8, self.style) {
                (byte @ 0x20..0x7f, _) => {
                    string(text, &[byte]);
                    Ok(())
                }
                (byte, ValueStyle::Json) => write!(text, "\"\\u00{byte:02x}\""),
                (byte, ValueStyle::Text) => write!(text, "{byte:#x}"),
            },
            _ => write!(text, "{wide}"),
        };
    }

    /// Bitfields and wide integers are in base 16.
    fn bits(&mut self, data: &[u8], from: u32, bits: u8) {
        let mut value = data.iter().take(32).rev().fold((0_u128, 0_u128), |(high, low), byte| {
            (high << 8 | low >> 120, low << 8 | u128::from(*byte))
        });
        let from = from.min(127);
        value.1 = value.1 >> from | if from == 0 { 0 } else { value.0 << (128 - from) };
        let mask = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
        let value = value.1 & mask;
        _ = match self.style {
            ValueStyle::Json => write!(self.text, "\"{value:#x}\""),
            ValueStyle::Text => write!(self.text, "{value:#x}"),
        };
    }

    fn float(&mut self, data: &[u8]) -> Option<()> {
        let value = match data.len() {
            4 => f64::from(f32::from_le_bytes(*data.first_chunk()?)),
            8 => f64::from_le_bytes(*data.first_chunk()?),
            _ => return None,
        };
        // JSON has no infinities.
        let quote = if value.is_finite() { "" } else { "\"" };
        write!(self.text, "{quote}{value}{quote}").ok()
    }

    fn enumerator(&mut self, of: &Enumeration, data: &[u8]) {
        let shift = 64 - 8 * data.len().clamp(1, 8) as u32;
        let value = (number(data) << shift) as i64 >> shift;
        match of.enumerators.iter().find(|one| one.value == value) {
            Some(one) => string(&mut self.text, self.btf.name(one.name).as_bytes()),
            None => _ = write!(self.text, "{value}"),
        }
    }

    fn composite(
        &mut self,
        id: u32,
        of: &Composite,
        data: &[u8],
        depth: usize,
    ) -> Result<(), ValueError> {
        let btf = self.btf;
        let data = bytes(data, of.size, id)?;
        self.open('{');
        for (i, member) in of.members.iter().enumerate() {
            self.key(btf.name(member.name), i == 0);
            let at = (member.bit_offset / 8) as usize;
            let data = data.get(at..).ok_or(ValueError::Short(id))?;
            if member.bit_size != 0 {
                let from = member.bit_offset % 8;
                let length = (from + u32::from(member.bit_size)).div_ceil(8);
                self.left = self.left.checked_sub(1).ok_or(ValueError::Large)?;
                self.bits(bytes(data, length, id)?, from, member.bit_size);
            } else {
                self.value(member.type_id, data, depth + 1)?;
            }
        }
        self.close('}', of.members.is_empty());
        Ok(())
    }

    fn array(&mut self, id: u32, of: Array, data: &[u8], depth: usize) -> Result<(), ValueError> {
        let size = self.btf.size(of.element).ok_or(ValueError::Type(id))?;
        if let Some(text) = self.text_of(of, data) {
            string(&mut self.text, text);
            return Ok(());
        }
        self.open('[');
        for i in 0..of.count {
            self.item(i == 0);
            let at = i as usize * size as usize;
            self.value(of.element, data.get(at..).ok_or(ValueError::Short(id))?, depth + 1)?;
        }
        self.close(']', of.count == 0);
        Ok(())
    }

    /// Of an array of `char` that holds text up to a NUL, that text.
    fn text_of<'d>(&self, of: Array, data: &'d [u8]) -> Option<&'d [u8]> {
        let mut id = of.element;
        for _ in 0..MAX_DEPTH {
            match self.btf.kind(id)?.qualified() {
                Some(to) => id = to,
                None => break,
            }
        }
        let Kind::Int(int) = self.btf.kind(id)? else { return None };
        let is_char = int.encoding == Int::CHAR || self.btf.type_name(id) == "char";
        if int.size != 1 || !is_char {
            return None;
        }
        let data = data.get(..of.count as usize)?;
        let text = &data[..data.iter().position(|byte| *byte == 0)?];
        text.iter().all(|byte| (0x20..0x7f).contains(byte)).then_some(text)
    }

    fn open(&mut self, bracket: char) {
        self.text.push(bracket);
        self.indent += 1;
    }

    fn close(&mut self, bracket: char, is_empty: bool) {
        self.indent -= 1;
        if !is_empty {
            self.line();
        }
        self.text.push(bracket);
    }

    fn item(&mut self, is_first: bool) {
        if !is_first {
            self.text.push(',');
        }
        self.line();
    }

    fn key(&mut self, name: &str, is_first: bool) {
        self.item(is_first);
        string(&mut self.text, name.as_bytes());
        self.text.push_str(if self.style == ValueStyle::Text { ": " } else { ":" });
    }

    fn line(&mut self) {
        if self.style == ValueStyle::Text {
            _ = write!(self.text, "\n{:1$}", "", 4 * self.indent);
        }
    }
}

fn bytes(data: &[u8], size: u32, id: u32) -> Result<&[u8], ValueError> {
    data.get(..size as usize).ok_or(ValueError::Short(id))
}

/// The first eight bytes.
fn number(data: &[u8]) -> u64 {
    data.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn string(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', *byte as char]),
            0..0x20 | 0x7f.. => _ = write!(text, "\\u00{byte:02x}"),
            _ => text.push(*byte as char),
        }
    }
    text.push('"');
}
