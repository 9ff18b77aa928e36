/* SPDX-License-Identifier: MIT */
/*
 * A vIOMMU's event queue: bounded, and honest about what was lost.
 *
 * Where there is no room, the last word of the queue is that events were lost, until there is room
 * again; sequence numbers count the lost ones too (Linux' iommufd, eventq.c). Events come from
 * ports' sections: nobody waits there, and a want of memory is a loss like another.
 */
#include <errno.h>
#include <string.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* Linux' bound on the depth. */
#define DEPTH_MAX (1u << 19)

/* Bytes of one event at most: SMMUv3's have so many. */
#define EVENT_MAX 32

struct event {
	uint32_t sequence;
	uint32_t len;
	uint8_t data[EVENT_MAX];
};

struct events {
	struct iommufd_queue queue;
	struct iommufd_viommu *viommu;
	/* queue.lock: a ring that grows up to the depth. */
	struct event *ring;
	size_t depth, room, first, count;
	bool lost;
	uint32_t lost_sequence, sequence;
};

/* ---- adding ---- */

static bool make_room(struct events *events)
{
	size_t room = events->room ? events->room * 2 : 16;
	struct event *grown;

	if (events->count < events->room)
		return true;
	if (events->count == events->depth)
		return false;
	if (room > events->depth)
		room = events->depth;
	grown = uiommu_alloc_array(room, sizeof(*grown));
	if (!grown)
		return false;
	for (size_t i = 0; i < events->count; i++)
		grown[i] = events->ring[(events->first + i) % events->room];
	uiommu_free(events->ring, events->room * sizeof(*grown));
	events->ring = grown;
	events->room = room;
	events->first = 0;
	return true;
}

void iommufd_queue_event(struct iommufd_queue *queue, const void *data, size_t len)
{
	struct events *events = (struct events *)queue;
	struct event *event;

	pthread_mutex_lock(&queue->lock);
	events->lost = len > EVENT_MAX || !make_room(events);
	if (events->lost) {
		events->lost_sequence = events->sequence;
	} else {
		event = &events->ring[(events->first + events->count++) % events->room];
		event->sequence = events->sequence;
		event->len = (uint32_t)len;
		memcpy(event->data, data, len);
	}
	events->sequence = (events->sequence + 1) & INT32_MAX;
	iommufd_queue_tell(queue, true);
	pthread_mutex_unlock(&queue->lock);
}

/* ---- reading: one at a time ---- */

/* The next event, or the note that some were lost, as it is read: its bytes, 0 if there is none. */
static size_t peek(struct events *events, uint8_t *buf, bool *note)
{
	struct iommufd_vevent_header header = {0};
	const struct event *event;
	size_t len = 0;

	pthread_mutex_lock(&events->queue.lock);
	*note = !events->count;
	if (events->count) {
		event = &events->ring[events->first];
		header.sequence = event->sequence;
		memcpy(buf + sizeof(header), event->data, event->len);
		len = sizeof(header) + event->len;
	} else if (events->lost) {
		header.flags = IOMMU_VEVENTQ_FLAG_LOST_EVENTS;
		header.sequence = events->lost_sequence;
		len = sizeof(header);
	}
	memcpy(buf, &header, sizeof(header));
	pthread_mutex_unlock(&events->queue.lock);
	return len;
}

/* It was read. */
static void pop(struct events *events, bool note)
{
	pthread_mutex_lock(&events->queue.lock);
	if (note) {
		events->lost = false;
	} else {
		events->first = (events->first + 1) % events->room;
		events->count--;
	}
	iommufd_queue_tell(&events->queue, events->count || events->lost);
	pthread_mutex_unlock(&events->queue.lock);
}

static ssize_t read_events(struct iommufd_queue *queue, uint64_t buf, size_t count)
{
	struct events *events = (struct events *)queue;
	uint8_t event[sizeof(struct iommufd_vevent_header) + EVENT_MAX];
	size_t done = 0, len;
	bool note;
	int ret = 0;

	if (count < sizeof(struct iommufd_vevent_header))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "count: less than a header");
	while ((len = peek(events, event, &note))) {
		if (len > count - done) {
			if (!done)
				ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
						  "count: less than the event");
			break;
		}
		ret = vfio_copy_out(queue->iommufd->vfio, buf + done, event, len);
		if (ret)
			break;
		pop(events, note);
		done += len;
	}
	return done ? (ssize_t)done : ret;
}

/* ---- IOMMU_VEVENTQ_ALLOC ---- */

static void destroy_events(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct events *events = (struct events *)object;

	pthread_mutex_lock(&events->viommu->leaf);
	events->viommu->events = NULL;
	pthread_mutex_unlock(&events->viommu->leaf);
	events->viommu->obj.users--;
	uiommu_free(events->ring, events->room * sizeof(*events->ring));
	iommufd_queue_destroy(&events->queue);
}

static const struct iommufd_queue_ops ops = {.read = read_events};

static int alloc_locked(struct iommufd_call *call, struct events **out)
{
	const struct iommu_veventq_alloc *alloc = &call->veventq_alloc;
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_viommu *viommu = iommufd_find(iommufd, alloc->viommu_id, IOMMUFD_VIOMMU);
	struct events *events;

	if (!viommu)
		return iommufd_refuse_id("viommu_id: no such vIOMMU");
	if (viommu->nesting->event_type != alloc->type)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
				   "type: this vIOMMU has no such events");
	if (viommu->events)
		return vfio_refuse(UIOMMU_RULE_OVERLAP, -EEXIST, "the vIOMMU has a queue already");
	events = iommufd_queue_create(iommufd, sizeof(*events), IOMMUFD_VEVENT_QUEUE, &ops,
				      destroy_events);
	if (!events)
		return -ENOMEM;
	events->viommu = viommu;
	events->depth = alloc->veventq_depth;
	viommu->obj.users++;
	pthread_mutex_lock(&viommu->leaf);
	viommu->events = &events->queue;
	pthread_mutex_unlock(&viommu->leaf);
	*out = events;
	return 0;
}

int iommufd_veventq_alloc(struct iommufd_call *call)
{
	struct events *events = NULL;
	int ret;

	if (call->veventq_alloc.flags || call->veventq_alloc.__reserved ||
	    call->veventq_alloc.type == IOMMU_VEVENTQ_TYPE_DEFAULT)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags, type or __reserved");
	if (!call->veventq_alloc.veventq_depth || call->veventq_alloc.veventq_depth > DEPTH_MAX)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "veventq_depth: 1 to 524288");
	pthread_mutex_lock(&call->iommufd->lock);
	ret = alloc_locked(call, &events);
	pthread_mutex_unlock(&call->iommufd->lock);
	if (ret)
		return ret;
	call->made = &events->queue.obj;
	call->veventq_alloc.out_veventq_id = events->queue.obj.id;
	return iommufd_queue_respond(call, &events->queue, &call->veventq_alloc.out_veventq_fd);
}
