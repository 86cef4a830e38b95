//! A map of the kernel.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a map is to be (`BPF_MAP_CREATE`).
#[derive(Clone, Debug, Default)]
pub struct MapSpec {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Up to 15 characters.
    pub name: String,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Entries.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
}

/// An open map. Every call is one system call, and answers with the kernel's errno.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
}

/// How many CPUs the kernel may have: so many values a per-CPU map holds for a key.
///
/// # Panics
/// When the kernel does not say.
pub fn possible_cpus() -> usize {
    // SAFETY: takes nothing.
    let count = unsafe { libbpf_sys::libbpf_num_possible_cpus() };
    usize::try_from(count).expect("the kernel lists its CPUs")
}

impl Map {
    /// Creates a map.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn create(spec: &MapSpec) -> io::Result<Map> {
        super::log::install();
        let name = CString::new(spec.name.as_str())?;
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: spec.flags,
            ..Default::default()
        };
        // SAFETY: the name and the options are live during the call.
        let result = unsafe {
            libbpf_sys::bpf_map_create(
                spec.map_type,
                name.as_ptr(),
                spec.key_size,
                spec.value_size,
                spec.max_entries,
                &raw const options,
            )
        };
        let fd = super::check(result)?;
        // SAFETY: the descriptor has just been made for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Map::new(fd, spec.map_type, spec.key_size, spec.value_size))
    }

    pub(super) fn new(fd: OwnedFd, map_type: u32, key_size: u32, value_size: u32) -> Map {
        use libbpf_sys::{
            BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH,
        };
        let value_size = value_size as usize;
        let value_size = match map_type {
            BPF_MAP_TYPE_PERCPU_ARRAY | BPF_MAP_TYPE_PERCPU_HASH | BPF_MAP_TYPE_LRU_PERCPU_HASH => {
                value_size.next_multiple_of(8) * possible_cpus()
            }
            _ => value_size,
        };
        Map { fd, key_size: key_size as usize, value_size }
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of a value as it is looked up and updated: of a per-CPU map, those of all CPUs, each
    /// rounded up to 8.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// The value of the key (`BPF_MAP_LOOKUP_ELEM`).
    ///
    /// # Errors
    /// The kernel's errno; ENOENT if there is none.
    ///
    /// # Panics
    /// When the key is not as long as the map's keys.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Vec<u8>> {
        assert_eq!(key.len(), self.key_size);
        let mut value = vec![0; self.value_size];
        // SAFETY: key and value are as long as the map's.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_mut_ptr().cast(),
            )
        };
        super::check(result).map(|_| value)
    }

    /// Sets the value of the key (`BPF_MAP_UPDATE_ELEM`).
    ///
    /// # Errors
    /// The kernel's errno.
    ///
    /// # Panics
    /// When key or value are not as long as the map's.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        assert_eq!(key.len(), self.key_size);
        assert_eq!(value.len(), self.value_size);
        // SAFETY: key and value are as long as the map's.
        let result = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_ptr().cast(),
                flags,
            )
        };
        super::check(result).map(drop)
    }

    /// Removes the key (`BPF_MAP_DELETE_ELEM`).
    ///
    /// # Errors
    /// The kernel's errno; ENOENT if there is none.
    ///
    /// # Panics
    /// When the key is not as long as the map's keys.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        assert_eq!(key.len(), self.key_size);
        // SAFETY: the key is as long as the map's.
        let result =
            unsafe { libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast()) };
        super::check(result).map(drop)
    }

    /// The key after this one, or the first (`BPF_MAP_GET_NEXT_KEY`).
    ///
    /// # Errors
    /// The kernel's errno; ENOENT after the last.
    ///
    /// # Panics
    /// When the key is not as long as the map's keys.
    pub fn next_key(&self, key: Option<&[u8]>) -> io::Result<Vec<u8>> {
        assert!(key.is_none_or(|key| key.len() == self.key_size));
        let mut next = vec![0; self.key_size];
        let from = key.map_or(std::ptr::null(), <[u8]>::as_ptr);
        // SAFETY: both keys are as long as the map's, or the first is null.
        let result = unsafe {
            libbpf_sys::bpf_map_get_next_key(
                self.fd.as_raw_fd(),
                from.cast(),
                next.as_mut_ptr().cast(),
            )
        };
        super::check(result).map(|_| next)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
