package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is the processor time that processes have taken. All is exact to the microsecond; User and System are as the kernel has sampled them, in ticks,
// and only their proportion is of use: split.
type usage struct {
	User, System, All time.Duration
}

func (u usage) sub(v usage) usage { return usage{u.User - v.User, u.System - v.System, u.All - v.All} }

// split divides all of it as the samples say.
func (u usage) split() (user, system time.Duration) {
	if u.User+u.System <= 0 {
		return 0, u.All
	}
	user = time.Duration(float64(u.All) * float64(u.User) / float64(u.User+u.System))
	return user, u.All - user
}

// tick is what /proc counts processor time in: USER_HZ, which is 100 on every architecture that Go knows.
const tick = 10 * time.Millisecond

// used adds up the processor time of processes, and of those of their children that have ended and been waited for, which is told in ticks alone.
func used(pids []int) (u usage, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if gone(err) {
			continue // ended since it was listed: its parent has its time
		}
		if err != nil {
			return u, err
		}
		own, children, err := parseStat(string(text))
		if err != nil {
			return u, fmt.Errorf("contest: /proc/%d/stat: %w", pid, err)
		}
		if exact, ok := processClock(pid); ok {
			own.All = exact
		}
		u.User += own.User + children.User
		u.System += own.System + children.System
		u.All += own.All + children.All
	}
	return u, nil
}

// delayed is how long the threads of processes could have run and had no processor; 0 where the kernel does not tell.
func delayed(pids []int) (d time.Duration) {
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is a good one
		for _, t := range tasks {
			text, err := os.ReadFile(t)
			if field := strings.Fields(string(text)); err == nil && len(field) > 1 {
				n, _ := strconv.ParseInt(field[1], 10, 64)
				d += time.Duration(n)
			}
		}
	}
	return d
}

// gone says that a process has ended while it was looked at.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// processClock is the processor time of all threads of a process, living or not: clock_getcpuclockid(3), whose numbers are ABI.
func processClock(pid int) (time.Duration, bool) {
	const cpuclockSched = 2
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &at); err != nil {
		return 0, false
	}
	return time.Duration(at.Nano()), true
}

// parseStat reads a line of proc_pid_stat(5): fields 14 to 17 are utime, stime, cutime and cstime.
func parseStat(text string) (own, children usage, err error) {
	end := strings.LastIndexByte(text, ')') // the name before it may have spaces and parentheses
	field := strings.Fields(text[end+1:])
	if end < 0 || len(field) < 15 {
		return own, children, fmt.Errorf("%.80q is too short", text)
	}
	var ticks [4]time.Duration
	for i := range ticks {
		n, err := strconv.ParseInt(field[11+i], 10, 64)
		if err != nil {
			return own, children, err
		}
		ticks[i] = time.Duration(n) * tick
	}
	return usage{ticks[0], ticks[1], ticks[0] + ticks[1]}, usage{ticks[2], ticks[3], ticks[2] + ticks[3]}, nil
}

// resident is the memory of processes in bytes, what they share counted once. Where that may not be read, it is what is resident of each.
func resident(pids []int) (bytes int64, err error) {
	for _, pid := range pids {
		n, err := sumOfField(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		if err != nil && !gone(err) {
			n, err = sumOfField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
		}
		if err != nil && !gone(err) {
			return 0, err
		}
		bytes += n
	}
	return bytes, nil
}

// sumOfField adds up what a file of /proc has in kB under a name.
func sumOfField(file, name string) (bytes int64, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("contest: %s: %w", file, err)
			}
			bytes += kib << 10
		}
	}
	return bytes, nil
}

// kept is what the files under dir take, in bytes: on tmpfs that is memory. Those that a process has mapped are left out, since resident has them.
func kept(dir string, pids []int) (bytes int64) {
	mapped := map[string]bool{}
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid)) // what cannot be read is not left out
		for line := range strings.Lines(string(text)) {
			if at := strings.Index(line, dir); at >= 0 {
				mapped[strings.TrimSpace(line[at:])] = true
			}
		}
	}
	_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || mapped[name] {
			return nil // or gone meanwhile: caches rename and remove
		}
		if info, err := d.Info(); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += stat.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}
