/* SPDX-License-Identifier: MIT */
/*
 * The flush protocol as a model for Spin: what src/space/port.c, domain.c, unit.c and batch.c do
 * between a device's access and an unmap, step by step, and every order in which the steps can come.
 *
 * Readers are ports: they enter an access section, and if the count of changes is not the one of
 * their last look they find their domain and see to the ring of invalidations; they translate by
 * IOTLB or by a walk, access memory and leave. The owner is whoever
 * holds ioas->lock: in any order it carries out the operations of two batches, each of which maps
 * and unmaps one IOVA, maps over what it takes away, and finishes, once the other has flushed or
 * not. The mover detaches the requester ID from the domain and attaches it again.
 *
 * Memory: a reader's stores, its section's number and what the device writes, go into its store
 * buffer and reach memory at any later time, first in, first out; loads come from memory.
 * membarrier(2) waits for the readers' buffers, one after the other. The owner's and the mover's
 * stores need no buffer: they are ordered among each other (release), the barrier waits for them
 * before anything is read that depends on them, and whoever comes next takes a lock.
 *
 * What is held, by assertions:
 *   access    none reaches a frame after the unmap that took it away has returned, and none another
 *             IOVA's frame;
 *   walk      no table page is used again while a walk may hold it;
 *   ends      nobody waits for ever for the lock or for a port (Spin's check for end states).
 *
 * Sizes: READERS, IOVAS (1 or 2), FLUSHES and MOVES (how many there are at most; readers go on for
 * ever), RING, PAGES (of tables), STORES (in a buffer). WHOLE: a table page goes with all that it
 * translates, untouched, and is made empty when it is used again. FENCE: without membarrier(2),
 * readers fence when they enter. Other names break the protocol at one place each, and test/model/check
 * has every one found.
 */
#ifndef READERS
#define READERS 1
#endif
#ifndef IOVAS
#define IOVAS 2
#endif
#ifndef FLUSHES
#define FLUSHES 3
#endif
#ifndef MOVES
#define MOVES 0
#endif
#ifndef RING
#define RING 1
#endif
#ifndef STORES
#define STORES 3
#endif
#ifndef PAGES
#define PAGES 2
#endif

#define NONE	     0
#define FRAMES	     (2 * IOVAS + 1) /* two for each IOVA, taking turns; 0 is none */
#define OWNER(frame) (((frame) - 1) / 2)

/* ---- memory ---- */

byte section[READERS];	/* 0: outside; else the count when it was entered */
byte changes = 1;
byte root[IOVAS];	/* the table page of each IOVA */
byte leaf[PAGES + 1];	/* the entry in each table page: a frame */
byte claim, head;	/* inval_claim, inval_head */
byte first[RING], last[RING];
bool domain = true;	/* slot->domain is the domain, not NULL */

bool gone[FRAMES];	/* the unmap has returned, or it was never mapped */
byte held[READERS];	/* the table page that a reader's walk may be in */

/* A section's number, or SECTIONS + a frame that a device writes to. */
#define SECTIONS (FLUSHES + MOVES + 4)
chan buffer[READERS] = [STORES] of {byte};

/* A plain store by a reader: it takes its time. */
inline store(what)
{
	buffer[me]!what
}

proctype store_buffer(byte me)
{
	byte what;
end:
	do
	:: d_step {
		buffer[me]?what ->
		if
		:: what < SECTIONS -> section[me] = what
		:: else -> assert(!gone[what - SECTIONS])
		fi;
		what = 0
	   }
	od
}

/* ---- a port ---- */

/* iotlb_drop() */
inline drop(from, to)
{
	i = from;
	do
	:: i <= to -> iotlb[i] = NONE; i++
	:: else -> break
	od;
	i = 0
}

/* iotlb_catch_up(), iotlb_replay() */
inline catch_up()
{
	seen_head = head;
	do
	:: inval_seen != seen_head ->
		from = first[inval_seen % RING];
		to = last[inval_seen % RING];
		atomic {
			if
#ifndef NO_OVERRUN /* a port does not notice that it is more than a whole ring behind */
			:: claim - inval_seen > RING -> drop(0, IOVAS - 1); inval_seen = seen_head
#endif
			:: else -> drop(from, to); inval_seen++
			fi;
			from = 0;
			to = 0
		}
	:: else -> break
	od;
	seen_head = 0
}

