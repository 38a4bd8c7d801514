package proxmox

import (
	"slices"
	"testing"
)

func TestSmokeAddressesAreRead(t *testing.T) {
	for _, c := range []struct {
		address string
		done    bool
		faults  []string
	}{
		{"127.0.0.1", false, nil},
		{"127.0.0.1/8", false, nil},
		{"127.83.77.0", true, nil},
		{"127.83.77.0/32", true, nil},
		{"127.83.77.9/32", true, []string{smokeChecks[0], smokeChecks[3]}},
		{"127.83.77.128", true, []string{"check 128 failed, which this dayfly does not know"}},
		{"127.83.78.0", false, nil},
		{"::1", false, nil},
		{"", false, nil},
		{"nonsense", false, nil},
	} {
		var got SmokeResult
		got.read(c.address)
		if got.Done != c.done || !slices.Equal(got.Faults, c.faults) {
			t.Errorf("%q: got %+v, want done %t and %q", c.address, got, c.done, c.faults)
		}
	}
}
