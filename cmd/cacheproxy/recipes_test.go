package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// The recipes of README.md are run as written: each in an empty directory, by one sh that gets its commands one after the other. Only this is
// put in the place of what is written, so that the recipes meet nothing else on the machine and do not wait:
//
//   - each port by a free one, and "every address" (":8080") by 127.0.0.1; `--demo` names the address that it has anyway;
//   - the defaults of listen and admin.listen, where the recipe's files do not name them, by variables; so are drain.delay, which is 0, and
//     redis.timeout, which is long, because it is not what is shown;
//   - `make build` does nothing: bin/cacheproxy is what is tested.
//
// After a command that ends with & the next one waits until what it started answers. What a command prints must be what is written below
// it, but for some seconds in Age, ttl and "2s ago".

func TestRecipes(t *testing.T) {
	for _, r := range readRecipes(t, "../../README.md") {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			k := newKitchen(t, r)
			for _, s := range r.steps {
				k.run(s)
			}
		})
	}
}

// recipeNeeds starts what a recipe wants to be there. It takes over the ports that the recipe names for it.
var recipeNeeds = map[string]func(*kitchen){
	"redis-cluster": func(k *kitchen) {
		cluster := redistest.StartCluster(k.t, 3, 0)
		for i, found := range regexp.MustCompile(`:(\d+)`).FindAllStringSubmatch(cluster.URL(), -1) {
			k.ports[fmt.Sprint(7000+i)] = found[1]
		}
	},
}

// kitchen is where one recipe is run.
type kitchen struct {
	t     *testing.T
	ports map[string]string // written -> used
	in    io.Writer
	out   *bufio.Reader
	log   string // file with what background processes said
}

var (
	writtenPort   = regexp.MustCompile(`(:|port |-p )(\d{4,5})\b`)
	everyAddress  = regexp.MustCompile(`":(\d+)"`)
	demoByDefault = regexp.MustCompile(`--demo( |$)`)
)

func newKitchen(t *testing.T, r *recipe) *kitchen {
	t.Helper()
	program, err := exec.LookPath("cacheproxy")
	if err != nil {
		t.Fatal(err)
	}
	k := &kitchen{t: t, ports: map[string]string{}}
	dir := t.TempDir()
	for _, need := range r.needs {
		if recipeNeeds[need] == nil {
			t.Fatalf("nobody knows how to start %s", need)
		}
		recipeNeeds[need](k)
	}
	all := strings.Join(slices.Collect(maps.Values(r.files)), "\n")
	environment := []string{"CACHEPROXY_DRAIN_DELAY=0s", "CACHEPROXY_REDIS_TIMEOUT=10s", quickRace}
	if !strings.Contains(all, "listen:") {
		environment = append(environment, "CACHEPROXY_LISTEN=127.0.0.1:"+k.port("8080"))
	}
	if !strings.Contains(all, "admin:") {
		environment = append(environment, "CACHEPROXY_ADMIN_LISTEN=127.0.0.1:"+k.port("9090"))
	}
	for name, text := range r.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(k.used(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(dir, "bin", "cacheproxy")); err != nil {
		t.Fatal(err)
	}
	k.open(dir, environment)
	return k
}

// open starts the shell.
func (k *kitchen) open(dir string, environment []string) {
	k.t.Helper()
	k.log = filepath.Join(k.t.TempDir(), "log")
	log, err := os.Create(k.log)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	shell := exec.Command("sh")
	shell.Dir, shell.Env, shell.Stderr = dir, append(os.Environ(), environment...), log
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := shell.StdinPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		k.t.Fatal(err)
	}
	timer := time.AfterFunc(3*limit, func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }) // a command that does not end
	k.t.Cleanup(func() {
		timer.Stop()
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) // the shell and what it started
		_ = shell.Wait()
	})
	k.in, k.out = in, bufio.NewReader(out)
	fmt.Fprintln(in, "make() { test \"$*\" = build; }")
}

// port is what stands for a written port.
func (k *kitchen) port(written string) string {
	if k.ports[written] == "" {
		k.ports[written] = strconv.Itoa(quietPort(k.t))
	}
	return k.ports[written]
}

var quietPorts sync.Map // those that were given out

