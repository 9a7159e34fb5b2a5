# What a bloated rule chain costs: both experiments in a short form, and their physics.
# clock: counting
# kernels: 6.12 7; the walk along a chain is the same code on older ones, and each kernel takes more than a minute
# timeout: 400
. /lab/tests/lib.sh

sweep=/tmp/sweep timeline=/tmp/timeline

# answer FOLDER FILTER: whether it is true of the answers.
answer() { jq -e ".answers | $2" "$1/results.json" >/dev/null || { jq .answers "$1/results.json"; return 1; }; }

# fit FILE NAME_OF_X NAME_OF_Y [SERIES]: slope and R² of a results.csv's least-squares line, computed anew.
fit() {
    awk -F, -v x="$2" -v y="$3" -v series="${4:-}" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        series != "" && $1 != series || $column[y] == "" { next }
        { n++; a = $column[x]; b = $column[y]; sx += a; sy += b; sxx += a * a; sxy += a * b; syy += b * b }
        END {
            slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
            r2 = (n * sxy - sx * sy) ^ 2 / ((n * sxx - sx * sx) * (n * syy - sy * sy))
            print slope, r2
        }' "$1"
}

# same_fit: what ktrail answered is what awk computes.
same_fit() {
    local slope r2
    read -r slope r2 < <(fit $sweep/results.csv rules latency_ns 'one rule an address (iptables-legacy)')
    echo "awk: $slope ns a rule, R² $r2"
    answer $sweep "(.latency.ns_per_rule / $slope - 1 | fabs) < 1e-4 and (.latency.r2 - $r2 | fabs) < 1e-4"
}

machine_is_clean() {
    local left
    left=$(ip netns list; ip -o link show | grep kt-; ls /run/ktrail 2>/dev/null; pgrep -a iperf3
        iptables-legacy -S; iptables-nft -S; nft list tables | grep ktrail)
    left=$(grep -v '^-P [A-Z]* ACCEPT$' <<<"$left")
    [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}

check "the sweep comes to its end" \
    ktrail run /lab/probes/bloated_chain.probe -- --rules 3000 --step 1000 --seconds 1 --output $sweep
cat $sweep/results.csv
check "latency rises with the rules" answer $sweep '.linear and .latency.r2 > 0.95 and .latency.ns_per_rule > 10'
check "the fit is what another program computes" same_fit
check "one rule for the whole prefix costs nothing more" answer $sweep \
    '.latency.ns_per_rule as $rise | .controls[0].latency.ns_per_rule | fabs < $rise / 20'
check "a set of as many addresses costs nothing more" answer $sweep \
    '.latency.ns_per_rule as $rise | .controls[1].latency.ns_per_rule | fabs < $rise / 20'
check "throughput suffers" answer $sweep '.degraded_at_rules > 0'
check "the machine is clean after it" machine_is_clean

check "the timeline comes to its end" \
    ktrail run /lab/probes/bloated_chain_timeline.probe -- --rules 3000 --seconds 10 --output $timeline
cat $timeline/results.csv
check "latency rises during the injection" answer $timeline '.latency.r2 > 0.95 and .latency.ns_per_rule > 10'
check "every second has a throughput, a window and a number of rules" \
    jq -e '.ticks | length >= 9 and all(.throughput_mbit > 0 and .window_kb > 0 and .rules != null)' $timeline/results.json
check "the machine is clean after it" machine_is_clean

for folder in $sweep $timeline; do
    check "$(basename $folder): there are figures" \
        sh -c "head -c 4 $folder/results.png | grep -q PNG && grep -q '</svg>' $folder/results.svg"
done
