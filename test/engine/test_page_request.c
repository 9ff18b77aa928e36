/* SPDX-License-Identifier: MIT */
/*
 * Page requests: an access waits for its page and goes on, or faults; who waits holds up nobody;
 * and every way in which the ground may be taken from under a waiting access ends the wait.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
#define RW   (UIOMMU_READ | UIOMMU_WRITE)

enum { DEVICE = 0x10, GOVERNOR = 0x18 };

static char *memory;
static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas, *inner_ioas;
static struct uiommu_domain *domain, *inner;
static struct uiommu_stage1 *stage1;
static struct uiommu_port *port;
static _Atomic unsigned faults, stage1_faults;

static void count_fault(void *ctx, const struct uiommu_fault *fault)
{
	faults++;
}

static void count_stage1(void *ctx, const struct uiommu_fault *fault)
{
	stage1_faults++;
}

/* ---- who answers ---- */

/* What a program has: a list of requests that another thread takes. */
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queued = PTHREAD_COND_INITIALIZER;
static struct uiommu_page_request queue[64];
static unsigned queue_length;

static void enqueue(void *ctx, const struct uiommu_page_request *request)
{
	pthread_mutex_lock(&queue_lock);
	/* Those that nobody waits for any more: what is lost with them, a change of handler ends.
	 */
	if (queue_length == 64)
		queue_length = 0;
	queue[queue_length++] = *request;
	pthread_cond_signal(&queued);
	pthread_mutex_unlock(&queue_lock);
}

/* The next one; how many are left goes nowhere. */
static struct uiommu_page_request take(void)
{
	struct uiommu_page_request first;

	pthread_mutex_lock(&queue_lock);
	while (!queue_length)
		pthread_cond_wait(&queued, &queue_lock);
	first = queue[0];
	memmove(queue, queue + 1, --queue_length * sizeof(queue[0]));
	pthread_mutex_unlock(&queue_lock);
	return first;
}

static int respond(uint64_t cookie, enum uiommu_page_response response)
{
	return uiommu_domain_page_respond(domain, cookie, response);
}

static void map(struct uiommu_ioas *to, uint64_t page, uint64_t addr, int prot)
{
	assert_int_equal(uiommu_ioas_map(to,
					 (struct uiommu_range){page * PAGE, page * PAGE + PAGE - 1},
					 addr, prot, NULL),
			 0);
}

static void unmap(uint64_t page)
{
	assert_int_equal(
		uiommu_ioas_unmap(ioas, (struct uiommu_range){page * PAGE, page * PAGE + PAGE - 1},
				  NULL, NULL, NULL),
		0);
}

static uint64_t page_at(uint64_t page)
{
	return (uintptr_t)memory + page * PAGE;
}

/* ---- a device in a thread of its own ---- */

struct access {
	pthread_t thread;
	struct uiommu_port *port;
	uint64_t iova;
	char buf[2 * PAGE];
	size_t len;
	bool write;
	int ret;
};

static void *access_main(void *arg)
{
	struct access *a = arg;

	a->ret = a->write ? uiommu_port_write(a->port, a->iova, a->buf, a->len)
			  : uiommu_port_read(a->port, a->iova, a->buf, a->len);
	return NULL;
}

static void begin(struct access *a, uint64_t iova, size_t len, bool write)
{
	*a = (struct access){.port = port, .iova = iova, .len = len, .write = write};
	memset(a->buf, 0x77, sizeof(a->buf));
	pthread_create(&a->thread, NULL, access_main, a);
}

static int end(struct access *a)
{
	pthread_join(a->thread, NULL);
	return a->ret;
}

/* ---- */

static void rig_up(uint32_t iotlb)
{
	const struct uiommu_unit_options uo = {
		.size = sizeof(uo), .iotlb_entries = iotlb, .fault = count_fault};
	struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_stage1_options so = {.size = sizeof(so), .fault = count_stage1};

	memory = aligned_alloc(PAGE, 16 * PAGE);
	memset(memory, 0x11, 16 * PAGE);
	faults = stage1_faults = 0;
	queue_length = 0;
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_ioas_create(&inner_ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &options, &domain), 0);
	options.parent = domain;
	assert_int_equal(uiommu_domain_create(unit, inner_ioas, &options, &inner), 0);
	so.domain = inner;
	assert_int_equal(uiommu_stage1_create(unit, &so, &stage1), 0);
	assert_int_equal(uiommu_domain_attach(domain, DEVICE, NULL, 0, "test"), 0);
	assert_int_equal(uiommu_port_create(unit, DEVICE, &port), 0);
	uiommu_port_set_master(port, true);
	uiommu_port_set_paging(port, true);
	uiommu_domain_set_page_handler(domain, enqueue, NULL);
}

