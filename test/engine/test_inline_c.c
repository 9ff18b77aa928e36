/* SPDX-License-Identifier: MIT */
/* The inline functions in C. */
#include "inline_calls.h"
