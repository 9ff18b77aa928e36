/* SPDX-License-Identifier: MIT */
/*
 * iommufd-copy - copy memory with an Intel I/OAT DMA engine (8086:2021) through iommufd: the
 * device by its own node, an address space with a constraint, a page table made for the device,
 * memory placed by the kernel and memory at an IOVA of our own, an MSI-X interrupt at an eventfd.
 *
 *   cc -I../include iommufd-copy.c -o iommufd-copy && uiommu run -- ./iommufd-copy [BDF [BDF]]
 *
 * With two engines, the second gets a page table of its own, one that guests' tables could be put
 * in front of. On an Arm machine (SMMUv3) the two have different formats, stage 1 and stage 2; yet
 * both show the same address space, so one engine takes up what the other has put down.
 *
 * On a machine where the engines are bound to vfio-pci, and whose kernel has iommufd and device
 * nodes, it runs as it is. Headers that know iommufd (Linux 6.2; device nodes: 6.6) will do as well
 * as the one that is included here.
 */
#include "ioat.h"
#include "vfio.h"

#include <errno.h>

#include <uiommu/linux/iommufd.h>

enum { COPIES = 16, ENGINES = 2 };

/* The constraint: we want these IOVAs, whole. A device that can't have them is not attached. */
static const struct iommu_iova_range allowed = {0x10000000, 0x1fffffff};
/* Where what engines write to goes; the rest goes where the kernel finds room. */
static const uint64_t fixed = 0x18000000;

/* One copy for each page, in an order that shuffles the pages; the last one reports. */
struct chain {
	struct ioat_descriptor ring[COPIES];
	_Alignas(64) volatile uint64_t completion;
};

typedef uint8_t pages[COPIES][PAGE];

/* What the engines reach: each copies what the one before it has written. */
struct memory {
	/* Placed. */
	_Alignas(PAGE) struct chain chain[ENGINES];
	_Alignas(PAGE) pages src;
	/* Fixed. */
	_Alignas(PAGE) pages dst[ENGINES];
};

struct engine {
	char bdf[64];
	int device, irq;
	uint32_t id, hwpt;
	volatile uint8_t *bar;
};

/* /sys/bus/pci/devices/BDF/vfio-dev/vfioN is called as the device's node is. */
static int open_node(const char *bdf)
{
	char path[512] = "";
	struct dirent *e;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		err(1, "%s: is %s bound to vfio-pci, and does this kernel have device nodes?", path,
		    bdf);
	while ((e = readdir(dir)) && strncmp(e->d_name, "vfio", 4) != 0)
		continue;
	if (!e)
		errx(1, "%s is empty", path);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%.63s", e->d_name);
	closedir(dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s: not yours to open?", path);
	return fd;
}

static void bind_engine(struct engine *engine, int iommufd)
{
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};

	engine->device = open_node(engine->bdf);
	if (ioctl(engine->device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		err(1,
		    "%s: VFIO_DEVICE_BIND_IOMMUFD: is every device in its group bound to vfio-pci?",
		    engine->bdf);
	engine->id = bind.out_devid;
}

static uint32_t create_space(int iommufd)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .num_iovas = 1, .allowed_iovas = (uintptr_t)&allowed};

	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc))
		err(1, "IOMMU_IOAS_ALLOC");
	allow.ioas_id = alloc.out_ioas_id;
	if (ioctl(iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow))
		err(1, "IOMMU_IOAS_ALLOW_IOVAS");
	return alloc.out_ioas_id;
}

/* A page table for the engine over the address space, and the engine behind it. */
static void attach(struct engine *engine, int iommufd, uint32_t ioas, uint32_t flags)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = flags, .dev_id = engine->id, .pt_id = ioas};
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach)};

	if (ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc))
		err(1, "%s: IOMMU_HWPT_ALLOC%s", engine->bdf,
		    flags ? ": is its IOMMU one that can't nest? An Arm one can: 'uiommu run "
			    "--platform arm-smmuv3,nesting=on'"
			  : "");
	engine->hwpt = attach.pt_id = alloc.out_hwpt_id;
	if (ioctl(engine->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		err(1, "%s: VFIO_DEVICE_ATTACH_IOMMUFD_PT: can it have the IOVAs %#llx-%#llx?",
		    engine->bdf, (unsigned long long)allowed.start,
		    (unsigned long long)allowed.last);
}

static void detach(const struct engine *engine)
{
	struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};

	if (ioctl(engine->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach))
		err(1, "%s: VFIO_DEVICE_DETACH_IOMMUFD_PT", engine->bdf);
}

/* What every engine can have, now that they are attached. */
static void show_ranges(int iommufd, uint32_t ioas)
{
	struct iommu_ioas_iova_ranges ask = {.size = sizeof(ask), .ioas_id = ioas};
	struct iommu_iova_range *ranges;

	/* Without room it says how many there are. */
	if (!ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &ask) || errno != EMSGSIZE)
		err(1, "IOMMU_IOAS_IOVA_RANGES");
	ranges = calloc(ask.num_iovas, sizeof(*ranges));
	ask.allowed_iovas = (uintptr_t)ranges;
	if (!ranges || ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &ask))
		err(1, "IOMMU_IOAS_IOVA_RANGES");
	printf("usable IOVAs:");
	for (uint32_t i = 0; i < ask.num_iovas; i++)
		printf(" %#llx-%#llx", (unsigned long long)ranges[i].start,
		       (unsigned long long)ranges[i].last);
	printf(", in multiples of %#llx; wanted: %#llx-%#llx\n",
	       (unsigned long long)ask.out_iova_alignment, (unsigned long long)allowed.start,
	       (unsigned long long)allowed.last);
	free(ranges);
}

