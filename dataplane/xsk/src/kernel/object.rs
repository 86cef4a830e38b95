//! An ELF object: opened, its globals set, loaded.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use super::map::Map;
use super::program::Program;

/// Bytes of the verifier's log that an error can carry.
const LOG_BYTES: usize = 256 << 10;
/// linux/btf.h.
const BTF_KIND_DATASEC: u32 = 15;
const SECTIONS: [&CStr; 3] = [c".rodata", c".data", c".bss"];

/// Why an object was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is no object that libbpf can read.
    #[error("{name}: not a BPF object: {source}")]
    Open {
        /// The object's name.
        name: String,
        /// libbpf's answer.
        source: io::Error,
    },
    /// A global variable is missing or of another size.
    #[error("{name}: no global variable `{variable}` of {size} bytes")]
    Global {
        /// The object's name.
        name: String,
        /// The variable.
        variable: String,
        /// What was wanted of it.
        size: usize,
    },
    /// The kernel refused it.
    #[error("{name}: the kernel refuses it: {source}\n{log}")]
    Load {
        /// The object's name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
        /// The verifier's log.
        log: String,
    },
    /// There is no such map or program in it.
    #[error("{name}: no {what} `{wanted}`")]
    Missing {
        /// The object's name.
        name: String,
        /// `map` or `program`.
        what: &'static str,
        /// Its name.
        wanted: String,
    },
    /// A descriptor could not be had.
    #[error("{name}: {source}")]
    Descriptor {
        /// The object's name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// An object that is not in the kernel yet.
#[derive(Debug)]
pub struct OpenObject {
    inner: Inner,
}

/// An object in the kernel. Maps and programs taken out of it live on their own.
#[derive(Debug)]
pub struct Object {
    inner: Inner,
}

impl OpenObject {
    /// Reads an object; nothing of it is in the kernel yet.
    ///
    /// # Errors
    /// [`LoadError::Open`].
    pub fn open(name: &str, elf: &[u8]) -> Result<OpenObject, LoadError> {
        super::log::install();
        let failed = |source| LoadError::Open { name: name.to_owned(), source };
        let text = CString::new(name).map_err(|error| failed(error.into()))?;
        let mut log: Box<[c_char]> = vec![0; LOG_BYTES].into_boxed_slice();
        let options = libbpf_sys::bpf_object_open_opts {
            sz: size_of::<libbpf_sys::bpf_object_open_opts>() as libbpf_sys::size_t,
            object_name: text.as_ptr(),
            kernel_log_buf: log.as_mut_ptr(),
            kernel_log_size: log.len() as libbpf_sys::size_t,
            ..Default::default()
        };
        // SAFETY: the ELF is copied by libbpf or read during the call, and the log's memory does
        // not move: it is boxed, and kept as long as the object.
        let pointer = unsafe {
            libbpf_sys::bpf_object__open_mem(
                elf.as_ptr().cast(),
                elf.len() as libbpf_sys::size_t,
                &raw const options,
            )
        };
        let pointer = NonNull::new(pointer).ok_or_else(|| failed(io::Error::last_os_error()))?;
        Ok(OpenObject { inner: Inner { pointer, log, name: name.to_owned() } })
    }

    /// Sets a global variable of `.rodata`, `.data` or `.bss`, given as its bytes in memory.
    ///
    /// # Errors
    /// [`LoadError::Global`] if there is none of that size.
    pub fn set_global(&mut self, variable: &str, bytes: &[u8]) -> Result<(), LoadError> {
        self.inner.write_global(variable, bytes)
    }

    /// Loads all maps and programs.
    ///
    /// # Errors
    /// [`LoadError::Load`] with the verifier's log.
    pub fn load(self) -> Result<Object, LoadError> {
        // SAFETY: the object is open and not loaded.
        let result = unsafe { libbpf_sys::bpf_object__load(self.inner.pointer.as_ptr()) };
        match super::check(result) {
            Ok(_) => Ok(Object { inner: self.inner }),
            Err(source) => {
                let name = self.inner.name.clone();
                Err(LoadError::Load { name, source, log: self.inner.log_text() })
            }
        }
    }
}

impl Object {
    /// Opens and loads in one.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(name: &str, elf: &[u8]) -> Result<Object, LoadError> {
        OpenObject::open(name, elf)?.load()
    }

    /// The map of that name.
    ///
    /// # Errors
    /// [`LoadError::Missing`].
    pub fn map(&self, name: &str) -> Result<Map, LoadError> {
        let missing = || self.inner.missing("map", name);
        let text = CString::new(name).map_err(|_| missing())?;
        let object = self.inner.pointer.as_ptr();
        // SAFETY: the object and the name are live.
        let map = unsafe { libbpf_sys::bpf_object__find_map_by_name(object, text.as_ptr()) };
        if map.is_null() {
            return Err(missing());
        }
        // SAFETY: the map is the object's, which is live and loaded.
        let fd = unsafe { libbpf_sys::bpf_map__fd(map) };
        let owned = self.inner.duplicate(fd)?;
        // SAFETY: as above.
        let map_type = unsafe { libbpf_sys::bpf_map__type(map) };
        // SAFETY: as above.
        let key_size = unsafe { libbpf_sys::bpf_map__key_size(map) };
        // SAFETY: as above.
        let value_size = unsafe { libbpf_sys::bpf_map__value_size(map) };
        Ok(Map::new(owned, map_type, key_size, value_size))
    }

    /// The program of that (function's) name.
    ///
    /// # Errors
    /// [`LoadError::Missing`].
    pub fn program(&self, name: &str) -> Result<Program, LoadError> {
        let missing = || self.inner.missing("program", name);
        let text = CString::new(name).map_err(|_| missing())?;
        let object = self.inner.pointer.as_ptr();
        // SAFETY: the object and the name are live.
        let program =
            unsafe { libbpf_sys::bpf_object__find_program_by_name(object, text.as_ptr()) };
        if program.is_null() {
            return Err(missing());
        }
        // SAFETY: the program is the object's, which is live and loaded.
        let fd = unsafe { libbpf_sys::bpf_program__fd(program) };
        Ok(Program { fd: self.inner.duplicate(fd)? })
    }

    /// Sets a global variable of `.data` or `.bss` while programs run.
    ///
    /// # Errors
    /// [`LoadError::Global`] if there is none of that size that can be written.
    pub fn set_global(&mut self, variable: &str, bytes: &[u8]) -> Result<(), LoadError> {
        if self.inner.locate(variable, bytes.len())?.is_constant {
            return Err(self.inner.no_global(variable, bytes.len()));
        }
        self.inner.write_global(variable, bytes)
    }

    /// Sets `bytes` from `offset` on in a global variable of `.data` or `.bss`, given as its name
    /// and size, while programs run. Calls are seen by programs in their order.
    ///
    /// # Errors
    /// [`LoadError::Global`] if there is none of that size that can be written, or the bytes are
    /// not inside it.
    pub fn set_global_part(
        &mut self,
        (variable, size): (&str, usize),
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), LoadError> {
        let global = self.inner.locate(variable, size)?;
        let is_inside = offset.checked_add(bytes.len()).is_some_and(|end| end <= size);
        if global.is_constant || !is_inside {
            return Err(self.inner.no_global(variable, bytes.len()));
        }
        fence(Ordering::SeqCst);
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: the variable has `size` writable bytes, and these are inside of it.
            let to = unsafe { global.start.add(offset + index) };
            // SAFETY: as above.
            unsafe { to.write_volatile(*byte) };
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Reads a global variable, while programs run.
    ///
    /// # Errors
    /// [`LoadError::Global`] if there is none of that size.
    pub fn global<const N: usize>(&self, variable: &str) -> Result<[u8; N], LoadError> {
        let global = self.inner.locate(variable, N)?;
        // SAFETY: `locate` answers with N readable bytes inside the object's mapping; programs may
        // write them meanwhile, hence volatile.
        Ok(unsafe { global.start.cast::<[u8; N]>().read_volatile() })
    }
}

#[derive(Debug)]
struct Inner {
    pointer: NonNull<libbpf_sys::bpf_object>,
    log: Box<[c_char]>,
    name: String,
}

// SAFETY: libbpf ties an object to no thread; it is only reached through its owner.
unsafe impl Send for Inner {}

struct Global {
    start: *mut u8,
    is_constant: bool,
}

impl Inner {
    fn missing(&self, what: &'static str, wanted: &str) -> LoadError {
        LoadError::Missing { name: self.name.clone(), what, wanted: wanted.to_owned() }
    }

    fn no_global(&self, variable: &str, size: usize) -> LoadError {
        let (name, variable) = (self.name.clone(), variable.to_owned());
        LoadError::Global { name, variable, size }
    }

    fn duplicate(&self, fd: RawFd) -> Result<OwnedFd, LoadError> {
        let failed = |source| LoadError::Descriptor { name: self.name.clone(), source };
        if fd < 0 {
            return Err(failed(io::Error::from_raw_os_error(libc::EBADF)));
        }
        // SAFETY: the descriptor is the object's, which is live during this call.
        unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map_err(failed)
    }

    fn log_text(&self) -> String {
        let bytes = self.log.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }

    fn write_global(&mut self, variable: &str, bytes: &[u8]) -> Result<(), LoadError> {
        let global = self.locate(variable, bytes.len())?;
        match <[u8; 4]>::try_from(bytes) {
            // One store, so that a running program never sees half of a word.
            // SAFETY: `locate` answers with writable memory of this length, and clang aligns
            // variables of four bytes.
            Ok(word) if global.start.cast::<u32>().is_aligned() => unsafe {
                global.start.cast::<u32>().write_volatile(u32::from_ne_bytes(word));
            },
            // SAFETY: `locate` answers with writable memory of this length, not ours.
            _ => unsafe { global.start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) },
        }
        Ok(())
    }

    /// Where a variable of exactly `size` bytes is in the memory that libbpf mapped.
    fn locate(&self, variable: &str, size: usize) -> Result<Global, LoadError> {
        let object = self.pointer.as_ptr();
        for section in SECTIONS {
            // SAFETY: the object and the name are live.
            let map = unsafe { libbpf_sys::bpf_object__find_map_by_name(object, section.as_ptr()) };
            if map.is_null() {
                continue;
            }
            let Some((offset, _)) =
                self.variable(section, variable).filter(|(_, found)| *found == size)
            else {
                continue;
            };
            let mut length: libbpf_sys::size_t = 0;
            // SAFETY: the map is the object's, which is live.
            let start = unsafe { libbpf_sys::bpf_map__initial_value(map, &raw mut length) };
            if start.is_null() || offset + size > length as usize {
                continue;
            }
            // SAFETY: the offset is inside the section, as was just checked.
            let start = unsafe { start.cast::<u8>().add(offset) };
            return Ok(Global { start, is_constant: section == c".rodata" });
        }
        Err(self.no_global(variable, size))
    }

    /// Offset and size of a variable in a section, as the object's BTF says.
    fn variable(&self, section: &CStr, variable: &str) -> Option<(usize, usize)> {
        // SAFETY: the object is live; its BTF lives as long.
        let btf = unsafe { libbpf_sys::bpf_object__btf(self.pointer.as_ptr()) };
        if btf.is_null() {
            return None;
        }
        // SAFETY: BTF and name are live.
        let id =
            unsafe { libbpf_sys::btf__find_by_name_kind(btf, section.as_ptr(), BTF_KIND_DATASEC) };
        let id = u32::try_from(id).ok()?;
        // SAFETY: the id was found in this BTF.
        let section = unsafe { libbpf_sys::btf__type_by_id(btf, id) };
        // SAFETY: a type that was found, live as long as the BTF.
        let count = (unsafe { *section }.info & 0xffff) as usize;
        // SAFETY: a DATASEC's variables follow it, in the same allocation.
        let first = unsafe { section.add(1) }.cast::<libbpf_sys::btf_var_secinfo>();
        // SAFETY: as many as the low 16 bits of its info say, which libbpf has checked.
        let variables = unsafe { std::slice::from_raw_parts(first, count) };
        variables.iter().find_map(|entry| {
            // SAFETY: the type ids of a DATASEC's variables are valid in its BTF.
            let found = unsafe { libbpf_sys::btf__type_by_id(btf, entry.type_) };
            // SAFETY: as above.
            let offset = unsafe { *found }.name_off;
            // SAFETY: names are offsets into the BTF's checked string section.
            let name = unsafe { libbpf_sys::btf__name_by_offset(btf, offset) };
            // SAFETY: names end with NUL and live as long as the BTF.
            let name = unsafe { CStr::from_ptr(name) };
            (name.to_bytes() == variable.as_bytes())
                .then_some((entry.offset as usize, entry.size as usize))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the object is live, and nobody else has it.
        unsafe { libbpf_sys::bpf_object__close(self.pointer.as_ptr()) };
    }
}
