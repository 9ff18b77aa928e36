/* SPDX-License-Identifier: MIT */
/*
 * fuzz_iommufd - the iommufd front end as an embedder drives it: all requests of /dev/iommu, of its
 * container and of devices' nodes, with hostile structs, in any order, with devices doing DMA.
 *
 * Promised: every call returns a value or a negative errno. What was destroyed, unmapped or mapped
 * is so when it is asked for again. Ranges come in order and apart from each other, and memory is
 * placed inside of one, aligned. When all files are released, no address space, no mapping, no
 * file's mapping and (under AddressSanitizer) no memory is left.
 */
#include "fuzz_vfio.h"

#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include <uiommu/linux/iommufd.h>

enum { MEMFD = 101, NODES = 4, REQUESTS = IOMMUFD_CMD_HW_QUEUE_ALLOC - IOMMUFD_CMD_BASE + 1 };

/*
 * Each request's struct, field by field:
 *   s its size       i number of an object   f flags       r reserved, or written by the request
 *   t a small number  F descriptor           p pointer     v an IOVA     n a length
 *   h two bytes, small, and two reserved     q any eight bytes             g flags, few
 */
static const char *const shapes[REQUESTS] = {
	[IOMMUFD_CMD_DESTROY - IOMMUFD_CMD_BASE] = "si",
	[IOMMUFD_CMD_IOAS_ALLOC - IOMMUFD_CMD_BASE] = "srr",
	[IOMMUFD_CMD_IOAS_ALLOW_IOVAS - IOMMUFD_CMD_BASE] = "sitrp",
	[IOMMUFD_CMD_IOAS_COPY - IOMMUFD_CMD_BASE] = "sfiinvv",
	[IOMMUFD_CMD_IOAS_IOVA_RANGES - IOMMUFD_CMD_BASE] = "sitrpq",
	[IOMMUFD_CMD_IOAS_MAP - IOMMUFD_CMD_BASE] = "sfirpnv",
	[IOMMUFD_CMD_IOAS_UNMAP - IOMMUFD_CMD_BASE] = "sivn",
	[IOMMUFD_CMD_OPTION - IOMMUFD_CMD_BASE] = "sthiq",
	[IOMMUFD_CMD_VFIO_IOAS - IOMMUFD_CMD_BASE] = "sih",
	[IOMMUFD_CMD_HWPT_ALLOC - IOMMUFD_CMD_BASE] = "sgiirrttpir",
	[IOMMUFD_CMD_GET_HW_INFO - IOMMUFD_CMD_BASE] = "sritptrq",
	[IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING - IOMMUFD_CMD_BASE] = "stir",
	[IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP - IOMMUFD_CMD_BASE] = "sitrvnnp",
	[IOMMUFD_CMD_HWPT_INVALIDATE - IOMMUFD_CMD_BASE] = "siptttr",
	[IOMMUFD_CMD_FAULT_QUEUE_ALLOC - IOMMUFD_CMD_BASE] = "srrr",
	[IOMMUFD_CMD_IOAS_MAP_FILE - IOMMUFD_CMD_BASE] = "sfiFvnv",
	[IOMMUFD_CMD_VIOMMU_ALLOC - IOMMUFD_CMD_BASE] = "srtiirrrp",
	[IOMMUFD_CMD_VDEVICE_ALLOC - IOMMUFD_CMD_BASE] = "siirq",
	[IOMMUFD_CMD_IOAS_CHANGE_PROCESS - IOMMUFD_CMD_BASE] = "sr",
	[IOMMUFD_CMD_VEVENTQ_ALLOC - IOMMUFD_CMD_BASE] = "srittrrr",
	[IOMMUFD_CMD_HW_QUEUE_ALLOC - IOMMUFD_CMD_BASE] = "srittrvn",
};

static unsigned files_mapped;

/* ---- files to map ------------------------------------------------------------------------------
 */

/* There is one, which is the arena. */
static int map_file(void *ctx, int fd, uint64_t offset, uint64_t length, bool write, uint64_t *addr)
{
	if (fd != MEMFD)
		return fd < FILES ? -EINVAL : -EBADF;
	if (offset > ARENA || length > ARENA - offset)
		return -EINVAL;
	*addr = (uintptr_t)arena + offset;
	/* One mapping of each place at a time, as mmap() would not give an address twice. */
	if (files_mapped >> offset / 4096)
		return -ENOMEM;
	for (uint64_t at = offset; at < offset + length; at += 4096)
		files_mapped |= 1u << at / 4096;
	return 0;
}

