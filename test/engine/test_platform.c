/* SPDX-License-Identifier: MIT */
/* Platforms: their options and their words, and interrupts from message to handler. */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/platform.h>
#include <uiommu/space.h>

static void test_create(void **state)
{
	struct uiommu_platform *p;
	char why[256];

	assert_int_equal(uiommu_platform_create("x86-vtd", &p, why, sizeof(why)), 0);
	assert_int_equal(uiommu_platform_facts(p)->width, 48);
	assert_string_equal(uiommu_platform_facts(p)->name, "x86-vtd");
	assert_int_equal(uiommu_platform_facts(p)->region_count, 1);
	assert_int_equal(uiommu_platform_facts(p)->regions[0].range.first, 0xfee00000);
	assert_int_equal(uiommu_platform_facts(p)->regions[0].range.last, 0xfeefffff);
	uiommu_platform_destroy(p);
	assert_int_equal(uiommu_platform_create("x86-vtd,aw=39", &p, NULL, 0), 0);
	assert_int_equal(uiommu_platform_facts(p)->width, 39);
	uiommu_platform_destroy(p);
	assert_int_equal(uiommu_platform_create("x86-vtd,aw=39,aw=57", &p, NULL, 0), 0);
	assert_int_equal(uiommu_platform_facts(p)->width, 57);
	uiommu_platform_destroy(p);

	static const struct {
		const char *spec, *word;
		int error;
	} bad[] = {
		{"vax", "x86-vtd", -ENOENT},
		{"", "x86-vtd", -ENOENT},
		{"x86-vtd,aw=40", "39, 48 or 57", -EINVAL},
		{"x86-vtd,aw", "key=value", -EINVAL},
		{"x86-vtd,", "key=value", -EINVAL},
		{"x86-vtd,color=red", "aw=", -EINVAL},
		{"x86-vtdx", "x86-vtd", -ENOENT},
		{NULL, "x86-vtd", -ENOENT},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(uiommu_platform_create(bad[i].spec, &p, why, sizeof(why)),
				 bad[i].error);
		assert_non_null(strstr(why, bad[i].word));
	}
	assert_string_equal(uiommu_platform_name(0), "x86-vtd");
	assert_non_null(strstr(uiommu_platform_options("x86-vtd"), "aw="));
}

static _Atomic unsigned hits[64];

static void handler(void *ctx, unsigned vector)
{
	hits[(uintptr_t)ctx + vector]++;
}

/* Write a message as a device with this requester ID would. */
static int deliver(struct uiommu_platform *p, uiommu_rid rid, const struct uiommu_msi_message *m)
{
	const struct uiommu_doorbell_window *w = uiommu_platform_facts(p)->windows;

	assert_true(w->range.first <= m->address && m->address <= w->range.last);
	return w->write(w->ctx, rid, m->address, m->data);
}

static void test_interrupts(void **state)
{
	struct uiommu_msi_message m[32], n[32], bad;
	struct uiommu_platform *p;
	struct uiommu_irq *a, *b, *c;

	assert_int_equal(uiommu_platform_create("x86-vtd", &p, NULL, 0), 0);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 8, 3, false, handler, (void *)0, m, &a),
			 0);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 16, 8, true, handler, (void *)8, n, &b),
			 0);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 16, 3, true, handler, NULL, n, &c),
			 -EINVAL);
	uiommu_clear_refusal();
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 16, 0, false, handler, NULL, n, &c),
			 -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ARGUMENT);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 16, 1, false, NULL, NULL, n, &c),
			 -EINVAL);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(n[i].address, n[0].address);
		assert_int_equal(n[i].data, n[0].data + i);
		assert_int_equal(n[0].data % 8, 0);
		assert_int_equal(deliver(p, 16, &n[i]), 0);
		assert_int_equal(hits[8 + i], 1);
	}
	assert_int_equal(deliver(p, 8, &m[2]), 0);
	assert_int_equal(hits[2], 1);
	/* Remappable format: bit 4 of the address; SHV bit 3. */
	assert_int_equal(m[0].address & 0x10, 0x10);
	/* Another requester's, compatibility format, reserved data, a free entry: blocked. */
	assert_int_equal(deliver(p, 16, &m[2]), -EPERM);
	bad = m[2];
	bad.address &= ~UINT64_C(0x10);
	assert_int_equal(deliver(p, 8, &bad), -EPERM);
	bad = m[2];
	bad.data = 0x10000;
	assert_int_equal(deliver(p, 8, &bad), -EPERM);
	bad = n[0];
	bad.data = 0xffff;
	assert_int_equal(deliver(p, 16, &bad), -EPERM);
	uiommu_platform_irq_free(p, a);
	assert_int_equal(deliver(p, 8, &m[2]), -EPERM);
	uiommu_platform_irq_free(p, b);
	uiommu_platform_destroy(p);
}

