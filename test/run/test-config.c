/* SPDX-License-Identifier: MIT */
/*
 * The runner's settings on their way through the environment, and the files of a machine.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run/config.h"
#include "run/tree.h"

static void test_round_trip(void **state)
{
	struct run_config config, copy;
	char text[512], again[512];

	run_config_init(&config);
	config.platform = "x86-vtd,aw=39";
	config.devices[0] = "edu@00:05.0,group=7";
	config.devices[1] = "ioat";
	config.device_count = 2;
	config.iotlb = 64;
	config.dma_entries = 9;
	config.memlock = config.explain = config.stats = true;
	config.root = "/dev/shm/a directory";
	config.keep = 600;
	config.pid = 77;
	assert_true(run_config_format(&config, text, sizeof(text)) < (int)sizeof(text));
	strcpy(again, text);
	assert_int_equal(run_config_parse(again, &copy), 0);
	assert_string_equal(copy.platform, config.platform);
	assert_int_equal(copy.device_count, 2);
	assert_string_equal(copy.devices[0], config.devices[0]);
	assert_string_equal(copy.root, config.root);
	assert_int_equal(copy.keep, 600);
	assert_false(copy.verbose);
	assert_true(copy.memlock && copy.explain && copy.stats);
	run_config_format(&copy, again + 0, 0);
	assert_int_equal(run_config_format(&copy, NULL, 0), strlen(text));
}

static void test_too_many_devices(void **state)
{
	struct run_config config;
	char text[2048] = "";

	for (unsigned i = 0; i <= RUN_CONFIG_DEVICES; i++)
		strcat(text, "device edu\n");
	assert_int_equal(run_config_parse(text, &config), -E2BIG);
	strcpy(text, "nonsense from a later version\nverbose\n");
	assert_int_equal(run_config_parse(text, &config), 0);
	assert_true(config.verbose);
}

static struct uiommu_machine *machine_of(struct run_config *config)
{
	struct uiommu_machine_options options = {.size = sizeof(options)};
	struct uiommu_machine *machine;
	char why[256];

	assert_int_equal(run_config_machine(config, &options, &machine, why, sizeof(why)), 0);
	return machine;
}

static void test_machine(void **state)
{
	struct uiommu_machine_options options = {.size = sizeof(options)};
	struct uiommu_machine *machine;
	struct run_config config;
	char why[256];

	run_config_init(&config);
	machine = machine_of(&config);
	for (size_t i = 0, n = 0; uiommu_model_at(i); i++)
		if (!(uiommu_model_at(i)->flags & UIOMMU_MODEL_ON_REQUEST))
			assert_ptr_equal(
				uiommu_function_info(uiommu_machine_function(machine, n++))->model,
				uiommu_model_at(i));
	uiommu_machine_destroy(machine);
	config.devices[0] = "nonsense";
	config.device_count = 1;
	assert_int_equal(run_config_machine(&config, &options, &machine, why, sizeof(why)),
			 -ENOENT);
	assert_true(why[0]);
}

static const char *text_of(const struct run_tree *tree, const char *path)
{
	const struct run_node *node = run_tree_find(tree, path);

	assert_non_null(node);
	return node->data;
}

static void test_tree(void **state)
{
	struct uiommu_machine *machine;
	struct run_config config;
	struct run_tree tree;

	run_config_init(&config);
	config.devices[0] = "edu@00:05.0,group=7";
	config.devices[1] = "ioat@01:00.0,group=8,driver=ioatdma";
	config.device_count = 2;
	machine = machine_of(&config);
	assert_int_equal(run_tree_build(machine, &config, &tree), 0);
	uiommu_machine_destroy(machine);
	assert_string_equal(text_of(&tree, "/sys/bus/pci/devices/0000:01:00.0"),
			    "../../../devices/pci0000:01/0000:01:00.0");
	assert_string_equal(text_of(&tree, "/sys/devices/pci0000:00/0000:00:05.0/iommu_group"),
			    "../../../kernel/iommu_groups/7");
	assert_string_equal(text_of(&tree, "/sys/devices/pci0000:01/0000:01:00.0/driver"),
			    "../../../bus/pci/drivers/ioatdma");
	assert_string_equal(text_of(&tree, "/sys/devices/pci0000:00/0000:00:05.0/vendor"),
			    "0x1234\n");
	assert_int_equal(run_tree_find(&tree, "/sys/devices/pci0000:00/0000:00:05.0/config")->len,
			 256);
	assert_non_null(run_tree_find(&tree, "/dev/vfio/7"));
	/* No function of this group is vfio-pci's. */
	assert_null(run_tree_find(&tree, "/dev/vfio/8"));
	run_tree_free(&tree);
}

/* Whatever allocation fails, the tree is either whole or gone. */
static long allocations_left, in_use;

static void *failing_alloc(size_t size, size_t align)
{
	void *ptr = NULL;

	if (allocations_left-- <= 0 || posix_memalign(&ptr, align, size))
		return NULL;
	memset(ptr, 0, size);
	in_use++;
	return ptr;
}

static void failing_release(void *ptr, size_t size)
{
	in_use -= ptr != NULL;
	free(ptr);
}

static void test_tree_without_memory(void **state)
{
	struct uiommu_machine *machine;
	struct run_config config;
	struct run_tree tree;
	int ret = -1;

	run_config_init(&config);
	uiommu_set_allocator(failing_alloc, failing_release);
	allocations_left = 1000000;
	machine = machine_of(&config);
	for (long n = 0; ret; n += n < 20 ? 1 : 13) {
		long before = in_use;

		allocations_left = n;
		ret = run_tree_build(machine, &config, &tree);
		assert_true(ret == 0 || ret == -ENOMEM);
		if (ret)
			assert_int_equal(in_use, before);
	}
	run_tree_free(&tree);
	uiommu_machine_destroy(machine);
	assert_int_equal(in_use, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_too_many_devices),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_tree_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