static void unmap_file(void *ctx, uint64_t addr, uint64_t length)
{
	PROMISE(in_arena(addr, length));
	for (uint64_t at = addr; at - addr < length; at += 4096) {
		unsigned bit = 1u << (at - (uintptr_t)arena) / 4096;

		PROMISE(files_mapped & bit);
		files_mapped &= ~bit;
	}
}

/* ---- requests of /dev/iommu --------------------------------------------------------------------
 */

struct request {
	uint8_t bytes[128];
	size_t size;
};

static void append(struct request *request, uint64_t value, size_t size)
{
	request->size = (request->size + size - 1) & ~(size - 1);
	memcpy(request->bytes + request->size, &value, size);
	request->size += size;
}

/* What pointers lead to: ranges, page tables and their entries, commands. */
static uint64_t take_buffer(struct input *in)
{
	uint64_t pointer = take_pointer(in);

	for (unsigned i = 0, words = take8(in) % 8; i < words; i++) {
		uint8_t how = take8(in);
		uint64_t value = how < 128 ? how % 16 * UINT64_C(4096) + how / 16 : take64(in);

		if (in_arena(pointer + i * sizeof(value), sizeof(value)))
			memcpy((void *)(uintptr_t)(pointer + i * sizeof(value)), &value,
			       sizeof(value));
	}
	return pointer;
}

static void append_field(struct input *in, struct request *request, char field)
{
	uint8_t how = field == 's' ? 0 : take8(in);

	switch (field) {
	case 'i':
		append(request, how % 12, 4);
		break;
	case 'f': /* readable, writeable and fixed more often than not */
		append(request, how < 128 ? 7 : how < 240 ? how % 8 : take16(in), 4);
		break;
	case 'g':
		append(request, how < 240 ? how / 16 : take16(in), 4);
		break;
	case 't':
		append(request, how < 240 ? how % 8 * (how < 120 ? 1 : 4) : take64(in), 4);
		break;
	case 'h':
		append(request, how < 240 ? how % 4 : take16(in), 2);
		append(request, how >= 248, 2);
		break;
	case 'r':
		append(request, how >= 248 ? how : 0, 4);
		break;
	case 'F':
		append(request, how < 200 ? MEMFD : how % (FILES + 4), 4);
		break;
	case 'p':
		append(request, take_buffer(in), 8);
		break;
	case 'v':
		append(request, how < 240 ? how % 16 * UINT64_C(4096) : take64(in), 8);
		break;
	case 'n':
		append(request, how < 240 ? (1 + how % 4) * UINT64_C(4096) : take64(in), 8);
		break;
	case 'q':
		append(request, how < 128 ? how % 4 : take64(in), 8);
		break;
	default:
		append(request, 0, 4);
	}
}

static uint8_t *make_request(struct input *in, unsigned number)
{
	uint8_t *arg = arena + take8(in) % 15 * 4096, how = take8(in);
	struct request request = {.size = 0};

	for (const char *field = shapes[number]; *field; field++)
		append_field(in, &request, *field);
	/* Of its own size, or of a later version's with nothing new, or of any. */
	put32(request.bytes, 0,
	      how < 192	  ? (uint32_t)request.size
	      : how < 224 ? (uint32_t)request.size + 8
			  : take16(in) % 160);
	memcpy(arg, request.bytes, sizeof(request.bytes));
	return arg;
}

static long iommu(struct uiommu_vfio_file *file, unsigned number, void *arg)
{
	long ret = uiommu_vfio_ioctl(file, _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + number),
				     (uintptr_t)arg);

	PROMISE(ret >= -4095 && ret <= 0);
	return ret;
}

/* The ranges of an address space, in the last page of the arena. */
static void check_ranges(struct uiommu_vfio_file *file, uint32_t ioas,
			 const struct iommu_ioas_map *map)
{
	struct iommu_iova_range *list = (void *)(arena + ARENA - 4096 + 64);
	struct iommu_ioas_iova_ranges *ranges = (void *)(arena + ARENA - 4096);
	bool found = false;

	*ranges = (struct iommu_ioas_iova_ranges){.size = sizeof(*ranges),
						  .ioas_id = ioas,
						  .num_iovas = 64,
						  .allowed_iovas = (uintptr_t)list};
	if (iommu(file, IOMMUFD_CMD_IOAS_IOVA_RANGES - IOMMUFD_CMD_BASE, ranges))
		return;
	for (unsigned i = 0; i < ranges->num_iovas && i < 64; i++) {
		PROMISE(list[i].start <= list[i].last);
		PROMISE(!i || list[i - 1].last < list[i].start - 1);
		found |= map && map->iova >= list[i].start &&
			 map->iova + (map->length - 1) <= list[i].last;
	}
	PROMISE(!map || (found && map->iova % ranges->out_iova_alignment == 0));
}

