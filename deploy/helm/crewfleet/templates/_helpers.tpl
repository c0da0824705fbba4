{{- define "crewfleet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Of all that a release makes, but for the gateway's. */}}
{{- define "crewfleet.labels" -}}
{{ include "crewfleet.selector" . }}
{{ include "crewfleet.commonLabels" . }}
{{- end }}

{{- define "crewfleet.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Deployments cannot change their selectors: nothing of these may depend on a version. Prometheus takes the name for its
label job, and the alerts look for "crewfleet". */}}
{{- define "crewfleet.selector" -}}
app.kubernetes.io/name: crewfleet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of a group: (list $ NAME). */}}
{{- define "crewfleet.groupSelector" -}}
{{ include "crewfleet.selector" (index . 0) }}
crewfleet/group: {{ index . 1 }}
{{- end }}

{{- /* A group with all its values, as JSON: (list $ NAME). */}}
{{- define "crewfleet.group" -}}
{{- $root := index . 0 }}
{{- $name := index . 1 }}
{{- $given := index $root.Values.crewGroups $name }}
{{- $group := mergeOverwrite (deepCopy $root.Values.defaults) (deepCopy $given) }}
{{- $_ := set $group "name" $name }}
{{- $_ := set $group "fullname" (printf "%s-%s" (include "crewfleet.fullname" $root) $name) }}
{{- $image := deepCopy $root.Values.image }}
{{- /* A digest names one image: it must not follow a group to another. */}}
{{- if $group.image }}
{{- $_ := unset $image "digest" }}
{{- end }}
{{- $_ := set $group "image" (mergeOverwrite $image $group.image) }}
{{- /* Through JSON, so that every number is a float64, however it was given. */}}
{{- $group = $group | toJson | fromJson }}
{{- $_ := set $group "grace" (include "crewfleet.grace" $group | fromJson) }}
{{- include "crewfleet.check" (list $root $group) }}
{{- $group | toJson }}
{{- end }}

{{- /* How long a group's pods may take to end: longest crew < drain < termination. As JSON. */}}
{{- define "crewfleet.grace" -}}
{{- $longest := 0.0 }}
{{- $exit := 0.0 }}
{{- range .crews }}
{{- $longest = maxf $longest (get . "timeout_s" | default 600) }}
{{- if eq .runner "python" }}
{{- $ends := gt (int (get . "kickoffs_per_child" | default 1)) 1 | ternary 2.0 1.0 }}
{{- $exit = maxf $exit (mulf $ends (hasKey . "exit_grace_s" | ternary (get . "exit_grace_s") 10.0)) }}
{{- end }}
{{- end }}
{{- /* What was taken just before SIGTERM has yet to start, and to be answered. */}}
{{- $drain := addf (ceil $longest) 30 }}
{{- if not (kindIs "invalid" .requeueAfterSeconds) }}
{{- $drain = .requeueAfterSeconds }}
{{- end }}
{{- $cancel := 5.0 }}
{{- if hasKey .worker "cancel_grace_s" }}
{{- $cancel = .worker.cancel_grace_s }}
{{- end }}
{{- /* The worker demands 15 s to requeue what is left; as much again for the rest of its end. */}}
{{- dict "drain" $drain "termination" (ceil (addf $drain $cancel $exit 30)) | toJson }}
{{- end }}

