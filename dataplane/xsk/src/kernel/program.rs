//! A program in the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::link::{AttachMode, Link};

/// A program that the kernel has verified.
#[derive(Debug)]
pub struct Program {
    pub(super) fd: OwnedFd,
}

/// What `BPF_PROG_TEST_RUN` is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestRun<'a> {
    /// The packet, of program types that have one.
    pub data: &'a [u8],
    /// The context, of program types that take one.
    pub context: &'a [u8],
    /// Runs; 0 is 1.
    pub repeat: u32,
    /// `BPF_F_TEST_…`.
    pub flags: u32,
    /// Live frames a batch; 0 is the kernel's choice.
    pub batch_size: u32,
}

/// What `BPF_PROG_TEST_RUN` answers.
#[derive(Clone, Debug, Default)]
pub struct TestRunResult {
    /// The last run's r0.
    pub retval: u32,
    /// The mean of all runs.
    pub duration: Duration,
    /// The packet afterwards; empty for live frames.
    pub data: Vec<u8>,
}

impl Program {
    /// Attaches an XDP program to an interface of the caller's network namespace.
    ///
    /// # Errors
    /// The kernel's errno; EBUSY or EEXIST if there is a program already.
    pub fn attach_xdp(&self, interface: u32, mode: AttachMode) -> io::Result<Link> {
        let target = libc::c_int::try_from(interface).map_err(io::Error::other)?;
        Link::create(self.fd.as_raw_fd(), target, libbpf_sys::BPF_XDP, mode.flags())
    }

    /// Attaches an sk_lookup program to a network namespace, after those that are there.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn attach_netns(&self, namespace: BorrowedFd<'_>) -> io::Result<Link> {
        let target = namespace.as_raw_fd();
        Link::create(self.fd.as_raw_fd(), target, libbpf_sys::BPF_SK_LOOKUP, 0)
    }

    /// Runs the program (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// The kernel's errno; EINTR if a signal came in between.
    pub fn test_run(&self, run: &TestRun<'_>) -> io::Result<TestRunResult> {
        let live = run.flags & libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES != 0;
        let mut out = if live { Vec::new() } else { vec![0; run.data.len() + 256] };
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let pointer = |bytes: &[u8]| match bytes {
            [] => std::ptr::null(),
            bytes => bytes.as_ptr().cast(),
        };
        // Program types without a packet refuse even an empty buffer for it.
        let has_out = !out.is_empty() && !run.data.is_empty();
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: pointer(run.data),
            data_size_in: length(run.data)?,
            data_out: if has_out { out.as_mut_ptr().cast() } else { std::ptr::null_mut() },
            data_size_out: if has_out { length(&out)? } else { 0 },
            ctx_in: pointer(run.context),
            ctx_size_in: length(run.context)?,
            repeat: i32::try_from(run.repeat).map_err(io::Error::other)?,
            flags: run.flags,
            batch_size: run.batch_size,
            ..Default::default()
        };
        // SAFETY: every pointer is null, or to a live buffer of the length that goes with it.
        let result =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.fd.as_raw_fd(), &raw mut options) };
        super::check(result)?;
        out.truncate(if has_out { options.data_size_out as usize } else { 0 });
        Ok(TestRunResult {
            retval: options.retval,
            duration: Duration::from_nanos(options.duration.into()),
            data: out,
        })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The program's id (`bpftool prog show id`).
    pub id: u32,
    /// Which hook it is on; `None` for several, or the NIC's own.
    pub mode: Option<AttachMode>,
}

/// The XDP program on the interface, if there is one.
///
/// # Errors
/// The kernel's errno.
pub fn attached_xdp(interface: u32) -> io::Result<Option<AttachedXdp>> {
    super::log::install();
    let mut options = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let index = libc::c_int::try_from(interface).map_err(io::Error::other)?;
    // SAFETY: the options are live and carry their size.
    super::check(unsafe { libbpf_sys::bpf_xdp_query(index, 0, &raw mut options) })?;
    let ids = [options.prog_id, options.drv_prog_id, options.skb_prog_id, options.hw_prog_id];
    let mode = match options {
        _ if options.prog_id == 0 => None,
        _ if options.prog_id == options.drv_prog_id => Some(AttachMode::Native),
        _ if options.prog_id == options.skb_prog_id => Some(AttachMode::Skb),
        _ => None,
    };
    Ok(ids.into_iter().find(|id| *id != 0).map(|id| AttachedXdp { id, mode }))
}
