#!/bin/sh
# SPDX-License-Identifier: MIT
# Interposition is kept apart: no part of the runner or of the engine calls a name that the runner
# defines in libc's place, unless the linker sends that call to the system (--wrap).
# Usage: layers.sh LIBRARY WRAPPED... -- OBJECT-OR-ARCHIVE...
set -u
library=$1
shift
wrapped=
while [ "$1" != -- ]; do
	wrapped="$wrapped $1"
	shift
done
shift

nm -D --defined-only "$library" | awk '$2 ~ /[TW]/ { print $3 }' | sort >"${TMPDIR:-/tmp}/defined.$$"
trap 'rm -f "${TMPDIR:-/tmp}"/*.$$' EXIT
[ -s "${TMPDIR:-/tmp}/defined.$$" ] || exit 1
for object; do
	nm -u "$object" 2>/dev/null
done | awk '$1 == "U" { print $2 }' | sort -u >"${TMPDIR:-/tmp}/used.$$"
[ -s "${TMPDIR:-/tmp}/used.$$" ] || exit 1
bad=$(comm -12 "${TMPDIR:-/tmp}/defined.$$" "${TMPDIR:-/tmp}/used.$$")
for name in $bad; do
	case " $wrapped " in
	*" $name "*) ;;
	*)
		echo "$name is called from inside"
		exit 1
		;;
	esac
done
# Nothing of the engine's own is visible to programs.
! grep '^uiommu_' "${TMPDIR:-/tmp}/defined.$$"
