//! Weir's own BPF programs: C compiled by the build, as ELF objects that the kernel and Weir load
//! alike.

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The object of that name (its file's stem, such as `steer`), if there is one.
pub fn by_name(name: &str) -> Option<&'static [u8]> {
    ALL.iter().find(|(stem, _)| *stem == name).map(|(_, object)| *object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_a_bpf_elf() {
        assert_eq!(by_name("steer"), Some(STEER));
        assert_eq!(by_name("nothing"), None);
        for (name, object) in ALL {
            assert_eq!(&object[..4], b"\x7fELF", "{name}");
            // e_machine of a little-endian file: EM_BPF.
            assert_eq!(&object[18..20], &[247, 0], "{name}");
        }
    }
}