proctype reader(byte me)
{
	byte iotlb[IOVAS];
	byte iova, checked, now, inval_seen, seen_head, from, to, frame, i;
end:
	do
	:: atomic {
		true ->
		if
		:: iova = 0
#if IOVAS > 1
		:: iova = 1
#endif
		fi;
		now = changes
	   };
	   /* uiommu_port_enter() */
	   store(now);
#ifdef FENCE
#ifndef NO_FENCE /* a port translates before others can see that it has entered */
	   empty(buffer[me]);
#endif
	   checked = 0; /* inline functions, which don't fence, never find that nothing has changed */
#endif
	   /* uiommu_port_find(), translate() */
	   now = changes;
	   if
	   :: now != checked ->
		/* port_look() */
		if
		:: !domain -> goto leave
		:: else
		fi;
		catch_up();
#ifdef LATE_CHECK /* the count is read after the look */
		now = changes;
#endif
		checked = now
	   :: else
	   fi;
	   if
	   :: iotlb[iova] != NONE -> frame = iotlb[iova]
	   :: else ->
		held[me] = root[iova];
		if
		:: held[me] == NONE -> goto leave
		:: else
		fi;
		frame = leaf[held[me]];
		if
		:: frame == NONE -> goto leave
		:: else -> iotlb[iova] = frame
		fi
	   fi;
	   /* The access: what is read comes now, what is written arrives when it leaves the buffer. */
	   atomic {
		assert(OWNER(frame) == iova && !gone[frame]);
		store(SECTIONS + frame)
	   };
leave:	   /* uiommu_port_leave() */
	   atomic {
#ifdef NO_RELEASE /* the end of the section overtakes the access */
		section[me] = 0;
#else
		store(0);
#endif
		held[me] = NONE;
		now = 0;
		frame = NONE;
		iova = 0
	   }
	od
}

/* ---- waiting for ports ---- */

bool unit_lock;
bool attached = true; /* slot->attachment; unit->lock */

/* unit_wait(), unit->lock held. The barrier comes to one processor after the other. */
inline unit_wait()
{
#if defined(NO_COUNT) /* ports are not told to look */
	change = changes + 1;
#elif defined(EARLY_COUNT) /* they may have looked before there was anything to see */
	change = changes;
#else
	atomic { changes++; change = changes };
#endif
#if !defined(NO_BARRIER) && !defined(FENCE)
	empty(buffer[0]);
#if READERS > 1
	empty(buffer[1]);
#endif
#endif
#ifndef NO_WAIT
	r = 0;
	do
	:: r < READERS ->
		atomic { section[r] == 0 || section[r] >= change -> r++ }
	:: else -> break
	od;
	r = 0;
#endif
	change = 0
}

/* ---- batches ---- */

byte epoch;		     /* of the IOAS: counts its flushes */
byte pending_from, pending_to; /* the gather's range; from > to: none */
bool pending_page[PAGES + 1];
bool in_pool[PAGES + 1];

/* A batch: its IOVA's mapping, and what leaves. Two areas may: the one that was mapped, and the one
 * that the batch itself has mapped over it. */
byte page[IOVAS], frame[IOVAS];
byte leaving[IOVAS], record[IOVAS], leaving_too[IOVAS], record_too[IOVAS];

/* Write the entries, the upper one first. There is a page in the pool, and it is made empty. */
inline map(b)
{
	atomic {
		if
		:: in_pool[1] -> page[b] = 1
		:: in_pool[PAGES] -> page[b] = PAGES
		fi;
		in_pool[page[b]] = false;
#ifndef STALE_PAGE /* a page is used again as it was left */
		leaf[page[b]] = NONE;
#endif
		frame[b] = (gone[2 * b + 1] -> 2 * b + 1 : 2 * b + 2);
		assert(gone[frame[b]]);
		gone[frame[b]] = false;
		root[b] = page[b]
	};
	leaf[page[b]] = frame[b]
}

