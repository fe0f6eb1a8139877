{{/*
The container of the proxy, the same standalone and as a sidecar. The map is not closed: callers may add fields.
*/}}
{{- define "cacheproxy.container" -}}
name: cacheproxy
image: {{ include "cacheproxy.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - serve
  - --config
  - /etc/cacheproxy/config/config.yaml
  {{- with .Values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- include "cacheproxy.env" . }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: cache-http
    containerPort: {{ .Values.ports.http }}
    {{- with .Values.ports.hostPort }}
    hostPort: {{ . }}
    {{- end }}
  {{- if .Values.tls.existingSecret }}
  - name: cache-https
    containerPort: {{ .Values.ports.https }}
  {{- end }}
  - name: cache-admin
    containerPort: {{ .Values.ports.admin }}
{{- include "cacheproxy.probe" (list . "startup" "/livez") }}
{{- include "cacheproxy.probe" (list . "liveness" "/livez") }}
{{- include "cacheproxy.probe" (list . "readiness" "/readyz") }}
{{- with .Values.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- include "cacheproxy.mounts" . | nindent 2 }}
{{- end }}

{{/* probe(scope, kind, path) */}}
{{- define "cacheproxy.probe" -}}
{{- with get (index . 0).Values.probes (index . 1) }}
{{ index $ 1 }}Probe:
  httpGet:
    path: {{ index $ 2 }}
    port: cache-admin
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "cacheproxy.env" -}}
{{- $env := list -}}
{{- with .Values.redis.existingSecret -}}
{{- if .name -}}
{{- $env = append $env (dict "name" "CACHEPROXY_REDIS_URL" "valueFrom" (dict "secretKeyRef" (dict "name" .name "key" .key))) -}}
{{- end -}}
{{- end -}}
{{- with .Values.redis.stateSecret -}}
{{- if .name -}}
{{- $env = append $env (dict "name" "CACHEPROXY_REDIS_STATE_URL" "valueFrom" (dict "secretKeyRef" (dict "name" .name "key" .key))) -}}
{{- end -}}
{{- end -}}
{{- with .Values.goMemLimit -}}
{{- $env = append $env (dict "name" "GOMEMLIMIT" "value" .) -}}
{{- end -}}
{{- with concat $env .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Directories beside each other: a file mounted by subPath would never change, and nothing can be mounted inside a ConfigMap. */}}
{{- define "cacheproxy.mounts" -}}
- name: cacheproxy-config
  mountPath: /etc/cacheproxy/config
  readOnly: true
{{- if .Values.admin.existingSecret.name }}
- name: cacheproxy-admin
  mountPath: /etc/cacheproxy/admin
  readOnly: true
{{- end }}
{{- if .Values.redis.tlsSecret }}
- name: cacheproxy-redis-tls
  mountPath: /etc/cacheproxy/redis-tls
  readOnly: true
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: cacheproxy-tls
  mountPath: /etc/cacheproxy/tls
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "cacheproxy.volumes" -}}
- name: cacheproxy-config
  configMap:
    name: {{ include "cacheproxy.fullname" . }}
{{- with .Values.admin.existingSecret }}
{{- if .name }}
- name: cacheproxy-admin
  secret:
    secretName: {{ .name }}
    items:
      - key: {{ .key }}
        path: token
{{- end }}
{{- end }}
{{- with .Values.redis.tlsSecret }}
- name: cacheproxy-redis-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.tls.existingSecret }}
- name: cacheproxy-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
