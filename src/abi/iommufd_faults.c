/* SPDX-License-Identifier: MIT */
/*
 * A queue of page requests: what devices wait for is read from it, and the answers are written to
 * it.
 *
 * Invariants: a request is on one of two lists, to be read, or read and to be answered by its
 * cookie. It stands for an access that waits inside the engine, and goes with the attachment that
 * it came through, as that wait does; an answer that comes later finds nothing. What can't be
 * noted, for want of memory or because nobody knows the device, is answered at once.
 *
 * The engine calls on_request() with no lock held, but whoever detaches waits for that call: so it
 * takes the queue's lock only, a leaf, under which the attached devices are listed too.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* A page request group is one request here, so the last of its group. */
struct request {
	struct request *next;
	struct iommufd_hwpt *hwpt;
	uiommu_rid rid;
	uint32_t pasid;
	bool waits; /* an access does, inside the engine, under this cookie */
	uint64_t engine_cookie;
	struct iommu_hwpt_pgfault fault; /* cookie: 0 until it is read */
};

/* A device whose requests come here. */
struct source {
	struct source *next;
	struct iommufd_hwpt *hwpt;
	uiommu_rid rid;
	uint32_t pasid, id;
};

struct faults {
	struct iommufd_queue queue;
	/* queue.lock */
	struct request *unread, **last; /* in their order */
	struct request *read;
	struct source *sources;
	uint32_t last_cookie;
};

static struct faults *faults_of(struct iommufd_queue *queue)
{
	return (struct faults *)queue;
}

static struct uiommu_domain *asking(const struct iommufd_hwpt *hwpt)
{
	return hwpt->guest ? hwpt->guest : hwpt->domain;
}

static void tell(struct faults *faults)
{
	iommufd_queue_tell(&faults->queue, faults->unread);
}

/* ---- requests come ---- */

static const struct source *find_source(const struct faults *faults,
					const struct iommufd_hwpt *hwpt, uiommu_rid rid,
					uint32_t pasid)
{
	const struct source *source = faults->sources;

	while (source && (source->hwpt != hwpt || source->rid != rid || source->pasid != pasid))
		source = source->next;
	return source;
}

static void append(struct faults *faults, struct request *request)
{
	*faults->last = request;
	faults->last = &request->next;
	tell(faults);
}

static bool note(struct faults *faults, struct iommufd_hwpt *hwpt,
		 const struct uiommu_page_request *asked)
{
	const struct source *source = find_source(faults, hwpt, asked->rid, asked->pasid);
	struct request *request = source ? uiommu_alloc(sizeof(*request)) : NULL;

	if (!request)
		return false;
	*request = (struct request){
		.hwpt = hwpt,
		.rid = asked->rid,
		.pasid = asked->pasid,
		.waits = true,
		.engine_cookie = asked->cookie,
		.fault =
			{
				.flags = IOMMU_PGFAULT_FLAGS_LAST_PAGE |
					 (asked->pasid ? IOMMU_PGFAULT_FLAGS_PASID_VALID : 0),
				.dev_id = source->id,
				.pasid = asked->pasid,
				.grpid = asked->group,
				.perm = asked->access == UIOMMU_READ ? IOMMU_PGFAULT_PERM_READ
								     : IOMMU_PGFAULT_PERM_WRITE,
				.addr = asked->iova,
			},
	};
	append(faults, request);
	return true;
}

static void on_request(void *ctx, const struct uiommu_page_request *asked)
{
	struct iommufd_hwpt *hwpt = ctx;
	struct faults *faults = faults_of(hwpt->faults);
	bool noted;

	pthread_mutex_lock(&faults->queue.lock);
	noted = note(faults, hwpt, asked);
	pthread_mutex_unlock(&faults->queue.lock);
	if (!noted)
		uiommu_domain_page_respond(asking(hwpt), asked->cookie, UIOMMU_PAGE_INVALID);
}

