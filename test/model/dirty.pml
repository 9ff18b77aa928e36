/* SPDX-License-Identifier: MIT */
/*
 * The record of dirty pages as a model for Spin: what src/space/dirty.c and port.c do between a
 * device's write and who has tracking switched on and reads what was written to, in every order.
 * One page, which is mapped throughout.
 *
 * The port enters a section, and if the count of changes is not the one of its last look it sees to
 * the ring of invalidations and chooses how it walks: tracked, which sets the page's dirty bit, or
 * directly, which does not. It writes by what its IOTLB has, or by a walk. The owner has tracking
 * begin, reads, and has it end, at any time.
 *
 * How a section's number comes to memory is the business of flush.pml: here it is there at once.
 *
 * What is held, by an assertion: no write while tracking is on finds the dirty bit clear, unless a
 * read that has told of the page is still under way.
 *
 * Sizes: READS and STARTS, how many there are at most. Other names break it at one place each.
 */
#ifndef READS
#define READS 2
#endif
#ifndef STARTS
#define STARTS 2
#endif

byte section;	     /* 0: outside; else the count when it was entered */
byte changes = 1;
byte head;	     /* of the ring, all of whose ranges are this page */
bool tracking;
bool dirty;	     /* the page's dirty bit */

bool on;	     /* tracking has begun: uiommu_domain_dirty_track() has returned */
bool told;	     /* a read is under way, and has told of the page */

/* ---- a port ---- */

/* iotlb_catch_up() */
inline catch_up()
{
	now_head = head;
	if
	:: now_head != seen -> writable = false; seen = now_head
	:: else
	fi;
	now_head = 0
}

proctype port()
{
	byte number, checked, now, seen, now_head;
	bool writable; /* the IOTLB has the page as writable */
	bool direct;
end:
	do
	:: number = changes;
	   section = number;
	   do
	   :: now = changes;
	      if
	      :: now != checked ->
		/* port_look() */
#ifdef EARLY_CHOICE /* the way to walk is chosen before the ring is seen to */
		direct = !tracking;
		catch_up();
#else
		catch_up();
		direct = !tracking;
#endif
		checked = now
	      :: else
	      fi;
	      if
	      :: writable
	      :: else ->
		/* walk_for_port(), or domain_walk() and domain_walk_tracked() */
		if
		:: direct
		:: !direct && tracking -> dirty = true
		:: !direct && !tracking
		fi;
		writable = true
	      fi;
	      /* The write. */
	      assert(!on || dirty || told)
	   :: break
	   od;
	   section = 0
	od
}

/* ---- who reads ---- */

/* domain_flush() */
inline flush()
{
#ifndef NO_RING
	head++;
#endif
#ifndef NO_COUNT
	changes++;
#endif
#ifndef NO_WAIT
	(section == 0 || section >= changes)
#endif
}

proctype owner()
{
	byte reads, starts;

	do
	:: !tracking && starts < STARTS ->
		starts++;
		/* begin() */
		tracking = true;
		dirty = false;
		flush();
		on = true
	:: on && reads < READS ->
		/* uiommu_domain_dirty_read() */
		reads++;
		if
		:: atomic { dirty -> dirty = false; told = true };
		   flush();
		   told = false
		:: else
		fi
	:: on ->
		on = false;
		tracking = false
	:: !tracking && starts == STARTS -> break
	od
}

init {
	atomic {
		run port();
		run owner()
	}
}
