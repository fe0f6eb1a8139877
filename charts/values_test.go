package charts

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// given makes values from YAML, with an upstream where none is named.
func given(t *testing.T, text string) values {
	t.Helper()
	v := values{}
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if v["config"] == nil {
		v["config"] = values{"upstream": "http://shop:3000"}
	}
	return v
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ values, want string }{
		{"config: {near: {size: 1GiB}}", "config.upstream: nothing says where requests go"},
		{"config: {upstream: 'http://a', admin: {listen: ':1'}}", "config.admin: is written by the chart"},
		{"config: {upstream: 'http://a', redis: {url: 'redis://:pw@r'}}", "redis.existingSecret"},
		{"config: {upstream: 'http://a', redis: {state_url: 'redis://:pw@r'}}", "redis.stateSecret"},
		{"{kind: DaemonSet, autoscaling: {enabled: true}}", "autoscaling.enabled: a DaemonSet"},
		{"{serviceMonitor: {enabled: true}, adminService: {enabled: false}}", "set adminService.enabled"},
		{"{ingress: {enabled: true, hosts: [{host: a}]}, service: {enabled: false}}", "service.enabled"},
		{"{ingress: {enabled: true}}", "ingress.hosts: names no host"},
		{"{httpRoute: {enabled: true}}", "httpRoute.parentRefs"},
		{"terminationGracePeriodSeconds: 30", "30 is not more than the 30 s of config.drain.delay and config.drain.timeout"},
		{"{terminationGracePeriodSeconds: 90, config: {upstream: 'http://a', drain: {timeout: 1m30s}}}", "90 is not more than the 95 s"},
		{"replica: 3", "replica"},
		{"kind: StatefulSet", "kind"},
		{"image: {name: x}", "name"},
		{"ports: {admin: 0}", "admin"},
		{"service: {type: ExternalName}", "type"},
		{"goMemLimit: 1Gi", "goMemLimit"},
		{"serviceMonitor: {interval: 30}", "interval"},
		{"nodeSelector: {gpu: true}", "gpu"},
	} {
		_, err := renderChart(load(t, chartDir), given(t, c.values), kubernetes)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want %q, got %v", c.values, c.want, err)
		}
	}
}

func TestGrace(t *testing.T) {
	for _, c := range []struct {
		values string
		want   int64
	}{
		{"{}", 35}, // drain.delay 5s, drain.timeout 25s, and 5
		{"config: {upstream: 'http://a', drain: {delay: 15s}}", 45},
		{"config: {upstream: 'http://a', drain: {timeout: 1m30s}}", 100},
		{"config: {upstream: 'http://a', drain: {delay: 1500ms, timeout: 0.5h}}", 1807},
		{"config: {upstream: 'http://a', drain: {delay: 0s, timeout: 0}}", 5},
		{"terminationGracePeriodSeconds: 31", 31},
	} {
		pod := decoded(t, given(t, c.values)).pod(t)
		if got := *pod.Spec.TerminationGracePeriodSeconds; got != c.want {
			t.Errorf("%s: %d s, want %d", c.values, got, c.want)
		}
	}
}

// A Secret's content is named and never copied; its variables have precedence over the file.
func TestSecrets(t *testing.T) {
	r := render(t, given(t, `{redis: {existingSecret: {name: r}, stateSecret: {name: s, key: state}, tlsSecret: c}, admin: {existingSecret: {name: a}}}`))
	list := mustDecode(t, r.text())
	container := proxyOf(t, list.pod(t).Spec)
	for name, want := range map[string]string{"CACHEPROXY_REDIS_URL": "r url", "CACHEPROXY_REDIS_STATE_URL": "s state"} {
		i := slices.IndexFunc(container.Env, func(v core.EnvVar) bool { return v.Name == name })
		if i < 0 || container.Env[i].ValueFrom == nil {
			t.Errorf("%s is not there: %v", name, container.Env)
			continue
		}
		if ref := container.Env[i].ValueFrom.SecretKeyRef; ref.Name+" "+ref.Key != want {
			t.Errorf("%s is from %s %s", name, ref.Name, ref.Key)
		}
	}
	paths := map[string]string{}
	for _, m := range container.VolumeMounts {
		paths[m.Name] = m.MountPath
	}
	var file string
	for _, v := range list.pod(t).Spec.Volumes {
		if v.Secret != nil && v.Secret.SecretName == "a" {
			file = paths[v.Name] + "/" + v.Secret.Items[0].Path
		}
	}
	if config := list.config(t); file == "" || !strings.Contains(config, "token_file: "+file+"\n") {
		t.Errorf("the token is at %q, and the configuration is\n%s", file, config)
	}
}

// What the user writes wins over what the chart adds, and comes out as written.
func TestConfig(t *testing.T) {
	v := given(t, `config: {upstream: "http://a", listen: ":8443", redis: {prefix: mine, timeout: 70ms}, server: {max_body: 123456789012}, wire: false}`)
	var got, want values
	if err := yaml.Unmarshal([]byte(decoded(t, v).config(t)), &got); err != nil {
		t.Fatal(err)
	}
	_ = yaml.Unmarshal([]byte(`{upstream: "http://a", listen: ":8443", admin: {listen: ":9090"}, redis: {prefix: mine, timeout: 70ms},
	  server: {max_body: 123456789012}, wire: false}`), &want)
	a, _ := yaml.Marshal(got)
	b, _ := yaml.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got\n%swant\n%s", a, b)
	}
	if text := decoded(t, v).config(t); !strings.Contains(text, "max_body: 123456789012\n") {
		t.Errorf("a number is written otherwise:\n%s", text)
	}
}

