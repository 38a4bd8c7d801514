package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait of the scripts.
const patience = time.Minute

// serviceCmds are the script commands that start the daemon as systemd would.
var serviceCmds = map[string]func(*testscript.TestScript, bool, []string){
	"service":  startService,
	"signal":   signalService,
	"activate": activateService,
	"fetch":    fetch,
	"port":     freePort,
	"rsakey":   writeKey,
}

// service is a running daemon and what it told systemd.
type service struct {
	cmd    *exec.Cmd
	told   *net.UnixConn
	stderr bytes.Buffer // read after exit only
	exit   chan error
}

type serviceKey struct{}

// startService runs a command with a notification socket and waits until it
// is ready and, since it has a watchdog, healthy: "service dayfly run".
func startService(ts *testscript.TestScript, _ bool, args []string) {
	launchService(ts, args, nil)
}

func launchService(ts *testscript.TestScript, args []string, files []*os.File) *service {
	s := &service{exit: make(chan error, 1)}
	path := ts.MkAbs("notify.sock")
	_ = os.Remove(path)
	var err error
	s.told, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	program, err := exec.LookPath(args[0])
	ts.Check(err)
	s.cmd = exec.Command(program, args[1:]...)
	s.cmd.Dir = ts.MkAbs(".")
	s.cmd.Env = []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=2000000", "PATH=" + ts.Getenv("PATH"), "CREDENTIALS_DIRECTORY=" + ts.Getenv("CREDENTIALS_DIRECTORY")}
	s.cmd.Stderr = &s.stderr
	s.cmd.ExtraFiles = files
	ts.Check(s.cmd.Start())
	ended := make(chan struct{})
	go func() {
		s.exit <- s.cmd.Wait()
		close(ended)
		_ = s.told.SetReadDeadline(time.Unix(1, 0)) // nobody speaks any more
	}()
	ts.Defer(func() {
		_ = s.cmd.Process.Kill()
		<-ended
		s.told.Close()
	})
	*ts.Value(serviceKey{}).(**service) = s
	s.await(ts, "READY=1")
	s.await(ts, "WATCHDOG=1")
	return s
}

// await waits until systemd was told state.
func (s *service) await(ts *testscript.TestScript, state string) {
	buf := make([]byte, 4096)
	if len(s.exit) == 0 {
		_ = s.told.SetReadDeadline(time.Now().Add(patience))
	}
	for {
		n, err := s.told.Read(buf)
		if err != nil {
			_ = s.cmd.Process.Kill()
			ts.Fatalf("systemd was not told %s: %v; exit: %v\n%s", state, err, <-s.exit, s.stderr.String())
		}
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), state) {
			return
		}
	}
}

// signalService sends the last service a signal, waits for its end and leaves
// its exit code and standard error in files: "signal TERM".
func signalService(ts *testscript.TestScript, _ bool, args []string) {
	s := *ts.Value(serviceKey{}).(**service)
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	began := time.Now()
	ts.Check(s.cmd.Process.Signal(signals[args[0]]))
	if args[0] != "KILL" {
		s.await(ts, "STOPPING=1")
	}
	select {
	case <-s.exit:
	case <-time.After(patience):
		ts.Fatalf("%s does not end it\n%s", args[0], s.stderr.String())
	}
	if took := time.Since(began); took > 8*time.Second { // 2 s, on a machine that has time for it
		ts.Fatalf("%s took %v", args[0], took)
	}
	ts.Check(os.WriteFile(ts.MkAbs("exit"), []byte(strconv.Itoa(s.cmd.ProcessState.ExitCode())+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("log"), s.stderr.Bytes(), 0o600))
}

// activateService starts the daemon with a TCP and a Unix socket that systemd
// would have opened, and asks it over both: "activate CONFIG".
func activateService(ts *testscript.TestScript, _ bool, args []string) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer tcp.Close()
	unix, err := net.Listen("unix", ts.Getenv("DAYFLY_SOCKET"))
	ts.Check(err)
	unix.(*net.UnixListener).SetUnlinkOnClose(false) // systemd does not either
	defer unix.Close()
	tcpFile, err := tcp.(*net.TCPListener).File()
	ts.Check(err)
	unixFile, err := unix.(*net.UnixListener).File()
	ts.Check(err)
	defer tcpFile.Close()
	defer unixFile.Close()
	// The process id must be the daemon's own: the shell becomes it.
	launchService(ts, []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=2 exec dayfly run --config "$0"`, args[0]}, []*os.File{tcpFile, unixFile})
	ts.Setenv("ADDRESS", tcp.Addr().String())
}

// fetch gets a URL and compares the status: "fetch 200 http://…".
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Get(args[1])
	ts.Check(err)
	defer resp.Body.Close()
	if got := strconv.Itoa(resp.StatusCode); got != args[0] {
		ts.Fatalf("GET %s: %s, want %s", args[1], resp.Status, args[0])
	}
	line, _ := bufio.NewReader(resp.Body).ReadString('\n')
	ts.Logf("%s", line)
}

// freePort sets a variable to a TCP port that nobody listens on: "port NAME".
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// appKey is one RSA key for all scripts.
var appKey = sync.OnceValue(func() []byte {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
})

// writeKey writes an App's private key: "rsakey FILE".
func writeKey(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), appKey(), 0o600))
}

func TestInstanceKeyIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instance.key")
	first, err := instanceKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := instanceKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Reveal() != again.Reveal() || len(first.Reveal()) != 2*keyBytes {
		t.Errorf("got %d and %d hex digits, want the same %d twice", len(first.Reveal()), len(again.Reveal()), 2*keyBytes)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInstanceKeyIsNeverReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instance.key")
	for _, text := range []string{"", "abcd\n", strings.Repeat("z", 2*keyBytes)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := instanceKey(path); err == nil {
			t.Errorf("key %q is accepted", text)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("key %q was replaced by %q", text, got)
		}
	}
}
