{{- /* The crewfleet.toml of a group: (list $ GROUP). */}}
{{- define "crewfleet.configuration" -}}
{{- $root := index . 0 }}
{{- $group := index . 1 }}
{{- /* The volume itself belongs to root; the worker wants a folder of its own. */}}
{{- $worker := merge (dict
      "admin_addr" "0.0.0.0:9464"
      "data_dir" "/var/lib/crewfleet/data"
      "drain_grace_s" $group.grace.drain
      "termination_grace_s" $group.grace.termination
    ) $group.worker -}}
[broker]
{{- include "crewfleet.brokerTable" (list $root dict) }}

[worker]
{{- include "crewfleet.toml.table" $worker }}
{{- range $name, $crew := $group.crews }}
{{- if hasKey $crew "envSecret" }}
{{- $_ := set $crew "env_file" (printf "/run/secrets/crews/%s/crew.env" $name) }}
{{- end }}

[crews.{{ $name }}]
{{- include "crewfleet.toml.table" (omit $crew "envSecret") }}
{{- end }}
{{- end }}

{{- /* The lines of [broker], with settings that win over the values': (list $ SETTINGS). */}}
{{- define "crewfleet.brokerTable" -}}
{{- $broker := (index . 0).Values.broker }}
{{- $settings := merge (dict "namespace" $broker.namespace) (index . 1) $broker.settings }}
{{- with $broker.consumerTimeoutSeconds }}
{{- $_ := set $settings "consumer_timeout_s" . }}
{{- end }}
{{- $_ := set $settings "url_file" "/run/secrets/crewfleet/broker-url" }}
{{- include "crewfleet.toml.table" ($settings | toJson | fromJson) }}
{{- end }}

{{- /* The lines of a table. Values come from JSON. */}}
{{- define "crewfleet.toml.table" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ include "crewfleet.toml.value" $value }}
{{- end }}
{{- end }}
{{- end }}

{{- /* toToml would write 4 as 4.0 and 8388608 as 8.388608e+06. JSON's strings are TOML's too. */}}
{{- define "crewfleet.toml.value" -}}
{{- if kindIs "map" . }}
{{- $pairs := list }}
{{- range $key, $value := . }}
{{- $pairs = append $pairs (printf "%s = %s" (toRawJson $key) (include "crewfleet.toml.value" $value)) }}
{{- end }}
{{- printf "{ %s }" (join ", " $pairs) }}
{{- else if kindIs "slice" . }}
{{- $items := list }}
{{- range . }}
{{- $items = append $items (include "crewfleet.toml.value" .) }}
{{- end }}
{{- printf "[%s]" (join ", " $items) }}
{{- else if and (kindIs "float64" .) (eq . (floor .)) }}
{{- printf "%.0f" . }}
{{- else }}
{{- toRawJson . }}
{{- end }}
{{- end }}
