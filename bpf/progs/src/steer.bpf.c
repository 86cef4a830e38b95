// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
// Gives a prefix's port, or all ports of an address, to a socket: the two steerings for which
// sk_lookup was made.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FAMILY_INET 2
#define PREFIXLEN_ALL 160

struct binding {
	__u32 prefixlen;
	__u16 protocol;
	__u16 port;       /* big endian, 0: all ports */
	__u8 address[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct binding);
	__type(value, __u32);
} bindings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	struct binding key = { .prefixlen = PREFIXLEN_ALL };
	__u32 *words = (__u32 *)key.address;
	struct bpf_sock *socket;
	__u32 *index;
	long error;

	key.protocol = ctx->protocol;
	key.port = bpf_htons(ctx->local_port);
	if (ctx->family == FAMILY_INET) {
		__u32 address = ctx->local_ip4;

		/* Else clang reads this and the last word below by one instruction with a
		 * computed offset, and the verifier wants constant ones. */
		barrier_var(address);
		words[2] = bpf_htonl(0xffff);
		words[3] = address;
	} else {
		words[0] = ctx->local_ip6[0];
		words[1] = ctx->local_ip6[1];
		words[2] = ctx->local_ip6[2];
		words[3] = ctx->local_ip6[3];
	}
	index = bpf_map_lookup_elem(&bindings, &key);
	if (!index) {
		key.port = 0;
		index = bpf_map_lookup_elem(&bindings, &key);
		if (!index)
			return SK_PASS;
	}
	socket = bpf_map_lookup_elem(&sockets, index);
	if (!socket)
		return SK_PASS;
	error = bpf_sk_assign(ctx, socket, 0);
	bpf_sk_release(socket);
	return error ? SK_DROP : SK_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
