//! Maps of this kernel, by bpf(2).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use weir_bpf::{Errno, MapSpec};

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP: u32 = 1;
const MAP_UPDATE: u32 = 2;
const MAP_DELETE: u32 = 3;
const MAP_NEXT_KEY: u32 = 4;
const INFO_BY_FD: u32 = 15;
const MAP_LOOKUP_AND_DELETE: u32 = 21;
const MAP_FREEZE: u32 = 22;
const LOOKUP_BATCH: u32 = 24;
const LOOKUP_AND_DELETE_BATCH: u32 = 25;
const UPDATE_BATCH: u32 = 26;
const DELETE_BATCH: u32 = 27;

/// How many CPUs the kernel may have.
pub fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last = text.trim().rsplit(['-', ',']).next().unwrap();
    last.parse::<usize>().unwrap() + 1
}

pub struct KernelMap {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
}

/// `union bpf_attr`, as words of four bytes.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn new() -> Attributes {
        Attributes([0; 32])
    }

    fn pointer(&mut self, at: usize, address: *const u8) {
        let address = address as u64;
        self.0[at] = address as u32;
        self.0[at + 1] = (address >> 32) as u32;
    }

    /// # Safety
    /// The pointers in it must suit the command.
    unsafe fn call(&mut self, command: u32, size: usize) -> Result<i32, Errno> {
        // SAFETY: the attributes are that large, their pointers the caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), size) };
        if result < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(Errno(errno));
        }
        Ok(result as i32)
    }
}

