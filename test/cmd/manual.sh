#!/bin/sh
# SPDX-License-Identifier: MIT
# The examples of manual pages: each command in them is run, in an empty directory, with the files
# that the page shows. Those said to end with "(exit status N)" do.
# Usage: manual.sh UIOMMU NAMESPACE|none PAGE...
set -u
uiommu=$(realpath "$1") namespace=$2
shift 2
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
ln -s "$uiommu" "$scratch/bin/uiommu" || exit 1
PATH=$scratch/bin:$PATH
failures=0 commands=0

cd "$scratch" || exit 1
for page; do
	# A file is the block after a line that ends with "; NAME.json:".
	awk '/; [a-z]+\.json:$/ { name = $NF; sub(":", "", name) }
		/^```$/ { inside = !inside; if (!inside) name = ""; next }
		inside && name != "" { print > name }' "$page"
	awk '/^# EXAMPLES$/ { here = 1; next } /^# / { here = 0 }
		!here { next }
		/^```$/ { inside = !inside; if (!inside) status = 0; next }
		!inside && match($0, /\(exit status [0-9]/) { status = substr($0, RSTART + 13, 1) }
		inside && /^\$ uiommu / { print status + 0, substr($0, 3) }' "$page" >commands
	while read -r status command; do
		case $command in
		'uiommu run '*)
			[ "$namespace" != none ] || continue
			command="uiommu run --namespace $namespace ${command#uiommu run }"
			;;
		esac
		commands=$((commands + 1))
		sh -c "$command" >out 2>&1 </dev/null
		got=$?
		[ "$got" = "$status" ] || {
			echo "FAILED: $command: status $got, not $status: $(cat out)" >&2
			failures=$((failures + 1))
		}
	done <commands
done
[ "$commands" -gt 0 ] || {
	echo 'FAILED: no commands found' >&2
	failures=1
}
[ "$failures" = 0 ]
