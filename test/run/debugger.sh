#!/bin/sh
# SPDX-License-Identifier: MIT
# A debugger that steps over stores to registers leaves a breakpoint where the instruction was.
# Usage: debugger.sh UIOMMU PROGRAM; skipped (77) without gdb.
set -u
command -v gdb >/dev/null || exit 77
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
gdb -q -batch -ex 'set breakpoint pending on' -ex 'set confirm off' \
	-ex 'handle SIGSEGV nostop noprint pass' -ex 'break store' -ex run \
	-ex next -ex next -ex next -ex next -ex 'delete' -ex continue \
	--args "$1" run -- "$2" >"$out" 2>&1
if grep -q 'cannot perform' "$out" || ! grep -q 'exited normally' "$out"; then
	cat "$out"
	exit 1
fi