static void rig_down(void)
{
	assert_int_equal(queue_length, 0);
	assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, NULL), 0);
	uiommu_stage1_destroy(stage1);
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, DEVICE);
	uiommu_domain_destroy(inner);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(inner_ioas);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
}

static void test_answered(void **state)
{
	struct uiommu_page_request request;
	struct access a;

	rig_up(0);
	map(ioas, 1, page_at(1), RW);
	/* Into two pages, the second of which comes when it is asked for. */
	begin(&a, 2 * PAGE - 100, 200, true);
	request = take();
	assert_int_equal(request.rid, DEVICE);
	assert_int_equal(request.access, UIOMMU_WRITE);
	assert_int_equal(request.iova, 2 * PAGE);
	assert_true(request.group < 512);
	/* It waits and holds up nothing: map, unmap, and others' answers. */
	map(ioas, 5, page_at(5), RW);
	unmap(5);
	assert_int_equal(respond(request.cookie + 1, UIOMMU_PAGE_SUCCESS), -ENOENT);
	assert_int_equal(uiommu_domain_page_respond(inner, request.cookie, UIOMMU_PAGE_SUCCESS),
			 -ENOENT);
	assert_int_equal(respond(request.cookie, (enum uiommu_page_response)2), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ARGUMENT);
	map(ioas, 2, page_at(2), RW);
	assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), 0);
	assert_int_equal(end(&a), 0);
	assert_int_equal(memory[2 * PAGE - 100], 0x77);
	assert_int_equal(memory[2 * PAGE + 99], 0x77);
	assert_int_equal(memory[2 * PAGE + 100], 0x11);
	assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), -ENOENT);
	/* It is there now. */
	begin(&a, 2 * PAGE, 8, false);
	assert_int_equal(end(&a), 0);
	assert_int_equal(faults, 0);
	rig_down();
}

static void test_refused(void **state)
{
	struct uiommu_page_request request, second;
	struct uiommu_fault fault;
	struct access a;

	rig_up(0);
	begin(&a, 3 * PAGE + 5, 8, false);
	request = take();
	/* Success without a page is asked about again. */
	assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), 0);
	second = take();
	assert_int_equal(second.iova, 3 * PAGE);
	assert_int_not_equal(second.cookie, request.cookie);
	assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), -ENOENT);
	assert_int_equal(respond(second.cookie, UIOMMU_PAGE_INVALID), 0);
	assert_int_equal(end(&a), -EFAULT);
	uiommu_port_last_fault(port, &fault);
	assert_int_equal(fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(fault.iova, 3 * PAGE + 5);
	assert_int_equal(faults, 1);
	/* Permission is asked for, too. */
	map(ioas, 4, page_at(4), UIOMMU_READ);
	begin(&a, 4 * PAGE, 8, true);
	request = take();
	assert_int_equal(request.access, UIOMMU_WRITE);
	unmap(4);
	map(ioas, 4, page_at(4), RW);
	assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), 0);
	assert_int_equal(end(&a), 0);
	rig_down();
}

