//go:build linux

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// contract refuses who speaks another one, and says which this is.
func (s *Server) contract(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(contractHeader, strconv.Itoa(Contract))
		w.Header().Set("Content-Type", "application/json")
		if got := r.Header.Get(contractHeader); got != strconv.Itoa(Contract) {
			fail(w, fmt.Errorf("contract %.8q, this root half speaks %d: %w", got, Contract, fleet.ErrInvalid))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		next.ServeHTTP(w, r)
	})
}

// answer makes a handler of a question.
func (s *Server) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			fail(w, err)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
}

// bounded makes a handler of work on a container.
func (s *Server) bounded(f func(*http.Request, fleet.VMID) (any, error)) http.HandlerFunc {
	return s.answer(func(r *http.Request) (any, error) {
		n, err := strconv.ParseUint(r.PathValue("vmid"), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("VMID %.20q: %w", r.PathValue("vmid"), fleet.ErrInvalid)
		}
		select {
		case s.requests <- struct{}{}:
			defer func() { <-s.requests }()
		case <-r.Context().Done():
			return nil, fmt.Errorf("too much at once: %w", fleet.ErrUnavailable)
		}
		return f(r, fleet.VMID(n))
	})
}

// decode reads a request's body strictly.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return fmt.Errorf("request: %w: %w", err, fleet.ErrInvalid)
	}
	return nil
}

// fail answers with an error and its kind. What has no kind may have had an
// effect.
func fail(w http.ResponseWriter, err error) {
	kind := kinds[len(kinds)-1]
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			kind = k
			break
		}
	}
	w.WriteHeader(kind.status)
	_ = json.NewEncoder(w).Encode(failure{err.Error(), kind.name})
}
