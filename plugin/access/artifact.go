package access

import (
	"errors"
	"fmt"
	"reflect"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// TemplateOf reads which template an artifact of the builder dayfly-lxc is. It
// is the empty Ref when the artifact is another builder's.
func TemplateOf(a packersdk.Artifact) (fleet.Ref, error) {
	if a == nil {
		return fleet.Ref{}, errors.New("there is no artifact")
	}
	state := reflect.ValueOf(a.State("template"))
	if !state.IsValid() || state.Kind() != reflect.Map {
		return fleet.Ref{}, nil
	}
	// Types do not survive the way between plugins: a map of texts arrives as
	// one of anything, keys included.
	texts := map[string]string{}
	for _, key := range state.MapKeys() {
		texts[fmt.Sprint(key)] = fmt.Sprint(state.MapIndex(key))
	}
	return fleet.Ref{Family: texts["family"], Version: texts["version"]}, nil
}
