/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ioas - random map, place, unmap, reserve, allow and DMA, in one of several table formats,
 * against a model of an address space that is too simple to be wrong: lists, searched from end to
 * end. Every answer of the library, refusals included, must be the model's. Memory is made up: a
 * byte's value follows from its address, and what is written is compared with what the model says
 * should have been.
 */
#include "fuzz.h"

#include <errno.h>

#include <uiommu/space.h>

enum { MOST = 64, OWNERS = 3, RID = 0x0108, ACCESS = 3 * 4096 };
#define PAGE	 UINT64_C(4096)
#define BITS(n)	 ((UINT64_C(1) << (n)) - 1)
#define GIB_MASK ((UINT64_C(1) << 30) - 1)

/* What the model has to know of a format. */
static const struct format {
	const char *name;
	unsigned width;
	uint64_t aperture, oa_last; /* last IOVA, last address */
	bool mmio;		    /* can say that the target is a device's register */
	bool write_is_rw;	    /* writing implies reading */
} formats[] = {
	{"vtd-ss", 39, BITS(39), BITS(52), false, false},
	{"amd-v1", 40, BITS(40), BITS(52), false, false},
	{"arm-s1", 39, BITS(39), BITS(48), true, true},
	{"arm-s2", 40, BITS(40), BITS(48), true, false},
	{"riscv", 39, BITS(38), BITS(56), true, true},
	{"vtd-fs", 48, BITS(47), BITS(52), false, true},
};

static const struct format *format;

struct area {
	struct uiommu_range range;
	uint64_t addr;
	int prot;
};

struct reserved {
	struct uiommu_range range;
	unsigned owner;
};

static struct model {
	struct area areas[MOST];
	struct reserved reserved[MOST];
	struct uiommu_range allowed[4];
	size_t area_count, reserved_count, allowed_count;
	bool domain, attached, master;
} model;

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_domain *domain;
static struct uiommu_port *port;
static const char owners[OWNERS];

/* What a DMA write should put where, in order. */
static struct {
	uint64_t addr[ACCESS];
	size_t count, seen;
	const uint8_t *data;
} writes;

/* ---- memory that isn't there ---------------------------------------------------------------- */

static uint8_t value_at(uint64_t addr)
{
	return addr * 31 + (addr >> 12) * 7 + (addr >> 39);
}

static int made_up_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = value_at(addr + i);
	return 0;
}

static int made_up_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++, writes.seen++) {
		PROMISE(writes.seen < writes.count);
		PROMISE(writes.addr[writes.seen] == addr + i);
		PROMISE(writes.data[writes.seen] == ((const uint8_t *)buf)[i]);
	}
	return 0;
}

static const struct uiommu_memory_ops made_up_ops = {
	.size = sizeof(made_up_ops), .read = made_up_read, .write = made_up_write};
static const struct uiommu_memory made_up = {.ops = &made_up_ops};

/* ---- the model ---------------------------------------------------------------------------------
 */

static bool meets(struct uiommu_range a, struct uiommu_range b)
{
	return a.first <= b.last && b.first <= a.last;
}

static bool meets_area(struct uiommu_range r)
{
	for (size_t i = 0; i < model.area_count; i++)
		if (meets(r, model.areas[i].range))
			return true;
	return false;
}

static bool is_reserved(struct uiommu_range r)
{
	for (size_t i = 0; i < model.reserved_count; i++)
		if (meets(r, model.reserved[i].range))
			return true;
	return model.domain && r.last > format->aperture;
}

static const struct area *area_at(uint64_t iova)
{
	for (size_t i = 0; i < model.area_count; i++)
		if (meets((struct uiommu_range){iova, iova}, model.areas[i].range))
			return &model.areas[i];
	return NULL;
}

static int model_map(struct uiommu_range r, uint64_t addr, int prot)
{
	uint64_t end = addr + (r.last - r.first);

	if (!(prot & 3) || prot > 7 || r.first > r.last)
		return -EINVAL;
	if (model.domain && ((r.first | (r.last + 1) | addr) & (PAGE - 1)))
		return -EINVAL;
	if (end < addr || (model.domain && end > format->oa_last))
		return -EOVERFLOW;
	if (meets_area(r))
		return -EEXIST;
	if (is_reserved(r))
		return -EINVAL;
	if (model.domain && prot & UIOMMU_MMIO && !format->mmio)
		return -EOPNOTSUPP;
	model.areas[model.area_count++] = (struct area){r, addr, prot};
	return 0;
}