func TestPrefix(t *testing.T) {
	for values, want := range map[string]string{
		"{}":                       "prefix: cp:shop:front-cacheproxy\n",
		"{fullnameOverride: edge}": "prefix: cp:shop:edge\n",
	} {
		if config := decoded(t, given(t, values)).config(t); !strings.Contains(config, want) {
			t.Errorf("%s: want %q in\n%s", values, want, config)
		}
	}
}

// The pods roll when their configuration changes, and not when something else does.
func TestChecksum(t *testing.T) {
	sum := func(v string) string { return decoded(t, given(t, v)).pod(t).Annotations["checksum/config"] }
	first := sum("{}")
	if same := sum("replicas: 3"); first == "" || same != first {
		t.Errorf("%q and %q of one configuration", first, same)
	}
	if other := sum("config: {upstream: 'http://other'}"); other == first {
		t.Error("the same of two configurations")
	}
	if none := sum("configChange: reload"); none != "" {
		t.Errorf("%q where the pods are to reload", none)
	}
}

func TestKinds(t *testing.T) {
	list := decoded(t, given(t, "kind: DaemonSet"))
	set := only[*apps.DaemonSet](t, list)
	if n := len(all[*policy.PodDisruptionBudget](list)); n != 0 {
		t.Errorf("%d budgets for a DaemonSet", n)
	}
	if n := len(set.Spec.Template.Spec.TopologySpreadConstraints); n != 0 {
		t.Errorf("a DaemonSet with %d spread constraints", n)
	}
	if d := only[*apps.Deployment](t, decoded(t, given(t, "autoscaling: {enabled: true}"))); d.Spec.Replicas != nil {
		t.Error("replicas are set beside an autoscaler, which each upgrade would undo")
	}
}

// The program derives its memory limit by itself, unless the user names one.
func TestMemoryLimit(t *testing.T) {
	limit := func(v string) string {
		for _, variable := range proxyOf(t, decoded(t, given(t, v)).pod(t).Spec).Env {
			if variable.Name == "GOMEMLIMIT" {
				return variable.Value
			}
		}
		return ""
	}
	if got := limit("{}"); got != "" {
		t.Errorf("GOMEMLIMIT=%s by default", got)
	}
	if got := limit("goMemLimit: 400MiB"); got != "400MiB" {
		t.Errorf("GOMEMLIMIT=%s", got)
	}
}

// Everything of a pod that others may want to add arrives where it belongs.
func TestExtras(t *testing.T) {
	pod := decoded(t, given(t, `
extraArgs: [--log-format, text]
extraEnv: [{name: CACHEPROXY_NEAR_SIZE, value: 1MiB}]
extraEnvFrom: [{secretRef: {name: e}}]
extraVolumes: [{name: x, emptyDir: {}}]
extraVolumeMounts: [{name: x, mountPath: /x}]
extraContainers: [{name: beside, image: b}]
initContainers: [{name: before, image: b}]
imagePullSecrets: [{name: p}]
podLabels: {l: v}
podAnnotations: {a: v}
nodeSelector: {disk: fast}
tolerations: [{operator: Exists}]
affinity: {podAntiAffinity: {}}
priorityClassName: high
hostNetwork: true
dnsConfig: {searches: [s]}
lifecycle: {preStop: {sleep: {seconds: 3}}}
image: {digest: "sha256:`+strings.Repeat("0", 64)+`"}
ports: {http: 80, hostPort: 80}
`)).pod(t)
	c, s := proxyOf(t, pod.Spec), pod.Spec
	for what, ok := range map[string]bool{
		"extraArgs":         slices.Equal(c.Args[3:], []string{"--log-format", "text"}),
		"extraEnv":          c.Env[0].Value == "1MiB",
		"extraEnvFrom":      c.EnvFrom[0].SecretRef.Name == "e",
		"extraVolumes":      s.Volumes[len(s.Volumes)-1].Name == "x",
		"extraVolumeMounts": c.VolumeMounts[len(c.VolumeMounts)-1].MountPath == "/x",
		"extraContainers":   s.Containers[1].Name == "beside",
		"initContainers":    s.InitContainers[0].Name == "before",
		"imagePullSecrets":  s.ImagePullSecrets[0].Name == "p",
		"podLabels":         pod.Labels["l"] == "v",
		"podAnnotations":    pod.Annotations["a"] == "v",
		"nodeSelector":      s.NodeSelector["disk"] == "fast",
		"tolerations":       s.Tolerations[0].Operator == core.TolerationOpExists,
		"affinity":          s.Affinity.PodAntiAffinity != nil,
		"priorityClassName": s.PriorityClassName == "high",
		"hostNetwork":       s.HostNetwork && s.DNSPolicy == core.DNSClusterFirstWithHostNet,
		"dnsConfig":         s.DNSConfig.Searches[0] == "s",
		"lifecycle":         c.Lifecycle.PreStop.Sleep.Seconds == 3,
		"image.digest":      strings.HasPrefix(c.Image, "cacheproxy@sha256:0000"),
		"ports":             c.Ports[0].ContainerPort == 80 && c.Ports[0].HostPort == 80,
		"no service links":  !*s.EnableServiceLinks && !*s.AutomountServiceAccountToken,
	} {
		if !ok {
			t.Errorf("%s did not arrive", what)
		}
	}
}

// values.yaml, its schema and its comments speak of the same keys.
func TestValuesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	data, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for key := range schema.Properties {
		if key != "global" && key != "enabled" && !regexp.MustCompile(`(?m)^`+key+`:`).Match(text) {
			t.Errorf("values.yaml does not show %s", key)
		}
	}
}
