// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
// Redirects to AF_XDP what is bound, and passes everything else to the kernel.
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_QUEUES 256
#define MAX_BINDINGS 65536
#define RULES 8
#define VLAN_TAGS 2
#define EXTENSION_HEADERS 6
#define FRAGMENT_BITS 0x3fff /* more fragments, or an offset */

enum counter { REDIRECTED, PASSED, FRAGMENTS, UNPARSABLE, NO_SOCKET, COUNTERS };

/* Protocol and port stand before the address, so that the longest prefix is the longest of
 * those bound for this very protocol and port. The family keeps ::/0 from matching IPv4. */
struct key {
	__u32 prefixlen;
	__u8 protocol; /* 0: any */
	__u8 family;   /* 4 or 6 */
	__be16 port;   /* 0: all */
	__u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_BINDINGS);
	__type(key, struct key);
	__type(value, __u32);
} bindings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* While there are few bindings, they stand here too, and walking them is several times faster
 * than asking the trie. The loader writes a rule while it is off, and turns it on last. */
struct rule4 {
	__be32 network;
	__be32 mask;
	__u8 on;
	__u8 protocol; /* 0: any */
	__be16 port;   /* 0: all */
};

struct rule6 {
	__u64 network[2];
	__u64 mask[2];
	__u8 on;
	__u8 protocol;
	__be16 port;
	__u32 padding;
};

volatile struct rule4 rules4[RULES];
volatile struct rule6 rules6[RULES];

/* How many rules to walk, or more than RULES: then the trie is asked. */
volatile __u32 walk4;
volatile __u32 walk6;

/* Which kinds of binding exist, so that look-ups that cannot hit are skipped: bits 0-3 for
 * IPv4, 4-7 for IPv6; in each: protocol and port, protocol, port, neither. */
enum kind { EXACT = 1, ALL_PORTS = 2, ANY_PROTOCOL = 4, EVERYTHING = 8 };
volatile __u32 kinds;

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

static __always_inline int pass(__u32 counter)
{
	count(counter);
	return XDP_PASS;
}

static __always_inline bool is_bound(struct key *key, __u32 present)
{
	__u8 protocol = key->protocol;
	__be16 port = key->port;

	if ((present & EXACT) && bpf_map_lookup_elem(&bindings, key))
		return true;
	if (present & ALL_PORTS) {
		key->port = 0;
		if (bpf_map_lookup_elem(&bindings, key))
			return true;
	}
	if (!(present & (ANY_PROTOCOL | EVERYTHING)))
		return false;
	if (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP)
		return false;
	key->protocol = 0;
	key->port = port;
	if ((present & ANY_PROTOCOL) && bpf_map_lookup_elem(&bindings, key))
		return true;
	key->port = 0;
	return (present & EVERYTHING) && bpf_map_lookup_elem(&bindings, key);
}

static __always_inline bool is_for(__u8 rule_protocol, __be16 rule_port, const struct key *key)
{
	return (!rule_protocol || rule_protocol == key->protocol) &&
	       (!rule_port || rule_port == key->port);
}

static __always_inline bool walks4(const struct key *key, __be32 address, __u32 rules)
{
	__u32 i;

	for (i = 0; i < RULES && i < rules; i++) {
		volatile struct rule4 *rule = &rules4[i];

		if (rule->on && (address & rule->mask) == rule->network &&
		    is_for(rule->protocol, rule->port, key))
			return true;
	}
	return false;
}

static __always_inline bool walks6(const struct key *key, const __u64 *address, __u32 rules)
{
	__u32 i;

	for (i = 0; i < RULES && i < rules; i++) {
		volatile struct rule6 *rule = &rules6[i];

		if (rule->on && (address[0] & rule->mask[0]) == rule->network[0] &&
		    (address[1] & rule->mask[1]) == rule->network[1] &&
		    is_for(rule->protocol, rule->port, key))
			return true;
	}
	return false;
}

static __always_inline int deliver(struct xdp_md *ctx)
{
	int action;

	action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
	count(action == XDP_REDIRECT ? REDIRECTED : NO_SOCKET);
	return action;
}

/* The ports are the first four bytes of UDP and of TCP. */
static __always_inline bool read_port(struct key *key, void *transport, void *end)
{
	__be16 *ports = transport;

	if ((void *)(ports + 2) > end)
		return false;
	key->port = ports[1];
	return true;
}

static __always_inline int handle_ipv4(struct xdp_md *ctx, void *network, void *end)
{
	struct key key = { .prefixlen = 64, .family = 4 };
	__u32 present = kinds & 0xf;
	struct iphdr *ip = network;
	__u32 rules;

	if (!present)
		return pass(PASSED);
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return pass(UNPARSABLE);
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)
		return pass(PASSED);
	if (ip->frag_off & bpf_htons(FRAGMENT_BITS))
		return pass(FRAGMENTS);
	if (!read_port(&key, network + ip->ihl * 4, end))
		return pass(UNPARSABLE);
	key.protocol = ip->protocol;
	rules = walk4;
	if (rules <= RULES)
		return walks4(&key, ip->daddr, rules) ? deliver(ctx) : pass(PASSED);
	__builtin_memcpy(key.address, &ip->daddr, 4);
	return is_bound(&key, present) ? deliver(ctx) : pass(PASSED);
}

static __always_inline bool is_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING ||
	       header == IPPROTO_DSTOPTS;
}

static __always_inline int handle_ipv6(struct xdp_md *ctx, void *network, void *end)
{
	struct key key = { .prefixlen = 160, .family = 6 };
	__u32 present = (kinds >> 4) & 0xf;
	struct ipv6hdr *ip = network;
	void *next = ip + 1;
	__u64 address[2];
	__u32 rules;
	__u8 header;
	int i;

	if (!present)
		return pass(PASSED);
	if (next > end || ip->version != 6)
		return pass(UNPARSABLE);
	header = ip->nexthdr;
	for (i = 0; i < EXTENSION_HEADERS && is_extension(header); i++) {
		struct ipv6_opt_hdr *option = next;

		if ((void *)(option + 1) > end)
			return pass(UNPARSABLE);
		header = option->nexthdr;
		next += (option->hdrlen + 1) * 8;
	}
	if (header == IPPROTO_FRAGMENT)
		return pass(FRAGMENTS);
	if (is_extension(header)) /* more of them than anyone sends */
		return pass(UNPARSABLE);
	if (header != IPPROTO_UDP && header != IPPROTO_TCP)
		return pass(PASSED);
	if (!read_port(&key, next, end))
		return pass(UNPARSABLE);
	key.protocol = header;
	rules = walk6;
	__builtin_memcpy(address, &ip->daddr, sizeof(address));
	if (rules <= RULES)
		return walks6(&key, address, rules) ? deliver(ctx) : pass(PASSED);
	__builtin_memcpy(key.address, address, sizeof(address));
	return is_bound(&key, present) ? deliver(ctx) : pass(PASSED);
}

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *ethernet = data;
	void *next = ethernet + 1;
	__be16 type;
	int i;

	if (next > end)
		return pass(UNPARSABLE);
	type = ethernet->h_proto;
#pragma unroll
	for (i = 0; i < VLAN_TAGS; i++) {
		__be16 *tag = next;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 2) > end)
			return pass(UNPARSABLE);
		type = tag[1];
		next = tag + 2;
	}
	if (type == bpf_htons(ETH_P_IP))
		return handle_ipv4(ctx, next, end);
	if (type == bpf_htons(ETH_P_IPV6))
		return handle_ipv6(ctx, next, end);
	return pass(PASSED);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
