// Command bare is what the bench compares the daemon with: the least that a
// Go program on the network costs.
//
//	bare ADDRESS       answers every request with 202, doing nothing
//	bare URL N         asks for URL N times, with the client of net/http
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch len(args) {
	case 1:
		return http.ListenAndServe(args[0], http.HandlerFunc(accept))
	case 2:
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return ask(args[0], n)
	}
	return fmt.Errorf("want ADDRESS, or URL and N")
}

func accept(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client went away
	}
	w.WriteHeader(http.StatusAccepted)
}

func ask(url string, n int) error {
	for range n {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