/* What doesn't ask. */
static void test_ordinary(void **state)
{
	struct uiommu_segment segment;
	size_t count = 1;
	char buf[8];

	rig_up(0);
	/* Beyond all addresses; an interrupt; a translation inside a section. */
	assert_int_equal(uiommu_port_read(port, UINT64_C(1) << 48, buf, 8), -EFAULT);
	assert_int_equal(uiommu_port_interrupt(port, 7 * PAGE, 1), -EFAULT);
	uiommu_port_enter(port);
	assert_int_equal(uiommu_port_translate(port, 7 * PAGE, 8, UIOMMU_READ, &segment, &count),
			 -EFAULT);
	uiommu_port_leave(port);
	/* A port that may not, or is held; a domain without anybody. */
	uiommu_port_set_paging(port, false);
	assert_int_equal(uiommu_port_read(port, 7 * PAGE, buf, 8), -EFAULT);
	uiommu_port_set_paging(port, true);
	uiommu_port_hold_paging(port, true);
	uiommu_port_hold_paging(port, true);
	uiommu_port_hold_paging(port, false);
	assert_int_equal(uiommu_port_read(port, 7 * PAGE, buf, 8), -EFAULT);
	uiommu_port_hold_paging(port, false);
	uiommu_domain_set_page_handler(domain, NULL, NULL);
	assert_int_equal(uiommu_port_read(port, 7 * PAGE, buf, 8), -EFAULT);
	assert_int_equal(faults, 6);
	rig_down();
}

/* A handler that knows the answer. */
static void answer_at_once(void *ctx, const struct uiommu_page_request *request)
{
	map(ioas, request->iova / PAGE, page_at(request->iova / PAGE), RW);
	assert_int_equal(respond(request->cookie, UIOMMU_PAGE_SUCCESS), 0);
}

static void test_at_once(void **state)
{
	char buf[2 * PAGE];

	rig_up(0);
	uiommu_domain_set_page_handler(domain, answer_at_once, NULL);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(uiommu_port_read(port, i * 2 * PAGE, buf, sizeof(buf)), 0);
	assert_int_equal(faults, 0);
	rig_down();
}

/* In front of the attachment it is the stage 1's handler that is asked, whatever was missing; and
 * what is asked for is nothing that the stage 1's owner is told of as a fault. */
static void test_stage1(void **state)
{
	struct uiommu_page_request request;
	struct access a;

	rig_up(0);
	assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, stage1), 0);
	/* Nobody answers for the stage 1, and the other's handler has no say. */
	begin(&a, PAGE, 8, false);
	assert_int_equal(end(&a), -EFAULT);
	assert_int_equal(stage1_faults, 1);
	uiommu_domain_set_page_handler(inner, enqueue, NULL);
	begin(&a, PAGE, 8, false);
	request = take();
	assert_int_equal(request.iova, PAGE);
	assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), -ENOENT);
	map(inner_ioas, 1, 3 * PAGE, RW);
	assert_int_equal(uiommu_domain_page_respond(inner, request.cookie, UIOMMU_PAGE_SUCCESS), 0);
	/* Now it is the stage behind that has none. */
	request = take();
	assert_int_equal(request.iova, PAGE);
	map(ioas, 3, page_at(3), RW);
	assert_int_equal(uiommu_domain_page_respond(inner, request.cookie, UIOMMU_PAGE_SUCCESS), 0);
	assert_int_equal(end(&a), 0);
	assert_int_equal(a.buf[0], 0x11);
	assert_int_equal(stage1_faults, 1);
	/* Without a page it is a fault of the stage 1's, of which the device knows by the answer.
	 */
	begin(&a, 5 * PAGE, 8, false);
	request = take();
	assert_int_equal(uiommu_domain_page_respond(inner, request.cookie, UIOMMU_PAGE_INVALID), 0);
	assert_int_equal(end(&a), -EFAULT);
	assert_int_equal(stage1_faults, 1);
	assert_int_equal(faults, 2);
	uiommu_domain_set_page_handler(inner, NULL, NULL);
	rig_down();
}

/* ---- ends of waiting ---- */

static void by_detach(void)
{
	uiommu_domain_detach(domain, DEVICE);
}

static void by_move(void)
{
	struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_domain *other;

	assert_int_equal(uiommu_domain_create(unit, ioas, &options, &other), 0);
	assert_int_equal(uiommu_domain_attach(other, DEVICE, NULL, 0, "test"), 0);
	uiommu_domain_detach(other, DEVICE);
	uiommu_domain_destroy(other);
}

static void by_disable(void)
{
	uiommu_domain_enable(domain, false);
}

static void by_stage1(void)
{
	assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, stage1), 0);
}

static void by_handler(void)
{
	uiommu_domain_set_page_handler(domain, NULL, NULL);
}

static void by_master(void)
{
	uiommu_port_set_master(port, false);
}

