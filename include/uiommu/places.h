/* SPDX-License-Identifier: MIT */
/**
 * uiommu/places.h - choosing many IOVAs fast: places that a program takes ranges from, maps them by
 * itself, alone or in batches, and gives them back. For user-space drivers, which do so for each
 * request, and for whoever hands IOVAs on, as a virtual IOMMU's driver side does.
 *
 * uiommu_ioas_map_anywhere() chooses by the rule of Linux' iommufd, maps, and needs nothing kept.
 * Here the rule is speed, and what is chosen is not mapped: it is the work of Linux'
 * alloc_iova_fast() and free_iova_fast() (drivers/iommu/iova.c).
 *
 *   uiommu_places_take(places, length, 0, &iova);
 *   uiommu_ioas_map(ioas, (struct uiommu_range){iova, iova + length - 1}, addr, prot, NULL);
 *   ...
 *   uiommu_ioas_unmap(ioas, range, NULL, NULL, NULL);
 *   uiommu_places_give(places, range);
 *
 * What a program holds may be given back before it is unmapped, but then it is handed out while it
 * can't be mapped yet; with batches, give back once the batch is finished.
 *
 * Threads: an object belongs to one thread at a time. Several threads take turns by a lock of their
 * own, or have one object each, over ranges of their own of one IOAS. With respect to everything
 * else, the IOAS included, all functions may be called from any thread.
 *
 * Where it looks. A range given back is kept in a magazine of ranges of just this length, up to 64
 * granules and some 250 of each, and the next one taken of this length is the one given back last;
 * that needs no search. Else lengths up to 256 granules come from the block of 512 that they fit
 * best, longer ones, and larger alignments than a block, from the lowest gap between blocks. If
 * nothing is found so, magazines are emptied and everything is looked at, so -ENOSPC means that
 * there is no such run; that takes time that grows with what is taken, but is not done again for as
 * long as nothing changes. Ranges are exactly as long as asked for. Memory grows with what is
 * taken, not with the space: about 0.5 bytes a granule in blocks, 40 bytes a longer range.
 */
#ifndef UIOMMU_PLACES_H
#define UIOMMU_PLACES_H

#include <uiommu/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uiommu_places;

struct uiommu_places_options {
	size_t size; /**< sizeof(struct uiommu_places_options) */
	/** Choose here only; {0, 0}: everywhere. Never in the first 4 KiB, nor at the very end of
	 *  the 64-bit space. */
	struct uiommu_range within;
	/** Lengths are multiples of it, and so are IOVAs. A power of two of at least 4096, and not
	 *  less than the IOAS' alignment; 0: the smallest such. Where a format's rules are coarser
	 *  than that (windows of pamu and TCEs), it has to be given. */
	uint64_t granule;
	/** All of @within must be had. Else what is reserved there, or not among the allowed
	 * ranges if there are any, is left out. */
	bool whole;
	const char *name; /**< whose they are in refusals; NULL: "places" */
};

/**
 * Claim ranges of an IOAS to choose places in. It is a promise that holds until they are destroyed:
 * nothing can be reserved there, so no domain or device comes that couldn't translate it, or only
 * in coarser pages than the granule (they are refused as by allowed ranges, in the name of the
 * places); uiommu_ioas_map_anywhere() and doorbells are placed elsewhere. Mapping there at a given
 * IOVA is what they are taken for, and is not checked against what was taken. Allowed ranges that
 * are set later make no difference. Claim everything only once domains and devices are there.
 *
 * -EINVAL, -E2BIG RULE_ARGUMENT: bad options; -EINVAL RULE_ALIGNMENT: the granule is finer than the
 * IOAS' alignment; -EADDRINUSE RULE_OVERLAP: something is mapped there, or claimed by other places;
 * -ENOSPC RULE_NO_ROOM: not a granule of @within can be used, or @whole and not all can: the
 * refusal says what can't; -ENOMEM.
 */
UIOMMU_API int uiommu_places_create(struct uiommu_ioas *ioas,
				    const struct uiommu_places_options *options,
				    struct uiommu_places **out);

/** Lift the claim and forget what is taken; what is mapped stays. Before the IOAS is destroyed.
 * NULL is fine. */
UIOMMU_API void uiommu_places_destroy(struct uiommu_places *places);

/**
 * Take a range of @length bytes at a multiple of @alignment (a power of two; 0 and what is less
 * than the granule: the granule). It is nobody else's until it is given back. In the order of the
 * checks: -EINVAL RULE_ARGUMENT: @alignment is no power of two; RULE_EMPTY: no length;
 * RULE_ALIGNMENT: not of whole granules; -ENOSPC RULE_NO_ROOM: asked is where the longest free run
 * begins, blocking is what is behind it as far as it would be needed; where that run is long
 * enough, it is not so aligned; -ENOMEM.
 */
UIOMMU_API int uiommu_places_take(struct uiommu_places *places, uint64_t length, uint64_t alignment,
				  uint64_t *iova);

/**
 * Give back a range just as it was taken. -EINVAL RULE_EMPTY (first > last), RULE_ALIGNMENT, and
 * RULE_ORDER: it isn't taken: given back already, never taken, only a part of what was, or more
 * than one; nothing changes then. Needs no memory.
 */
UIOMMU_API int uiommu_places_give(struct uiommu_places *places, struct uiommu_range range);

/**
 * Give back one after the other, until one is refused: how many were. Where much is taken, that is
 * faster than one by one: what is known of several ranges is fetched from memory at once.
 */
UIOMMU_API size_t uiommu_places_give_list(struct uiommu_places *places,
					  const struct uiommu_range *ranges, size_t count);

/** What there is, in bytes. */
struct uiommu_places_state {
	size_t size;		     /**< sizeof(struct uiommu_places_state) */
	uint64_t total;		     /**< claimed */
	uint64_t free;		     /**< of that, not taken */
	uint64_t taken;		     /**< how many ranges are taken */
	struct uiommu_range longest; /**< free run; {1, 0}: none */
};
/** Empties magazines and looks at everything. -EINVAL: @state->size is less than this. */
UIOMMU_API int uiommu_places_query(struct uiommu_places *places, struct uiommu_places_state *state);

/** The ranges claimed, ascending; *@count as in uiommu_ioas_ranges(). */
UIOMMU_API int uiommu_places_ranges(const struct uiommu_places *places, struct uiommu_range *ranges,
				    size_t *count);

#ifdef __cplusplus
}
#endif
#endif
