package pve

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
)

// recordedFloor is how many exchanges and tasks of each scenario agree with
// the recordings. It only rises.
var recordedFloor = map[string]int{
	"01-inventory":                 62,
	"02-clone-checks":              133,
	"03-clone-life":                280,
	"04-concurrency":               184,
	"05-template":                  101,
	"06-create":                    94,
	"07-tasks":                     83,
	"08-auth-http":                 86,
	"09-firewall-tags-description": 152,
	"10-edge":                      279,
}

// entry is one line of a recording: a state, an exchange, a finished task, or
// something done on the host.
type entry struct {
	Scenario, Seq, Step, Note string

	State string
	ACL   []struct {
		Path, Roleid, Type, Ugid string
		Propagate                int
	}
	Roles      map[string]string
	Pools      map[string][]string
	Storages   []map[string]any
	Datacenter map[string]any
	Guests     map[string]struct {
		Status string
		Config map[string]any
	}
	Archives []string `json:"templates_on_storage"`

	As, Method, Path string
	Params           json.RawMessage
	Query            map[string]any
	Encoding         string
	RequestHeaders   [][2]string `json:"request_headers"`
	RawBody          *string     `json:"raw_body"`
	RawRequest       string      `json:"raw_request"`
	Status           *int
	Reason           string
	Body             any
	T, MS            int
	Parallel         string
	ConnectError     string `json:"connect_error"`

	Task *struct {
		UPID, Type, ID, User, Exitstatus string
		Log                              []string
	}
	Event string

	at int // position in the sequence
}

// sequence is a state with the steps that follow it.
type sequence struct {
	state entry
	steps []*entry
}

// readRecorded reads one file.
func readRecorded(t *testing.T, name string) []*sequence {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []*sequence
	s := bufio.NewScanner(f)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		e := &entry{}
		if err := json.Unmarshal(s.Bytes(), e); err != nil {
			t.Fatalf("%s: %v in %.200s", name, err, s.Text())
		}
		if e.State != "" || e.Guests != nil {
			out = append(out, &sequence{state: *e})
			continue
		}
		if len(out) == 0 {
			t.Fatalf("%s: no state before %.200s", name, s.Text())
		}
		q := out[len(out)-1]
		e.at = len(q.steps)
		q.steps = append(q.steps, e)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRecordedExchangesAgree replays what was recorded from a real Proxmox VE
// API: from the state that a sequence names, every request at its time, and
// compares the answers, the results of the tasks and their logs. Another
// folder of recordings can be named by DAYFLY_RECORDED, from the repository's
// root; the floors do not hold for it.
func TestRecordedExchangesAgree(t *testing.T) {
	dir, foreign := os.Getenv("DAYFLY_RECORDED"), true
	sizes := map[string][2]int64{}
	switch {
	case dir == "":
		dir, foreign = shared(t, "recorded"), false
	case !filepath.IsAbs(dir):
		dir = filepath.Join("..", "..", "..", dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("recordings in %s: none (%v)", dir, err)
	}
	sort.Strings(files)
	if foreign { // a part of what was recorded need not tell the sizes
		usual, _ := filepath.Glob(filepath.Join("..", "..", "..", "..", "shared", "data", "pve", "recorded", "*.jsonl"))
		for _, f := range usual {
			learnSizes(sizes, readRecorded(t, f))
		}
	}
	all := map[string][]*sequence{}
	for _, f := range files {
		all[f] = readRecorded(t, f)
		learnSizes(sizes, all[f])
	}
	agree, total := 0, 0
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".jsonl")
		a, n, differences := 0, 0, []string(nil)
		for _, q := range all[f] {
			synctest.Test(t, func(t *testing.T) {
				p := newReplay(t, q, sizes)
				p.run()
				a, n, differences = a+p.agree, n+p.total, append(differences, p.differences...)
			})
		}
		fmt.Printf("recorded: agree %d of %d: %s\n", a, n, name)
		agree, total = agree+a, total+n
		for _, d := range differences {
			t.Log(name + " " + d)
		}
		if !foreign && a < recordedFloor[name] {
			t.Errorf("%s: got %d that agree, want at least %d", name, a, recordedFloor[name])
		}
	}
	for name := range recordedFloor {
		if _, there := all[filepath.Join(dir, name+".jsonl")]; !there && !foreign {
			t.Errorf("%s: its recording is not there", name)
		}
	}
	fmt.Printf("recorded: agree %d of %d\n", agree, total)
}

// learnSizes takes the sizes of the storages from what they were listed with:
// the state lines do not have them.
func learnSizes(sizes map[string][2]int64, qs []*sequence) {
	for _, q := range qs {
		for _, e := range q.steps {
			total, used := "total", "used"
			switch {
			case e.Status == nil || *e.Status != 200:
				continue
			case strings.HasPrefix(e.Path, "/api2/json/cluster/resources"):
				total, used = "maxdisk", "disk"
			case !strings.HasSuffix(e.Path, "/storage") || !strings.Contains(e.Path, "/nodes/"):
				continue
			}
			m, _ := e.Body.(map[string]any)
			rows, _ := m["data"].([]any)
			for _, r := range rows {
				row, _ := r.(map[string]any)
				if size, ok := row[total].(float64); ok && row["storage"] != nil {
					taken, _ := row[used].(float64)
					sizes[fmt.Sprint(row["storage"])] = [2]int64{int64(size), int64(taken)}
				}
			}
		}
	}
}
