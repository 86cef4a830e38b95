//! The real kernel's BPF, through libbpf: what Weir needs of it, and what tests compare with.

mod link;
mod log;
mod map;
mod object;
mod program;

pub use link::{AttachMode, Link};
pub use map::{Map, MapSpec, possible_cpus};
pub use object::{LoadError, Object, OpenObject};
pub use program::{AttachedXdp, Program, TestRun, TestRunResult, attached_xdp};

/// libbpf's answers: a negative errno, or in a few old calls -1 with errno set.
fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result >= 0 {
        return Ok(result);
    }
    Err(match result {
        -1 => std::io::Error::last_os_error(),
        code => std::io::Error::from_raw_os_error(-code),
    })
}
