//! The verifier against what it must accept and refuse, and against this kernel's.

mod case;
mod corpus;
mod differential;
mod kernel;
mod objects;
mod random;
mod recorded;
mod soundness;
mod speed;
