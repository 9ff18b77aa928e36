/* SPDX-License-Identifier: MIT */
/*
 * Owns the ways out of a process that run no destructors; exit() runs the runner's own.
 */
#include <stdlib.h>

#include "run/interpose.h"
#include "run/report.h"

EXPORT void _exit(int status)
{
	report_exit();
	syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

EXPORT void _Exit(int status)
{
	_exit(status);
}

EXPORT void quick_exit(int status)
{
	report_exit();
	REAL(quick_exit)(status);
	__builtin_unreachable();
}
