#!/usr/bin/env bash
# Members change while the cluster serves. Three nodes run on this machine under load. Two are added and one removed; one loses
# its disk and is replaced under its own id; replica_count goes to 5 and back to 3. At the end the script prints how many
# requests failed, how many keys are lost, and the 99th percentile of each second with the changes marked.
#
#   examples/members.sh                          about two minutes
#   KEYS=200000 RATE=2000 examples/members.sh    more data and load
#
# It needs `quorate` in the path, or in QUORATE, and ports PORT to PORT+6 of this machine. It writes to a folder of its own, which
# it deletes in the end.
set -u
KEYS=${KEYS:-20000}
RATE=${RATE:-500}
PORT=${PORT:-18100}
QUORATE=${QUORATE:-quorate}
unset QUORATE_TABLE
dir=$(mktemp -d)
declare -A nodes=()
others=()
end_all() {
    for process in "${nodes[@]}" "${others[@]}"; do kill -TERM "$process" 2>/dev/null; done
    wait
    rm -rf "$dir"
}
trap end_all EXIT
trap 'exit 1' INT TERM
fail() { echo "members.sh: $*" >&2; exit 1; }
address() { echo "127.0.0.1:$((PORT + $1))"; }

# cluster_file FILE REPLICA_COUNT ID…
cluster_file() {
    local file=$dir/$1 count=$2
    shift 2
    printf 'cluster:\n  seed: 7\n  replica_count: %s\n  nodes:\n' "$count" > "$file"
    for id in "$@"; do printf '    "%s": { remote_address: "%s" }\n' "$id" "$(address "$id")" >> "$file"; done
}

# start_node ID FILE [--join]
start_node() {
    local id=$1
    printf 'node:\n  id: "%s"\n  local_address: %s\n  data_dir: ./data-%s\n  durability: fsync\n' \
        "$id" "$(address "$id")" "$id" > "$dir/node-$id.yml"
    "$QUORATE" serve "$dir/node-$id.yml" "$dir/$2" "${@:3}" >> "$dir/node-$id.log" 2>&1 &
    nodes[$id]=$!
}

stop_node() {
    kill -TERM "${nodes[$1]}"
    wait "${nodes[$1]}" 2>/dev/null
    unset "nodes[$1]"
}

# wait_for WHAT COMMAND…: up to a minute
wait_for() {
    local what=$1
    shift
    for _ in $(seq 300); do
        if "$@" > /dev/null 2>&1; then return; fi
        sleep 0.2
    done
    tail -n 20 "$dir"/node-*.log >&2
    fail "waited a minute for $what"
}

waits() { "$QUORATE" members --json | grep -q "\"waiting\":\[[^]]*\"id\":\"$1\""; }
serves() { "$QUORATE" status --json | grep -q "\"failures_tolerated\":$1[,}]"; }

# change TEXT ARGUMENT…: a change, with its marks in the picture
change() {
    local text=$1 from=$SECONDS
    shift
    echo "== $text"
    "$QUORATE" "$@" || fail "$text: quorate $* ended with $?"
    printf '%s %s %s\n' "$((from - began))" "$((SECONDS - began))" "$text" >> "$dir/marks"
    sleep 3
}

cluster_file three.yml 3 1 2 3
cluster_file five.yml 3 1 2 3 4 5
cluster_file four.yml 3 1 2 4 5
cluster_file six.yml 5 1 2 4 5 6
cluster_file back.yml 3 1 2 4 5 6
export QUORATE_ADDRESS
QUORATE_ADDRESS=$(address 1),$(address 2),$(address 3)
for id in 1 2 3; do start_node "$id" three.yml; done
wait_for "three nodes" serves 1

echo "== writing $KEYS keys that must be there in the end"
awk -v keys="$KEYS" 'BEGIN {
    for (key = 0; key < keys; key++) printf "{\"key\":\"keep-%08d\",\"value\":\"value-%d-%0200d\"}\n", key, key, key
}' > "$dir/kept.jsonl"
"$QUORATE" --timeout 60s import "$dir/kept.jsonl" || fail "the keys could not be written"