static void by_paging(void)
{
	uiommu_port_set_paging(port, false);
}

static void by_hold(void)
{
	uiommu_port_hold_paging(port, true);
}

static void test_ends(void **state)
{
	static void (*const ways[])(void) = {by_detach,	 by_move,   by_disable, by_stage1,
					     by_handler, by_master, by_paging,	by_hold};
	struct uiommu_page_request request;
	struct access a;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		rig_up(0);
		begin(&a, PAGE, 8, false);
		request = take();
		ways[i]();
		assert_int_equal(respond(request.cookie, UIOMMU_PAGE_SUCCESS), -ENOENT);
		assert_int_equal(end(&a), -EFAULT);
		assert_int_equal(faults, 1);
		rig_down();
	}
}

/* ---- all at once ---- */

#define DEVICES 3

static _Atomic bool stop;
static _Atomic unsigned long done;

static void *device_main(void *arg)
{
	struct rng rng = {.state = (uintptr_t)arg};
	struct uiommu_port *mine;
	char buf[64];

	if (uiommu_port_create(unit, DEVICE, &mine))
		abort();
	uiommu_port_set_master(mine, true);
	uiommu_port_set_paging(mine, true);
	while (!stop)
		done += !uiommu_port_write(mine,
					   (1 + rng_below(&rng, 8)) * PAGE + (uintptr_t)arg * 64,
					   memset(buf, 1, 64), 64);
	uiommu_port_destroy(mine);
	return NULL;
}

/* Maps what is asked for, mostly, and takes other pages away. */
static void *pager_main(void *arg)
{
	struct rng rng = {.state = 99};

	while (!stop) {
		struct uiommu_page_request request = {0};
		uint64_t page;

		pthread_mutex_lock(&queue_lock);
		if (queue_length)
			request = queue[--queue_length];
		pthread_mutex_unlock(&queue_lock);
		if (!request.cookie) {
			sched_yield();
			continue;
		}
		page = request.iova / PAGE;
		uiommu_ioas_unmap(
			ioas, (struct uiommu_range){(1 + rng_below(&rng, 8)) * PAGE, 9 * PAGE - 1},
			NULL, NULL, NULL);
		uiommu_ioas_map(ioas, (struct uiommu_range){page * PAGE, page * PAGE + PAGE - 1},
				page_at(page), RW, NULL);
		respond(request.cookie,
			rng_below(&rng, 8) ? UIOMMU_PAGE_SUCCESS : UIOMMU_PAGE_INVALID);
	}
	return NULL;
}

static void test_storm(void **state)
{
	struct rng rng = rng_seeded("storm");
	uint64_t rounds = test_steps(1000);
	pthread_t device[DEVICES], pager;

	rig_up(8);
	stop = false;
	done = 0;
	for (uintptr_t i = 0; i < DEVICES; i++)
		pthread_create(&device[i], NULL, device_main, (void *)i);
	pthread_create(&pager, NULL, pager_main, NULL);
	for (uint64_t round = 0; round < rounds || done < 1000; round++) {
		switch (rng_below(&rng, 6)) {
		case 0:
			uiommu_domain_detach(domain, DEVICE);
			assert_int_equal(uiommu_domain_attach(domain, DEVICE, NULL, 0, "test"), 0);
			break;
		case 1:
			assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, stage1), 0);
			assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, NULL), 0);
			break;
		case 2:
			uiommu_domain_set_page_handler(domain, NULL, NULL);
			pthread_mutex_lock(&queue_lock);
			queue_length = 0;
			pthread_mutex_unlock(&queue_lock);
			uiommu_domain_set_page_handler(domain, enqueue, NULL);
			break;
		case 3:
			uiommu_domain_enable(domain, false);
			uiommu_domain_enable(domain, true);
			break;
		default:
			sched_yield();
		}
	}
	stop = true;
	pthread_join(pager, NULL);
	uiommu_domain_set_page_handler(domain, NULL, NULL);
	for (unsigned i = 0; i < DEVICES; i++)
		pthread_join(device[i], NULL);
	queue_length = 0;
	rig_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answered), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ordinary), cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_stage1),	 cmocka_unit_test(test_ends),
		cmocka_unit_test(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
