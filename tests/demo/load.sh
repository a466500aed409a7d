# shellcheck shell=bash
# The load: wrk as a unit of the host, one an app, and what it counted.
#
# A unit, so that SIGINT reaches it, at which wrk stops and reports. What failed is connect, read, write and time-out
# errors, any status but 200, an answer that names no version, and a request that is open for long at the end.
#
# Sourced by `demo`, which gives: on_host, die, PORT, PACE_MS.

readonly CONNECTIONS=16
# On the host, one JSON file an app.
readonly REPORTS=/run/load

start_load() {
    local app=$1
    on_host rm -f "$REPORTS/$app.json"
    # One thread a connection: see count.lua. The duration is longer than any story.
    on_host systemd-run --quiet --unit="load-$app" --property=KillSignal=SIGINT --property=LimitNOFILE=4096 \
        --setenv=PACE_MS="$PACE_MS" --setenv=REPORT="$REPORTS/$app.json" \
        wrk -t "$CONNECTIONS" -c "$CONNECTIONS" -d 1h --timeout 60s -s /mnt/slotd/tests/demo/count.lua \
        "http://127.0.0.1:${PORT[$app]}/"
}

stop_load() {
    on_host systemctl stop "load-$1"
    on_host cat "$REPORTS/$1.json" >"$work/load-$1.json" ||
        die "wrk has left no report for $1: $(on_host journalctl --no-pager -o cat -u "load-$1")"
}

# An attempt that gets no answer is a request too.
readonly LOAD_REQUESTS='.answered + .failed.connect + .failed.read + .failed.write'

# Over both apps: requests, failed.
load_sum() {
    case $1 in
        requests) jq -s "map($LOAD_REQUESTS) | add" "$work"/load-*.json ;;
        failed) jq -s 'map(.failed | add) | add' "$work"/load-*.json ;;
    esac
}

load_longest() { jq -s 'map(.longest_wait_ms) | max' "$work"/load-*.json; }

# load_answers APP VERSION
load_answers() {
    jq --arg version "$2" '[.versions[] | select(.version == $version).answers] | add // 0' "$work/load-$1.json"
}

load_table() {
    local app
    printf '  %-5s %-9s %9s   %s\n' app version answers "from … to, since the load began"
    for app in "$@"; do
        jq -r --arg app "$app" '.versions | sort_by(.first_ms)[] | [$app, .version, .answers, .first_ms, .last_ms] | @tsv' \
            "$work/load-$app.json" |
            while read -r _ version answers first last; do
                printf '  %-5s %-9s %9d   %d.%03d s … %d.%03d s\n' "$app" "$version" "$answers" \
                    $((first / 1000)) $((first % 1000)) $((last / 1000)) $((last % 1000))
            done
    done
    for app in "$@"; do
        jq -r --arg app "$app" "$LOAD_SUMMARY" "$work/load-$app.json"
    done
}

# The wait for the first answer is told apart: nothing is deployed yet when the load begins.
# shellcheck disable=SC2016 # jq's variable
readonly LOAD_SUMMARY='
    def failures: with_entries(select(.value > 0)) | to_entries | map("\(.value) \(.key)") | join(", ");
    "  \($app): \(.answered) answers; longest wait \(.longest_later_ms) ms"
    + ", for the first answer \(.first_wait_ms) ms; longest time without an answer \(.longest_gap_ms) ms"
    + "; failed: " + (.failed | failures | if . == "" then "none" else . end)'
