package charts

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	core "k8s.io/api/core/v1"
)

// buildBinary builds the program as the Dockerfile does, once.
var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "charts")
	if err != nil {
		return "", err
	}
	buildDir = dir
	return buildAsImage(dir)
})

var buildDir string // of the binary; "" = not built

func TestMain(m *testing.M) {
	code := m.Run()
	if buildDir != "" {
		_ = os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

// command runs the program as in a pod, where the variables of a Secret are, and its token is a file.
func command(t *testing.T, variables []string, arguments ...string) *exec.Cmd {
	t.Helper()
	binary, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(binary, arguments...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "CACHEPROXY_") {
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(append(c.Env, "KUBERNETES_SERVICE_HOST=10.0.0.1"), variables...)
	return c
}

// write writes a file of this test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secrets lays the files that the chart would mount, and returns what stands for /etc/cacheproxy.
func secrets(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, data := range map[string][]byte{
		"admin/token":      []byte("secret\n"),
		"redis-tls/ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"tls/tls.crt":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"tls/tls.key":      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// validate has the program judge a configuration as it would be inside Kubernetes, with a Redis.
func validate(t *testing.T, config string) {
	t.Helper()
	root := secrets(t)
	config = strings.ReplaceAll(config, "/etc/cacheproxy", root)
	variables := []string{"CACHEPROXY_REDIS_URL=rediss://:password@redis:6379?ca=" + root + "/redis-tls/ca.crt"}
	out, err := command(t, variables, "validate", "--config", write(t, "config.yaml", config)).CombinedOutput()
	if err != nil {
		t.Errorf("cacheproxy validate: %v\n%s\n%s", err, out, config)
	}
}

// running is a proxy that serves, by a container's arguments and variables.
type running struct {
	command          *exec.Cmd
	public, operator string // http://127.0.0.1:PORT
}

// serve runs container on free ports, with file in the place of the ConfigMap's.
func serve(t *testing.T, container core.Container, file string, variables ...string) *running {
	t.Helper()
	arguments := make([]string, len(container.Args))
	for i, argument := range container.Args {
		arguments[i] = argument
		if strings.HasSuffix(argument, "/config.yaml") {
			arguments[i] = file
		}
	}
	var given []string
	for _, v := range container.Env {
		given = append(given, v.Name+"="+v.Value)
	}
	given = append(given, "CACHEPROXY_LISTEN=127.0.0.1:0", "CACHEPROXY_ADMIN_LISTEN=127.0.0.1:0")
	r := &running{command: command(t, append(given, variables...), arguments...)}
	stderr, err := r.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.command.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	for r.public == "" || r.operator == "" {
		if !lines.Scan() {
			t.Fatalf("it ended: %v", r.command.Wait())
		}
		var line struct{ Msg, Address string }
		_ = json.Unmarshal(lines.Bytes(), &line)
		switch line.Msg {
		case "listening":
			r.public = "http://" + line.Address
		case "listening for operators":
			r.operator = "http://" + line.Address
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return r
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func upstream(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "upstream") }))
	t.Cleanup(s.Close)
	return s.URL
}

// checkProbes asks what the kubelet would.
func checkProbes(t *testing.T, r *running, container core.Container) {
	t.Helper()
	for name, probe := range map[string]*core.Probe{
		"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe,
	} {
		if probe == nil || probe.HTTPGet.Port.StrVal != "cache-admin" {
			t.Errorf("%s probe: %+v", name, probe)
			continue
		}
		if status, body := get(t, r.operator+probe.HTTPGet.Path); status != http.StatusOK {
			t.Errorf("%s probe: %s: %d %s", name, probe.HTTPGet.Path, status, body)
		}
	}
}

// The container as rendered starts, its probes pass, Prometheus finds what the alerts need, and, when a pod ends, drain.delay does what a
// preStop sleep would: it is not ready and serves on.
func TestServes(t *testing.T) {
	t.Parallel()
	list := decoded(t, valuesFile(t, "examples/values/monitoring.yaml"))
	container := proxyOf(t, list.pod(t).Spec)
	for i, v := range container.Env {
		if v.ValueFrom != nil { // the Secret's
			container.Env[i] = core.EnvVar{Name: v.Name, Value: "redis://127.0.0.1:1"}
		}
	}
	r := serve(t, container, write(t, "config.yaml", list.config(t)), "CACHEPROXY_UPSTREAM="+upstream(t), "CACHEPROXY_DRAIN_DELAY=2s")
	checkProbes(t, r, container)
	path := only[*monitoring.ServiceMonitor](t, list).Spec.Endpoints[0].Path
	if status, body := get(t, r.operator+path); status != http.StatusOK || !strings.Contains(body, "\ncacheproxy_near_bytes ") {
		t.Errorf("%s: %d, without cacheproxy_near_bytes, which CacheproxyAbsent looks for", path, status)
	}
	if status, body := get(t, r.public); status != http.StatusOK || body != "upstream" {
		t.Errorf("%d %q", status, body)
	}
	if err := r.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ready := container.ReadinessProbe.HTTPGet.Path
	for end := time.Now().Add(10 * time.Second); ; {
		if status, _ := get(t, r.operator+ready); status == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is ready after SIGTERM")
		}
	}
	if status, _ := get(t, r.public); status != http.StatusOK {
		t.Errorf("%d while drain.delay lasts", status)
	}
	if err := r.command.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// With configChange: reload a pod reads its configuration anew when the kubelet swaps the ConfigMap's directory by a symbolic link.
func TestReloadsConfigMap(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	lay := func(revision, v string) {
		must(t, os.Mkdir(filepath.Join(mount, revision), 0o700))
		must(t, os.WriteFile(filepath.Join(mount, revision, "config.yaml"), []byte(decoded(t, given(t, v)).config(t)), 0o600))
		must(t, os.Symlink(revision, filepath.Join(mount, "..new")))
		must(t, os.Rename(filepath.Join(mount, "..new"), filepath.Join(mount, "..data")))
	}
	lay("..1", "config: {upstream: 'http://127.0.0.1:1'}")
	file := filepath.Join(mount, "config.yaml")
	must(t, os.Symlink("..data/config.yaml", file))
	r := serve(t, proxyOf(t, decoded(t, given(t, "{}")).pod(t).Spec), file)
	if status, _ := get(t, r.public); status != http.StatusBadGateway {
		t.Errorf("%d from an upstream that is not there", status)
	}
	lay("..2", "config: {upstream: '"+upstream(t)+"'}")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, body := get(t, r.public); status == http.StatusOK && body == "upstream" {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the new configuration was not read")
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
