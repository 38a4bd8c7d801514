package main

import sdkversion "github.com/hashicorp/packer-plugin-sdk/version"

// Version and Prerelease are set by the linker for a release, whose Prerelease
// is empty: packer init takes no other.
var (
	Version    = "0.1.0"
	Prerelease = "dev"
)

func version() *sdkversion.PluginVersion {
	return sdkversion.NewPluginVersion(Version, Prerelease, "")
}
