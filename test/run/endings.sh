#!/bin/sh
# SPDX-License-Identifier: MIT
# Programs that end otherwise than by returning from main(): they do end, with the status that they
# would have had, and the statistics are written.
# Usage: endings.sh UIOMMU ENDINGS NAMESPACE
set -u
uiommu=$1 endings=$2 namespace=$3
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failures=0

fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
}

# ends STATUS HOW [OPTION]: within the time, with that status.
ends() {
	wanted=$1 how=$2
	shift 2
	(
		ulimit -c 0
		timeout --preserve-status -s KILL 20 sh -c '"$@"; exit $?' sh "$uiommu" run \
			--namespace "$namespace" "$@" "$endings" "$how"
	) >"$scratch/out" 2>&1
	got=$?
	[ "$got" = "$wanted" ] || fail "$how: status $got, not $wanted: $(cat "$scratch/out")"
}

says() {
	[ "$(grep -c -- "$1" "$scratch/out")" = 1 ] || fail "$how: not one '$1' in: $(cat "$scratch/out")"
}

# The main thread goes alone; the machine's threads don't keep the process.
ends 0 main
ends 0 main --stats
says 'process .* on '
ends 0 thread
says 'last thread'
ends 0 late
says 'last thread'

# A signal ends the program: 1 HUP (after a handler of its own), 2 INT, 3 QUIT, 15 TERM.
for signal in 1 2 3 15; do
	ends $((128 + signal)) "$signal" --stats
	says 'process .* on '
	says 'at its fullest'
	[ "$signal" != 1 ] || says '^handler$'
	ends $((128 + signal)) "$signal"
done
for how in abort:134 segv:139; do
	ends "${how#*:}" "${how%:*}" --stats
	says 'process .* on '
	says 'at its fullest'
done
[ "$failures" = 0 ]