/* May memory be placed there? */
static bool model_may_place(struct uiommu_range r, struct uiommu_range within)
{
	uint64_t at = r.first;

	if (r.first < PAGE || r.last < r.first || r.last > UINT64_MAX - PAGE ||
	    r.first < within.first || r.last > within.last || meets_area(r) || is_reserved(r))
		return false;
	for (size_t i = 0; model.allowed_count && i < model.allowed_count; i++) {
		if (!meets((struct uiommu_range){at, at}, model.allowed[i]))
			continue;
		if (model.allowed[i].last >= r.last)
			return true;
		at = model.allowed[i].last + 1;
		i = -1; /* the list is in no order: look for the next one from its start */
	}
	return !model.allowed_count;
}

/* The lowest place is the first multiple behind something: try them all. */
static bool model_place(uint64_t length, uint64_t alignment, struct uiommu_range within,
			struct uiommu_range *best)
{
	uint64_t starts[2 * MOST + 6] = {PAGE, within.first};
	bool found = false;
	size_t n = 2;

	for (size_t i = 0; i < model.area_count; i++)
		starts[n++] = model.areas[i].range.last + 1;
	for (size_t i = 0; i < model.reserved_count; i++)
		starts[n++] = model.reserved[i].range.last + 1;
	for (size_t i = 0; i < model.allowed_count; i++)
		starts[n++] = model.allowed[i].first;
	while (n--) {
		uint64_t at = (starts[n] + alignment - 1) & ~(alignment - 1);
		struct uiommu_range r = {at, at + length - 1};

		if (at < starts[n] || !model_may_place(r, within) || (found && at > best->first))
			continue;
		*best = r;
		found = true;
	}
	return found;
}

static int model_unmap(struct uiommu_range r, uint64_t *bytes)
{
	size_t kept = 0;

	if (r.first > r.last)
		return -EINVAL;
	for (size_t i = 0; i < model.area_count; i++) {
		struct uiommu_range a = model.areas[i].range;

		if (meets(r, a) && (a.first < r.first || a.last > r.last))
			return -EINVAL;
	}
	*bytes = 0;
	for (size_t i = 0; i < model.area_count; i++) {
		struct uiommu_range a = model.areas[i].range;

		if (!meets(r, a)) {
			model.areas[kept++] = model.areas[i];
			continue;
		}
		*bytes += a.last - a.first; /* and one, unless that saturates */
		*bytes += *bytes != UINT64_MAX;
	}
	model.area_count = kept;
	return 0;
}

/* What a device is granted of what was asked for. */
static int granted(int prot)
{
	return format->write_is_rw && prot & UIOMMU_WRITE ? prot | UIOMMU_READ : prot;
}

/* What stops a byte of a DMA, or FAULT_NONE and where it goes. */
static enum uiommu_fault_reason model_access(uint64_t iova, int access, uint64_t *addr)
{
	const struct area *a = area_at(iova);

	if (!model.master)
		return UIOMMU_FAULT_BUS_MASTER;
	if (!model.attached)
		return UIOMMU_FAULT_NO_DOMAIN;
	if (iova > format->aperture)
		return UIOMMU_FAULT_BEYOND;
	if (!a)
		return UIOMMU_FAULT_NOT_PRESENT;
	if (!(granted(a->prot) & access))
		return access == UIOMMU_READ ? UIOMMU_FAULT_READ_DENIED : UIOMMU_FAULT_WRITE_DENIED;
	/* The unit has no doorbells: no register answers anywhere. */
	if (a->prot & UIOMMU_MMIO)
		return access == UIOMMU_READ ? UIOMMU_FAULT_DOORBELL_READ : UIOMMU_FAULT_INTERRUPT;
	*addr = a->addr + (iova - a->range.first);
	return UIOMMU_FAULT_NONE;
}

/* ---- what to do, from bytes --------------------------------------------------------------------
 */

