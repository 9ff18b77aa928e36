/* SPDX-License-Identifier: MIT */
/*
 * The PAMU format: owns a domain's primary entry, its run of secondary entries, and the table of
 * these that the unit's domains share. There is no tree here, so nothing is shared with
 * table_impl.h; map and unmap need no memory and can't fail.
 *
 * The run of secondary entries is taken when the domain's table is made, first come, first served.
 * The primary is valid while anything is mapped. With one window the mapping is the window, as the
 * Linux driver has it: the primary then says the mapping's size.
 *
 * Entries are larger than what is written at once. An entry's word of bits is the one that makes it
 * valid (subwindow 0: that grants access, for the primary's other bits stay): the others are
 * written before it, and are not written again until a flush has followed its being cleared. So a
 * walker inside an access section, having seen it valid, sees the others belong to it; it looks
 * again afterwards so as not to report what is being taken away.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "table/fmt_pamu.h"
#include "table/formats.h"
#include "util/alloc.h"

/* The secondary entries, and which are taken. */
struct spaact {
	struct paace entry[PAMU_SECONDARY];
	uint8_t taken[PAMU_SECONDARY];
};

struct pamu {
	struct paace primary; /* first: it is the table's root */
	struct paace *run;    /* of subwindow 1; NULL: one window */
	unsigned fspi;
	unsigned count; /* windows */
	unsigned shift; /* log2 of their size */
	unsigned live;	/* windows in use */
};

static uint32_t word_read(const uint32_t *word)
{
	return be32toh(__atomic_load_n(word, __ATOMIC_ACQUIRE));
}

static void word_write(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, htobe32(value), __ATOMIC_RELEASE);
}

static unsigned log2_of(uint64_t size)
{
	return 63 - __builtin_clzll(size);
}

/* ---- the shared table ---- */

static bool run_free(const struct spaact *spaact, unsigned at, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (spaact->taken[at + i])
			return false;
	return true;
}

/* A run of secondary entries. */
static int take_run(struct table_shared *shared, struct pamu *pamu, unsigned count)
{
	struct spaact *spaact = shared->spaact;

	if (!spaact) {
		spaact = uiommu_alloc_aligned(sizeof(*spaact), sizeof(spaact->entry));
		if (!spaact)
			return -ENOMEM;
		shared->spaact = spaact;
	}
	for (unsigned at = 0; at + count <= PAMU_SECONDARY; at++) {
		if (!run_free(spaact, at, count))
			continue;
		memset(&spaact->taken[at], 1, count);
		pamu->fspi = at;
		pamu->run = &spaact->entry[at];
		return 0;
	}
	return -ENOSPC;
}

void pamu_shared_destroy(struct table_shared *shared)
{
	uiommu_free(shared->spaact, sizeof(struct spaact));
	shared->spaact = NULL;
}

/* ---- life ---- */

/* The primary entry of an aperture in which nothing is mapped. */
static void init_primary(struct pamu *pamu, struct uiommu_range aperture)
{
	struct paace *primary = &pamu->primary;
	uint32_t bits = (uint32_t)aperture.first & PAACE_LOW;

	word_write(&primary->base_high, aperture.first >> 32);
	word_write(&primary->domain_attr, PAACE_COHERENT);
	if (pamu->run) {
		bits |= PAACE_WSE(log2_of(range_length(aperture))) | PAACE_MW;
		word_write(&primary->impl_attr, PAACE_WCE(log2_of(pamu->count)));
		word_write(&primary->fspi, pamu->fspi);
	}
	word_write(&primary->bits, bits);
}

static int pamu_init(struct table *t, const struct table_config *config)
{
	unsigned count = config->windows ? config->windows : PAMU_MAX_WINDOWS;
	struct pamu *pamu;
	uint64_t length;
	int ret = 0;

	if (config->width < PAMU_SHIFT || config->width > PAMU_WIDTH ||
	    !table_choose_aperture(t, config->width, config))
		return -EINVAL;
	length = range_length(t->aperture);
	if (!is_pow2(length) || (t->aperture.first & (length - 1)) || !is_pow2(count) ||
	    count > PAMU_MAX_WINDOWS || length / count < (1u << PAMU_SHIFT))
		return -EINVAL;
	if (count > 1 && !config->shared)
		return -EINVAL;
	pamu = uiommu_alloc_aligned(sizeof(*pamu), sizeof(struct paace));
	if (!pamu)
		return -ENOMEM;
	pamu->count = count;
	pamu->shift = log2_of(length / count);
	if (count > 1)
		ret = take_run(config->shared, pamu, count - 1);
	if (ret) {
		uiommu_free(pamu, sizeof(*pamu));
		return ret;
	}
	init_primary(pamu, t->aperture);
	t->root = &pamu->primary;
	t->own = pamu;
	t->levels = 1;
	t->page_sizes &= UINT64_MAX >> (63 - pamu->shift);
	t->leaf_sizes = t->page_sizes;
	return 0;
}