inline release_pages()
{
	d_step {
		r = 1;
		do
		:: r <= PAGES ->
			if
			:: pending_page[r] ->
				assert(held[0] != r);
#if READERS > 1
				assert(held[1] != r);
#endif
				pending_page[r] = false;
				in_pool[r] = true
			:: else
			fi;
			r++
		:: else -> break
		od;
		r = 0
	}
}

/* Clear the entries. That their page waits and their IOVA has to be forgotten is pending, for
 * whoever flushes next; the record says since when. */
inline unmap(b, area, since)
{
#ifndef WHOLE
	leaf[page[b]] = NONE;
#endif
	atomic {
		root[b] = NONE;
		area = frame[b];
		since = epoch;
		pending_page[page[b]] = true;
		if
		:: pending_from > pending_to -> pending_from = b; pending_to = b
		:: pending_from <= pending_to && b < pending_from -> pending_from = b
		:: pending_from <= pending_to && b > pending_to -> pending_to = b
		:: else
		fi;
		page[b] = NONE;
		frame[b] = NONE
	}
#ifdef EARLY_REUSE /* table pages do not wait for the flush */
	;
	release_pages()
#endif
}

/* ring_put(). As many ranges were put before as there were flushes. */
inline ring_put()
{
#ifndef LATE_CLAIM
	claim = epoch + 1;
#endif
	first[epoch % RING] = pending_from;
	last[epoch % RING] = pending_to;
#ifdef LATE_CLAIM /* a slot is written before readers of its old contents can tell */
	claim = epoch + 1;
#endif
	head = epoch + 1
}

/* domain_flush() */
inline flush()
{
#ifdef EARLY_COUNT
	changes++;
#endif
#ifndef NO_RING
	ring_put();
#endif
	atomic { !unit_lock -> unit_lock = true };
	if
	:: attached -> unit_wait()
	:: else
	fi;
	atomic {
		unit_lock = false;
		pending_from = 1;
		pending_to = 0;
		epoch++
	};
	release_pages()
}

/* uiommu_batch_finish(): when it returns, the memory is the program's again. */
inline finish(b)
{
	if
	:: record[b] == epoch -> flush()
	:: else
	fi;
	if
#ifndef ONE_RECORD /* what left after another's flush goes by the first record */
	:: leaving_too[b] != NONE && record_too[b] == epoch -> flush()
#endif
	:: else
	fi;
	d_step {
		gone[leaving[b]] = true;
		gone[leaving_too[b]] = true;
		leaving[b] = NONE;
		leaving_too[b] = NONE;
		record[b] = 0;
		record_too[b] = 0
	}
}

#define CAN_MAP(b)  (page[b] == NONE && leaving_too[b] == NONE && (in_pool[1] || in_pool[PAGES]))
#define CAN_TAKE(b) (page[b] != NONE && leaving_too[b] == NONE)

/* What a batch may do next, as options of the owner's choice. */
#define BATCH(b)                                                                     \
	:: CAN_MAP(b) -> map(b)                                                      \
	:: CAN_TAKE(b) && leaving[b] == NONE -> unmap(b, leaving[b], record[b])      \
	:: CAN_TAKE(b) && leaving[b] != NONE -> unmap(b, leaving_too[b], record_too[b]) \
	:: leaving[b] != NONE -> finish(b)

proctype owner()
{
	byte r, change;

	do
	:: epoch < FLUSHES ->
		if
		BATCH(0)
#if IOVAS > 1
		BATCH(1)
#endif
		fi
	:: else -> break
	od
}

/* ---- attaching and detaching ---- */

/* slot_switch() */
proctype mover()
{
	byte moves, r, change;

	do
	:: moves < MOVES ->
		atomic {
			!unit_lock -> unit_lock = true;
			attached = !attached
		};
		domain = attached;
#ifndef MOVE_NO_WAIT /* a later flush takes the ports for gone */
		unit_wait();
#endif
		atomic { unit_lock = false; moves++ }
	:: else -> break
	od
}

init {
	byte n;

	atomic {
		pending_from = 1;
		for (n : 1 .. PAGES) { in_pool[n] = true }
		for (n : 0 .. FRAMES - 1) { gone[n] = true }
		for (n : 0 .. READERS - 1) {
			run store_buffer(n);
			run reader(n)
		}
		n = 0;
		run owner();
#if MOVES > 0
		run mover()
#endif
	}
}
