//! weir-inet