static void pamu_destroy(struct table *t)
{
	struct pamu *pamu = t->own;
	struct spaact *spaact = t->shared ? t->shared->spaact : NULL;

	if (pamu->run) {
		memset(pamu->run, 0, (pamu->count - 1) * sizeof(*pamu->run));
		memset(&spaact->taken[pamu->fspi], 0, pamu->count - 1);
	}
	uiommu_free(pamu, sizeof(*pamu));
	t->own = NULL;
}

/* ---- map and unmap ---- */

static int pamu_check(const struct table *t, struct uiommu_range range, uint64_t addr,
		      struct table_why *why)
{
	const struct pamu *pamu = t->own;
	uint64_t window = UINT64_C(1) << pamu->shift, length = range_length(range);
	uint64_t size = length < window ? length : window;

	if ((range.first - t->aperture.first) & (window - 1))
		*why = (struct table_why){UIOMMU_RULE_ALIGNMENT,
					  "a mapping starts where one of PAMU's windows does",
					  {0, window - 1}};
	else if (length < window && (!is_pow2(length) || !(t->page_sizes & length)))
		*why = (struct table_why){
			UIOMMU_RULE_ALIGNMENT,
			"less than one of PAMU's windows is mapped as a power of two",
			{0, window - 1}};
	else if (length & (size - 1))
		*why = (struct table_why){
			UIOMMU_RULE_ALIGNMENT,
			"more than one of PAMU's windows is mapped as whole windows",
			{0, window - 1}};
	else if (addr & (size - 1))
		*why = (struct table_why){
			UIOMMU_RULE_ALIGNMENT,
			"memory behind one of PAMU's windows is aligned to its size",
			{0, size - 1}};
	else
		return 0;
	return -EINVAL;
}

static struct paace *window_entry(struct pamu *pamu, unsigned window)
{
	return window ? &pamu->run[window - 1] : &pamu->primary;
}

/* Change bits of the word that makes an entry valid. */
static void change_bits(struct paace *entry, uint32_t clear, uint32_t set)
{
	word_write(&entry->bits, (word_read(&entry->bits) & ~clear) | set);
}

static void put_window(struct pamu *pamu, unsigned window, uint64_t addr, unsigned shift, int prot)
{
	struct paace *entry = window_entry(pamu, window);
	uint32_t impl = window ? 0 : word_read(&entry->impl_attr);
	uint32_t bits = (prot & UIOMMU_READ ? PAACE_AP_QUERY : 0) |
			(prot & UIOMMU_WRITE ? PAACE_AP_UPDATE : 0);

	word_write(&entry->domain_attr, prot & UIOMMU_MMIO ? 0 : PAACE_COHERENT);
	word_write(&entry->impl_attr, impl | PAACE_ATM_WINDOW);
	word_write(&entry->translated_high, addr >> 32);
	word_write(&entry->translated,
		   ((uint32_t)addr & PAACE_LOW) | (pamu->run ? PAACE_WSE(shift) : 0));
	if (!pamu->run)
		change_bits(entry, PAACE_WSE(64), PAACE_WSE(shift));
	if (window)
		word_write(&entry->bits, PAACE_PT | PAACE_V | bits);
	else
		change_bits(entry, PAACE_AP, bits);
	if (!pamu->live++)
		change_bits(&pamu->primary, 0, PAACE_V);
}

static bool window_live(struct pamu *pamu, unsigned window)
{
	return word_read(&window_entry(pamu, window)->bits) & (window ? PAACE_V : PAACE_AP);
}

static int pamu_map(struct table *t, struct uiommu_range range, uint64_t addr, int prot,
		    struct gather *gather)
{
	struct pamu *pamu = t->own;
	uint64_t length = range_length(range), size = UINT64_C(1) << pamu->shift;
	unsigned window = (range.first - t->aperture.first) >> pamu->shift;

	if (length < size)
		size = length;
	for (uint64_t done = 0; done < length; done += size)
		put_window(pamu, window++, addr + done, log2_of(size), prot);
	return 0;
}

