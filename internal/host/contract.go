package host

import (
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Contract is the version of what the two halves say to each other, which is
// JSON over HTTP. Every request and answer carries it in contractHeader; an
// answer with another one comes from a root half that cannot be used.
const Contract = 2

const contractHeader = "Dayfly-Contract"

// JITVariable is the line of the file that the guest's unit reads, and that
// the runner takes its config from (scripts/guest/files/dayfly-runner.service).
const JITVariable = "ACTIONS_RUNNER_INPUT_JITCONFIG"

// EnvPrefix begins the names of a pool's variables where they are in the
// environment of a container's init, and mean nothing to it
// (scripts/guest/files/take-env).
const EnvPrefix = "DAYFLY_ENV_"

// Bounds of what the halves send each other.
const (
	maxRequest = 128 << 10 // a JIT config has 2 to 4 KiB, an environment at most 8, of which JSON can make 48
	maxAnswer  = 4 << 20
)

// Hello is what a root half is: GET /v1/hello.
type Hello struct {
	Contract int        `json:"contract"`
	Version  string     `json:"version"`
	Node     string     `json:"node"`
	First    fleet.VMID `json:"first"` // the range that it touches
	Last     fleet.VMID `json:"last"`
	Cores    int        `json:"cores"` // of its node; 0: an older release, which does not tell
}

// Running is a container that runs. Each boot has an id of its own, so that a
// container which ended and started again between two looks is known to have.
type Running struct {
	VMID fleet.VMID `json:"vmid"`
	Boot string     `json:"boot"`
}

// View is the containers of our range that run: GET /v1/watch?after=MARK. It
// is answered at once if MARK is not that of the view now, else when something
// changes, or with the same view after watchBound. One that was lost or came
// late costs nothing but time: each view is complete.
type View struct {
	Mark    string    `json:"mark"` // "" asks for the view now
	Running []Running `json:"running"`
}

// Injection is POST /v1/containers/VMID/inject: a JIT config for a container
// that waits for one. The answer comes when it is where the guest takes it
// from, and names the boot that has it.
type Injection struct {
	Name  string            `json:"name"` // the runner's, as in the manifest
	JIT   string            `json:"jit"`
	Facts map[string]string `json:"facts,omitempty"` // DAYFLY_POOL, …: for the job's log
	Env   fleet.Env         `json:"env,omitempty"`   // for the job's steps
}

// Injected is the answer to an Injection.
type Injected struct {
	Boot string `json:"boot"`
}

// Work is what the processes and the files of a running container say of its
// job: GET /v1/containers/VMID/busy.
type Work struct {
	Boot      string `json:"boot"`
	Worker    bool   `json:"worker"`    // the runner's worker process lives
	Taken     bool   `json:"taken"`     // a JIT config is, or was, in it
	Started   bool   `json:"started"`   // the job-started hook ran
	Completed bool   `json:"completed"` // the job-completed hook ran
}

// Stats is what a container has used: GET /v1/containers/VMID/stats. What the
// node does not count is 0.
type Stats struct {
	Memory     int64         `json:"memory"`      // bytes, at most
	CPU        time.Duration `json:"cpu"`         // of all processes
	Processes  int64         `json:"processes"`   // at most
	OOMKills   int64         `json:"oom_kills"`   // processes killed for want of memory
	Disk       int64         `json:"disk"`        // bytes in use on the root file system
	DiskFree   int64         `json:"disk_free"`   // bytes
	InodesFree int64         `json:"inodes_free"` //
	DiskFull   bool          `json:"disk_full"`
}

// Evidence is what a boot of a container left: GET /v1/containers/VMID/collect.
// It is kept after the container is gone, until it is asked for.
type Evidence struct {
	VMID   fleet.VMID `json:"vmid"`
	Name   string     `json:"name"`
	Boot   string     `json:"boot"`
	Over   bool       `json:"over"`   // the boot has ended
	Exit   string     `json:"exit"`   // how the runner ended, as its unit says; "" if it does not
	Stats  Stats      `json:"stats"`  // at the end
	Files  []File     `json:"files"`  // by path
	Missed []string   `json:"missed"` // what could not be read, or was left out, and why
}

// File is the end of one file of a container.
type File struct {
	Path string `json:"path"` // in the container
	Size int64  `json:"size"` // of the whole file
	Data []byte `json:"data"` // the last bytes of it
}

// Repair is POST /v1/containers/VMID/repair, and Do one of the constants below.
type Repair struct {
	Do   string `json:"do"`
	Name string `json:"name"` // of the runner that it was made for
}

// What a Repair does.
const (
	Unlock = "unlock" // remove the lock of a task that is gone
	Remove = "remove" // remove a stopped container, whatever its lock says
)

// failure is the body of an answer that is not 200.
type failure struct {
	Error string `json:"error"`
	Kind  string `json:"kind"`
}

// ErrUnready says that a container that was started did not come far enough to
// take a JIT config, or has no space for one: that lies in the container, and
// not in its node.
var ErrUnready = fmt.Errorf("the container does not take it: %w", fleet.ErrUnavailable)

// ErrUnshielded says that the packet filter of a container's node has no rules
// for it, without which it gets no JIT config.
var ErrUnshielded = fmt.Errorf("it is not behind its firewall: %w", fleet.ErrUnavailable)

// kinds are the kinds of errors, their names and statuses.
var kinds = []struct {
	name   string
	status int
	err    error
}{
	{"denied", 403, fleet.ErrDenied},
	{"not found", 404, fleet.ErrNotFound},
	{"exists", 409, fleet.ErrExists},
	{"invalid", 400, fleet.ErrInvalid},
	{"busy", 423, fleet.ErrBusy},
	{"unready", 503, ErrUnready},
	{"unshielded", 503, ErrUnshielded},
	{"unavailable", 503, fleet.ErrUnavailable},
	{"unknown outcome", 500, fleet.ErrUnknownOutcome},
}
