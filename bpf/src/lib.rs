//! weir-bpf
