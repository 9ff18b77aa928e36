/* SPDX-License-Identifier: MIT */
/* Machines and specifications: addresses, groups, drivers, options, and what is refused how. */
#include <sys/stat.h>
#include <unistd.h>
#include <errno.h>

#include "rig.h"

static struct uiommu_machine *machine_new(void)
{
	struct uiommu_machine *machine;

	assert_int_equal(uiommu_machine_create(NULL, &machine, NULL, 0), 0);
	return machine;
}

static const struct uiommu_function_info *info_of(struct uiommu_machine *machine, size_t index)
{
	return uiommu_function_info(uiommu_machine_function(machine, index));
}

static void test_addresses(void **state)
{
	struct uiommu_machine *machine = machine_new();
	static const char *const specs[] = {"edu", "ioat@00:02.0", "edu", "edu@3:1f.7",
					    "ioat@0000:00:01.1"};
	static const char *const names[] = {"0000:00:01.0", "0000:00:01.1", "0000:00:02.0",
					    "0000:00:03.0", "0000:03:1f.7"};
	static const char *const models[] = {"edu", "ioat", "ioat", "edu", "edu"};
	size_t i;

	for (i = 0; i < 5; i++)
		assert_int_equal(uiommu_machine_add(machine, specs[i], NULL, 0), 0);
	for (i = 0; i < 5; i++) {
		assert_string_equal(info_of(machine, i)->name, names[i]);
		assert_string_equal(info_of(machine, i)->model->name, models[i]);
		assert_ptr_equal(uiommu_machine_find(machine, names[i]),
				 uiommu_machine_function(machine, i));
	}
	assert_int_equal(info_of(machine, 4)->rid, 0x03ff);
	assert_null(uiommu_machine_function(machine, 5));
	assert_null(uiommu_machine_find(machine, "0000:00:05.0"));
	assert_null(uiommu_machine_find(machine, NULL));

	/* Both functions of device 1 say that there are several, the lonely ones don't. */
	for (i = 0; i < 5; i++) {
		struct uiommu_function *fn = uiommu_machine_function(machine, i);

		assert_int_equal(uiommu_function_config_read(fn, 0x0e, 1), i < 2 ? 0x80 : 0);
		uiommu_function_reset(fn);
		assert_int_equal(uiommu_function_config_read(fn, 0x0e, 1), i < 2 ? 0x80 : 0);
	}
	uiommu_machine_destroy(machine);
}

static void test_groups(void **state)
{
	struct uiommu_machine *machine = machine_new();
	static const char *const specs[] = {"edu@00:01.0,group=1",
					    "edu@00:02.0",
					    "edu@00:03.0",
					    "edu@00:04.0,group=0,driver=e1000e",
					    "edu@00:05.0,group=65535",
					    "edu@00:06.0"};
	static const unsigned groups[] = {1, 0, 2, 0, 65535, 3};
	size_t i;

	for (i = 0; i < 6; i++)
		assert_int_equal(uiommu_machine_add(machine, specs[i], NULL, 0), 0);
	for (i = 0; i < 6; i++) {
		assert_int_equal(info_of(machine, i)->group, groups[i]);
		assert_string_equal(info_of(machine, i)->driver, i == 3 ? "e1000e" : "vfio-pci");
	}
	uiommu_machine_destroy(machine);
}

