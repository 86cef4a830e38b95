// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The types that core.bpf.c is moved onto. */
#include <linux/types.h>

struct inner {
	long before;
	int second;
	int first;
};

enum state { STATE_NEW = 1, STATE_SHUT = 20, STATE_OPEN = 30 };

struct thing {
	__u64 added;
	struct {
		__u64 widened;
		union {
			__u32 id;
			__u32 other;
		};
	};
	int narrowed_signed_is_gone;
	long narrowed_signed;
	__u32 flag_b : 3;
	__u32 pad : 6;
	__u32 flag_a : 1;
	long long depth : 40;
	__u64 wide_bits : 20;
	struct inner table[9];
	struct inner *const far;
	const struct inner pair;
	__u16 numbers[6];
	char name[32];
	volatile enum state state;
	__u32 as_word;
	__u8 as_bytes[4];
	__u32 open[];
};

struct same {
	int a;
	struct inner *b;
	char c[4];
	enum state d;
};

struct different {
	int a;
	struct inner b;
};

typedef int (*callback_t)(struct inner *, long);
typedef struct inner inner_t;
typedef __u64 word_t;
union choice {
	int a;
	long b;
};
enum wide { WIDE_LOW = 5, WIDE_HIGH = 0x7ffffff0 };

struct thing thing;
struct same same;
struct different different;
callback_t callback;
inner_t inner;
word_t word;
union choice choice;
enum wide wide;

char LICENSE[] __attribute__((section("license"), used)) = "Dual MIT/GPL";
