// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
// Turns one template frame into a flood, when run with BPF_F_TEST_XDP_LIVE_FRAMES: each run
// gives the frame the next source port, and the next random source address, if asked for.
// The kernel hands the same pages out again, so a change is always made to what is there.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* All set by the loader; offsets are from the frame's start, and 0 means none. */
const volatile __u32 ifindex;
const volatile __u32 transport_offset;
const volatile __u32 checksum_offset;    /* of UDP or TCP */
const volatile __u32 ip_checksum_offset; /* of IPv4 */
const volatile __u32 source_offset;      /* the four bytes of the address to randomise */
const volatile __u32 source_mask;        /* the bits of them, as they lie in the packet */
const volatile __u16 first_port = 1024;
const volatile __u16 ports = 10000;

/* Only one run at a time: the loader sees to it. */
volatile __u32 next_port;
volatile __u64 sent;

/* RFC 1624, equation 3. */
static __always_inline void replace(__u16 *checksum, __u32 old, __u32 new)
{
	__u32 sum = (__u16)~*checksum;

	sum += (__u16)~old + (__u16)~(old >> 16);
	sum += (new & 0xffff) + (new >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*checksum = ~sum;
}

static __always_inline __u16 *word_at(void *data, void *end, __u32 offset)
{
	__u16 *word = data + offset;

	return offset && (void *)(word + 1) <= end ? word : NULL;
}

/* A UDP checksum of 0 means that there is none. */
static __always_inline void replace_transport(__u16 *checksum, __u32 old, __u32 new)
{
	if (!checksum || !*checksum)
		return;
	replace(checksum, old, new);
	if (!*checksum)
		*checksum = 0xffff;
}

SEC("xdp")
int flood(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	__u16 *checksum = word_at(data, end, checksum_offset);
	__u16 *ip_checksum = word_at(data, end, ip_checksum_offset);
	__u16 *port = word_at(data, end, transport_offset);
	__u32 turn = next_port;
	__u16 new_port;

	if (!port)
		return XDP_ABORTED;
	new_port = bpf_htons(first_port + turn);
	replace_transport(checksum, *port, new_port);
	*port = new_port;
	next_port = turn + 1 < ports ? turn + 1 : 0;

	if (source_offset) {
		__u32 *source = data + source_offset;
		__u32 new_source;

		if ((void *)(source + 1) > end)
			return XDP_ABORTED;
		new_source = (*source & ~source_mask) | (bpf_get_prandom_u32() & source_mask);
		replace_transport(checksum, *source, new_source);
		if (ip_checksum)
			replace(ip_checksum, *source, new_source);
		*source = new_source;
	}
	sent += 1;
	return bpf_redirect(ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
