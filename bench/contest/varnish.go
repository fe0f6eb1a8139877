package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// varnish keeps responses in memory of its own. It has no TLS; hitch, which its makers advise, stands before it where that is asked for.
var varnish = contestant{
	name:    "varnish",
	program: "varnishd",
	pkg:     "varnish hitch",
	version: varnishVersion,
	files:   []string{"default.vcl", "hitch.conf"},
	processes: func(s setup) [][]string {
		all := [][]string{varnishd(s)}
		if s.TLS() {
			all = append(all, []string{"hitch", "--config=" + filepath.Join(s.Dir, "hitch.conf")})
		}
		if s.With[accessLog] {
			// [log] it reads the log that varnishd keeps in shared memory at all times: -a appends, -w names the file.
			all = append(all, []string{"varnishncsa", "-n", varnishName(s), "-a", "-w", s.LogFile})
		}
		return all
	},
	hits: varnishHits,
	can:  []feature{overTLS, overHTTP2, accessLog, collapsing},
	cannot: map[feature]string{
		inRedis:   "its stores are memory and files",
		limiting:  "vmod vsthrottle is in a package of its own, varnish-modules",
		surviving: "malloc is lost, and the file store is emptied at each start; only the deprecated persistent one is not",
	},
}

// varnishVersion is its own and, where that is there, hitch's.
func varnishVersion(ctx context.Context, program string) (string, error) {
	version, err := versionLine("varnish-", "-V")(ctx, program)
	if found, missing := find("hitch"); missing == nil {
		if hitch, err := versionLine("hitch", "--version")(ctx, found); err == nil {
			version += ", " + hitch
		}
	}
	return version, err
}

// varnishName is where varnishd keeps its shared memory. [ref] "in performance critical applications, this directory should be on
// a RAM backed filesystem".
func varnishName(s setup) string { return filepath.Join(s.CacheDir, "varnish") }

// varnishd is the command.
//
// Guides, all in Varnish's own documentation: [ref] "varnishd", options and run time parameters; [store] "Storage backends" in the users' guide;
// [log] "varnishncsa"; [tls] "Configuring Hitch" in hitch's.
func varnishd(s setup) []string {
	argv := []string{
		s.Program,
		"-F",                 // [ref] the foreground
		"-n", varnishName(s), // [ref] its own directory, in memory
		"-f", s.Dir + "/default.vcl",
		"-a", fmt.Sprintf("%s:%d", s.Host, s.Port), // [ref] HTTP/1, and with +http2 also 2 for those who begin with it
		"-s", fmt.Sprintf("default=malloc,%dM", s.CacheMiB), // [store] "bound by memory speed so it is very fast"
		"-s", "Transient=malloc,64M", // [store] what is short-lived; [ref] or may not be stored; unbounded by default
		"-j", "none", // [ref] "last resort": as whoever starts it; else root becomes another user, who could not read the files
		"-T", "none", // [ref] no management port
		"-p", "thread_pools=1", // [ref] "more than one pool for each CPU is most likely detrimental"; 2 by default
		"-p", "thread_pool_min=200", // [ref] made ahead, to "ramp up faster from low load situations"; 100 by default
		"-p", "thread_pool_max=2000", // [ref] "do not set this higher than you have to"; 5,000 by default
		"-p", "listen_depth=4096", // [ref] connections that wait to be accepted; 1,024 by default
		"-p", "timeout_idle=60", // [ref] of a client's connection; 5 s by default
		"-p", "backend_idle_timeout=60", // [ref] the default
	}
	mask := unread
	if !s.With[accessLog] {
		mask += "," + unreadToo
	}
	argv = append(argv, "-p", "vsl_mask="+mask)
	if s.With[overHTTP2] {
		argv = append(argv, "-p", "feature=+http2") // [ref] off by default
	}
	if s.TLS() {
		// [tls] a socket for hitch, which tells with the PROXY protocol who the client is and what it has chosen by ALPN.
		argv = append(argv, "-a", "tls="+varnishSocket(s)+",PROXY,mode=666")
	}
	return argv
}

// unread is what is said of each request in the log in shared memory and varnishncsa does not read, and unreadToo what it does. [ref] vsl_mask,
// "mask individual VSL messages from being logged". What nobody reads need not be written.
const (
	unread    = "-VCL_call,-VCL_return,-VCL_use,-Hit,-Filters,-RespHeader,-RespUnset,-ReqUnset,-SessOpen,-SessClose"
	unreadToo = "-BereqMethod,-BereqURL,-BereqProtocol,-BereqHeader,-BereqUnset,-BereqAcct,-BerespProtocol,-BerespStatus,-BerespReason,-BerespHeader," +
		"-BackendOpen,-BackendReuse,-BackendClose,-BackendStart,-Fetch_Body,-Storage,-TTL,-Length,-ExpKill," +
		"-Begin,-End,-Link,-Timestamp,-ReqStart,-ReqMethod,-ReqURL,-ReqProtocol,-ReqHeader,-ReqAcct,-RespProtocol,-RespStatus,-RespReason"
)

func varnishSocket(s setup) string { return filepath.Join(s.Dir, "v.sock") }

// varnishHits reads MAIN.cache_hit, "count of cache hits", which its threads add to it now and then: when they go idle, or have done enough.
func varnishHits(ctx context.Context, s setup) (int64, error) {
	out, err := exec.CommandContext(ctx, "varnishstat", "-n", varnishName(s), "-1", "-f", "MAIN.cache_hit").Output()
	if err != nil {
		return 0, fmt.Errorf("contest: varnishstat: %w", err)
	}
	fields := strings.Fields(string(out)) // name, value, change a second, description
	if len(fields) < 2 {
		return 0, fmt.Errorf("contest: varnishstat: no counter in %q", out)
	}
	return strconv.ParseInt(fields[1], 10, 64)
}