/* What has succeeded, asked for again. */
static void check_again(struct uiommu_vfio_file *file, unsigned number, uint8_t *arg)
{
	struct iommu_ioas_map map;
	struct iommu_ioas_unmap unmap;

	switch (number + IOMMUFD_CMD_BASE) {
	case IOMMUFD_CMD_DESTROY:
		PROMISE(iommu(file, number, arg) == -ENOENT);
		break;
	case IOMMUFD_CMD_IOAS_MAP:
		memcpy(&map, arg, sizeof(map));
		if (map.flags & IOMMU_IOAS_MAP_FIXED_IOVA)
			PROMISE(iommu(file, number, arg) == -EEXIST);
		check_ranges(file, map.ioas_id, &map);
		break;
	case IOMMUFD_CMD_IOAS_UNMAP:
		memcpy(&unmap, arg, sizeof(unmap));
		if (unmap.iova || unmap.length != UINT64_MAX)
			PROMISE(iommu(file, number, arg) == -ENOENT);
		break;
	default:
		break;
	}
}

static void do_iommu(struct input *in)
{
	uint8_t which = take8(in);
	unsigned number = which % REQUESTS;
	struct uiommu_vfio_file *file = files[which < 232 ? 0 : which % FILES];
	uint8_t copy[128], *arg;

	if (!shapes[number])
		return;
	arg = make_request(in, number);
	memcpy(copy, arg, sizeof(copy));
	if (!file || iommu(file, number, arg))
		return;
	if (uiommu_vfio_file_kind(file) != UIOMMU_VFIO_IOMMUFD)
		return;
	/* A buffer may lie over the struct, and has made another request of it. */
	if (number + IOMMUFD_CMD_BASE == IOMMUFD_CMD_IOAS_UNMAP)
		memcpy(arg, copy, sizeof(copy));
	check_again(file, number, arg);
}

/* Requests of a container, on /dev/iommu. */
static void do_container(struct input *in)
{
	static const unsigned requests[] = {0, 1, 2, 12, 13, 14, 17};
	uint8_t *arg = arena + take8(in) % 16 * 4096, how = take8(in);
	unsigned request = requests[how % 7];

	put32(arg, 0, how < 240 ? (request == 12 ? 200 : 32) : take16(in) % 64);
	put32(arg, 4, how < 200 ? (request == 13 ? 3 : 0) : take8(in) % 8);
	put64(arg, 8, request == 13 ? take_pointer(in) : take_pages(in));
	put64(arg, 16, take_pages(in));
	put64(arg, 24, take_pages(in));
	if (files[0])
		PROMISE(uiommu_vfio_ioctl(files[0], _IO(VFIO_TYPE, VFIO_BASE + request),
					  request < 3 ? how / 8 : (uintptr_t)arg) >= -4095);
}

/* ---- devices -----------------------------------------------------------------------------------
 */

static void do_open(struct input *in)
{
	struct uiommu_vfio_file *file = NULL;
	uint8_t what = take8(in);
	int ret = what % 4 == 0	  ? uiommu_vfio_open_iommufd(vfio, &file)
		  : what % 4 == 1 ? uiommu_vfio_open_group(vfio, what / 4 % 12, &file)
				  : uiommu_vfio_open_node(vfio, what / 4 % (NODES + 1), &file);

	PROMISE(ret == 0 || (ret < 0 && !file));
	if (!ret)
		store(file);
}

/* BIND, ATTACH, DETACH, with a PASID and without, and what hot resets ask. */
static void do_node(struct input *in)
{
	static const struct {
		unsigned request, size;
		bool flag;
	} requests[] = {{18, 16, false}, {19, 12, false}, {19, 16, true}, {20, 8, false},
			{12, 60, false}, {13, 12, false}, {11, 0, false}, {20, 12, true}};
	uint8_t which = take8(in), how = take8(in);
	uint8_t *arg = arena + take8(in) % 16 * 4096;
	struct uiommu_vfio_file *file = files[which % FILES];
	unsigned request = which / 16 % 8;

	put32(arg, 0, how < 240 ? requests[request].size : take16(in) % 64);
	put32(arg, 4, requests[request].flag != (how >= 232));
	put32(arg, 8, how < 200 ? how % 12 : take16(in));
	put32(arg, 12, how / 12 % 4);
	if (file)
		PROMISE(uiommu_vfio_ioctl(file,
					  _IO(VFIO_TYPE, VFIO_BASE + requests[request].request),
					  (uintptr_t)arg) >= -4095);
}

