{{/*
The configuration, and what follows from it.
*/}}

{{/* config.yaml: what the chart adds, under what the user wrote. */}}
{{- define "cacheproxy.config" -}}
{{- $admin := dict "listen" (printf ":%d" (int .Values.ports.admin)) -}}
{{- if .Values.admin.existingSecret.name -}}
{{- $_ := set $admin "token_file" "/etc/cacheproxy/admin/token" -}}
{{- end -}}
{{- $listen := printf ":%d" (int .Values.ports.http) -}}
{{- $both := $listen -}}
{{- if .Values.tls.existingSecret -}}
{{- $pair := dict "cert" "/etc/cacheproxy/tls/tls.crt" "key" "/etc/cacheproxy/tls/tls.key" -}}
{{- $both = list $listen (dict "address" (printf ":%d" (int .Values.ports.https)) "tls" $pair) -}}
{{- end -}}
{{- $added := dict "listen" $both "admin" $admin
      "redis" (dict "prefix" (printf "cp:%s:%s" .Release.Namespace (include "cacheproxy.fullname" .))) -}}
{{- toYaml (mergeOverwrite $added (deepCopy .Values.config)) -}}
{{- end }}

{{/* Changes when the configuration does. As an annotation of the pods it makes a change roll them. */}}
{{- define "cacheproxy.checksum" -}}
{{- include "cacheproxy.config" . | sha256sum -}}
{{- end }}

{{/* Refuses values that each make sense and together do not, with the key to change. */}}
{{- define "cacheproxy.check" -}}
{{- $c := .Values.config -}}
{{- $redis := default dict $c.redis -}}
{{- if not (or $c.upstream $c.sites) -}}
{{- fail "config.upstream: nothing says where requests go: --set config.upstream=http://shop.default.svc:3000" -}}
{{- end -}}
{{- if $c.admin -}}
{{- fail "config.admin: is written by the chart: see ports.admin and admin.existingSecret" -}}
{{- end -}}
{{- if or $redis.url $redis.state_url -}}
{{- fail "config.redis: a URL may hold a password and belongs into a Secret: see redis.existingSecret and redis.stateSecret" -}}
{{- end -}}
{{- if and (eq .Values.kind "DaemonSet") .Values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled: a DaemonSet has one pod on each node: set kind to Deployment" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.adminService.enabled) -}}
{{- fail "serviceMonitor.enabled: finds the pods by their admin Service: set adminService.enabled" -}}
{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not .Values.service.enabled) -}}
{{- fail "service.enabled: an Ingress or an HTTPRoute leads to the Service" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: names no Gateway" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: names no host; {host: \"\"} is every host" -}}
{{- end -}}
{{- end }}

{{/* A Go duration (1m30s) in seconds, rounded up. */}}
{{- define "cacheproxy.seconds" -}}
{{- $unit := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "ns" 0.000000001 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|us|µs|ns|h|m|s)" (toString .) -1 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $sum = addf $sum (mulf (float64 $number) (get $unit (trimPrefix $number .))) -}}
{{- end -}}
{{- ceil $sum | int -}}
{{- end }}

{{/* terminationGracePeriodSeconds: more than the proxy takes to drain, since then it would be killed with requests in flight. */}}
{{- define "cacheproxy.grace" -}}
{{- $drain := default dict .Values.config.drain -}}
{{- $delay := include "cacheproxy.seconds" (ternary $drain.delay "5s" (hasKey $drain "delay")) -}}
{{- $timeout := include "cacheproxy.seconds" (ternary $drain.timeout "25s" (hasKey $drain "timeout")) -}}
{{- $needed := add (int $delay) (int $timeout) -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add $needed 5 -}}
{{- else if le (int .Values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is not more than the %d s of config.drain.delay and config.drain.timeout" (int .Values.terminationGracePeriodSeconds) $needed) -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end }}
