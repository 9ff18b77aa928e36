/* SPDX-License-Identifier: MIT */
/* RLIMIT_MEMLOCK as iommufd counts it, where that is asked for: a page once for all copies of a
 * mapping, from the first page table or access that needs it to the last. */
#include <sys/resource.h>

#include "mock_rig.h"

enum { LIMIT = 8 }; /* pages */

struct counted {
	struct rig rig;
	struct bound b;
	struct rlimit before;
};

static void limit_to(uint64_t pages)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
	limit.rlim_cur = pages * PAGE;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
}

static void counted_up(struct counted *c)
{
	const struct rig_options options = {.memlock = true, .iommufd_test = true};

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &c->before), 0);
	if (c->before.rlim_max < LIMIT * PAGE)
		skip();
	limit_to(LIMIT);
	assert_true(rig_up(&c->rig, &options));
	c->b = bind_edu(&c->rig);
}

/* With nothing left charged, which is seen by charging all. */
static void counted_down(struct counted *c)
{
	unbind_edu(&c->rig, &c->b);
	c->b = bind_edu(&c->rig);
	assert_int_equal(attach_to(&c->rig, c->b.node, c->b.ioas), 0);
	assert_int_equal(ioas_map_at(&c->rig, c->b.fd, c->b.ioas, c->rig.memory, LIMIT * PAGE, 0),
			 0);
	unbind_edu(&c->rig, &c->b);
	rig_down(&c->rig);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &c->before), 0);
}

static long map_pages(struct counted *c, uint32_t ioas, unsigned first, unsigned pages,
		      uint64_t iova)
{
	return ioas_map_at(&c->rig, c->b.fd, ioas, c->rig.memory + first * PAGE, pages * PAGE,
			   iova);
}

static long unmap_pages(struct counted *c, uint32_t ioas, uint64_t iova, unsigned pages)
{
	uint64_t length = pages * PAGE;

	return ioas_unmap(&c->rig, c->b.fd, ioas, iova, &length);
}

/* How many pages more may be needed: mapped elsewhere, and given back. */
static unsigned left(struct counted *c, uint32_t ioas)
{
	const uint64_t there = 0x4000000;
	unsigned pages = 0;

	while (pages < LIMIT && !map_pages(c, ioas, 0, pages + 1, there)) {
		pages++;
		assert_int_equal(unmap_pages(c, ioas, there, pages), 0);
	}
	return pages;
}

/* ---- page tables ---- */

static void test_first_table(void **state)
{
	struct counted c;

	counted_up(&c);
	/* Nobody needs it yet. */
	assert_int_equal(map_pages(&c, c.b.ioas, 0, 6, 0), 0);
	assert_int_equal(map_pages(&c, c.b.ioas, 6, 3, 0x10000), 0);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), -ENOMEM);
	assert_int_equal(c.rig.refused.rule, UIOMMU_RULE_MEMLOCK);
	/* Nothing of that was kept. */
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0x10000, 3), 0);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	/* The last one goes. */
	assert_int_equal(detach_device(&c.rig, c.b.node), 0);
	assert_int_equal(map_pages(&c, c.b.ioas, 6, 9, 0x10000), 0);
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0x10000, 9), 0);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), 0);
	counted_down(&c);
}

static void test_map(void **state)
{
	uint64_t iova = 0;
	uint32_t second;
	struct counted c;

	counted_up(&c);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), 0);
	assert_int_equal(map_pages(&c, c.b.ioas, 0, LIMIT + 1, 0), -ENOMEM);
	assert_int_equal(map_pages(&c, c.b.ioas, 0, LIMIT - 1, 0), 0);
	assert_int_equal(ioas_map(&c.rig, c.b.fd, c.b.ioas, MAP_RW, c.rig.memory, 2 * PAGE, &iova),
			 -ENOMEM);
	assert_int_equal(ioas_map(&c.rig, c.b.fd, c.b.ioas, MAP_RW, c.rig.memory, PAGE, &iova), 0);
	assert_int_equal(left(&c, c.b.ioas), 0);
	/* What else is wrong comes first. */
	assert_int_equal(map_pages(&c, c.b.ioas, 0, 1, 0), -EEXIST);
	assert_int_equal(map_pages(&c, c.b.ioas, RIG_PAGES, 1, 0x100000), -EFAULT);
	/* A second table for the same costs nothing, and its going gives nothing back. */
	assert_int_equal(hwpt_alloc(&c.rig, c.b.fd, c.b.device, c.b.ioas, 0, &second), 0);
	assert_int_equal(destroy_id(&c.rig, c.b.fd, second), 0);
	assert_int_equal(left(&c, c.b.ioas), 0);
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0, LIMIT - 1), 0);
	assert_int_equal(left(&c, c.b.ioas), LIMIT - 1);
	/* A mapping counts by itself, whatever else shows the same. */
	assert_int_equal(map_pages(&c, c.b.ioas, 0, 3, 0x100000), 0);
	assert_int_equal(map_pages(&c, c.b.ioas, 0, 3, 0x200000), 0);
	assert_int_equal(left(&c, c.b.ioas), 1);
	counted_down(&c);
}