static void pamu_unmap(struct table *t, struct uiommu_range range, struct gather *gather)
{
	struct pamu *pamu = t->own;
	uint64_t window, last, mask = (UINT64_C(1) << pamu->shift) - 1;

	gather_add(gather, range);
	range = range_common(range, t->aperture);
	if (!range_valid(range))
		return;
	/* Mappings start where windows do. */
	window = (range.first - t->aperture.first + mask) >> pamu->shift;
	last = (range.last - t->aperture.first) >> pamu->shift;
	for (; window <= last; window++) {
		if (!window_live(pamu, window))
			continue;
		change_bits(window_entry(pamu, window), window ? PAACE_V : PAACE_AP, 0);
		if (!--pamu->live)
			change_bits(&pamu->primary, PAACE_V, 0);
	}
}

/* ---- walk ---- */

/* What an entry maps; false: nothing, or it was taken away meanwhile. */
static bool read_entry(const struct paace *entry, bool whole, struct table_leaf *leaf,
		       unsigned *shift)
{
	uint32_t bits = word_read(&entry->bits), translated, high, attr;

	if (!(bits & PAACE_V) || !(bits & PAACE_AP))
		return false;
	high = word_read(&entry->translated_high);
	translated = word_read(&entry->translated);
	attr = word_read(&entry->domain_attr);
	if (word_read(&entry->bits) != bits)
		return false;
	leaf->addr = (uint64_t)high << 32 | (translated & PAACE_LOW);
	leaf->prot = (bits & PAACE_AP_QUERY ? UIOMMU_READ : 0) |
		     (bits & PAACE_AP_UPDATE ? UIOMMU_WRITE : 0) |
		     (attr & PAACE_COHERENT ? 0 : UIOMMU_MMIO);
	*shift = PAACE_WSE_SHIFT(whole ? bits : translated);
	return true;
}

/* The entry for iova, from the primary's own bits, and the start of its window. */
static bool find_window(const struct table *t, uint64_t iova, struct table_leaf *leaf,
			uint64_t *start, unsigned *mapped)
{
	const struct pamu *pamu = t->own;
	const struct paace *entry = &pamu->primary;
	uint32_t bits = word_read(&entry->bits);
	uint64_t base = (uint64_t)word_read(&entry->base_high) << 32 | (bits & PAACE_LOW);
	unsigned shift, window;

	*start = base;
	if (!(bits & PAACE_V))
		return false;
	if (bits & PAACE_MW) {
		shift = PAACE_WSE_SHIFT(bits) - PAACE_WCE_SHIFT(word_read(&entry->impl_attr));
		window = (iova - base) >> shift;
		*start += (uint64_t)window << shift;
		if (window) {
			struct spaact *spaact = t->shared->spaact;

			entry = &spaact->entry[word_read(&entry->fspi) + window - 1];
		}
	}
	return read_entry(entry, !(bits & PAACE_MW), leaf, mapped);
}

static bool pamu_walk(const struct table *t, uint64_t iova, struct table_leaf *leaf)
{
	uint64_t start;
	unsigned shift;

	if (!find_window(t, iova, leaf, &start, &shift) || (iova - start) >> shift)
		return false;
	leaf->range = (struct uiommu_range){start, start + ((UINT64_C(1) << shift) - 1)};
	return true;
}

/* As the driver looks it up: a short mapping repeats through its window. */
static bool pamu_lookup(const struct table *t, uint64_t iova, struct table_leaf *leaf)
{
	uint64_t start, mask;
	unsigned shift;

	if (!find_window(t, iova, leaf, &start, &shift))
		return false;
	mask = (UINT64_C(1) << shift) - 1;
	leaf->range = (struct uiommu_range){iova & ~mask, iova | mask};
	return true;
}

static bool pamu_window_find(const struct table *t, uint64_t iova, struct table_window *window)
{
	const struct pamu *pamu = t->own;
	uint64_t first = t->aperture.first, mask = (UINT64_C(1) << pamu->shift) - 1;

	if (iova > t->aperture.last)
		return false;
	if (iova > first)
		first = iova & ~mask;
	window->range = (struct uiommu_range){first, first | mask};
	window->page_shift = pamu->shift;
	window->levels = 1;
	return true;
}

const struct table_ops table_pamu = {
	.name = "pamu",
	.page_sizes = ~UINT64_C(0xfff), /* as far as the windows' size */
	.max_addr = UINT64_MAX,
	.prots = UIOMMU_READ | UIOMMU_WRITE | UIOMMU_MMIO,
	.init = pamu_init,
	.destroy = pamu_destroy,
	.check = pamu_check,
	.map = pamu_map,
	.unmap = pamu_unmap,
	.walk = pamu_walk,
	.lookup = pamu_lookup,
	.window_find = pamu_window_find,
};
