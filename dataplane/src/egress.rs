//! From sockets to frames: services answer, the refused are told, and what waits goes out.

use weir_inet::Packet;

use crate::batch::{Batch, Entry, Fate, Found, Live};
use crate::counters::Counters;
use crate::device::Device;
use crate::limits::{ANSWER, ICMP_BURST, ICMP_PER_SECOND, OUTGOING};
use crate::reason::Reason;
use crate::socket::Service;
use crate::tables::Tables;
use crate::token_bucket::TokenBucket;

/// What waits for the transmit ring, and what bounds the answers of our own.
#[derive(Debug)]
pub struct Egress<F> {
    outgoing: Vec<F>,
    icmp: TokenBucket,
    answer: Box<[u8; ANSWER]>,
}

/// Which door a frame takes.
enum Door {
    Outgoing,
    Done,
}

impl<F> Egress<F> {
    /// Nothing waits.
    pub fn new() -> Egress<F> {
        Egress {
            outgoing: Vec::with_capacity(OUTGOING),
            icmp: TokenBucket::new(ICMP_PER_SECOND, ICMP_BURST),
            answer: Box::new([0; ANSWER]),
        }
    }

    /// Frames that wait.
    pub fn backlog(&self) -> usize {
        self.outgoing.len()
    }

    /// Lets time pass; `now` in nanoseconds.
    pub fn expire(&mut self, now: u64) {
        self.icmp.fill(now);
    }

    /// Brings each packet of the batch to its end: taken by a service, answered, refused or
    /// dropped. The batch is empty afterwards but for the frames done with.
    pub fn deliver<D: Device<Frame = F>>(
        &mut self,
        device: &mut D,
        tables: &mut Tables,
        batch: &mut Batch<F>,
        counters: &mut Counters,
    ) {
        for (mut frame, entry) in batch.frames.drain(..).zip(batch.entries.drain(..)) {
            let door = match entry {
                Entry::Lost(reason) => lose(counters, reason),
                Entry::Live(Live { packet, fate: Fate::Socket(slot, found), .. }) => {
                    count_found(counters, found);
                    self.serve(device, tables, counters, (slot, found), &mut frame, &packet)
                }
                Entry::Live(Live { packet, fate: Fate::Refused(reason), .. }) => {
                    counters.lookup.missed += 1;
                    self.refuse(device, counters, reason, &mut frame, &packet)
                }
                Entry::Live(Live { fate: Fate::Seeking, .. }) => {
                    unreachable!("the last search leaves nobody seeking")
                }
            };
            match door {
                Door::Outgoing => self.outgoing.push(frame),
                Door::Done => batch.done.push(frame),
            }
        }
    }

    fn serve<D: Device<Frame = F>>(
        &mut self,
        device: &mut D,
        tables: &mut Tables,
        counters: &mut Counters,
        (slot, found): (u32, Found),
        frame: &mut F,
        packet: &Packet,
    ) -> Door {
        let service = tables.service(slot);
        let bytes = u64::from(packet.payload_length);
        let socket = tables.counters_mut(slot);
        socket.received += 1;
        socket.received_bytes += bytes;
        socket.steered += u64::from(found == Found::Steered);
        match service {
            Service::Discard => {
                counters.delivered += 1;
                Door::Done
            }
            Service::Echo => {
                if self.outgoing.len() == OUTGOING {
                    return lose(counters, Reason::TransmitBacklog);
                }
                let reply = weir_inet::udp::reply_in_place(device.bytes_mut(frame), packet);
                let Some(reply) = reply else { return lose(counters, Reason::Unanswerable) };
                device.shrink(frame, reply.start, reply.len());
                socket.sent += 1;
                socket.sent_bytes += bytes;
                counters.answered += 1;
                counters.transmitted_bytes += reply.len() as u64;
                Door::Outgoing
            }
        }
    }

    /// ICMP port unreachable where the kernel would send one, as often as it would.
    fn refuse<D: Device<Frame = F>>(
        &mut self,
        device: &mut D,
        counters: &mut Counters,
        reason: Reason,
        frame: &mut F,
        packet: &Packet,
    ) -> Door {
        if self.outgoing.len() == OUTGOING || !self.icmp.take() {
            return lose(counters, reason);
        }
        let answer = self.answer.as_mut_slice();
        let length = weir_inet::icmp::unreachable_port(device.bytes(frame), packet, answer);
        match length {
            Some(length) if device.replace(frame, &self.answer[..length]) => {
                counters.refused += 1;
                counters.transmitted_bytes += length as u64;
                Door::Outgoing
            }
            _ => lose(counters, reason),
        }
    }

    /// Gives the device what it will take of what waits. It is asked with nothing to send too:
    /// it may have frames of earlier turns to bring on their way.
    pub fn emit<D: Device<Frame = F>>(&mut self, device: &mut D, counters: &mut Counters) -> usize {
        let sent = device.transmit(&mut self.outgoing);
        counters.transmitted += sent as u64;
        sent
    }

    /// Takes what waits, at a worker's end.
    pub fn abandon(&mut self, done: &mut Vec<F>) {
        done.append(&mut self.outgoing);
    }
}

impl<F> Default for Egress<F> {
    fn default() -> Egress<F> {
        Egress::new()
    }
}

fn lose(counters: &mut Counters, reason: Reason) -> Door {
    counters.drop(reason);
    Door::Done
}

fn count_found(counters: &mut Counters, found: Found) {
    let lookup = &mut counters.lookup;
    match found {
        Found::Connected => lookup.connected += 1,
        Found::Steered => lookup.steered += 1,
        Found::Bound => lookup.bound += 1,
        Found::Wildcard => lookup.wildcard += 1,
    }
}
