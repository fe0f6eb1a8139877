package charts

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/strvals"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{sidecarDir}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The plain example is the application and the lines that the README shows, not one more or less.
func TestSidecarIsWhatItsReadmeSays(t *testing.T) {
	_, rest, _ := strings.Cut(read(t, "README.md"), "```diff\n")
	block, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the README shows no lines")
	}
	var want []string
	for line := range strings.Lines(block) {
		if line[0] == '+' || line[0] == '-' {
			want = append(want, strings.TrimSuffix(line, "\n"))
		}
	}
	got := differences(read(t, "app/app.yaml"), read(t, "plain/app.yaml"))
	if !slices.Equal(got, want) {
		t.Errorf("the README says\n%s\nand it is\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

// withoutSidecar takes from the pods what the README says that was added.
func withoutSidecar(t *testing.T, list objects) objects {
	t.Helper()
	spec := &only[*apps.Deployment](t, list).Spec.Template.Spec
	if len(spec.InitContainers) != 1 || spec.InitContainers[0].RestartPolicy == nil ||
		*spec.InitContainers[0].RestartPolicy != core.ContainerRestartPolicyAlways {
		t.Fatalf("no native sidecar: %+v", spec.InitContainers)
	}
	spec.InitContainers = nil
	if stop := spec.Containers[0].Lifecycle; stop == nil || stop.PreStop.Sleep.Seconds <= 0 {
		t.Error("the application does not wait for the last requests")
	}
	spec.Containers[0].Lifecycle = nil
	port := &only[*core.Service](t, list).Spec.Ports[0].TargetPort
	if port.IntVal != 8080 {
		t.Errorf("the Service leads to %s", port.String())
	}
	*port = intstr.FromInt32(3000)
	return list
}

// sidecarOf returns the proxy of a Deployment that has it as a sidecar, and checks it.
func sidecarOf(t *testing.T, list objects) core.Container {
	t.Helper()
	pod := list.pod(t)
	c := proxyOf(t, pod.Spec)
	alone := core.PodTemplateSpec{Spec: core.PodSpec{Containers: []core.Container{c}}}
	alone.Spec.Containers[0].RestartPolicy = nil
	checkRestricted(t, alone) // whatever the pod's own security context says
	return c
}

func byName(list objects) map[string]meta.Object {
	m := map[string]meta.Object{}
	for _, object := range list {
		m[reflect.TypeOf(object).String()+object.GetName()] = object
	}
	return m
}

func TestSidecarPlain(t *testing.T) {
	list := mustDecode(t, read(t, "plain/app.yaml"))
	c := sidecarOf(t, list)
	r := serve(t, c, "", "CACHEPROXY_UPSTREAM="+upstream(t))
	checkProbes(t, r, c)
	if status, body := get(t, r.public); status != 200 || body != "upstream" {
		t.Errorf("%d %q", status, body)
	}
	variables := []string{}
	for _, v := range c.Env {
		variables = append(variables, v.Name+"="+v.Value)
	}
	if out, err := command(t, variables, "validate").CombinedOutput(); err != nil {
		t.Errorf("validate: %v\n%s", err, out)
	}
	if got, want := byName(withoutSidecar(t, list)), byName(mustDecode(t, read(t, "app/app.yaml"))); !reflect.DeepEqual(got, want) {
		t.Error("more than the sidecar is different")
	}
}

func TestSidecarKustomize(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(sidecarDir, "kustomize/overlay"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	got, want := byName(mustDecode(t, string(text))), byName(mustDecode(t, read(t, "plain/app.yaml")))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("not what plain/app.yaml is:\n%s", text)
	}
}

// The chart as a dependency, as `helm dependency build` would lay it.
func TestSidecarHelm(t *testing.T) {
	parent := load(t, filepath.Join(sidecarDir, "helm"))
	own := load(t, chartDir)
	if want := parent.Metadata.Dependencies[0]; want.Version != own.Metadata.Version ||
		filepath.Join(sidecarDir, "helm", strings.TrimPrefix(want.Repository, "file://")) != chartDir {
		t.Errorf("the example depends on %s %s", want.Repository, want.Version)
	}
	parent.AddDependency(own)
	r, err := renderChart(parent, values{}, kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "sidecar.yaml", r.text())
	list := mustDecode(t, r.text())
	validate(t, list.config(t))
	c, plain := sidecarOf(t, list), sidecarOf(t, mustDecode(t, read(t, "plain/app.yaml")))
	for _, container := range []*core.Container{&c, &plain} { // told by a file, or by variables
		container.Args, container.Env, container.VolumeMounts, container.ImagePullPolicy = nil, nil, nil, ""
	}
	if !reflect.DeepEqual(c, plain) {
		t.Errorf("the template and the plain example differ:\n%+v\n%+v", c, plain)
	}
	pod := &only[*apps.Deployment](t, list).Spec.Template
	if pod.Annotations["checksum/cacheproxy"] == "" || len(pod.Spec.Volumes) != 1 {
		t.Errorf("annotations %v, %d volumes", pod.Annotations, len(pod.Spec.Volumes))
	}
	pod.Annotations, pod.Spec.Volumes = nil, nil
	got := byName(withoutSidecar(t, list))
	delete(got, "*v1.ConfigMapfront-cacheproxy")
	if want := byName(mustDecode(t, read(t, "app/app.yaml"))); !reflect.DeepEqual(got, want) {
		t.Errorf("more than the sidecar is different: %v", got)
	}
}

// Two applications of one chart have a configuration, and keys in Redis, each.
func TestSidecarAlias(t *testing.T) {
	parent := load(t, filepath.Join(sidecarDir, "helm"))
	parent.AddDependency(load(t, chartDir))
	parent.Metadata.Dependencies[0].Alias = "shop"
	other := *parent.Metadata.Dependencies[0]
	other.Alias = "blog"
	parent.Metadata.Dependencies = append(parent.Metadata.Dependencies, &other)
	parent.Templates = slices.DeleteFunc(parent.Templates, func(f *chart.File) bool { return f.Name == "templates/app.yaml" })
	side := values{"mode": "sidecar", "config": values{"upstream": "http://127.0.0.1:3000"}}
	r, err := renderChart(parent, values{"shop": side, "blog": side}, kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	maps := all[*core.ConfigMap](mustDecode(t, r.text()))
	if len(maps) != 2 || maps[0].Name == maps[1].Name {
		t.Fatalf("%d ConfigMaps", len(maps))
	}
	for _, m := range maps {
		if want := "prefix: cp:" + namespace + ":" + m.Name + "\n"; !strings.Contains(m.Data["config.yaml"], want) {
			t.Errorf("%s: want %q in\n%s", m.Name, want, m.Data["config.yaml"])
		}
	}
}

func TestSidecarRefuses(t *testing.T) {
	for _, c := range []struct {
		values  values
		version string
		want    string
	}{
		{values{"cacheproxy": values{"mode": "standalone"}}, kubernetes, "mode: set it to sidecar"},
		{nil, "v1.28.0", "native sidecars need Kubernetes 1.29"},
		{values{"cacheproxy": values{"config": values{"upstream": nil}}}, kubernetes, "nothing says where requests go"},
	} {
		parent := load(t, filepath.Join(sidecarDir, "helm"))
		parent.AddDependency(load(t, chartDir))
		if _, err := renderChart(parent, c.values, c.version); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v on %s: want %q, got %v", c.values, c.version, c.want, err)
		}
	}
}

// The lines of the repository's README do what they say.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	_, install, _ := strings.Cut(readme, "helm install ")
	line, _, _ := strings.Cut(install, "\n")
	_, set, ok := strings.Cut(line, " charts/cacheproxy --set ")
	v, err := strvals.Parse(set)
	if !ok || err != nil {
		t.Fatalf("helm install %s: %v", line, err)
	}
	decoded(t, v).pod(t)

	_, rest, _ := strings.Cut(readme, "\n      initContainers:\n")
	block, _, _ := strings.Cut(rest, "\n\n")
	pod := only[*core.Pod](t, mustDecode(t, "apiVersion: v1\nkind: Pod\nspec:\n      initContainers:\n"+block))
	if len(pod.Spec.InitContainers) != 1 {
		t.Fatal("the README shows no sidecar")
	}
	got, want := pod.Spec.InitContainers[0], proxyOf(t, mustDecode(t, read(t, "plain/app.yaml")).pod(t).Spec)
	same := got.Name == want.Name && got.Image == want.Image && reflect.DeepEqual(got.RestartPolicy, want.RestartPolicy) &&
		slices.Equal(got.Args, want.Args) && slices.Equal(got.Env, want.Env[:len(got.Env)])
	if !same {
		t.Errorf("the README's sidecar is not the example's:\n%+v\n%+v", got, want)
	}
}
