//! The kernel's error numbers.

use std::fmt;

/// A kernel error number, positive (`EEXIST` is 17).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($number);)*

            /// The symbolic name, if it is one that this crate gives.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such element.";
    E2BIG = 7, "Too large, or the map is full.";
    EBADF = 9, "Bad file descriptor, or no such map.";
    EAGAIN = 11, "Try again.";
    ENOMEM = 12, "Out of memory.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Busy.";
    EEXIST = 17, "The element exists.";
    EINVAL = 22, "Invalid argument.";
    ENOSPC = 28, "No space left.";
    EPROTOTYPE = 91, "Wrong protocol for the socket.";
    ESOCKTNOSUPPORT = 94, "Socket type or state not supported.";
    EOPNOTSUPP = 95, "Operation not supported.";
    EAFNOSUPPORT = 97, "Address family not supported.";
    ENOTSUPP = 524, "Not supported (internal to the kernel, but BPF shows it).";
}

impl Errno {
    /// The number as a helper returns it in `r0`: negative, sign-extended.
    pub fn as_return(self) -> u64 {
        i64::from(-self.0) as u64
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn shows_name_and_number() {
        assert_eq!(Errno::EEXIST.to_string(), "EEXIST (17)");
        assert_eq!(Errno(5).to_string(), "errno 5");
        assert_eq!(Errno::ESOCKTNOSUPPORT.as_return() as i64, -94);
    }
}
