//! A flood that is bound by no skb: XDP frames made by running a program.

use std::io;

use crate::kernel::{LoadError, Object, OpenObject, Program, TestRun};
use crate::template::Template;

/// Frames that the kernel makes and redirects at once.
const BATCH: u32 = 64;
/// Frames a system call, as many as the kernel counts: a call costs some 20 ms in which nothing is
/// sent (Linux 6.18), as much as 300,000 frames. A signal is heard during a call.
const CALL: u64 = 1 << 30;

/// Why a flood cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FloodError {
    /// The kernel refused the program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel would not run it.
    #[error("cannot send live frames (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18 or later): {0}")]
    Run(io::Error),
    /// The program gave up on the frame.
    #[error("the flood program refuses its frame")]
    Frame,
}

/// Sends frames out of one interface by running an XDP program with
/// `BPF_F_TEST_XDP_LIVE_FRAMES`, on the calling thread's CPU.
///
/// Frames that the receiver does not take are dropped by the kernel and not counted anywhere that
/// can be seen here. On veth the peer takes them only if it has an XDP program, or GRO on.
#[derive(Debug)]
pub struct LiveFrames {
    object: Object,
    program: Program,
    frame: Vec<u8>,
}

impl LiveFrames {
    /// Loads the program for an interface of the caller's network namespace.
    ///
    /// # Errors
    /// [`FloodError::Load`].
    pub fn new(interface: u32, template: &Template) -> Result<LiveFrames, FloodError> {
        let mut object = OpenObject::open("flood", weir_progs::FLOOD)?;
        let offset = |value: usize| (value as u32).to_ne_bytes();
        object.set_global("ifindex", &interface.to_ne_bytes())?;
        object.set_global("transport_offset", &offset(template.transport))?;
        object.set_global("checksum_offset", &offset(template.checksum))?;
        object.set_global("ip_checksum_offset", &offset(template.ip_checksum.unwrap_or(0)))?;
        if template.random_bits > 0 {
            let mask = u32::MAX >> (32 - u32::from(template.random_bits));
            object.set_global("source_offset", &offset(template.source))?;
            object.set_global("source_mask", &mask.to_be_bytes())?;
        }
        object.set_global("first_port", &template.first_port.to_ne_bytes())?;
        object.set_global("ports", &template.ports.to_ne_bytes())?;
        let object = object.load()?;
        let program = object.program("flood")?;
        Ok(LiveFrames { object, program, frame: template.frame.clone() })
    }

    /// Sends `count` frames, and answers with how many went out: fewer if a signal came. Few at a
    /// time are slow: each call costs some 20 ms besides the frames.
    ///
    /// # Errors
    /// [`FloodError`].
    pub fn send(&mut self, count: u64) -> Result<u64, FloodError> {
        let before = self.sent()?;
        let mut left = count;
        while left > 0 {
            let repeat = left.min(CALL) as u32;
            let run = TestRun {
                data: &self.frame,
                repeat,
                flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
                batch_size: BATCH.min(repeat),
                ..TestRun::default()
            };
            match self.program.test_run(&run) {
                Ok(_) => left -= u64::from(repeat),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) => return Err(FloodError::Run(error)),
            }
        }
        let sent = self.sent()? - before;
        if sent == 0 && count > 0 && left < count { Err(FloodError::Frame) } else { Ok(sent) }
    }

    fn sent(&self) -> Result<u64, LoadError> {
        self.object.global("sent").map(u64::from_ne_bytes)
    }
}