/* Addresses gather at the places where arithmetic goes wrong, so that they meet one another. */
static uint64_t take_iova(struct input *in)
{
	const uint64_t bases[] = {0,
				  0,
				  0x200000 - 8 * 4096,
				  0x40000000 - 16 * 4096,
				  0xfee00000 - 4 * 4096,
				  format->aperture + 1 - 32 * 4096,
				  UINT64_MAX - 64 * 4096 + 1};
	uint8_t where = take8(in);
	uint64_t iova = bases[where % 7] + take8(in) % 64 * PAGE;

	if (where >= 248)
		return iova ^ take64(in);
	return where >= 240 ? iova + take8(in) : iova;
}

static struct uiommu_range take_range(struct input *in)
{
	struct uiommu_range r = {take_iova(in), 0};
	uint8_t how = take8(in);

	if (how >= 224)
		r.last = take_iova(in) - 1; /* far away, or before: empty */
	else if (how >= 216)
		r.last = r.first + take8(in);
	else
		r.last = r.first + (how % 32 + 1) * PAGE * (how >= 208 ? 512 : 1) - 1;
	return r;
}

static void do_map(struct input *in)
{
	struct uiommu_range r = take_range(in);
	uint8_t how = take8(in);
	int prot = how % 32 ? how % 3 + 1 : take8(in);
	uint64_t addr = (uint64_t)take16(in) << 12;

	if (how >= 240)
		addr = take64(in);
	else if (how >= 128) /* both sides aligned alike: larger pages can be used */
		addr = (addr << 9) + (r.first & 0x1ff000);
	if (r.last - r.first >= 16384 * PAGE) /* as small pages it would take all day */
		addr = (addr & ~GIB_MASK) | (r.first & GIB_MASK);
	if (model.area_count == MOST)
		return;
	PROMISE(uiommu_ioas_map(ioas, r, addr, prot, &model) == model_map(r, addr, prot));
}

static void do_place(struct input *in)
{
	uint8_t how = take8(in), more = take8(in);
	uint64_t addr = (uint64_t)take16(in) << 12, iova = 0, end;
	struct uiommu_place place = {.size = sizeof(place), .length = (how % 32) * PAGE};
	struct uiommu_range within = {0, UINT64_MAX}, r;
	int prot = more % 32 ? more % 3 + 1 : take8(in), expected = 0;
	uint64_t alignment = 1;

	if (how >= 224)
		place.length = take16(in);
	else if (how >= 192)
		place.length *= 128;
	if (more >= 192)
		place.within = take_range(in);
	if (more >= 128)
		place.alignment = alignment = UINT64_C(1) << take8(in) % 33;
	while (!place.alignment && alignment < place.length && alignment < 0x200000 &&
	       !(addr & alignment))
		alignment *= 2;
	if (model.domain && alignment < PAGE)
		alignment = PAGE;
	if (place.within.first || place.within.last)
		within = place.within;
	if (model.area_count == MOST)
		return;
	end = addr + place.length - 1;
	if (within.first > within.last || !place.length || !(prot & 3) || prot > 7 ||
	    (model.domain && place.length & (PAGE - 1)))
		expected = -EINVAL;
	else if (model.domain && end > format->oa_last)
		expected = -EOVERFLOW;
	else if (!model_place(place.length, alignment, within, &r))
		expected = -ENOSPC;
	else
		expected = model_map(r, addr, prot);
	PROMISE(uiommu_ioas_map_anywhere(ioas, &place, addr, prot, &model, &iova) == expected);
	if (!expected)
		PROMISE(iova == r.first);
}

struct removed {
	uint64_t bytes, last;
	bool any;
};

static void count_removed(void *ctx, const struct uiommu_area *area)
{
	struct removed *removed = ctx;

	PROMISE(!removed->any || area->range.first > removed->last);
	PROMISE(area->tag == &model);
	removed->any = true;
	removed->last = area->range.last;
	removed->bytes += area->range.last - area->range.first;
	removed->bytes += removed->bytes != UINT64_MAX;
}

static void do_unmap(struct input *in)
{
	struct uiommu_range r =
		take8(in) % 16 ? take_range(in) : (struct uiommu_range){0, UINT64_MAX};
	uint64_t bytes = 0, expected = 0;
	struct removed removed = {0};
	int ret = model_unmap(r, &expected);

	PROMISE(uiommu_ioas_unmap(ioas, r, &bytes, count_removed, &removed) == ret);
	if (!ret)
		PROMISE(bytes == expected && removed.bytes == expected);
	else
		PROMISE(!removed.any);
}