static void test_bad_specs(void **state)
{
	static const struct {
		const char *spec;
		int error;
		const char *says; /* part of the reason */
	} rows[] = {
		{"", -ENOENT, "there are: edu, ioat"},
		{NULL, -ENOENT, "there are: edu, ioat"},
		{"floppy", -ENOENT, "no device model 'floppy'"},
		{"nvme,file=", -EINVAL, "the name of a file"},
		{"nvme,file=/nonexistent/x", -ENOENT, "/nonexistent/x: it isn't there; size="},
		{"nvme,file=/dev/null", -EINVAL, "neither a file nor a block device"},
		{"nvme,readonly=on,file=/dev/null", -EINVAL, "neither a file nor a block"},
		{"nvme,file=nvme-refused.fifo", -EINVAL, "neither a file nor a block device"},
		{"nvme,readonly=on,file=nvme-refused.fifo", -EINVAL, "neither a file nor a block"},
		{"nvme,readonly=on,file=/", -EINVAL, "neither a file nor a block device"},
		{"nvme,size=1Q", -EINVAL, "a size like"},
		{"nvme,memory=-1", -EINVAL, "a size like"},
		{"nvme,memory=16777216T", -EINVAL, "a size like"},
		{"nvme,memory=1M,size=1M", -EINVAL, "begins another"},
		{"nvme,size=1M,memory=1M", -EINVAL, "begins another"},
		{"nvme,size=511,block=512", -EINVAL, "too small"},
		{"nvme,block=1024", -EINVAL, "512 or 4096"},
		{"nvme,readonly=yes", -EINVAL, "on or off"},
		{"nvme,queues=65", -EINVAL, "1 to 64"},
		{"nvme,serial=123456789012345678901", -EINVAL, "1 to 20"},
		{"edu@", -EINVAL, "no PCI address"},
		{"edu@1", -EINVAL, "no PCI address"},
		{"edu@00:20.0", -EINVAL, "device up to 1f"},
		{"edu@00:01.8", -EINVAL, "function up to 7"},
		{"edu@00:01.0x", -EINVAL, "no PCI address"},
		{"edu@100:01.0", -EINVAL, "no PCI address"},
		{"edu@0000:100:01.0", -EINVAL, "no PCI address"},
		{"edu@0001:00:01.0", -EINVAL, "domain 0000 only"},
		{"edu@00:01.0", -EEXIST, "0000:00:01.0 is there already: edu"},
		{"edu,", -EINVAL, "key=value"},
		{"edu,group", -EINVAL, "key=value"},
		{"edu,=1", -EINVAL, "key=value"},
		{"edu,group=", -EINVAL, "0 to 65535"},
		{"edu,group=-1", -EINVAL, "0 to 65535"},
		{"edu,group=65536", -EINVAL, "0 to 65535"},
		{"edu,group=99999999999999999999", -EINVAL, "0 to 65535"},
		{"edu,driver=", -EINVAL, "driver's name"},
		{"edu,driver=../x", -EINVAL, "driver's name"},
		{"edu,driver=a123456789012345678901234567890x", -EINVAL, "at most 31"},
		{"edu,cbver=0x34", -EINVAL, "it has: group, driver, dma_mask"},
		{"edu,dma_mask=yes", -EINVAL, "dma_mask=yes: a mask like"},
		{"edu,dma_mask=0", -EINVAL, "a mask like"},
		{"edu,dma_mask=-1", -EINVAL, "a mask like"},
		{"edu,dma_mask=0x1ffffffffffffffff", -EINVAL, "a mask like"},
		{"ioat,cbver=0x35", -EINVAL, "0x32, 0x33 or 0x34"},
		{"ioat,cbver=", -EINVAL, "0x32, 0x33 or 0x34"},
	};
	struct uiommu_machine *machine = machine_new();
	size_t i;

	unlink("nvme-refused.fifo");
	assert_int_equal(mknod("nvme-refused.fifo", S_IFIFO | 0600, 0), 0);
	assert_int_equal(uiommu_machine_add(machine, "edu", NULL, 0), 0);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char why[256] = "";

		uiommu_clear_refusal();
		if (uiommu_machine_add(machine, rows[i].spec, why, sizeof(why)) != rows[i].error ||
		    (rows[i].says && !strstr(why, rows[i].says)))
			fail_msg("'%s' says: %s", rows[i].spec ? rows[i].spec : "(null)", why);
		assert_int_equal(uiommu_last_refusal()->error, rows[i].error);
		/* Without a place for the reason, and with a tiny one. */
		assert_int_equal(uiommu_machine_add(machine, rows[i].spec, NULL, 0), rows[i].error);
		memset(why, 'x', sizeof(why));
		assert_int_equal(uiommu_machine_add(machine, rows[i].spec, why, 2), rows[i].error);
		assert_int_equal(why[1], 0);
		assert_int_equal(why[2], 'x');
		assert_null(uiommu_machine_function(machine, 1));
	}
	uiommu_machine_destroy(machine);
}

static void test_full_bus(void **state)
{
	struct uiommu_machine *machine = machine_new();
	char why[256];
	int i;

	for (i = 1; i < 32; i++)
		assert_int_equal(uiommu_machine_add(machine, "edu", NULL, 0), 0);
	assert_int_equal(uiommu_machine_add(machine, "edu", why, sizeof(why)), -EEXIST);
	assert_non_null(strstr(why, "no free device number"));
	assert_int_equal(uiommu_machine_add(machine, "edu@00:00.0", why, sizeof(why)), 0);
	uiommu_machine_destroy(machine);
}

static void test_many_options(void **state)
{
	struct uiommu_machine *machine = machine_new();
	char spec[64 * 16] = "edu", why[256];
	int i;

	for (i = 0; i < 33; i++)
		strcat(spec, ",dma_mask=1");
	assert_int_equal(uiommu_machine_add(machine, spec, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "more than 32"));
	uiommu_machine_destroy(machine);
}

