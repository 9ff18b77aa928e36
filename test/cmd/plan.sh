#!/bin/sh
# SPDX-License-Identifier: MIT
# uiommu plan: the layouts that people asked for when these interfaces were discussed, as printed.
# Usage: plan.sh UIOMMU PLATFORMS
set -u
uiommu=$(realpath "$1") platforms=$2
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failures=0

fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
}

# planned STATUS ARGUMENT...: run it; what it prints, but for the words of refusals and the picture,
# is standard input.
planned() {
	wanted=$1
	shift
	"$uiommu" plan "$@" >"$scratch/out" 2>"$scratch/err"
	got=$?
	[ "$got" = "$wanted" ] || fail "plan $*: status $got, not $wanted: $(cat "$scratch/err")"
	sed -e '/ refused: /d' -e '/^ *first  *last/,$d' "$scratch/out" >"$scratch/layout"
	cat >"$scratch/wanted"
	diff "$scratch/wanted" "$scratch/layout" >&2 || fail "plan $*"
}

# says WORDS: in what the last one printed.
says() {
	grep -qF -- "$1" "$scratch/out" || fail "no '$1' in: $(cat "$scratch/out")"
}

refuses() {
	wanted=$1
	shift
	"$uiommu" plan "$@" >"$scratch/out" 2>&1
	got=$?
	[ "$got" = 2 ] || fail "plan $*: status $got, not 2"
	says "$wanted"
}

# ---- PAMU, April 2013: a guest of 256 MiB and three banks --------------------------------------

planned 0 fsl-pamu --ram 256M --msi 3 <<-END
	fsl-pamu: possible
	  aperture  512M     0x0-0x1fffffff, 8 windows of 64M
	  RAM       256M     0x0-0xfffffff, windows 0-3
	  doorbell  MSI bank 0 (0xffe044000) at 0x1c000000, window 7
	  doorbell  MSI bank 1 (0xffe045000) at 0x18000000, window 6
	  doorbell  MSI bank 2 (0xffe046000) at 0x14000000, window 5
	  MSI       3 vectors, the first by writing 0x0 to 0x1c000140
END
for way in explicit mmap; do
	planned 0 "fsl-pamu,msi=$way" --ram 256M --msi 3 <<-END
		fsl-pamu: possible
		  aperture  512M     0x0-0x1fffffff, 8 windows of 64M
		  RAM       256M     0x0-0xfffffff, windows 0-3
		  doorbell  MSI bank 0 (0xffe044000) at 0x10000000, window 4
		  doorbell  MSI bank 1 (0xffe045000) at 0x14000000, window 5
		  doorbell  MSI bank 2 (0xffe046000) at 0x18000000, window 6
		  MSI       3 vectors, the first by writing 0x0 to 0x10000140
	END
done
planned 0 fsl-pamu,msi=rounded --ram 256M --msi 3 <<-END
	fsl-pamu: possible
	  aperture  512M     0x0-0x1fffffff, 8 windows of 64M; the program asks for 4
	  RAM       256M     0x0-0xfffffff, windows 0-3
	  doorbell  MSI bank 0 (0xffe044000) at 0x1c000000, window 7
	  doorbell  MSI bank 1 (0xffe045000) at 0x18000000, window 6
	  doorbell  MSI bank 2 (0xffe046000) at 0x14000000, window 5
	  MSI       3 vectors, the first by writing 0x0 to 0x1c000140
END

# More interrupts than the banks have: it is they that are short, not the aperture.
planned 1 fsl-pamu --ram 256M --msi 769 <<-END
	fsl-pamu: not possible as asked
	nearest that can: with fewer interrupts
	  aperture  512M     0x0-0x1fffffff, 8 windows of 64M
	  RAM       256M     0x0-0xfffffff, windows 0-3
	  doorbell  MSI bank 0 (0xffe044000) at 0x1c000000, window 7
	  doorbell  MSI bank 1 (0xffe045000) at 0x18000000, window 6
	  doorbell  MSI bank 2 (0xffe046000) at 0x14000000, window 5
	  MSI       768 vectors, the first by writing 0x0 to 0x1c000140
END
says "(interrupt vectors)"

