#!/bin/bash
# The system under the runner: packages, clock, users.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

user=${DAYFLY_USER:-runner}

check_system() {
	[ "$(id -u)" = 0 ] || die "this must run as root"
	. /etc/os-release
	case " $ID ${ID_LIKE:-} " in
	*" debian "* | *" ubuntu "*) ;;
	*) die "the guest is ${PRETTY_NAME:-$ID}: only Debian and Ubuntu can be provisioned" ;;
	esac
	command -v systemctl >/dev/null || die "the guest has no systemd"
}

# GitHub refuses a runner whose clock is more than five minutes off, and the
# runner then retries for half an hour.
check_clock() {
	local off=$(($(date +%s) - DAYFLY_NOW))
	off=${off#-}
	[ "$off" -le 300 ] || die "the guest's clock is $off s off the clock of the machine that runs Packer" \
		"a container has its node's clock: let the node synchronise it, with chrony"
}

# In a container the clock is the node's, and systemd-timesyncd does not start
# there (ConditionVirtualization=!container in its unit).
sync_time() {
	if systemd-detect-virt --quiet --container; then
		say "time: as the node's"
		return
	fi
	packages systemd-timesyncd
	quietly "enable time synchronisation" systemctl enable systemd-timesyncd.service
}

add_user() {
	if ! id "$user" >/dev/null 2>&1; then
		local uid=(--uid 1001) # as in GitHub's own image
		! getent passwd 1001 >/dev/null || uid=()
		quietly "add user $user" useradd --create-home --shell /bin/bash --user-group "${uid[@]}" "$user"
	fi
	case $(passwd --status root) in
	"root L "*) ;;
	*) quietly "lock the password of root" passwd --quiet --lock root ;;
	esac
}

# As on GitHub-hosted runners: everything, without a password.
allow_sudo() {
	local file=/etc/sudoers.d/dayfly-runner
	if [ "${DAYFLY_SUDO:-1}" != 1 ]; then
		rm -f "$file"
		return
	fi
	packages sudo
	printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$user" | put "$file" 0440
	quietly "check sudoers" visudo --check --quiet --file="$file"
}

check_system
check_clock
# shellcheck disable=SC2086 # a list
packages ca-certificates curl git jq tar unzip xz-utils zip zstd ${DAYFLY_PACKAGES:-}
sync_time
add_user
allow_sudo
fact contract 2
fact os "$PRETTY_NAME"
# A smoke boot holds its container to it: jobs that need a VPN must not find out.
fact tun "$([ ! -e /dev/net/tun ] || echo yes)"
