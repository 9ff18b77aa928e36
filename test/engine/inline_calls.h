/* SPDX-License-Identifier: MIT */
/*
 * A program that has the library and its headers alone, in the C of 1999 or in C++ of 2011, with
 * every warning: the inline functions and those of the library, by name and by address, on a hit, a
 * miss, what is in two pieces, and a fault. Included by a file of either language.
 */
#include <uiommu/port.h>

#include <stdio.h>
#include <string.h>

#define PAGE UINT64_C(4096)

static int wrong;

#define CHECK(is)                                                           \
	do {                                                                \
		if (!(is)) {                                                \
			printf("%s:%d: not %s\n", __FILE__, __LINE__, #is); \
			wrong = 1;                                          \
		}                                                           \
	} while (0)

static void translate(struct uiommu_port *port, uint64_t iova, int64_t covers, uint64_t addr)
{
	int64_t (*const one)(struct uiommu_port *, uint64_t, uint64_t, int, uint64_t *) =
		uiommu_port_translate_one;
	uint64_t inline_addr = 0, other_addr = 0;
	struct uiommu_segment segment = {0, 0};
	size_t count = 1;

	uiommu_port_enter(port);
	CHECK(uiommu_port_translate_one(port, iova, 8, UIOMMU_READ, &inline_addr) == covers);
	CHECK(one(port, iova, 8, UIOMMU_READ, &other_addr) == covers);
	CHECK(uiommu_port_translate(port, iova, 8, UIOMMU_READ, &segment, &count) == covers);
	uiommu_port_leave(port);
	if (covers < 0)
		return;
	CHECK(inline_addr == addr && other_addr == addr);
	CHECK(count == 1 && segment.addr == addr && segment.len == (uint64_t)covers);
}

static void map(struct uiommu_ioas *ioas, uint64_t iova, uint64_t addr)
{
	struct uiommu_range range;

	range.first = iova;
	range.last = iova + (PAGE - 1);
	CHECK(!uiommu_ioas_map(ioas, range, addr, UIOMMU_READ, NULL));
}

int main(void)
{
	struct uiommu_domain_options options;
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;

	memset(&options, 0, sizeof(options));
	options.size = sizeof(options);
	options.format = "vtd-ss";
	options.width = 48;
	CHECK(!uiommu_unit_create(NULL, &unit));
	CHECK(!uiommu_ioas_create(&ioas));
	CHECK(!uiommu_domain_create(unit, ioas, &options, &domain));
	CHECK(!uiommu_domain_attach(domain, 8, NULL, 0, "device"));
	CHECK(!uiommu_port_create(unit, 8, &port));
	uiommu_port_set_master(port, true);
	map(ioas, 0x1000, 0x10000);
	map(ioas, 0x2000, 0x40000);
	translate(port, 0x1000, 8, 0x10000);
	translate(port, 0x1ff0, 8, 0x10ff0);
	translate(port, 0x2000, 8, 0x40000);
	translate(port, 0x1ffc, 4, 0x10ffc);
	translate(port, 0x2ffc, -14, 0); /* -EFAULT */
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	return wrong;
}