# The load goes through node 1, which stays a member all the time: bench sends no request again.
load=("$QUORATE" --address "$(address 1)" --json bench --keys 2000 --value-bytes 200 --warm-up 0s)
"${load[@]}" --load --duration 100ms > /dev/null || fail "the keys of the load could not be written"
"${load[@]}" --rate "$RATE" --duration 30m > "$dir/bench.json" &
bench=$!
others+=("$bench")
sleep 4
began=$SECONDS
# A client goes to the next node where one is gone. It was given the first three alone.
(
    done=0 failed=0
    while [ ! -e "$dir/stop" ]; do
        for command in "set client $done" "get client"; do
            done=$((done + 1))
            $QUORATE $command > /dev/null 2>> "$dir/client.log" || failed=$((failed + 1))
        done
        echo "$done $failed" > "$dir/client"
        sleep 0.1
    done
) &
others+=($!)

start_node 4 five.yml --join
start_node 5 five.yml --join
wait_for "node 4 to wait" waits 4
wait_for "node 5 to wait" waits 5
"$QUORATE" members plan "$dir/five.yml"
change "nodes 4 and 5 are added" members apply "$dir/five.yml" --yes
change "node 3 is removed" members apply "$dir/four.yml" --yes
stop_node 3
echo "== node 2 loses its disk"
stop_node 2
rm -rf "$dir/data-2"
start_node 2 four.yml --join
wait_for "node 2 to wait" waits 2
change "node 2 is replaced" members replace 2 --yes
start_node 6 six.yml --join
wait_for "node 6 to wait" waits 6
change "node 6 is added, and replica_count is 5" members apply "$dir/six.yml" --yes
change "replica_count is 3 again" members apply "$dir/back.yml" --yes
"$QUORATE" members
touch "$dir/stop"
kill -TERM "$bench"
wait "${others[@]}"
others=()

echo
echo "== the 99th percentile of each second, in milliseconds"
sed 's/.*"each_second":\[//; s/\].*//; s/},{/}\n{/g' "$dir/bench.json" |
    awk -F'[:,}]' -v marks="$dir/marks" '
        BEGIN {
            while ((getline line < marks) > 0) {
                split(line, at, " ")
                text = substr(line, length(at[1]) + length(at[2]) + 3)
                for (second = at[1]; second <= at[2]; second++) during[second + 4] = text
            }
        }
        {
            for (field = 1; field < NF; field++) {
                if ($field ~ /p99_us/) p99 = $(field + 1)
                if ($field ~ /"second"/) second = $(field + 1)
            }
            bar = ""
            for (column = 0; column < p99 / 1000 && column < 60; column++) bar = bar "#"
            printf "%4d s %8.1f %-60s %s\n", second, p99 / 1000, bar, during[second]
        }'
read -r client_requests client_failed < "$dir/client"
bench_requests=$(sed 's/.*[,{]"operations":\([0-9]*\),"operations_per_second":[^,]*,"seconds".*/\1/' "$dir/bench.json")
bench_failed=$(sed 's/.*"failed":{"count":\([0-9]*\).*/\1/' "$dir/bench.json")
"$QUORATE" --timeout 60s --address "$(address 1)" export keep- > "$dir/found.jsonl" || fail "the keys could not be read"
fields() { sed -n 's/.*"key":"\([^"]*\)".*"value":"\([^"]*\)".*/\1 \2/p' "$1" | sort; }
lost=$(comm -23 <(fields "$dir/kept.jsonl") <(fields "$dir/found.jsonl") | wc -l)
echo
echo "load through node 1:   $bench_requests requests, $bench_failed failed"
echo "client of nodes 1 to 3: $client_requests requests, $client_failed failed"
echo "kept keys:             $KEYS, $lost lost"
cat "$dir/client.log"
sed 's/.*"failed":{[^[]*"kinds":\[\([^]]*\)\].*/\1/; s/},{/}\n{/g' "$dir/bench.json"
[ "$bench_failed" = 0 ] && [ "$client_failed" = 0 ] && [ "$lost" = 0 ]
