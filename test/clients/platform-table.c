/* SPDX-License-Identifier: MIT */
/*
 * platform-table - what a machine of each kind says of itself: the reserved regions in sysfs, type
 * 1's IOVA ranges and page sizes, its extensions before and after SET_IOMMU, and whether it wants
 * unsafe interrupts. The expected answers are those of Linux 7.2 on such machines.
 *
 * Argument: the machine, as in the table below, and "refused" if it is run without
 * --allow-unsafe-interrupts and needs it.
 */
#include "client.h"

#define ALL_RANGES 8

struct range {
	uint64_t first, last;
};

struct machine {
	const char *name;
	const char *reserved; /* the group's reserved_regions, whole */
	struct range ranges[ALL_RANGES];
	uint64_t page_sizes;
	int coherent; /* CHECK_EXTENSION(VFIO_DMA_CC_IOMMU) after SET_IOMMU */
};

#define MSI_X86 "0x00000000fee00000 0x00000000feefffff msi\n"
#define MSI_ARM "0x0000000008000000 0x00000000080fffff msi\n"
#define HT	"0x000000fd00000000 0x000000ffffffffff reserved\n"
#define SMALL	0x40201000

static const struct machine machines[] = {
	{"vtd-39", MSI_X86, {{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}}, SMALL, 0},
	{"vtd-48", MSI_X86, {{0, 0xfedfffff}, {0xfef00000, 0xffffffffffff}}, SMALL, 0},
	{"vtd-snoop", MSI_X86, {{0, 0xfedfffff}, {0xfef00000, 0xffffffffffff}}, SMALL, 1},
	{"amd",
	 MSI_X86 HT,
	 {{0, 0xfedfffff}, {0xfef00000, 0xfcffffffff}, {0x10000000000, UINT64_MAX}},
	 0xfff7ffffff000,
	 1},
	{"smmu-1", MSI_ARM, {{0, 0x7ffffff}, {0x8100000, 0xffffffffffff}}, SMALL, 0},
	{"smmu-2", MSI_ARM, {{0, 0x7ffffff}, {0x8100000, 0xfffffffffff}}, SMALL, 0},
	{"declared",
	 "0x0000000000100000 0x00000000002fffff reserved\n" MSI_X86
	 "0x0000000200000000 0x000000020fffffff reserved\n",
	 {{0, 0xfffff},
	  {0x300000, 0xfedfffff},
	  {0xfef00000, 0x1ffffffff},
	  {0x210000000, 0xffffffffffff}},
	 SMALL,
	 0},
	/* A relaxable region is told, and dropped for assignment. */
	{"relaxable",
	 "0x0000000000000000 0x0000000000ffffff direct-relaxable\n" MSI_X86,
	 {{0, 0xfedfffff}, {0xfef00000, 0xffffffffffff}},
	 SMALL,
	 0},
};

static const struct machine *find_machine(const char *name)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
		if (!strcmp(machines[i].name, name))
			return &machines[i];
	fprintf(stderr, "platform-table: no machine %s\n", name);
	exit(2);
}

static void check_sysfs(const struct client *c, const struct machine *m)
{
	const char *number = strrchr(c->group_path, '/') + 1;
	char path[160], text[1024];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/reserved_regions", number);
	file = fopen(path, "r");
	REQUIRE(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[len] = '\0';
	if (!CHECK(!strcmp(text, m->reserved)))
		fprintf(stderr, "%s", text);
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/type", number);
	file = fopen(path, "r");
	REQUIRE(file);
	CHECK(fgets(text, sizeof(text), file) && !strcmp(text, "DMA\n"));
	fclose(file);
}

static void check_ranges(int container, const struct machine *m)
{
	struct {
		struct vfio_info_cap_header header;
		uint32_t count, reserved;
		struct range ranges[ALL_RANGES];
	} * cap;
	static uint8_t buf[4096];
	struct vfio_iommu_type1_info *info = (void *)buf;
	unsigned count = 0;

	while (count < ALL_RANGES && m->ranges[count].last)
		count++;
	cap = client_info_cap(container, buf, sizeof(buf), VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	REQUIRE(cap);
	CHECK_EQ(info->flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
	CHECK_EQ(info->iova_pgsizes, m->page_sizes);
	CHECK_EQ(cap->count, count);
	for (unsigned i = 0; i < count && i < cap->count; i++) {
		CHECK_EQ(cap->ranges[i].first, m->ranges[i].first);
		CHECK_EQ(cap->ranges[i].last, m->ranges[i].last);
	}
}

/* Every range can be mapped at both its ends, and not one page beyond. */
static void check_edges(int container, const struct machine *m)
{
	uint8_t *page = client_pages(1);

	for (unsigned i = 0; i < ALL_RANGES && m->ranges[i].last; i++) {
		uint64_t first = m->ranges[i].first, last = m->ranges[i].last - (PAGE - 1);

		CHECK_EQ(client_map(container, first, page, PAGE, RW), 0);
		CHECK_EQ(client_map(container, last, page, PAGE, RW), 0);
		if (first)
			CHECK_EQ(client_map(container, first - PAGE, page, PAGE, RW), -EINVAL);
		if (last + PAGE)
			CHECK_EQ(client_map(container, last + PAGE, page, PAGE, RW), -EINVAL);
		CHECK_EQ(client_unmap(container, first, PAGE, 0), PAGE);
		CHECK_EQ(client_unmap(container, last, PAGE, 0), PAGE);
	}
}

static void check_extensions(int container, bool set, const struct machine *m)
{
	for (unsigned i = 0; i < 16; i++) {
		int expect =
			i == VFIO_TYPE1_IOMMU || i == VFIO_TYPE1v2_IOMMU || i == VFIO_UNMAP_ALL;

		if (i == VFIO_DMA_CC_IOMMU)
			expect = set && m->coherent;
		if (i == CLIENT_UPDATE_VADDR)
			expect = set;
		CHECK_EQ(call_value(container, VFIO_CHECK_EXTENSION, i), expect);
	}
}

int main(int argc, char **argv)
{
	const struct machine *m;
	struct client c;
	int type;

	REQUIRE(argc >= 2);
	m = find_machine(argv[1]);
	client_find(&c, EDU, 0);
	check_sysfs(&c, m);
	for (type = VFIO_TYPE1_IOMMU; type <= VFIO_TYPE1v2_IOMMU; type += 2) {
		client_open(&c, 0);
		check_extensions(c.container, false, m);
		if (argc == 3) {
			CHECK_EQ(call_value(c.container, VFIO_SET_IOMMU, type), -EPERM);
			client_close(&c);
			continue;
		}
		CHECK_EQ(call_value(c.container, VFIO_SET_IOMMU, type), 0);
		check_extensions(c.container, true, m);
		check_ranges(c.container, m);
		check_edges(c.container, m);
		client_close(&c);
	}
	return client_done();
}
