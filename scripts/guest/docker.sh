#!/bin/bash
# Docker, with a storage driver that was seen to work.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

user=${DAYFLY_USER:-runner}
data=${DAYFLY_DATA_ROOT:-/var/lib/docker}
config=/etc/docker/daemon.json
driver=

# choose sets driver. It is always written down: dockerd's own choice starts
# with drivers that fail on every run, and from version 29 on it takes the
# containerd image store, which has no fallback. A graph driver named in
# daemon.json switches that back (moby, daemon/image_store_choice.go).
choose() {
	local ask=${DAYFLY_STORAGE_DRIVER:-auto} why
	mkdir -p "$data"
	put /usr/lib/dayfly/storage-driver 0755 <"$here/files/storage-driver"
	case $ask in
	auto) /usr/lib/dayfly/storage-driver try overlay2 "$data" >/dev/null 2>&1 || packages fuse-overlayfs ;;
	fuse-overlayfs) packages fuse-overlayfs ;;
	esac
	if [ "$ask" = auto ]; then
		driver=$(/usr/lib/dayfly/storage-driver choose "$data" 2>"$here/why") || why=$(cat "$here/why")
	else
		/usr/lib/dayfly/storage-driver try "$ask" "$data" 2>"$here/why" || why=$(cat "$here/why")
		driver=$ask
	fi
	[ -z "${why:-}" ] || die "no Docker storage driver works on $data ($(stat -f -c %T "$data")): $why" \
		"overlay2 needs a file system that takes overlays; fuse-overlayfs needs /dev/fuse in the container (feature fuse=1); vfs works everywhere, slowly, and must be asked for"
	say "storage driver: $driver"
}

# configure writes daemon.json. Keys that somebody else set are kept.
configure() {
	local old='{}' new
	[ ! -s "$config" ] || old=$(cat "$config")
	new=$(jq -n --argjson old "$old" --arg driver "$driver" --arg data "$data" --arg size "${DAYFLY_LOG_SIZE:-10m}" \
		--arg files "${DAYFLY_LOG_FILES:-3}" --arg mirror "${DAYFLY_REGISTRY_MIRROR:-}" '
		$old * {"storage-driver": $driver, "log-driver": "json-file", "log-opts": {"max-size": $size, "max-file": $files}}
		| if $data == "/var/lib/docker" then del(."data-root") else ."data-root" = $data end
		| if $mirror == "" then del(."registry-mirrors") else ."registry-mirrors" = [$mirror] end
		| del(.features."containerd-snapshotter") | if .features == {} then del(.features) else . end') ||
		die "read $config: it is not JSON"
	printf '%s\n' "$new" | put "$config" 0644
}

from_distribution() {
	local want=(docker.io iptables apparmor) name
	refresh
	# The client, BuildKit and Compose have packages of their own in some releases.
	for name in docker-cli docker-buildx docker-compose-v2; do
		! offered "$name" || want+=("$name")
	done
	offered docker-compose-v2 || ! offered docker-compose || want+=(docker-compose)
	packages "${want[@]}"
}

from_docker() {
	. /etc/os-release
	local base=${DAYFLY_DOCKER_REPOSITORY:-https://download.docker.com/linux}/$ID key=/etc/apt/keyrings/docker.asc got version
	mkdir -p /etc/apt/keyrings
	quietly "fetch Docker's signing key from $base/gpg" curl -fsSL --retry 3 --connect-timeout 30 -o "$here/docker.asc" "$base/gpg"
	got=$(sha256sum "$here/docker.asc")
	got=${got%% *}
	[ -z "${DAYFLY_DOCKER_KEY_SHA256:-}" ] || [ "$got" = "$DAYFLY_DOCKER_KEY_SHA256" ] ||
		die "Docker's signing key has sha256 $got, want $DAYFLY_DOCKER_KEY_SHA256"
	changed=
	put "$key" 0644 <"$here/docker.asc"
	put /etc/apt/sources.list.d/docker.sources 0644 <<-END
		Types: deb
		URIs: $base
		Suites: $VERSION_CODENAME
		Components: stable
		Architectures: $(dpkg --print-architecture)
		Signed-By: $key
	END
	[ -z "$changed" ] || refreshed=
	if [ -n "${DAYFLY_DOCKER_VERSION:-}" ]; then
		refresh
		version=$(apt-cache madison docker-ce | awk -v want="$DAYFLY_DOCKER_VERSION" '{ v = $3; sub(/^[0-9]+:/, "", v) } index(v, want "-") == 1 { print $3; exit }')
		[ -n "$version" ] || die "Docker $DAYFLY_DOCKER_VERSION is not in $base for $VERSION_CODENAME"
		install_version "$version"
	fi
	packages docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin apparmor
}

# install_version VERSION: of docker-ce and its client, which go together.
install_version() {
	[ "$(dpkg-query -W -f='${Version}' docker-ce 2>/dev/null || true)" != "$1" ] || return 0
	quietly "install Docker $1" apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends --allow-downgrades "docker-ce=$1" "docker-ce-cli=$1"
}

# start_docker makes dockerd run with the configuration as it is now.
start_docker() {
	quietly "reload systemd" systemctl daemon-reload
	systemctl reset-failed docker.service docker.socket >/dev/null 2>&1 || true
	systemctl restart docker.service >/dev/null 2>&1 || die "dockerd does not start: $(why_not docker.service)"
	local got
	got=$(timeout 60 docker info --format '{{.Driver}}' 2>&1) || die "dockerd does not answer: $got"
	[ "$got" = "$driver" ] || die "Docker uses the storage driver $got, not $driver as $config says"
}

why_not() {
	local why
	why=$(journalctl --unit "$1" --no-pager --output cat --lines 50 2>/dev/null | grep -iE 'error|fail' | tail -n 1) || true
	printf '%s' "${why:-see journalctl -u $1}"
}

# prove runs containers on the driver.
prove() {
	local out
	put /usr/lib/dayfly/docker-proof 0755 <"$here/files/docker-proof"
	out=$(/usr/lib/dayfly/docker-proof 2>&1) ||
		die "a container does not run on the storage driver $driver: $(printf '%s' "$out" | tail -n 1)"
	say "storage driver: $driver runs containers"
}

# at_boot: through the socket, Docker costs a job that does not use it nothing,
# and the first docker command of one that does 0.7 s.
at_boot() {
	quietly "enable docker.socket" systemctl enable docker.socket
	if [ "${DAYFLY_DOCKER_START:-socket}" = boot ]; then
		quietly "enable docker.service" systemctl enable docker.service containerd.service
	else
		quietly "disable docker.service" systemctl disable docker.service containerd.service
	fi
}

choose
configure
case ${DAYFLY_DOCKER_SOURCE:-distribution} in
distribution) from_distribution ;;
docker) from_docker ;;
esac
configure # a package may have brought a file of its own
put /etc/systemd/system/docker.service.d/dayfly.conf 0644 <"$here/files/docker.conf"
case " $(id -nG "$user") " in
*" docker "*) ;;
*) quietly "let $user use Docker" usermod --append --groups docker "$user" ;;
esac
start_docker
prove
at_boot
fact docker "$(docker version --format '{{.Server.Version}}')"
fact storage_driver "$driver"
