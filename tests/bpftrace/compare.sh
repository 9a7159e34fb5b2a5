#!/usr/bin/env bash
# What run.sh gathered, compared. Of each tool: lines that both printed, lines of one alone, and the same once more with
# every number and bar taken for equal; then the first lines that differ. Times of day count as equal, lines about the
# two tracers themselves don't count, and neither does the order of lines.
#
#   tests/bpftrace/compare.sh OUT [LINES]
set -euo pipefail
cd "$1"
most=${2:-6}
lines() {
    sed -E -e 's/[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?/TIME/g' -e '/bpftrace|ktrail|ld-linux/d' "$1" | sort
}
shapes() { sed -E -e 's/ *\|[@ ]*\|$//' -e 's/[0-9]+/N/g' -e 's/ +/ /g' | sort -u; }
count() { wc -l <"$1"; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for b in *.bpftrace.out; do
    name=${b%.bpftrace.out}
    lines "$b" >"$tmp/b"
    lines "$name.ktrail.out" >"$tmp/k"
    for side in b k; do shapes <"$tmp/$side" >"$tmp/$side.shapes"; done
    for kind in "" .shapes; do
        comm -12 "$tmp/b$kind" "$tmp/k$kind" >"$tmp/both$kind"
        comm -23 "$tmp/b$kind" "$tmp/k$kind" >"$tmp/bpftrace$kind"
        comm -13 "$tmp/b$kind" "$tmp/k$kind" >"$tmp/ktrail$kind"
    done
    printf '%s: %s lines the same, %s of bpftrace alone, %s of ktrail alone; shapes: %s, %s, %s\n' "$name" \
        "$(count "$tmp/both")" "$(count "$tmp/bpftrace")" "$(count "$tmp/ktrail")" \
        "$(count "$tmp/both.shapes")" "$(count "$tmp/bpftrace.shapes")" "$(count "$tmp/ktrail.shapes")"
    for side in bpftrace ktrail; do
        sed -n "1,${most}s/^/    $side: /p" "$tmp/$side"
        sed '/^Attach/d' "$name.$side.err" | sed -n "1,3s/^/    $side's stderr: /p"
    done
done
