package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// floor and netHTTP answer everything with the same bytes: what is left for a cache to take is above the first, and what Go's own server takes is
// the second. Both are of one program.
var (
	floor   = fixedServer("floor")
	netHTTP = fixedServer("net/http", overTLS, overHTTP2)
)

// fixedServer answers with a body of Size bytes, and where Validating with 304.
func fixedServer(name string, can ...feature) contestant {
	return contestant{
		name:    name,
		can:     can,
		program: "origin",
		build: func(ctx context.Context, dir string) (string, error) {
			return goBuild(ctx, filepath.Join(dir, "origin"), ".", "./origin")
		},
		version: goVersion,
		processes: func(s setup) [][]string {
			command := []string{"env", "GOMAXPROCS=1", s.Program, "-as", strings.ReplaceAll(name, "/", ""),
				"-listen", fmt.Sprintf("%s:%d", s.Host, s.Port), "-size", strconv.Itoa(s.Size)}
			if s.Validating {
				command = append(command, "-not-modified")
			}
			if s.TLS() {
				command = append(command, "-listen-tls", fmt.Sprintf("%s:%d", s.Host, s.TLSPort), "-cert", s.CertFile, "-key", s.KeyFile)
			}
			return [][]string{command}
		},
		noHits: "it has no cache",
		fixed:  true,
	}
}

// goBuild builds the program of a package in directory in, which is relative to this module.
func goBuild(ctx context.Context, program, in, pkg string, flags ...string) (string, error) {
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "cacheproxy/bench").Output()
	if err != nil {
		return "", fmt.Errorf("contest: where the module is: %w", err)
	}
	argv := append([]string{"build"}, flags...)
	command := exec.CommandContext(ctx, "go", append(argv, "-o", program, pkg)...)
	command.Dir = filepath.Join(trimmed(module), in)
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("contest: build %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}

// goVersion is that of Go which the program was built with.
func goVersion(ctx context.Context, program string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "version", program).Output()
	if err != nil {
		return "", fmt.Errorf("contest: %w", err)
	}
	return trimmed(out)[len(program)+len(": "):], nil
}
