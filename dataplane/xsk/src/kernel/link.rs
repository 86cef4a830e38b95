//! A program's attachment, which lasts as long as its descriptor.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which XDP hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// The driver's.
    Native,
    /// The generic one, after the skb is made.
    Skb,
}

impl AttachMode {
    pub(super) fn flags(self) -> u32 {
        match self {
            AttachMode::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            AttachMode::Skb => libbpf_sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachMode::Native => "native",
            AttachMode::Skb => "skb",
        })
    }
}

/// A `bpf_link`. The program is detached when this is dropped, or the process dies.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Link {
    pub(super) fn create(
        program: RawFd,
        target: libc::c_int,
        attach_type: libbpf_sys::bpf_attach_type,
        flags: u32,
    ) -> io::Result<Link> {
        let options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
            flags,
            ..Default::default()
        };
        // SAFETY: the options are live and carry their size.
        let result = unsafe {
            libbpf_sys::bpf_link_create(program, target, attach_type, &raw const options)
        };
        let fd = super::check(result)?;
        // SAFETY: the descriptor has just been made for us.
        Ok(Link { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread has forked, and that has not yet
        // called exec, holds a copy of the descriptor.
        // SAFETY: the descriptor is a link's, and open.
        let result = unsafe { libbpf_sys::bpf_link_detach(self.fd.as_raw_fd()) };
        // The interface or namespace may be gone already (ENOLINK).
        if let Err(error) = super::check(result) {
            tracing::debug!(%error, "a link was not detached, only closed");
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
