//! weir-progs
