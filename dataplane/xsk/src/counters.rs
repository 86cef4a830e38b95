//! What is counted: frames, the kernel's statistics, and the redirect program's.

/// Where a queue's frames are. What is in none of the three is held by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// All frames of the UMEM; constant.
    pub total: u64,
    /// With the kernel to receive into, or received and not yet taken.
    pub filling: u64,
    /// With the kernel to send, and not yet back.
    pub transmitting: u64,
    /// In the queue's own hand.
    pub free: u64,
}

impl Balance {
    /// Frames that the caller must be holding.
    ///
    /// # Panics
    /// When more frames are accounted for than there are.
    pub fn held(&self) -> u64 {
        let known = self.filling + self.transmitting + self.free;
        self.total.checked_sub(known).expect("no frame is in two places")
    }
}

/// `struct xdp_statistics`, and what the queue saw itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets dropped for another reason than a full receive ring: no frame to be had, or a
    /// packet longer than a frame.
    pub rx_dropped: u64,
    /// Packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times that the kernel found the fill ring empty; in copy mode each is a packet that
    /// `rx_dropped` counts too.
    pub fill_ring_empty: u64,
    /// Bad descriptors that the kernel found in the fill ring.
    pub rx_invalid_descriptors: u64,
    /// Bad descriptors that the kernel found in the transmit ring.
    pub tx_invalid_descriptors: u64,
    /// Times that the kernel found the transmit ring empty.
    pub tx_ring_empty: u64,
    /// Descriptors from the kernel that were not inside one frame; refused.
    pub descriptors_refused: u64,
}

/// What the redirect program did, packet by packet; the sum of all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedirectCounters {
    /// Bound, and given to a queue's socket.
    pub redirected: u64,
    /// Not bound: the kernel's.
    pub passed: u64,
    /// Fragments: the kernel's, which can reassemble them.
    pub fragments: u64,
    /// Headers cut short or wrong: the kernel's.
    pub unparsable: u64,
    /// Bound, but the queue has no socket: the kernel's.
    pub no_socket: u64,
}
