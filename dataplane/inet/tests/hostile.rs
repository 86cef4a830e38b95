//! Frames that nobody would send by accident.

mod frames;

use proptest::prelude::*;

/// SplitMix64: a failing case is named by its seed and round.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        const TELLING: [u8; 16] =
            [0, 1, 4, 6, 7, 8, 17, 43, 44, 51, 58, 60, 0x7f, 0x81, 0xe0, 0xff];
        match self.below(8) {
            0 => frame.truncate(self.below(frame.len() + 1)),
            1 => {
                let length = frame.len() + self.below(64);
                frame.resize(length, self.next() as u8);
            }
            2 if frame.len() > 16 => {
                let at = 12 + self.below(frame.len() - 12);
                let piece: Vec<u8> = frame[at..].iter().copied().take(8).collect();
                frame.splice(at..at, piece);
            }
            _ if frame.is_empty() => {}
            kind => {
                // Most of what decides is in the first 80 bytes.
                let at = self.below(frame.len().min(80));
                frame[at] = match kind {
                    3 | 4 => TELLING[self.below(TELLING.len())],
                    5 => frame[at] ^ 1 << self.below(8),
                    _ => self.next() as u8,
                };
            }
        }
    }
}

#[test]
fn every_truncation_of_every_frame() {
    for frame in frames::corpus().values() {
        for length in 0..frame.len() {
            let accepted = frames::exercise(&frame[..length]);
            // None of the captured frames bears a trailer that it could lose.
            assert!(!accepted, "cut to {length}: {:02x?}", &frame[..length.min(60)]);
        }
    }
}

#[test]
fn every_byte_of_every_frame_set_to_telling_values() {
    for frame in frames::corpus().values() {
        let mut copy = frame.clone();
        for at in 0..copy.len().min(100) {
            for byte in [0, 1, 0x7f, 0x80, 0xff, frame[at] ^ 1, frame[at] ^ 0x80] {
                copy[at] = byte;
                frames::exercise(&copy);
            }
            copy[at] = frame[at];
        }
    }
}

#[test]
fn half_a_million_mutated_frames() {
    let seed = 0x7765_6972;
    let mut random = Random(seed);
    let corpus: Vec<Vec<u8>> = frames::corpus().into_values().collect();
    let mut accepted = 0;
    for _ in 0..500_000 {
        let mut frame = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            random.mutate(&mut frame);
        }
        accepted += u32::from(frames::exercise(&frame));
    }
    // Mutations that reach nothing, or that change nothing, would prove nothing.
    assert!((5_000..250_000).contains(&accepted), "{accepted} accepted");
}

proptest! {
    #[test]
    fn any_bytes(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        frames::exercise(&frame);
    }

    #[test]
    fn any_ipv6_chain(
        first in prop::sample::select(vec![0u8, 17, 43, 44, 51, 58, 60]),
        body in proptest::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(17), Just(60), Just(44), any::<u8>()], 0..160),
    ) {
        let envelope = frames::envelope("[2001:db8::1]:1", "[2001:db8::2]:2");
        let mut frame = frames::udp_frame(&envelope, &body);
        frame[20] = first;
        frame.drain(54..62);
        let length = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        frames::exercise(&frame);
    }
}
