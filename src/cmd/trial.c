/* SPDX-License-Identifier: MIT */
/*
 * Owns the machine that a platform is tried on: one function, one address space, at most one
 * domain. No rule of any platform is in here; whatever is asked goes to the library, whose refusals
 * are the answer. Closing cannot fail, and takes a trial that was opened in part.
 */
#include "cmd/trial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/number.h"
#include "util/range.h"

#define MOST_VECTORS 2048

int trial_open(const char *spec, struct trial *trial, char *why, size_t why_len)
{
	struct uiommu_machine_options options = {.size = sizeof(options), .platform = spec};
	int ret;

	memset(trial, 0, sizeof(*trial));
	ret = uiommu_machine_create(&options, &trial->machine, why, why_len);
	if (ret)
		return ret;
	ret = uiommu_machine_add(trial->machine, "edu", why, why_len);
	if (!ret) {
		ret = uiommu_ioas_create(&trial->ioas);
		if (ret)
			snprintf(why, why_len, "%s", strerror(-ret));
	}
	if (ret) {
		trial_close(trial);
		return ret;
	}
	trial->platform = uiommu_machine_platform(trial->machine);
	trial->facts = uiommu_platform_facts(trial->platform);
	trial->rid = uiommu_function_info(uiommu_machine_function(trial->machine, 0))->rid;
	return 0;
}

int trial_attach(struct trial *trial, const struct trial_geometry *geometry)
{
	const struct uiommu_platform_facts *facts = trial->facts;
	struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = facts->format,
		.width = facts->width,
		.name = facts->name,
	};
	int ret;

	trial->geometry = *geometry;
	if (!facts->format)
		return 0;
	ret = uiommu_domain_create(uiommu_machine_unit(trial->machine), trial->ioas, &options,
				   &trial->domain);
	if (!ret)
		ret = uiommu_domain_attach(trial->domain, trial->rid, facts->regions,
					   facts->region_count, facts->name);
	trial->attached = !ret;
	return ret;
}

void trial_close(struct trial *trial)
{
	if (trial->irq)
		uiommu_platform_irq_free(trial->platform, trial->irq);
	while (trial->doorbell_count)
		uiommu_ioas_unmap_doorbell(trial->ioas, trial->doorbells[--trial->doorbell_count]);
	if (trial->attached)
		uiommu_domain_detach(trial->domain, trial->rid);
	uiommu_domain_destroy(trial->domain);
	uiommu_ioas_destroy(trial->ioas);
	uiommu_machine_destroy(trial->machine);
	memset(trial, 0, sizeof(*trial));
}

/* ---- interrupts ---- */

int trial_doorbell(struct trial *trial, unsigned number, uint64_t *address)
{
	const struct uiommu_doorbell *doorbell = &trial->facts->doorbells[number];
	int ret;

	*address = doorbell->range.first;
	if (!doorbell->translated || !trial->domain)
		return 0;
	ret = uiommu_ioas_map_doorbell(trial->ioas, doorbell->range.first, doorbell->name, address);
	if (ret == 1)
		trial->doorbells[trial->doorbell_count++] = doorbell->range.first;
	return ret < 0 ? ret : 0;
}

/* Nothing ever arrives: no port writes. */
static void arrives(void *ctx, unsigned vector)
{
}

int trial_interrupts(struct trial *trial, unsigned count, struct uiommu_msi_message *message)
{
	static struct uiommu_msi_message messages[MOST_VECTORS];
	int ret = uiommu_platform_irq_alloc(trial->platform, trial->domain ? trial->ioas : NULL,
					    trial->rid, count, false, arrives, NULL, messages,
					    &trial->irq);

	if (!ret)
		*message = messages[0];
	return ret;
}

/* ---- what it looks like ---- */

void trial_picture(struct trial *trial, struct picture *picture)
{
	const struct trial_geometry *geometry = &trial->geometry;

	picture_take(trial->ioas, picture);
	if (!geometry->windows)
		return;
	picture->aperture = geometry->aperture;
	picture->window =
		(geometry->aperture.last - geometry->aperture.first) / geometry->windows + 1;
}

const char *trial_name(void *ctx, const struct picture_row *row)
{
	const struct trial *trial = ctx;

	for (size_t i = 0; i < trial->facts->doorbell_count; i++) {
		const struct uiommu_doorbell *doorbell = &trial->facts->doorbells[i];

		if (doorbell->translated
			    ? row->kind == PICTURE_DOORBELL && row->addr == doorbell->range.first
			    : row->kind == PICTURE_RESERVED &&
				      range_overlaps(row->range, doorbell->range))
			return doorbell->name;
	}
	return NULL;
}

const char *trial_page_sizes(uint64_t sizes, char *buf, size_t len)
{
	char low[24], high[24];
	uint64_t first = sizes & -sizes;
	uint64_t run = sizes / (first ? first : 1);
	size_t used = 0;

	buf[0] = '\0';
	if (!(run & (run + 1)) && __builtin_popcountll(sizes) > 4) {
		uint64_t last = UINT64_C(1) << (63 - __builtin_clzll(sizes));

		snprintf(buf, len, "%s to %s", number_size(first, low), number_size(last, high));
		return buf;
	}
	for (; sizes && used < len; sizes &= sizes - 1)
		used += (size_t)snprintf(buf + used, len - used, "%s%s", used ? " " : "",
					 number_size(sizes & -sizes, low));
	return buf;
}

const char *trial_vfio_word(unsigned vfio_types)
{
	if (vfio_types & UIOMMU_VFIO_TYPE1)
		return "type1";
	if (vfio_types & UIOMMU_VFIO_PAMU)
		return "fsl-pamu";
	if (vfio_types & UIOMMU_VFIO_SPAPR)
		return "spapr-tce";
	return vfio_types & UIOMMU_VFIO_NOIOMMU ? "noiommu" : "none";
}

void trial_describe(struct trial *trial, char *title, size_t title_len, char *details,
		    size_t details_len)
{
	const struct uiommu_platform_facts *facts = trial->facts;
	char pages[64];

	snprintf(title, title_len, "%s: %s", facts->name, facts->summary);
	if (!trial->domain)
		snprintf(details, details_len, "nothing is translated, VFIO %s",
			 trial_vfio_word(facts->vfio_types));
	else
		snprintf(
			details, details_len,
			"%s tables, %u bits of I/O virtual address, pages %s, VFIO %s",
			facts->format, facts->width,
			trial_page_sizes(uiommu_ioas_page_sizes(trial->ioas), pages, sizeof(pages)),
			trial_vfio_word(facts->vfio_types));
}

bool trial_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

const char *trial_refusal(char *buf, size_t len)
{
	uiommu_refusal_format(uiommu_last_refusal(), buf, len);
	return buf;
}
