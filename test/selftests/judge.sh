#!/bin/sh
# SPDX-License-Identifier: MIT
# What scripts/kernel-selftests makes of a log. Usage: judge.sh JUDGE EXPECTED
set -eu
judge=$1
expected=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

printf '# none\nb.fails  because\nd.fails  the same\n' >"$dir/expected"
bad=0

# A log on the standard input: log NAME STATUS WORDS [OPTION...]: is it judged so, and said in these words?
log() {
	name=$1
	status=$2
	words=$3
	shift 3
	got=0
	awk -f "$judge" "$@" "$dir/expected" - >"$dir/out" || got=$?
	if [ "$got" -ne "$status" ] || ! grep -qF "$words" "$dir/out"; then
		echo "$name: status $got, $status was expected, with \"$words\" in:"
		cat "$dir/out"
		bad=1
	fi
}

log 'as expected' 0 '1 passed, 2 failed, 1 skipped, of 4' <<-END
	1..4
	ok 1 a.passes
	not ok 2 b.fails
	ok 3 c.skips # SKIP not here
	not ok 4 d.fails
END
log 'another failure' 1 'failed: a.fails' <<-END
	1..3
	not ok 1 a.fails
	not ok 2 b.fails
	not ok 3 d.fails
END
log 'one passes' 1 "expected to fail, and didn't: d.fails" <<-END
	1..3
	ok 1 a.passes
	not ok 2 b.fails
	ok 3 d.fails
END
log 'one is skipped' 1 "expected to fail, and didn't: d.fails" <<-END
	1..3
	ok 1 a.passes
	not ok 2 b.fails
	ok 3 d.fails # SKIP
END
log 'one is not there' 1 'expected to fail, and not there: d.fails' <<-END
	1..2
	ok 1 a.passes
	not ok 2 b.fails
END
log 'one is not asked for' 0 '1 passed, 1 failed, 0 skipped, of 2' -v part=1 <<-END
	1..2
	ok 1 a.passes
	not ok 2 b.fails
END
log 'it broke off' 1 'not run to their end: 1' <<-END
	1..4
	ok 1 a.passes
	not ok 2 b.fails
	not ok 3 d.fails
END
log 'nothing passed' 1 '0 passed, 2 failed, 0 skipped, of 2' <<-END
	1..2
	not ok 1 b.fails
	not ok 2 d.fails
END
: | log 'no log' 1 '0 passed, 0 failed, 0 skipped, of 0'

# The list itself: a reason each.
awk '!/^#/ && NF < 2 { print "no reason: " $0; bad = 1 } !/^#/ && NF { n++ } END { exit bad || !n }' "$expected" ||
	bad=1
exit $bad
