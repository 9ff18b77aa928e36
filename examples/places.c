/* SPDX-License-Identifier: MIT */
/*
 * places - a driver's way with IOVAs, with the library alone: for each round of requests take
 * places, map the buffers there in one batch, let the device work, unmap them in another batch and
 * give the places back.
 *
 *   cc places.c -luiommu -o places && ./places
 */
#include <stdio.h>
#include <stdlib.h>

#include <uiommu/places.h>

enum { REQUESTS = 32, ROUNDS = 100, PAGE = 4096 };

static void must(int ret)
{
	char words[256];

	if (!ret)
		return;
	uiommu_refusal_format(uiommu_last_refusal(), words, sizeof(words));
	fprintf(stderr, "places: %s\n", words);
	exit(1);
}

static void round_of(struct uiommu_ioas *ioas, struct uiommu_places *places,
		     struct uiommu_port *port, char *memory)
{
	struct uiommu_range range[REQUESTS];
	struct uiommu_op ops[REQUESTS];

	for (int i = 0; i < REQUESTS; i++) {
		uint64_t pages = 1 + (uint64_t)i % 4, iova;

		must(uiommu_places_take(places, pages * PAGE, 0, &iova));
		range[i] = (struct uiommu_range){iova, iova + pages * PAGE - 1};
		ops[i] = (struct uiommu_op){.kind = UIOMMU_OP_MAP,
					    .prot = UIOMMU_WRITE,
					    .ioas = ioas,
					    .range = range[i],
					    .addr = (uintptr_t)memory + (uint64_t)i * 4 * PAGE};
	}
	must(uiommu_batch_submit(ops, REQUESTS, NULL));
	for (int i = 0; i < REQUESTS; i++)
		must(uiommu_port_write(port, range[i].first, "done", 5));
	for (int i = 0; i < REQUESTS; i++)
		ops[i].kind = UIOMMU_OP_UNMAP;
	must(uiommu_batch_submit(ops, REQUESTS, NULL));
	/* No device reaches them any more, so others may have them. */
	if (uiommu_places_give_list(places, range, REQUESTS) != REQUESTS)
		must(-1);
}

int main(void)
{
	const struct uiommu_domain_options domain_options = {
		.size = sizeof(domain_options), .format = "vtd-ss", .width = 48};
	const struct uiommu_places_options options = {.size = sizeof(options),
						      .within = {1ull << 32, (1ull << 36) - 1},
						      .name = "the driver's places"};
	char *memory = aligned_alloc(PAGE, REQUESTS * 4 * PAGE);
	struct uiommu_domain *domain;
	struct uiommu_places *places;
	struct uiommu_ioas *ioas;
	struct uiommu_port *port;
	struct uiommu_unit *unit;

	must(uiommu_unit_create(NULL, &unit));
	must(uiommu_ioas_create(&ioas));
	must(uiommu_domain_create(unit, ioas, &domain_options, &domain));
	must(uiommu_domain_attach(domain, 0x08, NULL, 0, "my device"));
	must(uiommu_port_create(unit, 0x08, &port));
	uiommu_port_set_master(port, true);
	must(uiommu_places_create(ioas, &options, &places));

	for (int i = 0; i < ROUNDS; i++)
		round_of(ioas, places, port, memory);
	printf("%d requests, the last one is %s\n", ROUNDS * REQUESTS,
	       memory + (REQUESTS - 1) * 4 * PAGE);

	uiommu_places_destroy(places);
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 0x08);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
	return 0;
}
