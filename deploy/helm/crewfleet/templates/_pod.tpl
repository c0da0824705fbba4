{{- /* What the pods of workers and of gateways share. */}}

{{- /* Of a pod's spec, what stands before its containers: (list $ VALUES GRACE SELECTOR), where VALUES say where it may run. */}}
{{- define "crewfleet.pod" -}}
{{- $root := index . 0 }}
{{- $values := index . 1 }}
{{- $selector := index . 3 -}}
terminationGracePeriodSeconds: {{ int (index . 2) }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* A container's probes, at its port `admin`. */}}
{{- define "crewfleet.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 3
  timeoutSeconds: 5
  failureThreshold: 60
# Whether the process answers, whatever RabbitMQ does: a broker that is away must not restart the fleet.
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- /* A container's securityContext. */}}
{{- define "crewfleet.confined" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- /* The volume with the broker's URL, from the Secret of this name and key. */}}
{{- define "crewfleet.brokerVolume" -}}
- name: broker
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    optional: false
    items:
      - key: {{ .key }}
        path: broker-url
{{- end }}

{{- /* The egress of a NetworkPolicy, beside which VALUES may allow more: (list $ VALUES). */}}
{{- define "crewfleet.egress" -}}
{{- $policy := (index . 0).Values.networkPolicy -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  {{- with $policy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    {{- range $policy.broker.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with $policy.broker.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with (index . 1).egress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What may scrape metrics, as a NetworkPolicy's ingress. */}}
{{- define "crewfleet.scraped" -}}
- ports:
    - {protocol: TCP, port: admin}
  {{- with .Values.networkPolicy.prometheus.from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
