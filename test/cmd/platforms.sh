#!/bin/sh
# SPDX-License-Identifier: MIT
# uiommu platforms and uiommu show, and platforms from files for all that take one.
# Usage: platforms.sh UIOMMU PLATFORMS
set -u
uiommu=$(realpath "$1") platforms=$2
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failures=0

fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
}

# status WANTED COMMAND...: run it, with both outputs in $scratch/out.
status() {
	wanted=$1
	shift
	"$@" >"$scratch/out" 2>&1
	got=$?
	[ "$got" = "$wanted" ] || fail "status $got, not $wanted: $*: $(cat "$scratch/out")"
}

says() {
	grep -q -- "$1" "$scratch/out" || fail "no '$1' in: $(cat "$scratch/out")"
}

# The same in a drawing; and it is XML.
drawn() {
	grep -qF -- "$1" "$scratch/svg" || fail "no '$1' in: $(cat "$scratch/svg")"
}

draw() {
	status 0 "$uiommu" show --svg "$scratch/svg" "$@"
	if command -v python3 >/dev/null; then
		python3 -c 'import sys, xml.dom.minidom as d; d.parse(sys.argv[1])' "$scratch/svg" ||
			fail "show --svg $*: no XML"
	fi
}

# ---- platforms ---------------------------------------------------------------------------------

status 0 "$uiommu" platforms
says '^x86-vtd *vtd-ss *48 *4K 2M 1G *type1'
says '^x86-amd *amd-v1 *64 *4K-256G 1T-2P *type1'
says '^arm-smmuv3 *arm-s1 *48 *4K 2M 1G *type1 *translated *isolated'
says '^fsl-pamu *pamu *36 *4K-64G *fsl-pamu *translated *not isolated'
says '^ppc-spapr *spapr-tce *64 .* spapr-tce'
says '^riscv *riscv *48 *4K 2M 1G 512G *type1'
says '^none *- '
says 'hole *0xfd00000000-0xffffffffff reserved'
says 'hole *0x8000000-0x80fffff sw-msi'
says 'option *aw=39|48|57'
says '^xen *vtd-ss *48 *4K 2M 1G *noiommu'
[ "$(grep -c '^[a-z]' "$scratch/out")" -ge 8 ] || fail "platforms are missing: $(cat "$scratch/out")"
status 0 "$uiommu" platforms --json
says '"name": "fsl-pamu"'
says '"width": 36'
if command -v python3 >/dev/null; then
	"$uiommu" platforms --json | python3 -c '
import json, sys
rows = {row["name"]: row for row in json.load(sys.stdin)}
assert len(rows) >= 8
assert rows["x86-vtd"]["page_sizes"] == ["0x1000", "0x200000", "0x40000000"]
assert rows["x86-vtd"]["isolated_msi"] and not rows["fsl-pamu"]["isolated_msi"]
assert rows["arm-smmuv3"]["reserved"][0]["type"] == "sw-msi"
assert [bank["first"] for bank in rows["fsl-pamu"]["doorbells"]] == \
	["0xffe044000", "0xffe045000", "0xffe046000"]
' || fail 'platforms --json'
fi
status 2 "$uiommu" platforms x86-vtd
status 2 "$uiommu" platforms --yaml
status 0 "$uiommu" platforms --help

# ---- show --------------------------------------------------------------------------------------

status 0 "$uiommu" show x86-vtd,aw=39
says '^ *fee00000 *feefffff *1.0 MiB .*msi: interrupt remapping table'
says '^ *fef00000 *7fffffffff '
status 0 "$uiommu" show x86-amd
says '^ *fd00000000 *ffffffffff *12.0 GiB .*reserved'
for platform in arm-smmuv3 arm-smmuv3,stage=2 riscv; do
	status 0 "$uiommu" show "$platform"
	says '^ *8000000 *8000fff *4.0 KiB !  *doorbell: .* -> 0x'
	says '^ *8001000 *80fffff '