/* At @iova, or with 0 where there is room. Returns where. */
static uint64_t map(int iommufd, uint32_t ioas, void *memory, uint64_t size, uint64_t iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)memory,
		.length = size,
		.iova = iova,
	};

	if (iova)
		map.flags |= IOMMU_IOAS_MAP_FIXED_IOVA;
	if (ioctl(iommufd, IOMMU_IOAS_MAP, &map))
		err(1, "IOMMU_IOAS_MAP (is 'ulimit -l' too small?)");
	if (map.iova < allowed.start || map.iova + (size - 1) > allowed.last)
		errx(1, "mapped at %#llx, outside of what was allowed",
		     (unsigned long long)map.iova);
	return map.iova;
}

static void unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas, .iova = iova, .length = size};

	if (ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap) || unmap.length != size)
		err(1, "IOMMU_IOAS_UNMAP");
}

static void destroy(int iommufd, uint32_t id)
{
	struct iommu_destroy destroy = {.size = sizeof(destroy), .id = id};

	if (ioctl(iommufd, IOMMU_DESTROY, &destroy))
		err(1, "IOMMU_DESTROY");
}

/* Copy from one IOVA to another with the chain that lies at IOVA @at. Page i becomes page
 * COPIES - 1 - i. */
static void copy(const struct engine *engine, struct chain *chain, uint64_t at, uint64_t src,
		 uint64_t dst)
{
	for (unsigned i = 0; i < COPIES; i++)
		chain->ring[i] = (struct ioat_descriptor){
			.size = PAGE,
			.src = src + i * PAGE,
			.dst = dst + (COPIES - 1 - i) * PAGE,
			.next = at + (i + 1) % COPIES * sizeof(chain->ring[0]),
		};
	chain->ring[COPIES - 1].control = IOAT_INTERRUPT | IOAT_COMPLETION;
	ioat_start(engine->bar, at, at + offsetof(struct chain, completion), COPIES);
	vfio_irq_wait(engine->irq);
	ioat_check(engine->bar, engine->bdf, chain->completion,
		   at + (COPIES - 1) * sizeof(chain->ring[0]));
	printf("%s: %d pages copied from %#llx to %#llx through page table %u\n", engine->bdf,
	       COPIES, (unsigned long long)src, (unsigned long long)dst, engine->hwpt);
}

/* All copies, one after the other, and whether the right bytes have come out of each. */
static void run(struct engine *engines, unsigned count, struct memory *m, uint64_t placed)
{
	uint64_t from = placed + offsetof(struct memory, src), to = fixed;
	const pages *before = (const pages *)&m->src;

	for (unsigned n = 0; n < count; n++) {
		copy(&engines[n], &m->chain[n], placed + n * sizeof(m->chain[0]), from, to);
		for (unsigned i = 0; i < COPIES; i++)
			if (memcmp((*before)[i], m->dst[n][COPIES - 1 - i], PAGE) != 0)
				errx(1, "%s: page %u was not copied", engines[n].bdf, i);
		before = (const pages *)&m->dst[n];
		from = to;
		to += sizeof(pages);
	}
}

int main(int argc, char **argv)
{
	unsigned count = argc > 2 ? 2 : 1;
	struct engine engines[ENGINES] = {0};
	uint64_t placed, placed_size = offsetof(struct memory, dst);
	struct memory *m;
	uint32_t ioas;
	int iommufd;

	if (argc > 1)
		for (unsigned n = 0; n < count; n++)
			snprintf(engines[n].bdf, sizeof(engines[n].bdf), "%s", argv[1 + n]);
	else
		vfio_find(0x8086, 0x2021, engines[0].bdf);
	iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (iommufd < 0)
		err(1, "/dev/iommu: is the module iommufd loaded, and the node yours to open?");
	ioas = create_space(iommufd);
	for (unsigned n = 0; n < count; n++) {
		bind_engine(&engines[n], iommufd);
		attach(&engines[n], iommufd, ioas, n ? IOMMU_HWPT_ALLOC_NEST_PARENT : 0);
		engines[n].irq = vfio_irq(engines[n].device, VFIO_PCI_MSIX_IRQ_INDEX);
		engines[n].bar = vfio_enable(engines[n].device);
		show_ranges(iommufd, ioas);
	}

	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		err(1, "mmap");
	for (unsigned i = 0; i < sizeof(m->src); i++)
		((uint8_t *)m->src)[i] = i + i / PAGE * 31;
	placed = map(iommufd, ioas, m, placed_size, 0);
	map(iommufd, ioas, m->dst, sizeof(m->dst), fixed);
	printf("memory at %#llx, where there was room, and %#llx, as asked for\n",
	       (unsigned long long)placed, (unsigned long long)fixed);
	run(engines, count, m, placed);

	/* From here on the engines reach nothing. What rests on another object goes first. */
	unmap(iommufd, ioas, placed, placed_size);
	unmap(iommufd, ioas, fixed, sizeof(m->dst));
	for (unsigned n = 0; n < count; n++) {
		detach(&engines[n]);
		destroy(iommufd, engines[n].hwpt);
	}
	destroy(iommufd, ioas);
	printf("the same bytes in the end; all unmapped and destroyed\n");
	return 0;
}
