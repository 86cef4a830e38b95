//! weir-xsk
