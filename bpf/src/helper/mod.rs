//! Helpers as data, and [`Host`], the only way out of a program.

mod call;
mod trace;

pub(crate) use call::{REPEATABLE, Suitability, assign, call, status};
pub(crate) use trace::TEXT;

/// A socket as maps and programs hold it: given and understood by the host. `u64::MAX` is not a
/// socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// What a program may learn of a socket: what `bpf_sk_assign` checks, and `struct bpf_sock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFacts {
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// `SOCK_STREAM` (1) or `SOCK_DGRAM` (2).
    pub kind: u16,
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub protocol: u8,
    /// `IPV6_V6ONLY` is set.
    pub v6only: bool,
    /// The kernel's TCP state number (`ESTABLISHED` 1, `CLOSE` 7, `LISTEN` 10).
    pub state: u8,
    /// A reference must be taken to hold it (not `SOCK_RCU_FREE`).
    pub refcounted: bool,
    /// Device it is bound to, 0 for none.
    pub bound_dev_if: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_PRIORITY`.
    pub priority: u32,
    /// Local address, network order; IPv4 in the first four bytes.
    pub src_ip: [u8; 16],
    /// Local port, host order.
    pub src_port: u16,
    /// Remote address, network order; IPv4 in the first four bytes.
    pub dst_ip: [u8; 16],
    /// Remote port, host order.
    pub dst_port: u16,
    /// Receive queue that the socket was last seen on, -1 for none.
    pub rx_queue_mapping: i32,
}

/// What the world gives to a program.
pub trait Host {
    /// `bpf_ktime_get_ns`: nanoseconds since boot.
    fn now_ns(&self) -> u64;
    /// `bpf_get_prandom_u32`.
    fn random(&mut self) -> u32;
    /// `bpf_get_smp_processor_id`: the worker's index, below the `cpus` that maps were made for.
    fn cpu(&self) -> u32;
    /// One text of `bpf_trace_printk`.
    fn trace(&mut self, text: &str);
    /// The facts of a socket; `None` once it is gone.
    fn socket(&self, socket: SocketId) -> Option<SocketFacts>;
    /// A helper that a program without a hook calls ([`crate::Program::bare`]): the value of r0,
    /// or `None` for what this host does not have, which ends the run in a fault.
    fn call(&mut self, helper: HelperId, arguments: [u64; 5]) -> Option<u64> {
        let _ = (helper, arguments);
        None
    }
}

/// A helper function, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HelperId(pub u32);

impl HelperId {
    /// `bpf_map_lookup_elem`.
    pub const MAP_LOOKUP_ELEM: HelperId = HelperId(1);
    /// `bpf_map_update_elem`.
    pub const MAP_UPDATE_ELEM: HelperId = HelperId(2);
    /// `bpf_map_delete_elem`.
    pub const MAP_DELETE_ELEM: HelperId = HelperId(3);
    /// `bpf_ktime_get_ns`.
    pub const KTIME_GET_NS: HelperId = HelperId(5);
    /// `bpf_trace_printk`.
    pub const TRACE_PRINTK: HelperId = HelperId(6);
    /// `bpf_get_prandom_u32`.
    pub const GET_PRANDOM_U32: HelperId = HelperId(7);
    /// `bpf_get_smp_processor_id`.
    pub const GET_SMP_PROCESSOR_ID: HelperId = HelperId(8);
    /// `bpf_tail_call`.
    pub const TAIL_CALL: HelperId = HelperId(12);
    /// `bpf_sk_release`.
    pub const SK_RELEASE: HelperId = HelperId(86);
    /// `bpf_sk_assign`.
    pub const SK_ASSIGN: HelperId = HelperId(124);

    /// The prototype, if Weir has this helper.
    pub fn prototype(self) -> Option<&'static Prototype> {
        PROTOTYPES.iter().find(|prototype| prototype.id == self)
    }

    /// The kernel's name without its `bpf_`, also for helpers that Weir does not have.
    pub fn name(self) -> &'static str {
        NAMES.get(self.0 as usize).copied().unwrap_or("unknown")
    }
}

/// A helper's prototype.
#[derive(Debug, PartialEq, Eq)]
pub struct Prototype {
    /// Its number.
    pub id: HelperId,
    /// How many of r1–r5 it reads.
    pub arguments: u8,
    /// Only for programs under a GPL-compatible licence (`gpl_only` in the kernel).
    pub gpl_only: bool,
}

const fn prototype(id: HelperId, arguments: u8, gpl_only: bool) -> Prototype {
    Prototype { id, arguments, gpl_only }
}

/// Every helper that Weir has.
pub static PROTOTYPES: &[Prototype] = &[
    prototype(HelperId::MAP_LOOKUP_ELEM, 2, false),
    prototype(HelperId::MAP_UPDATE_ELEM, 4, false),
    prototype(HelperId::MAP_DELETE_ELEM, 2, false),
    prototype(HelperId::KTIME_GET_NS, 0, false),
    prototype(HelperId::TRACE_PRINTK, 5, true),
    prototype(HelperId::GET_PRANDOM_U32, 0, false),
    prototype(HelperId::GET_SMP_PROCESSOR_ID, 0, false),
    prototype(HelperId::TAIL_CALL, 3, false),
    prototype(HelperId::SK_RELEASE, 1, false),
    prototype(HelperId::SK_ASSIGN, 3, false),
];

/// `__BPF_FUNC_MAPPER` of include/uapi/linux/bpf.h.
#[rustfmt::skip]
static NAMES: &[&str] = &[
    "unspec", "map_lookup_elem", "map_update_elem", "map_delete_elem", "probe_read",
    "ktime_get_ns", "trace_printk", "get_prandom_u32", "get_smp_processor_id", "skb_store_bytes",
    "l3_csum_replace", "l4_csum_replace", "tail_call", "clone_redirect", "get_current_pid_tgid",
    "get_current_uid_gid", "get_current_comm", "get_cgroup_classid", "skb_vlan_push",
    "skb_vlan_pop", "skb_get_tunnel_key", "skb_set_tunnel_key", "perf_event_read", "redirect",
    "get_route_realm", "perf_event_output", "skb_load_bytes", "get_stackid", "csum_diff",
    "skb_get_tunnel_opt", "skb_set_tunnel_opt", "skb_change_proto", "skb_change_type",
    "skb_under_cgroup", "get_hash_recalc", "get_current_task", "probe_write_user",
    "current_task_under_cgroup", "skb_change_tail", "skb_pull_data", "csum_update",
    "set_hash_invalid", "get_numa_node_id", "skb_change_head", "xdp_adjust_head",
    "probe_read_str", "get_socket_cookie", "get_socket_uid", "set_hash", "setsockopt",
    "skb_adjust_room", "redirect_map", "sk_redirect_map", "sock_map_update", "xdp_adjust_meta",
    "perf_event_read_value", "perf_prog_read_value", "getsockopt", "override_return",
    "sock_ops_cb_flags_set", "msg_redirect_map", "msg_apply_bytes", "msg_cork_bytes",
    "msg_pull_data", "bind", "xdp_adjust_tail", "skb_get_xfrm_state", "get_stack",
    "skb_load_bytes_relative", "fib_lookup", "sock_hash_update", "msg_redirect_hash",
    "sk_redirect_hash", "lwt_push_encap", "lwt_seg6_store_bytes", "lwt_seg6_adjust_srh",
    "lwt_seg6_action", "rc_repeat", "rc_keydown", "skb_cgroup_id", "get_current_cgroup_id",
    "get_local_storage", "sk_select_reuseport", "skb_ancestor_cgroup_id", "sk_lookup_tcp",
    "sk_lookup_udp", "sk_release", "map_push_elem", "map_pop_elem", "map_peek_elem",
    "msg_push_data", "msg_pop_data", "rc_pointer_rel", "spin_lock", "spin_unlock", "sk_fullsock",
    "tcp_sock", "skb_ecn_set_ce", "get_listener_sock", "skc_lookup_tcp", "tcp_check_syncookie",
    "sysctl_get_name", "sysctl_get_current_value", "sysctl_get_new_value", "sysctl_set_new_value",
    "strtol", "strtoul", "sk_storage_get", "sk_storage_delete", "send_signal",
    "tcp_gen_syncookie", "skb_output", "probe_read_user", "probe_read_kernel",
    "probe_read_user_str", "probe_read_kernel_str", "tcp_send_ack", "send_signal_thread",
    "jiffies64", "read_branch_records", "get_ns_current_pid_tgid", "xdp_output",
    "get_netns_cookie", "get_current_ancestor_cgroup_id", "sk_assign", "ktime_get_boot_ns",
    "seq_printf", "seq_write", "sk_cgroup_id", "sk_ancestor_cgroup_id", "ringbuf_output",
    "ringbuf_reserve", "ringbuf_submit", "ringbuf_discard", "ringbuf_query", "csum_level",
    "skc_to_tcp6_sock", "skc_to_tcp_sock", "skc_to_tcp_timewait_sock", "skc_to_tcp_request_sock",
    "skc_to_udp6_sock", "get_task_stack", "load_hdr_opt", "store_hdr_opt", "reserve_hdr_opt",
    "inode_storage_get", "inode_storage_delete", "d_path", "copy_from_user", "snprintf_btf",
    "seq_printf_btf", "skb_cgroup_classid", "redirect_neigh", "per_cpu_ptr", "this_cpu_ptr",
    "redirect_peer", "task_storage_get", "task_storage_delete", "get_current_task_btf",
    "bprm_opts_set", "ktime_get_coarse_ns", "ima_inode_hash", "sock_from_file", "check_mtu",
    "for_each_map_elem", "snprintf", "sys_bpf", "btf_find_by_name_kind", "sys_close",
    "timer_init", "timer_set_callback", "timer_start", "timer_cancel", "get_func_ip",
    "get_attach_cookie", "task_pt_regs", "get_branch_snapshot", "trace_vprintk",
    "skc_to_unix_sock", "kallsyms_lookup_name", "find_vma", "loop", "strncmp", "get_func_arg",
    "get_func_ret", "get_func_arg_cnt", "get_retval", "set_retval", "xdp_get_buff_len",
    "xdp_load_bytes", "xdp_store_bytes", "copy_from_user_task", "skb_set_tstamp", "ima_file_hash",
    "kptr_xchg", "map_lookup_percpu_elem", "skc_to_mptcp_sock", "dynptr_from_mem",
    "ringbuf_reserve_dynptr", "ringbuf_submit_dynptr", "ringbuf_discard_dynptr", "dynptr_read",
    "dynptr_write", "dynptr_data", "tcp_raw_gen_syncookie_ipv4", "tcp_raw_gen_syncookie_ipv6",
    "tcp_raw_check_syncookie_ipv4", "tcp_raw_check_syncookie_ipv6", "ktime_get_tai_ns",
    "user_ringbuf_drain",
];

#[cfg(test)]
mod tests {
    use super::HelperId;

    #[test]
    fn numbers_have_the_kernels_names() {
        assert_eq!(HelperId::SK_ASSIGN.name(), "sk_assign");
        assert_eq!(HelperId::SK_RELEASE.name(), "sk_release");
        assert_eq!(HelperId::TRACE_PRINTK.name(), "trace_printk");
        assert_eq!(HelperId(9_999).name(), "unknown");
    }
}
