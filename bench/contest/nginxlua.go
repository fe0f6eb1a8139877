package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// nginxLua is nginx with a handler in Lua that keeps responses in Redis, as users of OpenResty write it.
var nginxLua = contestant{
	name:    "nginx+lua",
	program: "nginx",
	pkg:     "lua-nginx-redis, with libnginx-mod-http-lua",
	version: nginxLuaVersion,
	files:   []string{"nginx.conf", "redis_cache.lua"},
	processes: func(s setup) [][]string {
		return [][]string{{s.Program, "-p", s.Dir, "-c", "nginx.conf", "-e", "error.log"}}
	},
	hits:  nginxLuaHits,
	can:   []feature{inRedis},
	needs: inRedis,
}

// nginxLuaVersion has those of the packages too; where they are not installed there is no such contestant.
func nginxLuaVersion(ctx context.Context, program string) (string, error) {
	server, err := versionLine("nginx/", "-v")(ctx, program)
	packages, missing := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", ", ${Package} ${Version}", "libnginx-mod-http-lua", "lua-nginx-redis").Output()
	return server + string(packages), errors.Join(err, missing)
}

// nginxLuaHits asks the handler, which counts for its one worker.
func nginxLuaHits(ctx context.Context, s setup) (int64, error) {
	text, err := fetch(ctx, fmt.Sprintf("http://%s:%d/hits", s.Host, s.AdminPort))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(text), 10, 64)
}
