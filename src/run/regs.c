/* SPDX-License-Identifier: MIT */
/*
 * Owns the knowledge of the x86-64 signal frame: general registers in the machine context, vector
 * registers in the XSAVE area behind it (Intel SDM volume 1, chapter 13; the frame uses the
 * standard, not the compacted format). A state component that is not in the frame's XSTATE_BV has
 * its initial value, zero. Async-signal-safe; no state but offsets learnt at start.
 */
#include <cpuid.h>
#include <string.h>

#include "run/regs.h"

#define LEGACY_XMM    160
#define LEGACY_MMX    32
#define SOFTWARE_AREA 464
#define MAGIC	      0x46505853u
#define HEADER	      512

enum component {
	COMPONENT_SSE = 1,
	COMPONENT_YMM = 2,
	COMPONENT_OPMASK = 5,
	COMPONENT_ZMM_HIGH = 6,
	COMPONENT_ZMM16 = 7,
	COMPONENTS = 8,
};

static uint32_t component_offset[COMPONENTS];

void regs_init(void)
{
	unsigned a, b, c, d;

	for (unsigned i = COMPONENT_YMM; i < COMPONENTS; i++)
		if (__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			component_offset[i] = b;
}

/* ---- general registers --------------------------------------------------------------------- */

static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				REG_R12, REG_R13, REG_R14, REG_R15};

/* Which of the sixteen, how wide, and whether it is bits 8 to 15. */
struct place {
	unsigned number, width;
	bool high;
};

static bool place_of(ZydisRegister reg, struct place *place)
{
	*place = (struct place){0, 0, false};
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		*place = (struct place){reg - ZYDIS_REGISTER_RAX, 8, false};
	else if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		*place = (struct place){reg - ZYDIS_REGISTER_EAX, 4, false};
	else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		*place = (struct place){reg - ZYDIS_REGISTER_AX, 2, false};
	else if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		*place = (struct place){reg - ZYDIS_REGISTER_AL, 1, false};
	else if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		*place = (struct place){reg - ZYDIS_REGISTER_AH, 1, true};
	else if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		*place = (struct place){reg - ZYDIS_REGISTER_SPL + 4, 1, false};
	return place->width != 0;
}

bool regs_is_general(ZydisRegister reg)
{
	struct place place;

	return place_of(reg, &place);
}

uint64_t regs_read(const ucontext_t *uc, ZydisRegister reg)
{
	struct place place;
	uint64_t value;

	if (reg == ZYDIS_REGISTER_RIP)
		return (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	if (!place_of(reg, &place))
		return 0;
	value = (uint64_t)uc->uc_mcontext.gregs[greg_of[place.number]];
	if (place.high)
		value >>= 8;
	return place.width == 8 ? value : value & ((UINT64_C(1) << place.width * 8) - 1);
}

void regs_write(ucontext_t *uc, ZydisRegister reg, uint64_t value)
{
	struct place place;
	uint64_t mask, old;
	greg_t *greg;

	if (!place_of(reg, &place))
		return;
	greg = &uc->uc_mcontext.gregs[greg_of[place.number]];
	old = (uint64_t)*greg;
	if (place.width == 8) {
		*greg = (greg_t)value;
	} else if (place.width == 4) {
		*greg = (greg_t)(value & UINT32_MAX);
	} else {
		unsigned shift = place.high ? 8 : 0;

		mask = ((UINT64_C(1) << place.width * 8) - 1) << shift;
		*greg = (greg_t)((old & ~mask) | (value << shift & mask));
	}
}

/* ---- vector registers ---------------------------------------------------------------------- */

static char *frame(const ucontext_t *uc)
{
	return (char *)uc->uc_mcontext.fpregs;
}

static bool extended(const ucontext_t *uc)
{
	uint32_t magic;

	memcpy(&magic, frame(uc) + SOFTWARE_AREA, sizeof(magic));
	return magic == MAGIC;
}

/* Where @component's bytes start, if the frame has room for them. */
static char *component(const ucontext_t *uc, enum component which)
{
	uint64_t features;

	if (!extended(uc) || !component_offset[which])
		return NULL;
	memcpy(&features, frame(uc) + SOFTWARE_AREA + 8, sizeof(features));
	return features >> which & 1 ? frame(uc) + component_offset[which] : NULL;
}

static bool in_use(const ucontext_t *uc, enum component which)
{
	uint64_t used;

	if (!extended(uc))
		return which <= COMPONENT_SSE;
	memcpy(&used, frame(uc) + HEADER, sizeof(used));
	return used >> which & 1;
}

static void set_in_use(ucontext_t *uc, enum component which, size_t size)
{
	uint64_t used;

	if (!extended(uc) || in_use(uc, which))
		return;
	memcpy(&used, frame(uc) + HEADER, sizeof(used));
	used |= UINT64_C(1) << which;
	memcpy(frame(uc) + HEADER, &used, sizeof(used));
	memset(which == COMPONENT_SSE ? frame(uc) + LEGACY_XMM : component(uc, which), 0, size);
}

bool regs_is_vector(ZydisRegister reg)
{
	return (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_ZMM31) ||
	       (reg >= ZYDIS_REGISTER_MM0 && reg <= ZYDIS_REGISTER_MM7);
}

/* One 64-byte register is kept in up to three pieces. */
struct piece {
	enum component which;
	size_t first, len;    /* of the register */
	size_t stride, total; /* between registers; of the component */
	unsigned index;
};

static unsigned pieces_of(unsigned number, struct piece pieces[3])
{
	if (number >= 16) {
		pieces[0] = (struct piece){COMPONENT_ZMM16, 0, 64, 64, 1024, number - 16};
		return 1;
	}
	pieces[0] = (struct piece){COMPONENT_SSE, 0, 16, 16, 256, number};
	pieces[1] = (struct piece){COMPONENT_YMM, 16, 16, 16, 256, number};
	pieces[2] = (struct piece){COMPONENT_ZMM_HIGH, 32, 32, 32, 512, number};
	return 3;
}

static char *piece_at(const ucontext_t *uc, const struct piece *piece)
{
	char *base = piece->which == COMPONENT_SSE ? frame(uc) + LEGACY_XMM
						   : component(uc, piece->which);

	return base ? base + piece->index * piece->stride : NULL;
}

static unsigned vector_number(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_ZMM0)
		return reg - ZYDIS_REGISTER_ZMM0;
	if (reg >= ZYDIS_REGISTER_YMM0)
		return reg - ZYDIS_REGISTER_YMM0;
	return reg - ZYDIS_REGISTER_XMM0;
}