static void test_exhaustion(void **state)
{
	static struct uiommu_msi_message m[2048];
	struct uiommu_platform *p;
	struct uiommu_irq *handle[32], *extra, *more;

	assert_int_equal(uiommu_platform_create("x86-vtd", &p, NULL, 0), 0);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(uiommu_platform_irq_alloc(p, NULL, i, 2048, false, handler, NULL,
							   m, &handle[i]),
				 0);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 1, 1, false, handler, NULL, m, &extra),
			 -ENOSPC);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_LIMIT);
	uiommu_platform_irq_free(p, handle[7]);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 1, 1, false, handler, NULL, m, &extra),
			 0);
	/* The highest handles need bit 2 of the address. */
	assert_int_equal(
		uiommu_platform_irq_alloc(p, NULL, 1, 32, true, handler, (void *)0, m, &more), 0);
	assert_int_equal(deliver(p, 1, &m[1]), 0);
	uiommu_platform_irq_free(p, extra);
	uiommu_platform_irq_free(p, more);
	handle[7] = NULL;
	for (unsigned i = 0; i < 32; i++)
		uiommu_platform_irq_free(p, handle[i]);
	uiommu_platform_destroy(p);
}

/* Plain MSI: a function replaces the low bits of the data, on every machine and with any number. */
static void test_plain_msi(void **state)
{
	static const char *const specs[] = {
		"x86-vtd",  "x86-vtd,remap=off", "x86-amd", "arm-smmuv3", "arm-smmuv3,msi=v2m",
		"fsl-pamu", "ppc-spapr",	 "riscv",   "none"};
	struct uiommu_msi_message m[64], other;
	struct uiommu_irq *before, *irq;
	struct uiommu_platform *p;

	for (size_t s = 0; s < sizeof(specs) / sizeof(specs[0]); s++) {
		assert_int_equal(uiommu_platform_create(specs[s], &p, NULL, 0), 0);
		assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 8, 1, false, handler, NULL,
							   &other, &before),
				 0);
		for (unsigned count = 1; count <= 32; count *= 2) {
			memset(hits, 0, sizeof(hits));
			assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 8, count, true, handler,
								   (void *)0, m, &irq),
					 0);
			assert_int_equal(m[0].data % count, 0);
			for (unsigned i = 0; i < count; i++) {
				m[i].address = m[0].address;
				m[i].data = m[0].data | i;
				assert_int_equal(deliver(p, 8, &m[i]), 0);
				assert_int_equal(hits[i], 1);
			}
			uiommu_platform_irq_free(p, irq);
		}
		assert_int_equal(
			uiommu_platform_irq_alloc(p, NULL, 8, 64, true, handler, NULL, m, &irq),
			-EINVAL);
		uiommu_platform_irq_free(p, before);
		uiommu_platform_destroy(p);
	}
}

