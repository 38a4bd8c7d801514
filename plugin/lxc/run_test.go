package lxc

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

func TestOnlyASurelyDeadBuildIsDead(t *testing.T) {
	if startOf(os.Getpid()) == "" {
		t.Skip("there is no /proc to tell processes by")
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	now, start := time.Now(), startOf(os.Getpid())
	tests := []struct {
		name string
		info proxmox.TemplateInfo
		want bool
	}{
		{"this one", proxmox.TemplateInfo{Started: now, By: thisProcess()}, false},
		{"this one, begun long ago", proxmox.TemplateInfo{Started: now.Add(-25 * time.Hour), By: thisProcess()}, false},
		{"a process that is gone", proxmox.TemplateInfo{Started: now, By: fmt.Sprintf("%s:%d:1", machine(), gone.Process.Pid)}, true},
		{"a process id that is used again", proxmox.TemplateInfo{Started: now, By: fmt.Sprintf("%s:%d:%s0", machine(), os.Getpid(), start)}, true},
		{"another machine's process", proxmox.TemplateInfo{Started: now, By: fmt.Sprintf("x%s:%d:1", machine(), gone.Process.Pid)}, false},
		{"another machine's process, long ago", proxmox.TemplateInfo{Started: now.Add(-25 * time.Hour), By: "x:1:1"}, true},
		{"a machine without /proc", proxmox.TemplateInfo{Started: now, By: machine() + ":1:"}, false},
		{"nobody", proxmox.TemplateInfo{Started: now}, false},
	}
	for _, test := range tests {
		if got := dead(test.info, 24*time.Hour); got != test.want {
			t.Errorf("%s: dead is %v, want %v", test.name, got, test.want)
		}
	}
}
