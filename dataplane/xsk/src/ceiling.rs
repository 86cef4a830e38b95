//! The bare receive loop: what AF_XDP gives on this machine when nobody looks at the packets.

use std::sync::atomic::{AtomicBool, Ordering};

use xsk_rs::FrameDesc;

use crate::config::QueueConfig;
use crate::kernel::{AttachMode, Link, LoadError, Map, Object};
use crate::open::{self, OpenError, Parts};

/// An AF_XDP socket with nothing around it, and a program that redirects everything to it.
pub struct Ceiling {
    // First: nothing is redirected to a socket that is gone.
    _link: Link,
    _sockets: Map,
    parts: Parts,
    batch: usize,
}

/// Why there is no bare loop.
#[derive(Debug, thiserror::Error)]
pub enum CeilingError {
    /// The socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The interface, or the program's map.
    #[error("cannot attach: {0}")]
    Attach(#[from] std::io::Error),
}

impl Ceiling {
    /// Opens the queue as [`crate::Queue::open`] would, and redirects all of it.
    ///
    /// # Errors
    /// [`CeilingError`].
    ///
    /// # Panics
    /// When a new fill ring takes no frames.
    pub fn open(
        config: &QueueConfig,
        interface: u32,
        mode: AttachMode,
    ) -> Result<Ceiling, CeilingError> {
        let mut parts = open::open(config)?;
        let object = Object::load("redirect_all", weir_progs::REDIRECT_ALL)?;
        let sockets = object.map("sockets")?;
        sockets.update(&config.queue.to_ne_bytes(), &parts.fd.to_ne_bytes(), 0)?;
        let count = parts.descriptors.len().min(config.fill_ring as usize);
        // SAFETY: the frames are of the queue's own UMEM, and no longer used by us.
        let given = unsafe { parts.fill.produce(&parts.descriptors[..count]) };
        assert_eq!(given, count, "a new ring is empty");
        let link = object.program("redirect_all")?.attach_xdp(interface, mode)?;
        Ok(Ceiling { _link: link, _sockets: sockets, parts, batch: crate::queue::BATCH })
    }

    /// Receives and gives back, until `stop` says so. Returns how many packets there were.
    pub fn bare_receive_loop(&mut self, stop: &AtomicBool) -> u64 {
        let mut batch = vec![FrameDesc::default(); self.batch];
        let mut received = 0;
        while !stop.load(Ordering::Relaxed) {
            // SAFETY: the descriptors are looked at by nobody, only given back.
            let taken = unsafe { self.parts.rx.consume(&mut batch) };
            if taken == 0 {
                continue;
            }
            let mut given = 0;
            while given < taken {
                // SAFETY: the frames have just been received, and are used by nobody.
                given += unsafe { self.parts.fill.produce(&batch[given..taken]) };
            }
            received += taken as u64;
        }
        received
    }
}
