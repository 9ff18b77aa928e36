/* SPDX-License-Identifier: MIT */
/*
 * Memory registered for mapping (VFIO_IOMMU_SPAPR_REGISTER_MEMORY): owns the program's list of it,
 * which all its containers share, as in Linux (arch/powerpc/mm/book3s64/iommu_api.c).
 *
 * A container knows by address which of the pieces it has. Every request takes time by the pieces
 * that it is about, not by those that there are.
 *
 * Invariants: pieces are disjoint; a piece stays while a container has it registered or something
 * of it is mapped. Only its last user's leaving frees it and gives back what was charged for it.
 * Lock: uiommu_vfio.memory.lock, a leaf: it is taken under an address space's lock, when areas go.
 */
#include <errno.h>

#include "abi/vfio_spapr.h"
#include "util/alloc.h"

struct vfio_memory {
	struct uiommu_range range;
	unsigned used;	 /* containers that have it registered */
	uint64_t mapped; /* bytes, in all windows of all containers */
};

void vfio_memory_init(struct vfio_memory_list *list)
{
	pthread_mutex_init(&list->lock, NULL);
	list->pieces = (struct imap){0};
}

void vfio_memory_fini(struct vfio_memory_list *list)
{
	imap_clear(&list->pieces);
	pthread_mutex_destroy(&list->lock);
}

/* How many of those bytes lie in the piece. */
static uint64_t shared_bytes(struct uiommu_range piece, uint64_t vaddr, uint64_t bytes)
{
	uint64_t last = vaddr + (bytes - 1);
	uint64_t first = vaddr > piece.first ? vaddr : piece.first;

	if (last > piece.last)
		last = piece.last;
	return first <= last ? last - first + 1 : 0;
}

static uint64_t pages_of(const struct vfio_memory *memory)
{
	return range_length(memory->range) / VFIO_PAGE;
}

/* Free the piece if nobody needs it any more. */
static void free_unused(struct uiommu_vfio *vfio, struct vfio_memory *memory)
{
	if (memory->used || memory->mapped)
		return;
	imap_erase(&vfio->memory.pieces, memory->range.first);
	vfio_uncharge(vfio, pages_of(memory));
	uiommu_free(memory, sizeof(*memory));
}

/* The first piece that ends at or above the address, or NULL. */
static struct vfio_memory *find_from(struct uiommu_vfio *vfio, uint64_t vaddr)
{
	struct imap_pos pos;
	const struct imap_entry *entry = imap_find(&vfio->memory.pieces, vaddr, &pos);

	return entry ? (struct vfio_memory *)(uintptr_t)entry->value : NULL;
}

static struct vfio_memory *find_exact(struct uiommu_vfio *vfio, struct uiommu_range range)
{
	struct vfio_memory *memory = find_from(vfio, range.first);

	return memory && memory->range.first == range.first && memory->range.last == range.last
		       ? memory
		       : NULL;
}

/* The largest page that the piece can be mapped with: what both its ends are aligned to. */
static unsigned largest_shift(const struct vfio_memory *memory)
{
	uint64_t ends = memory->range.first | (memory->range.last + 1);

	return ends ? (unsigned)__builtin_ctzll(ends) : 63;
}

/* The next piece after this one that begins up to @last, or NULL. */
static struct vfio_memory *find_next(struct uiommu_vfio *vfio, uint64_t after, uint64_t last)
{
	struct vfio_memory *memory = after < last ? find_from(vfio, after + 1) : NULL;

	return memory && memory->range.first <= last ? memory : NULL;
}

static void count_mapped(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes)
{
	uint64_t last = vaddr + (bytes - 1);

	for (struct vfio_memory *memory = find_from(vfio, vaddr); memory;
	     memory = find_next(vfio, memory->range.last, last))
		memory->mapped += shared_bytes(memory->range, vaddr, bytes);
}

uint64_t spapr_memory_use(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes,
			  unsigned page_shift)
{
	uint64_t mask = (UINT64_C(1) << page_shift) - 1, done = 0;

	pthread_mutex_lock(&vfio->memory.lock);
	while (done < bytes) {
		uint64_t at = vaddr + done, piece;
		const struct vfio_memory *memory = find_from(vfio, at);

		if (!memory || page_shift > largest_shift(memory) ||
		    !range_contains(memory->range, (struct uiommu_range){at, at + mask}))
			break;
		piece = (memory->range.last - at + 1) & ~mask;
		done += piece < bytes - done ? piece : bytes - done;
	}
	if (done == bytes)
		count_mapped(vfio, vaddr, bytes);
	pthread_mutex_unlock(&vfio->memory.lock);
	return done;
}

void spapr_memory_unuse(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes)
{
	uint64_t last = vaddr + (bytes - 1);
	struct vfio_memory *memory;

	pthread_mutex_lock(&vfio->memory.lock);
	memory = find_from(vfio, vaddr);
	while (memory) {
		uint64_t end = memory->range.last;

		memory->mapped -= shared_bytes(memory->range, vaddr, bytes);
		free_unused(vfio, memory);
		memory = find_next(vfio, end, last);
	}
	pthread_mutex_unlock(&vfio->memory.lock);
}

/* ---- requests ---- */

static int copy_request(struct vfio_spapr *spapr, uint64_t arg,
			struct vfio_iommu_spapr_register_memory *request)
{
	int ret = vfio_copy_sized(spapr->iommu.vfio, request, arg, sizeof(*request));

