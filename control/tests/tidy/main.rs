//! The house rules that a machine can hold: who may use whom, where `unsafe` may stand, how long
//! a file or function may be, what things may be called, and that the documents tell the truth.
//!
//! Each rule is a function from text to complaints, tried on a bad sample beside the real tree.

mod crates;
mod documents;
mod names;
mod rust;
mod size;
mod text;
mod tree;
mod unsafety;

/// Fails with every complaint, one a line.
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
