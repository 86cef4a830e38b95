//! Any bytes through everything that reads a frame; see `tests/corpus.rs` for the replay.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/frames/mod.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    frames::exercise(frame);
});
