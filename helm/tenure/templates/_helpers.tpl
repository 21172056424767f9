{{/*
Names. The StatefulSet's name must leave room for the 11 characters that Kubernetes adds to it in
a label of at most 63, so the base is cut at 40: the longest suffix is "-ratelimiter".
*/}}
{{- define "tenure.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "tenure.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tenure.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tenure.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/*
Labels. Call with (dict "root" $ "component" "ratelimiter"). Selectors cannot change after the
installation, so they hold nothing that a value or a release can change.
*/}}
{{- define "tenure.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tenure.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tenure.labels" -}}
{{- $labels := include "tenure.selectorLabels" . | fromYaml }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) }}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $labels "app.kubernetes.io/part-of" "tenure" }}
{{- merge $labels .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* Labels of pods: nothing in them changes with the chart's version, or each upgrade would restart every pod. */}}
{{- define "tenure.podLabels" -}}
{{- $labels := include "tenure.selectorLabels" . | fromYaml }}
{{- merge $labels (default dict .podLabels) .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* The ports a component listens on, as a YAML map. They are fixed: only the Service's may change. */}}
{{- define "tenure.ports" -}}
{{- get (dict "ratelimiter" "{public: 7101, admin: 7201}" "sessions" "{public: 7103, admin: 7203}" "workflows" "{public: 7102, admin: 7202}") . }}
{{- end }}

{{- define "tenure.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secret with the store's URL: the operator's own, or the one this chart makes. */}}
{{- define "tenure.redisSecretName" -}}
{{- default (printf "%s-redis" (include "tenure.fullname" .)) .Values.redis.existingSecret }}
{{- end }}

{{- define "tenure.redisSecretKey" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.existingSecretKey }}{{ else }}redis-url{{ end }}
{{- end }}

{{- define "tenure.redisUrl" -}}
{{- if .Values.devValkey.enabled }}
{{- printf "redis://%s-valkey:6379/0" (include "tenure.fullname" .) }}
{{- else }}
{{- .Values.redis.url }}
{{- end }}
{{- end }}

{{/*
Seconds between SIGTERM and SIGKILL: the sum of what a stopping node may take. A node that is
killed earlier loses nothing committed, but its shards wait for their leases to expire.
*/}}
{{- define "tenure.graceSeconds" -}}
{{- with .Values.node.shutdown }}
{{- add .drainSeconds .finishSeconds .telemetrySeconds .marginSeconds }}
{{- end }}
{{- end }}

{{/* What the restricted Pod Security Standard asks of a pod, and of a container. */}}
{{- define "tenure.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tenure.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end }}

{{/*
Environment of a node, from one map, so that no name comes twice (server-side apply refuses that).
TENURE_NODE_NAME stands first because later values refer to it.
*/}}
{{- define "tenure.env" -}}
{{- $root := .root }}
{{- $ports := include "tenure.ports" .component | fromYaml }}
{{- $env := dict
  "TENURE_HOST" "0.0.0.0"
  "TENURE_PORT" (toString $ports.public)
  "TENURE_ADMIN_HOST" "0.0.0.0"
  "TENURE_ADMIN_PORT" (toString $ports.admin)
  "TENURE_DATA_DIR" "/tmp/tenure"
  "TENURE_LEASE_TTL_MS" (toString (int64 $root.Values.node.leaseTtlMs))
  "TENURE_LOG_LEVEL" $root.Values.node.logLevel
}}
{{- with $root.Values.telemetry.otlp }}
{{- if .endpoint }}
{{- $attributes := list "k8s.pod.name=$(TENURE_NODE_NAME)" (printf "k8s.namespace.name=%s" $root.Release.Namespace) }}
{{- range $name, $value := .resourceAttributes }}
{{- $attributes = append $attributes (printf "%s=%s" $name $value) }}
{{- end }}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" .endpoint }}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_COMPRESSION" "gzip" }}
{{- $_ := set $env "OTEL_TRACES_SAMPLER" "parentbased_traceidratio" }}
{{- $_ := set $env "OTEL_TRACES_SAMPLER_ARG" (toString .sampleRatio) }}
{{- $_ := set $env "OTEL_RESOURCE_ATTRIBUTES" (join "," $attributes) }}
{{- end }}
{{- end }}
{{- range $name, $value := .values.extraEnv }}
{{- if or (hasKey $env $name) (has $name (list "TENURE_NODE_NAME" "TENURE_REDIS_URL" "TENURE_SESSION_KEYS" "TENURE_WORKFLOW_KEYS")) }}
{{- fail (printf "components.%s.extraEnv.%s: the chart sets this variable itself; use the value that stands for it." $.component $name) }}
{{- end }}
{{- $_ := set $env $name $value }}
{{- end }}
- name: TENURE_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: TENURE_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "tenure.redisSecretName" $root | quote }}
      key: {{ include "tenure.redisSecretKey" $root | quote }}
{{- if and (eq .component "sessions") $root.Values.sessionKeys.existingSecret }}
- name: TENURE_SESSION_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ $root.Values.sessionKeys.existingSecret | quote }}
      key: {{ $root.Values.sessionKeys.existingSecretKey | quote }}
{{- end }}
{{- if and (eq .component "workflows") $root.Values.workflowKeys.existingSecret }}
- name: TENURE_WORKFLOW_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ $root.Values.workflowKeys.existingSecret | quote }}
      key: {{ $root.Values.workflowKeys.existingSecretKey | quote }}
{{- end }}
{{- range $name, $value := $env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
