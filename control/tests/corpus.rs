//! The corpus of the fuzz target `config`, and what mutation makes of it.

mod config_text;

use std::fs;
use std::path::Path;

use config_text::exercise;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let files = [folder, configs].map(|folder| fs::read_dir(folder).unwrap());
    files.into_iter().flatten().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpus_harms_nothing() {
    let corpus = corpus();
    assert!(corpus.len() >= 8, "the corpus is there");
    corpus.iter().for_each(|text| exercise(text));
}

#[test]
fn nor_does_what_becomes_of_it() {
    // xorshift64: the same mutations in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let corpus = corpus();
    for _ in 0..20_000 {
        let mut text = corpus[random(corpus.len())].clone();
        for _ in 0..=random(4) {
            let at = random(text.len().max(1));
            match random(5) {
                0 => text.truncate(at),
                1 if !text.is_empty() => text[at] = b"\n\"=[]{}./,:-x0189ef"[random(19)],
                2 if !text.is_empty() => drop(text.remove(at)),
                3 => {
                    let other = &corpus[random(corpus.len())];
                    let from = random(other.len().max(1));
                    text.splice(at..at, other[from.min(other.len())..].iter().copied());
                }
                _ => {
                    let end = (at + random(40)).min(text.len());
                    let part = text[at.min(end)..end].to_vec();
                    text.extend(part);
                }
            }
        }
        text.truncate(16 * 1024);
        exercise(&text);
    }
}