static void set_register(struct uiommu_vfio_file *node, uint64_t offset, uint64_t value,
			 size_t size)
{
	memcpy(arena, &value, size);
	PROMISE(uiommu_vfio_pwrite(node, arena, size, offset) >= -4095);
}

/* An edu copies, with an interrupt after it. */
static void do_dma(struct input *in)
{
	struct uiommu_vfio_file *file = files[take8(in) % FILES];
	uint64_t iova = take_pages(in), buffer = 0x40000;
	uint8_t how = take8(in);

	if (!file || uiommu_vfio_file_kind(file) != UIOMMU_VFIO_DEVICE)
		return;
	set_register(file, (UINT64_C(7) << 40) + PCI_COMMAND, 6, 2);
	set_register(file, 0xa0, how / 16 % 4, 4);
	set_register(file, 0x80, how & 1 ? buffer : iova, 8);
	set_register(file, 0x88, how & 1 ? iova : buffer, 8);
	set_register(file, 0x90, 16 + how, 4);
	set_register(file, 0x98, 1 | (how & 1 ? 2 : 0) | (how & 4), 4);
	/* Done now more often than not: what follows meets it, or what it left. */
	for (unsigned i = 0; how & 8 && i < 1000; i++)
		if (uiommu_vfio_pread(file, arena, 4, 0x98) != 4 || !(arena[0] & 1))
			break;
}

/* ---- a run -------------------------------------------------------------------------------------
 */

/* What most inputs begin with: an iommufd, an address space, two devices, one attached. */
static void open_session(void)
{
	const uint32_t bind[] = {16, 0, 0, 0}, alloc[] = {12, 0, 0}, attach[] = {12, 0, 1};
	struct uiommu_vfio_file *file;

	PROMISE(uiommu_vfio_open_iommufd(vfio, &file) == 0);
	store(file);
	memcpy(arena, alloc, sizeof(alloc));
	PROMISE(uiommu_vfio_ioctl(files[0], IOMMU_IOAS_ALLOC, (uintptr_t)arena) == 0);
	for (unsigned node = 0; node < 2; node++) {
		PROMISE(uiommu_vfio_open_node(vfio, node, &file) == 0);
		store(file);
		memcpy(arena, bind, sizeof(bind));
		PROMISE(uiommu_vfio_ioctl(file, VFIO_DEVICE_BIND_IOMMUFD, (uintptr_t)arena) == 0);
	}
	memcpy(arena, attach, sizeof(attach));
	PROMISE(uiommu_vfio_ioctl(files[1], VFIO_DEVICE_ATTACH_IOMMUFD_PT, (uintptr_t)arena) == 0);
}

static void (*const steps[16])(struct input *in) = {
	do_iommu, do_iommu, do_iommu, do_iommu, do_iommu,     do_iommu, do_iommu,    do_iommu,
	do_node,  do_node,  do_dma,   do_dma,	do_container, do_open,	do_transfer, do_release,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const platforms[] = {"x86-vtd,dirty=on,nesting=on,pasid=20,pri=on",
						"arm-smmuv3,nesting=on,pasid=20,pri=on",
						"x86-amd,pasid=16", "riscv"};
	static const char *const functions[NODES] = {
		"edu@00:01.0,dma_mask=0xffffffffffffffff,pasid=8",
		"edu@00:02.0,dma_mask=0xffffffffffffffff", "edu@01:00.0,group=9",
		"ioat@01:01.0,group=9"};
	struct uiommu_vfio_options front = {
		.size = sizeof(front), .host = {.map_file = map_file, .unmap_file = unmap_file}};
	struct input in = {data, size};
	uint8_t first = take8(&in);

	fuzz_up(platforms[first / 2 % 4], functions, NODES, &front);
	if (first & 1)
		open_session();
	for (unsigned step = 0; in.left && step < MOST_STEPS; step++)
		steps[take8(&in) % 16](&in);
	fuzz_down(first & 16);
	PROMISE(!files_mapped);
	return 0;
}
