# shellcheck shell=bash
# The picture without slotd: the same releases by `ln -sfn` and `systemctl restart`, under the same load.
#
# As kind as it can be to it: the releases are unpacked beforehand, the load begins when 1.0.0 is up, and the operator
# looks three seconds after each restart and goes back at once.
#
# Sourced by `demo`.

# How long each version serves, and what the operator takes to look.
readonly BEFORE_SECONDS=3

declare -rA BEFORE_EXEC=(
    [web]="/srv/web/current/bin/sample-server --port ${PORT[web]}"
    [py]="/usr/bin/gunicorn --workers 2 --bind 127.0.0.1:${PORT[py]} app:app"
)

before() {
    step "before: the same releases by ln -sfn and systemctl restart, under the same load"
    local app version
    for app in "${APPS[@]}"; do
        on_host cp -r "/mnt/work/trees/$app" /srv/
        before_unit "$app" | on_host tee "/etc/systemd/system/$app.service" >/dev/null
    done
    before_move 1.0.0
    for app in "${APPS[@]}"; do start_load "$app"; done
    for version in 1.1.0 2.0.0 3.0.0; do
        sleep "$BEFORE_SECONDS"
        before_move "$version"
    done
    sleep "$BEFORE_SECONDS"
    say "3.0.0 doesn't come up: back"
    before_move 2.0.0
    sleep "$BEFORE_SECONDS"
    for app in "${APPS[@]}"; do stop_load "$app"; done
    load_table "${APPS[@]}"
    say "a refused connection is tried again at once, and counts each time"
    before_line="before: $(load_sum requests) requests, $(load_sum failed) failed"
    echo "$before_line"
}

before_unit() {
    cat <<END
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
DynamicUser=yes
WorkingDirectory=/srv/$1/current
ExecStart=${BEFORE_EXEC[$1]}
Restart=always
RestartSec=1s
KillMode=mixed
END
}

before_move() {
    local app
    for app in "${APPS[@]}"; do
        say "\$ ln -sfn $1 /srv/$app/current && systemctl restart $app"
        on_host ln -sfn "$1" "/srv/$app/current"
        # A release that doesn't come up fails here already, if its program says so.
        on_host systemctl restart "$app" 2>/dev/null || say "  failed"
    done
}
