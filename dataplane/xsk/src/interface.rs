//! What must be known of a network interface.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What is wrong with an interface.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No interface of that name in this network namespace.
    #[error("there is no interface `{0}` in this network namespace (`ip link` lists them)")]
    Missing(String),
    /// The queue is beyond the last.
    #[error(
        "{interface} has {queues} receive queues: queue {queue} does not exist \
        (`ethtool -L {interface}` changes their number)"
    )]
    NoQueue {
        /// The interface's name.
        interface: String,
        /// What was asked for.
        queue: u32,
        /// How many there are.
        queues: u32,
    },
    /// The kernel would not say.
    #[error("cannot ask about {interface}: {source}")]
    Query {
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The index of the interface of that name, in the caller's network namespace.
///
/// # Errors
/// [`InterfaceError::Missing`].
pub fn interface_index(name: &str) -> Result<u32, InterfaceError> {
    let missing = || InterfaceError::Missing(name.to_owned());
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: the pointer is to a live string that ends in NUL.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    if index == 0 { Err(missing()) } else { Ok(index) }
}

/// How many receive queues the interface has (`ETHTOOL_GCHANNELS`; 1 if the driver cannot say).
///
/// # Errors
/// [`InterfaceError`] if there is no such interface or the kernel would not say.
pub fn rx_queues(name: &str) -> Result<u32, InterfaceError> {
    let mut channels = EthtoolChannels { command: ETHTOOL_GCHANNELS, ..Default::default() };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    match ioctl(libc::SIOCETHTOOL, &mut request) {
        Ok(()) => Ok((channels.rx_count + channels.combined_count).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(queues_in_sysfs(name)),
        Err(source) => Err(query(name, source)),
    }
}

/// The interface's MTU in bytes.
///
/// # Errors
/// [`InterfaceError`] if there is no such interface or the kernel would not say.
pub fn mtu(name: &str) -> Result<u32, InterfaceError> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFMTU, &mut request).map_err(|source| query(name, source))?;
    // SAFETY: SIOCGIFMTU has written this field of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.unsigned_abs())
}

/// `struct ethtool_channels` of linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

const ETHTOOL_GCHANNELS: u32 = 0x3c;

fn query(name: &str, source: io::Error) -> InterfaceError {
    if source.raw_os_error() == Some(libc::ENODEV) {
        return InterfaceError::Missing(name.to_owned());
    }
    InterfaceError::Query { interface: name.to_owned(), source }
}

fn request(name: &str) -> Result<libc::ifreq, InterfaceError> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(InterfaceError::Missing(name.to_owned()));
    }
    // SAFETY: all zeroes is a value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been opened and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the request is live, of the type that these codes want, and what it points to is
    // the caller's, live during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code, request as *mut libc::ifreq) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Drivers without channels list their queues here; the mount may be of another namespace, in
/// which case the folder is missing.
fn queues_in_sysfs(name: &str) -> u32 {
    let Ok(entries) = std::fs::read_dir(format!("/sys/class/net/{name}/queues")) else {
        return 1;
    };
    let receive =
        |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"rx-");
    entries.flatten().filter(receive).count().max(1) as u32
}
