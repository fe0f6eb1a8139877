package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where a contest took place.
type machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Memory     int64  `json:"memory_bytes"`
	System     string `json:"system"`
	Kernel     string `json:"kernel"`
	Server     string `json:"server_processors"`  // that the contestants ran on
	Rest       string `json:"other_processors"`   // that everything else ran on
	Shared     bool   `json:"one_core,omitempty"` // both are threads of one core: there is no other
}

func thisMachine(server, rest string) machine {
	m := machine{
		CPU: procField("/proc/cpuinfo", "model name"), Processors: runtime.NumCPU(), Server: server, Rest: rest, Shared: rest != "" && listed(siblings(server), strconv.Itoa(core(rest))),
		System: "Linux", Kernel: runtime.GOARCH,
	}
	m.Memory = procBytes(procField("/proc/meminfo", "MemTotal"))
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

// procBytes reads an amount of memory as /proc writes it, such as 24 kB; 0 where it is none.
func procBytes(text string) int64 {
	kib, _, _ := strings.Cut(text, " ")
	n, _ := strconv.ParseInt(kib, 10, 64)
	return n << 10
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

// processors divides those that this process may run on: the last is the server's, all others are for everything else, but for those that share a
// core with it. With one alone there is nothing to divide, and both are empty.
func processors() (server, rest string) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return "", ""
	}
	var all []string
	for i := 0; len(all) < set.Count(); i++ {
		if set.IsSet(i) {
			all = append(all, strconv.Itoa(i))
		}
	}
	if len(all) < 2 {
		return "", ""
	}
	server = all[len(all)-1]
	return server, besides(all, server, siblings(server))
}

// siblings is a list of the processors that share a core with one, and itself; "" where that is not told.
func siblings(processor string) string {
	list, _ := os.ReadFile("/sys/devices/system/cpu/cpu" + processor + "/topology/thread_siblings_list")
	return string(list)
}

// besides are all processors but the server's and those that share a core with it; where there is no other, those too, which is better than none.
func besides(all []string, server, siblings string) string {
	others := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == server || listed(siblings, p) })
	if len(others) == 0 {
		others = slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == server })
	}
	return strings.Join(others, ",")
}

// listed reports whether a list such as 0-3,8 has a processor.
func listed(list, processor string) bool {
	n, _ := strconv.Atoi(processor)
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, several := strings.Cut(part, "-")
		low, err := strconv.Atoi(first)
		high := low
		if several {
			high, _ = strconv.Atoi(last)
		}
		if err == nil && low <= n && n <= high {
			return true
		}
	}
	return false
}

// cpuSet reads a list of processors as processors makes it.
func cpuSet(list string) (set unix.CPUSet, err error) {
	for one := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(one)
		if err != nil {
			return set, err
		}
		set.Set(n)
	}
	return set, nil
}

// hold has all threads of processes run on the given processors alone, whatever they have chosen themselves: some servers bind their threads
// to processors of their own choice. It looks again until it has found none that was elsewhere.
func hold(pids []int, processors string) error {
	if processors == "" {
		return nil
	}
	set, err := cpuSet(processors)
	if err != nil {
		return err
	}
	for range 10 {
		strays := strays(pids, set)
		if len(strays) == 0 {
			return nil
		}
		for _, tid := range strays {
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("contest: keeping thread %d on processor %s: %w", tid, processors, err)
			}
		}
	}
	return fmt.Errorf("contest: threads do not stay on processor %s", processors)
}

// strays are the threads of processes that may run elsewhere.
func strays(pids []int, set unix.CPUSet) (found []int) {
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid)) // the pattern is a good one
		for _, t := range tasks {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				continue
			}
			var has unix.CPUSet
			if err := unix.SchedGetaffinity(tid, &has); err == nil && has != set {
				found = append(found, tid)
			}
		}
	}
	return found
}

// worked is the time that processors were not idle, as /proc/stat has it: by whomever it was, a hypervisor that took it away included.
func worked(processors string) (d time.Duration) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		field := strings.Fields(line)
		number, found := strings.CutPrefix(field[0], "cpu")
		if !found || number == "" || len(field) < 9 || !slices.Contains(strings.Split(processors, ","), number) {
			continue
		}
		for i := 1; i <= 8; i++ { // user nice system idle iowait irq softirq steal
			if n, err := strconv.ParseInt(field[i], 10, 64); err == nil && i != 4 && i != 5 {
				d += time.Duration(n) * tick
			}
		}
	}
	return d
}

// mostFiles lets what is started have as many open files as this process may allow, a connection being one, and says how many that are: enough for a
// hundred thousand files where it may be so many.
func mostFiles() int {
	const enough = 200_000
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1024 // what it is nearly everywhere
	}
	limit.Cur = min(limit.Max, enough)
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // less than the most is always allowed
	return int(limit.Cur)
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
