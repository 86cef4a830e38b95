//! SEC() names: what program type and what attach type they stand for (libbpf's `section_defs`).

/// What a section's name says of its programs. The numbers are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionName<'a> {
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// `enum bpf_attach_type`; 0 where the type has none.
    pub attach_type: u32,
    /// What is behind the name's slash: a function, a tracepoint, a member of struct_ops.
    pub target: Option<&'a str>,
    /// `BPF_F_SLEEPABLE`.
    pub is_sleepable: bool,
    /// `BPF_F_XDP_HAS_FRAGS`.
    pub has_frags: bool,
    /// The name began with `?`: load only when asked for.
    pub is_optional: bool,
}

/// What may follow a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing, or a slash and anything (older objects number their sections so).
    Any,
    /// Nothing.
    Nothing,
}
use Rest::{Any, Nothing};

const SLEEPABLE: u8 = 1;
const FRAGS: u8 = 2;

/// Name, program type, attach type, what may follow, flags; longer names before their beginnings.
#[rustfmt::skip]
const NAMES: &[(&str, u32, u32, Rest, u8)] = &[
    ("socket", 1, 0, Any, 0),
    ("sk_reuseport/migrate", 21, 40, Nothing, 0),
    ("sk_reuseport", 21, 39, Any, 0),
    ("tc/ingress", 3, 46, Nothing, 0),
    ("tc/egress", 3, 47, Nothing, 0),
    ("tcx/ingress", 3, 46, Nothing, 0),
    ("tcx/egress", 3, 47, Nothing, 0),
    ("tc", 3, 0, Any, 0),
    ("classifier", 3, 0, Any, 0),
    ("action", 4, 0, Any, 0),
    ("raw_tracepoint.w", 24, 0, Any, 0),
    ("raw_tp.w", 24, 0, Any, 0),
    ("raw_tracepoint", 17, 0, Any, 0),
    ("raw_tp", 17, 0, Any, 0),
    ("tp_btf", 26, 23, Any, 0),
    ("fentry.s", 26, 24, Any, SLEEPABLE),
    ("fentry", 26, 24, Any, 0),
    ("fmod_ret.s", 26, 26, Any, SLEEPABLE),
    ("fmod_ret", 26, 26, Any, 0),
    ("fexit.s", 26, 25, Any, SLEEPABLE),
    ("fexit", 26, 25, Any, 0),
    ("freplace", 28, 0, Any, 0),
    ("iter.s", 26, 28, Any, SLEEPABLE),
    ("iter", 26, 28, Any, 0),
    ("syscall", 31, 0, Nothing, SLEEPABLE),
    ("xdp.frags/devmap", 6, 33, Nothing, FRAGS),
    ("xdp/devmap", 6, 33, Nothing, 0),
    ("xdp.frags/cpumap", 6, 35, Nothing, FRAGS),
    ("xdp/cpumap", 6, 35, Nothing, 0),
    ("xdp.frags", 6, 37, Any, FRAGS),
    ("xdp", 6, 37, Any, 0),
    ("sockops", 13, 3, Any, 0),
    ("sk_skb/stream_parser", 14, 4, Any, 0),
    ("sk_skb/stream_verdict", 14, 5, Any, 0),
    ("sk_skb/verdict", 14, 38, Any, 0),
    ("sk_skb", 14, 0, Any, 0),
    ("sk_msg", 16, 7, Any, 0),
    ("flow_dissector", 22, 17, Any, 0),
    ("cgroup/sysctl", 23, 18, Any, 0),
    ("cgroup/getsockopt", 25, 21, Any, 0),
    ("cgroup/setsockopt", 25, 22, Any, 0),
    ("cgroup_skb/ingress", 8, 0, Any, 0),
    ("cgroup_skb/egress", 8, 1, Any, 0),
    ("cgroup/skb", 8, 0, Any, 0),
    ("cgroup/bind4", 18, 8, Any, 0),
    ("cgroup/bind6", 18, 9, Any, 0),
    ("cgroup/connect4", 18, 10, Any, 0),
    ("cgroup/connect6", 18, 11, Any, 0),
    ("struct_ops.s", 27, 0, Any, SLEEPABLE),
    ("struct_ops", 27, 0, Any, 0),
    ("sk_lookup", 30, 36, Any, 0),
];

impl SectionName<'_> {
    /// Reads a name; `None` for one that no program type here has.
    pub fn parse(section: &str) -> Option<SectionName<'_>> {
        let name = section.strip_prefix('?').unwrap_or(section);
        NAMES.iter().find_map(|(known, program_type, attach_type, rest, flags)| {
            let behind = name.strip_prefix(known)?;
            let target = match behind.strip_prefix('/') {
                Some(target) if *rest == Any => Some(target),
                None if behind.is_empty() => None,
                _ => return None,
            };
            Some(SectionName {
                program_type: *program_type,
                attach_type: *attach_type,
                target: target.filter(|target| !target.is_empty()),
                is_sleepable: flags & SLEEPABLE != 0,
                has_frags: flags & FRAGS != 0,
                is_optional: name.len() != section.len(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SectionName;

    #[test]
    fn names_have_types_targets_and_flags() {
        let read =
            |name| SectionName::parse(name).map(|of| (of.program_type, of.attach_type, of.target));
        assert_eq!(read("sk_lookup/first"), Some((30, 36, Some("first"))));
        assert_eq!(read("sk_reuseport/migrate"), Some((21, 40, None)));
        assert_eq!(read("sk_reuseport"), Some((21, 39, None)));
        assert_eq!(read("sk_skb/verdict/x"), Some((14, 38, Some("x"))));
        assert_eq!(read("fentry/tcp_sendmsg"), Some((26, 24, Some("tcp_sendmsg"))));
        assert_eq!(read("xdpx"), None);
        assert_eq!(read("tracepoint/a/b"), None);
        let of = SectionName::parse("?struct_ops.s/init").unwrap();
        assert!(of.is_optional && of.is_sleepable && of.target == Some("init"));
        assert!(SectionName::parse("xdp.frags").unwrap().has_frags);
    }
}
