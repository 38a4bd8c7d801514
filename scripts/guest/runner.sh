#!/bin/bash
# The runner, as its makers packed it: version and sha256 are pinned.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

user=${DAYFLY_USER:-runner}
dir=/opt/actions-runner
mark=$dir/.dayfly-tarball
tarball=

# Nothing is left of a runner that was not accepted.
discard() { rm -rf "$dir.new" "$here/tarball"; }
trap discard EXIT

obtain() {
	if [ -n "${DAYFLY_RUNNER_FILE:-}" ]; then
		tarball=$here/$DAYFLY_RUNNER_FILE
		return
	fi
	tarball=$here/tarball
	say "download $DAYFLY_RUNNER_URL"
	quietly "download runner from $DAYFLY_RUNNER_URL" curl -fsSL --proto '=http,https' --retry 3 --retry-connrefused --retry-max-time 300 \
		--connect-timeout 30 --speed-limit 1024 --speed-time 60 -o "$tarball" "$DAYFLY_RUNNER_URL"
}

verify() {
	local got
	got=$(sha256sum "$tarball")
	got=${got%% *}
	[ "$got" = "$DAYFLY_RUNNER_SHA256" ] || die "the runner's tarball has sha256 $got, want $DAYFLY_RUNNER_SHA256" \
		"the pin belongs to another version, or the file is not what its makers published"
}

unpack() {
	rm -rf "$dir.new"
	mkdir -p "$dir.new"
	quietly "unpack runner" tar -xzf "$tarball" --no-same-owner -C "$dir.new"
	[ -x "$dir.new/bin/Runner.Listener" ] || die "the tarball has no bin/Runner.Listener: it is not a Linux runner"
}

# dependencies: what bin/installdependencies.sh of the tarball installs. The
# names carry the libraries' versions, so the newest on offer is taken.
dependencies() {
	local want=(libkrb5-3 zlib1g) name
	refresh
	for name in liblttng-ust1t64 liblttng-ust1 liblttng-ust0; do
		! offered "$name" || { want+=("$name") && break; }
	done
	for name in libssl3t64 libssl3 libssl1.1; do
		! offered "$name" || { want+=("$name") && break; }
	done
	name=$(apt-cache pkgnames libicu | grep -E '^libicu[0-9]+(t64)?$' | sort -V | tail -n 1) || die "no package libicu is on offer"
	packages "${want[@]}" "$name"
}

# try runs it as the user that jobs run as.
try() {
	local got
	chown -R "$user:" "$dir.new"
	got=$(cd / && setpriv --reuid "$user" --regid "$user" --init-groups --reset-env "$dir.new/bin/Runner.Listener" --version 2>&1) ||
		die "the runner does not start: $(printf '%s' "$got" | tail -n 1)"
	[ "$got" = "$DAYFLY_RUNNER_VERSION" ] || die "the tarball holds runner $got, want $DAYFLY_RUNNER_VERSION"
}

accept() {
	printf '%s\n' "$DAYFLY_RUNNER_VERSION $DAYFLY_RUNNER_SHA256" >"$dir.new/.dayfly-tarball"
	rm -rf "$dir"
	mv "$dir.new" "$dir"
}

# settings are read by the runner from its own directory, at start.
settings() {
	. /etc/os-release
	local os=$ID${VERSION_ID%%.*}
	mkdir -p /opt/hostedtoolcache
	chown "$user:" /opt/hostedtoolcache
	put "$dir/.env" 0644 <<-END
		LANG=C.UTF-8
		ImageOS=$os
		RUNNER_TOOL_CACHE=/opt/hostedtoolcache
		AGENT_TOOLSDIRECTORY=/opt/hostedtoolcache
		ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/lib/dayfly/job-started.sh
		ACTIONS_RUNNER_HOOK_JOB_COMPLETED=/usr/lib/dayfly/job-completed.sh
	END
	# "Set up job" of every job's log shows this (runner, JobExtension.cs).
	jq -n --slurpfile facts "$facts" --arg template "${DAYFLY_TEMPLATE:-}" --arg runner "$DAYFLY_RUNNER_VERSION" '
		$facts[0] as $f | [{group: "dayfly template", detail: ([
			(if $template != "" then "Template: \($template)" else empty end),
			"Operating system: \($f.os)", "Runner: \($runner)",
			(if $f.docker then "Docker: \($f.docker), storage driver \($f.storage_driver)" else empty end)] | join("\n"))}]' |
		put "$dir/.setup_info" 0644
	chown "$user:" "$dir/.env" "$dir/.setup_info"
}

if [ "$(cat "$mark" 2>/dev/null || true)" = "$DAYFLY_RUNNER_VERSION $DAYFLY_RUNNER_SHA256" ]; then
	say "runner $DAYFLY_RUNNER_VERSION is there"
else
	obtain
	verify
	unpack
	dependencies
	try
	accept
fi
settings
fact runner "$DAYFLY_RUNNER_VERSION"
fact runner_sha256 "$DAYFLY_RUNNER_SHA256"