int iommufd_faults_report(struct iommufd_hwpt *hwpt, const struct iommufd_device *device,
			  uint32_t pasid, const struct iommu_hwpt_pgfault *fault)
{
	struct faults *faults = faults_of(hwpt->faults);
	struct request *request = uiommu_alloc(sizeof(*request));

	if (!request)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	*request =
		(struct request){.hwpt = hwpt, .rid = device->rid, .pasid = pasid, .fault = *fault};
	pthread_mutex_lock(&faults->queue.lock);
	append(faults, request);
	pthread_mutex_unlock(&faults->queue.lock);
	return 0;
}

/* Tell the access that waits, if one does. */
static void respond(const struct request *request, enum uiommu_page_response outcome)
{
	if (request->waits)
		uiommu_domain_page_respond(asking(request->hwpt), request->engine_cookie, outcome);
}

/* ---- reading ---- */

/* 0 is none. */
static uint32_t next_cookie(struct faults *faults)
{
	if (!++faults->last_cookie)
		faults->last_cookie = 1;
	return faults->last_cookie;
}

/* The next one as it is read: with the cookie that it will have. */
static bool peek(struct faults *faults, struct iommu_hwpt_pgfault *fault)
{
	bool found;

	pthread_mutex_lock(&faults->queue.lock);
	found = faults->unread;
	if (found) {
		if (!faults->unread->fault.cookie)
			faults->unread->fault.cookie = next_cookie(faults);
		*fault = faults->unread->fault;
	}
	pthread_mutex_unlock(&faults->queue.lock);
	return found;
}

/* It was read, unless its device has gone meanwhile. */
static void pop(struct faults *faults, uint32_t cookie)
{
	struct request *request;

	pthread_mutex_lock(&faults->queue.lock);
	request = faults->unread;
	if (request && request->fault.cookie == cookie) {
		faults->unread = request->next;
		if (!faults->unread)
			faults->last = &faults->unread;
		request->next = faults->read;
		faults->read = request;
		tell(faults);
	}
	pthread_mutex_unlock(&faults->queue.lock);
}

static ssize_t read_faults(struct iommufd_queue *queue, uint64_t buf, size_t count)
{
	struct faults *faults = faults_of(queue);
	struct iommu_hwpt_pgfault fault;
	size_t done = 0;
	int ret = 0;

	if (count % sizeof(fault))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -ESPIPE,
				   "not a whole number of struct iommu_hwpt_pgfault");
	while (peek(faults, &fault)) {
		if (done == count) {
			if (!done)
				ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
						  "count: 0, and a request is there");
			break;
		}
		ret = vfio_copy_out(queue->iommufd->vfio, buf + done, &fault, sizeof(fault));
		if (ret)
			break;
		pop(faults, fault.cookie);
		done += sizeof(fault);
	}
	return done ? (ssize_t)done : ret;
}

/* ---- answering ---- */

static int answer(struct faults *faults, const struct iommu_hwpt_page_response *response)
{
	struct request **link = &faults->read, *request;

	if (response->code != IOMMUFD_PAGE_RESP_SUCCESS &&
	    response->code != IOMMUFD_PAGE_RESP_INVALID)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "code: neither SUCCESS nor INVALID");
	pthread_mutex_lock(&faults->queue.lock);
	while (*link && (*link)->fault.cookie != response->cookie)
		link = &(*link)->next;
	request = *link;
	if (request) {
		*link = request->next;
		/* Under the lock, for the HWPT goes once the request is forgotten. */
		respond(request, response->code == IOMMUFD_PAGE_RESP_SUCCESS ? UIOMMU_PAGE_SUCCESS
									     : UIOMMU_PAGE_INVALID);
	}
	pthread_mutex_unlock(&faults->queue.lock);
	if (!request)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "cookie: no request that was read waits by that name");
	uiommu_free(request, sizeof(*request));
	return 0;
}

