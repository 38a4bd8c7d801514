package lab

import "os"

// Required reports whether a test that cannot run is a failure: in continuous
// integration, which must not be green by skipping.
func Required() bool { return os.Getenv("DAYFLY_LAB") == "require" }

// Lacking ends a test for want of something that can be installed: it is
// skipped, or where the lab is required, it fails.
func Lacking(t interface {
	Helper()
	Skip(...any)
	Fatal(...any)
}, why error) {
	t.Helper()
	if Required() {
		t.Fatal(why)
	}
	t.Skip(why)
}
