package main

// nginx keeps responses in files and the kernel's page cache; on tmpfs the files are memory.
var nginx = contestant{
	name:    "nginx",
	program: "nginx",
	pkg:     "nginx",
	version: versionLine("nginx/", "-v"),
	files:   []string{"nginx.conf"},
	processes: func(s setup) [][]string {
		return [][]string{{s.Program, "-p", s.Dir, "-c", "nginx.conf", "-e", "error.log"}}
	},
	noHits: "the open-source build counts connections and requests, not what its cache did; X-Cache of each response tells",
	can:    []feature{overTLS, overHTTP2, accessLog, limiting, surviving, collapsing},
	cannot: map[feature]string{
		inRedis: "the module for Redis serves values that somebody else has put there; with Lua it is another contestant, nginx+lua",
	},
}
