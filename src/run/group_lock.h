/* SPDX-License-Identifier: MIT */
/*
 * Groups that this process has, which no other may have meanwhile.
 */
#ifndef RUN_GROUP_LOCK_H
#define RUN_GROUP_LOCK_H

struct group_lock;

/* Have the group whose node is at @path, once more: -EBUSY if another process has it; -errno. */
int group_lock_take(const char *path, unsigned group, struct group_lock **out);
/* NULL is fine. */
void group_lock_drop(struct group_lock *lock);

#endif
