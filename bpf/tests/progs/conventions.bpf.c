// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* What libbpf's loader knows beyond programs: maps of maps, program arrays, pinning, struct_ops. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define __array(name, val) typeof(val) *name[]
int leaf(struct __sk_buff *ctx);

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [1] = &second, [3] = &first } };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} calls SEC(".maps") = { .values = { [1] = (void *)&leaf } };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} kept SEC(".maps");

struct ack_sample;
struct sock;
struct tcp_congestion_ops {
	__u32 flags;
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	char name[16];
};

SEC("struct_ops/avoid") void avoid(unsigned long long *ctx) {}
SEC("struct_ops.s/threshold") int threshold(unsigned long long *ctx) { return 2; }

SEC(".struct_ops.link") struct tcp_congestion_ops algorithm = {
	.flags = 3,
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.name = "weir_test",
};

SEC("socket") int leaf(struct __sk_buff *ctx) { return 1; }
SEC("socket/outer") int caller(struct __sk_buff *ctx)
{
	__u32 key = 1;
	void *map = bpf_map_lookup_elem(&outer, &key);

	if (!map)
		bpf_tail_call(ctx, &calls, 1);
	return !bpf_map_lookup_elem(&kept, &key);
}
