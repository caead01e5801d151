{{/*
Scales a pool by its waiting and running jobs. dict: of (the workload), keda, profile

Scale-in picks any pod. It gets SIGTERM, finishes its jobs and ends: the workload's grace period is
longer than an attempt may take. Without fresh figures of the leader the query has no value, which
is an error (ignoreNullValues), not 0, and the pool gets `fallback` workers.
*/}}
{{- define "stillmotion.scaler" -}}
{{- $root := .of.root -}}
{{- $labels := printf "region=%q,profile=%q" .of.region .profile -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "stillmotion.name" .of }}
  labels:
    {{- include "stillmotion.labels" .of | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "stillmotion.name" .of }}
  pollingInterval: 15
  cooldownPeriod: {{ .keda.scaleDownSeconds }}
  minReplicaCount: {{ .keda.min }}
  maxReplicaCount: {{ .keda.max }}
  fallback:
    failureThreshold: 3
    replicas: {{ .keda.fallback }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          policies: [{type: Percent, value: 100, periodSeconds: 30}, {type: Pods, value: 4, periodSeconds: 30}]
        scaleDown:
          stabilizationWindowSeconds: {{ .keda.scaleDownSeconds }}
          policies: [{type: Percent, value: 10, periodSeconds: 60}]
  triggers:
    - type: prometheus
      metadata:
        serverAddress: {{ required "keda.prometheus is required where a pool has keda." $root.Values.keda.prometheus }}
        threshold: {{ .keda.jobsPerWorker | toString | quote }}
        ignoreNullValues: "false"
        query: >-
          sum(max by (profile, region, state) (stillmotion_live_jobs{ {{- $labels -}} }))
          and on() (min(stillmotion_cluster_age_seconds) < 60)
{{- end -}}