# A doorbell takes a whole page of the table's, however large.
planned 0 arm-smmuv3,pgsizes=20010000,msi=v2m,doorbell=x@0x8021000 --ram 16M@0x40000000 --msi 1 <<-END
	arm-smmuv3: possible
	  RAM       16M      0x40000000-0x40ffffff
	  doorbell  x (0x8021000) at 0x8001000
	  MSI       1 vector, the first by writing 0x50 to 0x8001040
	  note      a device can raise another's interrupts here: programs need --allow-unsafe-interrupts
END
planned 0 x86-vtd,pgsizes=200000,resv=direct:0x101000-0x102fff --ram 16M@0x40000000 <<-END
	x86-vtd: possible
	  RAM       16M      0x40000000-0x40ffffff
END

# Without interrupts one window is enough; with one, two, three or four banks there are more.
planned 0 fsl-pamu --ram 256M <<-END
	fsl-pamu: possible
	  aperture  256M     0x0-0xfffffff, 1 window of 256M
	  RAM       256M     0x0-0xfffffff, window 0
END
for way in implicit explicit mmap; do
	for banks in 1:2:256M 2:4:128M 3:8:64M 4:8:64M 5:8:64M; do
		vectors=${banks%%:*} size=${banks##*:} windows=${banks#*:}
		"$uiommu" plan "fsl-pamu,banks=4,msi=$way" --ram 256M --msi "$vectors" \
			>"$scratch/out"
		says "512M     0x0-0x1fffffff, ${windows%:*} windows of $size"
		[ "$(grep -c '^  doorbell' "$scratch/out")" = "$((vectors < 4 ? vectors : 4))" ] ||
			fail "banks for $vectors interrupts, $way: $(cat "$scratch/out")"
	done
done
# This way there are windows for all banks, whatever is used.
planned 0 fsl-pamu,msi=rounded,banks=4 --ram 256M --msi 1 <<-END
	fsl-pamu: possible
	  aperture  512M     0x0-0x1fffffff, 8 windows of 64M; the program asks for 4
	  RAM       256M     0x0-0xfffffff, windows 0-3
	  doorbell  MSI bank 0 (0xffe044000) at 0x1c000000, window 7
	  MSI       1 vector, the first by writing 0x0 to 0x1c000148
END

# RAM that is no power of two.
planned 0 fsl-pamu --ram 768M --msi 3 <<-END
	fsl-pamu: possible
	  aperture  1G       0x0-0x3fffffff, 16 windows of 64M
	  RAM       768M     0x0-0x2fffffff, windows 0-11
	  doorbell  MSI bank 0 (0xffe044000) at 0x3c000000, window 15
	  doorbell  MSI bank 1 (0xffe045000) at 0x38000000, window 14
	  doorbell  MSI bank 2 (0xffe046000) at 0x34000000, window 13
	  MSI       3 vectors, the first by writing 0x0 to 0x3c000140
END
planned 0 fsl-pamu,msi=explicit --ram 100M --msi 3 <<-END
	fsl-pamu: possible
	  aperture  128M     0x0-0x7ffffff, 32 windows of 4M
	  RAM       100M     0x0-0x63fffff, windows 0-24
	  doorbell  MSI bank 0 (0xffe044000) at 0x6400000, window 25
	  doorbell  MSI bank 1 (0xffe045000) at 0x6800000, window 26
	  doorbell  MSI bank 2 (0xffe046000) at 0x6c00000, window 27
	  MSI       3 vectors, the first by writing 0x0 to 0x6400140
END
# Two pieces, the second where it is said; banks below it.
planned 0 fsl-pamu --ram 64M --ram 64M@192M --msi 2 <<-END
	fsl-pamu: possible
	  aperture  256M     0x0-0xfffffff, 4 windows of 64M
	  RAM       64M      0x0-0x3ffffff, window 0
	  RAM       64M      0xc000000-0xfffffff, window 3
	  doorbell  MSI bank 0 (0xffe044000) at 0x8000000, window 2
	  doorbell  MSI bank 1 (0xffe045000) at 0x4000000, window 1
	  MSI       2 vectors, the first by writing 0x0 to 0x8000140
END

# Too many windows: RAM would have to be larger.
planned 1 fsl-pamu --ram 257M --msi 3 <<-END
	fsl-pamu: not possible as asked
	nearest that can: with RAM rounded up to larger windows
	  aperture  512M     0x0-0x1fffffff, 256 windows of 2M
	  RAM       258M     0x0-0x101fffff, windows 0-128
	  doorbell  MSI bank 0 (0xffe044000) at 0x1fe00000, window 255
	  doorbell  MSI bank 1 (0xffe045000) at 0x1fc00000, window 254
	  doorbell  MSI bank 2 (0xffe046000) at 0x1fa00000, window 253
	  MSI       3 vectors, the first by writing 0x0 to 0x1fe00140
END
says 'at most 256'
# Rounded up, RAM's and ours are never above 256.
"$uiommu" plan fsl-pamu,msi=rounded --ram 1012M --msi 3 >"$scratch/out"
says '256 windows of 4M; the program asks for 253'
"$uiommu" plan fsl-pamu,msi=rounded --ram 1016M --msi 3 >"$scratch/out"
says '2G       0x0-0x7fffffff, 256 windows of 8M; the program asks for 127'

# An aperture that leaves the banks no room, too few windows, and what would do.
planned 1 fsl-pamu --ram 256M --msi 3 --aperture 256M --windows 4 <<-END
	fsl-pamu: not possible as asked
	nearest that can: with another aperture
	  aperture  512M     0x0-0x1fffffff, 8 windows of 64M
	  RAM       256M     0x0-0xfffffff, windows 0-3
	  doorbell  MSI bank 0 (0xffe044000) at 0x1c000000, window 7
	  doorbell  MSI bank 1 (0xffe045000) at 0x18000000, window 6
	  doorbell  MSI bank 2 (0xffe046000) at 0x14000000, window 5
	  MSI       3 vectors, the first by writing 0x0 to 0x1c000140
END
says "ENOSPC by rule 'doorbell'"
"$uiommu" plan fsl-pamu --ram 256M --msi 3 --aperture 512M --windows 4 >"$scratch/out" &&
	fail 'three banks in two windows'
says 'nearest that can: with another number of windows'
says '8 windows of 64M'
"$uiommu" plan fsl-pamu --ram 64G --msi 3 >"$scratch/out" && fail 'RAM in all windows, and banks'
says 'nearest that can: with less RAM'
says '  RAM       64768M   0x0-0xfcfffffff, windows 0-252'

# ---- Arm: doorbells at 128 MiB ------------------------------------------------------------------

planned 1 arm-smmuv3 --ram 256M@0 --msi 1 <<-END
	arm-smmuv3: not possible as asked
	  in the way 0x8000000-0x80fffff, the window in which the system places MSI doorbells
	nearest that can: moved away from what is in the way
	  RAM       256M     0x40000000-0x4fffffff
	  around    0x8000000-0x80fffff, the window in which the system places MSI doorbells
	  doorbell  GICv3 ITS (0x8090000) at 0x8000000
	  MSI       1 vector, the first by writing 0x0 to 0x8000040
	or: split around what is in the way
	  RAM       128M     0x0-0x7ffffff
	  RAM       128M     0x40000000-0x47ffffff
	  around    0x8000000-0x80fffff, the window in which the system places MSI doorbells
	  doorbell  GICv3 ITS (0x8090000) at 0x8000000
	  MSI       1 vector, the first by writing 0x0 to 0x8000040
	or: each byte where it was asked for, without what is in the way
	  RAM       128M     0x0-0x7ffffff
	  RAM       127M     0x8100000-0xfffffff
	  around    0x8000000-0x80fffff, the window in which the system places MSI doorbells
	  doorbell  GICv3 ITS (0x8090000) at 0x8000000
	  MSI       1 vector, the first by writing 0x0 to 0x8000040
END
says "VFIO_IOMMU_MAP_DMA refused: EINVAL by rule 'reserved'"
for platform in arm-smmuv3 arm-smmuv3,stage=2; do
	planned 0 "$platform" --ram 4G@1G --msi 8 <<-END
		arm-smmuv3: possible
		  RAM       4G       0x40000000-0x13fffffff
		  doorbell  GICv3 ITS (0x8090000) at 0x8000000
		  MSI       8 vectors, the first by writing 0x0 to 0x8000040
	END
done
# Without a place RAM goes where QEMU's machine has it, and that is no refusal.
"$uiommu" plan arm-smmuv3 --ram 256M >"$scratch/out" || fail 'RAM that can go anywhere'
says 'instead: moved away from what is in the way'
planned 0 arm-smmuv3,msi=v2m,stage=2 --ram 1G@1G --msi 64 <<-END
	arm-smmuv3: possible
	  RAM       1G       0x40000000-0x7fffffff
	  doorbell  GICv2m frame (0x8020000) at 0x8000000
	  MSI       64 vectors, the first by writing 0x50 to 0x8000040
	  note      a device can raise another's interrupts here: programs need --allow-unsafe-interrupts
END
planned 1 arm-smmuv3,msi=v2m --ram 1G@1G --msi 65 <<-END
	arm-smmuv3: not possible as asked
	nearest that can: with fewer interrupts
	  RAM       1G       0x40000000-0x7fffffff
	  doorbell  GICv2m frame (0x8020000) at 0x8000000
	  MSI       64 vectors, the first by writing 0x50 to 0x8000040
	  note      a device can raise another's interrupts here: programs need --allow-unsafe-interrupts
END
# Stage 2 translates 44 bits.
"$uiommu" plan arm-smmuv3,stage=2 --ram 1G@16T >"$scratch/out" && fail '45 bits at stage 2'
says "rule 'aperture'"
says '  RAM       1G       0xfffc0000000-0xfffffffffff'

# As in 2016, the program has to give a range; RAM may then lie at 128 MiB.
planned 1 arm-smmuv3,place=program --ram 256M@1G --msi 1 <<-END
	arm-smmuv3: not possible as asked
	nearest that can: with a range that the program gives
	  MSI place 1M       0x8000000-0x80fffff, given by the program
	  RAM       256M     0x40000000-0x4fffffff
	  doorbell  GICv3 ITS (0x8090000) at 0x8000000
	  MSI       1 vector, the first by writing 0x0 to 0x8000040
END
planned 0 arm-smmuv3,place=program --ram 256M@0 --msi 1 --msi-window 1M@512M <<-END
	arm-smmuv3: possible
	  MSI place 1M       0x20000000-0x200fffff, given by the program
	  RAM       256M     0x0-0xfffffff
	  doorbell  GICv3 ITS (0x8090000) at 0x20000000
	  MSI       1 vector, the first by writing 0x0 to 0x20000040
END

# ---- PCs: the hole below 4 GiB, HyperTransport, 39 bits -----------------------------------------

apic='0xfee00000-0xfeefffff, MSI doorbells that are not translated (interrupt remapping table)'
planned 0 x86-vtd --ram 4G <<-END
	x86-vtd: possible, though not from 0 on in one piece
	  in the way $apic
	instead: split around what is in the way
	  RAM       3G       0x0-0xbfffffff
	  RAM       1G       0x100000000-0x13fffffff
	  around    $apic
	or: moved away from what is in the way
	  RAM       4G       0x100000000-0x1ffffffff
	  around    $apic
END
# One to one, as for a Xen dom0: the hole has a name, and is what can't be had.
planned 1 x86-vtd --ram 4G@0 <<-END
	x86-vtd: not possible as asked
	  in the way $apic
	nearest that can: split around what is in the way
	  RAM       3G       0x0-0xbfffffff
	  RAM       1G       0x100000000-0x13fffffff
	  around    $apic
	or: moved away from what is in the way
	  RAM       4G       0x100000000-0x1ffffffff
	  around    $apic
	or: each byte where it was asked for, without what is in the way
	  RAM       4078M    0x0-0xfedfffff
	  RAM       17M      0xfef00000-0xffffffff
	  around    $apic
END
planned 1 xen --ram 4G@0 <<-END
	xen: not possible as asked
	  in the way 0xfee00000-0xfeefffff, MSI doorbells that are not translated (local APICs)
	nearest that can: split around what is in the way
	  RAM       3G       0x0-0xbfffffff
	  RAM       1G       0x100000000-0x13fffffff
	  around    0xfee00000-0xfeefffff, MSI doorbells that are not translated (local APICs)
	or: moved away from what is in the way
	  RAM       4G       0x100000000-0x1ffffffff
	  around    0xfee00000-0xfeefffff, MSI doorbells that are not translated (local APICs)
	or: each byte where it was asked for, without what is in the way
	  RAM       4078M    0x0-0xfedfffff
	  RAM       17M      0xfef00000-0xffffffff
	  around    0xfee00000-0xfeefffff, MSI doorbells that are not translated (local APICs)
END
"$uiommu" plan x86-vtd,aw=39 --ram 64M@0xfd000000 >"$scratch/out" && fail 'a range across the hole'
says 'in the way: [0xfee00000, 0xfeefffff] (msi region of'
"$uiommu" plan x86-vtd,aw=39 --ram 1G@0x7fe0000000 >"$scratch/out" && fail 'a range across 39 bits'
says "rule 'aperture'"
says 'in the way: [0x8000000000, 0xffffffffffffffff] (x86-vtd)'
says '  RAM       1G       0x7fc0000000-0x7fffffffff'
planned 1 x86-vtd,aw=39 --ram 600G <<-END
	x86-vtd: not possible as asked
	  in the way $apic
	nothing near it can be done
	  can be mapped: 0x0-0xfedfffff
	  can be mapped: 0xfef00000-0x7fffffffff
END
"$uiommu" plan x86-amd --ram 16G@0xfc00000000 >"$scratch/out" && fail 'a range across HyperTransport'
says 'in the way: [0xfd00000000, 0xffffffffff] (reserved region of'
says "  in the way 0xfd00000000-0xffffffffff, a hole in the machine's addresses"
says '  RAM       16G      0x10000000000-0x103ffffffff'
"$uiommu" plan x86-amd --ram 1T@0 >"$scratch/out" && fail 'a range across both holes'
says '  RAM       1008G    0x100000000-0xfcffffffff'
says "  around    0xfd00000000-0xffffffffff, a hole in the machine's addresses"
# More than there are addresses, and more than is worth trying.
"$uiommu" plan x86-vtd --ram 15E >"$scratch/out" && fail '15E in 48 bits'
says "rule 'reserved'"
"$uiommu" plan x86-vtd,pgsizes=1000 --ram 1T >"$scratch/out" && fail '1T in pages of 4K'
says 'too many entries to try'
planned 0 riscv --ram 1G@2G --msi 3 <<-END
	riscv: possible
	  RAM       1G       0x80000000-0xbfffffff
	  doorbell  IMSIC interrupt file (0x28000000) at 0x8000000
	  MSI       3 vectors, the first by writing 0x40 to 0x8000000
END
planned 0 none --ram 1G <<-END
	none: nothing to plan: addresses are not translated, a device reaches all memory where it lies
END

# ---- POWER: the default window, and one for more RAM --------------------------------------------

planned 0 ppc-spapr --ram 1G --msi 4 <<-END
	ppc-spapr: possible
	  RAM       1G       0x0-0x3fffffff
	  doorbell  host bridge MSI window at 0x40000000000, not translated
	  MSI       4 vectors, the first by writing 0x0 to 0x40000000000
END
planned 0 ppc-spapr --ram 4G <<-END
	ppc-spapr: possible, though not from 0 on in one piece
	instead: in a dynamic window
	  window    4G       from 0x800000000000000 on, pages of 16M
	  RAM       4G       0x800000000000000-0x8000000ffffffff
END
says "rule 'aperture'"
planned 0 ppc-spapr,flavour=powernv --ram 2G <<-END
	ppc-spapr: possible
	  RAM       2G       0x0-0x7fffffff
END
# One piece in each window, and one in the dynamic window alone.
"$uiommu" plan ppc-spapr --ram 1G@0 --ram 1G@0x800000000000000 >"$scratch/out" ||
	fail 'RAM in both windows'
grep -q '^  RAM       1G       0x800000000000000-0x80000003fffffff' "$scratch/out" ||
	fail 'RAM in both windows: moved'
grep -q '^ppc-spapr: possible$' "$scratch/out" || fail 'RAM in both windows: not as asked'
"$uiommu" plan ppc-spapr --ram 1M@0x800000000000000 >"$scratch/out" || fail '1M in the dynamic window'
"$uiommu" plan ppc-spapr,windows=1 --ram 1M@0x800000000000000 >"$scratch/out" &&
	fail 'a dynamic window where there is none'
"$uiommu" plan ppc-spapr,flavour=powernv --ram 512G >"$scratch/out" || fail '512G on powernv'
says '  window    512G     from 0x800000000000000 on, pages of 1G'
# Pages no larger than the RAM is a multiple of; and a place that no window has.
"$uiommu" plan ppc-spapr --ram 100K@3G >"$scratch/out" && fail 'RAM beside the window'
says 'nearest that can: in a dynamic window'
says '  window    128K     from 0x800000000000000 on, pages of 4K'

# ---- the user's own ----------------------------------------------------------------------------

planned 0 "$platforms/small-pamu.json" --ram 256M --msi 8 <<-END
	small-pamu: possible
	  aperture  512M     0x0-0x1fffffff, 4 windows of 128M
	  RAM       256M     0x0-0xfffffff, windows 0-1
	  doorbell  MSI bank A (0xffe044000) at 0x10000000, window 2
	  doorbell  MSI bank B (0xffe045000) at 0x18000000, window 3
	  MSI       8 vectors, the first by writing 0x0 to 0x10000140
END
"$uiommu" plan --platform "$platforms/laptop.json" --ram 3G@0 >"$scratch/out" && fail 'a hole of the file'
says '0xa0000000-0xdfffffff'
planned 0 --platform "$platforms/arm-board.json,stage=1" --ram 256M@0 --msi 33 <<-END
	arm-board: possible
	  RAM       256M     0x0-0xfffffff
	  doorbell  GICv2m frame 0 (0xe1180000) at 0xe1000000
	  doorbell  GICv2m frame 1 (0xe1190000) at 0xe1001000
	  MSI       33 vectors, the first by writing 0x50 to 0xe1000040
	  note      a device can raise another's interrupts here: programs need --allow-unsafe-interrupts
END

# ---- JSON and SVG ------------------------------------------------------------------------------

"$uiommu" plan --json fsl-pamu --ram 256M --msi 3 >"$scratch/out" || fail 'plan as JSON'
says '"possible": true'
says '"window_size": "0x4000000"'
"$uiommu" plan --json arm-smmuv3 --ram 256M@0 --msi 1 >"$scratch/out" && fail 'a refusal as JSON'
says '"possible": false'
says '"type": "sw-msi"'
if command -v python3 >/dev/null; then
	for platform in x86-vtd fsl-pamu arm-smmuv3; do
		"$uiommu" plan --json "$platform" --ram 4G --msi 2 | python3 -m json.tool >/dev/null ||
			fail "JSON of $platform"
	done
fi
"$uiommu" plan fsl-pamu --ram 256M --msi 3 --svg "$scratch/plan.svg" >/dev/null ||
	fail 'plan as SVG'
# The drawing in the README is this one.
cmp "$scratch/plan.svg" "$platforms/../../doc/pamu-plan.svg" >&2 ||
	fail 'doc/pamu-plan.svg is another: uiommu plan fsl-pamu --ram 256M --msi 3 --svg FILE'
grep -q 'MSI bank 2 at 0xffe046000' "$scratch/plan.svg" || fail 'no bank in the SVG'

# ---- mistakes ----------------------------------------------------------------------------------

refuses 'one platform' --ram 1G
refuses 'what is to be planned' x86-vtd
refuses 'SIZE[@IOVA]' x86-vtd --ram much
refuses 'SIZE[@IOVA]' x86-vtd --ram 0
refuses 'SIZE[@IOVA]' x86-vtd --ram 16E
refuses 'SIZE[@IOVA]' x86-vtd --ram 2G@0xffffffffffff0000
refuses 'up to 2048' x86-vtd --msi 2049
refuses 'SIZE@IOVA' arm-smmuv3,place=program --msi-window 1M
refuses 'the system places doorbells' arm-smmuv3 --msi 1 --msi-window 1M@1M
refuses 'does not choose them' x86-vtd --ram 1G --windows 4
refuses "no platform 'vax'" vax --ram 1G
refuses 'its argument is missing' x86-vtd --ram
refuses 'unknown option --rom' x86-vtd --rom 1G
refuses 'No such file' /nonexistent/platform.json --ram 1G

[ "$failures" = 0 ] || echo "$failures failures" >&2
[ "$failures" = 0 ]
