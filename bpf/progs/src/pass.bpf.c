// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
// Passes everything: what a veth needs on the receiving side to take XDP frames.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
