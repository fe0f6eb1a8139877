package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// task is a process as /proc/PID/stat has it. The time it was started at tells it from a later one with its PID.
type task struct {
	pid, parent, group int
	started            string // in clock ticks since the machine was
}

// readTask is false for a process that does not exist, or has ended and waits for its parent to notice.
func readTask(pid int) (task, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return task{}, false
	}
	// The name comes second, in parentheses, and may have anything in it. After it: 3 state, 4 parent, 5 group, ... 22 start.
	end := strings.LastIndexByte(string(data), ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return task{}, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	group, err2 := strconv.Atoi(fields[2])
	return task{pid, parent, group, fields[19]}, err1 == nil && err2 == nil
}

// descent has the living members of a process group and all who descend from one of them.
func descent(group int) []task {
	var others, found []task
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is a good one
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if t, ok := readTask(pid); ok && t.group == group {
			found = append(found, t)
		} else if ok {
			others = append(others, t)
		}
	}
	for n := 0; n < len(found); n++ {
		others = slices.DeleteFunc(others, func(t task) bool {
			if t.parent != found[n].pid {
				return false
			}
			found = append(found, t)
			return true
		})
	}
	return found
}

// remaining are those of tasks that live.
func remaining(tasks []task) []task {
	return slices.DeleteFunc(slices.Clone(tasks), func(t task) bool {
		now, ok := readTask(t.pid)
		return !ok || now.started != t.started
	})
}
