# shellcheck shell=bash
# What the steps share. A step is run by root as "bash step.sh"; its parameters
# are in the file params beside it. It may be run again at any time and changes
# only what is not as it should be. When it fails, its last line on standard
# error is "error: " and one clear message.

set -Eeuo pipefail
umask 022
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
[ ! -e "$here/params" ] || . "$here/params"

say() { printf '%s\n' "$*"; }

# die WHAT [HINT]: end the step.
die() {
	trap - ERR
	printf 'error: %s\n' "${1//$'\n'/ }" >&2
	[ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
	exit 1
}

# A command that fails where nobody looks must not end the step in silence.
trap 'die "line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND: exit code $?"' ERR

# quietly WHAT COMMAND...: the command's output is shown only when it fails.
quietly() {
	local what=$1 out last
	shift
	if out=$("$@" 2>&1 </dev/null); then
		return 0
	fi
	printf '%s\n' "$out" >&2
	last=$(printf '%s\n' "$out" | grep -E '^(E:|error|Error|ERROR|fatal)' | tail -n 1) ||
		last=$(printf '%s\n' "$out" | tail -n 1)
	die "$what: ${last:-it failed without a word}"
}

# put FILE MODE: make FILE what standard input is, in one step. Sets changed.
changed=
put() {
	local file=$1 mode=$2 new
	[ -d "${file%/*}" ] || mkdir -p "${file%/*}"
	new=$file.dayfly-new
	cat >"$new"
	chmod "$mode" "$new"
	if cmp -s "$new" "$file"; then
		mv -f "$new" "$file" # for the mode
		return 0
	fi
	mv -f "$new" "$file"
	# shellcheck disable=SC2034 # the steps read it
	changed=1
}

# offered PACKAGE: the package sources have it.
offered() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }

# refresh: fetch the package lists, once in a step.
refreshed=
refresh() {
	[ -z "$refreshed" ] || return 0
	quietly "fetch package lists" apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o APT::Update::Error-Mode=any update
	refreshed=1
}

# packages NAME...: install those that are missing.
packages() {
	local name there missing=()
	# It fails when it does not know one of them.
	there=$(dpkg-query -W -f='${db:Status-Status} ${Package} ' "${@%%=*}" 2>/dev/null || true)
	for name in "$@"; do
		case " $there" in *" installed ${name%%=*} "*) ;; *) missing+=("$name") ;; esac
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	refresh
	say "install ${missing[*]}"
	quietly "install packages ${missing[*]}" apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 \
		-o Dpkg::Options::=--force-confold install -y --no-install-recommends "${missing[@]}"
}

# fact KEY VALUE: what the template says of itself. The builder reads this file
# and copies it into the template's manifest: the keys are the same.
facts=/etc/dayfly/template.json
fact() {
	local new
	[ -s "$facts" ] || echo '{}' | put "$facts" 0644
	new=$(jq --arg key "$1" --arg value "$2" '.[$key] = $value' "$facts")
	printf '%s\n' "$new" | put "$facts" 0644
}