	if (ret)
		return ret;
	if (request->flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: there are none");
	if ((request->vaddr | request->size) & (VFIO_PAGE - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "vaddr or size",
				     UIOMMU_RANGE_NONE, (struct uiommu_range){0, VFIO_PAGE - 1});
	return 0;
}

/* A new piece, charged and on the list. memory.lock held. The order is the kernel's: the charge,
 * the memory itself, and only then whether another piece overlaps it. */
static int add_piece(struct uiommu_vfio *vfio, struct uiommu_range range, struct vfio_memory **out)
{
	uint64_t pages = range_length(range) / VFIO_PAGE;
	struct vfio_memory *memory;
	struct imap_entry entry = {.range = range}, other;
	int ret = vfio_charge(vfio, pages);

	if (ret)
		return ret;
	memory = uiommu_alloc(sizeof(*memory));
	if (!memory) {
		vfio_uncharge(vfio, pages);
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	ret = vfio_check_source(vfio, UIOMMU_RANGE_NONE, range.first, range_length(range),
				UIOMMU_READ | UIOMMU_WRITE);
	entry.value = (uintptr_t)memory;
	if (!ret) {
		ret = imap_insert(&vfio->memory.pieces, &entry, &other);
		if (ret == -ENOMEM)
			vfio_refuse(UIOMMU_RULE_NO_MEMORY, ret, NULL);
	}
	if (ret == -EEXIST)
		ret = uiommu_refuse(UIOMMU_RULE_OVERLAP, -EINVAL,
				    "memory that is registered already", range, other.range);
	if (ret) {
		uiommu_free(memory, sizeof(*memory));
		vfio_uncharge(vfio, pages);
		return ret;
	}
	*memory = (struct vfio_memory){.range = range};
	*out = memory;
	return 0;
}

static bool is_registered(struct vfio_spapr *spapr, const struct vfio_memory *memory)
{
	struct imap_pos pos;
	const struct imap_entry *entry = imap_find(&spapr->registered, memory->range.first, &pos);

	return entry && entry->range.first == memory->range.first;
}

static int add_registration(struct vfio_spapr *spapr, struct uiommu_range range)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;
	struct vfio_memory *memory = find_exact(vfio, range);
	const struct imap_entry entry = {.range = range};
	int ret;

	if (memory && is_registered(spapr, memory))
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "registered already", range,
				     UIOMMU_RANGE_NONE);
	ret = memory ? 0 : add_piece(vfio, range, &memory);
	if (ret)
		return ret;
	/* What a container has is disjoint, as all pieces are. */
	if (imap_insert(&spapr->registered, &entry, NULL)) {
		free_unused(vfio, memory);
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	memory->used++;
	return 0;
}

long spapr_register(struct vfio_spapr *spapr, uint64_t arg)
{
	struct vfio_iommu_spapr_register_memory request;
	struct uiommu_range range;
	int ret;

	spapr->adopted = true;
	ret = copy_request(spapr, arg, &request);
	if (ret)
		return ret;
	if (request.vaddr + request.size < request.vaddr)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EINVAL, "vaddr + size");
	/* The kernel has no room for a list of no pages. */
	if (!range_from(request.vaddr, request.size, &range))
		return vfio_refuse(UIOMMU_RULE_EMPTY, -ENOMEM, "size: 0");
	pthread_mutex_lock(&spapr->iommu.vfio->memory.lock);
	ret = add_registration(spapr, range);
	pthread_mutex_unlock(&spapr->iommu.vfio->memory.lock);
	if (!ret)
		spapr->enabled = true;
	return ret;
}

/* The container has it no more. memory.lock held. */
static void drop(struct vfio_spapr *spapr, struct vfio_memory *memory)
{
	imap_erase(&spapr->registered, memory->range.first);
	memory->used--;
	free_unused(spapr->iommu.vfio, memory);
}

/* What is still mapped stays usable for as long, and is no error: Linux from 5.0 on. */
static int remove_registration(struct vfio_spapr *spapr, struct uiommu_range range)
{
	struct vfio_memory *memory = find_exact(spapr->iommu.vfio, range);

	if (!memory || !is_registered(spapr, memory))
		return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT,
				     "exactly this was not registered", range, UIOMMU_RANGE_NONE);
	drop(spapr, memory);
	return 0;
}

long spapr_unregister(struct vfio_spapr *spapr, uint64_t arg)
{
	struct vfio_iommu_spapr_register_memory request;
	struct uiommu_range range;
	int ret;

	if (!spapr->adopted)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EPERM, "nothing was registered yet");
	ret = copy_request(spapr, arg, &request);
	if (ret)
		return ret;
	if (!range_from(request.vaddr, request.size, &range))
		return vfio_refuse(UIOMMU_RULE_EMPTY, -ENOENT, "nothing can be registered there");
	pthread_mutex_lock(&spapr->iommu.vfio->memory.lock);
	ret = remove_registration(spapr, range);
	pthread_mutex_unlock(&spapr->iommu.vfio->memory.lock);
	return ret;
}

void spapr_drop_registrations(struct vfio_spapr *spapr)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;
	const struct imap_entry *entry;
	struct imap_pos pos;

	pthread_mutex_lock(&vfio->memory.lock);
	while ((entry = imap_find(&spapr->registered, 0, &pos)))
		drop(spapr, find_exact(vfio, entry->range));
	pthread_mutex_unlock(&vfio->memory.lock);
}
