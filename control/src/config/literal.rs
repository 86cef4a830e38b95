//! Keys and values of maps as people write them, and as bytes.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use super::binding::{Binding, STEER_KEY_SIZE};
use super::prefix::Prefix;

/// A key or a value, before the map's sizes are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A number, in the machine's byte order.
    Integer(i128),
    /// `0x…`: the bytes as they stand in memory.
    Bytes(Vec<u8>),
    /// `a.b.c.d/len`: `struct bpf_lpm_trie_key` with the address as data.
    Prefix(Prefix),
    /// `udp,prefix,port`: the key of `steer.bpf.c`.
    Binding(Binding),
}

/// Why a literal cannot be written, or not in so many bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiteralError {
    /// None of the forms.
    #[error("`{0}` is not a number, 0x… bytes, an address prefix, or PROTOCOL,PREFIX,PORT")]
    Syntax(String),
    /// The number does not fit.
    #[error("{0} does not fit in {1} bytes")]
    Range(i128, usize),
    /// The size is not that of a number.
    #[error("a number cannot fill {0} bytes: write them as 0x…")]
    NotInteger(usize),
    /// Too few or too many bytes.
    #[error("{given} bytes given where the map has {size}")]
    Size {
        /// Bytes that the literal has.
        given: usize,
        /// Bytes that the map has.
        size: usize,
    },
}

/// Longest literal that is looked at: a key has 512 bytes at most, a value of a map that someone
/// writes by hand not much more.
const LONGEST: usize = 16 * 1024;

impl Literal {
    /// The bytes for a map that has `size` of them.
    ///
    /// # Errors
    /// When they are not as many.
    pub fn encode(&self, size: usize) -> Result<Vec<u8>, LiteralError> {
        let bytes = match self {
            Literal::Integer(value) => return encode_integer(*value, size),
            Literal::Bytes(bytes) => bytes.clone(),
            Literal::Prefix(prefix) => {
                let mut bytes = u32::from(prefix.length).to_ne_bytes().to_vec();
                match prefix.address {
                    IpAddr::V4(address) => bytes.extend(address.octets()),
                    IpAddr::V6(address) => bytes.extend(address.octets()),
                }
                bytes
            }
            Literal::Binding(binding) => binding.steer_key(),
        };
        match bytes.len() == size {
            true => Ok(bytes),
            false => Err(LiteralError::Size { given: bytes.len(), size }),
        }
    }

    /// How a key of a trie, or of another map, is best shown.
    pub fn decode(bytes: &[u8], trie: bool) -> Literal {
        if trie {
            return decode_trie(bytes).unwrap_or_else(|| Literal::Bytes(bytes.into()));
        }
        match *bytes {
            [a] => Literal::Integer(a.into()),
            [a, b] => Literal::Integer(u16::from_ne_bytes([a, b]).into()),
            [a, b, c, d] => Literal::Integer(u32::from_ne_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => {
                Literal::Integer(u64::from_ne_bytes([a, b, c, d, e, f, g, h]).into())
            }
            _ => Literal::Bytes(bytes.into()),
        }
    }
}

fn decode_trie(bytes: &[u8]) -> Option<Literal> {
    if bytes.len() == STEER_KEY_SIZE {
        return Binding::from_steer_key(bytes).map(Literal::Binding);
    }
    let (length, address) = bytes.split_first_chunk::<4>()?;
    let length = u8::try_from(u32::from_ne_bytes(*length)).ok()?;
    let (address, bits) = if let Ok(octets) = <[u8; 4]>::try_from(address) {
        (IpAddr::from(octets), 32)
    } else {
        (IpAddr::from(<[u8; 16]>::try_from(address).ok()?), 128)
    };
    (length <= bits).then_some(Literal::Prefix(Prefix { address, length }))
}

fn encode_integer(value: i128, size: usize) -> Result<Vec<u8>, LiteralError> {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(LiteralError::NotInteger(size));
    }
    let bits = size as u32 * 8;
    if value >= 1 << bits || value < -(1 << (bits - 1)) {
        return Err(LiteralError::Range(value, size));
    }
    let bytes = (value as u64).to_ne_bytes();
    let range = if cfg!(target_endian = "little") { 0..size } else { 8 - size..8 };
    Ok(bytes[range].to_vec())
}

impl FromStr for Literal {
    type Err = LiteralError;

    fn from_str(text: &str) -> Result<Literal, LiteralError> {
        let shown: String = text.chars().take(80).collect();
        let syntax = || LiteralError::Syntax(shown.clone());
        if text.len() > LONGEST {
            return Err(syntax());
        }
        if let Some(digits) = text.strip_prefix("0x") {
            return parse_hex(digits).map(Literal::Bytes).ok_or_else(syntax);
        }
        if let Ok(value) = text.parse::<i128>() {
            return Ok(Literal::Integer(value));
        }
        if let Ok(binding) = text.parse() {
            return Ok(Literal::Binding(binding));
        }
        text.parse().map(Literal::Prefix).map_err(|_| syntax())
    }
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|&c| c != ' ')
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Integer(value) => write!(f, "{value}"),
            Literal::Bytes(bytes) => {
                let mut text = String::from("0x");
                for byte in bytes {
                    write!(text, "{byte:02x}")?;
                }
                f.write_str(&text)
            }
            Literal::Prefix(prefix) => write!(f, "{prefix}"),
            Literal::Binding(binding) => write!(f, "{binding}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Literal {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_is_read_and_written() {
        for (text, size) in [
            ("7", 4),
            ("-1", 8),
            ("0x0102ff", 3),
            ("192.0.2.0/24", 8),
            ("2001:db8::/32", 20),
            ("udp,192.0.2.0/24,80", 24),
        ] {
            assert_eq!(literal(text).to_string(), text);
            assert_eq!(literal(text).encode(size).unwrap().len(), size, "{text}");
        }
        assert_eq!(literal("0x01 02").encode(2).unwrap(), [1, 2]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(literal("256").encode(1), Err(LiteralError::Range(256, 1)));
        assert_eq!(literal("-129").encode(1), Err(LiteralError::Range(-129, 1)));
        assert_eq!(literal("1").encode(3), Err(LiteralError::NotInteger(3)));
        assert_eq!(literal("0x01").encode(4), Err(LiteralError::Size { given: 1, size: 4 }));
        for text in ["", "0x", "0x1", "0xgg", "é", "one"] {
            assert!(text.parse::<Literal>().is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_shown_as_what_they_are() {
        let shown = |text: &str, size, trie| {
            Literal::decode(&literal(text).encode(size).unwrap(), trie).to_string()
        };
        assert_eq!(shown("udp,192.0.2.0/24,80", 24, true), "udp,192.0.2.0/24,80");
        assert_eq!(shown("10.0.0.0/8", 8, true), "10.0.0.0/8");
        assert_eq!(shown("300", 4, false), "300");
        assert_eq!(
            Literal::decode(&[0xff; 24], true).to_string(),
            format!("0x{}", "ff".repeat(24))
        );
    }
}
