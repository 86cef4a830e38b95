// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
// Small sk_lookup programs that together touch what such programs can: for tests that compare
// one loader, and one run, with another.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FAMILY_INET 2
#define E_EXIST 17

struct address {
	__u32 words[4];
};

struct seen {
	__u64 runs;
	__u32 family;
	__u32 protocol;
	struct address local;
	struct address remote;
	__u32 local_port;
	__u32 remote_port;
	__u32 ifindex;
	__u32 narrow;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} by_port SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} runs_by_port SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} last SEC(".maps");

const volatile __u32 first_socket = 0;
const volatile __u32 second_socket = 1;
volatile __u32 reset_port = 9;
volatile __u64 assigned;
volatile __s64 last_error;

static __noinline int assign(struct bpf_sk_lookup *ctx, __u32 index, __u64 flags)
{
	struct bpf_sock *socket = bpf_map_lookup_elem(&sockets, &index);
	long error;

	if (!socket)
		return SK_PASS;
	error = bpf_sk_assign(ctx, socket, flags);
	bpf_sk_release(socket);
	last_error = error;
	if (!error)
		__sync_fetch_and_add(&assigned, 1);
	return error ? SK_DROP : SK_PASS;
}

SEC("sk_lookup")
int first(struct bpf_sk_lookup *ctx)
{
	return assign(ctx, first_socket, 0);
}

SEC("sk_lookup")
int second(struct bpf_sk_lookup *ctx)
{
	return assign(ctx, second_socket, 0);
}

SEC("sk_lookup")
int replace(struct bpf_sk_lookup *ctx)
{
	return assign(ctx, second_socket, BPF_SK_LOOKUP_F_REPLACE);
}

SEC("sk_lookup")
int no_reuseport(struct bpf_sk_lookup *ctx)
{
	return assign(ctx, first_socket, BPF_SK_LOOKUP_F_NO_REUSEPORT);
}

SEC("sk_lookup")
int drop(struct bpf_sk_lookup *ctx)
{
	return SK_DROP;
}

SEC("sk_lookup")
int pass(struct bpf_sk_lookup *ctx)
{
	return SK_PASS;
}

/* Chooses, then takes the choice back for one port. */
SEC("sk_lookup")
int reset(struct bpf_sk_lookup *ctx)
{
	int verdict = assign(ctx, first_socket, 0);

	if (verdict == SK_PASS && ctx->local_port == reset_port)
		bpf_sk_assign(ctx, NULL, BPF_SK_LOOKUP_F_REPLACE);
	return verdict;
}

/* Assigns twice without the flag: the second must fail with EEXIST, and the first stay. */
SEC("sk_lookup")
int twice(struct bpf_sk_lookup *ctx)
{
	int verdict = assign(ctx, first_socket, 0);

	if (verdict != SK_PASS)
		return verdict;
	assign(ctx, second_socket, 0);
	return last_error == -E_EXIST ? SK_PASS : SK_DROP;
}

/* The socket is what the context says afterwards. */
SEC("sk_lookup")
int reads_socket(struct bpf_sk_lookup *ctx)
{
	struct bpf_sock *socket;
	__u32 family;

	if (assign(ctx, first_socket, 0) != SK_PASS)
		return SK_DROP;
	socket = ctx->sk;
	if (!socket)
		return SK_PASS;
	family = socket->family;
	return family == ctx->family || family == 10 ? SK_PASS : SK_DROP;
}

SEC("sk_lookup")
int by_local_port(struct bpf_sk_lookup *ctx)
{
	__u32 port = ctx->local_port;
	struct bpf_sock *socket = bpf_map_lookup_elem(&by_port, &port);
	long error;

	if (!socket)
		return SK_PASS;
	error = bpf_sk_assign(ctx, socket, 0);
	bpf_sk_release(socket);
	return error ? SK_DROP : SK_PASS;
}

/* Writes down what the context says, every field and some narrow reads. */
SEC("sk_lookup")
int reads_context(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	struct seen *seen = bpf_map_lookup_elem(&last, &zero);

	if (!seen)
		return SK_DROP;
	seen->runs += 1;
	seen->family = ctx->family;
	seen->protocol = ctx->protocol;
	if (ctx->family == FAMILY_INET) {
		seen->local.words[0] = ctx->local_ip4;
		seen->remote.words[0] = ctx->remote_ip4;
	} else {
		seen->local.words[0] = ctx->local_ip6[0];
		seen->local.words[1] = ctx->local_ip6[1];
		seen->local.words[2] = ctx->local_ip6[2];
		seen->local.words[3] = ctx->local_ip6[3];
		seen->remote.words[0] = ctx->remote_ip6[0];
		seen->remote.words[1] = ctx->remote_ip6[1];
		seen->remote.words[2] = ctx->remote_ip6[2];
		seen->remote.words[3] = ctx->remote_ip6[3];
	}
	seen->local_port = ctx->local_port;
	seen->remote_port = bpf_ntohs(ctx->remote_port);
	seen->ifindex = ctx->ingress_ifindex;
	seen->narrow = *(volatile __u8 *)&ctx->family |
		       (__u32)*(volatile __u8 *)&ctx->protocol << 8 |
		       (__u32)*(volatile __u16 *)&ctx->local_port << 16;
	return SK_PASS;
}

/* Counts runs in every kind of table that a program can write. */
SEC("sk_lookup")
int counts(struct bpf_sk_lookup *ctx)
{
	__u32 port = ctx->local_port, slot = ctx->protocol & 7;
	__u64 one = 1, *value;

	value = bpf_map_lookup_elem(&runs, &slot);
	if (value)
		*value += 1;
	value = bpf_map_lookup_elem(&runs_by_port, &port);
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&runs_by_port, &port, &one, BPF_NOEXIST);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
