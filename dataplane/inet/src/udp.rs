//! Answers to datagrams, made in the frame that brought them.

use core::ops::Range;

use crate::build::{Envelope, put};
use crate::flow::{FlowKey, Protocol};
use crate::packet::{ChecksumState, Packet, Transport};
use crate::wire::udp::{HEADER_LENGTH, UdpHeader};

/// Turns a received datagram into one that goes back with the same payload, and returns
/// where in the frame it lies.
///
/// The payload stays where it is; new headers are written in front of it. IPv4 options and
/// IPv6 extension headers are not reflected, so where there were any the reply starts later
/// in the frame. VLAN tags are kept; hop limit 64, traffic class 0.
///
/// A checksum that was verified still holds, because addresses and ports trade places and a
/// sum does not mind; any other is computed.
///
/// `None`, and the frame as it was, if `packet` is no datagram or not this frame's, or if
/// either end is no single host: a group address of either layer, `0.0.0.0/8`, `::`.
#[inline]
#[must_use]
pub fn reply_in_place(frame: &mut [u8], packet: &Packet) -> Option<Range<usize>> {
    let field = usize::from(packet.transport_offset) + 6;
    let checksum = match packet.checksum {
        ChecksumState::Verified => {
            Some(u16::from_be_bytes(*frame.get(field..)?.first_chunk::<2>()?))
        }
        ChecksumState::Absent | ChecksumState::Unchecked => None,
    };
    write_reply(frame, packet, usize::from(packet.payload_length), checksum)
}

/// As [`reply_in_place`], for a service that has written its answer, of `payload_length`
/// bytes, over the payload. It may be longer than the payload was, up to the frame's end.
#[inline]
#[must_use]
pub fn reply_rewritten(
    frame: &mut [u8],
    packet: &Packet,
    payload_length: usize,
) -> Option<Range<usize>> {
    write_reply(frame, packet, payload_length, None)
}

#[inline]
fn write_reply(
    frame: &mut [u8],
    packet: &Packet,
    payload_length: usize,
    checksum: Option<u16>,
) -> Option<Range<usize>> {
    if packet.transport != Transport::Udp || !packet.is_between_hosts() {
        return None;
    }
    let FlowKey { local, remote, .. } = packet.key;
    let envelope = Envelope {
        ethernet: packet.ethernet.reversed(),
        vlan: packet.vlan,
        source: local,
        destination: remote,
        traffic_class: 0,
    };
    let segment_length = HEADER_LENGTH + payload_length;
    let length = u16::try_from(segment_length).ok()?;
    let payload_offset = usize::from(packet.payload_offset);
    let start = payload_offset.checked_sub(HEADER_LENGTH + envelope.length())?;
    let end = payload_offset + payload_length;
    let payload = frame.get(payload_offset..end)?;
    let header = UdpHeader {
        source_port: local.port,
        destination_port: remote.port,
        length,
        checksum: checksum.unwrap_or(0),
    };
    let header = match checksum {
        Some(_) => header,
        None => header.with_checksum(envelope.pseudo(Protocol::Udp, length), payload),
    };
    let rest = envelope.write(frame.get_mut(start..end)?, Protocol::Udp, segment_length)?;
    put(rest, header.emit())?;
    Some(start..end)
}
