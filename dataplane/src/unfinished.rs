//! Peers whose checksums are bad in the way that Linux leaves them to hardware that is not there
//! (CHECKSUM_PARTIAL over veth). A run of them from one peer is reported once a run; one good
//! packet from the peer ends the run.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::limits::{UNFINISHED_PEERS, UNFINISHED_RUN};

/// Runs by peer; the peer seen longest ago makes room.
#[derive(Debug, Default)]
pub struct UnfinishedChecksums {
    runs: ArrayVec<(IpAddr, u32), UNFINISHED_PEERS>,
}

impl UnfinishedChecksums {
    /// Counts one; the length of the run when it is time to say so.
    pub fn seen(&mut self, peer: IpAddr) -> Option<u32> {
        let run = match self.runs.iter().position(|(known, _)| *known == peer) {
            Some(place) => self.runs.remove(place).1.saturating_add(1),
            None => 1,
        };
        if self.runs.is_full() {
            self.runs.remove(0);
        }
        self.runs.push((peer, run));
        (run == UNFINISHED_RUN).then_some(run)
    }

    /// A good packet from the peer.
    #[inline]
    pub fn good(&mut self, peer: impl FnOnce() -> IpAddr) {
        if !self.runs.is_empty() {
            let peer = peer();
            self.runs.retain(|(known, _)| *known != peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_reported_once_and_ended_by_a_good_packet() {
        let mut unfinished = UnfinishedChecksums::default();
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let reports = |u: &mut UnfinishedChecksums| (0..100).filter_map(|_| u.seen(peer)).count();
        assert_eq!(reports(&mut unfinished), 1);
        assert_eq!(reports(&mut unfinished), 0);
        unfinished.good(|| peer);
        assert_eq!(reports(&mut unfinished), 1);
    }

    #[test]
    fn many_peers_do_not_grow_the_table() {
        let mut unfinished = UnfinishedChecksums::default();
        for host in 0..10_000u32 {
            unfinished.seen(IpAddr::from(host.to_be_bytes()));
        }
        assert_eq!(unfinished.runs.len(), UNFINISHED_PEERS);
    }
}
