/* SPDX-License-Identifier: MIT */
/*
 * spapr-window - the address space of an IBM POWER machine: a default window of 32-bit addresses,
 * where drivers keep what the device must find at once, and a dynamic window far above, for the
 * bulk. An Intel I/OAT DMA engine (8086:2021) copies from one into the other; its descriptors lie
 * in the first, and an MSI-X interrupt tells the end.
 *
 *   uiommu run --platform ppc-spapr -- ./spapr-window
 *   uiommu run --platform ppc-spapr,flavour=powernv -- ./spapr-window
 *
 * On a POWER machine where such an engine is bound to vfio-pci it runs as it is.
 */
#include "ioat.h"
#include "vfio.h"

/* The default window's part, then the dynamic one's, each of whole pages of the machine's. */
struct shared {
	struct ioat_descriptor descriptor;
	_Alignas(64) volatile uint64_t completion;
	_Alignas(65536) uint8_t src[65536];
	_Alignas(65536) uint8_t dst[65536];
};

#define LOW_BYTES offsetof(struct shared, dst)

static int open_container(const char *bdf, int *group)
{
	char number[64], path[128];
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	if (container < 0 || ioctl(container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		err(1, "/dev/vfio/vfio: is the module vfio loaded?");
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_SPAPR_TCE_v2_IOMMU) <= 0)
		errx(1, "this machine has no TCE tables: try 'uiommu run --platform ppc-spapr'");
	sysfs_link(bdf, "iommu_group", number);
	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	*group = open(path, O_RDWR | O_CLOEXEC);
	if (*group < 0 || ioctl(*group, VFIO_GROUP_SET_CONTAINER, &container))
		err(1, "%s: is %s bound to vfio-pci, and nobody else's?", path, bdf);
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU))
		err(1, "VFIO_SET_IOMMU(VFIO_SPAPR_TCE_v2_IOMMU)");
	return container;
}

/* A window of @size bytes; where it starts is the machine's choice. */
static uint64_t create_window(int container, unsigned page_shift, uint64_t size)
{
	struct vfio_iommu_spapr_tce_create create = {.argsz = sizeof(create),
						     .page_shift = page_shift,
						     .window_size = size,
						     .levels = 1};

	if (ioctl(container, VFIO_IOMMU_SPAPR_TCE_CREATE, &create))
		err(1, "VFIO_IOMMU_SPAPR_TCE_CREATE: are both windows there already?");
	return create.start_addr;
}

static void map(int container, uint64_t iova, void *memory, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map), .iova = iova, .size = size};

	map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	map.vaddr = (uintptr_t)memory;
	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		err(1, "VFIO_IOMMU_MAP_DMA at %#llx", (unsigned long long)iova);
}

static struct shared *share(int container)
{
	struct vfio_iommu_spapr_register_memory memory = {.argsz = sizeof(memory)};
	struct shared *m = aligned_alloc(_Alignof(struct shared), sizeof(*m));

	if (!m)
		err(1, "memory");
	memset(m, 0, sizeof(*m));
	memory.vaddr = (uintptr_t)m;
	memory.size = sizeof(*m);
	if (ioctl(container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &memory))
		err(1, "VFIO_IOMMU_SPAPR_REGISTER_MEMORY (is 'ulimit -l' too small?)");
	return m;
}

static void copy(volatile uint8_t *bar, const char *bdf, int irq, struct shared *m, uint64_t low,
		 uint64_t high)
{
	for (size_t i = 0; i < sizeof(m->src); i++)
		m->src[i] = i * 31 + i / 256;
	m->descriptor = (struct ioat_descriptor){.size = sizeof(m->src),
						 .control = IOAT_INTERRUPT | IOAT_COMPLETION,
						 .src = low + offsetof(struct shared, src),
						 .dst = high};
	ioat_start(bar, low, low + offsetof(struct shared, completion), 1);
	vfio_irq_wait(irq);
	ioat_check(bar, bdf, m->completion, low);
	if (memcmp(m->src, m->dst, sizeof(m->src)) != 0)
		errx(1, "%s: what arrived is not what was sent", bdf);
}

int main(int argc, char **argv)
{
	struct vfio_iommu_spapr_tce_info info = {.argsz = sizeof(info)};
	const uint64_t size = 1ull << 32;
	int container, group, device, irq;
	unsigned page_shift = 16;
	struct shared *m;
	uint64_t high;
	char bdf[64];

	if (argc > 1)
		snprintf(bdf, sizeof(bdf), "%s", argv[1]);
	else
		vfio_find(0x8086, 0x2021, bdf);
	container = open_container(bdf, &group);
	if (ioctl(container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info))
		err(1, "VFIO_IOMMU_SPAPR_TCE_GET_INFO");
	if (!(info.flags & VFIO_IOMMU_SPAPR_INFO_DDW) || !(info.ddw.pgsizes >> page_shift & 1))
		page_shift = 12;
	m = share(container);
	/* The default window is there from the start; its pages have 4 KiB. */
	map(container, info.dma32_window_start, m, LOW_BYTES);
	high = create_window(container, page_shift, size);
	map(container, high, m->dst, sizeof(m->dst));
	printf("default window %#llx-%#llx, pages of 4 KiB: descriptor and source\n",
	       (unsigned long long)info.dma32_window_start,
	       (unsigned long long)info.dma32_window_start + info.dma32_window_size - 1);
	printf("dynamic window %#llx-%#llx, pages of %u KiB: destination\n",
	       (unsigned long long)high, (unsigned long long)(high + size - 1),
	       1u << page_shift >> 10);

	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (device < 0)
		err(1, "VFIO_GROUP_GET_DEVICE_FD %s", bdf);
	irq = vfio_irq(device, VFIO_PCI_MSIX_IRQ_INDEX);
	copy(vfio_enable(device), bdf, irq, m, info.dma32_window_start, high);
	printf("%s: %zu bytes copied from one window into the other: the same\n", bdf,
	       sizeof(m->src));
	return 0;
}
