package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what processes have taken of the machine.
type usage struct {
	User, System time.Duration
}

func (u usage) total() time.Duration { return u.User + u.System }

func (u usage) sub(v usage) usage { return usage{u.User - v.User, u.System - v.System} }

// tick is what /proc counts processor time in: USER_HZ, which is 100 on every architecture that Go knows.
const tick = 10 * time.Millisecond

// used adds up the processor time of processes, and of those of their children that have ended and been waited for.
func used(pids []int) (u usage, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if os.IsNotExist(err) {
			continue // ended since it was listed: its parent has its time
		}
		if err != nil {
			return u, err
		}
		one, err := parseStat(string(text))
		if err != nil {
			return u, fmt.Errorf("contest: /proc/%d/stat: %w", pid, err)
		}
		u.User += one.User
		u.System += one.System
	}
	return u, nil
}

// parseStat reads a line of proc_pid_stat(5): fields 14 to 17 are utime, stime, cutime and cstime.
func parseStat(text string) (u usage, err error) {
	end := strings.LastIndexByte(text, ')') // the name before it may have spaces and parentheses
	field := strings.Fields(text[end+1:])
	if end < 0 || len(field) < 15 {
		return u, fmt.Errorf("%.80q is too short", text)
	}
	var ticks [4]int64
	for i := range ticks {
		if ticks[i], err = strconv.ParseInt(field[11+i], 10, 64); err != nil {
			return u, err
		}
	}
	return usage{time.Duration(ticks[0]+ticks[2]) * tick, time.Duration(ticks[1]+ticks[3]) * tick}, nil
}

// resident is the memory of processes in bytes, what they share counted once.
func resident(pids []int) (bytes int64, err error) {
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if rest, found := strings.CutPrefix(lines.Text(), "Pss:"); found {
				kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
				if err != nil {
					_ = f.Close() // it was only read
					return 0, fmt.Errorf("contest: /proc/%d/smaps_rollup: %w", pid, err)
				}
				bytes += kib << 10
			}
		}
		_ = f.Close() // it was only read
	}
	return bytes, nil
}

// kept is the size of the files under dir, in bytes of the pages that they take: on tmpfs that is memory too.
func kept(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // gone meanwhile: caches rename and remove
		}
		if info, err := d.Info(); err == nil {
			const page = 4096
			bytes += (info.Size() + page - 1) / page * page
		}
		return nil
	})
	return bytes
}
