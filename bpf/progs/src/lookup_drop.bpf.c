// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
// Drops what is addressed to one port, set before or after the load.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Both in host byte order; 0 is no port. */
const volatile __u16 fixed_port = 0;
volatile __u16 port = 7;
volatile __u64 dropped;

SEC("sk_lookup")
int lookup_drop(struct bpf_sk_lookup *ctx)
{
	__u32 local = ctx->local_port;

	if (!local || (local != fixed_port && local != port))
		return SK_PASS;
	__sync_fetch_and_add(&dropped, 1);
	return SK_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
