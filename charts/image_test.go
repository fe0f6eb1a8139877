package charts

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
)

// ignored reads .dockerignore as far as ours goes: names and patterns of the top level, and **/ for any depth.
func ignored(patterns []string, file string) bool {
	for _, p := range patterns {
		top, _, _ := strings.Cut(file, "/")
		if match, _ := path.Match(p, top); match {
			return true
		}
		if anywhere, ok := strings.CutPrefix(p, "**/"); ok {
			for part := range strings.SplitSeq(file, "/") {
				if match, _ := path.Match(anywhere, part); match {
					return true
				}
			}
		}
	}
	return false
}

// buildContext copies what a builder of the image would be sent to dir.
func buildContext(dir string) error {
	ignore, err := os.ReadFile("../.dockerignore")
	if err != nil {
		return err
	}
	var patterns []string
	for line := range strings.SplitSeq(string(ignore), "\n") {
		if line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	list.Dir = ".."
	files, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for file := range strings.FieldsSeq(string(files)) {
		if ignored(patterns, file) {
			continue
		}
		data, err := os.ReadFile(filepath.Join("..", file))
		if os.IsNotExist(err) { // deleted, and not committed yet
			continue
		}
		if err != nil {
			return err
		}
		to := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

var goBuild = regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 .* go build .*) -o /cacheproxy (\S+)$`)

// buildAsImage runs the Dockerfile's go build in what a builder would be sent, and leaves the binary in dir.
func buildAsImage(dir string) (string, error) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		return "", err
	}
	line := goBuild.FindSubmatch(dockerfile)
	if line == nil {
		return "", fmt.Errorf("no line of the Dockerfile is %s", goBuild)
	}
	if err := buildContext(filepath.Join(dir, "src")); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "cacheproxy")
	build := exec.Command("sh", "-euc", fmt.Sprintf("%s -o %s %s", line[1], binary, line[2]))
	build.Dir = filepath.Join(dir, "src")
	build.Env = append(os.Environ(), "VERSION=of-the-image", "TARGETOS=", "TARGETARCH=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", line[1], err, out)
	}
	return binary, nil
}

func TestImage(t *testing.T) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	last := string(dockerfile)[strings.LastIndex(string(dockerfile), "\nFROM "):]
	has := func(what, text string) {
		if !strings.Contains(last, "\n"+text+"\n") {
			t.Errorf("%s: the image's stage has no line %q", what, text)
		}
	}
	v, err := chartutil.ReadValuesFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	user, ports := v["podSecurityContext"].(values), v["ports"].(values)
	has("user", fmt.Sprintf("USER %v:%v", user["runAsUser"], user["runAsGroup"]))
	has("ports", fmt.Sprintf("EXPOSE %v %v", ports["http"], ports["admin"]))
	has("entry", `ENTRYPOINT ["/cacheproxy"]`)
	has("authorities", "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt")
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	toolchain := regexp.MustCompile(`(?m)^toolchain go(\S+)$`).FindSubmatch(mod)
	if !strings.Contains(string(dockerfile), "golang:"+string(toolchain[1])+" AS build\n") {
		t.Errorf("the Dockerfile builds with another Go than go.mod's %s", toolchain[1])
	}

	out, err := command(t, nil, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "cacheproxy of-the-image,") {
		t.Errorf("version: %q, %v", out, err)
	}
	binary, _ := buildBinary()
	file, err := elf.Open(binary)
	if err != nil && runtime.GOOS != "linux" {
		return // binaries have another form here, and the image is made where they have this one
	}
	if err != nil {
		t.Fatalf("not an ELF file: %v", err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is not static, and the image has no loader")
		}
	}
}
