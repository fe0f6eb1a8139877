package main

import (
	"context"
	"embed"
	"os"
)

// A contestant is one who is measured: what must be installed for it, how it is configured and started, and how it says that it answers from
// its cache. Each is in a file of its own name, and its configuration in peers/.
type contestant struct {
	name string // in tables, plots and flags
	// program must be there: a name in PATH or /usr/sbin, or what build makes; pkg is the Debian package that has it.
	program, pkg string
	// build makes program in dir where it is not a package's. Nil: it is installed.
	build func(ctx context.Context, dir string) (program string, err error)
	// version says which one it is, in one line.
	version func(ctx context.Context, program string) (string, error)
	// files are rendered from peers/NAME into the directory of the instance, with a setup as the value of the templates.
	files []string
	// before are run one after the other to the end before the processes are started, in any directory. Nil: nothing is.
	before func(setup) [][]string
	// processes are run in the foreground, in Dir, in this order; the first answers clients at Port and does so before the others are started. All
	// are pinned to the server's core and counted.
	processes func(setup) [][]string
	// hits is its own counter of requests that it has answered from its cache since it was started. Nil: it has none, and why is in noHits.
	hits   func(ctx context.Context, s setup) (int64, error)
	noHits string
	// can says what it can be measured with, besides plain HTTP/1.1; cannot has the reason, by feature, of what it lacks and a reader might
	// expect it to have.
	can    []feature
	cannot map[feature]string
	// needs is a feature that it is nothing without: it is in no stage but those that have it. "": it is plain HTTP that everybody can.
	needs feature
	// fixed answers everything with the same bytes and has no cache: it stands beside tables of hits alone.
	fixed bool
}

// A feature is something that not everybody has, or that is not on by default.
type feature string

const (
	overTLS   feature = "tls"       // listens on TLSPort, HTTP/1.1
	overHTTP2 feature = "http2"     // HTTP/2 on TLSPort, by ALPN beside HTTP/1.1
	accessLog feature = "accesslog" // writes a line of each request to LogFile
	inRedis   feature = "redis"     // keeps what it stores in Redis alone
	limiting  feature = "limit"     // holds each client to a number of requests that it never reaches
	surviving feature = "restart"   // has, after it was stopped and started, what it stored seconds before

	// It is on wherever it can be.
	collapsing feature = "collapse" // asks the origin once for what several clients ask for at the same time
)

// setup is what templates of configurations, and commands, are told. Where a program gives up root, others than root must be able to enter Dir
// and CacheDir. A path of more than 60 bytes is too long for the sockets that some make in Dir.
type setup struct {
	Program  string // as found
	Dir      string // for everything that it writes; made new for each start
	CacheDir string // the same, on tmpfs and kept over a restart; empty at first
	Host     string // 127.0.0.1
	Port     int    // plain HTTP
	TLSPort  int
	// AdminPort is for its own counters, where they are asked for by HTTP.
	AdminPort         int
	OriginHost        string // 127.0.0.1
	OriginPort        int
	CertFile, KeyFile string // of localhost; PEMFile has both
	PEMFile           string
	CacheMiB          int  // how much it may keep
	Size              int  // of the body of a fixed contestant
	Validating        bool // it is asked with If-None-Match: for a fixed contestant
	With              map[feature]bool
	LogFile           string
	RedisPort         int // with inRedis, or with surviving
	LimitPerSecond    int // with limiting
	Files             int // how many it may have open
}

// Has says whether f is asked for; templates cannot index With, whose keys are no strings.
func (s setup) Has(f string) bool { return s.With[feature(f)] }

// TLS says whether TLSPort is to be listened at.
func (s setup) TLS() bool { return s.With[overTLS] || s.With[overHTTP2] }

// OpenFiles is how many of Files are for those of a cache; the others are for connections.
func (s setup) OpenFiles() int { return s.Files / 4 * 3 }

// Root says whether contestants are started as root, which some do not want to stay.
func (s setup) Root() bool { return os.Geteuid() == 0 }

//go:embed peers
var peerFiles embed.FS
