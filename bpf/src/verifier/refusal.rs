//! Why a walk stops.

use crate::errno::Errno;

/// The kernel's errno and message; boxed, since nearly every step succeeds.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) message: String,
}

pub(crate) type Step<T = ()> = Result<T, Box<Refusal>>;

impl Refusal {
    #[cold]
    pub(crate) fn boxed(errno: Errno, message: String) -> Box<Refusal> {
        Box::new(Refusal { errno, message })
    }
}

/// Leaves the function with an errno's name and a message.
macro_rules! refuse {
    ($errno:ident, $($message:tt)*) => {
        return Err($crate::verifier::refusal::Refusal::boxed(
            $crate::errno::Errno::$errno,
            format!($($message)*),
        ))
    };
}
pub(crate) use refuse;