static void test_machine_options(void **state)
{
	struct {
		struct uiommu_machine_options known;
		uint64_t more;
	} options = {{.size = sizeof(options)}, 0};
	struct uiommu_machine *machine = NULL;
	char why[256] = "";

	assert_int_equal(uiommu_machine_create(&options.known, &machine, NULL, 0), 0);
	uiommu_machine_destroy(machine);
	options.more = 1;
	assert_int_equal(uiommu_machine_create(&options.known, &machine, why, sizeof(why)), -E2BIG);
	/* A short one, from an older header: what it lacks has its default. */
	options.known.size = offsetof(struct uiommu_machine_options, memory);
	options.known.platform = "x86-vtd,aw=39";
	options.known.iotlb_entries = 12345678;
	assert_int_equal(uiommu_machine_create(&options.known, &machine, NULL, 0), 0);
	assert_int_equal(uiommu_platform_facts(uiommu_machine_platform(machine))->width, 39);
	uiommu_machine_destroy(machine);
	options.known.size = 0;
	assert_int_equal(uiommu_machine_create(&options.known, &machine, why, sizeof(why)),
			 -EINVAL);
	options.known.size = sizeof(options.known);
	options.known.iotlb_entries = 0;
	options.known.platform = "vax";
	assert_int_equal(uiommu_machine_create(&options.known, &machine, why, sizeof(why)),
			 -ENOENT);
	assert_true(strlen(why) > 0);
	uiommu_machine_destroy(NULL);
}

static void nothing(struct uiommu_function *fn)
{
}

static void nothing_written(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			    uint64_t value)
{
}

static const struct uiommu_model good = {
	.size = sizeof(good),
	.name = "good",
	.bars = {{4096, 0}, {0x10000, UIOMMU_BAR_64}},
	.msix_vectors = 3,
	.msix_bar = 1,
	.reset = nothing,
	.bar_write = nothing_written,
};

static void test_bad_models(void **state)
{
	struct uiommu_machine *machine = machine_new();
	struct uiommu_model bad[16];
	int errors[16], n = 0, i;
	char why[256];

	assert_int_equal(uiommu_machine_add_model(machine, &good, NULL, why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add_model(machine, NULL, "x", why, sizeof(why)), -EINVAL);
	for (i = 0; i < 16; i++) {
		bad[i] = good;
		errors[i] = -EINVAL;
	}
	bad[n++].size = 8;
	errors[n] = -E2BIG;
	bad[n++].size = sizeof(good) + 8;
	bad[n++].name = NULL;
	bad[n++].reset = NULL;
	bad[n++].bar_write = NULL;
	bad[n++].class_code = 1u << 24;
	bad[n++].bars[0].size = 2048;
	bad[n++].bars[0].size = 4097;
	bad[n++].bars[0].size = UINT64_C(1) << 32;
	bad[n++].bars[0].flags = 64;
	bad[n++].bars[2].size = 4096; /* the upper half of BAR 1 */
	bad[n++].bars[5] = (struct uiommu_bar){4096, UIOMMU_BAR_64};
	bad[n++].msi_vectors = 3;
	bad[n++].msix_vectors = 4096;
	bad[n++].msix_offset = 0xf000; /* the PBA is beyond the BAR */
	bad[n++].msix_bar = 2;
	for (i = 0; i < n; i++) {
		why[0] = '\0';
		if (uiommu_machine_add_model(machine, &bad[i], NULL, why, sizeof(why)) != errors[i])
			fail_msg("row %d: %s", i, why);
		assert_true(strlen(why) > 0);
	}
	assert_null(uiommu_machine_function(machine, 1));
	uiommu_machine_destroy(machine);
}

static void test_models(void **state)
{
	struct uiommu_machine *machine = machine_new();
	const struct uiommu_model *model;
	size_t i;

	for (i = 0; (model = uiommu_model_at(i)); i++) {
		assert_true(strlen(model->summary) > 0);
		assert_int_equal(uiommu_machine_add(machine, model->name, NULL, 0), 0);
	}
	assert_int_equal(i, 4);
	uiommu_machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),	cmocka_unit_test(test_groups),
		cmocka_unit_test(test_bad_specs),	cmocka_unit_test(test_full_bus),
		cmocka_unit_test(test_many_options),	cmocka_unit_test(test_bad_models),
		cmocka_unit_test(test_machine_options), cmocka_unit_test(test_models),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
