package store

import "time"

// What waits to be saved has room for Options.SaveBytes. A save that finds none is dropped. An upload may wait for some to be free.

// reserve takes n bytes of what may wait to be saved.
func (s *saver) reserve(n int64) bool {
	if s.bytes.Add(n) > s.maxBytes {
		s.bytes.Add(-n)
		return false
	}
	return true
}

// release gives n bytes back.
func (s *saver) release(n int64) {
	s.bytes.Add(-n)
	s.wakeUploads()
}

func (s *saver) wakeUploads() {
	if s.waiting.Load() == 0 {
		return
	}
	select {
	case s.freed <- struct{}{}:
	default: // somebody is about to look
	}
}

// reserveWithin is reserve for one that may wait, and returns what is left of its patience.
func (s *saver) reserveWithin(n int64, patience time.Duration) (left time.Duration, ok bool) {
	if s.reserve(n) {
		return patience, true
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	end := time.Now().Add(patience)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for !s.reserve(n) { // looked at again after waiting was counted, so that nothing is missed
		select {
		case <-s.freed:
		case <-timer.C:
			return 0, false
		case <-s.kill.Done():
			return 0, false
		}
	}
	s.wakeUploads() // there may be room for another
	return time.Until(end), true
}

// admit reserves what a save weighs. That of an uploaded body may wait, as its chunks have.
func (s *saver) admit(t *task) (ok bool) {
	if t.upload == nil {
		return s.reserve(t.size())
	}
	t.upload.patient, ok = s.reserveWithin(t.size(), t.upload.patient)
	return ok
}