{{- /* What the schema cannot say: (list $ GROUP). */}}
{{- define "crewfleet.check" -}}
{{- $root := index . 0 }}
{{- $group := index . 1 }}
{{- $broker := $root.Values.broker }}
{{- $limit := min 86400 (int ($broker.consumerTimeoutSeconds | default 86400)) }}
{{- range $name, $crew := $group.crews }}
{{- $timeout := get $crew "timeout_s" | default 600 }}
{{- $at := printf "crewGroups.%s.crews.%s" $group.name $name }}
{{- if ge (addf $timeout 60) (float64 $limit) }}
{{- fail (printf "%s.timeout_s: %v s and a margin of 60 s must stay below RabbitMQ's consumer timeout of %d s, %s; %s"
      $at $timeout $limit
      "or it takes the kickoff away while it runs"
      "lower it, or raise the nodes' consumer_timeout and broker.consumerTimeoutSeconds (at most 86400)") }}
{{- end }}
{{- if and (eq (get $crew "on_redelivery" | default "run") "fail") (ge $timeout $group.grace.drain) }}
{{- fail (printf "%s runs at most once, so a rollout would fail what runs after requeueAfterSeconds: %v; %s (%v)" $at
      $group.grace.drain "leave that out, or make it longer than timeout_s" $timeout) }}
{{- end }}
{{- range $variable, $_ := $crew.env }}
{{- if regexMatch (include "crewfleet.secretName" $) $variable }}
{{- fail (printf "%s.env: %s would be readable in a ConfigMap; put it into a Secret, and name that in envSecret" $at $variable) }}
{{- end }}
{{- end }}
{{- if and (hasKey $crew "envSecret") (hasKey $crew "env_file") }}
{{- fail (printf "%s has both envSecret and env_file; leave out env_file, which envSecret sets" $at) }}
{{- end }}
{{- end }}
{{- range $group.env }}
{{- if and (hasKey . "value") (regexMatch (include "crewfleet.secretName" $) .name) }}
{{- fail (printf "crewGroups.%s.env: %s would be readable in the Deployment; put it into a Secret for a crew's envSecret"
      $group.name .name) }}
{{- end }}
{{- end }}
{{- if not (dig "limits" "memory" "" $group.resources) }}
{{- fail (printf "crewGroups.%s.resources.limits.memory is missing; one crew could take the node's memory" $group.name) }}
{{- end }}
{{- if eq $group.autoscaling.type "keda" }}
{{- if not $root.Values.keda.existingSecret.name }}
{{- fail (printf "crewGroups.%s.autoscaling needs keda.existingSecret.name, with the URL of RabbitMQ's management API"
      $group.name) }}
{{- end }}
{{- if gt $group.autoscaling.minReplicas $group.autoscaling.maxReplicas }}
{{- fail (printf "crewGroups.%s.autoscaling: minReplicas %v is more than maxReplicas %v" $group.name
      $group.autoscaling.minReplicas $group.autoscaling.maxReplicas) }}
{{- end }}
{{- range $crew, $_ := $group.autoscaling.kickoffsPerReplica }}
{{- if not (hasKey $group.crews $crew) }}
{{- fail (printf "crewGroups.%s.autoscaling.kickoffsPerReplica names %s, which is no crew of the group" $group.name $crew) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "crewfleet.image" -}}
{{- $image := index . 0 }}
{{- with $image.digest }}
{{- printf "%s@%s" $image.repository . }}
{{- else }}
{{- printf "%s:%s" $image.repository ($image.tag | default (index . 1)) }}
{{- end }}
{{- end }}

{{- /* A volume's name knows no underscore, and "-" stands in crews' names too. */}}
{{- define "crewfleet.envVolume" -}}
{{- printf "env-%s" (sha256sum . | trunc 12) }}
{{- end }}

{{- /* What the names of variables with secrets end with. */}}
{{- define "crewfleet.secretName" -}}
(?i)(api_?key|secret|password|_token|credentials)$
{{- end }}

{{- /* The cluster that the chart asks for. */}}
{{- define "crewfleet.rabbitmqCluster" -}}
{{- printf "%s-rabbitmq" (include "crewfleet.fullname" .) }}
{{- end }}

{{- /* The Secret with the broker's URL, as JSON: (list $ GIVEN). The cluster operator names its own so, and writes a URL into it
(https://www.rabbitmq.com/kubernetes/operator/using-operator#find). */}}
{{- define "crewfleet.brokerSecret" -}}
{{- $given := index . 1 }}
{{- if $given.name }}
{{- dict "name" $given.name "key" ($given.key | default "broker-url") | toJson }}
{{- else }}
{{- $own := printf "%s-default-user" (include "crewfleet.rabbitmqCluster" (index . 0)) }}
{{- dict "name" $own "key" ($given.key | default "connection_string") | toJson }}
{{- end }}
{{- end }}
