//! Whether this process may build labs and open AF_XDP sockets.

use std::sync::OnceLock;

use socket2::{Domain, Socket, Type};

use crate::Lab;

/// `AF_XDP` of `linux/socket.h`.
const AF_XDP: i32 = 44;

/// Whether this process can make network namespaces and AF_XDP sockets, found out by trying,
/// once; the reason when it cannot. Tests that need both are skipped with this reason.
///
/// # Errors
/// With one line that says what was refused and what to do.
pub fn privileged() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(attempt).clone()
}

fn attempt() -> Result<(), String> {
    Socket::new(Domain::from(AF_XDP), Type::RAW, None).map_err(|error| {
        format!("cannot open an AF_XDP socket ({error}): run as root on a kernel with AF_XDP")
    })?;
    let mut lab = Lab::new().map_err(|error| error.to_string())?;
    lab.namespace("probe")
        .map_err(|error| format!("cannot make a network namespace ({error}): run as root"))?;
    Ok(())
}
