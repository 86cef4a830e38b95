//! Executable pages: written first, then made executable and no longer writable (W^X).

use std::io;
use std::ptr::NonNull;

/// Pages of machine code, given back when they are dropped.
pub(super) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to this value alone, and nobody writes to them once they are made.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// New pages with this code.
    pub(super) fn load(code: &[u8]) -> io::Result<Pages> {
        let length = code.len().max(1);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let pages = Pages { start, length };
        // SAFETY: the mapping is writable, at least as long as the code, and new, so that it does
        // not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), start.as_ptr(), code.len()) };
        let access = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: the pages are this value's own, and nothing refers to them yet.
        let refused = unsafe { libc::mprotect(start.as_ptr().cast(), length, access) };
        if refused != 0 {
            return Err(io::Error::last_os_error());
        }
        synchronize(&pages);
        Ok(pages)
    }

    /// The code.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `length` bytes long, never written again, and lives as
        // long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `load` with this length; whoever runs the code borrows this value.
        let refused = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        assert_eq!(refused, 0, "our own pages can be unmapped");
    }
}

/// Makes what was written visible to instruction fetches; x86-64 does so by itself.
#[cfg(target_arch = "x86_64")]
fn synchronize(_: &Pages) {}

#[cfg(target_arch = "aarch64")]
fn synchronize(pages: &Pages) {
    // The smallest line that the architecture allows is 16 bytes.
    for at in (0..pages.length).step_by(16) {
        let line = pages.start.as_ptr().wrapping_add(at);
        // SAFETY: cleans a line of the pages, which are mapped; changes no memory.
        unsafe { std::arch::asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", in(reg) line) };
    }
    // SAFETY: waits for the above; changes no memory.
    unsafe { std::arch::asm!("dsb ish", "isb") };
}
