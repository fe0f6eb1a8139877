package redistest

import (
	"os"
	"syscall"
)

func (s *Server) start() error {
	write, args := s.writeConfig, s.options.Args
	if s.options.watches != 0 {
		write, args = s.writeSentinelConfig, []string{"--sentinel"}
	}
	config, err := write()
	if err != nil {
		return err
	}
	p, err := startProcess(s.binary, append([]string{config}, args...)...)
	if err != nil {
		return err
	}
	s.process = p
	return nil
}

// Stop ends the server in order: it saves its data, then exits. It does nothing when the server is not running.
func (s *Server) Stop() {
	s.t.Helper()
	if s.process == nil {
		return
	}
	// A paused process takes no signal but SIGKILL until it runs again.
	s.signal(syscall.SIGCONT)
	s.signal(syscall.SIGTERM)
	if !s.process.wait() {
		s.t.Errorf("redistest: redis-server did not stop when told to:\n%s", s.process.log())
		s.process.kill()
	}
	s.process = nil
}

// Kill ends the server as a crash would: connections are reset and what was not on disk is lost, which is everything
// unless the server was started with "--appendonly" "yes" or was stopped in order before.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Restart starts the server again on the same port and socket, with the data that it last saved; a running server is
// stopped in order first. It returns when the server accepts connections.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: redis-server does not start again on %s: %v", s.Addr(), err)
	}
}

// Args adds redis-server arguments, from the next start on.
func (s *Server) Args(args ...string) { s.options.Args = append(s.options.Args, args...) }

// RestartEmpty is Restart after a crash that lost the disk too: the server comes back with nothing.
func (s *Server) RestartEmpty() {
	s.t.Helper()
	s.Kill()
	if err := os.RemoveAll(s.dataDir()); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
	if err := os.Mkdir(s.dataDir(), 0o700); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
	s.Restart()
}

// Pause stops the process where it is (SIGSTOP): the kernel goes on accepting connections and bytes for it, and nothing
// answers. It returns when the process has stopped.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	if err := waitStopped(s.Pid()); err != nil {
		s.t.Fatalf("redistest: waiting for redis-server to pause: %v", err)
	}
}

// Resume lets a paused process go on; it answers what has come meanwhile.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("redistest: %v for a server that is not running", sig)
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v to redis-server: %v\n%s", sig, err, s.process.log())
	}
}

// cleanup runs in any case, so nothing in it may depend on how far the test came.
func (s *Server) cleanup() {
	for _, c := range s.clients {
		c.Close() // an error says that the test closed it already
	}
	if s.t.Failed() && s.process != nil {
		s.t.Logf("redistest: log of redis-server %s:\n%s", s.Addr(), s.process.log())
	}
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Errorf("redistest: %v", err)
	}
}
