//! From frames to sockets: parse, find, steer. Each step is one loop over the batch, and asks the
//! processor for what the next one will read.

use weir_inet::{Address, ChecksumPolicy, Endpoint, Family, Transport, parse};

use crate::batch::{Batch, Entry, Fate, Found, Live};
use crate::device::Device;
use crate::mailbox::{Event, Mailbox};
use crate::reason::Reason;
use crate::steer::{Steered, Steering};
use crate::tables::Tables;
use crate::unfinished::UnfinishedChecksums;

/// Headers become values; what is not a good packet leaves.
pub fn parse_batch<D: Device>(
    device: &D,
    batch: &mut Batch<D::Frame>,
    unfinished: &mut UnfinishedChecksums,
    mailbox: &Mailbox,
) -> u64 {
    for frame in &batch.frames {
        device.prefetch(frame);
    }
    let mut total = 0;
    for frame in &batch.frames {
        let bytes = device.bytes(frame);
        total += bytes.len() as u64;
        let entry = match parse(bytes, ChecksumPolicy::Verify) {
            Ok(packet) => {
                unfinished.good(|| packet.key.remote.address.ip());
                match packet.transport {
                    Transport::Udp => Entry::Live(Live { packet, hash: 0, fate: Fate::Seeking }),
                    Transport::Tcp { .. } => Entry::Lost(Reason::NoListener),
                    _ => Entry::Lost(Reason::IcmpUnserved),
                }
            }
            Err(error) => {
                if error.is_unfinished_checksum() {
                    note_unfinished(bytes, unfinished, mailbox);
                }
                Entry::Lost(Reason::Parse(error))
            }
        };
        batch.entries.push(entry);
    }
    total
}

#[cold]
fn note_unfinished(bytes: &[u8], unfinished: &mut UnfinishedChecksums, mailbox: &Mailbox) {
    let Ok(packet) = parse(bytes, ChecksumPolicy::Ignore) else { return };
    let peer = packet.key.remote.address.ip();
    if let Some(run) = unfinished.seen(peer) {
        // A full queue loses the remark; the run will be counted in the drops all the same.
        let _ = mailbox.events.push(Event::UnfinishedChecksums(peer, run));
    }
}

/// Connected sockets, by the whole 4-tuple.
pub fn find<F>(tables: &Tables, batch: &mut Batch<F>) {
    if !tables.has_connected() {
        return;
    }
    for live in batch.seeking() {
        live.hash = tables.flow_hash(&live.packet.key);
        tables.prefetch_connected(live.hash);
    }
    for live in batch.seeking() {
        if let Some(slot) = tables.find_connected(live.hash, &live.packet.key) {
            live.fate = Fate::Socket(slot, Found::Connected);
        }
    }
}

/// The programs, for what `find` did not know; then the bound address, then the wildcard.
pub fn steer<F>(
    tables: &Tables,
    steering: &mut Steering,
    batch: &mut Batch<F>,
    now: u64,
    mailbox: &Mailbox,
) {
    if !steering.is_empty() {
        steering.refresh(tables);
        // Values, maps and programs that others take away meanwhile stay until this batch is done.
        let _pinned = weir_bpf::epoch::pin();
        for live in batch.seeking() {
            // As in the kernel: no lookup programs for what goes to many.
            if goes_to_many(live.packet.key.local.address) {
                continue;
            }
            live.fate = match steering.run(&live.packet.key, tables, now, mailbox) {
                Steered::On => Fate::Seeking,
                Steered::Dropped => Fate::Refused(Reason::ProgramDrop),
                Steered::Faulted => Fate::Refused(Reason::ProgramFault),
                Steered::To(socket) => match tables.resolve(socket) {
                    Some(slot) => Fate::Socket(slot, Found::Steered),
                    None => Fate::Refused(Reason::NoSocket),
                },
            };
        }
    }
    find_bound(tables, batch);
}

fn find_bound<F>(tables: &Tables, batch: &mut Batch<F>) {
    for live in batch.seeking() {
        live.hash = tables.endpoint_hash(&live.packet.key.local);
        tables.prefetch_bound(live.hash);
    }
    for live in batch.seeking() {
        tables.prefetch_bound_slot(live.hash);
    }
    for live in batch.seeking() {
        live.fate = match tables.find_bound(live.hash, &live.packet.key.local) {
            Some(slot) => Fate::Socket(slot, Found::Bound),
            None => find_wildcard(tables, &live.packet.key.local),
        };
    }
}

fn find_wildcard(tables: &Tables, local: &Endpoint) -> Fate {
    let any = match local.address.family() {
        Family::Ipv4 => Address::v4([0; 4]),
        Family::Ipv6 => Address::v6([0; 16]),
    };
    let wildcard = Endpoint::new(any, local.port);
    match tables.find_bound(tables.endpoint_hash(&wildcard), &wildcard) {
        Some(slot) => Fate::Socket(slot, Found::Wildcard),
        None => Fate::Refused(Reason::NoSocket),
    }
}

fn goes_to_many(address: Address) -> bool {
    address.is_multicast() || address.is_limited_broadcast()
}
