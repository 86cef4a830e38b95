//! Any text as a configuration; see `tests/corpus.rs` for the replay.

#![no_main]

#[path = "../../tests/config_text/mod.rs"]
mod config_text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    config_text::exercise(bytes);
});