// quietPort is a free port below those that the system gives to whoever asks for any, and below those of redistest, so that nobody takes it before
// it is used.
func quietPort(t *testing.T) int {
	t.Helper()
	const first, beyond = 10_000, 20_000
	for range 1000 {
		port := first + rand.IntN(beyond-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		if _, given := quietPorts.LoadOrStore(port, true); !given {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// used is text with what stands for what is written.
func (k *kitchen) used(text string) string {
	text = demoByDefault.ReplaceAllString(text, "--demo="+demoAddress+"$1")
	text = everyAddress.ReplaceAllString(text, `"127.0.0.1:$1"`)
	return writtenPort.ReplaceAllStringFunc(text, func(found string) string {
		m := writtenPort.FindStringSubmatch(found)
		return m[1] + k.port(m[2])
	})
}

// endOfOutput ends what a command prints.
const endOfOutput = "=== done ==="

func (k *kitchen) run(s recipeStep) {
	k.t.Helper()
	command := k.used(s.command)
	if strings.HasSuffix(command, "&") {
		fmt.Fprintf(k.in, "%s\necho; echo '%s'\n", command, endOfOutput)
	} else {
		fmt.Fprintf(k.in, "{ %s\n} 2>&1 < /dev/null\necho; echo '%s'\n", command, endOfOutput)
	}
	var printed bytes.Buffer
	for !strings.HasSuffix(printed.String(), "\n"+endOfOutput+"\n") {
		line, err := k.out.ReadString('\n')
		printed.WriteString(line)
		if err != nil {
			k.t.Fatalf("README.md:%d: %s\ndid not end: %v\n%s\n%s", s.line, command, err, printed.String(), k.said())
		}
	}
	got := printedLines(strings.TrimSuffix(printed.String(), "\n"+endOfOutput+"\n"))
	want := printedLines(k.used(strings.Join(s.prints, "\n")))
	if !slices.EqualFunc(got, want, alike) {
		k.t.Fatalf("README.md:%d: %s\nprints\n%s\ninstead of\n%s\n%s", s.line, command,
			strings.Join(got, "\n"), strings.Join(want, "\n"), k.said())
	}
	if strings.HasSuffix(command, "&") {
		k.await(s, command)
	}
}

// await waits until what was started in the background answers: a proxy that it is ready, anything else on the ports that its command names.
func (k *kitchen) await(s recipeStep, command string) {
	k.t.Helper()
	ready := func() bool {
		for _, m := range writtenPort.FindAllStringSubmatch(command, -1) {
			if m[2] == "0" {
				continue
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+m[2])
			if err != nil {
				return false
			}
			conn.Close()
		}
		return true
	}
	if strings.Contains(command, "cacheproxy serve") {
		transport := &http.Transport{DisableKeepAlives: true}
		ready = func() bool {
			r, err := (&http.Client{Transport: transport, Timeout: limit}).Get("http://127.0.0.1:" + k.port("9090") + "/readyz")
			if err != nil {
				return false
			}
			r.Body.Close()
			return r.StatusCode == http.StatusOK
		}
	}
	await(k.t, ready, func() string { return fmt.Sprintf("README.md:%d: %s\ndoes not answer\n%s", s.line, command, k.said()) })
}

// said is what processes in the background said.
func (k *kitchen) said() string {
	text, _ := os.ReadFile(k.log)
	return string(text)
}

// printedLines splits what was printed.
func printedLines(text string) []string {
	var all []string
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		all = append(all, strings.TrimRight(line, "\r "))
	}
	return all
}

var someSeconds = regexp.MustCompile(`(?i)(?:^age: |ttl=| )(\d+)(?:s ago|;|$)`)

// alike reports whether two lines are equal but for Age, ttl and what is so long ago, which may differ by some seconds.
func alike(got, want string) bool {
	a, b := someSeconds.FindStringSubmatchIndex(got), someSeconds.FindStringSubmatchIndex(want)
	if a == nil || b == nil {
		return got == want
	}
	x, _ := strconv.Atoi(got[a[2]:a[3]])
	y, _ := strconv.Atoi(want[b[2]:b[3]])
	return got[:a[2]] == want[:b[2]] && got[a[3]:] == want[b[3]:] && max(x-y, y-x) <= int(limit/time.Second)
}