/* A doorbell at address 0 is one as any other: with its last user it goes. */
static void test_doorbell_at_zero(void **state)
{
	const struct uiommu_doorbell_place place = {.range = {0x10000, 0x1ffff}, .step = 4096};
	struct uiommu_doorbell_mapping list[4];
	struct uiommu_msi_message m;
	struct uiommu_platform *p;
	struct uiommu_ioas *ioas;
	struct uiommu_irq *irq;
	size_t count = 4;

	assert_int_equal(uiommu_platform_create("fsl-pamu,doorbell=b@0", &p, NULL, 0), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_ioas_place_doorbells(ioas, &place), 0);
	assert_int_equal(uiommu_platform_irq_alloc(p, ioas, 8, 1, false, handler, NULL, &m, &irq),
			 0);
	assert_int_equal(uiommu_ioas_doorbells(ioas, list, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(list[0].addr, 0);
	uiommu_platform_irq_free(p, irq);
	count = 4;
	assert_int_equal(uiommu_ioas_doorbells(ioas, list, &count), 0);
	assert_int_equal(count, 0);
	uiommu_ioas_destroy(ioas);
	uiommu_platform_destroy(p);
}

/* Freeing waits for the handler: afterwards what it used may go. */
static _Atomic int in_handler, owner_gone;

static void slow_handler(void *ctx, unsigned vector)
{
	in_handler = 1;
	for (int i = 0; i < 1000; i++) {
		sched_yield();
		if (owner_gone)
			abort();
	}
	in_handler = 2;
}

struct delivery {
	struct uiommu_platform *platform;
	struct uiommu_msi_message message;
};

static void *deliver_thread(void *arg)
{
	struct delivery *d = arg;

	deliver(d->platform, 8, &d->message);
	return NULL;
}

static void test_free_waits(void **state)
{
	struct delivery d;
	pthread_t thread;
	struct uiommu_irq *handle;

	assert_int_equal(uiommu_platform_create("x86-vtd", &d.platform, NULL, 0), 0);
	assert_int_equal(uiommu_platform_irq_alloc(d.platform, NULL, 8, 1, false, slow_handler,
						   NULL, &d.message, &handle),
			 0);
	pthread_create(&thread, NULL, deliver_thread, &d);
	while (!in_handler)
		sched_yield();
	uiommu_platform_irq_free(d.platform, handle);
	assert_int_equal(in_handler, 2);
	owner_gone = 1;
	pthread_join(thread, NULL);
	uiommu_platform_destroy(d.platform);
}

/* A machine of the user's own: what is asked for is what the facts say. */
static void test_custom(void **state)
{
	const struct uiommu_platform_facts *facts;
	struct uiommu_msi_message m[40];
	struct uiommu_irq *irq;
	struct uiommu_platform *p;

	assert_int_equal(uiommu_platform_create("x86-amd,width=48,pgsizes=201000,"
						"aperture=0x1000-0x7fffffff,resv=direct:0-0xfff",
						&p, NULL, 0),
			 0);
	facts = uiommu_platform_facts(p);
	assert_int_equal(facts->width, 48);
	assert_int_equal(facts->page_sizes, 0x201000);
	assert_int_equal(facts->aperture.first, 0x1000);
	assert_int_equal(facts->aperture.last, 0x7fffffff);
	assert_int_equal(facts->regions[0].type, UIOMMU_RESV_DIRECT);
	assert_int_equal(facts->region_count, 3);
	uiommu_platform_destroy(p);

	/* The hole goes where the doorbell goes, and interrupts arrive there. */
	assert_int_equal(uiommu_platform_create("x86-vtd,doorbell=mine@0x10000000/8", &p, NULL, 0),
			 0);
	facts = uiommu_platform_facts(p);
	assert_int_equal(facts->region_count, 1);
	assert_int_equal(facts->regions[0].range.first, 0x10000000);
	assert_int_equal(facts->regions[0].range.last, 0x100fffff);
	assert_int_equal(facts->regions[0].type, UIOMMU_RESV_MSI);
	assert_string_equal(facts->doorbells[0].name, "mine");
	hits[40] = 0;
	assert_int_equal(
		uiommu_platform_irq_alloc(p, NULL, 8, 8, false, handler, (void *)40, m, &irq), 0);
	assert_int_equal(m[0].address & ~0xfffffull, 0x10000000);
	assert_int_equal(deliver(p, 8, &m[0]), 0);
	assert_int_equal(hits[40], 1);
	uiommu_platform_irq_free(p, irq);
	assert_int_equal(uiommu_platform_irq_alloc(p, NULL, 8, 9, false, handler, NULL, m, &irq),
			 -ENOSPC);
	uiommu_platform_destroy(p);

	/* More banks than the machine has. */
	assert_int_equal(uiommu_platform_create("fsl-pamu,doorbell=a@0x1000,doorbell=b@0x2000/4,"
						"doorbell=c@0x3000,doorbell=d@0x4000,windows=8",
						&p, NULL, 0),
			 0);
	facts = uiommu_platform_facts(p);
	assert_int_equal(facts->doorbell_count, 4);
	assert_int_equal(facts->pamu.banks, 4);
	assert_int_equal(facts->pamu.windows, 8);
	assert_int_equal(facts->doorbells[1].vectors, 4);
	assert_int_equal(facts->doorbells[3].vectors, 256);
	assert_int_equal(facts->windows[3].range.first, 0x4000);
	uiommu_platform_destroy(p);

	assert_int_equal(
		uiommu_platform_create("arm-smmuv3,msiwindow=0x20000000-0x200fffff", &p, NULL, 0),
		0);
	facts = uiommu_platform_facts(p);
	assert_int_equal(facts->region_count, 1);
	assert_int_equal(facts->regions[0].range.first, 0x20000000);
	assert_int_equal(facts->regions[0].type, UIOMMU_RESV_SW_MSI);
	uiommu_platform_destroy(p);
}

/* And what can't be is refused, with what would be right. */
static void test_custom_refused(void **state)
{
	static const struct {
		const char *spec, *words;
	} rows[] = {
		{"x86-vtd,width=40", "no width of 40 bits; they have 39 48 57"},
		{"x86-vtd,width=65", "a number from 1 to 64"},
		{"x86-vtd,width=-48", "a number from 1 to 64"},
		{"x86-vtd,pgsizes=10000", "none of the page sizes 0x10000"},
		{"x86-vtd,aperture=0x0-0x1000000000fff", "beyond the 48 bits"},
		{"x86-vtd,aperture=0x0-0x1001", "in pages of 4096 bytes"},
		{"fsl-pamu,aperture=0x0-0xffff", "programs that choose apertures"},
		{"fsl-pamu,windows=12", "a power of two"},
		{"fsl-pamu,windows=512", "a number from 1 to 256"},
		{"fsl-pamu,doorbell=a", "NAME@ADDRESS[/VECTORS]"},
		{"fsl-pamu,doorbell=@0x1000", "NAME@ADDRESS[/VECTORS]"},
		{"fsl-pamu,doorbell=a@0x1001", "from a multiple of 4096 on"},
		{"fsl-pamu,doorbell=a@0x1000/257", "a number from 1 to 256"},
		{"fsl-pamu,doorbell=a@0x1000,doorbell=b@0x1000", "'b' overlaps 'a'"},
		{"fsl-pamu,doorbell=a@0x1000,doorbell=b@0x2000,doorbell=c@0x3000,"
		 "doorbell=d@0x4000,doorbell=e@0x5000",
		 "there can be 4 doorbells"},
		{"x86-vtd,doorbell=a@0xfffffffffff01000", "there can be 4 doorbells"},
		{"x86-vtd,msiwindow=0x0-0xfff", "no window in which"},
		{"arm-smmuv3,place=program,msiwindow=0x0-0xfff", "no window in which"},
		{"ppc-spapr,window32=0x0-0x17ffffff", "a power of two of pages"},
		{"ppc-spapr,window64=0x80000000", "a number from 4294967296"},
		{"ppc-spapr,windows=3", "a number from 1 to 2"},
		{"none,resv=reserved:0x1000-0x1fff", "'resv' says how an IOMMU translates"},
		{"none,rawio=yes,p2p=0x1000-0x1fff", "'p2p' says how an IOMMU translates"},
		{"none,pgsizes=1000", "'pgsizes' says how an IOMMU translates"},
		{"none,width=48", "'width' says how an IOMMU translates"},
		{"none,aperture=0x0-0xfff", "'aperture' says how an IOMMU translates"},
		{"fsl-pamu,resv=direct:0x1000-0x1fff", "direct region 0x1000-0x1fff can't be"},
		{"ppc-spapr,resv=direct:0x1000-0x1fff,flavour=powernv",
		 "direct region 0x1000-0x1fff can't be"},
		/* What chooses a base comes first, so these are told alike. */
		{"arm-smmuv3,msiwindow=0x0-0xfff,place=program", "no window in which"},
		{"x86-vtd,width=41,aw=39", "no width of 41 bits"},
	};
	struct uiommu_platform *p;
	char why[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(uiommu_platform_create(rows[i].spec, &p, why, sizeof(why)),
				 -EINVAL);
		if (!strstr(why, rows[i].words))
			fail_msg("%s: %s", rows[i].spec, why);
	}
}

/* All that the facts say of what options change. */
static void compare(const char *spec, const struct uiommu_platform_facts *a,
		    const struct uiommu_platform_facts *b)
{
	bool same = a->width == b->width && a->page_sizes == b->page_sizes &&
		    a->aperture.first == b->aperture.first &&
		    a->aperture.last == b->aperture.last && !strcmp(a->format, b->format) &&
		    a->isolated_msi == b->isolated_msi && a->fixed_msix == b->fixed_msix &&
		    a->iommufd.nesting == b->iommufd.nesting && a->pamu.banks == b->pamu.banks &&
		    a->pamu.windows == b->pamu.windows &&
		    a->spapr.window32.last == b->spapr.window32.last &&
		    a->spapr.window64 == b->spapr.window64 &&
		    a->spapr.windows == b->spapr.windows && a->spapr.levels == b->spapr.levels &&
		    a->region_count == b->region_count && a->doorbell_count == b->doorbell_count;

	for (size_t i = 0; same && i < a->region_count; i++)
		same = a->regions[i].range.first == b->regions[i].range.first &&
		       a->regions[i].range.last == b->regions[i].range.last &&
		       a->regions[i].type == b->regions[i].type;
	for (size_t i = 0; same && i < a->doorbell_count; i++)
		same = a->doorbells[i].range.first == b->doorbells[i].range.first &&
		       a->doorbells[i].range.last == b->doorbells[i].range.last &&
		       a->doorbells[i].vectors == b->doorbells[i].vectors &&
		       !strcmp(a->doorbells[i].name, b->doorbells[i].name);
	if (!same)
		fail_msg("%s", spec);
}

/* An option that chooses a base keeps what stood before it: the order says nothing. */
static void test_any_order(void **state)
{
	static const char *const rows[][3] = {
		{"ppc-spapr", "flavour=powernv", "window32=0x0-0xfffffff"},
		{"ppc-spapr", "flavour=powernv", "window64=0x100000000"},
		{"ppc-spapr", "flavour=powernv", "windows=1"},
		{"ppc-spapr", "flavour=powernv", "resv=reserved:0x1000-0x1fff"},
		{"ppc-spapr", "flavour=powernv", "doorbell=mine@0x10000"},
		{"fsl-pamu", "banks=4", "doorbell=mine@0x10000"},
		{"fsl-pamu", "banks=4", "windows=8"},
		{"virtio", "msi=v2m", "resv=reserved:0x1000-0x1fff"},
		{"virtio", "msi=its", "doorbell=mine@0x10000/3"},
		{"virtio", "msi=v2m", "width=39"},
		{"arm-smmuv3", "msi=v2m", "doorbell=mine@0x10000"},
		{"arm-smmuv3", "stage=2", "width=40"},
		{"arm-smmuv3", "place=program", "resv=reserved:0x8000000-0x80fffff"},
		{"x86-vtd", "remap=off", "doorbell=mine@0x10000000/8"},
		{"x86-vtd", "aw=57", "width=39"},
		{"x86-vtd", "mode=first-stage", "aperture=0x1000-0xfffff"},
		{"x86-vtd", "mode=first-stage", "nesting=on"},
		{"x86-amd", "remap=off", "doorbell=mine@0x10000000/8"},
		{"riscv", "mode=sv57", "width=39"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct uiommu_platform *p, *q;
		char spec[128], other[128], why[256];

		snprintf(spec, sizeof(spec), "%s,%s,%s", rows[i][0], rows[i][1], rows[i][2]);
		snprintf(other, sizeof(other), "%s,%s,%s", rows[i][0], rows[i][2], rows[i][1]);
		if (uiommu_platform_create(spec, &p, why, sizeof(why)) ||
		    uiommu_platform_create(other, &q, why, sizeof(why)))
			fail_msg("%s: %s", spec, why);
		compare(other, uiommu_platform_facts(p), uiommu_platform_facts(q));
		uiommu_platform_destroy(p);
		uiommu_platform_destroy(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),	   cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_plain_msi),  cmocka_unit_test(test_doorbell_at_zero),
		cmocka_unit_test(test_exhaustion), cmocka_unit_test(test_free_waits),
		cmocka_unit_test(test_custom),	   cmocka_unit_test(test_custom_refused),
		cmocka_unit_test(test_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
