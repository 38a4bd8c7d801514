package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// untilFull writes until a call fails and returns how many did not. Each
// writes enough that it takes some hundreds of them to fill a megabyte.
func untilFull(ctx context.Context, j *journal.Journal, from int64) (n int64, err error) {
	for n = from; err == nil; n++ {
		job := queued(fleet.JobID(n + 1))
		job.Name = strings.Repeat("x", 2000)
		_, err = j.Accept(ctx, journal.Delivery{GUID: fmt.Sprint(n), Source: "webhook", Received: noon, Job: job})
		if n > 100000 {
			return n, errors.New("never full")
		}
	}
	return n - 1, err
}

// checkFull runs a journal into a full disk: every write says so, nothing that
// was acknowledged is lost, reads go on, and once there is room again it writes
// again.
func checkFull(j *journal.Journal, room func() error) error {
	ctx := context.Background()
	n, err := untilFull(ctx, j, 0)
	if !errors.Is(err, journal.ErrFull) {
		return fmt.Errorf("after %d deliveries: %v, want ErrFull", n, err)
	}
	_, begun := j.Begin(ctx, fleet.Action{Kind: fleet.Clone, Reason: strings.Repeat("y", 2000)}, fleet.Runner{Name: "a"})
	_, recorded := j.Record(ctx, "poll", noon, []fleet.Job{{ID: 99999, Name: strings.Repeat("z", 70000), Status: fleet.Queued}})
	put := j.Put(ctx, "key", make([]byte, 70000))
	for i, err := range []error{begun, recorded, put} {
		if i > 0 && !errors.Is(err, journal.ErrFull) || err != nil && !errors.Is(err, journal.ErrFull) {
			return fmt.Errorf("write %d on a full disk: %v, want ErrFull", i, err)
		}
	}
	if got := int64(len(j.OpenJobs())); got != n {
		return fmt.Errorf("%d open jobs in memory, %d were accepted", got, n)
	}
	if _, known, err := j.Job(ctx, fleet.JobID(n)); err != nil || !known {
		return fmt.Errorf("read on a full disk: known %v, error %v", known, err)
	}
	if err := room(); err != nil {
		return err
	}
	if err := j.Put(ctx, "key", make([]byte, 70000)); err != nil {
		return fmt.Errorf("write with room again: %w", err)
	}
	rows, err := j.Rows(ctx)
	if s := j.Stats(); err != nil || rows.Jobs != n || s.Commits.Failed == 0 {
		return fmt.Errorf("rows %+v, error %v, stats %+v; want %d jobs and failed commits", rows, err, s, n)
	}
	return nil
}

func TestFullDiskIsReportedAndLeft(t *testing.T) {
	cmd := spawn(t, "fill disk", filepath.Join(t.TempDir(), "journal"))
	// A mount namespace of the child's own: the small file system is gone with
	// the child, however it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), noMount) {
		t.Skipf("cannot mount a small file system (%v %s); TestFileSizeLimitIsAFullDisk covers the rest", err, out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

const noMount = "mount refused"

// fillSmallDisk runs checkFull on a file system of a megabyte, then opens a new
// journal on it when it is full.
func fillSmallDisk(path string) error {
	dir := filepath.Dir(path)
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return refused(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return refused(err)
	}
	ctx := context.Background()
	j, err := journal.Open(ctx, path, journal.Options{})
	if err != nil {
		return err
	}
	err = checkFull(j, func() error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=8m") })
	if err := errors.Join(err, j.Close()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 16<<20), 0o600); err == nil {
		return errors.New("the file system did not fill")
	}
	if _, err := journal.Open(ctx, filepath.Join(dir, "another"), journal.Options{}); !errors.Is(err, journal.ErrFull) {
		return fmt.Errorf("open a new journal on a full disk: %v, want ErrFull", err)
	}
	return nil
}

func refused(err error) error {
	fmt.Println(noMount)
	return err
}

func TestFileSizeLimitIsAFullDisk(t *testing.T) {
	if out, err := spawn(t, "fill limit", filepath.Join(scratch(t), "journal")).Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fillUnderLimit runs checkFull under a limit of the process's files.
func fillUnderLimit(path string) error {
	j, err := journal.Open(context.Background(), path, journal.Options{})
	if err != nil {
		return err
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 1 << 20, Max: was.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	err = checkFull(j, func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was) })
	return errors.Join(err, j.Close())
}
