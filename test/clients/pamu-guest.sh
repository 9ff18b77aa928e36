#!/bin/sh
# SPDX-License-Identifier: MIT
# examples/pamu-guest in all four ways: the layout that it prints is the one of the discussion in
# April 2013. And what is said when a program expects another way than the machine's, and when a
# device is cut off.
# Usage: pamu-guest.sh UIOMMU PAMU-GUEST PAMU-TABLE NAMESPACE
set -u
uiommu=$1 guest=$2 table=$3 namespace=$4
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failures=0

fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
}

# run WAY PROGRAM [ARGUMENT]...: on a machine of that way.
run() {
	way=$1
	shift
	"$uiommu" run --explain --namespace "$namespace" --platform "fsl-pamu,msi=$way" --device edu \
		-- "$@" >"$scratch/out" 2>"$scratch/err"
}

says() {
	grep -q -- "$1" "$scratch/err" || fail "no '$1' in: $(cat "$scratch/err")"
}

# layout WAY MOST BEHIND...: what is in each of the four windows behind the guest's memory.
layout() {
	way=$1 most=$2
	shift 2
	run "$way" "$guest" "$way" || fail "$way: $(cat "$scratch/err")"
	cat >"$scratch/expected" <<-END
		3 MSI banks, at most $most windows
		window 0  0x00000000  guest memory
		window 1  0x04000000  guest memory
		window 2  0x08000000  guest memory
		window 3  0x0c000000  guest memory
		window 4  0x10000000  $1
		window 5  0x14000000  $2
		window 6  0x18000000  $3
		window 7  0x1c000000  $4
		0000:00:01.0: 2048 bytes from 0x5234000 to 0xe345000, two interrupts
	END
	diff "$scratch/expected" "$scratch/out" >&2 || fail "$way: another layout"
	! grep -q 'DMA fault' "$scratch/err" || fail "$way: $(cat "$scratch/err")"
}

kept='kept for MSI banks'
layout implicit 256 free free free 'MSI bank'
layout explicit 256 'MSI bank' 'MSI bank' 'MSI bank' free
layout mmap 256 'MSI bank' 'MSI bank' 'MSI bank' free
layout rounded 253 free "$kept" "$kept" "$kept"

# A program of another way.
! run explicit "$guest" implicit || fail 'explicit: not refused'
says '^uiommu: VFIO_DEVICE_SET_IRQS refused: ENODEV by rule .doorbell.: .*MSI bank 0'
says '^pamu-guest: VFIO_DEVICE_SET_IRQS'
! run implicit "$guest" explicit || fail 'implicit: not refused'
says '^uiommu: VFIO_IOMMU_PAMU_MAP_MSI_BANK refused: ENOTTY .*msi=explicit'
! run explicit "$guest" mmap || fail 'mmap: not refused'
says '^uiommu: VFIO_GROUP_GET_MSI_FD refused: ENOTTY .*msi=mmap'
! run implicit "$guest" rounded || fail 'rounded: not refused'
says '^pamu-guest: 4 windows, expected 8'
! "$uiommu" run --namespace "$namespace" --device edu -- "$guest" 2>"$scratch/err" ||
	fail 'x86: not refused'
says 'has no PAMU'

# A device that is cut off.
run explicit "$table" explicit || fail "table: $(cat "$scratch/err")"
says 'reads IOVA 0x70000: not mapped; the IOMMU cuts it off until the next MAP_DMA of its container'
says 'reads IOVA 0x6: cut off after an earlier violation'

[ "$failures" -eq 0 ]