done
status 0 "$uiommu" show fsl-pamu
says '^ *ff0000000 *ff0000fff *4.0 KiB !  *doorbell: MSI bank 0 -> 0xffe044000, window 255'
says '^ *0 *fcfffffff .*free, windows 0-252'
status 0 "$uiommu" show fsl-pamu,banks=4 --aperture 512M --windows 8
says '^ *10000000 *10000fff .*MSI bank 3 -> 0xffe047000, window 4'
status 0 "$uiommu" show fsl-pamu,msi=explicit
says '^ *0 *fffffffff .*free, windows 0-255'
status 0 "$uiommu" show ppc-spapr
says '^ *0 *3fffffff .*free'
says '^ *40000000000 *4000000ffff .*doorbell: host bridge MSI window'
says '^ *800000000000000 *800000fffffffff .*64.0 GiB .*free'
status 0 "$uiommu" show ppc-spapr,flavour=powernv --window 1T
says '4K 64K 2M 1G'
says '^ *800000000000000 *80000ffffffffff .*1.0 TiB .*free'
# The default window alone, where no second one may be or the one shown would not fit.
status 0 "$uiommu" show ppc-spapr,windows=1
says '^ *0 *3fffffff *1.0 GiB .* free'
status 0 "$uiommu" show ppc-spapr,window64=0x100000000,window32=0-0xffffffff
says '^ *0 *ffffffff *4.0 GiB .* free'
status 0 "$uiommu" show none
says 'nothing is translated'
status 1 "$uiommu" show fsl-pamu --windows 257
says 'at most 256'
status 1 "$uiommu" show fsl-pamu --aperture 384M
says 'power of two'
status 2 "$uiommu" show
status 2 "$uiommu" show vax
says 'there are: x86-vtd'
status 2 "$uiommu" show x86-vtd,aw=40
says '39, 48 or 57'
status 2 "$uiommu" show x86-vtd,width=40
says 'no width of 40 bits; they have 39 48 57'
status 2 "$uiommu" show x86-vtd --aperture much
NO_COLOR=1 "$uiommu" show x86-vtd | grep -q "$(printf '\033')" && fail 'colours in a pipe'

draw x86-vtd
drawn 'msi: interrupt remapping table'
drawn '0xfee00000'
draw arm-smmuv3
drawn 'GICv3 ITS at 0x8090000'
draw fsl-pamu --aperture 512M --windows 8
drawn 'MSI bank 2 at 0xffe046000'
drawn 'free, windows 0-4'
drawn 'doorbell, window 7'
draw x86-vtd,name='a<b&c'
drawn 'a&lt;b&amp;c'
status 1 "$uiommu" show --svg /nonexistent/file.svg x86-vtd

# ---- files -------------------------------------------------------------------------------------

for file in "$platforms"/*.json; do
	status 0 "$uiommu" show "$file"
	draw "$file"
done
status 0 "$uiommu" show --platform "$platforms/arm-board.json,stage=1"
says '^arm-s1 tables, 48 bits'
says '^ *f0000000 *ffffffff *256.0 MiB .*reserved'
# From where it lies, whatever it is called.
cp "$platforms/laptop.json" "$scratch/with,comma" || exit 1
status 0 "$uiommu" show "$scratch/with,comma"
cp "$platforms/laptop.json" "$scratch/plain"
status 0 "$uiommu" show "$scratch/plain"
(cd "$scratch" && cp plain here.json && "$uiommu" show here.json >/dev/null) || fail 'a file here'
cat >"$scratch/bad.json" <<-END
	{
	  "base": "x86-vtd",
	  "reserved": [
	    {"first": "0xa0000000", "last": "0xa0000ffe"}
	  ]
	}
END
for command in show 'plan --ram 1G' 'run true'; do
	# shellcheck disable=SC2086
	status 2 "$uiommu" ${command%% *} --platform "$scratch/bad.json" ${command#${command%% *}}
	says 'bad.json:4:5: platform x86-vtd: a reserved region begins and ends with a page'
done
status 2 "$uiommu" show "$scratch"
status 2 "$uiommu" show "$scratch/missing.json"
says 'missing.json: No such file'
head -c 2000000 /dev/zero >"$scratch/big.json"
status 2 "$uiommu" show "$scratch/big.json"
says 'too long'
if [ "${3:-}" = run ]; then
	status 0 "$uiommu" run --platform "$platforms/laptop.json" --allow-unsafe-interrupts -- \
		cat /sys/kernel/iommu_groups/0/reserved_regions
	says '0x00000000a0000000 0x00000000dfffffff reserved'
fi

[ "$failures" = 0 ] || echo "$failures failures" >&2
[ "$failures" = 0 ]
