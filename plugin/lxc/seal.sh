# Makes a container fit to be cloned. It runs as root in the container, given
# to a shell as text; key is the temporary SSH key's public half, or empty.
set -eu

# An empty file gives every clone an id of its own; without the file systemd
# takes the boot for the first one, and presets all units.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret

# Clones must not share host keys. Where there is a server, each clone makes
# its own before the server starts.
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
if [ -x /usr/sbin/sshd ] && [ -d /run/systemd/system ]; then
	cat >/etc/systemd/system/dayfly-ssh-keys.service <<UNIT
[Unit]
Description=Make the SSH host keys of this container
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Before=ssh.service sshd.service ssh.socket

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=ssh.service sshd.service
UNIT
	systemctl --quiet enable dayfly-ssh-keys.service
fi

# The key of this build opens nothing any more. What Proxmox wrote around it
# goes when nothing else is left.
if [ -n "$key" ] && [ -f /root/.ssh/authorized_keys ]; then
	f=/root/.ssh/authorized_keys
	grep -vF -- "$key" "$f" >"$f.sealed" || true
	if grep -qv '^ *\(#.*\)\{0,1\}$' "$f.sealed"; then
		chmod 600 "$f.sealed" && mv -f "$f.sealed" "$f"
	else
		rm -f "$f" "$f.sealed"
	fi
fi

if command -v apt-get >/dev/null 2>&1; then
	apt-get -q clean >/dev/null 2>&1 || true # the caches go below too
fi
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/dnf/* /var/cache/apk/*

# Logs say what happened while building, to nobody's use. Files stay: programs
# expect them.
if command -v journalctl >/dev/null 2>&1; then
	journalctl --rotate --vacuum-time=1s >/dev/null 2>&1 || true
fi
rm -rf /var/log/journal/*
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.[0-9]' -o -name '*.old' \) -exec rm -f {} +
find /var/log -xdev -type f -exec sh -c 'for f; do : >"$f"; done' sh {} +

# Proxmox writes it at every start.
if [ -f /etc/resolv.conf ] && [ ! -L /etc/resolv.conf ]; then
	: >/etc/resolv.conf
fi
for d in /tmp /var/tmp; do
	[ ! -d "$d" ] || find "$d" -xdev -mindepth 1 -maxdepth 1 -exec rm -rf {} +
done
rm -f /root/.bash_history /root/.wget-hsts
