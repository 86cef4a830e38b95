//! What the tests share: a bed, a queue with the redirect program, and a way out without root.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::IpAddr;

use weir_lab::{Bed, BedOptions};
use weir_xsk::{Binding, Frame, Protocol, Queue, QueueConfig, Redirect, interface_index};

/// The bed, or `None` with the reason printed, if this process may not have one.
pub fn bed(options: BedOptions) -> Option<Bed> {
    if let Err(reason) = weir_lab::privileged() {
        println!("skipped: {reason}");
        return None;
    }
    Some(Bed::new(options).expect("a bed"))
}

/// A queue that is registered with a redirect program of its own.
pub struct Port {
    pub redirect: Redirect,
    pub queue: Queue,
}

impl Port {
    pub fn open(bed: &Bed, bindings: &[Binding]) -> Port {
        bed.weir().enter(|| {
            let index = interface_index(Bed::WEIR_DEVICE).unwrap();
            let mut redirect = Redirect::attach(index, None).unwrap();
            let queue = Queue::open(&QueueConfig::new(Bed::WEIR_DEVICE, 0)).unwrap();
            redirect.register(&queue).unwrap();
            redirect.set_bindings(bindings).unwrap();
            Port { redirect, queue }
        })
    }
}

pub fn binding(prefix: &str, protocol: Protocol, port: Option<u16>) -> Binding {
    let (address, length) = prefix.split_once('/').unwrap();
    let address: IpAddr = address.parse().unwrap();
    Binding::new((address, length.parse().unwrap()), protocol, port).unwrap()
}

/// Fails unless the frames that are not `held` here are all accounted for by the queue.
#[track_caller]
pub fn assert_balance(queue: &Queue, held: &[Frame]) {
    assert_eq!(queue.balance().held(), held.len() as u64, "{:?}", queue.balance());
}

/// The UDP payload of an Ethernet frame without VLAN tags, options or extension headers.
pub fn payload(frame: &[u8]) -> &[u8] {
    match frame[12..14] {
        [0x08, 0x00] => &frame[42..],
        _ => &frame[62..],
    }
}

/// Turns a UDP packet around: addresses and ports change places, which changes no checksum.
pub fn turn_around(frame: &mut [u8]) {
    let (first, second) = frame.split_at_mut(6);
    first.swap_with_slice(&mut second[..6]);
    let (addresses, length) = if frame[12] == 0x08 { (26, 4) } else { (22, 16) };
    let (first, second) = frame[addresses..].split_at_mut(length);
    first.swap_with_slice(&mut second[..length]);
    let ports = addresses + 2 * length;
    let (first, second) = frame[ports..].split_at_mut(2);
    first.swap_with_slice(&mut second[..2]);
}
