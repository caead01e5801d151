{{/* Each takes a dict: root, component, and where they apply cell and pool. */}}

{{- define "stillmotion.name" -}}
{{- $name := join "-" (compact (list .root.Release.Name .component .cell .pool)) -}}
{{- if gt (len $name) 58 -}}
{{- fail (printf "%s: the names of release, cell and pool are too long together." $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "stillmotion.selector" -}}
app.kubernetes.io/name: stillmotion
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .cell }}
stillmotion/cell: {{ . }}
{{- end }}
{{- with .pool }}
stillmotion/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "stillmotion.labels" -}}
{{ include "stillmotion.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* dict: root, target */}}
{{- define "stillmotion.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s/%s" (required "image.registry is required." $image.registry) .target -}}
{{- with get $image.digests .target -}}
{{ $name }}@{{ . }}
{{- else -}}
{{ $name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* dict: root, env (a map) */}}
{{- define "stillmotion.env" -}}
envFrom:
  - secretRef:
      name: {{ required "settings.existingSecret is required." .root.Values.settings.existingSecret }}
{{- with mergeOverwrite (dict) .root.Values.settings.values .env }}
env:
{{- range $name, $value := . }}
  - name: {{ $name }}
    value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "stillmotion.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "stillmotion.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What every pod has. dict: root */}}
{{- define "stillmotion.podCommon" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "stillmotion.podSecurity" . | nindent 2 }}
{{- end -}}

{{/*
A Deployment and its PodDisruptionBudget.

dict: root, component, target, cell, pool, region, env, resources, grace, maxSurge, maxUnavailable;
and where they apply replicas (none: a scaler decides), port, path (of the liveness probe),
preStopSeconds, startupSeconds, secret (a further one), weights, provenance, drainFile, nodeSelector,
tolerations.
*/}}
{{- define "stillmotion.workload" -}}
{{- $root := .root -}}
{{- $name := include "stillmotion.name" . -}}
{{- $env := dict "REGION" .region "REGIONS_FILE" "/etc/stillmotion/regions.toml" "INTERNAL_HOST" "0.0.0.0" "INTERNAL_PORT" "9000" -}}
{{- $profiles := $root.Values.profiles.existingConfigMap -}}
{{- if $profiles -}}
{{- $_ := set $env "MODEL_PROFILES" "/etc/stillmotion-profiles" -}}
{{- end -}}
{{- if .provenance -}}
{{- $_ := set $env "PROVENANCE_CERT" "/etc/stillmotion-provenance/cert.pem" -}}
{{- $_ := set $env "PROVENANCE_KEY" "/etc/stillmotion-provenance/key.pem" -}}
{{- end -}}
{{- if .drainFile -}}
{{- $_ := set $env "DRAIN_FILE" (printf "/var/stillmotion-drain/%s" (base .drainFile)) -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "stillmotion.labels" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  # One pod finishes its work, the next one starts.
  progressDeadlineSeconds: {{ add .grace (.startupSeconds | default 120) 120 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ .maxSurge }}
      maxUnavailable: {{ .maxUnavailable }}
  selector:
    matchLabels:
      {{- include "stillmotion.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "stillmotion.labels" . | nindent 8 }}
    spec:
      {{- include "stillmotion.podCommon" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ .grace }}
      topologySpreadConstraints:
        {{- range list $root.Values.topologyKey "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "stillmotion.selector" $ | nindent 14 }}
        {{- end }}
      {{- with .nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "stillmotion.image" . }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          securityContext:
            {{- include "stillmotion.containerSecurity" . | nindent 12 }}
          {{- include "stillmotion.env" (dict "root" $root "env" (mergeOverwrite $env (.env | default dict))) | nindent 10 }}
          {{- with .secret }}
            - name: {{ .key }}
              valueFrom:
                secretKeyRef:
                  name: {{ .name }}
                  key: {{ .key }}
          {{- end }}
          ports:
            {{- with .port }}
            - name: http
              containerPort: {{ . }}
            {{- end }}
            {{- if ne .component "flower" }}
            - name: internal
              containerPort: 9000
            {{- end }}
          {{- $port := ternary "http" "internal" (eq .component "flower") }}
          startupProbe:
            httpGet: {path: {{ .path | default "/healthz" }}, port: {{ $port }}}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: {{ div (.startupSeconds | default 120) 5 }}
          livenessProbe:
            httpGet: {path: {{ .path | default "/healthz" }}, port: {{ $port }}}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: {{ .path | default "/readyz" }}, port: {{ $port }}}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          {{- with .preStopSeconds }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ . }}}
          {{- end }}
          resources:
            {{- toYaml .resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: regions, mountPath: /etc/stillmotion, readOnly: true}
            {{- if $profiles }}
            - {name: profiles, mountPath: /etc/stillmotion-profiles, readOnly: true}
            {{- end }}
            {{- if .provenance }}
            - {name: provenance, mountPath: /etc/stillmotion-provenance, readOnly: true}
            {{- end }}
            {{- with .weights }}
            - {name: weights, mountPath: /weights, readOnly: true}
            {{- end }}
            {{- with .drainFile }}
            - {name: drain, mountPath: /var/stillmotion-drain, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 2Gi}
        - name: regions
          secret:
            secretName: {{ required "regions.existingSecret is required." $root.Values.regions.existingSecret }}
            defaultMode: 0440
            items: [{key: regions.toml, path: regions.toml}]
        {{- with $profiles }}
        - name: profiles
          configMap: {name: {{ . }}}
        {{- end }}
        {{- with .provenance }}
        - name: provenance
          secret: {secretName: {{ . }}, defaultMode: 0440}
        {{- end }}
        {{- with .weights }}
        - name: weights
          persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
        {{- end }}
        {{- with .drainFile }}
        - name: drain
          hostPath: {path: {{ dir . }}, type: DirectoryOrCreate}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "stillmotion.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .budget | default 1 }}
  # A pod that is not ready serves nobody, and must not hold up the drain of its machine.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "stillmotion.selector" . | nindent 6 }}
{{- end -}}

{{/* A cell or a pool on top of its defaults, as JSON. dict: defaults, own */}}
{{- define "stillmotion.merged" -}}
{{- toJson (mergeOverwrite (deepCopy .defaults) (deepCopy (.own | default dict))) -}}
{{- end -}}