static void do_reserve(struct input *in)
{
	struct uiommu_range r = take_range(in);
	unsigned owner = take8(in) % OWNERS;
	int expected = meets_area(r) ? -EADDRINUSE : 0;

	if (r.first > r.last || model.reserved_count == MOST)
		return;
	for (size_t i = 0; i < model.allowed_count; i++)
		if (meets(r, model.allowed[i]))
			expected = -EADDRINUSE;
	PROMISE(uiommu_ioas_reserve(ioas, r, UIOMMU_RESV_RESERVED, &owners[owner], "fuzz") ==
		expected);
	if (!expected)
		model.reserved[model.reserved_count++] = (struct reserved){r, owner};
}

static void do_unreserve(struct input *in)
{
	unsigned owner = take8(in) % OWNERS;
	size_t kept = 0;

	uiommu_ioas_unreserve(ioas, &owners[owner]);
	for (size_t i = 0; i < model.reserved_count; i++)
		if (model.reserved[i].owner != owner)
			model.reserved[kept++] = model.reserved[i];
	model.reserved_count = kept;
}

static void do_allow(struct input *in)
{
	struct uiommu_range list[4];
	size_t count = take8(in) % 5;
	int expected = 0;

	for (size_t i = 0; i < count; i++) {
		list[i] = take_range(in);
		if (list[i].first > list[i].last)
			expected = -EINVAL;
		for (size_t j = 0; j < i; j++)
			if (meets(list[i], list[j]))
				expected = -EINVAL;
	}
	for (size_t i = 0; i < count && !expected; i++)
		if (is_reserved(list[i]))
			expected = -EADDRINUSE;
	PROMISE(uiommu_ioas_allow(ioas, list, count) == expected);
	if (expected)
		return;
	model.allowed_count = count;
	memcpy(model.allowed, list, count * sizeof(list[0]));
}

/* A DMA of some bytes: how far it gets, where each of them goes, and what stops it. */
static void do_access(struct input *in)
{
	int access = take8(in) % 2 ? UIOMMU_READ : UIOMMU_WRITE;
	uint64_t iova = take_iova(in) + take16(in) % 4096;
	size_t len = take16(in) % ACCESS + 1, reached;
	enum uiommu_fault_reason reason = UIOMMU_FAULT_NONE;
	static uint8_t buf[ACCESS];
	struct uiommu_fault fault;
	int ret;

	for (reached = 0; reached < len; reached++) {
		reason = reached && iova + reached == 0
				 ? UIOMMU_FAULT_BEYOND
				 : model_access(iova + reached, access, &writes.addr[reached]);
		if (reason)
			break;
	}
	for (size_t i = 0; i < len; i++)
		buf[i] = i * 13 + len;
	writes.count = access == UIOMMU_WRITE ? reached : 0;
	writes.seen = 0;
	writes.data = buf;
	ret = access == UIOMMU_READ ? uiommu_port_read(port, iova, buf, len)
				    : uiommu_port_write(port, iova, buf, len);
	PROMISE(ret == (reason ? -EFAULT : 0));
	PROMISE(writes.seen == writes.count);
	for (size_t i = 0; access == UIOMMU_READ && i < reached; i++)
		PROMISE(buf[i] == value_at(writes.addr[i]));
	if (!reason)
		return;
	uiommu_port_last_fault(port, &fault);
	PROMISE(fault.reason == reason && fault.access == access && fault.rid == RID);
	PROMISE(fault.iova == iova + reached);
}

static void do_switches(struct input *in)
{
	uint8_t what = take8(in);

	if (what & 1) {
		model.master = !model.master;
		uiommu_port_set_master(port, model.master);
	} else if (model.attached) {
		uiommu_domain_detach(domain, RID);
		model.attached = false;
	} else {
		PROMISE(uiommu_domain_attach(domain, RID, NULL, 0, "fuzz") == 0);
		model.attached = true;
	}
}

/* ---- what can be asked
 * ---------------------------------------------------------------------------- */

