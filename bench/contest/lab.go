package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cacheproxy/bench/body"
)

// lab is where a contest takes place: directories, programs, the origin, and which processor is whose.
type lab struct {
	dir    string // of everything that ends with the contest; short, for it holds sockets
	memory string // a directory on tmpfs, for caches and logs of generators
	server string // the processor of the contestants; "" = any
	rest   string // those of everything else
	root   string // of this repository
	bench  string // the directory of this module

	programs map[*contestant]string // that were found or built
	loadgen  string
	origin   *instance
	originAt int // port
	certs    certificates
	files    int    // that what is started may have open
	ids      uint64 // resources that nobody has asked for yet begin here
	ports    map[int]bool
}

const loopback = "127.0.0.1"

// newLab makes the directories, builds the generator and starts the origin.
func newLab(ctx context.Context, root string) (_ *lab, err error) {
	l := &lab{root: root, bench: filepath.Join(root, "bench"), programs: map[*contestant]string{}, ports: map[int]bool{}, ids: 1 << 32, files: mostFiles()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "contest"); err != nil {
		return nil, err
	}
	onTmpfs := "/dev/shm"
	if free := freeBytes(onTmpfs); free < roomy {
		fmt.Fprintf(os.Stderr, "%s has %d MiB free, and caches may need %d: they are in %s instead\n", onTmpfs, free>>20, int64(roomy)>>20, l.dir)
		onTmpfs = l.dir
	}
	if l.memory, err = os.MkdirTemp(onTmpfs, "contest"); err != nil {
		return nil, err
	}
	for _, dir := range []string{l.dir, l.memory} { // contestants that give up root must come in
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if l.server, l.rest = processors(); l.rest != "" {
		if err := hold([]int{os.Getpid()}, l.rest); err != nil {
			return nil, err
		}
	}
	if l.certs, err = makeCertificates(l.dir); err != nil {
		return nil, err
	}
	if l.loadgen, err = l.build(ctx, "loadgen"); err != nil {
		return nil, err
	}
	return l, l.startOrigin(ctx)
}

// roomy is what the caches that are files, and logs, may need at the same time.
const roomy = 4 << 30

// freeBytes is how much a file system has left; 0 where it is not there.
func freeBytes(dir string) int64 {
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil {
		return 0
	}
	return int64(fs.Bavail) * fs.Bsize
}

// build makes a command of this module.
func (l *lab) build(ctx context.Context, name string) (program string, err error) {
	program = filepath.Join(l.dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./"+name)
	cmd.Dir = l.bench
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("contest: building %s: %w\n%s", name, err, out)
	}
	return program, nil
}

func (l *lab) close() error {
	var errs []error
	if l.origin != nil {
		errs = append(errs, l.origin.stop())
	}
	for _, dir := range []string{l.dir, l.memory} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// slowness is how long the origin takes for a slow resource.
const slowness = time.Second

// startOrigin starts the upstream of all contestants.
func (l *lab) startOrigin(ctx context.Context) error {
	program, err := l.build(ctx, "origin")
	if err != nil {
		return err
	}
	if l.originAt, err = l.port(); err != nil {
		return err
	}
	p, err := startProcess(l.dir, "origin.out", []string{program, "-as", "origin", "-listen", address(l.originAt), "-slow", slowness.String()}, l.restCore())
	if err != nil {
		return err
	}
	l.origin = &instance{processes: []*process{p}}
	// It shares its processor with generators, which must not keep it from answering.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, p.group(), -10) // as root alone
	return l.origin.accepts(ctx, loopback, l.originAt)
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// restCore and serverCore are for startProcess.
func (l *lab) restCore() int { return core(l.rest) }

func (l *lab) serverCore() int { return core(l.server) }

// core is the first of a list, -1 for none.
func core(list string) int {
	first, _, _ := strings.Cut(list, ",")
	n, err := strconv.Atoi(first)
	if err != nil {
		return -1
	}
	return n
}

// asked is what the origin has counted.
type asked struct {
	Requests int64 `json:"requests"`
	Slow     int64 `json:"slow"`
}

func (l *lab) asked(ctx context.Context) (a asked, err error) {
	text, err := fetch(ctx, "http://"+address(l.originAt)+"/counts")
	if err == nil {
		err = json.Unmarshal([]byte(text), &a)
	}
	if err != nil {
		err = fmt.Errorf("contest: asking the origin what it has counted: %w", err)
	}
	return a, err
}

// port is one that nobody listens on.
func (l *lab) port() (int, error) {
	for range 100 {
		listener, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			return 0, err
		}
		port := listener.Addr().(*net.TCPAddr).Port
		if err := listener.Close(); err != nil {
			return 0, err
		}
		if !l.ports[port] {
			l.ports[port] = true
			return port, nil
		}
	}
	return 0, errors.New("contest: no port is free")
}

// fresh is the first of n resources that nobody has asked for yet.
func (l *lab) fresh(n uint64) uint64 {
	first := l.ids
	l.ids += n
	return first
}

// An entry is a contestant with the features that are on, as it runs.
type entry struct {
	c       *contestant
	with    []feature
	s       setup
	running *instance
	redis   *instance
	lacks   string // why it does not run
	in      string // what it is asked in, where that is something else than the others are
}

// variant names what is on beside what the stage is about.
func (e *entry) variant() string {
	names := []string{e.in}
	for _, f := range e.with {
		names = append(names, map[feature]string{accessLog: "access log", limiting: "limit", surviving: "warm"}[f])
	}
	return strings.Trim(strings.Join(names, " "), " ")
}

// setup is what an entry is started with: directories and ports of its own.
func (l *lab) setup(c *contestant, with []feature, objects uint64) (s setup, err error) {
	short := strings.NewReplacer("/", "").Replace(c.name)
	s = setup{
		Program: l.programs[c], Host: loopback, OriginHost: loopback, OriginPort: l.originAt, CertFile: l.certs.cert, KeyFile: l.certs.key, PEMFile: l.certs.pem,
		CacheMiB: 1 << 10, Files: l.files, With: map[feature]bool{}, LimitPerSecond: 10_000_000,
	}
	if objects >= million {
		s.CacheMiB = 3 << 10
	}
	for _, f := range with {
		s.With[f] = true
	}
	if s.Dir, err = os.MkdirTemp(l.dir, short); err != nil {
		return s, err
	}
	if s.CacheDir, err = os.MkdirTemp(l.memory, short); err != nil {
		return s, err
	}
	s.LogFile = filepath.Join(l.memory, filepath.Base(s.Dir)+".log")
	if err := os.WriteFile(s.LogFile, nil, 0o666); err != nil {
		return s, err
	}
	if err := os.Chmod(s.LogFile, 0o666); err != nil { // some write it as another user than root
		return s, err
	}
	for _, dir := range []string{s.Dir, s.CacheDir} {
		if err := os.Chmod(dir, 0o777); err != nil { // some give up root before they write
			return s, err
		}
	}
	for _, port := range []*int{&s.Port, &s.TLSPort, &s.AdminPort, &s.RedisPort} {
		if *port, err = l.port(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// start runs an entry, its Redis before it.
func (l *lab) start(ctx context.Context, e *entry) (err error) {
	if (e.s.With[inRedis] || e.s.With[surviving]) && e.c.supports([]feature{inRedis}) == "" && e.redis == nil {
		p, err := startProcess(e.s.Dir, "redis.out", []string{"redis-server", "--bind", loopback, "--port", strconv.Itoa(e.s.RedisPort), "--save", "", "--dir", e.s.Dir}, l.restCore())
		if err != nil {
			return err
		}
		e.redis = &instance{processes: []*process{p}}
		if err := e.redis.accepts(ctx, loopback, e.s.RedisPort); err != nil {
			return errors.Join(err, e.stop())
		}
	}
	if e.running, err = startInstance(ctx, e.c, e.s, l.serverCore()); err != nil {
		return errors.Join(err, e.stop())
	}
	return l.hold(e)
}

// hold keeps an entry on the server's processor, and its Redis on the others.
func (l *lab) hold(e *entry) error {
	err := hold(e.running.pids(), l.server)
	if e.redis != nil {
		err = errors.Join(err, hold(e.redis.pids(), l.rest))
	}
	return err
}

func (e *entry) stop() error {
	var errs []error
	for _, i := range []**instance{&e.running, &e.redis} {
		if *i != nil {
			errs = append(errs, (*i).stop())
			*i = nil
		}
	}
	return errors.Join(errs...)
}

// remove deletes what an entry has written. The files that it was configured with are kept where they can be read.
func (e *entry) remove() error {
	return errors.Join(os.RemoveAll(e.s.CacheDir), os.RemoveAll(e.s.LogFile))
}

// url is where the entry serves a resource.
func (e *entry) url(r body.Resource, tls bool) string {
	if tls && e.s.TLS() {
		return "https://" + net.JoinHostPort("localhost", strconv.Itoa(e.s.TLSPort)) + r.Path()
	}
	return "http://" + address(e.s.Port) + r.Path()
}

// supports says why a contestant cannot be measured with features; "" when it can.
func (c *contestant) supports(with []feature) string {
	for _, f := range with {
		if !slices.Contains(c.can, f) {
			if why := c.cannot[f]; why != "" {
				return why
			}
			return "has no such thing: " + string(f)
		}
	}
	return ""
}

// takesPart reports whether a contestant is one to be measured with features, or to be listed as lacking them.
func (c *contestant) takesPart(with []feature) bool {
	return c.needs == "" || slices.Contains(with, c.needs)
}

// ready waits until an entry answers with 200.
func (e *entry) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		err := answersOnce(ctx, url)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

func answersOnce(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := oneUse.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body) // whole: HAProxy, for one, never stores what was broken off once
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("contest: %s: %s", url, response.Status)
	}
	return nil
}
