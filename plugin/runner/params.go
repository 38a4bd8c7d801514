package runner

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/dayfly-ci/dayfly/scripts/guest"
)

// tarballName is what a local tarball is called in the guest, beside the
// scripts.
const tarballName = "runner.tar.gz"

// params are what the scripts are told, as a file of shell assignments.
func (c *Config) params(template string, now time.Time) string {
	d := c.Docker
	values := map[string]string{
		"DAYFLY_NOW":               strconv.FormatInt(now.Unix(), 10),
		"DAYFLY_TEMPLATE":          template,
		"DAYFLY_USER":              c.User,
		"DAYFLY_SUDO":              onOff(c.Sudo),
		"DAYFLY_PACKAGES":          strings.Join(c.Packages, " "),
		"DAYFLY_MASK":              onOff(c.MaskUnits),
		"DAYFLY_KEEP_UNITS":        strings.Join(c.KeepUnits, " "),
		"DAYFLY_LIFETIME":          strconv.Itoa(int(c.Lifetime / time.Second)),
		"DAYFLY_RUNNER_VERSION":    c.Version,
		"DAYFLY_RUNNER_SHA256":     c.SHA256,
		"DAYFLY_RUNNER_URL":        c.URL,
		"DAYFLY_DOCKER_SOURCE":     d.Source,
		"DAYFLY_DOCKER_VERSION":    d.Version,
		"DAYFLY_DOCKER_REPOSITORY": d.Repository,
		"DAYFLY_DOCKER_KEY_SHA256": d.RepositoryKeySHA256,
		"DAYFLY_DOCKER_START":      d.Start,
		"DAYFLY_STORAGE_DRIVER":    d.StorageDriver,
		"DAYFLY_DATA_ROOT":         d.DataRoot,
		"DAYFLY_REGISTRY_MIRROR":   d.RegistryMirror,
		"DAYFLY_LOG_SIZE":          d.LogMaxSize,
		"DAYFLY_LOG_FILES":         strconv.Itoa(d.LogMaxFiles),
	}
	if c.File != "" {
		values["DAYFLY_RUNNER_FILE"] = tarballName
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&b, "%s=%s\n", name, quote(values[name]))
	}
	return b.String()
}

// steps are the scripts that this configuration needs, in order.
func (c *Config) steps() []string {
	return slices.DeleteFunc(slices.Clone(guest.Steps), func(s string) bool {
		return s == "docker.sh" && c.Docker.Source == "none"
	})
}

func onOff(t config.Trilean) string {
	if t.False() {
		return "0"
	}
	return "1"
}

// quote makes one word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
