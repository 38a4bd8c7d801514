package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// diag is a file in _diag, "Runner_20261125-101112-utc.log".
type diag struct{ *os.File }

func openDiag(root, kind string) (*diag, error) {
	dir := filepath.Join(root, "_diag")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	name := kind + "_" + time.Now().UTC().Format("20060102-150405") + "-utc.log"
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	return &diag{f}, err
}

// say adds a line, "[2026-11-25 10:11:12Z INFO Runner] text".
func (d *diag) say(level, format string, args ...any) {
	fmt.Fprintf(d, "[%s %s Runner] %s\n", time.Now().UTC().Format("2006-01-02 15:04:05Z"), level, fmt.Sprintf(format, args...))
}
