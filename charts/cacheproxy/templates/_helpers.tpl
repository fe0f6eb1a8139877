{{/*
Names and labels. All templates are given the scope of this chart, in a parent chart .Subcharts.cacheproxy.
*/}}
{{- define "cacheproxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* At most 57 bytes, so that -admin and -tests fit into the 63 of a name. */}}
{{- define "cacheproxy.fullname" -}}
{{- $name := include "cacheproxy.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 57 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 57 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 57 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "cacheproxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "cacheproxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What selects the pods of the proxy, and not those of helm test. */}}
{{- define "cacheproxy.podSelector" -}}
{{ include "cacheproxy.selectorLabels" . }}
app.kubernetes.io/component: proxy
{{- end }}

{{- define "cacheproxy.labels" -}}
{{ include "cacheproxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "cacheproxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cacheproxy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "cacheproxy.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}
