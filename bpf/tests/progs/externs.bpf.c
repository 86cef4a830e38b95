// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* What comes from outside: .kconfig, .ksyms, CO-RE of the kernel's own types; functions and callbacks. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct sock_common {
	unsigned short skc_family;
} __attribute__((preserve_access_index));
struct sock {
	struct sock_common __sk_common;
	__u32 sk_pacing_status;
	unsigned long sk_pacing_rate;
} __attribute__((preserve_access_index));
struct tcp_sock {
	__u32 snd_cwnd;
	__u8 is_cwnd_limited : 1;
} __attribute__((preserve_access_index));

extern int CONFIG_HZ __kconfig;
extern bool CONFIG_BPF __kconfig;
extern enum libbpf_tristate CONFIG_MODULE __kconfig;
extern char CONFIG_NAME[8] __kconfig;
extern __u64 CONFIG_NO_SUCH __kconfig __weak;

extern const int bpf_prog_active __ksym __weak;
extern const void no_such_symbol __ksym __weak;
extern const int no_such_variable __ksym __weak;
extern void tcp_reno_cong_avoid(struct sock *sk, __u32 ack, __u32 acked) __ksym;
extern __u32 tcp_reno_undo_cwnd(struct sock *sk) __ksym;
extern int no_such_function(int x) __ksym __weak;

const volatile int limit = 10;
int counts[4] = { 1, 2, 3, 4 };
static int hidden SEC(".data.custom") = 9;
const volatile int seldom SEC(".rodata.custom") = 5;
struct { int a, b; } zeroes;

static __noinline int deepest(int x) { return x + hidden + limit; }
static __noinline int deeper(int x) { return deepest(x) * 3 + counts[x & 3]; }
__noinline int global(int x) { return deeper(x) + deepest(x + seldom); }
static long each(__u32 index, void *context)
{
	zeroes.b += deeper(index);
	return 0;
}

SEC("socket/kconfig")
int kconfig(void *ctx)
{
	return CONFIG_HZ + CONFIG_BPF + CONFIG_MODULE + CONFIG_NAME[2] + CONFIG_NO_SUCH;
}

SEC("socket/calls")
int calls(void *ctx)
{
	bpf_loop(limit, each, &zeroes, 0);
	return global(zeroes.a) + deeper(3);
}

SEC("socket/kernel")
int kernel(void *ctx)
{
	struct sock *sk = ctx;
	struct tcp_sock *tp = ctx;

	if (&no_such_symbol)
		return 1;
	if (&no_such_variable)
		return no_such_variable;
	return sk->__sk_common.skc_family + sk->sk_pacing_rate + tp->snd_cwnd +
	       BPF_CORE_READ_BITFIELD(tp, is_cwnd_limited);
}

SEC("struct_ops/undo")
int undo(unsigned long long *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (no_such_function)
		return no_such_function(1);
	tcp_reno_cong_avoid(sk, 1, 2);
	return tcp_reno_undo_cwnd(sk);
}
