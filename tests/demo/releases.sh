# shellcheck shell=bash
# The releases of both apps: each a folder, for the picture without slotd, and the same packed, as slotd takes it.
#
# Sourced by `demo`, which gives: CHECKOUT, work, binaries, APPS.

readonly VERSIONS=(1.0.0 1.1.0 2.0.0 3.0.0)
# Dies before it accepts.
readonly BROKEN=3.0.0

make_releases() {
    local app version tree
    for version in "${VERSIONS[@]}"; do
        for app in "${APPS[@]}"; do
            tree=$work/trees/$app/$version
            mkdir -p "$tree" "$work/releases"
            "fill_$app" "$tree" "$version"
            echo "$version" >"$tree/VERSION"
            tar --zstd -cf "$work/releases/$app-$version.tar.zst" -C "$tree" .
        done
    done
    # The services of the first picture run as an ordinary user.
    chmod 0755 "$work"
    say "$(cd "$work/releases" && du -h --apparent-size -- * | awk '{ printf "%s%s (%s)", sep, $2, $1; sep = ", " }')"
}

fill_web() {
    mkdir "$1/bin"
    # Debug information is most of it, and nobody reads it here.
    strip -o "$1/bin/sample-server" "$binaries/examples/sample-server"
    [[ $2 != "$BROKEN" ]] || echo "exit-before-accept 3" >"$1/BEHAVIOUR"
}

fill_py() {
    cp "$CHECKOUT/examples/wsgi/app.py" "$1/"
    [[ $2 != "$BROKEN" ]] || echo "no module named 'payments': it was left out of the package" >"$1/BROKEN"
}

# Where a packed release is, on the host.
release() { echo "/mnt/work/releases/$1-$2.tar.zst"; }
