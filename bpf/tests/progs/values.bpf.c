// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* A value of every kind of type, for the map that bpftool is to print. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum colour { RED = -1, GREEN = 7, BLUE = 9 };
typedef unsigned short port_t;
union either {
	__u32 word;
	__u8 bytes[4];
};
struct point {
	int x, y;
};
struct value {
	signed char tiny;
	__u8 byte;
	short low;
	port_t port;
	int number;
	__u32 address;
	long long far;
	__u64 large;
	bool yes, no;
	char text[12];
	char no_text[4];
	enum colour colour, none;
	union either either;
	struct point points[2];
	const volatile struct point *where;
	__u32 bits_a : 3;
	__u32 bits_b : 13;
	int bits_c : 7;
	struct {
		__u16 within;
	};
	int matrix[2][3];
	unsigned __int128 widest;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct value);
} shown SEC(".maps");

SEC("socket") int touch(struct __sk_buff *ctx)
{
	__u32 key = 0;

	return !bpf_map_lookup_elem(&shown, &key);
}
