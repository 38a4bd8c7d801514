#!/bin/bash
# What happens when a clone boots: the runner's units, and nothing it does not
# need.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

user=${DAYFLY_USER:-runner}

# Measured in unprivileged containers: without most of these, multi-user.target is
# reached in 305 instead of 552 ms. Time synchronisation, log rotation and
# logins of users are not among them, and neither is what brings the network up.
# What is in /dev, and how the root file system is mounted, the node decides.
spare=(
	sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount dev-hugepages.mount sys-fs-fuse-connections.mount
	modprobe@.service systemd-modules-load.service systemd-binfmt.service
	systemd-journal-catalog-update.service systemd-journal-flush.service systemd-update-utmp.service systemd-update-done.service
	ldconfig.service systemd-sysusers.service systemd-firstboot.service systemd-machine-id-commit.service
	systemd-hwdb-update.service systemd-pstore.service systemd-random-seed.service
	systemd-udevd.service systemd-udev-trigger.service systemd-rfkill.socket
	systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service systemd-remount-fs.service
	console-getty.service getty@.service container-getty@.service getty.target
	systemd-ask-password-console.path systemd-ask-password-wall.path
	systemd-networkd-wait-online.service systemd-networkd-persistent-storage.service systemd-network-generator.service NetworkManager-wait-online.service
	e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
	fstrim.timer man-db.timer systemd-tmpfiles-clean.timer motd-news.timer apparmor.service
)
# Generators run before any unit, 50 ms together. Those that find file systems
# and networks stay.
generators=(
	systemd-bless-boot-generator systemd-cryptsetup-generator systemd-debug-generator systemd-getty-generator
	systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-integritysetup-generator
	systemd-rc-local-generator systemd-run-generator systemd-ssh-generator systemd-system-update-generator systemd-tpm2-generator
	systemd-veritysetup-generator
)

# mask FILE: unless somebody put a unit of their own there.
mask() {
	[ -e "$1" ] || [ -L "$1" ] || ln -s /dev/null "$1"
}

unmask() {
	if [ -L "$1" ] && [ "$(readlink "$1")" = /dev/null ]; then
		rm -f "$1"
	fi
}

kept() { case " ${DAYFLY_KEEP_UNITS:-} " in *" $1 "*) return 0 ;; esac && return 1; }

shorten() {
	local name
	mkdir -p /etc/systemd/system-generators
	for name in "${spare[@]/#/system/}" "${generators[@]/#/system-generators/}"; do
		if [ "${DAYFLY_MASK:-1}" != 1 ] || kept "${name#*/}"; then
			unmask "/etc/systemd/$name"
		else
			mask "/etc/systemd/$name"
		fi
	done
}

guest() {
	local name
	for name in take-env begin become begun ended smoke job-started.sh job-completed.sh; do
		put "/usr/lib/dayfly/$name" 0755 <"$here/files/$name"
	done
	put /etc/systemd/system-generators/dayfly-network-generator 0755 <"$here/files/network-generator"
	for name in dayfly-env.service dayfly-smoke.service; do
		put "/etc/systemd/system/$name" 0644 <"$here/files/$name"
	done
	sed -e "s/@USER@/$user/g" -e "s/@LIFETIME@/${DAYFLY_LIFETIME:-86400}/g" "$here/files/dayfly-runner.service" |
		put /etc/systemd/system/dayfly-runner.service 0644
	put /etc/systemd/system/system.slice.d/dayfly.conf 0644 <"$here/files/slice.conf"
	put /etc/systemd/journald.conf.d/dayfly.conf 0644 <"$here/files/journald.conf"
	install -d -m 0755 -o root -g root /var/lib/dayfly
	rm -rf /var/lib/dayfly/* # of a bake that began from a used container
}

# of a template that had a unit to wait
rm -f /etc/systemd/system/dayfly-runner.path /etc/systemd/system/sysinit.target.wants/dayfly-runner.path
guest
shorten
quietly "reload systemd" systemctl daemon-reload
# Enabled, not started: the template itself never runs a job.
quietly "enable the runner's units" systemctl enable dayfly-env.service dayfly-runner.service
say "boot: the runner starts as soon as there is a JIT config"