static ssize_t write_responses(struct iommufd_queue *queue, uint64_t buf, size_t count)
{
	struct iommu_hwpt_page_response response;
	size_t done = 0;
	int ret = 0;

	if (count % sizeof(response))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -ESPIPE,
				   "not a whole number of struct iommu_hwpt_page_response");
	while (!ret && done < count) {
		ret = vfio_copy_in(queue->iommufd->vfio, &response, buf + done, sizeof(response));
		if (!ret)
			ret = answer(faults_of(queue), &response);
		if (!ret)
			done += sizeof(response);
	}
	return done ? (ssize_t)done : ret;
}

/* ---- who asks ---- */

int iommufd_faults_attach(struct iommufd_hwpt *hwpt, const struct iommufd_device *device,
			  uint32_t pasid)
{
	struct faults *faults = faults_of(hwpt->faults);
	struct source *source;

	if (!device->page_requests)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENODEV,
				   "the device can't wait for pages");
	source = uiommu_alloc(sizeof(*source));
	if (!source)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	source->hwpt = hwpt;
	source->rid = device->rid;
	source->pasid = pasid;
	source->id = device->obj.id;
	pthread_mutex_lock(&faults->queue.lock);
	source->next = faults->sources;
	faults->sources = source;
	pthread_mutex_unlock(&faults->queue.lock);
	return 0;
}

static void forget_requests(struct request **link, const struct source *source)
{
	struct request *request;

	while ((request = *link)) {
		if (request->hwpt != source->hwpt || request->rid != source->rid ||
		    request->pasid != source->pasid) {
			link = &request->next;
			continue;
		}
		*link = request->next;
		respond(request, UIOMMU_PAGE_INVALID);
		uiommu_free(request, sizeof(*request));
	}
}

void iommufd_faults_detach(struct iommufd_hwpt *hwpt, const struct iommufd_device *device,
			   uint32_t pasid)
{
	struct faults *faults = faults_of(hwpt->faults);
	struct source **link, *source;

	pthread_mutex_lock(&faults->queue.lock);
	for (link = &faults->sources;
	     (*link)->hwpt != hwpt || (*link)->rid != device->rid || (*link)->pasid != pasid;)
		link = &(*link)->next;
	source = *link;
	*link = source->next;
	forget_requests(&faults->unread, source);
	forget_requests(&faults->read, source);
	for (faults->last = &faults->unread; *faults->last;)
		faults->last = &(*faults->last)->next;
	tell(faults);
	pthread_mutex_unlock(&faults->queue.lock);
	uiommu_free(source, sizeof(*source));
}

void iommufd_faults_use(struct iommufd_hwpt *hwpt, struct iommufd_queue *queue)
{
	hwpt->faults = queue;
	queue->obj.users++;
	if (asking(hwpt))
		uiommu_domain_set_page_handler(asking(hwpt), on_request, hwpt);
}

void iommufd_faults_unuse(struct iommufd_hwpt *hwpt)
{
	if (asking(hwpt))
		uiommu_domain_set_page_handler(asking(hwpt), NULL, NULL);
	hwpt->faults->obj.users--;
}

/* ---- IOMMU_FAULT_QUEUE_ALLOC ---- */

static void destroy_faults(struct iommufd *iommufd, struct iommufd_object *object)
{
	/* Every HWPT that used it is gone, and with them all requests. */
	iommufd_queue_destroy((struct iommufd_queue *)object);
}

static const struct iommufd_queue_ops ops = {.read = read_faults, .write = write_responses};

int iommufd_fault_alloc(struct iommufd_call *call)
{
	struct faults *faults;

	if (call->fault_alloc.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: must be 0");
	pthread_mutex_lock(&call->iommufd->lock);
	faults = iommufd_queue_create(call->iommufd, sizeof(*faults), IOMMUFD_FAULT_QUEUE, &ops,
				      destroy_faults);
	if (faults)
		faults->last = &faults->unread;
	pthread_mutex_unlock(&call->iommufd->lock);
	if (!faults)
		return -ENOMEM;
	call->made = &faults->queue.obj;
	call->fault_alloc.out_fault_id = faults->queue.obj.id;
	return iommufd_queue_respond(call, &faults->queue, &call->fault_alloc.out_fault_fd);
}
