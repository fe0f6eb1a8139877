package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// contestants are all of them, in the order of tables.
var contestants = []*contestant{&cacheproxy, &nginx, &nginxLua, &varnish, &haproxy, &squid, &trafficServer, &floor, &netHTTP}

// find says where program is: Debian keeps servers where the PATH of others than root does not look.
func find(program string) (string, error) {
	found, err := exec.LookPath(program)
	if err != nil {
		found, err = exec.LookPath(filepath.Join("/usr/sbin", program))
	}
	return found, err
}

// trimmed is what a command has written, without the line feed.
func trimmed(out []byte) string { return strings.TrimSpace(string(out)) }

// versionLine runs a program for the line of its output, or of what it says on standard error, that contains part.
func versionLine(part string, args ...string) func(ctx context.Context, program string) (string, error) {
	return func(ctx context.Context, program string) (string, error) {
		out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, part) {
				return strings.TrimSpace(line), nil
			}
		}
		return "", errors.Join(fmt.Errorf("contest: %s does not tell its version", program), err)
	}
}

// fetch gets what an instance says about itself.
func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("contest: %s: %s", url, response.Status)
	}
	return string(text), err
}
