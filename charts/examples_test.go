package charts

import (
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	security "k8s.io/pod-security-admission/api"
	admission "k8s.io/pod-security-admission/policy"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

func TestLint(t *testing.T) {
	kube, err := chartutil.ParseKubeVersion(kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	log.SetOutput(io.Discard) // lint prints what the templates would refuse
	defer log.SetOutput(os.Stderr)
	for _, e := range append(examples(t), example{"no values", nil}) {
		for _, m := range lint.AllWithKubeVersion(chartDir, e.values, namespace, kube).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", e.name, m)
			}
		}
	}
}

func TestExamples(t *testing.T) {
	for _, e := range examples(t) {
		t.Run(e.name, func(t *testing.T) {
			r := render(t, e.values)
			golden(t, e.name+".yaml", r.text())
			golden(t, e.name+".txt", r.notes)
			list := mustDecode(t, r.text())
			checkMetadata(t, list)
			checkReferences(t, list)
			checkPods(t, list)
			validate(t, list.config(t))
		})
	}
}

func checkMetadata(t *testing.T, list objects) {
	seen := map[string]bool{}
	for _, object := range list {
		name := fmt.Sprintf("%T %s", object, object.GetName())
		if seen[name] {
			t.Errorf("%s is made twice", name)
		}
		seen[name] = true
		if object.GetNamespace() != namespace || object.GetLabels()["app.kubernetes.io/instance"] != release {
			t.Errorf("%s: namespace %q, labels %v", name, object.GetNamespace(), object.GetLabels())
		}
	}
}

// checkReferences follows every name and label by which one object means another.
func checkReferences(t *testing.T, list objects) {
	pod := list.pod(t)
	ports := map[string]bool{}
	for _, p := range proxyOf(t, pod.Spec).Ports {
		ports[p.Name] = true
	}
	services := map[string]*core.Service{}
	for _, s := range all[*core.Service](list) {
		services[s.Name] = s
		if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("Service %s does not select the pods", s.Name)
		}
		for _, test := range all[*core.Pod](list) {
			if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(test.Labels)) {
				t.Errorf("Service %s selects the pod %s", s.Name, test.Name)
			}
		}
		for _, p := range s.Spec.Ports {
			if !ports[p.TargetPort.StrVal] {
				t.Errorf("Service %s leads to %q, which is no port of the container", s.Name, p.TargetPort.String())
			}
		}
	}
	backend := func(of, name string, port intstr.IntOrString) {
		if s := services[name]; s == nil || !slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool {
			return p.Name == port.StrVal || p.Port == port.IntVal
		}) {
			t.Errorf("%s leads to port %s of %s, which is not there", of, port.String(), name)
		}
	}
	for _, i := range all[*networking.Ingress](list) {
		for _, rule := range i.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				backend("Ingress", path.Backend.Service.Name, intstr.FromString(path.Backend.Service.Port.Name))
			}
		}
	}
	for _, route := range all[*gateway.HTTPRoute](list) {
		for _, ref := range route.Spec.Rules[0].BackendRefs {
			backend("HTTPRoute", string(ref.Name), intstr.FromInt32(int32(*ref.Port)))
		}
	}
	for _, p := range all[*networking.NetworkPolicy](list) {
		checkSelects(t, "NetworkPolicy", &p.Spec.PodSelector, pod.Labels)
		for _, rule := range p.Spec.Ingress {
			if !ports[rule.Ports[0].Port.StrVal] {
				t.Errorf("NetworkPolicy: no port %q", rule.Ports[0].Port.String())
			}
		}
	}
	for _, b := range all[*policy.PodDisruptionBudget](list) {
		checkSelects(t, "PodDisruptionBudget", b.Spec.Selector, pod.Labels)
	}
	for _, c := range pod.Spec.TopologySpreadConstraints {
		checkSelects(t, "topologySpreadConstraints", c.LabelSelector, pod.Labels)
	}
	for _, h := range all[*autoscaling.HorizontalPodAutoscaler](list) {
		target := h.Spec.ScaleTargetRef
		if !slices.ContainsFunc(list, func(o meta.Object) bool {
			return fmt.Sprintf("%T", o) == "*v1."+target.Kind && o.GetName() == target.Name
		}) {
			t.Errorf("HorizontalPodAutoscaler: no %s %s", target.Kind, target.Name)
		}
	}
	for _, m := range all[*monitoring.ServiceMonitor](list) {
		checkMonitor(t, m, services)
	}
}

func checkSelects(t *testing.T, who string, selector *meta.LabelSelector, set map[string]string) {
	t.Helper()
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil || s.Empty() || !s.Matches(labels.Set(set)) {
		t.Errorf("%s: %v does not select the pods (%v)", who, s, err)
	}
}

// checkMonitor expects that exactly one Service is scraped: each pod would be scraped twice otherwise.
func checkMonitor(t *testing.T, m *monitoring.ServiceMonitor, services map[string]*core.Service) {
	selected := 0
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		if !labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) {
			continue
		}
		selected++
		if s.Spec.Ports[0].Name != m.Spec.Endpoints[0].Port {
			t.Errorf("ServiceMonitor: Service %s has no port %s", name, m.Spec.Endpoints[0].Port)
		}
	}
	if selected != 1 {
		t.Errorf("ServiceMonitor selects %d Services", selected)
	}
}

// checkPods expects all pods, the test's too, to pass the Pod Security Standard "restricted", every mount to have its volume, and every
// volume of the chart to name what exists or is the user's.
func checkPods(t *testing.T, list objects) {
	template := list.pod(t)
	pods := []core.PodTemplateSpec{template}
	for _, p := range all[*core.Pod](list) {
		pods = append(pods, core.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec})
	}
	for _, p := range pods {
		checkRestricted(t, p)
		volumes := map[string]bool{}
		for _, v := range p.Spec.Volumes {
			volumes[v.Name] = true
			if v.ConfigMap != nil && v.ConfigMap.Name != only[*core.ConfigMap](t, list).Name {
				t.Errorf("no ConfigMap %s", v.ConfigMap.Name)
			}
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			mounted := map[string]bool{}
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("container %s mounts %s, which is no volume", c.Name, m.Name)
				}
				for other := range mounted {
					if strings.HasPrefix(m.MountPath+"/", other+"/") || strings.HasPrefix(other+"/", m.MountPath+"/") {
						t.Errorf("container %s mounts %s and %s, one inside the other", c.Name, m.MountPath, other)
					}
				}
				mounted[m.MountPath] = true
			}
			if security := c.SecurityContext; security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
				t.Errorf("container %s may write to its root", c.Name)
			}
		}
	}
}

func checkRestricted(t *testing.T, p core.PodTemplateSpec) {
	t.Helper()
	evaluator, err := admission.NewEvaluator(admission.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	if r := admission.AggregateCheckResults(evaluator.EvaluatePod(level, &p.ObjectMeta, &p.Spec)); !r.Allowed {
		t.Errorf("not allowed under restricted: %s", r.ForbiddenDetail())
	}
}
