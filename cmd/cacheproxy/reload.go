package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
)

// A reload reads the configuration again from where the first was read, and puts a snapshot built of it in the place of the one before.
// Requests under way end with the snapshot with which they began. A configuration with mistakes changes nothing.
//
// It happens on SIGHUP, when the file has changed, and on POST /v1/reload.

// watchPause is between two looks at a file: the configuration's, and those of certificates.
const watchPause = time.Second

// reloaded is what a reload has done, and what POST /v1/reload answers.
type reloaded struct {
	Generation uint64   `json:"generation"`
	Changed    []string `json:"changed"`       // top-level keys
	Restart    []string `json:"needs_restart"` // keys that have changed in the file and not in the process
}

// reload reads, checks and swaps; why says on the log what it was for. The error is config.Mistakes where the configuration has some.
func (s *server) reload(why string) (*reloaded, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.left {
		return nil, errors.New("the process is ending")
	}
	before := s.current.Load()
	next, result, err := s.next(before)
	if err != nil {
		s.metrics.Reload("refused")
		s.log.Error("the configuration was not reloaded: the one before stays", "why", why, "error", err.Error(), "generation", before.generation)
		return nil, err
	}
	s.current.Store(next)
	s.limiter.Adopt(next.limits)
	s.metrics.Reload("ok")
	s.metrics.Generation(next.generation)
	s.leaving.retire(before, s.log)
	attributes := []any{"why", why, "generation", next.generation, "changed", result.Changed}
	if len(result.Restart) > 0 {
		s.log.Warn("the configuration was reloaded, but for what needs a restart", append(attributes, "needs_restart", result.Restart)...)
	} else {
		s.log.Info("the configuration was reloaded", attributes...)
	}
	return result, nil
}

// next builds the snapshot that follows.
func (s *server) next(before *snapshot) (*snapshot, *reloaded, error) {
	loaded, err := s.load()
	if err != nil {
		return nil, nil, err
	}
	restart := loaded.Config.Keep(before.config)
	next, err := build(loaded, before.generation+1, s.parts)
	if err != nil {
		return nil, nil, err
	}
	live, err := liveOf(loaded.Config)
	if err != nil {
		return nil, nil, err
	}
	s.gate.Adopt(live)
	result := &reloaded{Generation: next.generation, Changed: loaded.Config.Changed(before.config), Restart: restart}
	return next, result, nil
}

// watch reloads when the file at path has other bytes than those known, for two looks in a row: it may be in the middle of being written.
// Bytes that were refused are not tried again.
func (s *server) watch(path string, known []byte) {
	seen := known
	for {
		sleep(s.ending, watchPause)
		if s.ending.Err() != nil {
			return
		}
		text, err := os.ReadFile(path)
		if err == nil && bytes.Equal(text, seen) && !bytes.Equal(text, known) {
			known = text
			_, _ = s.reload("the file has changed") // it says itself what went wrong
		}
		if err == nil {
			seen = text
		}
	}
}

// reloadRoute answers POST /v1/reload.
func (s *server) reloadRoute(w http.ResponseWriter, _ *http.Request) {
	result, err := s.reload("asked for")
	var mistakes config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		admin.WriteProblem(w, http.StatusUnprocessableEntity, "the configuration has mistakes: the one before stays", map[string]any{"mistakes": mistakes})
	case err != nil:
		admin.WriteProblem(w, http.StatusInternalServerError, err.Error(), nil)
	default:
		admin.WriteJSON(w, http.StatusOK, result)
	}
}

// retirement keeps the snapshots whose place another has taken until their requests have ended.
type retirement struct {
	mu   sync.Mutex
	old  map[*snapshot]bool
	work sync.WaitGroup
	cut  chan struct{} // closed when those that are left are to end now
}

// cutPatience is how long requests that were cut have to be counted and logged.
const cutPatience = time.Second

// retire closes the snapshot as soon as nobody uses it.
func (r *retirement) retire(s *snapshot, log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old == nil {
		r.old = map[*snapshot]bool{}
	}
	r.old[s] = true
	s.retire()
	r.work.Go(func() {
		select {
		case <-s.unused:
		case <-r.cut:
		}
		if err := s.close(context.Background()); err != nil {
			log.Warn("a configuration that is not used any more did not end well", "generation", s.generation, "error", err.Error())
		}
		timer := time.NewTimer(cutPatience)
		defer timer.Stop()
		select {
		case <-s.unused:
		case <-timer.C:
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.old, s)
	})
}

// tell tells the long-lived connections of all of them that the process is ending.
func (r *retirement) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.old {
		s.proxy.Leave()
	}
}

// wait waits until all have been closed; when ctx ends, requests that are left are cut.
func (r *retirement) wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { close(r.cut) })
	defer stop()
	r.work.Wait()
}
