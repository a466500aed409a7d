#!/bin/sh
# Installs slotd as the packages do: install.sh [DESTDIR]
#
# Binaries are taken from $BINARIES (default: target/release of this checkout). Without a DESTDIR, users, folders and
# units are made known to the running system too; nothing is enabled or started.
#
#   /usr/bin/slotd, slotctl                       the daemon and the command line
#   /usr/lib/slotd/slotd-gate                     called by units only, which name it so
#   /usr/lib/systemd/system/                      slotd.service, slotd.socket, slotd-settle@.service,
#                                                 slotd-lend@.service, slotd-build.slice
#   /usr/lib/sysusers.d, /usr/lib/tmpfiles.d      slotd.conf each
#   /usr/share/slotd/profile-root.conf            the drop-in of the root profile, to be copied by who wants it
#   /usr/share/man                                slotctl(1), slotd-app(5), slotd(8), slotd-gate(8)
#   /etc/slotd/slotd.toml, apps/, keys/           the administrator's; what is there already stays as it is
set -eu

dest=${1:-}
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
binaries=${BINARIES:-$here/target/release}

for name in slotd slotctl slotd-gate; do
    if [ ! -x "$binaries/$name" ]; then
        echo "install.sh: $binaries/$name is not there; build it first: cargo build --release" >&2
        exit 1
    fi
done

install -D -m 0755 -t "$dest/usr/bin" "$binaries/slotd" "$binaries/slotctl"
install -D -m 0755 -t "$dest/usr/lib/slotd" "$binaries/slotd-gate"
for unit in slotd.service slotd.socket slotd-settle@.service slotd-lend@.service slotd-build.slice; do
    install -D -m 0644 -t "$dest/usr/lib/systemd/system" "$here/systemd/$unit"
done
install -D -m 0644 -t "$dest/usr/lib/sysusers.d" "$here/packaging/sysusers.d/slotd.conf"
install -D -m 0644 -t "$dest/usr/lib/tmpfiles.d" "$here/packaging/tmpfiles.d/slotd.conf"
install -D -m 0644 -t "$dest/usr/share/slotd" "$here/systemd/profile-root.conf"
for page in slotctl.1 slotd-app.5 slotd.8 slotd-gate.8; do
    install -D -m 0644 -t "$dest/usr/share/man/man${page##*.}" "$here/packaging/man/$page"
done
install -d -m 0755 "$dest/etc/slotd" "$dest/etc/slotd/apps" "$dest/etc/slotd/keys"
if [ ! -e "$dest/etc/slotd/slotd.toml" ]; then
    install -m 0644 "$here/packaging/slotd.toml" "$dest/etc/slotd/slotd.toml"
fi

if [ -z "$dest" ]; then
    systemd-sysusers slotd.conf
    systemd-tmpfiles --create slotd.conf
    systemctl daemon-reload
    echo "installed; next: systemctl enable --now slotd.socket slotd.service"
fi