static long copy_pages(struct counted *c, uint32_t to, uint64_t iova, uint32_t from, uint64_t at,
		       unsigned pages)
{
	struct iommu_ioas_copy copy = {.size = sizeof(copy),
				       .flags = MAP_FIXED_RW,
				       .dst_ioas_id = to,
				       .src_ioas_id = from,
				       .length = pages * PAGE,
				       .dst_iova = iova,
				       .src_iova = at};

	return rig_ioctl(&c->rig, c->b.fd, IOMMU_IOAS_COPY, &copy);
}

static void test_copies(void **state)
{
	uint32_t other, table;
	struct counted c;

	counted_up(&c);
	other = ioas_alloc(&c.rig, c.b.fd);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), 0);
	assert_int_equal(map_pages(&c, c.b.ioas, 0, 6, 0x10000), 0);
	/* Shared, and once more, partly over itself. */
	assert_int_equal(copy_pages(&c, other, 0, c.b.ioas, 0x10000, 6), 0);
	assert_int_equal(copy_pages(&c, c.b.ioas, 0x100000, other, 2 * PAGE, 3), 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	assert_int_equal(hwpt_alloc(&c.rig, c.b.fd, c.b.device, other, 0, &table), 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	/* One after the other goes; pages 2 to 4 have one left. */
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0x10000, 6), 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	assert_int_equal(destroy_id(&c.rig, c.b.fd, table), 0);
	assert_int_equal(left(&c, c.b.ioas), 5);
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0x100000, 3), 0);
	assert_int_equal(left(&c, c.b.ioas), LIMIT);
	/* A copy of what nobody needed so far, too much of it. */
	assert_int_equal(map_pages(&c, other, 6, 4, 0x20000), 0);
	assert_int_equal(copy_pages(&c, c.b.ioas, 0, other, 0x20000, 4), 0);
	assert_int_equal(left(&c, c.b.ioas), 4);
	assert_int_equal(copy_pages(&c, c.b.ioas, 0x10000, other, 0, 6), -ENOMEM);
	assert_int_equal(left(&c, c.b.ioas), 4);
	/* Its first part was entered, and left again. */
	assert_int_equal(map_pages(&c, other, 10, 6, 6 * PAGE), 0);
	assert_int_equal(copy_pages(&c, c.b.ioas, 0x10000, other, 3 * PAGE, 9), -ENOMEM);
	assert_int_equal(left(&c, c.b.ioas), 4);
	counted_down(&c);
}

/* Parts of a mapping, as its container's requests cut it. */
static void test_cut(void **state)
{
	struct iommu_vfio_ioas compat = {.size = sizeof(compat), .op = IOMMU_VFIO_IOAS_SET};
	uint64_t size = 2 * PAGE;
	struct counted c;

	counted_up(&c);
	compat.ioas_id = c.b.ioas;
	assert_int_equal(rig_ioctl(&c.rig, c.b.fd, IOMMU_VFIO_IOAS, &compat), 0);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), 0);
	assert_int_equal(rig_ioctl_value(&c.rig, c.b.fd, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), 0);
	assert_int_equal(rig_map(&c.rig, c.b.fd, VFIO_DMA_MAP_FLAG_READ, 0, 6 * PAGE, c.rig.memory),
			 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	assert_int_equal(rig_unmap(&c.rig, c.b.fd, 0, 0, &size), 0);
	assert_int_equal(size, 2 * PAGE);
	assert_int_equal(left(&c, c.b.ioas), 4);
	assert_int_equal(unmap_pages(&c, c.b.ioas, 2 * PAGE, 4), 0);
	assert_int_equal(left(&c, c.b.ioas), LIMIT);
	counted_down(&c);
}

/* ---- by whom, and by what ---- */

static long set_mode(struct counted *c, int fd, uint64_t mode)
{
	struct iommu_option option = {.size = sizeof(option),
				      .option_id = IOMMU_OPTION_RLIMIT_MODE,
				      .op = IOMMU_OPTION_OP_SET,
				      .val64 = mode};

	return rig_ioctl(&c->rig, fd, IOMMU_OPTION, &option);
}

