package charts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// kinds are the published Go types of what the chart makes.
var kinds = map[string]func() meta.Object{
	"apps/v1 Deployment":                      func() meta.Object { return new(apps.Deployment) },
	"apps/v1 DaemonSet":                       func() meta.Object { return new(apps.DaemonSet) },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() meta.Object { return new(autoscaling.HorizontalPodAutoscaler) },
	"gateway.networking.k8s.io/v1 HTTPRoute":  func() meta.Object { return new(gateway.HTTPRoute) },
	"monitoring.coreos.com/v1 PrometheusRule": func() meta.Object { return new(monitoring.PrometheusRule) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() meta.Object { return new(monitoring.ServiceMonitor) },
	"networking.k8s.io/v1 Ingress":            func() meta.Object { return new(networking.Ingress) },
	"networking.k8s.io/v1 NetworkPolicy":      func() meta.Object { return new(networking.NetworkPolicy) },
	"policy/v1 PodDisruptionBudget":           func() meta.Object { return new(policy.PodDisruptionBudget) },
	"v1 ConfigMap":                            func() meta.Object { return new(core.ConfigMap) },
	"v1 Pod":                                  func() meta.Object { return new(core.Pod) },
	"v1 Service":                              func() meta.Object { return new(core.Service) },
	"v1 ServiceAccount":                       func() meta.Object { return new(core.ServiceAccount) },
}

// objects are decoded documents, and what is asked of them most.
type objects []meta.Object

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// decode reads YAML documents as the API server would with fieldValidation=Strict: unknown fields, fields in another case, fields
// given twice and wrong types are errors.
func decode(text string) (objects, error) {
	var list objects
	for _, document := range separator.Split(text, -1) {
		if strings.TrimSpace(document) == "" {
			continue
		}
		data, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, document)
		}
		var kind meta.TypeMeta
		if _, err := strict.UnmarshalStrict(data, &kind, strict.DisallowDuplicateFields); err != nil {
			return nil, err
		}
		create := kinds[kind.APIVersion+" "+kind.Kind]
		if create == nil {
			return nil, fmt.Errorf("no type for %s %s", kind.APIVersion, kind.Kind)
		}
		object := create()
		wrong, err := strict.UnmarshalStrict(data, object)
		if err == nil && len(wrong) > 0 {
			err = wrong[0]
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
		}
		list = append(list, object)
	}
	return list, nil
}

// decoded renders the chart with v and decodes it.
func decoded(t *testing.T, v values) objects {
	t.Helper()
	return mustDecode(t, render(t, v).text())
}

func mustDecode(t *testing.T, text string) objects {
	t.Helper()
	list, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// all returns the objects of one type.
func all[T meta.Object](list objects) []T {
	var found []T
	for _, object := range list {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// only returns the one object of a type.
func only[T meta.Object](t *testing.T, list objects) T {
	t.Helper()
	found := all[T](list)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T", len(found), *new(T))
	}
	return found[0]
}

// pod returns the template of the pods that the chart's workload makes.
func (list objects) pod(t *testing.T) core.PodTemplateSpec {
	t.Helper()
	for _, set := range all[*apps.DaemonSet](list) {
		return set.Spec.Template
	}
	return only[*apps.Deployment](t, list).Spec.Template
}

// proxyOf returns the container of the proxy, whatever stands beside it.
func proxyOf(t *testing.T, spec core.PodSpec) core.Container {
	t.Helper()
	containers := slices.Concat(spec.InitContainers, spec.Containers)
	i := slices.IndexFunc(containers, func(c core.Container) bool { return c.Name == "cacheproxy" })
	if i < 0 {
		t.Fatal("no container cacheproxy")
	}
	return containers[i]
}

// config returns config.yaml of the ConfigMap.
func (list objects) config(t *testing.T) string {
	t.Helper()
	text := only[*core.ConfigMap](t, list).Data["config.yaml"]
	if text == "" {
		t.Fatal("the ConfigMap has no config.yaml")
	}
	return text
}

func TestDecodeIsStrict(t *testing.T) {
	for _, document := range []string{
		"apiVersion: v1\nkind: Service\nspec: {clusterIp: None}",                      // another case
		"apiVersion: v1\nkind: Service\nspec: {selectors: {a: b}}",                    // unknown
		"apiVersion: v1\nkind: Service\nspec: {type: ClusterIP, type: NodePort}",      // twice
		"apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: two}",                // another type
		"apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nspec: {x: null}", // unknown in a custom resource
		"apiVersion: v2\nkind: Service",
	} {
		if _, err := decode(document); err == nil {
			t.Errorf("decoded\n%s", document)
		}
	}
}
