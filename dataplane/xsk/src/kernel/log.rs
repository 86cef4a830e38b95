//! libbpf's own messages, sent to the log.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Once;

/// Sends what libbpf prints to `tracing`, at debug level: errors carry what matters.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function has the type that libbpf wants and lives for ever.
        unsafe { libbpf_sys::libbpf_set_print(Some(print)) };
    });
}

unsafe extern "C" {
    fn vsnprintf(
        buffer: *mut c_char,
        size: usize,
        format: *const c_char,
        arguments: *mut libbpf_sys::__va_list_tag,
    ) -> c_int;
}

unsafe extern "C" fn print(
    _level: libbpf_sys::libbpf_print_level,
    format: *const c_char,
    arguments: *mut libbpf_sys::__va_list_tag,
) -> c_int {
    let mut buffer = [0 as c_char; 1024];
    // SAFETY: the buffer is as long as is said; format and arguments are libbpf's and fit.
    let length = unsafe { vsnprintf(buffer.as_mut_ptr(), buffer.len(), format, arguments) };
    if length > 0 {
        // SAFETY: vsnprintf ends what it writes with NUL, inside the buffer.
        let text = unsafe { CStr::from_ptr(buffer.as_ptr()) };
        tracing::debug!(target: "libbpf", "{}", text.to_string_lossy().trim_end());
    }
    length
}