/* Two contexts count together if both go by the user or both by the process. */
static void test_modes(void **state)
{
	struct mock mock, second;
	struct counted c;
	uint32_t ioas[3];
	long ret = 0;
	int fd[3];

	counted_up(&c);
	for (unsigned i = 0; i < 3; i++) {
		fd[i] = rig_open_iommufd(&c.rig);
		ret = set_mode(&c, fd[i], i == 2);
		ioas[i] = ioas_alloc(&c.rig, fd[i]);
		assert_int_equal(mock_device(&c.rig, fd[i], ioas[i], 0, i ? &second : &mock), 0);
	}
	assert_int_equal(ioas_map_at(&c.rig, fd[0], ioas[0], c.rig.memory, 6 * PAGE, MOCK_FIRST),
			 0);
	assert_int_equal(ioas_map_at(&c.rig, fd[1], ioas[1], c.rig.memory, 3 * PAGE, MOCK_FIRST),
			 -ENOMEM);
	assert_int_equal(ioas_map_at(&c.rig, fd[1], ioas[1], c.rig.memory, 2 * PAGE, MOCK_FIRST),
			 0);
	/* Who may not choose the mode (CAP_SYS_RESOURCE) has three that go by the user. */
	assert_int_equal(
		ioas_map_at(&c.rig, fd[2], ioas[2], c.rig.memory, LIMIT * PAGE, MOCK_FIRST),
		ret == -EPERM ? -ENOMEM : 0);
	assert_int_equal(
		ioas_map_at(&c.rig, fd[2], ioas[2], c.rig.memory, PAGE, MOCK_FIRST + LIMIT * PAGE),
		-ENOMEM);
	for (unsigned i = 0; i < 3; i++)
		rig_close(&c.rig, fd[i]);
	counted_down(&c);
}

static void test_files(void **state)
{
	int file = memfd_create("test", 0), dmabuf;
	struct counted c;

	counted_up(&c);
	assert_int_equal(ftruncate(file, 6 * PAGE), 0);
	assert_int_equal(attach_to(&c.rig, c.b.node, c.b.ioas), 0);
	c.rig.any_memory = true;
	assert_int_equal(map_dmabuf(&c.rig, c.b.fd, c.b.ioas, file, 0, 6 * PAGE, 0x10000), 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	assert_int_equal(map_dmabuf(&c.rig, c.b.fd, c.b.ioas, file, 0, 6 * PAGE, 0x20000), -ENOMEM);
	assert_int_equal(c.rig.files_mapped, 1);
	/* A dma-buf's pages are its maker's. */
	dmabuf = dmabuf_new(&c.rig, c.b.fd, 16 * PAGE);
	assert_int_equal(map_dmabuf(&c.rig, c.b.fd, c.b.ioas, dmabuf, 0, 16 * PAGE, 0x20000), 0);
	assert_int_equal(left(&c, c.b.ioas), 2);
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0x20000, 16), 0);
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0x10000, 6), 0);
	assert_int_equal(left(&c, c.b.ioas), LIMIT);
	rig_close(&c.rig, dmabuf);
	counted_down(&c);
	close(file);
}

static void test_accesses(void **state)
{
	uint32_t first, second, other;
	struct counted c;
	int access;

	counted_up(&c);
	other = ioas_alloc(&c.rig, c.b.fd);
	assert_int_equal(attach_to(&c.rig, c.b.node, other), 0);
	access = access_new(&c.rig, c.b.fd, c.b.ioas, MOCK_ACCESS_NEEDS_PIN_PAGES);
	assert_int_equal(map_pages(&c, c.b.ioas, 0, 10, 0), 0);
	assert_int_equal(access_hold(&c.rig, c.b.fd, access, 0, 9 * PAGE, NULL, 0, &first),
			 -ENOMEM);
	assert_int_equal(left(&c, other), LIMIT);
	/* Bytes of a page need all of it; the second hold needs one that is held. */
	assert_int_equal(access_hold(&c.rig, c.b.fd, access, 0, 2 * PAGE + 1, NULL, 0, &first), 0);
	assert_int_equal(access_hold(&c.rig, c.b.fd, access, 2 * PAGE, 2 * PAGE, NULL, 0, &second),
			 0);
	assert_int_equal(left(&c, other), 4);
	assert_int_equal(access_let_go(&c.rig, c.b.fd, access, first), 0);
	assert_int_equal(left(&c, other), 6);
	/* Moved away, it lets go. */
	assert_int_equal(access_move(&c.rig, c.b.fd, access, other), 0);
	assert_int_equal(left(&c, other), LIMIT);
	assert_int_equal(access_move(&c.rig, c.b.fd, access, c.b.ioas), 0);
	assert_int_equal(access_hold(&c.rig, c.b.fd, access, 0, 5 * PAGE, NULL, 0, &first), 0);
	assert_int_equal(left(&c, other), 3);
	/* What is unmapped is held no longer. */
	assert_int_equal(unmap_pages(&c, c.b.ioas, 0, 10), 0);
	assert_int_equal(left(&c, other), LIMIT);
	rig_close(&c.rig, access);
	counted_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_table), cmocka_unit_test(test_map),
		cmocka_unit_test(test_copies),	    cmocka_unit_test(test_cut),
		cmocka_unit_test(test_modes),	    cmocka_unit_test(test_files),
		cmocka_unit_test(test_accesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
