// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* CO-RE relocations of every kind, against core_target.c. Never run: only the instructions count. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct inner {
	int first;
	int second;
};

enum state { STATE_OPEN = 1, STATE_SHUT = 2, STATE_GONE = 3 };

struct thing {
	__u32 id;
	__u32 widened;
	int narrowed_signed;
	__u8 flag_a : 1;
	__u8 flag_b : 3;
	signed int depth : 5;
	__u64 wide_bits : 37;
	struct inner pair;
	struct inner *far;
	struct inner table[4];
	__u16 numbers[8];
	enum state state;
	long missing;
	char name[16];
	union {
		__u32 as_word;
		__u8 as_bytes[4];
	};
	__u32 open[];
};

/* A flavour: the target's `thing` with a member that only it has. */
struct thing___new {
	struct {
		__u64 added;
	};
	__u64 renamed;
};

/* The target has no such struct. */
struct nowhere {
	int at_all;
};

struct same {
	int a;
	struct inner *b;
	char c[4];
	enum state d;
};

struct different {
	int a;
	long b;
};
#pragma clang attribute pop

typedef int (*callback_t)(struct inner *, long);
typedef struct inner inner_t;
typedef __u32 word_t;
union choice {
	int a;
	long b;
};
enum wide { WIDE_LOW = 1, WIDE_HIGH = 0x7fffffff };

volatile __u64 sum;

SEC("socket/fields")
int fields(void *ctx)
{
	struct thing *t = ctx;

	sum += t->id + t->widened;
	sum += t->pair.second + t->far->second;
	sum += t->table[2].second + t->numbers[5];
	sum += t->state + t->name[3] + t->as_word + t->as_bytes[2];
	sum += t->open[3];
	t->id = 7;
	*(volatile __u16 *)&t->numbers[1] = 3;
	return t[2].pair.first;
}

SEC("socket/missing")
int missing(void *ctx)
{
	struct thing *t = ctx;
	struct nowhere *n = ctx;

	if (bpf_core_field_exists(t->missing))
		sum += t->missing;
	if (bpf_core_field_exists(n->at_all))
		sum += n->at_all;
	sum += t->narrowed_signed;
	sum += bpf_core_field_size(t->missing);
	return bpf_core_field_exists(t->id) + bpf_core_field_exists(struct thing, pair.second);
}

SEC("socket/flavours")
int flavours(void *ctx)
{
	struct thing___new *t = ctx;

	sum += t->added + bpf_core_field_exists(t->renamed);
	return bpf_core_type_exists(struct thing___new) + bpf_core_type_size(struct inner___other {int first;});
}

SEC("socket/bitfields")
int bitfields(void *ctx)
{
	struct thing *t = ctx;

	sum += BPF_CORE_READ_BITFIELD(t, flag_a);
	sum += BPF_CORE_READ_BITFIELD(t, flag_b);
	sum += BPF_CORE_READ_BITFIELD(t, depth);
	sum += BPF_CORE_READ_BITFIELD_PROBED(t, wide_bits);
	sum += __CORE_RELO(t, depth, SIGNED) + __CORE_RELO(t, flag_b, SIGNED);
	sum += __CORE_RELO(t, id, LSHIFT_U64) + __CORE_RELO(t, id, RSHIFT_U64);
	sum += __CORE_RELO(t, state, SIGNED) + __CORE_RELO(t, flag_b, BYTE_SIZE);
	return 0;
}

SEC("socket/sizes")
int sizes(void *ctx)
{
	struct thing *t = ctx;

	sum += bpf_core_field_size(t->table) + bpf_core_field_size(t->name);
	sum += bpf_core_field_size(t->widened) + bpf_core_field_size(t->pair);
	sum += bpf_core_field_size(t->numbers[2]) + bpf_core_field_offset(t->numbers[2]);
	sum += bpf_core_field_offset(struct thing, table[3].second);
	return 0;
}

SEC("socket/types")
int types(void *ctx)
{
	sum += bpf_core_type_id_local(struct thing) + bpf_core_type_id_local(callback_t);
	sum += bpf_core_type_id_kernel(struct thing) + bpf_core_type_id_kernel(struct nowhere);
	sum += bpf_core_type_exists(struct inner) + bpf_core_type_exists(struct nowhere);
	sum += bpf_core_type_exists(callback_t) + bpf_core_type_exists(inner_t);
	sum += bpf_core_type_exists(union choice) + bpf_core_type_exists(enum state);
	sum += bpf_core_type_exists(struct same) + bpf_core_type_exists(struct different);
	sum += bpf_core_type_exists(struct inner___less { int first; });
	sum += bpf_core_type_exists(enum wide) + bpf_core_type_exists(enum state___some { STATE_SHUT___x });
	sum += bpf_core_type_size(struct thing) + bpf_core_type_size(word_t);
	sum += bpf_core_type_size(struct nowhere) + bpf_core_type_size(enum wide);
	return 0;
}


SEC("socket/enums")
int enums(void *ctx)
{
	sum += bpf_core_enum_value(enum state, STATE_SHUT);
	sum += bpf_core_enum_value_exists(enum state, STATE_GONE);
	sum += bpf_core_enum_value_exists(enum state, STATE_OPEN);
	if (bpf_core_enum_value_exists(enum state, STATE_GONE))
		sum += bpf_core_enum_value(enum state, STATE_GONE);
	sum += bpf_core_enum_value(enum wide, WIDE_HIGH);
	return 0;
}
