/* SPDX-License-Identifier: MIT */
/*
 * embed - the library without a program to run: an address space, a page table, and a device whose
 * DMA goes through them. What README.md shows, complete.
 *
 *   cc embed.c -luiommu -o embed && ./embed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uiommu/space.h>

static void must(int ret)
{
	char words[256];

	if (!ret)
		return;
	uiommu_refusal_format(uiommu_last_refusal(), words, sizeof(words));
	fprintf(stderr, "embed: %s\n", words);
	exit(1);
}

int main(void)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	const struct uiommu_range iova = {0x10000, 0x1ffff};
	const uiommu_rid rid = 0x08; /* 00:01.0 */
	char *buffer = aligned_alloc(4096, 65536);
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	struct uiommu_port *port;
	struct uiommu_unit *unit;
	struct uiommu_fault fault;
	uint64_t addr;

	must(uiommu_unit_create(NULL, &unit));
	must(uiommu_ioas_create(&ioas));
	must(uiommu_domain_create(unit, ioas, &options, &domain));
	must(uiommu_domain_attach(domain, rid, NULL, 0, "my device"));
	must(uiommu_ioas_map(ioas, iova, (uintptr_t)buffer, UIOMMU_READ | UIOMMU_WRITE, NULL));

	/* The device's side. */
	must(uiommu_port_create(unit, rid, &port));
	uiommu_port_set_master(port, true);
	must(uiommu_port_write(port, 0x10000, "hello", 6));
	printf("the device wrote: %s\n", buffer);

	/* Or where the bytes are, to use them in place. */
	uiommu_port_enter(port);
	if (uiommu_port_translate_one(port, 0x10000, 6, UIOMMU_READ, &addr) == 6)
		printf("and finds in place: %s\n", (const char *)(uintptr_t)addr);
	uiommu_port_leave(port);

	/* Once this has returned no device reaches the buffer. */
	must(uiommu_ioas_unmap(ioas, iova, NULL, NULL, NULL));
	free(buffer);
	if (uiommu_port_write(port, 0x10000, "again", 6)) {
		uiommu_port_last_fault(port, &fault);
		printf("and after unmap: IOVA 0x%llx %s\n", (unsigned long long)fault.iova,
		       uiommu_fault_reason_name(fault.reason));
	}

	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, rid);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	return 0;
}