static void check_find(uint64_t iova)
{
	const struct area *best = NULL;
	struct uiommu_area found;
	uint64_t addr;
	int prot;

	for (size_t i = 0; i < model.area_count; i++) {
		const struct area *a = &model.areas[i];

		if (a->range.last >= iova && (!best || a->range.first < best->range.first))
			best = a;
	}
	PROMISE(uiommu_ioas_find(ioas, iova, &found) == (best ? 0 : -ENOENT));
	if (best)
		PROMISE(found.range.first == best->range.first &&
			found.range.last == best->range.last && found.addr == best->addr &&
			found.prot == best->prot);
	if (!model.domain)
		return;
	best = area_at(iova);
	PROMISE(uiommu_domain_lookup(domain, iova, &addr, &prot) == (best ? 0 : -ENOENT));
	if (best)
		PROMISE(addr == best->addr + (iova - best->range.first) &&
			prot == granted(best->prot));
}

/* The usable ranges: ascending, apart, none of them reserved, and nothing usable beside them. */
static void check_ranges(void)
{
	struct uiommu_range ranges[MOST + 2];
	size_t count = MOST + 2, none = 0;

	PROMISE(uiommu_ioas_ranges(ioas, ranges, &count) == 0);
	PROMISE(uiommu_ioas_ranges(ioas, NULL, &none) == (count ? -EMSGSIZE : 0) && none == count);
	for (size_t i = 0; i < count; i++) {
		PROMISE(ranges[i].first <= ranges[i].last && !is_reserved(ranges[i]));
		PROMISE(!i || ranges[i - 1].last + 1 < ranges[i].first);
		if (ranges[i].first)
			PROMISE(is_reserved(
				(struct uiommu_range){ranges[i].first - 1, ranges[i].first - 1}));
		if (ranges[i].last != UINT64_MAX)
			PROMISE(is_reserved(
				(struct uiommu_range){ranges[i].last + 1, ranges[i].last + 1}));
	}
	/* Right behind each reserved range something usable must have been reported. */
	for (size_t r = 0; r < model.reserved_count; r++) {
		uint64_t next = model.reserved[r].range.last + 1;
		bool reported = false;

		if (!next || is_reserved((struct uiommu_range){next, next}))
			continue;
		for (size_t i = 0; i < count; i++)
			reported |= meets((struct uiommu_range){next, next}, ranges[i]);
		PROMISE(reported);
	}
}

static void check_stats(void)
{
	struct uiommu_ioas_stats stats;

	uiommu_ioas_stats(ioas, &stats);
	PROMISE(stats.areas == model.area_count);
	PROMISE(uiommu_ioas_alignment(ioas) == (model.domain ? PAGE : 1));
}

static void set_up(bool with_domain)
{
	struct uiommu_unit_options options = {
		.size = sizeof(options), .memory = &made_up, .iotlb_entries = 16};
	struct uiommu_domain_options table = {
		.size = sizeof(table), .format = format->name, .width = format->width};

	memset(&model, 0, sizeof(model));
	PROMISE(uiommu_unit_create(&options, &unit) == 0);
	PROMISE(uiommu_ioas_create(&ioas) == 0);
	PROMISE(uiommu_port_create(unit, RID, &port) == 0);
	if (!with_domain)
		return;
	PROMISE(uiommu_domain_create(unit, ioas, &table, &domain) == 0);
	PROMISE(uiommu_domain_attach(domain, RID, NULL, 0, "fuzz") == 0);
	uiommu_port_set_master(port, true);
	model.domain = model.attached = model.master = true;
}

static void tear_down(void)
{
	if (model.attached)
		uiommu_domain_detach(domain, RID);
	uiommu_port_destroy(port);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	domain = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t how;

	how = take8(&in);
	format = &formats[how / 4 % (sizeof(formats) / sizeof(formats[0]))];
	set_up(how % 4);
	while (in.left) {
		uint8_t op = take8(&in) % 16;

		if (op < 4)
			do_map(&in);
		else if (op == 4)
			do_place(&in);
		else if (op < 8)
			do_unmap(&in);
		else if (op < 11 && model.domain)
			do_access(&in);
		else if (op == 11)
			do_reserve(&in);
		else if (op == 12)
			do_unreserve(&in);
		else if (op == 13)
			do_allow(&in);
		else if (op == 14 && model.domain)
			do_switches(&in);
		else
			check_find(take_iova(&in));
		if (op >= 11)
			check_ranges();
	}
	check_stats();
	tear_down();
	return 0;
}