static bool is_mmx(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_MM0 && reg <= ZYDIS_REGISTER_MM7;
}

bool regs_vector_read(const ucontext_t *uc, ZydisRegister reg, void *buf, size_t len)
{
	struct piece pieces[3];
	unsigned count;

	if (!frame(uc) || !regs_is_vector(reg))
		return false;
	if (is_mmx(reg)) {
		memcpy(buf, frame(uc) + LEGACY_MMX + 16 * (reg - ZYDIS_REGISTER_MM0),
		       len < 8 ? len : 8);
		return len <= 8;
	}
	count = pieces_of(vector_number(reg), pieces);
	for (unsigned i = 0; i < count && pieces[i].first < len; i++) {
		const struct piece *piece = &pieces[i];
		size_t part = len - piece->first < piece->len ? len - piece->first : piece->len;
		const char *at = piece_at(uc, piece);

		if (!at)
			return false;
		if (in_use(uc, piece->which))
			memcpy((char *)buf + piece->first, at, part);
		else
			memset((char *)buf + piece->first, 0, part);
	}
	return true;
}

/* Bytes [at, at + len) of the register into this piece, as far as they lie in it. */
static bool write_piece(ucontext_t *uc, const struct piece *piece, const char *buf, size_t at,
			size_t len)
{
	size_t first = at > piece->first ? at : piece->first;
	size_t end = at + len < piece->first + piece->len ? at + len : piece->first + piece->len;
	char *to = piece_at(uc, piece);

	if (first >= end)
		return true;
	if (!to)
		return false;
	set_in_use(uc, piece->which, piece->total);
	memcpy(to + (first - piece->first), buf + (first - at), end - first);
	return true;
}

bool regs_vector_write(ucontext_t *uc, ZydisRegister reg, const void *buf, size_t at, size_t len,
		       bool wipe)
{
	static const char zeros[64];
	struct piece pieces[3];
	unsigned count;
	bool ok = true;

	if (!frame(uc) || !regs_is_vector(reg))
		return false;
	if (is_mmx(reg)) {
		if (len == 8)
			memcpy(frame(uc) + LEGACY_MMX + 16 * (reg - ZYDIS_REGISTER_MM0), buf, 8);
		return len == 8;
	}
	count = pieces_of(vector_number(reg), pieces);
	for (unsigned i = 0; i < count && ok; i++) {
		ok = write_piece(uc, &pieces[i], buf, at, len);
		/* What isn't there needs no wiping. */
		if (ok && wipe && piece_at(uc, &pieces[i]) && in_use(uc, pieces[i].which))
			(void)write_piece(uc, &pieces[i], zeros, at + len, 64 - at - len);
	}
	return ok;
}

bool regs_mask(const ucontext_t *uc, ZydisRegister reg, uint64_t *mask)
{
	const char *at;

	if (!frame(uc) || reg < ZYDIS_REGISTER_K0 || reg > ZYDIS_REGISTER_K7)
		return false;
	at = component(uc, COMPONENT_OPMASK);
	if (!at)
		return false;
	*mask = 0;
	if (in_use(uc, COMPONENT_OPMASK))
		memcpy(mask, at + 8 * (reg - ZYDIS_REGISTER_K0), 8);
	return true;
}
