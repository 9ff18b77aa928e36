/* SPDX-License-Identifier: MIT */
/*
 * Owns the vocabulary of refusals: the thread's last one, and the words for it.
 * Thread-local and initial-exec, so that refusing never allocates, even inside a signal handler.
 */
#include "util/refuse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static __thread struct uiommu_refusal last_refusal __attribute__((tls_model("initial-exec")));

static const struct {
	const char *name;
	const char *words;
} rules[] = {
	[UIOMMU_RULE_NONE] = {"none", "nothing was refused"},
	[UIOMMU_RULE_ARGUMENT] = {"argument", "an argument is not valid"},
	[UIOMMU_RULE_EMPTY] = {"empty", "the range is empty"},
	[UIOMMU_RULE_WRAP] = {"wrap", "the range runs past the end of the address space"},
	[UIOMMU_RULE_ALIGNMENT] = {"alignment", "not a multiple of the I/O page size"},
	[UIOMMU_RULE_PERMISSION] = {"permission", "read, write or both must be asked for"},
	[UIOMMU_RULE_APERTURE] = {"aperture", "the IOMMU does not translate these addresses"},
	[UIOMMU_RULE_RESERVED] = {"reserved", "the range hits a reserved region"},
	[UIOMMU_RULE_NOT_ALLOWED] = {"not-allowed", "outside the ranges that were allowed"},
	[UIOMMU_RULE_OVERLAP] = {"overlap", "something is mapped there already"},
	[UIOMMU_RULE_SPLIT] = {"split", "would cut a mapping in two"},
	[UIOMMU_RULE_NOT_MAPPED] = {"not-mapped", "nothing is mapped there"},
	[UIOMMU_RULE_SOURCE] = {"source", "the memory to be mapped is not there or not writable"},
	[UIOMMU_RULE_LIMIT] = {"limit", "a limit is used up"},
	[UIOMMU_RULE_MEMLOCK] = {"memlock", "RLIMIT_MEMLOCK is used up"},
	[UIOMMU_RULE_NO_MEMORY] = {"no-memory", "out of memory"},
	[UIOMMU_RULE_BUSY] = {"busy", "it is in use"},
	[UIOMMU_RULE_VIABLE] = {"viable", "a device of the group is held by another driver"},
	[UIOMMU_RULE_ORDER] = {"order", "a step that must come first is missing, or came already"},
	[UIOMMU_RULE_UNSUPPORTED] = {"unsupported", "this interface or device does not have it"},
	[UIOMMU_RULE_ISOLATION] = {"isolation", "the machine cannot isolate MSIs; "
						"allow unsafe interrupts to go on"},
	[UIOMMU_RULE_ADDRESS] = {"address", "a pointer argument cannot be read or written"},
	[UIOMMU_RULE_DOORBELL] = {"doorbell", "the doorbell has no address in this space"},
	[UIOMMU_RULE_CAPABILITY] = {"capability", "the program needs CAP_SYS_RAWIO"},
	[UIOMMU_RULE_NO_ROOM] = {"no-room", "no free range is large enough; unmap something, or "
					    "ask for less or a smaller alignment"},
};

static const char *const resv_names[] = {
	[UIOMMU_RESV_DIRECT] = "direct",     [UIOMMU_RESV_DIRECT_RELAXABLE] = "direct-relaxable",
	[UIOMMU_RESV_RESERVED] = "reserved", [UIOMMU_RESV_MSI] = "msi",
	[UIOMMU_RESV_SW_MSI] = "msi",	     [UIOMMU_RESV_APERTURE] = "aperture",
};

UIOMMU_API const char *uiommu_resv_name(enum uiommu_resv_type type)
{
	return (size_t)type < sizeof(resv_names) / sizeof(resv_names[0]) ? resv_names[type] : "?";
}

UIOMMU_API const char *uiommu_rule_name(enum uiommu_rule rule)
{
	return (size_t)rule < sizeof(rules) / sizeof(rules[0]) ? rules[rule].name : "?";
}

UIOMMU_API const struct uiommu_refusal *uiommu_last_refusal(void)
{
	return &last_refusal;
}

UIOMMU_API void uiommu_clear_refusal(void)
{
	last_refusal.rule = UIOMMU_RULE_NONE;
}

int uiommu_refuse_reserved(int error, const char *owner, struct uiommu_range asked,
			   struct uiommu_range blocking, enum uiommu_resv_type type)
{
	uiommu_refuse(type == UIOMMU_RESV_APERTURE ? UIOMMU_RULE_APERTURE : UIOMMU_RULE_RESERVED,
		      error, owner, asked, blocking);
	last_refusal.resv = type;
	return error;
}

int uiommu_refuse(enum uiommu_rule rule, int error, const char *owner, struct uiommu_range asked,
		  struct uiommu_range blocking)
{
	size_t len = owner ? strlen(owner) : 0;

	if (len >= sizeof(last_refusal.owner))
		len = sizeof(last_refusal.owner) - 1;
	memmove(last_refusal.owner, owner ? owner : "", len);
	last_refusal.owner[len] = 0;
	last_refusal.rule = rule;
	last_refusal.error = error;
	last_refusal.asked = asked;
	last_refusal.blocking = blocking;
	return error;
}

/* What was asked for, and what is in the way and whose it is; as far as they apply. */
static void format_ranges(const struct uiommu_refusal *r, char *buf, size_t len)
{
	size_t used = 0;

	buf[0] = 0;
	if (range_valid(r->asked))
		used = snprintf(buf, len, "; asked for [0x%" PRIx64 ", 0x%" PRIx64 "]",
				r->asked.first, r->asked.last);
	if (!range_valid(r->blocking))
		return;
	if (r->rule == UIOMMU_RULE_ALIGNMENT)
		snprintf(buf + used, len - used, "; a page is 0x%" PRIx64,
			 r->blocking.last - r->blocking.first + 1);
	else
		snprintf(buf + used, len - used,
			 "; in the way: [0x%" PRIx64 ", 0x%" PRIx64 "] (%s%s%s)", r->blocking.first,
			 r->blocking.last,
			 r->rule == UIOMMU_RULE_RESERVED ? uiommu_resv_name(r->resv) : "",
			 r->rule == UIOMMU_RULE_RESERVED ? " region of " : "", r->owner);
}

UIOMMU_API int uiommu_refusal_format(const struct uiommu_refusal *r, char *buf, size_t len)
{
	bool known = (size_t)r->rule < sizeof(rules) / sizeof(rules[0]);
	/* Without a range in the way, the owner says what the rule was applied to. */
	bool apart = r->owner[0] && (!range_valid(r->blocking) || r->rule == UIOMMU_RULE_ALIGNMENT);
	/* These rules' own words say too little beside it. */
	bool instead = apart && (r->rule == UIOMMU_RULE_ORDER || r->rule == UIOMMU_RULE_ARGUMENT);
	char ranges[2 * UIOMMU_OWNER_MAX + 128];

	format_ranges(r, ranges, sizeof(ranges));
	if (instead)
		return snprintf(buf, len, "%s by rule '%s': %s%s",
				strerrorname_np(-r->error) ?: "no error", rules[r->rule].name,
				r->owner, ranges);
	return snprintf(buf, len, "%s by rule '%s': %s%s%s%s%s",
			strerrorname_np(-r->error) ?: "no error", uiommu_rule_name(r->rule),
			known ? rules[r->rule].words : "?", apart ? " (" : "",
			apart ? r->owner : "", apart ? ")" : "", ranges);
}
