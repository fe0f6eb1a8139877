{{/*
What another chart needs to run the proxy beside its own container, as a native sidecar. With this chart as a dependency named cacheproxy
and cacheproxy.mode=sidecar:

    spec:
      template:
        metadata:
          annotations:
            checksum/cacheproxy: {{ include "cacheproxy.checksum" .Subcharts.cacheproxy }}
        spec:
          initContainers:
            {{- include "cacheproxy.sidecar" .Subcharts.cacheproxy | nindent 12 }}
          volumes:
            {{- include "cacheproxy.sidecarVolumes" .Subcharts.cacheproxy | nindent 12 }}
*/}}

{{/* An item of initContainers. It is started, and answers, before the containers are; it is ended after they ended. */}}
{{- define "cacheproxy.sidecar" -}}
{{- include "cacheproxy.check" . -}}
{{- if ne .Values.mode "sidecar" -}}
{{- fail "mode: set it to sidecar, or this chart also makes a proxy that stands alone" -}}
{{- end -}}
{{- if semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail "cacheproxy.sidecar: native sidecars need Kubernetes 1.29" -}}
{{- end -}}
- restartPolicy: Always
  {{- include "cacheproxy.container" . | nindent 2 }}
{{- end }}

{{/* Items of volumes. */}}
{{- define "cacheproxy.sidecarVolumes" -}}
{{- include "cacheproxy.volumes" . -}}
{{- end }}
