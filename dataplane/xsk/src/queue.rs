//! One AF_XDP socket with its UMEM.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use crate::config::{Mode, QueueConfig};
use crate::counters::{Balance, Statistics};
use crate::frame::Frame;
use crate::open::{self, OpenError};

/// Frames moved at once between rings and callers.
pub const BATCH: usize = 64;
/// System calls that one batch may take to be sent: the kernel sends at least 32 packets a call.
const KICKS: usize = 8;

/// One AF_XDP socket, bound to one queue of one interface, and the memory it owns.
///
/// Nothing here allocates after [`Queue::open`]; system calls are made only when the kernel asks
/// to be woken.
pub struct Queue {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    scratch: Box<[FrameDesc; BATCH]>,
    free: Vec<FrameDesc>,
    total: u64,
    filling: u64,
    transmitting: u64,
    fill_target: u64,
    refused: u64,
    /// The kernel has not yet taken all that stands in the transmit ring.
    unsent: bool,
    busy_poll: bool,
    owner: u32,
    frame_size: usize,
    length: usize,
    fd: RawFd,
    mode: Mode,
    huge_pages: bool,
    index: u32,
    // Last: the rings above refer to it.
    umem: Umem,
}

impl Queue {
    /// Opens the queue and gives the kernel frames to receive into.
    ///
    /// Packets come once a [`crate::Redirect`] knows the queue. EBUSY after an earlier close is
    /// waited out, for a second at most.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(config: &QueueConfig) -> Result<Queue, OpenError> {
        static OWNERS: AtomicU32 = AtomicU32::new(0);
        let parts = open::open(config)?;
        let total = u64::from(config.frame_count);
        // What is not in the fill ring is for sending and for the caller to hold.
        let spare = u64::from(config.tx_ring).min(total / 4);
        let mut queue = Queue {
            rx: parts.rx,
            tx: parts.tx,
            fill: parts.fill,
            completion: parts.completion,
            scratch: Box::new([FrameDesc::default(); BATCH]),
            free: parts.descriptors,
            total,
            filling: 0,
            transmitting: 0,
            fill_target: u64::from(config.fill_ring).min(total - spare),
            refused: 0,
            unsent: false,
            busy_poll: config.busy_poll.is_some(),
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            frame_size: config.frame_size as usize,
            length: config.frame_count as usize * config.frame_size as usize,
            fd: parts.fd,
            mode: parts.mode,
            huge_pages: parts.huge_pages,
            index: config.queue,
            umem: parts.umem,
        };
        // Popped from the end: so the lowest addresses go first.
        queue.free.reverse();
        queue.refill(1);
        Ok(queue)
    }

    /// Appends up to `limit` received frames to `into`, never beyond its capacity, and never more
    /// than [`BATCH`] in one call. Returns how many.
    #[inline]
    pub fn receive(&mut self, into: &mut Vec<Frame>, limit: usize) -> usize {
        if self.transmitting > 0 {
            self.reap();
        }
        self.refill(BATCH as u64);
        let room = limit.min(into.capacity() - into.len()).min(BATCH);
        // SAFETY: what the kernel puts here is checked below before it is used.
        let taken = unsafe { self.rx.consume(&mut self.scratch[..room]) };
        if taken == 0 {
            self.nothing_received();
            return 0;
        }
        let mut received = 0;
        for slot in 0..taken {
            let descriptor = self.scratch[slot];
            if self.is_inside(&descriptor) {
                into.push(Frame { descriptor, owner: self.owner });
                received += 1;
            } else {
                self.refuse(descriptor);
            }
        }
        self.filling -= received as u64;
        received
    }

    /// Takes frames from the front of `frames`, as far as the transmit ring has room, and wakes
    /// the kernel if it has to be. Returns how many were taken; the others stay.
    ///
    /// Call it with nothing to send, too: what the kernel could not send before is tried again.
    ///
    /// # Panics
    /// When a frame is empty or belongs to another queue.
    pub fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        if self.transmitting > 0 {
            self.reap();
        }
        let mut accepted = 0;
        while accepted < frames.len() {
            let wanted = (frames.len() - accepted).min(BATCH);
            let room = (self.tx.nb_free(wanted as u32) as usize).min(wanted);
            if room == 0 {
                break;
            }
            for (slot, frame) in frames[accepted..accepted + room].iter().enumerate() {
                assert_eq!(frame.owner, self.owner, "a frame of another queue");
                // The kernel would skip it as invalid, and never give it back.
                assert!(!frame.is_empty(), "an empty frame cannot be sent");
                self.scratch[slot] = frame.descriptor;
                // Left over from receiving with several buffers a packet, which is never on.
                self.scratch[slot].set_options(0);
            }
            // SAFETY: the frames are of this UMEM, and are given up by the drain below.
            let produced = unsafe { self.tx.produce(&self.scratch[..room]) };
            accepted += produced;
            self.transmitting += produced as u64;
            if produced < room {
                break;
            }
        }
        frames.drain(..accepted);
        if accepted > 0 || self.unsent {
            self.kick();
        }
        accepted
    }

    /// Takes all of `frames` back.
    ///
    /// # Panics
    /// When a frame belongs to another queue.
    #[inline]
    pub fn recycle(&mut self, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            assert_eq!(frame.owner, self.owner, "a frame of another queue");
            self.free.push(frame.descriptor);
        }
        self.refill(BATCH as u64);
    }

    /// An empty frame for a packet of our own making; `None` if there is none now.
    pub fn take_free(&mut self) -> Option<Frame> {
        if self.free.is_empty() {
            self.reap();
        }
        let descriptor = self.free.pop()?;
        let mut frame = Frame { descriptor, owner: self.owner };
        self.set_length(&mut frame, 0);
        Some(frame)
    }

    /// The packet in the frame.
    ///
    /// # Panics
    /// When the frame belongs to another queue.
    #[inline]
    pub fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        assert_eq!(frame.owner, self.owner, "a frame of another queue");
        // SAFETY: the frame is of this UMEM, its range was checked when it was received, and who
        // has the `Frame` is the only one to use that memory: neither the kernel nor another
        // `Frame` has it.
        unsafe { self.umem.data(&frame.descriptor) }.contents()
    }

    /// The packet in the frame, to be changed in place.
    ///
    /// # Panics
    /// When the frame belongs to another queue.
    #[inline]
    pub fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        assert_eq!(frame.owner, self.owner, "a frame of another queue");
        // SAFETY: as in `bytes`; and both the frame and the queue are borrowed mutably.
        let mut data = unsafe { self.umem.data_mut(&mut frame.descriptor) };
        let bytes = data.contents_mut();
        // SAFETY: the same slice; its lifetime is that of the two borrows, during which nobody
        // else can reach this memory.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// How long a packet in this frame may be.
    #[inline]
    pub fn capacity(&self, frame: &Frame) -> usize {
        self.frame_size - (frame.descriptor.addr() & (self.frame_size - 1))
    }

    /// Makes `start..start + length` of the packet the whole of it.
    ///
    /// # Panics
    /// When that is not inside the packet, or the frame belongs to another queue.
    pub fn shrink(&mut self, frame: &mut Frame, start: usize, length: usize) {
        let end = start.checked_add(length).expect("a length in a frame");
        let packet = self.bytes_mut(frame);
        assert!(end <= packet.len(), "{start}..{end} of a packet of {} bytes", packet.len());
        if start > 0 {
            // A descriptor's start cannot be moved with xsk-rs: the bytes are.
            packet.copy_within(start..end, 0);
        }
        self.set_length(frame, length);
    }

    /// Replaces the packet. `false`, and nothing is changed, if it does not fit.
    ///
    /// # Panics
    /// When the frame belongs to another queue.
    pub fn replace(&mut self, frame: &mut Frame, packet: &[u8]) -> bool {
        match self.resize(frame, packet.len()) {
            Some(room) => room.copy_from_slice(packet),
            None => return false,
        }
        true
    }

    /// Makes the packet `length` bytes long and gives all of it to be written: for a packet that
    /// grows. `None`, and nothing is changed, if it does not fit.
    ///
    /// # Panics
    /// When the frame belongs to another queue.
    pub fn resize<'a>(&'a mut self, frame: &'a mut Frame, length: usize) -> Option<&'a mut [u8]> {
        if length > self.capacity(frame) {
            return None;
        }
        self.set_length(frame, length);
        Some(self.bytes_mut(frame))
    }

    /// Asks the processor for the packet's first bytes.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = self.bytes(frame).as_ptr();
            // SAFETY: a prefetch reads nothing that the program could see, at any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = frame;
    }

    /// Where the frames are, in constant time.
    #[inline]
    pub fn balance(&self) -> Balance {
        Balance {
            total: self.total,
            filling: self.filling,
            transmitting: self.transmitting,
            free: self.free.len() as u64,
        }
    }

    /// Sleeps until there may be something to receive, at most for `timeout` (poll(2)).
    ///
    /// # Errors
    /// What the kernel answered; an interrupted sleep is none.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.fd, events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: one live pollfd and a live timespec; a null mask changes nothing.
        let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
        match ready {
            0.. => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                error => Err(error),
            },
        }
    }

    /// What the kernel counted for this socket since it was opened (`XDP_STATISTICS`).
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let kernel = self.rx.fd().xdp_statistics()?;
        Ok(Statistics {
            rx_dropped: kernel.rx_dropped(),
            rx_ring_full: kernel.rx_ring_full(),
            fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            rx_invalid_descriptors: kernel.rx_invalid_descs(),
            tx_invalid_descriptors: kernel.tx_invalid_descs(),
            tx_ring_empty: kernel.tx_ring_empty_descs(),
            descriptors_refused: self.refused,
        })
    }

    /// The mode that the socket really has.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the UMEM is on huge pages.
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The interface's queue that this is.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Takes back what has been sent.
    fn reap(&mut self) {
        loop {
            // SAFETY: what the kernel puts here is checked before it is used.
            let done = unsafe { self.completion.consume(&mut self.scratch[..]) };
            for slot in 0..done {
                let descriptor = self.scratch[slot];
                if self.is_inside(&descriptor) && self.transmitting > 0 {
                    self.transmitting -= 1;
                    self.free.push(descriptor);
                } else {
                    self.refused += 1;
                }
            }
            if done < BATCH {
                return;
            }
        }
    }

    /// Tops the fill ring up, if at least `least` frames are missing.
    #[inline]
    fn refill(&mut self, least: u64) {
        let missing = self.fill_target - self.filling.min(self.fill_target);
        if missing < least || self.free.is_empty() {
            return;
        }
        let count = (missing as usize).min(self.free.len());
        let rest = self.free.len() - count;
        // SAFETY: free frames are of this UMEM, and are given up by the truncation.
        let given = unsafe { self.fill.produce(&self.free[rest..]) };
        if given > 0 {
            debug_assert_eq!(given, count, "the ring takes all or nothing");
            self.free.truncate(rest);
            self.filling += given as u64;
            if self.fill.needs_wakeup() {
                self.wake_receiver();
            }
        }
    }

    #[cold]
    fn nothing_received(&mut self) {
        if self.unsent {
            self.kick();
        }
        if self.busy_poll || self.fill.needs_wakeup() {
            self.refill(1);
            self.wake_receiver();
        }
    }

    /// Lets the kernel look at the fill ring, and poll the device if busy polling is on.
    fn wake_receiver(&self) {
        let no_buffer = std::ptr::null_mut();
        // SAFETY: a buffer of length zero is never written.
        unsafe {
            libc::recvfrom(
                self.fd,
                no_buffer,
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Lets the kernel look at the transmit ring. In copy mode it sends a budget a call.
    fn kick(&mut self) {
        self.unsent = false;
        if !self.tx.needs_wakeup() {
            return;
        }
        for _ in 0..KICKS {
            // SAFETY: a buffer of length zero is never read.
            let result = unsafe {
                libc::sendto(self.fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
            };
            if result >= 0 {
                return;
            }
            match io::Error::last_os_error().raw_os_error() {
                // More stands in the ring.
                Some(libc::EAGAIN) => self.reap(),
                // The send buffer is full, or the device is: later.
                _ => break,
            }
        }
        self.unsent = true;
    }

    #[inline]
    fn is_inside(&self, descriptor: &FrameDesc) -> bool {
        let address = descriptor.addr();
        let offset = address & (self.frame_size - 1);
        address < self.length && descriptor.lengths().data() <= self.frame_size - offset
    }

    /// A received descriptor that is not inside one frame. Its frame is taken back if it is known
    /// which it is; otherwise it stays with the kernel for the balance.
    #[cold]
    fn refuse(&mut self, descriptor: FrameDesc) {
        self.refused += 1;
        if descriptor.addr() < self.length {
            self.filling -= 1;
            self.free.push(descriptor);
        }
    }

    #[inline]
    fn set_length(&self, frame: &mut Frame, length: usize) {
        assert_eq!(frame.owner, self.owner, "a frame of another queue");
        // SAFETY: as in `bytes`; the frame is borrowed mutably.
        let mut data = unsafe { self.umem.data_mut(&mut frame.descriptor) };
        data.cursor().set_pos(length);
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, which lives as long as the queue.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}
