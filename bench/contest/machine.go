package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is where a contest took place.
type machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Memory     int64  `json:"memory_bytes"`
	System     string `json:"system"`
	Kernel     string `json:"kernel"`
	Server     string `json:"server_processors"` // that the contestants ran on
	Rest       string `json:"other_processors"`  // that everything else ran on
}

func thisMachine(server, rest string) machine {
	m := machine{
		CPU: procField("/proc/cpuinfo", "model name"), Processors: runtime.NumCPU(), Server: server, Rest: rest,
		System: "Linux", Kernel: runtime.GOARCH,
	}
	if kib, _, found := strings.Cut(procField("/proc/meminfo", "MemTotal"), " "); found {
		n, _ := strconv.ParseInt(kib, 10, 64)
		m.Memory = n << 10
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, found := strings.CutPrefix(line, "PRETTY_NAME="); found {
				m.System = strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + runtime.GOARCH
	}
	return m
}

// procField is the value of the first "name : value" in a file of /proc.
func procField(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// processors divides those that this process may run on: the last is the server's, all others are for everything else. With one
// there is nothing to divide, and both are empty.
func processors() (server, rest string) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || set.Count() < 2 {
		return "", ""
	}
	var all []string
	for i := 0; len(all) < set.Count(); i++ {
		if set.IsSet(i) {
			all = append(all, strconv.Itoa(i))
		}
	}
	last := len(all) - 1
	return all[last], strings.Join(all[:last], ",")
}

// stayOn has this process, and what it starts without saying otherwise, run on the given processors.
func stayOn(processors string) error {
	var set unix.CPUSet
	for one := range strings.SplitSeq(processors, ",") {
		n, err := strconv.Atoi(one)
		if err != nil {
			return err
		}
		set.Set(n)
	}
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return err
		}
	}
	return nil
}

// tools are the generators, in the versions that are there.
func tools(ctx context.Context) (all []program) {
	for _, p := range [][]string{{"wrk", "-v"}, {"h2load", "--version"}, {"redis-server", "--version"}} {
		out, _ := exec.CommandContext(ctx, p[0], p[1:]...).CombinedOutput() // wrk -v ends with 1
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if p[0] == "wrk" {
			line, _, _ = strings.Cut(line, " [")
		}
		if line != "" {
			all = append(all, program{p[0], line})
		}
	}
	return append(all, program{"go", runtime.Version()})
}