impl KernelMap {
    pub fn create(spec: &MapSpec, inner: Option<&KernelMap>) -> Result<KernelMap, Errno> {
        let mut attributes = Attributes::new();
        let words = &mut attributes.0;
        words[0] = spec.map_type.number();
        words[1] = spec.key_size;
        words[2] = spec.value_size;
        words[3] = spec.max_entries;
        words[4] = spec.flags;
        words[5] = inner.map_or(0, |inner| inner.fd.as_raw_fd() as u32);
        // numa_node stays 0, the only one here; map_extra is at byte 64.
        words[16] = spec.extra as u32;
        words[17] = (spec.extra >> 32) as u32;
        // SAFETY: no pointers.
        let fd = unsafe { attributes.call(MAP_CREATE, 72) }?;
        // SAFETY: the descriptor has just been made for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let value_size = match spec.map_type.is_per_cpu() {
            true => (spec.value_size as usize).next_multiple_of(8) * possible_cpus(),
            false => spec.value_size as usize,
        };
        Ok(KernelMap { fd, key_size: spec.key_size as usize, value_size })
    }

    /// Bytes of a value as it is looked up.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// What stands for it as a value.
    pub fn descriptor(&self) -> [u8; 4] {
        (self.fd.as_raw_fd() as u32).to_le_bytes()
    }

    pub fn id(&self) -> u32 {
        let mut info = [0_u32; 64];
        let mut attributes = Attributes::new();
        attributes.0[0] = self.fd.as_raw_fd() as u32;
        attributes.0[1] = 256;
        attributes.pointer(2, info.as_mut_ptr().cast());
        // SAFETY: there are 256 bytes for struct bpf_map_info.
        unsafe { attributes.call(INFO_BY_FD, 16) }.unwrap();
        // The compiler has not seen that the kernel wrote it.
        std::hint::black_box(&info)[1]
    }

    pub fn lookup(&self, key: &[u8], flag: u64) -> Result<Vec<u8>, Errno> {
        self.lookup_in(key, &vec![0; self.value_size], flag)
    }

    /// A lookup with a value that it begins with.
    pub fn lookup_in(&self, key: &[u8], value: &[u8], flag: u64) -> Result<Vec<u8>, Errno> {
        let mut value = value.to_vec();
        self.element(MAP_LOOKUP, Some(key), &mut value, flag).map(|()| value)
    }

    pub fn lookup_and_delete(&self, key: &[u8], flag: u64) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; self.value_size];
        self.element(MAP_LOOKUP_AND_DELETE, Some(key), &mut value, flag).map(|()| value)
    }

    pub fn update(&self, key: &[u8], value: &[u8], flag: u64) -> Result<(), Errno> {
        assert_eq!(value.len(), self.value_size);
        self.element(MAP_UPDATE, Some(key), &mut value.to_vec(), flag)
    }

    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.element(MAP_DELETE, Some(key), &mut [], 0)
    }

    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let mut next = vec![0; self.key_size];
        self.element(MAP_NEXT_KEY, key, &mut next, 0).map(|()| next)
    }

    pub fn freeze(&self) -> Result<(), Errno> {
        let mut attributes = Attributes::new();
        attributes.0[0] = self.fd.as_raw_fd() as u32;
        // SAFETY: no pointers.
        unsafe { attributes.call(MAP_FREEZE, 4) }.map(|_| ())
    }

    /// Entries, and where the next batch begins.
    #[expect(clippy::type_complexity, reason = "what it is compared with")]
    pub fn lookup_batch(
        &self,
        from: Option<&[u8]>,
        most: usize,
        delete: bool,
    ) -> Result<(Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<u8>>), Errno> {
        let mut next = vec![0; self.key_size.max(4)];
        let mut keys = vec![0; self.key_size * most];
        let mut values = vec![0; self.value_size * most];
        let mut attributes = Attributes::new();
        attributes.pointer(0, from.map_or(std::ptr::null(), <[u8]>::as_ptr));
        attributes.pointer(2, next.as_mut_ptr());
        attributes.pointer(4, keys.as_mut_ptr());
        attributes.pointer(6, values.as_mut_ptr());
        attributes.0[8] = most as u32;
        attributes.0[9] = self.fd.as_raw_fd() as u32;
        let command = if delete { LOOKUP_AND_DELETE_BATCH } else { LOOKUP_BATCH };
        // SAFETY: there is room for so many keys and values, and for where the next batch begins.
        let done = unsafe { attributes.call(command, 56) };
        let ended = match done {
            Err(Errno::ENOENT) => true,
            done => done.map(|_| false)?,
        };
        let count = attributes.0[8] as usize;
        let keys = keys.chunks(self.key_size.max(1)).map(<[u8]>::to_vec);
        let values = values.chunks(self.value_size.max(1)).map(<[u8]>::to_vec);
        Ok((keys.zip(values).take(count).collect(), (!ended).then_some(next)))
    }

    pub fn update_batch(&self, entries: &[(&[u8], &[u8])]) -> (usize, Result<(), Errno>) {
        let keys: Vec<u8> = entries.iter().flat_map(|(key, _)| key.to_vec()).collect();
        let values: Vec<u8> = entries.iter().flat_map(|(_, value)| value.to_vec()).collect();
        self.change_batch(UPDATE_BATCH, &keys, &values, entries.len())
    }

    pub fn delete_batch(&self, keys: &[&[u8]]) -> (usize, Result<(), Errno>) {
        self.change_batch(DELETE_BATCH, &keys.concat(), &[], keys.len())
    }

    fn change_batch(
        &self,
        command: u32,
        keys: &[u8],
        values: &[u8],
        count: usize,
    ) -> (usize, Result<(), Errno>) {
        let mut attributes = Attributes::new();
        attributes.pointer(4, keys.as_ptr());
        attributes.pointer(6, values.as_ptr());
        attributes.0[8] = count as u32;
        attributes.0[9] = self.fd.as_raw_fd() as u32;
        // SAFETY: there are so many keys, and values where they are read.
        match unsafe { attributes.call(command, 56) } {
            Err(Errno::ENOTSUPP) => (0, Err(Errno::ENOTSUPP)),
            done => (attributes.0[8] as usize, done.map(|_| ())),
        }
    }

    fn element(
        &self,
        command: u32,
        key: Option<&[u8]>,
        value: &mut [u8],
        flag: u64,
    ) -> Result<(), Errno> {
        assert!(key.is_none_or(|key| key.len() == self.key_size));
        let mut attributes = Attributes::new();
        attributes.0[0] = self.fd.as_raw_fd() as u32;
        let key = key.filter(|key| !key.is_empty());
        attributes.pointer(2, key.map_or(std::ptr::null(), <[u8]>::as_ptr));
        if !value.is_empty() {
            attributes.pointer(4, value.as_mut_ptr());
        }
        attributes.0[6] = flag as u32;
        attributes.0[7] = (flag >> 32) as u32;
        // SAFETY: key and value are as long as the map's.
        unsafe { attributes.call(command, 32) }.map(|_| ())
    }
}
